//! What protects the core and the agents, and can be switched off to see whether a scenario notices.

use clap::ValueEnum;

/// A protection of the product.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Protection {
    /// Stale answers and calm ones while the core fails.
    Stale,
    /// The rate at which the gate lets requests through, and its climb after an outage.
    Pace,
    /// The breaker that stops asking a core that fails.
    Breaker,
    /// A bound on requests in flight that follows what the core can take.
    Adaptive,
    /// Many keys in one bulk request.
    Lookups,
    /// The search for the one bad row in a batch that the core refuses.
    Bisect,
    /// A gate of its own for each core.
    Bulkhead,
    /// Room that lower classes leave to those above them.
    Lanes,
    /// Who an agent is, from which follows when it is told to come back.
    Identity,
    /// A refusal that leaves the connection open.
    KeepAlive,
    /// The refusal of agents that do not wait as they are told, without a look at what they want, and after a pause.
    Damping,
    /// The part of the node that a tenant may have.
    Shares,
    /// Keys of session tickets that nodes share.
    Tickets,
    /// The window over which connections are closed when a node stops.
    Drain,
}

impl Protection {
    #[cfg(test)]
    pub(super) const ALL: [Self; 14] = [
        Self::Stale,
        Self::Pace,
        Self::Breaker,
        Self::Adaptive,
        Self::Lookups,
        Self::Bisect,
        Self::Bulkhead,
        Self::Lanes,
        Self::Identity,
        Self::KeepAlive,
        Self::Damping,
        Self::Shares,
        Self::Tickets,
        Self::Drain,
    ];

    /// The word on the command line.
    pub(super) fn name(self) -> String {
        self.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned())
    }
}

/// Which protections are on: all but one at most.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Switches {
    without: Option<Protection>,
}

impl Switches {
    pub(super) fn without(without: Option<Protection>) -> Self {
        Self { without }
    }

    pub(super) fn is_on(self, protection: Protection) -> bool {
        self.without != Some(protection)
    }
}
