//! A bound on log lines for each cause, so that a storm of one failure neither fills the disk nor hides the others.

use std::collections::HashMap;

use parking_lot::Mutex;
use prometheus::IntCounter;
use tracing::callsite::Identifier;
use tracing::{Event, Metadata};
use tracing_subscriber::layer::{Context, Filter};
use weir_logic::Millis;

use crate::clock::Clock;

/// Lets a few lines of each cause through in each period. A cause is a place in the code that logs; there are as many entries as
/// such places, which is the bound of the map.
pub(super) struct Limit {
    clock: Clock,
    suppressed: IntCounter,
    causes: Mutex<HashMap<Identifier, Period>>,
}

struct Period {
    started: Millis,
    lines: u32,
}

impl Limit {
    pub(super) fn new(clock: Clock, suppressed: IntCounter) -> Self {
        Self { clock, suppressed, causes: Mutex::new(HashMap::new()) }
    }

    fn admits(&self, cause: Identifier) -> bool {
        let now = self.clock.now();
        let mut causes = self.causes.lock();
        let period = causes.entry(cause).or_insert(Period { started: now, lines: 0 });
        period.admits(now)
    }
}

impl Period {
    fn admits(&mut self, now: Millis) -> bool {
        if now >= self.started.after(PERIOD) {
            *self = Self { started: now, lines: 0 };
        }
        self.lines = self.lines.saturating_add(1);
        self.lines <= LINES
    }
}

impl<S> Filter<S> for Limit {
    fn enabled(&self, _metadata: &Metadata<'_>, _context: &Context<'_, S>) -> bool {
        true
    }

    fn event_enabled(&self, event: &Event<'_>, _context: &Context<'_, S>) -> bool {
        let admitted = self.admits(event.metadata().callsite());
        if !admitted {
            self.suppressed.inc();
        }
        admitted
    }
}

/// Lines of one cause in one period, at most.
const LINES: u32 = 20;
const PERIOD: std::time::Duration = std::time::Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cause_gets_its_lines_anew_in_each_period() {
        let mut period = Period { started: Millis(0), lines: 0 };
        let admitted = |period: &mut Period, now| (0..100).filter(|_| period.admits(Millis(now))).count();
        assert_eq!(admitted(&mut period, 5), LINES as usize);
        assert_eq!(admitted(&mut period, 9_999), 0);
        assert_eq!(admitted(&mut period, 10_000), LINES as usize);
    }
}
