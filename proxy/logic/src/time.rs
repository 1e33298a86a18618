//! Points in time, handed in by whoever calls.

use std::time::Duration;

/// Milliseconds since the Unix epoch, as the process's clock tells them: within one process they never go backwards.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Millis(pub u64);

impl Millis {
    /// The point `duration` later; saturates at the end of time.
    #[must_use]
    pub fn after(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(whole_millis(duration)))
    }

    /// The time from `earlier` to here; zero when `earlier` is later.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }
}

fn whole_millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// A part or a multiple of a duration, to the nanosecond where it is shorter than a hundred days. Costs a twentieth of
/// [`Duration::mul_f64`], which is exact for all others as well. Saturates at 584 years.
pub(crate) fn scaled(duration: Duration, factor: f64) -> Duration {
    // Comparing exactly is what is meant: the very same is given back.
    #[expect(clippy::float_cmp, reason = "most durations are scaled by one, and some of these have no end")]
    if factor == 1.0 {
        return duration;
    }
    #[expect(clippy::cast_precision_loss, reason = "said above")]
    let nanos = duration.as_secs() as f64 * 1e9 + f64::from(duration.subsec_nanos());
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "`as` saturates")]
    Duration::from_nanos((nanos * factor + 0.5) as u64)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_scaled_by_one_or_without_end_stays() {
        assert_eq!(scaled(Duration::MAX, 1.0), Duration::MAX);
        assert_eq!(scaled(Duration::MAX, 0.5), Duration::from_nanos(u64::MAX));
        assert_eq!(scaled(Duration::from_secs(60), 0.25), Duration::from_secs(15));
        assert_eq!(scaled(Duration::from_secs(60), -1.0), Duration::ZERO);
    }

    proptest! {
        #[test]
        fn it_is_what_the_exact_product_is_to_the_nanosecond(nanos in 0_u64..8_000_000_000_000_000, factor in 0.0..1.0_f64) {
            let duration = Duration::from_nanos(nanos);
            let (exact, scaled) = (duration.mul_f64(factor), scaled(duration, factor));
            prop_assert!(exact.abs_diff(scaled) <= Duration::from_nanos(2), "{exact:?} {scaled:?}");
        }
    }
}
