//! The climb back after a recovery: from a tenth of the rate to the whole.

use std::time::Duration;

use crate::Millis;

/// What part of the whole rate is admitted at a point in time. It grows in a straight line and never falls until the next
/// recovery starts it anew.
#[derive(Clone, Copy, Debug)]
pub struct Ramp {
    length_ms: f64,
    started: Option<Millis>,
}

/// No time is told that is longer than a day.
const MAX_TIME_MS: f64 = 86_400_000.0;

/// The part admitted as soon as the core is back.
const FLOOR: f64 = 0.1;

impl Ramp {
    /// A ramp that has not been needed yet: the whole rate is admitted.
    pub fn new(length: Duration) -> Self {
        Self { length_ms: millis(length), started: None }
    }

    /// Changes the length, also of a climb on its way.
    pub fn reconfigure(&mut self, length: Duration) {
        self.length_ms = millis(length);
    }

    /// The core is back: the climb starts.
    pub fn start(&mut self, now: Millis) {
        self.started = Some(now);
    }

    /// The part of the whole rate admitted at `now`, from a tenth to 1.
    pub fn part(&self, now: Millis) -> f64 {
        self.started.map_or(1.0, |started| self.part_after(millis(now.since(started))))
    }

    /// The sum of [`Ramp::part`] over the time from `from` to `to`, in milliseconds: what a rate of one request a millisecond
    /// admits in between.
    pub fn admitted(&self, from: Millis, to: Millis) -> f64 {
        let Some(started) = self.started else { return millis(to.since(from)) };
        let (from, to) = (millis(from.since(started)), millis(to.since(started)));
        let bend = self.length_ms.clamp(from, to.max(from));
        (self.part_after(from) + self.part_after(bend)) / 2.0 * (bend - from) + (to - bend).max(0.0)
    }

    /// The time from `now` in which `amount` is admitted, in milliseconds at the whole rate.
    pub(super) fn time_for(&self, amount: f64, now: Millis) -> Duration {
        let amount = amount.max(0.0);
        let elapsed = self.started.map_or(f64::MAX, |started| millis(now.since(started)));
        let left = (self.length_ms - elapsed).max(0.0);
        let (part, slope) = (self.part_after(elapsed), (1.0 - FLOOR) / self.length_ms.max(1.0));
        let climb = (part + 1.0) / 2.0 * left;
        let ms = if amount >= climb {
            left + amount - climb
        } else {
            ((part * part + 2.0 * slope * amount).sqrt() - part) / slope
        };
        Duration::from_secs_f64(ms.min(MAX_TIME_MS) / 1_000.0)
    }

    fn part_after(&self, elapsed_ms: f64) -> f64 {
        if elapsed_ms >= self.length_ms {
            return 1.0;
        }
        FLOOR + (1.0 - FLOOR) * elapsed_ms / self.length_ms
    }
}

fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1_000.0
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_recovery_climbs_from_a_tenth_to_the_whole() {
        let mut ramp = Ramp::new(Duration::from_secs(10));
        assert_eq!(ramp.part(Millis(0)), 1.0);
        ramp.start(Millis(1_000));
        let parts: Vec<_> = [1_000, 6_000, 11_000, 99_000].map(|now| ramp.part(Millis(now))).into();
        assert_eq!(parts, [0.1, 0.55, 1.0, 1.0]);
        assert_eq!(ramp.admitted(Millis(1_000), Millis(11_000)).round(), 5_500.0);
        assert_eq!(ramp.admitted(Millis(11_000), Millis(12_000)).round(), 1_000.0);
    }

    #[test]
    fn no_length_is_no_ramp() {
        let mut ramp = Ramp::new(Duration::ZERO);
        ramp.start(Millis(5));
        assert_eq!(ramp.part(Millis(5)), 1.0);
        assert_eq!(ramp.admitted(Millis(5), Millis(15)), 10.0);
    }

    proptest! {
        #[test]
        fn the_time_for_an_amount_admits_it(length in 0_u64..10_000, now in 0_u64..20_000, amount in 0_u64..20_000) {
            let mut ramp = Ramp::new(Duration::from_millis(length));
            ramp.start(Millis(0));
            #[expect(clippy::cast_precision_loss, reason = "small")]
            let amount = amount as f64;
            let then = Millis(now).after(ramp.time_for(amount, Millis(now)));
            let admitted = ramp.admitted(Millis(now), then);
            prop_assert!((admitted - amount).abs() <= 1.0, "{admitted} of {amount}");
        }

        #[test]
        fn the_admitted_part_never_falls(length in 0_u64..100_000, times in prop::collection::vec(0_u64..200_000, 2..50)) {
            let mut ramp = Ramp::new(Duration::from_millis(length));
            ramp.start(Millis(0));
            let mut times = times;
            times.sort_unstable();
            let parts: Vec<f64> = times.iter().map(|&now| ramp.part(Millis(now))).collect();
            prop_assert!(parts.is_sorted());
            prop_assert!(parts.iter().all(|part| (FLOOR..=1.0).contains(part)));
        }

        #[test]
        fn what_is_admitted_adds_up(length in 0_u64..10_000, a in 0_u64..20_000, b in 0_u64..20_000, c in 0_u64..20_000) {
            let mut ramp = Ramp::new(Duration::from_millis(length));
            ramp.start(Millis(0));
            let (a, b, c) = (Millis(a), Millis(a + b), Millis(a + b + c));
            let parts = ramp.admitted(a, b) + ramp.admitted(b, c);
            prop_assert!((parts - ramp.admitted(a, c)).abs() < 1e-6);
        }
    }
}
