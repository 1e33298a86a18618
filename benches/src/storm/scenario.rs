//! The scenarios.

use super::protection::Protection::{
    self, Adaptive, Bisect, Breaker, Bulkhead, Damping, Drain, Identity, KeepAlive, Lanes, Lookups, Pace, Shares,
    Stale, Tickets,
};
use super::report::Report;
use super::{
    Failure, Order, black_hole, come_back, failing, ignorers, lanes, noisy, outage, poison, policy, polls, recovery,
    refusals, roll, shed, slow,
};

/// One scenario.
pub(super) struct Scenario {
    pub(super) name: &'static str,
    pub(super) about: &'static str,
    /// Without any one of these it must fail.
    pub(super) protections: &'static [Protection],
    pub(super) play: fn(&Order) -> Result<Report, Failure>,
}

pub(super) const SCENARIOS: [Scenario; 15] = [
    Scenario {
        name: "recovery-stampede",
        about: "the core is away for ten minutes; all agents and all that waits come back to it",
        protections: &[Pace, Stale],
        play: |order| {
            let report = recovery::play(order)?;
            if order.virtual_only || order.direct || order.small {
                return Ok(report);
            }
            Ok(report.and(outage::play(order)?))
        },
    },
    Scenario {
        name: "echo",
        about: "agents that failed together and know no jitter do not come back together, now or later",
        protections: &[Stale],
        play: |order| recovery::play(&Order { echo: true, ..order.clone() }),
    },
    Scenario {
        name: "shed-reconnect",
        about: "all uploads are refused; the agents' TLS connections stay, and orders arrive",
        protections: &[KeepAlive],
        play: shed::play,
    },
    Scenario {
        name: "cert-restart",
        about: "certificates are renewed each second and nodes restarted one after the other; agents resume on the others",
        protections: &[Tickets, Drain],
        play: roll::play,
    },
    Scenario {
        name: "control-lanes",
        about: "uploads drown a node; polls, orders and probes do not notice",
        protections: &[Lanes],
        play: lanes::play,
    },
    Scenario {
        name: "slow-core",
        about: "the core becomes five times slower and can do less than it is asked",
        protections: &[Adaptive],
        play: slow::play,
    },
    Scenario {
        name: "polls",
        about: "agents poll for tasks by the thousand; the core is asked a few times a second",
        protections: &[Lookups],
        play: polls::play,
    },
    Scenario {
        name: "poison-batch",
        about: "one record in 10,000 is one that the core refuses",
        protections: &[Bisect],
        play: poison::play,
    },
    Scenario {
        name: "black-hole",
        about: "one of two cores takes requests and never answers",
        protections: &[Bulkhead],
        play: black_hole::play,
    },
    Scenario {
        name: "retry-after",
        about: "agents that are refused together are told to come back at different times",
        protections: &[Identity],
        play: come_back::play,
    },
    Scenario {
        name: "retry-ignorers",
        about: "agents that are refused do not wait as they are told; what they cost is bounded, and others do not notice",
        protections: &[Damping],
        play: ignorers::play,
    },
    Scenario {
        name: "noisy-tenant",
        about: "one tenant asks fifty times as often as the others, who do not notice; nor do agents who share an address",
        protections: &[Shares],
        play: noisy::play,
    },
    Scenario {
        name: "policy-change",
        about: "all configurations and manifests are changed at once, and the node is told that what it keeps is out of date",
        protections: &[Pace, Lookups, Stale],
        play: policy::play,
    },
    Scenario {
        name: "failing-core",
        about: "the core answers everything with 500; it is left alone, and nobody is misled",
        protections: &[Breaker],
        play: failing::play,
    },
    Scenario {
        name: "refusals",
        about: "requests that are refused, as fast as they can be sent: what one costs the node",
        protections: &[KeepAlive],
        play: refusals::play,
    },
];

/// All of them as text.
pub(super) fn list() -> String {
    let of = |scenario: &Scenario| {
        let names: Vec<String> = scenario.protections.iter().map(|protection| protection.name()).collect();
        format!("{:<18} {}\n{:>19}--without {}\n", scenario.name, scenario.about, "", names.join(", "))
    };
    SCENARIOS.iter().map(of).collect()
}
