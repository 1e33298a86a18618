//! From what a node costs and what a fleet does to how many nodes a region needs. Pure arithmetic; every assumption is a field.

use super::figures::NodeFigures;

/// A fleet and the machines that are to carry it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Demand {
    pub(super) agents: u64,
    pub(super) regions: u32,
    /// Requests a second of one agent, a quarter of each kind.
    pub(super) requests_per_agent: f64,
    /// Times the usual load that agents bring after an outage of the core.
    pub(super) recovery: f64,
    /// Seconds over which agents of a region that is gone, or of one that was restarted, connect to the others.
    pub(super) reconnect_seconds: f64,
    /// Processors of a machine, and the part of them that may be busy.
    pub(super) processors: f64,
    pub(super) busy: f64,
    /// Bytes of memory of a machine, and the part of it that connections and the node may take: caches and merge windows have the rest.
    pub(super) memory: f64,
    pub(super) memory_part: f64,
    /// Connections of a node, at most.
    pub(super) max_connections: f64,
}

/// What a region needs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Need {
    /// Agents of a region, when all are there and when one is gone.
    pub(super) agents: f64,
    pub(super) agents_without_one: f64,
    /// Requests a second that it must stand.
    pub(super) requests: f64,
    /// Nodes for each bound, and in all: one more than the greatest, so that one may be missing.
    pub(super) by_processors: f64,
    pub(super) by_memory: f64,
    pub(super) by_connections: f64,
    pub(super) nodes: u64,
}

/// What each region needs so that the others carry the fleet when one is gone, while agents come back from an outage.
pub(super) fn reckon(demand: &Demand, node: &NodeFigures) -> Need {
    let (agents, regions) = (demand.agents as f64, f64::from(demand.regions));
    let all = agents / regions;
    let without_one = if demand.regions > 1 { agents / (regions - 1.0) } else { agents };
    let requests = without_one * demand.requests_per_agent * demand.recovery;
    let request_us = (node.update_us + node.config_us + node.poll_us + node.upload_us) / 4.0;
    // A region that is gone sends its agents to the others; where there is none, its own come back after a restart.
    let arriving = if demand.regions > 1 { without_one - all } else { all };
    let handshakes = arriving / demand.reconnect_seconds;
    let seconds = (requests * request_us + handshakes * node.handshake_us) / 1e6;
    let by_processors = seconds / (demand.processors * demand.busy);
    let by_memory = without_one * node.connection_bytes / (demand.memory * demand.memory_part - node.base_bytes);
    let by_connections = without_one / demand.max_connections;
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "`as` saturates; it is positive")]
    let nodes = by_processors.max(by_memory).max(by_connections).ceil() as u64 + 1;
    Need { agents: all, agents_without_one: without_one, requests, by_processors, by_memory, by_connections, nodes }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NODE: NodeFigures = NodeFigures {
        update_us: 100.0,
        config_us: 100.0,
        poll_us: 100.0,
        upload_us: 100.0,
        handshake_us: 1_000.0,
        connection_bytes: 10_000.0,
        base_bytes: 1e9,
    };

    const DEMAND: Demand = Demand {
        agents: 3_000_000,
        regions: 3,
        requests_per_agent: 0.01,
        recovery: 2.0,
        reconnect_seconds: 500.0,
        processors: 4.0,
        busy: 0.5,
        memory: 11e9,
        memory_part: 0.5,
        max_connections: 1e9,
    };

    #[test]
    fn a_region_carries_its_share_of_one_that_is_gone() {
        let need = reckon(&DEMAND, &NODE);
        assert_eq!((need.agents, need.agents_without_one, need.requests), (1e6, 1.5e6, 30_000.0));
        // 3 s of requests and 1 s of handshakes a second, on 2 processors a node.
        assert!((need.by_processors - 2.0).abs() < 1e-9, "{need:?}");
        assert!((need.by_memory - 1.5e10 / 4.5e9).abs() < 1e-9, "{need:?}");
        assert_eq!(need.nodes, 5);
    }

    #[test]
    fn a_lone_region_carries_everything_and_its_own_restart() {
        let need = reckon(&Demand { regions: 1, max_connections: 100_000.0, ..DEMAND }, &NODE);
        assert_eq!((need.agents_without_one, need.by_connections), (3e6, 30.0));
        assert_eq!(need.nodes, 31);
    }
}
