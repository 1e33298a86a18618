//! The one place that reads the clock; everything else is told the time.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};

use weir_logic::Millis;

/// The process's clock: wall time at its start, moved on by the monotonic clock, so that it never goes backwards and a step of
/// the system's time does not reach windows and TTLs. Cheap to copy; all copies agree.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    wall_at_start: Millis,
    source: Source,
}

#[derive(Clone, Copy, Debug)]
enum Source {
    Running(Instant),
    Manual(&'static AtomicU64),
}

/// Moves a clock made by [`Clock::manual`]: all its copies see the new time.
#[derive(Clone, Copy, Debug)]
pub struct Hand(&'static AtomicU64);

impl Clock {
    /// A clock that starts at the system's time.
    #[expect(clippy::disallowed_methods, reason = "the one place that reads the clock")]
    pub fn start() -> Self {
        let wall = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO);
        Self { wall_at_start: Millis::default().after(wall), source: Source::Running(Instant::now()) }
    }

    /// A clock that stands at `start` until its hand is moved, for tests and rehearsals. It is never freed: eight bytes each.
    pub fn manual(start: Millis) -> (Self, Hand) {
        let passed = Box::leak(Box::new(AtomicU64::new(0)));
        (Self { wall_at_start: start, source: Source::Manual(passed) }, Hand(passed))
    }

    /// Now.
    pub fn now(&self) -> Millis {
        self.at(self.elapsed())
    }

    /// The time of day when so much had passed since the clock was started.
    pub fn at(&self, elapsed: Duration) -> Millis {
        self.wall_at_start.after(elapsed)
    }

    /// The time since this clock was started, to the nanosecond: for latencies.
    pub fn elapsed(&self) -> Duration {
        match self.source {
            Source::Running(started) => started.elapsed(),
            Source::Manual(passed) => Duration::from_millis(passed.load(Ordering::Acquire)),
        }
    }
}

impl Hand {
    /// Moves the clock on by `duration`, in whole milliseconds.
    pub fn advance(&self, duration: Duration) {
        self.0.fetch_add(Millis::default().after(duration).0, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn copies_of_a_manual_clock_agree() {
        let (clock, hand) = Clock::manual(Millis(1_000));
        let copy = clock;
        hand.advance(Duration::from_secs(2));
        assert_eq!((clock.now(), copy.now(), copy.elapsed()), (Millis(3_000), Millis(3_000), Duration::from_secs(2)));
    }
}
