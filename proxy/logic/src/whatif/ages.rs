//! How old answers were when they were given: counts by age.

use std::time::Duration;

/// Weighted counts of ages, in steps of a quarter of an octave: a quantile is rounded up by less than a fifth. Ages up to 16 ms count
/// as that, those past 24 days as that. Memory: 496 bytes.
#[derive(Clone, Debug, PartialEq)]
pub struct Ages {
    counts: [f32; STEPS],
    sum: f64,
}

/// Four steps an octave, from 2^4 to 2^31 milliseconds.
const STEPS: usize = 4 * 27 + 1;
const FIRST_OCTAVE: usize = 4;

impl Default for Ages {
    fn default() -> Self {
        Self { counts: [0.0; STEPS], sum: 0.0 }
    }
}

impl Ages {
    /// Adds answers of one age.
    pub fn add(&mut self, age: Duration, count: f64) {
        self.sum += age.as_secs_f64() * count;
        #[expect(clippy::cast_possible_truncation, reason = "a count of requests, of which seven digits are enough")]
        let count = count as f32;
        self.counts[step(age)] += count;
    }

    /// Adds all of another's.
    pub fn merge(&mut self, other: &Self) {
        self.sum += other.sum;
        self.counts.iter_mut().zip(&other.counts).for_each(|(count, more)| *count += more);
    }

    /// The mean age of `answers` answers, those that were not added being new.
    pub fn mean(&self, answers: f64) -> Duration {
        if answers > 0.0 { Duration::from_secs_f64((self.sum / answers).max(0.0)) } else { Duration::ZERO }
    }

    /// The age that the part `quantile` of `answers` answers did not exceed, those that were not added being new.
    pub fn quantile(&self, quantile: f64, answers: f64) -> Duration {
        let beyond = answers * (1.0 - quantile);
        let mut older = 0.0;
        for (step, count) in self.counts.iter().enumerate().rev() {
            older += f64::from(*count);
            if older > beyond {
                return upper_edge(step);
            }
        }
        Duration::ZERO
    }
}

/// Which step an age is in: its octave is the exponent of the number, and its quarter follows from the fraction, so that no logarithm is
/// taken for each answer.
fn step(age: Duration) -> usize {
    const FRACTION: u64 = (1 << 52) - 1;
    let millis = (age.as_secs_f64() * 1000.0).max(1.0).to_bits();
    let octave = usize::try_from(millis >> 52).unwrap_or(0).saturating_sub(EXPONENT_OF_ONE);
    let fraction = f64::from_bits(millis & FRACTION | 1.0_f64.to_bits());
    let quarters = 4 * octave + QUARTERS.iter().filter(|quarter| fraction > **quarter).count();
    quarters.saturating_sub(4 * FIRST_OCTAVE).min(STEPS - 1)
}

/// What an `f64` adds to its exponent.
const EXPONENT_OF_ONE: usize = 1023;

/// Where the quarters of an octave begin: 1, and the fourth root of 2 to the power of 1, 2 and 3.
const QUARTERS: [f64; 4] = [1.0, 1.189_207_115_002_721, std::f64::consts::SQRT_2, 1.681_792_830_507_429];

#[expect(clippy::cast_precision_loss, reason = "from 0 to STEPS")]
fn upper_edge(step: usize) -> Duration {
    Duration::from_secs_f64((FIRST_OCTAVE as f64 + step as f64 / 4.0).exp2() / 1000.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_rounded_up_by_less_than_a_fifth() {
        let mut ages = Ages::default();
        (1..=1000).for_each(|seconds| ages.add(Duration::from_secs(seconds), 1.0));
        for (quantile, exact) in [(0.5, 500.0), (0.9, 900.0), (0.99, 990.0)] {
            let told = ages.quantile(quantile, 1000.0).as_secs_f64();
            assert!((exact..exact * 1.2).contains(&told), "{quantile}: {told}");
        }
        assert!((ages.mean(1000.0).as_secs_f64() - 500.5).abs() < 1e-6);
        assert!((ages.mean(2000.0).as_secs_f64() - 250.25).abs() < 1e-6, "the other half was new");
        assert_eq!(ages.quantile(0.4, 2000.0), Duration::ZERO);
    }

    #[test]
    fn an_age_is_in_the_step_that_its_logarithm_says() {
        for millis in (1..5_000).chain((0..1_000).map(|number| 5_000 + number * 99_991)) {
            let (age, least) = (Duration::from_millis(millis), Duration::from_millis(16));
            let step = step(age);
            // The edges are powers that a double does not hold exactly.
            assert!(age.mul_f64(1.0 - 1e-9) <= upper_edge(step), "{millis} ms are over step {step}");
            assert!(step == 0 || age > upper_edge(step - 1).mul_f64(1.0 - 1e-9), "{millis} ms are under step {step}");
            assert!(step > 0 || age <= least);
        }
    }

    #[test]
    fn extreme_ages_stay_in_the_table() {
        let mut ages = Ages::default();
        ages.add(Duration::ZERO, 1.0);
        assert_eq!(ages.quantile(0.99, 1.0), Duration::from_millis(16));
        ages.add(Duration::MAX, 1.0);
        assert!(ages.quantile(0.99, 2.0) > Duration::from_secs(24 * 86_400));
    }
}
