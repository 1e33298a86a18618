//! What a run will be: its phases, and the node's windows for its rate. Pure arithmetic; what was chosen is printed.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::arguments::RunArguments;

/// Agents of one tenant.
pub(super) const AGENTS_PER_TENANT: u32 = 17;
/// Events in one upload.
pub(super) const EVENTS_PER_UPLOAD: u32 = 24;
/// Distinct update checks.
const UPDATE_KEYS: f64 = 50.0;
/// The mean time for which the template's `ttl` and `jitter` keep an answer.
const MEAN_TTL_SECONDS: f64 = 18.0;
/// How much more than its quiet day's load the core of the demo can stand.
const HEADROOM: f64 = 1.15;

/// What a run will be.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Plan {
    pub(super) phases: Phases,
    pub(super) lookup_window: Duration,
    pub(super) batch_age: Duration,
    pub(super) ramp: Duration,
    pub(super) max_requests_per_second: u32,
    pub(super) records_expected: u64,
}

/// When each phase begins, in seconds from the first request. The connections have all been opened by then.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Phases {
    /// The end of the warm-up and the beginning of the steady phase.
    pub steady: f64,
    /// The core goes down.
    pub outage: f64,
    /// The core comes back.
    pub recovery: f64,
    /// The last request.
    pub end: f64,
}

/// Where a run stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Phase {
    /// Agents connect.
    Connecting,
    /// Caches fill.
    WarmUp,
    /// All is well.
    Steady,
    /// The core is down.
    Outage,
    /// The core is back.
    Recovery,
    /// The agents are gone; the node delivers what it holds.
    Settling,
}

impl Phase {
    pub(super) const fn label(self) -> &'static str {
        match self {
            Self::Connecting => "connecting",
            Self::WarmUp => "warm-up",
            Self::Steady => "steady",
            Self::Outage => "outage",
            Self::Recovery => "recovery",
            Self::Settling => "settling",
        }
    }
}

impl Phases {
    /// The outage in the middle, the warm-up a ninth of the whole.
    fn new(duration: Duration, outage: f64) -> Self {
        let end = duration.as_secs_f64();
        let down = end * outage;
        let before = (end - down) / 2.0;
        Self { steady: (end / 9.0).min(before / 2.0), outage: before, recovery: before + down, end }
    }

    /// The phase at `elapsed` seconds.
    pub(super) fn at(&self, elapsed: f64) -> Phase {
        if elapsed < self.steady {
            Phase::WarmUp
        } else if elapsed < self.outage {
            Phase::Steady
        } else if elapsed < self.recovery {
            Phase::Outage
        } else {
            Phase::Recovery
        }
    }
}

impl Plan {
    pub(super) fn new(run: &RunArguments) -> Self {
        let lookup_window = (400.0 / run.rate).clamp(0.025, 1.0);
        let batch_age = (4_000.0 / run.rate).clamp(1.0, 4.0);
        let batches = (1.0 / batch_age).min(run.rate / 4.0);
        let expected = core_load(run.rate, f64::from(run.agents), lookup_window) + batches;
        let uploads = run.rate / 4.0 * run.duration.as_secs_f64();
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "`as` saturates; both are positive"
        )]
        let (max_requests_per_second, records_expected) =
            ((expected * HEADROOM).ceil() as u32, (uploads * f64::from(EVENTS_PER_UPLOAD)) as u64);
        Self {
            phases: Phases::new(run.duration, run.outage),
            lookup_window: millis(lookup_window),
            batch_age: millis(batch_age),
            ramp: millis((run.duration.as_secs_f64() / 9.0).min(30.0)),
            max_requests_per_second,
            records_expected,
        }
    }
}

/// Requests a second that the core should see on a quiet day, batches left aside, when each of four routes gets a quarter of `rate`.
fn core_load(rate: f64, agents: f64, window: f64) -> f64 {
    let share = rate / 4.0;
    let tenants = (agents / f64::from(AGENTS_PER_TENANT)).ceil();
    // A window opens with the first request that waits, so that the gap between two requests adds to it.
    let lookups = |asked: f64| 1.0 / (window + 1.0 / asked);
    let tasks = lookups(share);
    let config = lookups((tenants / MEAN_TTL_SECONDS).min(share));
    let updates = (UPDATE_KEYS / MEAN_TTL_SECONDS).min(share);
    let presence = 0.1;
    tasks + config + updates + presence
}

fn millis(seconds: f64) -> Duration {
    Duration::from_secs_f64((seconds * 1_000.0).round() / 1_000.0)
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::super::arguments::Arguments;
    use super::*;

    fn plan(arguments: &str) -> Plan {
        let words = std::iter::once("demo").chain(arguments.split_whitespace());
        Plan::new(&Arguments::parse_from(words).run)
    }

    #[test]
    fn the_core_is_down_for_a_third_in_the_middle() {
        let phases = plan("").phases;
        assert_eq!(phases.at(0.0), Phase::WarmUp);
        assert_eq!(phases.at(10.1), Phase::Steady);
        assert_eq!(phases.at(30.1), Phase::Outage);
        assert_eq!(phases.at(60.1), Phase::Recovery);
        assert!((phases.recovery - phases.outage - 30.0).abs() < 1e-6, "{phases:?}");
    }

    #[test]
    fn windows_keep_the_reduction_above_a_hundred_at_any_rate_worth_showing() {
        for (arguments, rate) in [("", 4_000.0), ("--agents 1000 --rate 1000 --duration 45s", 1_000.0)] {
            let plan = plan(arguments);
            assert!(rate / f64::from(plan.max_requests_per_second) > 100.0, "{plan:?}");
        }
        assert_eq!(plan("").lookup_window, Duration::from_millis(100));
        assert_eq!(plan("--rate 100000").lookup_window, Duration::from_millis(25));
    }

    #[test]
    fn a_short_run_still_has_a_steady_phase() {
        let phases = plan("--duration 3s --outage 0.5").phases;
        assert!(phases.steady < phases.outage && phases.outage < phases.recovery && phases.recovery < phases.end);
    }
}
