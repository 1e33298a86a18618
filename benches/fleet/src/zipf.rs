//! Draws by rank: the first of a list often, the last seldom, as popularity goes.

use rand::Rng;

/// A Zipf distribution over the ranks 0 to `n - 1`: the weight of rank `k` is `1 / (k + 1) ^ exponent`.
#[derive(Debug, Clone)]
pub(crate) struct Zipf {
    /// Sums of the weights up to each rank.
    cumulative: Vec<f64>,
}

impl Zipf {
    /// Over `n` ranks; 0 is taken as 1.
    pub(crate) fn new(n: usize, exponent: f64) -> Self {
        let mut sum = 0.0;
        let cumulative = (1..=n.max(1))
            .map(|rank| {
                sum += (rank as f64).powf(-exponent);
                sum
            })
            .collect();
        Self { cumulative }
    }

    pub(crate) fn draw(&self, rng: &mut impl Rng) -> usize {
        let total = self.cumulative.last().copied().unwrap_or(1.0);
        let point = rng.random_range(0.0..total);
        self.cumulative.partition_point(|sum| *sum <= point).min(self.cumulative.len() - 1)
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand::rngs::SmallRng;

    use super::*;

    #[test]
    fn every_rank_comes_and_the_first_comes_most() {
        let zipf = Zipf::new(50, 1.0);
        let mut rng = SmallRng::seed_from_u64(1);
        let mut counts = [0; 50];
        for _ in 0..50_000 {
            counts[zipf.draw(&mut rng)] += 1;
        }
        assert!(counts.iter().all(|count| *count > 0));
        // The weights sum to 4.5, so the first rank has about 22 %.
        assert!((10_000..12_500).contains(&counts[0]), "{}", counts[0]);
    }
}
