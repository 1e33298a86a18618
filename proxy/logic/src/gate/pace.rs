//! Requests a second: a token bucket whose rate follows the ramp and whose last tokens are kept for the higher classes.

use std::time::Duration;

use weir_config::Class;

use super::ramp::Ramp;
use crate::Millis;

/// A token bucket. Over any span of `t` milliseconds it lets at most `rate * t / 1000` requests start plus its burst, which is a
/// twentieth of a second's worth and at least one. `probe` and `tasking` never wait for it: they take their tokens in advance,
/// so that the other classes make room for them.
#[derive(Clone, Debug)]
pub struct Pace {
    rate: f64,
    tokens: f64,
    filled: Millis,
}

/// The burst, in milliseconds' worth of the rate.
const BURST_MS: f64 = 50.0;

/// The most that the classes which never wait may have taken in advance, in milliseconds' worth of the rate.
const ADVANCE_MS: f64 = 1_000.0;

impl Pace {
    /// A bucket for `rate` requests a second, at least one, full at the start.
    pub fn new(rate: u32) -> Self {
        let rate = per_millisecond(rate);
        Self { rate, tokens: burst(rate), filled: Millis(0) }
    }

    /// Changes the rate; what has been taken stays taken.
    pub fn reconfigure(&mut self, rate: u32, ramp: &Ramp, now: Millis) {
        self.refill(ramp, now);
        self.rate = per_millisecond(rate);
        self.tokens = self.tokens.min(burst(self.rate));
    }

    /// Empties the bucket: after a recovery nothing is saved up.
    pub fn empty(&mut self, ramp: &Ramp, now: Millis) {
        self.refill(ramp, now);
        self.tokens = self.tokens.min(0.0);
    }

    /// Takes a token for a request of `class`, or says when there may be one.
    pub fn take(&mut self, class: Class, ramp: &Ramp, now: Millis) -> Result<(), Millis> {
        self.refill(ramp, now);
        let rate = self.rate * ramp.part(now);
        if never_waits(class) {
            self.tokens = (self.tokens - 1.0).max(-rate * ADVANCE_MS);
            return Ok(());
        }
        let wanted = 1.0 + reserved_above(class) * (burst(rate) - 1.0);
        // A hair of tolerance: sums of parts of tokens must not cost a whole millisecond of waiting.
        if self.tokens + 1e-9 >= wanted {
            self.tokens -= 1.0;
            return Ok(());
        }
        let wait = ((wanted - self.tokens) / rate).ceil().max(1.0);
        Err(now.after(Duration::from_secs_f64(wait / 1_000.0)))
    }

    /// Requests a second that are admitted at `now`.
    pub fn admitted_rate(&self, ramp: &Ramp, now: Millis) -> f64 {
        self.rate * ramp.part(now) * 1_000.0
    }

    fn refill(&mut self, ramp: &Ramp, now: Millis) {
        let gained = self.rate * ramp.admitted(self.filled, now);
        let room = burst(self.rate * ramp.part(now));
        self.tokens = (self.tokens + gained).min(room);
        self.filled = self.filled.max(now);
    }
}

fn per_millisecond(rate: u32) -> f64 {
    f64::from(rate.max(1)) / 1_000.0
}

fn burst(rate_per_ms: f64) -> f64 {
    (rate_per_ms * BURST_MS).max(1.0)
}

fn never_waits(class: Class) -> bool {
    class <= Class::Tasking
}

/// The part of the burst that this class leaves to those above it.
fn reserved_above(class: Class) -> f64 {
    match class {
        Class::Probe | Class::Tasking | Class::Checkin => 0.0,
        Class::Config => 0.1,
        Class::Update => 0.2,
        Class::Download => 0.3,
        Class::Telemetry => 0.5,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn flat() -> Ramp {
        Ramp::new(Duration::ZERO)
    }

    fn class(index: u8) -> Class {
        [Class::Checkin, Class::Config, Class::Update, Class::Download, Class::Telemetry][usize::from(index)]
    }

    #[test]
    fn the_last_tokens_are_kept_for_the_higher_classes() {
        let mut pace = Pace::new(1_000);
        let taken = (0..1_000).filter(|_| pace.take(Class::Telemetry, &flat(), Millis(0)).is_ok()).count();
        assert_eq!(taken, 25);
        let taken = (0..1_000).filter(|_| pace.take(Class::Checkin, &flat(), Millis(0)).is_ok()).count();
        assert_eq!(taken, 25);
    }

    #[test]
    fn tasking_never_waits_and_the_others_make_room() {
        let mut pace = Pace::new(100);
        assert!((0..50).all(|_| pace.take(Class::Tasking, &flat(), Millis(0)).is_ok()));
        // 45 in advance: 450 ms until the bucket is level, 10 ms more for a token.
        assert_eq!(pace.take(Class::Checkin, &flat(), Millis(0)), Err(Millis(460)));
        assert_eq!(pace.take(Class::Checkin, &flat(), Millis(460)), Ok(()));
    }

    #[test]
    fn the_slowest_rate_still_admits_every_class() {
        let mut pace = Pace::new(1);
        assert_eq!(pace.take(Class::Telemetry, &flat(), Millis(0)), Ok(()));
        assert_eq!(pace.take(Class::Telemetry, &flat(), Millis(0)), Err(Millis(1_000)));
        assert_eq!(pace.take(Class::Telemetry, &flat(), Millis(1_000)), Ok(()));
    }

    proptest! {
        /// Invariant 7: whatever is asked and whenever, no span of time sees more than the ramp allows plus one burst.
        #[test]
        fn no_span_admits_more_than_the_ramp_allows(
            rate in 1_u32..3_000,
            ramp_ms in 0_u64..3_000,
            asks in prop::collection::vec((0_u64..40, 0_u8..5, 1_u8..60), 1..150),
        ) {
            let mut ramp = Ramp::new(Duration::from_millis(ramp_ms));
            ramp.start(Millis(0));
            let mut pace = Pace::new(rate);
            pace.empty(&ramp, Millis(0));
            let mut now = Millis(0);
            let mut starts: Vec<(Millis, f64)> = Vec::new();
            for (later, index, tries) in asks {
                now = Millis(now.0 + later);
                let taken = (0..tries).filter(|_| pace.take(class(index), &ramp, now).is_ok()).count();
                starts.push((now, f64::from(u32::try_from(taken).unwrap())));
            }
            for (first, &(from, _)) in starts.iter().enumerate() {
                let mut sum = 0.0;
                for &(to, count) in &starts[first..] {
                    sum += count;
                    let allowed = f64::from(rate) / 1_000.0 * ramp.admitted(from, to) + burst(f64::from(rate) / 1_000.0);
                    prop_assert!(sum <= allowed + 1e-6, "{sum} from {from:?} to {to:?}, {allowed} allowed");
                }
            }
        }

        /// Who comes back at the time named gets in, so that nobody polls.
        #[test]
        fn the_named_time_is_enough(rate in 1_u32..3_000, index in 0_u8..5, drained in 0_u32..200) {
            let mut pace = Pace::new(rate);
            for _ in 0..drained {
                let _ignored = pace.take(class(index), &flat(), Millis(0));
            }
            if let Err(until) = pace.take(class(index), &flat(), Millis(0)) {
                prop_assert_eq!(pace.take(class(index), &flat(), until), Ok(()));
            }
        }
    }
}
