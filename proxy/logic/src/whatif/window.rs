//! The recent past: figures in a ring of slots, of which the oldest is forgotten as a new one begins.

use std::time::Duration;

use super::Figures;
use crate::Millis;

/// The figures of the last hour, give or take a slot.
#[derive(Debug)]
pub(super) struct Window {
    slots: [Figures; SLOTS],
    /// The number of the slot in use, counted from 1970.
    number: u64,
    since: Millis,
}

const SLOTS: usize = 6;
const SLOT: Duration = Duration::from_mins(10);

impl Window {
    /// An empty window that begins at `now`.
    pub(super) fn new(now: Millis) -> Self {
        Self { slots: Default::default(), number: number(now), since: now }
    }

    /// The slot in use at `now`: its number, and the figures to add to.
    pub(super) fn slot(&mut self, now: Millis) -> (u64, &mut Figures) {
        let present = number(now).max(self.number);
        let passed = present - self.number;
        for passed in 1..=passed.min(SLOTS as u64) {
            self.slots[place(self.number + passed)] = Figures::default();
        }
        self.number = present;
        (present, &mut self.slots[place(present)])
    }

    /// Everything in the window, and the time that it covers.
    pub(super) fn sum(&mut self, now: Millis) -> (Figures, Duration) {
        self.slot(now);
        let mut sum = Figures::default();
        self.slots.iter().for_each(|slot| sum.merge(slot));
        let oldest = self.number.saturating_sub(SLOTS as u64 - 1).saturating_mul(millis(SLOT));
        (sum, now.since(Millis(oldest.max(self.since.0))))
    }
}

/// When the slot in use at `now` ends.
pub(super) fn end_of_slot(now: Millis) -> Millis {
    Millis((number(now) + 1).saturating_mul(millis(SLOT)))
}

fn number(now: Millis) -> u64 {
    now.0 / millis(SLOT)
}

#[expect(clippy::cast_possible_truncation, reason = "less than SLOTS")]
fn place(number: u64) -> usize {
    (number % SLOTS as u64) as usize
}

fn millis(duration: Duration) -> u64 {
    Millis::default().after(duration).0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_hour_is_remembered_and_no_more() {
        let start = Millis(1_700_000_000_000 / 600_000 * 600_000);
        let at = |minutes| start.after(Duration::from_mins(minutes));
        let mut window = Window::new(at(3));
        for minute in 3..60 {
            window.slot(at(minute)).1.requests += 1.0;
        }
        let (sum, covered) = window.sum(at(59));
        assert_eq!((sum.requests, covered), (57.0, Duration::from_mins(56)));
        let (sum, covered) = window.sum(at(75));
        assert_eq!((sum.requests, covered), (40.0, Duration::from_mins(55)));
        let (sum, covered) = window.sum(at(1000));
        assert_eq!((sum.requests, covered), (0.0, Duration::from_mins(50)));
    }
}
