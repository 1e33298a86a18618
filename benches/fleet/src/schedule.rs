//! When each agent's turns are due: fixed at the start, so that a slow answer shows as latency and not as less traffic.

use std::time::Duration;

use tokio::time::Instant;

/// The turns of all agents.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Schedule {
    start: Instant,
    end: Instant,
    /// Between two turns of one agent, in seconds.
    interval: f64,
}

impl Schedule {
    pub(crate) fn new(start: Instant, duration: Duration, agents: u32, requests_per_second: f64) -> Self {
        Self { start, end: start + duration, interval: f64::from(agents) / requests_per_second }
    }

    pub(crate) fn end(&self) -> Instant {
        self.end
    }

    pub(crate) fn since_start(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.start)
    }

    /// When the turns of one agent are due, all before the end.
    pub(crate) fn turns(&self, agent: u64) -> impl Iterator<Item = Instant> + use<> {
        // Multiples of the golden ratio fall evenly, however many agents there are, and neighbours fall far apart.
        let offset = (agent as f64 * 0.618_033_988_749_895).fract();
        let (start, end, interval) = (self.start, self.end, self.interval);
        (0_u64..)
            .map(move |turn| start + Duration::from_secs_f64((turn as f64 + offset) * interval))
            .take_while(move |due| *due < end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn turns_add_up_to_the_rate_and_are_spread_evenly() {
        let start = Instant::now();
        let schedule = Schedule::new(start, Duration::from_secs(10), 1000, 400.0);
        let mut per_second = [0; 10];
        for due in (0..1000).flat_map(|agent| schedule.turns(agent)) {
            per_second[usize::try_from((due - start).as_secs()).unwrap()] += 1;
        }
        assert!(per_second.iter().all(|turns| (390..=410).contains(turns)), "{per_second:?}");
    }

    #[test]
    fn an_agent_whose_interval_is_longer_than_the_schedule_may_have_no_turn() {
        let schedule = Schedule::new(Instant::now(), Duration::from_secs(1), 1000, 10.0);
        let turns: usize = (0..1000).map(|agent| schedule.turns(agent).count()).sum();
        assert!((9..=11).contains(&turns), "{turns}");
    }
}
