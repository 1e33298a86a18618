//! Bytes a second that one stored answer is given to all agents together.
//!
//! Pure arithmetic: the caller waits. Fairness is the callers': who takes small pieces one after the other, each in turn, has an
//! even share. Not here: how long a piece is, which depends on how many read.

use std::time::Duration;

/// A token bucket kept as the time at which the next byte may leave. Over any span of `t` it lets at most `rate * (t + BURST)` bytes
/// leave, and one piece.
#[derive(Clone, Copy, Debug, Default)]
pub struct Bandwidth {
    next: Duration,
}

impl Bandwidth {
    /// What may have been saved up, as time at the rate.
    pub const BURST: Duration = Duration::from_millis(100);

    /// Takes room for `bytes` at `rate` bytes a second and gives the time to wait before they may leave. A rate of zero is no bound.
    /// What is taken stays taken: a caller that does not wait to the end leaves a gap.
    pub fn take(&mut self, bytes: usize, rate: u64, now: Duration) -> Duration {
        if rate == 0 {
            return Duration::ZERO;
        }
        let start = self.next.max(now.saturating_sub(Self::BURST));
        #[expect(clippy::cast_precision_loss, reason = "a part of a byte in four pebibytes is nobody's loss")]
        let took = Duration::try_from_secs_f64(bytes as f64 / rate as f64).unwrap_or(Duration::MAX);
        self.next = start.saturating_add(took);
        start.saturating_sub(now)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn an_idle_answer_has_saved_up_a_burst_and_no_more() {
        let mut bandwidth = Bandwidth::default();
        let now = Duration::from_secs(100);
        assert_eq!(bandwidth.take(100, 1_000, now), Duration::ZERO);
        assert_eq!(bandwidth.take(1_000, 1_000, now), Duration::ZERO, "the burst is used up by now");
        assert_eq!(bandwidth.take(1, 1_000, now), Duration::from_secs(1));
    }

    #[test]
    fn without_a_rate_nobody_waits() {
        let mut bandwidth = Bandwidth::default();
        assert_eq!(bandwidth.take(usize::MAX, 0, Duration::ZERO), Duration::ZERO);
        assert_eq!(bandwidth.take(1, 1, Duration::ZERO), Duration::ZERO);
    }

    #[test]
    fn readers_that_take_turns_have_even_shares() {
        let (rate, piece) = (1_000_000_u64, 10_000_usize);
        let mut bandwidth = Bandwidth::default();
        // Each of ten readers asks for its next piece when it has got the last.
        let mut turns: Vec<(Duration, usize)> = (0..10).map(|reader| (Duration::ZERO, reader)).collect();
        let mut given = [0_usize; 10];
        while turns[0].0 < Duration::from_secs(10) {
            let (now, reader) = turns[0];
            let at = now + bandwidth.take(piece, rate, now);
            given[reader] += piece;
            turns[0] = (at, reader);
            turns.sort();
        }
        let total: usize = given.iter().sum();
        assert!((9_900_000..=10_200_000).contains(&total), "{total}");
        assert!(given.iter().all(|bytes| bytes.abs_diff(total / 10) <= 2 * piece), "{given:?}");
    }

    proptest! {
        #[test]
        fn over_any_span_no_more_leaves_than_the_rate_allows(
            rate in 1_000_u64..1_000_000,
            steps in prop::collection::vec((1_usize..5_000, 0_u64..200), 1..200),
        ) {
            let mut bandwidth = Bandwidth::default();
            let (mut now, mut left) = (Duration::from_secs(1), Vec::new());
            for (bytes, pause) in steps {
                now += Duration::from_millis(pause);
                left.push((now + bandwidth.take(bytes, rate, now), bytes));
            }
            left.sort();
            for first in 0..left.len() {
                let mut sum = 0;
                for (at, bytes) in &left[first..] {
                    sum += bytes;
                    let span = (*at - left[first].0 + Bandwidth::BURST).as_secs_f64();
                    #[expect(clippy::cast_precision_loss, reason = "small numbers")]
                    let allowed = span * rate as f64 + 5_000.0 + 1.0;
                    #[expect(clippy::cast_precision_loss, reason = "small numbers")]
                    let gone = sum as f64;
                    prop_assert!(gone <= allowed, "{gone} bytes where {allowed} may leave");
                }
            }
        }
    }
}
