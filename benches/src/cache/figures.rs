//! Figures out of many samples.

use std::io;
use std::time::Duration;

use serde::Serialize;

/// How samples are spread.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct Spread {
    pub(super) p50: f64,
    pub(super) p99: f64,
    pub(super) p999: f64,
    pub(super) max: f64,
}

impl Spread {
    /// Zeros where there are no samples.
    pub(super) fn of(mut samples: Vec<f64>) -> Self {
        samples.sort_unstable_by(f64::total_cmp);
        let at = |permille: usize| {
            let rank = (samples.len() * permille).div_ceil(1000).max(1) - 1;
            samples.get(rank).copied().unwrap_or_default()
        };
        Self { p50: at(500), p99: at(990), p999: at(999), max: at(1000) }
    }
}

/// The middle one; zero where there is none.
pub(super) fn median(samples: Vec<f64>) -> f64 {
    Spread::of(samples).p50
}

/// The memory that this process has in use by the kernel's count, in bytes.
pub(super) fn resident_bytes() -> io::Result<u64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok());
    kib.map(|kib| kib << 10).ok_or_else(|| io::Error::other("the kernel does not say how much memory this process has"))
}

/// The processor time that this process's threads have had by the kernel's count.
pub(super) fn busy() -> io::Result<Duration> {
    let mut sum = 0;
    for thread in std::fs::read_dir("/proc/self/task")? {
        let text = std::fs::read_to_string(thread?.path().join("schedstat"))?;
        sum += text.split(' ').next().and_then(|nanos| nanos.parse::<u64>().ok()).unwrap_or(0);
    }
    Ok(Duration::from_nanos(sum))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranks_are_those_of_sorted_samples() {
        let spread = Spread::of((1..=1000).rev().map(f64::from).collect());
        assert_eq!([spread.p50, spread.p99, spread.p999, spread.max], [500.0, 990.0, 999.0, 1000.0]);
        assert_eq!([median(vec![3.0, 1.0, 2.0]), median(Vec::new())], [2.0, 0.0]);
    }
}
