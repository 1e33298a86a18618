//! What calls the merge thread.

use std::time::Duration;

use parking_lot::{Condvar, Mutex};

/// Wakes the merge thread, and calls it away. Nothing is queued: the journal says what there is to do.
#[derive(Debug, Default)]
pub(super) struct Calls {
    called: Mutex<Called>,
    signal: Condvar,
}

#[derive(Debug, Default)]
struct Called {
    committed: bool,
    ending: bool,
    away: bool,
}

/// What the merge thread is called for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Call {
    /// More may be committed, or it is called away.
    Look,
    /// All that will ever be committed has been seen.
    End,
}

impl Calls {
    /// The journal thread has committed more.
    pub(super) fn committed(&self) {
        self.call(|called| called.committed = true);
    }

    /// The journal thread has ended.
    pub(super) fn ending(&self) {
        self.call(|called| called.ending = true);
    }

    /// Calls the merge thread away at once.
    pub(super) fn away(&self) {
        self.call(|called| called.away = true);
    }

    /// Whether the journal thread has ended.
    pub(super) fn is_ending(&self) -> bool {
        self.called.lock().ending
    }

    /// Whether the merge thread is called away.
    pub(super) fn is_away(&self) -> bool {
        self.called.lock().away
    }

    /// Waits for a call; what was called since the last one counts.
    pub(super) fn wait(&self) -> Call {
        let mut called = self.called.lock();
        while !called.committed && !called.ending && !called.away {
            self.signal.wait(&mut called);
        }
        let ends = called.ending && !called.committed && !called.away;
        called.committed = false;
        if ends { Call::End } else { Call::Look }
    }

    /// Waits for `time`, or until it is called away.
    pub(super) fn rest(&self, time: Duration) {
        let mut called = self.called.lock();
        self.signal.wait_while_for(&mut called, |called| !called.away, time);
    }

    fn call(&self, call: impl FnOnce(&mut Called)) {
        call(&mut self.called.lock());
        self.signal.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_is_heard_after_the_last_commit() {
        let calls = Calls::default();
        calls.committed();
        calls.ending();
        assert_eq!([calls.wait(), calls.wait()], [Call::Look, Call::End]);
    }

    #[test]
    fn who_is_called_away_does_not_take_it_for_the_end() {
        let calls = Calls::default();
        calls.ending();
        calls.away();
        assert_eq!(calls.wait(), Call::Look);
        calls.rest(Duration::from_secs(1000));
        assert!(calls.is_away());
    }
}
