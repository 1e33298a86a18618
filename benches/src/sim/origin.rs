//! The core, as little of it as a stampede needs: so much work a second, one queue, a bound, and times in which it is not there.
//!
//! Work that was begun is finished, whoever still waits for it: that is what makes an overload last. Its figures are assumptions,
//! stated here; no core was measured.

use weir_logic::Millis;

/// What a core can do.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Capacity {
    /// Single requests a second.
    pub requests_per_second: f64,
    /// The time that a request takes when nobody else asks.
    pub idle_ms: f64,
    /// The longest that a request may have to wait for those before it; past it the core answers 503.
    pub longest_queue_ms: f64,
}

/// A core at work.
#[derive(Debug)]
pub(super) struct Origin {
    capacity: Capacity,
    /// When the work that it has taken will be done.
    busy_until_ms: f64,
    is_up: bool,
    /// How many times slower than usual it works.
    slowness: f64,
    /// Counts its deaths: what was under way then is lost.
    pub(super) life: u32,
}

/// What becomes of a request, at once or later.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    /// It is answered.
    Answered,
    /// It is answered 503.
    Overloaded,
    /// There is nobody.
    Unreachable,
    /// It is not answered in time.
    TimedOut,
}

/// A 503 costs this part of a single request.
const REFUSAL_COST: f64 = 0.1;
/// A request that waits has others in its way: the longest queue costs this much more for each request.
const CROWDING: f64 = 0.5;
const REFUSED_MS: u64 = 1;

impl Origin {
    pub(super) fn new(capacity: Capacity) -> Self {
        Self { capacity, busy_until_ms: 0.0, is_up: true, slowness: 1.0, life: 0 }
    }

    /// The core dies with all that it has taken, or is there again with nothing to do.
    pub(super) fn set_up(&mut self, is_up: bool, now: Millis) {
        self.is_up = is_up;
        self.busy_until_ms = now.0 as f64;
        self.life += u32::from(!is_up);
    }

    /// The core works so many times slower than usual from now on.
    pub(super) fn slow_down(&mut self, times: f64) {
        self.slowness = times;
    }

    /// Takes a request that is as much work as `cost` single ones, from somebody who waits for `patience_ms`: how it ends, and when.
    pub(super) fn take(&mut self, cost: f64, patience_ms: u64, now: Millis) -> (Millis, Ending) {
        if !self.is_up {
            return (Millis(now.0 + REFUSED_MS), Ending::Unreachable);
        }
        let start = self.busy_until_ms.max(now.0 as f64);
        let queue = start - now.0 as f64;
        let each_ms = self.slowness * 1_000.0 / self.capacity.requests_per_second;
        if queue >= self.capacity.longest_queue_ms {
            self.busy_until_ms = start + REFUSAL_COST * each_ms;
            return (Millis(now.0 + REFUSED_MS), Ending::Overloaded);
        }
        let crowding = 1.0 + CROWDING * queue / self.capacity.longest_queue_ms;
        self.busy_until_ms = start + cost * each_ms * crowding;
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "`as` saturates; times are positive"
        )]
        let took = (self.busy_until_ms - now.0 as f64 + self.slowness * self.capacity.idle_ms).ceil() as u64;
        if took > patience_ms {
            return (Millis(now.0 + patience_ms), Ending::TimedOut);
        }
        (Millis(now.0 + took), Ending::Answered)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CAPACITY: Capacity = Capacity { requests_per_second: 100.0, idle_ms: 5.0, longest_queue_ms: 30_000.0 };

    #[test]
    fn a_core_with_room_answers_in_its_idle_time_and_its_work() {
        let mut origin = Origin::new(CAPACITY);
        assert_eq!(origin.take(1.0, 10_000, Millis(0)), (Millis(15), Ending::Answered));
        assert_eq!(origin.take(2.0, 10_000, Millis(1_000)), (Millis(1_025), Ending::Answered));
    }

    /// 150 requests a second at a core that can do 100: for as long as that goes on, nobody is answered in time any more.
    #[test]
    fn an_overload_that_lasts_leaves_nobody_answered_in_time() {
        let mut origin = Origin::new(CAPACITY);
        let mut last_minute = [0; 3];
        for request in 0..150 * 300 {
            let now = Millis(request * 1_000 / 150);
            let (_, ending) = origin.take(1.0, 10_000, now);
            if now.0 > 240_000 {
                last_minute[match ending {
                    Ending::Answered => 0,
                    Ending::TimedOut => 1,
                    _ => 2,
                }] += 1;
            }
        }
        assert_eq!(last_minute[0], 0);
        assert!(last_minute[1] > 3_000 && last_minute[2] > 3_000, "{last_minute:?}");
    }

    #[test]
    fn a_core_that_is_down_takes_nothing_and_comes_back_with_nothing_to_do() {
        let mut origin = Origin::new(CAPACITY);
        assert!((0..1_000).all(|_| origin.take(1.0, 60_000, Millis(0)).1 == Ending::Answered));
        origin.set_up(false, Millis(10));
        assert_eq!(origin.take(1.0, 10_000, Millis(20)).1, Ending::Unreachable);
        origin.set_up(true, Millis(30));
        assert_eq!(origin.take(1.0, 10_000, Millis(40)), (Millis(55), Ending::Answered));
        assert_eq!(origin.life, 1);
    }
}
