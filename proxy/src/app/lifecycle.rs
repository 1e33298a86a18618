//! Where in its life the node is, and whether its loops turn.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::time::Duration;

use weir_logic::Millis;

use crate::clock::Clock;

/// Where in its life a node is. The order is the order of time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// Opening the spools, binding listeners.
    Starting,
    /// Helping agents.
    Serving,
    /// Told to stop: closing connections, each after the answer it waits for.
    Draining,
    /// No connections left: the last flush.
    Flushing,
}

impl Phase {
    /// The name in `/status` and log lines.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Serving => "serving",
            Self::Draining => "draining",
            Self::Flushing => "flushing",
        }
    }

    const ALL: [Self; 4] = [Self::Starting, Self::Serving, Self::Draining, Self::Flushing];
}

/// The node's phase, shared between those who change it and those who report it. It never goes back.
#[derive(Clone, Debug, Default)]
pub struct Lifecycle {
    phase: Arc<AtomicU8>,
}

impl Lifecycle {
    /// The phase now.
    pub fn phase(&self) -> Phase {
        Phase::ALL[usize::from(self.phase.load(Ordering::Acquire))]
    }

    /// Goes on to `phase`; a phase that has passed is ignored.
    pub fn enter(&self, phase: Phase) {
        self.phase.fetch_max(phase as u8, Ordering::AcqRel);
    }
}

/// The sign that a runtime's loop turns: a task on that runtime beats, whoever asks sees when it last did.
#[derive(Clone, Debug)]
pub struct Heartbeat {
    clock: Clock,
    last: Arc<AtomicU64>,
}

impl Heartbeat {
    /// A heartbeat that has just beaten.
    pub fn new(clock: Clock) -> Self {
        Self { clock, last: Arc::new(AtomicU64::new(clock.now().0)) }
    }

    /// Beats for ever on the current runtime.
    pub async fn beat(self) {
        let mut interval = tokio::time::interval(INTERVAL);
        loop {
            interval.tick().await;
            self.last.store(self.clock.now().0, Ordering::Relaxed);
        }
    }

    /// Whether the loop has turned lately.
    pub fn is_alive(&self) -> bool {
        self.silence() < MAX_SILENCE
    }

    fn silence(&self) -> Duration {
        self.clock.now().since(Millis(self.last.load(Ordering::Relaxed)))
    }
}

const INTERVAL: Duration = Duration::from_secs(1);

/// A loop that has not turned for this long is stuck: nothing on a runtime may block for seconds.
const MAX_SILENCE: Duration = Duration::from_secs(15);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_phase_that_has_passed_does_not_come_back() {
        let lifecycle = Lifecycle::default();
        assert_eq!(lifecycle.phase(), Phase::Starting);
        lifecycle.enter(Phase::Draining);
        lifecycle.enter(Phase::Serving);
        assert_eq!(lifecycle.phase(), Phase::Draining);
    }
}
