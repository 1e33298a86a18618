//! What was counted, second by second.

use serde::Serialize;

/// One second of a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Second {
    /// Requests that agents sent.
    pub asked: u32,
    /// Of the answers in this second: good ones.
    pub good: u32,
    /// Refusals.
    pub refused: u32,
    /// Requests that ended without an answer.
    pub unanswered: u32,
    /// Requests that the core saw. While it is down it sees none.
    pub at_core: u32,
    /// Milliseconds that the requests took together which nodes sent to the core and which ended in this second.
    pub core_took_ms: u32,
    /// Requests of nodes to the core that ended.
    pub core_ended: u32,
    /// Requests to the core that came to nothing: 503, too late, or nobody there.
    pub core_failed: u32,
}

/// The seconds of a run from its start.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Series {
    /// In order; second 0 is the first.
    pub seconds: Vec<Second>,
}

/// What is counted.
pub type Figure = fn(&Second) -> u32;

impl Series {
    /// The second that `at` milliseconds fall into.
    pub(super) fn at(&mut self, at: u64) -> &mut Second {
        let second = usize::try_from(at / 1_000).unwrap_or(0);
        if second >= self.seconds.len() {
            self.seconds.resize(second + 1, Second::default());
        }
        &mut self.seconds[second]
    }

    /// The sum over a span of seconds, the last not included.
    pub fn sum(&self, figure: Figure, from: usize, to: usize) -> u64 {
        let to = to.min(self.seconds.len());
        self.seconds[from.min(to)..to].iter().map(|second| u64::from(figure(second))).sum()
    }

    /// The mean a second over a span.
    pub fn mean(&self, figure: Figure, from: usize, to: usize) -> f64 {
        self.sum(figure, from, to) as f64 / to.saturating_sub(from).max(1) as f64
    }

    /// The highest mean of `length` seconds in a row within a span; 0 where the span is shorter.
    pub fn peak(&self, figure: Figure, from: usize, to: usize, length: usize) -> f64 {
        let starts = from..(to.min(self.seconds.len()) + 1).saturating_sub(length).max(from);
        starts.map(|start| self.mean(figure, start, start + length)).fold(0.0, f64::max)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_means_and_peaks_are_taken_over_whole_seconds() {
        let mut series = Series::default();
        for (second, asked) in [1_u32, 2, 9, 9, 4].into_iter().enumerate() {
            series.at(second as u64 * 1_000 + 999).asked = asked;
        }
        let asked: Figure = |second| second.asked;
        assert_eq!((series.sum(asked, 1, 4), series.mean(asked, 0, 5)), (20, 5.0));
        assert_eq!(
            (series.peak(asked, 0, 5, 2), series.peak(asked, 3, 5, 2), series.peak(asked, 3, 5, 3)),
            (9.0, 6.5, 0.0)
        );
    }
}
