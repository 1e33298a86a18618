//! What happens when: events in order of time, first come first served within a millisecond.
//!
//! A wheel of milliseconds for the second under way, a ring of seconds for the hours ahead. Putting an event in and taking one
//! out costs the same however many wait. Memory: some 20 bytes for each event that waits.

use std::collections::VecDeque;

use weir_logic::Millis;

/// Events of one run. Time begins at zero and reaches 2^32 ms.
#[derive(Debug)]
pub(super) struct Calendar<E> {
    /// The millisecond under way.
    now: u32,
    /// Events of the slice under way, by millisecond.
    near: Vec<VecDeque<E>>,
    /// Events of later slices, a ring.
    far: Vec<Vec<(u32, E)>>,
    waiting: usize,
}

/// Milliseconds of a slice: a power of two close to a second.
const SLICE: u32 = 1 << SLICE_BITS;
const SLICE_BITS: u32 = 10;
/// Slices of the ring. What is due later than all of them is due in the last, which no run reaches.
const RING: u32 = 1 << 14;

impl<E> Calendar<E> {
    pub(super) fn new() -> Self {
        Self {
            now: 0,
            near: (0..SLICE).map(|_| VecDeque::new()).collect(),
            far: (0..RING).map(|_| Vec::new()).collect(),
            waiting: 0,
        }
    }

    /// Has an event happen at `time`, or now where that has passed.
    pub(super) fn put(&mut self, time: Millis, event: E) {
        let time = u32::try_from(time.0).unwrap_or(u32::MAX).max(self.now);
        let ahead = ((time >> SLICE_BITS) - (self.now >> SLICE_BITS)).min(RING - 1);
        self.waiting += 1;
        if ahead == 0 {
            self.near[(time % SLICE) as usize].push_back(event);
        } else {
            let slice = ((self.now >> SLICE_BITS) + ahead) % RING;
            self.far[slice as usize].push((time, event));
        }
    }

    /// The next event and its time; `None` when none is due before `end`.
    pub(super) fn next(&mut self, end: Millis) -> Option<(Millis, E)> {
        while self.waiting > 0 && u64::from(self.now) < end.0 {
            if let Some(event) = self.near[(self.now % SLICE) as usize].pop_front() {
                self.waiting -= 1;
                return Some((Millis(self.now.into()), event));
            }
            self.now += 1;
            if self.now.is_multiple_of(SLICE) {
                let slice = std::mem::take(&mut self.far[((self.now >> SLICE_BITS) % RING) as usize]);
                for (time, event) in slice {
                    self.near[(time % SLICE) as usize].push_back(event);
                }
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_come_in_the_order_of_their_times_and_then_of_their_coming() {
        let mut calendar = Calendar::new();
        for (number, time) in [5_u64, 70_000, 5, 1_023, 1_024, 3, 5_000_000].into_iter().enumerate() {
            calendar.put(Millis(time), number);
        }
        let mut order = Vec::new();
        while let Some((time, number)) = calendar.next(Millis(10_000_000)) {
            order.push((time.0, number));
        }
        let expected = [(3, 5), (5, 0), (5, 2), (1_023, 3), (1_024, 4), (70_000, 1), (5_000_000, 6)];
        assert_eq!(order, expected);
    }

    #[test]
    fn what_is_put_while_the_run_goes_on_is_never_early_and_never_lost() {
        let mut calendar = Calendar::new();
        calendar.put(Millis(0), 0_u64);
        let mut last = Millis(0);
        let mut count = 0;
        while let Some((now, due)) = calendar.next(Millis(100_000)) {
            assert!(now >= last && now.0 == due, "due at {due}, came at {now:?}");
            (last, count) = (now, count + 1);
            calendar.put(Millis(now.0 + 977), now.0 + 977);
        }
        assert_eq!(count, 100_000 / 977 + 1);
    }
}
