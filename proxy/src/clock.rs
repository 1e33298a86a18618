//! The one place that reads the clock; everything else is told the time.

use std::time::{Duration, Instant, SystemTime};

use weir_logic::Millis;

/// The process's clock: wall time at its start, moved on by the monotonic clock, so that it never goes backwards and a step of
/// the system's time does not reach windows and TTLs. Cheap to copy; all copies agree.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    started: Instant,
    wall_at_start: Millis,
}

impl Clock {
    /// A clock that starts at the system's time.
    #[expect(clippy::disallowed_methods, reason = "the one place that reads the clock")]
    pub fn start() -> Self {
        let wall = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO);
        let wall_at_start = Millis::default().after(wall);
        Self { started: Instant::now(), wall_at_start }
    }

    /// Now.
    pub fn now(&self) -> Millis {
        self.wall_at_start.after(self.started.elapsed())
    }

    /// The time since this clock was started, to the nanosecond: for latencies.
    pub fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }
}
