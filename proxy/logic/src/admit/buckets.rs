//! How often one agent may ask: a token bucket, kept as the one moment at which it will be full again.
//!
//! A bucket that is full says no more than one that was never there, so an agent that asks as agents do is in the table for a moment
//! after each request.

use std::time::Duration;

use super::slots::Keep;
use crate::Millis;

/// How fast a bucket fills and how much it holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// Microseconds for one token.
    interval: u64,
    /// Microseconds from empty, but for one token, to full.
    depth: u64,
}

impl Rate {
    /// `per_minute` tokens a minute, `burst` at once; both at least 1. The interval is rounded up to a microsecond, so the rate is never
    /// exceeded.
    pub fn new(per_minute: u32, burst: u32) -> Self {
        let interval = MINUTE.div_ceil(u64::from(per_minute.max(1)));
        Self { interval, depth: interval * u64::from(burst.max(1) - 1) }
    }
}

const MINUTE: u64 = 60_000_000;

/// One agent's bucket.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bucket {
    /// Microseconds since 1970 at which it will be full.
    full_at: u64,
}

impl Bucket {
    /// Takes a token.
    ///
    /// # Errors
    ///
    /// There is none: the time until there will be one. Nothing is taken then.
    pub fn take(&mut self, rate: Rate, now: Millis) -> Result<(), Duration> {
        let now = micros(now);
        let full_at = self.full_at.max(now);
        let lacking = (full_at - now).saturating_sub(rate.depth);
        if lacking > 0 {
            return Err(Duration::from_micros(lacking));
        }
        self.full_at = full_at.saturating_add(rate.interval);
        Ok(())
    }
}

impl Keep for Bucket {
    fn worth(&self, now: Millis) -> u64 {
        self.full_at.saturating_sub(micros(now))
    }
}

fn micros(time: Millis) -> u64 {
    time.0.saturating_mul(1000)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::admit::Slots;

    #[test]
    fn a_burst_is_taken_at_once_and_then_one_at_a_time() {
        let rate = Rate::new(60, 3);
        let mut bucket = Bucket::default();
        let now = Millis(1_000_000);
        let taken: Vec<_> = (0..4).map(|_| bucket.take(rate, now)).collect();
        assert_eq!(taken, [Ok(()), Ok(()), Ok(()), Err(Duration::from_secs(1))]);
        assert_eq!(bucket.take(rate, Millis(1_000_999)), Err(Duration::from_millis(1)));
        assert_eq!(bucket.take(rate, Millis(1_001_000)), Ok(()));
    }

    #[test]
    fn ten_thousand_agents_behind_one_address_are_unharmed() {
        let rate = Rate::new(60, 5);
        let mut slots: Slots<Bucket> = Slots::new(20_000);
        for second in 0..60 {
            for agent in 0..10_000_u64 {
                let key = xxhash_rust::xxh3::xxh3_64(&agent.to_le_bytes());
                let now = Millis(1_000_000 + second * 1000);
                assert_eq!(slots.of(key, now).take(rate, now), Ok(()), "agent {agent} in second {second}");
            }
        }
    }

    proptest! {
        #[test]
        fn over_any_span_at_most_the_rate_and_the_burst_are_taken(
            per_minute in 1_u32..10_000,
            burst in 1_u32..50,
            pauses in prop::collection::vec(0_u64..3_000, 1..300),
        ) {
            let rate = Rate::new(per_minute, burst);
            let mut bucket = Bucket::default();
            let mut now = Millis(1_700_000_000_000);
            let mut taken = Vec::new();
            for pause in pauses {
                now.0 += pause;
                if bucket.take(rate, now).is_ok() {
                    taken.push(now.0);
                }
            }
            for (index, first) in taken.iter().enumerate() {
                for (count, last) in (1_u64..).zip(&taken[index..]) {
                    let allowed = (last - first) * u64::from(per_minute) / 60_000 + u64::from(burst);
                    prop_assert!(count <= allowed, "{count} in {} ms", last - first);
                }
            }
        }

        #[test]
        fn who_waits_as_told_is_let_in(per_minute in 1_u32..10_000, burst in 1_u32..50, asks in 1_usize..200) {
            let rate = Rate::new(per_minute, burst);
            let mut bucket = Bucket::default();
            let mut now = Millis(1_700_000_000_000);
            for _ in 0..asks {
                if let Err(wait) = bucket.take(rate, now) {
                    now = Millis(now.0 + u64::try_from(wait.as_micros().div_ceil(1000)).unwrap());
                    prop_assert_eq!(bucket.take(rate, now), Ok(()));
                }
            }
        }
    }
}
