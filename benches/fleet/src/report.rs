//! What a fleet says of itself: plain figures, for people and machines.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// The kinds of request an agent sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Route {
    /// An update check.
    Update,
    /// A config fetch.
    Config,
    /// A tasking poll.
    Tasks,
    /// An upload of events.
    Upload,
}

impl Route {
    /// Every route, in the order of [`Mix`](crate::Mix).
    pub const ALL: [Self; 4] = [Self::Update, Self::Config, Self::Tasks, Self::Upload];
}

/// Everything a fleet did, so far or in all.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct FleetReport {
    /// When the schedule started, in milliseconds of the Unix epoch: second 0 of the series. 0 during the ramp.
    pub started_unix_ms: u64,
    /// Milliseconds the schedule has run; what is under way at its end is waited for, but not counted here.
    pub elapsed_ms: u64,
    /// Milliseconds the ramp of connections took.
    pub ramp_ms: u64,
    /// Agents.
    pub agents: u32,
    /// Connections open now.
    pub connected: u64,
    /// Requests begun, on all routes.
    pub agent_requests: u64,
    /// The figures of each route.
    pub routes: BTreeMap<Route, RouteReport>,
    /// The balance of records.
    pub records: RecordReport,
    /// Bytes of requests, heads included, TLS not.
    pub bytes_up: u64,
    /// Bytes of responses, heads included, TLS not.
    pub bytes_down: u64,
    /// Connections and handshakes.
    pub connections: ConnectionReport,
    /// Second by second, by the time an answer came.
    pub series: Vec<SecondReport>,
}

/// The figures of one route.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct RouteReport {
    /// Requests begun. Each ends as a status or an error, or is still under way.
    pub sent: u64,
    /// Answers of status 2xx and 304.
    pub ok: u64,
    /// Answers by status.
    pub statuses: BTreeMap<u16, u64>,
    /// Requests without an answer.
    pub errors: ErrorCounts,
    /// Turns not taken because the agent heeded a `Retry-After` or waited to connect again.
    pub held: u64,
    /// Turns that came up after the end of the schedule because the agent was still busy.
    pub unsent: u64,
    /// From the time a request was due to the last byte of its answer; timeouts count with the time they took.
    pub latency_ms: Latency,
    /// Bytes of requests.
    pub bytes_up: u64,
    /// Bytes of responses.
    pub bytes_down: u64,
}

/// Requests without an answer, by cause.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorCounts {
    /// No connection could be opened; nothing was sent.
    pub connect: u64,
    /// The connection ended before the answer did.
    pub reset: u64,
    /// No answer in time.
    pub timeout: u64,
    /// The answer was not HTTP.
    pub protocol: u64,
}

impl ErrorCounts {
    /// All of them.
    pub fn total(&self) -> u64 {
        self.connect + self.reset + self.timeout + self.protocol
    }
}

/// Percentiles, in milliseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Latency {
    /// The median.
    pub p50: f64,
    /// 9 in 10 were faster.
    pub p90: f64,
    /// 99 in 100 were faster.
    pub p99: f64,
    /// 999 in 1000 were faster.
    pub p999: f64,
    /// The slowest.
    pub max: f64,
}

/// What became of the records of uploads. Sent = acknowledged + refused + in doubt + those still under way.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecordReport {
    /// In uploads that were begun.
    pub sent: u64,
    /// Of those sent, repeats of something the same agent sent within a minute before.
    pub repeats: u64,
    /// In uploads answered 2xx, as the answer's `accepted` says; all of the upload where it does not.
    pub acknowledged: u64,
    /// Refused one by one or with the whole upload, or never sent because no connection could be opened. Agents do not
    /// send them again.
    pub refused: u64,
    /// In uploads that got no answer: they may have been accepted.
    pub in_doubt: u64,
    /// Acknowledged records not remembered because the bound was met.
    pub forgotten: u64,
}

/// Connections and handshakes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConnectionReport {
    /// Connections opened.
    pub opened: u64,
    /// Of those, the ones opened because an earlier one was lost.
    pub reconnects: u64,
    /// Full TLS handshakes.
    pub handshakes_full: u64,
    /// TLS handshakes that resumed a session.
    pub handshakes_resumed: u64,
    /// Attempts that failed.
    pub failed: u64,
    /// Connections the other side closed while they were idle.
    pub closed_idle: u64,
}

/// One second of the schedule.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct SecondReport {
    /// The second, counted from the start of the schedule.
    pub second: u32,
    /// Requests that ended, well or not.
    pub requests: u32,
    /// Answers of status 2xx and 304.
    pub ok: u32,
    /// Answers of status 5xx.
    pub server_errors: u32,
    /// Requests without an answer.
    pub errors: u32,
    /// Turns not taken.
    pub held: u32,
    /// Records acknowledged.
    pub records: u32,
    /// The median latency in milliseconds.
    pub p50_ms: f64,
    /// The 99th percentile.
    pub p99_ms: f64,
}
