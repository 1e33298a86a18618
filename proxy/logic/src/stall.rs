//! Whether deliveries stand still: batches wait, and the core accepts none.

use std::time::Duration;

use crate::Millis;

/// Since when batches have waited without one being accepted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stall {
    since: Option<Millis>,
}

impl Stall {
    /// The time after which deliveries are said to stand still.
    pub const AFTER: Duration = Duration::from_secs(30);

    /// Notes whether batches wait.
    pub fn note_waiting(&mut self, waiting: bool, now: Millis) {
        self.since = waiting.then(|| self.since.unwrap_or(now));
    }

    /// Notes that the core has accepted something.
    pub fn note_accepted(&mut self, now: Millis) {
        self.since = Some(now);
    }

    /// Whether batches have waited for [`Self::AFTER`] since the last was accepted or the first came.
    pub fn is_stalled(&self, now: Millis) -> bool {
        self.since.is_some_and(|since| now.since(since) >= Self::AFTER)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deliveries_stand_still_once_batches_have_waited_and_none_was_accepted() {
        let mut stall = Stall::default();
        let at = |seconds: u64| Millis(1_000_000 + seconds * 1000);
        assert!(!stall.is_stalled(at(0)));
        stall.note_waiting(true, at(0));
        stall.note_waiting(true, at(20));
        assert_eq!([29, 30].map(|time| stall.is_stalled(at(time))), [false, true]);
        stall.note_accepted(at(31));
        stall.note_waiting(true, at(32));
        assert_eq!([60, 61].map(|time| stall.is_stalled(at(time))), [false, true]);
        stall.note_waiting(false, at(62));
        assert!(!stall.is_stalled(at(900)));
        stall.note_waiting(true, at(900));
        assert!(!stall.is_stalled(at(929)));
    }
}
