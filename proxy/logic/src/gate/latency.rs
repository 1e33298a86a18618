//! How slow a core's answers are, against what is usual for each of the flows that go to it.

use std::time::Duration;

use super::FlowId;

/// The latencies of one core's flows: what is usual for each, and what it has been since the last [`Latencies::clear`]. A bulk
/// lookup takes longer than a fill, and always did: only a flow's change against itself says something about the core.
///
/// Means are taken of logarithms, so that one answer in a hundred that takes a hundred times as long does not speak for the
/// others. Memory: 40 bytes a flow.
#[derive(Clone, Debug, Default)]
pub(super) struct Latencies {
    flows: Vec<Flow>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Flow {
    /// The mean logarithm while nothing stood in the way.
    usual: Option<f64>,
    sum: f64,
    squares: f64,
    count: u32,
}

/// Added to each latency, in milliseconds: an answer after one instead of half a millisecond is the scheduler's doing.
const SLACK_MS: f64 = 2.0;

/// Answers of a flow before anything is said of it.
const MIN_COUNT: u32 = 8;

/// The error of a mean of logarithms that is good enough: a tenth of the latency.
const GOOD_ERROR: f64 = 0.1;

/// So many answers are good enough whatever their spread.
const ENOUGH: u32 = 256;

/// How much of the way what is usual goes down to a lower mean. Noise is in each mean, and what always followed the lowest one
/// would be too low.
const DOWN: f64 = 0.2;

impl Latencies {
    /// Notes one answer.
    pub(super) fn note(&mut self, flow: FlowId, latency: Duration) {
        if self.flows.len() <= flow.0 {
            self.flows.resize(flow.0 + 1, Flow::default());
        }
        let flow = &mut self.flows[flow.0];
        let logarithm = (latency.as_secs_f64() * 1_000.0 + SLACK_MS).ln();
        flow.sum += logarithm;
        flow.squares += logarithm * logarithm;
        flow.count = flow.count.saturating_add(1);
    }

    /// Answers noted.
    pub(super) fn count(&self) -> u32 {
        self.flows.iter().map(|flow| flow.count).sum()
    }

    /// Whether what has been noted can be told from noise: the more the answers differ, the more of them it takes.
    pub(super) fn are_telling(&self) -> bool {
        let count = self.count();
        let squares: f64 = self.flows.iter().map(Flow::squared_deviations).sum();
        count >= ENOUGH || squares.sqrt() <= GOOD_ERROR * f64::from(count)
    }

    /// How many times the usual latency an answer took: the median over the answers' flows, so that a flow which is slow by
    /// itself does not speak for the others, unless it has most of the answers. 1 where nothing is known.
    pub(super) fn ratio(&self) -> f64 {
        let mut known: Vec<(f64, u32)> =
            self.flows.iter().filter_map(|flow| Some((flow.excess()?, flow.count))).collect();
        known.sort_by(|one, other| one.0.total_cmp(&other.0));
        let half = known.iter().map(|(_, count)| count).sum::<u32>() / 2;
        let mut below = 0;
        let median = known.iter().find(|(_, count)| {
            below += count;
            below > half
        });
        median.map_or(1.0, |(excess, _)| excess.exp())
    }

    /// Takes what has been noted for usual, whatever it was before.
    pub(super) fn accept(&mut self) {
        for flow in &mut self.flows {
            flow.usual = flow.mean().or(flow.usual);
        }
    }

    /// Learns what is usual of flows of which that is not known, and that it is less than it was thought to be.
    pub(super) fn learn(&mut self) {
        for flow in &mut self.flows {
            let Some(mean) = flow.mean() else { continue };
            let usual = flow.usual.get_or_insert(mean);
            *usual += DOWN * (mean - *usual).min(0.0);
        }
    }

    /// Forgets what has been noted, but for flows too rare to have said what is usual for them.
    pub(super) fn clear(&mut self) {
        for flow in &mut self.flows {
            if flow.usual.is_some() {
                *flow = Flow { usual: flow.usual, ..Flow::default() };
            }
        }
    }
}

impl Flow {
    fn mean(&self) -> Option<f64> {
        (self.count >= MIN_COUNT).then(|| self.sum / f64::from(self.count))
    }

    fn squared_deviations(&self) -> f64 {
        (self.squares - self.sum * self.sum / f64::from(self.count.max(1))).max(0.0)
    }

    fn excess(&self) -> Option<f64> {
        Some(self.mean()? - self.usual?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn note(latencies: &mut Latencies, flow: usize, count: usize, millis: u64) {
        (0..count).for_each(|_| latencies.note(FlowId(flow), Duration::from_millis(millis)));
    }

    fn learnt() -> Latencies {
        let mut latencies = Latencies::default();
        note(&mut latencies, 0, 10, 18);
        note(&mut latencies, 1, 10, 198);
        latencies.learn();
        latencies.clear();
        latencies
    }

    #[test]
    fn each_flow_is_measured_against_itself() {
        let mut latencies = learnt();
        note(&mut latencies, 0, 5, 18);
        note(&mut latencies, 1, 50, 198);
        assert_eq!((latencies.ratio() * 100.0).round(), 100.0);
        assert_eq!(latencies.count(), 55);
    }

    #[test]
    fn a_flow_that_is_slow_by_itself_does_not_speak_for_the_others() {
        let mut latencies = learnt();
        note(&mut latencies, 0, 10, 18);
        note(&mut latencies, 1, 9, 1_998);
        assert_eq!((latencies.ratio() * 100.0).round(), 100.0);
        note(&mut latencies, 1, 2, 1_998);
        assert_eq!((latencies.ratio() * 100.0).round(), 1_000.0);
    }

    #[test]
    fn one_answer_that_took_a_hundred_times_as_long_changes_little() {
        let mut latencies = learnt();
        note(&mut latencies, 0, 99, 18);
        note(&mut latencies, 0, 1, 1_998);
        assert!(latencies.ratio() < 1.05, "{}", latencies.ratio());
    }

    #[test]
    fn what_is_usual_falls_by_itself_and_rises_when_it_is_accepted() {
        let mut latencies = learnt();
        for (millis, usual) in [(8, 17.4), (18, 17.4), (98, 17.4)] {
            note(&mut latencies, 0, 10, millis);
            latencies.learn();
            latencies.clear();
            assert_eq!(((latencies.flows[0].usual.unwrap()).exp() * 10.0).round() / 10.0, usual);
        }
        note(&mut latencies, 0, 10, 98);
        latencies.accept();
        assert_eq!(latencies.ratio(), 1.0);
    }

    #[test]
    fn answers_that_differ_must_be_many() {
        let are_telling = |count: usize, spread: u64| {
            let mut latencies = Latencies::default();
            note(&mut latencies, 0, count / 2, 998);
            note(&mut latencies, 0, count / 2, 998 * spread);
            latencies.are_telling()
        };
        assert!(are_telling(2, 1));
        assert!(!are_telling(10, 2) && are_telling(14, 2));
        assert!(!are_telling(254, 1_000) && are_telling(256, 1_000));
    }

    #[test]
    fn rare_flows_gather_until_something_can_be_said() {
        let mut latencies = Latencies::default();
        for _ in 0..8 {
            assert_eq!((latencies.ratio(), latencies.flows.first().and_then(|flow| flow.usual)), (1.0, None));
            note(&mut latencies, 0, 1, 18);
            latencies.learn();
            latencies.clear();
        }
        assert!(latencies.flows[0].usual.is_some());
    }
}
