//! What a run measured: the document that `--json` writes, `demo verdict` reads and the report draws.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use weir_fleet::Latency;

use super::plan::Phases;
use crate::verdict::Line;

/// The version of the document.
pub(super) const FORMAT: u32 = 1;

/// Everything a run measured. Routes are named as in the node's configuration: `updates`, `config`, `tasks`, `process-events`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Figures {
    /// The version of this document.
    pub format: u32,
    /// What the run was asked to be.
    pub parameters: Parameters,
    /// When its phases began.
    pub phases: Phases,
    /// Requests that agents began.
    pub agent_requests: u64,
    /// Requests that agents did not begin because they heeded a `Retry-After` or waited to connect again.
    pub agent_turns_held: u64,
    /// Requests that were due and did not begin before the end, because their agents still waited for an answer.
    pub agent_turns_unsent: u64,
    /// Requests that the core saw, from its start to the last batch. What it refused while it was down are not requests.
    pub origin_requests: u64,
    /// The former over the latter.
    pub origin_reduction: f64,
    /// The mean of what the core saw in a second of the steady phase.
    pub origin_steady_per_second: f64,
    /// The highest mean of what the core saw in a second, over any five seconds in a row after the recovery.
    pub origin_peak_per_second: f64,
    /// The latter over the former; 0 where a run is too short to tell.
    pub origin_peak_over_steady: f64,
    /// Answers of status 400 and above, and requests without an answer.
    pub agent_errors_by_route: BTreeMap<String, u64>,
    /// Answers of status 500 and above that came while the core was down.
    pub server_errors_during_outage_by_route: BTreeMap<String, u64>,
    /// Records in uploads that were answered 202.
    pub records_acknowledged: u64,
    /// Records that the core has, repeated batches not counted: rows, and what rows of repeats count.
    pub records_at_core: u64,
    /// The latter minus the former.
    pub ledger_difference: i64,
    /// Records in uploads that got no answer, which the node may have taken.
    pub records_in_doubt: u64,
    /// Of those acknowledged, the ones acknowledged while the core was down.
    pub records_acknowledged_during_outage: u64,
    /// Records acknowledged that the core did not have yet when it came back.
    pub records_waiting_at_recovery: u64,
    /// Records that the node still held at its end.
    pub records_held_at_end: u64,
    /// The ledger key by key, where it was compared.
    pub records_by_key: Option<KeyBalance>,
    /// Bytes of agents' requests, heads included, TLS not.
    pub bytes_from_agents: u64,
    /// Bytes of the bodies that the core got: bulk lookups, batches, presence. Heads are not counted.
    pub bytes_to_core: u64,
    /// From the time a request was due to the last byte of its answer, by route, in milliseconds.
    pub latency_ms: BTreeMap<String, Latency>,
    /// Both sides of the node by route.
    pub routes: BTreeMap<String, RouteFigures>,
    /// The stream of process events.
    pub stream: StreamFigures,
    /// Agents' connections.
    pub connections: ConnectionFigures,
    /// The node itself.
    pub node: NodeFigures,
    /// Second by second.
    pub series: Vec<Second>,
    /// The judgement.
    pub verdict: Vec<Line>,
    /// The node's configuration.
    pub config: String,
}

/// What a run was asked to be.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Parameters {
    /// Agents, each with one connection.
    pub agents: u32,
    /// Requests a second.
    pub rate: f64,
    /// Seconds of traffic.
    pub duration_seconds: f64,
    /// The part for which the core is down.
    pub outage: f64,
    /// The window in which repeats are counted.
    pub merge_window_seconds: f64,
    /// The window in which lookups are collected; chosen by the rate.
    pub lookup_window_ms: u64,
    /// Requests a second that the core can stand; chosen by the rate.
    pub max_requests_per_second: u32,
    /// The seed of the agents' choices.
    pub seed: u64,
    /// Where events came from.
    pub events: String,
    /// Processors of the machine, on which core, node and agents all ran.
    pub processors: usize,
    /// The node's version.
    pub version: String,
    /// When it began, in milliseconds of the Unix epoch.
    pub began_unix_ms: u64,
}

/// Both sides of the node for one route.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct RouteFigures {
    /// Requests that agents began.
    pub agent_requests: u64,
    /// Requests that the core answered for it.
    pub origin_requests: u64,
    /// The former over the latter; the former where the core answered none.
    pub reduction: f64,
}

/// Sums of counts by key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyBalance {
    /// Keys (tenant, agent, and the stream's `same` fields) in acknowledged records.
    pub keys: u64,
    /// Keys whose sum at the core is another than what was acknowledged.
    pub differing: u64,
    /// Sightings that did not fit into the bound of what is remembered; the comparison is void unless 0.
    pub forgotten: u64,
}

/// What became of the stream's records and bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StreamFigures {
    /// Records at the core as rows of their own.
    pub event_rows: u64,
    /// Rows that stand for repeats.
    pub repeat_rows: u64,
    /// Records that these count.
    pub merged: u64,
    /// Batches accepted.
    pub batches: u64,
    /// Batches that came again and were dropped.
    pub batches_repeated: u64,
    /// Bytes of uploads' bodies and heads.
    pub bytes_uploaded: u64,
    /// Bytes of batches, inflated.
    pub bytes_inflated: u64,
    /// Bytes of batches as they travelled.
    pub bytes_sent: u64,
    /// Records given up by the node.
    pub discarded: u64,
}

/// Agents' connections.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConnectionFigures {
    /// Opened in all.
    pub opened: u64,
    /// Opened again after one was lost.
    pub reconnects: u64,
    /// Attempts that failed.
    pub failed: u64,
}

/// The node itself.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct NodeFigures {
    /// How it answered, by outcome.
    pub outcomes: BTreeMap<String, u64>,
    /// The part of requests for stored and looked up answers that cost the core no request of their own.
    pub hit_ratio: Option<f64>,
    /// Processor seconds, user and system.
    pub cpu_seconds: f64,
    /// The most memory it held.
    pub peak_rss_bytes: u64,
    /// The exit code after SIGTERM; none where a signal ended it.
    pub exit_code: Option<i32>,
}

/// One second of the run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Second {
    /// Counted from the first request.
    pub second: u32,
    /// Agents' requests that ended in it.
    pub agent_requests: u32,
    /// Of those, the ones without an answer of status 2xx or 304.
    pub agent_errors: u32,
    /// Requests that came to the core.
    pub origin_requests: u32,
    /// Records acknowledged.
    pub records: u32,
    /// Records that the node held at about its end.
    pub held: u64,
    /// Batches in the outbox at about its end.
    pub outbox_batches: u64,
    /// The median latency in milliseconds.
    pub p50_ms: f64,
    /// The 99th percentile.
    pub p99_ms: f64,
}
