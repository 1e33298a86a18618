//! What one node costs: measured here, so that no figure is anybody's guess.
//!
//! A node with one thread for agents' requests, which shares this machine with agents and core. For each kind of request a fleet asks
//! for nothing else, and what the process's processor time grew by is divided by the requests; what timers and the like take
//! meanwhile is in it. Connections cost what they cost a node that had none.

use std::io;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::time::sleep;
use weir_core_sim::{CoreOptions, CoreSim};
use weir_fleet::{Fleet, FleetOptions, Mix};

use crate::node::{Node, Usage};
use crate::place::Place;
use crate::text::fill;

/// What a node takes for each of the things that it does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NodeFigures {
    /// Microseconds of a processor for an update check, answered from the cache, over TLS on a connection that is open.
    pub update_us: f64,
    /// For a config fetch, answered from what is kept.
    pub config_us: f64,
    /// For a poll, with its part of the bulk lookup.
    pub poll_us: f64,
    /// For an upload of 24 events with 70 % repeats, `fsync` to batch.
    pub upload_us: f64,
    /// For a full handshake.
    pub handshake_us: f64,
    /// Bytes of memory for an open TLS connection.
    pub connection_bytes: f64,
    /// Bytes of memory that a node takes besides.
    pub base_bytes: f64,
}

/// How much is measured.
#[derive(Clone, Copy, Debug)]
pub(super) struct Effort {
    pub(super) agents: u32,
    pub(super) requests_per_second: f64,
    pub(super) time: Duration,
}

const TEMPLATE: &str = include_str!("weir.toml");

/// What a fleet asks for where it asks for one thing only.
fn only(kind: usize) -> Mix {
    let part = |this: usize| f64::from(u8::from(this == kind));
    Mix { update: part(0), config: part(1), tasks: part(2), upload: part(3) }
}

/// Measures a node on this machine.
pub(super) async fn measure(effort: Effort) -> io::Result<NodeFigures> {
    let place = Place::new(None)?;
    let core = CoreSim::start(CoreOptions { read_rows: false, ..CoreOptions::default() }).await?;
    let config = place.write_config(&fill(TEMPLATE, &[("core", core.address().to_string())]))?;
    let node = Node::start(&config).await?;
    let result = run(effort, &node, &place).await;
    drop(node);
    place.leave()?;
    result
}

async fn run(effort: Effort, node: &Node, place: &Place) -> io::Result<NodeFigures> {
    let usage = || node.usage().ok_or_else(|| io::Error::other("the system does not say what the node has used"));
    let (before, base) = (usage()?, memory(node)?);
    let mut idle = Fleet::start(options(effort, node, place, only(0), 1.0)?).map_err(io::Error::other)?;
    idle.ramped_up().await;
    sleep(Duration::from_secs(1)).await;
    let agents = f64::from(effort.agents);
    let connection_bytes = (memory(node)? - base).max(0.0) / agents;
    let handshake_us = spent(before, usage()?) / agents;
    drop(idle);
    let mut costs = [0.0; 4];
    for (kind, cost) in costs.iter_mut().enumerate() {
        // Once for what is cold, then what counts.
        for _ in 0..2 {
            let options = options(effort, node, place, only(kind), effort.requests_per_second)?;
            let mut fleet = Fleet::start(options).map_err(io::Error::other)?;
            fleet.ramped_up().await;
            let before = usage()?;
            let report = fleet.finish().await;
            let answered: u64 = report.routes.values().map(|route| route.ok).sum();
            *cost = spent(before, usage()?) / answered.max(1) as f64;
        }
    }
    let [update_us, config_us, poll_us, upload_us] = costs;
    Ok(NodeFigures { update_us, config_us, poll_us, upload_us, handshake_us, connection_bytes, base_bytes: base })
}

fn options(effort: Effort, node: &Node, place: &Place, mix: Mix, rate: f64) -> io::Result<FleetOptions> {
    Ok(FleetOptions {
        targets: vec![node.agents()?],
        tls: Some(place.tls()),
        agents: effort.agents,
        requests_per_second: rate,
        duration: effort.time,
        handshakes_per_second: 500.0,
        mix,
        ..FleetOptions::default()
    })
}

/// Microseconds of a processor between two moments.
fn spent(before: Usage, after: Usage) -> f64 {
    (after.cpu_seconds - before.cpu_seconds) * 1e6
}

/// What the node's process holds in memory now.
fn memory(node: &Node) -> io::Result<f64> {
    let id = node.id().ok_or_else(|| io::Error::other("the node has ended"))?;
    let text = std::fs::read_to_string(format!("/proc/{}/status", id.as_raw_nonzero()))?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<f64>().ok());
    Ok(kib.ok_or_else(|| io::Error::other("the system does not say how much memory the node has"))? * 1024.0)
}
