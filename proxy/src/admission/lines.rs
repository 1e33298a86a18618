//! Who has been told to come back, by class.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use weir_config::Class;
use weir_logic::Millis;
use weir_logic::retry_after::{Demand, WindowBounds};

/// One line for each class.
pub(super) struct Lines {
    lines: [Line; 7],
}

struct Line {
    demand: Mutex<Demand>,
    admitted: AtomicU64,
}

const CLASSES: [Class; 7] =
    [Class::Probe, Class::Tasking, Class::Checkin, Class::Config, Class::Update, Class::Download, Class::Telemetry];

impl Lines {
    pub(super) fn new(now: Millis) -> Self {
        Self { lines: CLASSES.map(|_| Line { demand: Mutex::new(Demand::new(now)), admitted: AtomicU64::new(0) }) }
    }

    /// A request of that class was let in.
    pub(super) fn let_in(&self, class: Class) {
        self.lines[class as usize].admitted.fetch_add(1, Ordering::Relaxed);
    }

    /// The seconds after which the agent at `place` is to come back, noted as told.
    pub(super) fn promise(&self, class: Class, place: u64, lead: Duration, bounds: WindowBounds, now: Millis) -> u64 {
        let line = &self.lines[class as usize];
        let admitted = line.admitted.load(Ordering::Relaxed);
        let mut demand = line.demand.lock();
        let seconds = demand.window(lead, admitted, bounds, now).second_of(place);
        demand.promise(seconds, now);
        seconds
    }

    /// Agents that are told to wait, by class.
    pub(super) fn returning(&self, now: Millis) -> impl Iterator<Item = (Class, u64)> {
        CLASSES.iter().map(move |class| (*class, self.lines[*class as usize].demand.lock().returning(now)))
    }
}
