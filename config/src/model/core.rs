//! What stands behind the node.

use std::path::PathBuf;
use std::time::Duration;

/// Which core: an index into [`super::Config::cores`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CoreId(pub usize);

/// `[core]` (or one of several `[[core]]`): an origin and the gate that all traffic to it passes.
#[derive(Clone, Debug, PartialEq)]
pub struct Core {
    /// The name in metrics, logs and `route.core`.
    pub name: String,
    /// The machines that serve this core; at least one.
    pub peers: Vec<Peer>,
    /// TLS towards the core; `None` for plaintext.
    pub tls: Option<CoreTls>,
    /// The protocol spoken with the core.
    pub protocol: Protocol,
    /// The `Host` that the core sees. `None`: the peer's own name.
    pub host: Option<String>,
    /// The time that a connection, TLS included, may take.
    pub connect_timeout: Duration,
    /// The time to the last byte of an answer, for fills, lookups and batches; between two reads for forwarded requests.
    pub request_timeout: Duration,
    /// The time that an unused pooled connection is kept.
    pub idle_timeout: Duration,
    /// Requests in flight to this core at once, at most.
    pub max_in_flight: usize,
    /// Requests that may be in flight whatever the core's latency; at most `max_in_flight`.
    pub min_in_flight: usize,
    /// Whether the limit on requests in flight follows the core's latency and errors between the two bounds.
    pub adaptive: bool,
    /// The part of the requests in flight that one route or stream may have, where there are several.
    pub max_route_share: crate::Ratio,
    /// Requests started a second, at most; the gate lets the rest wait, be answered stale or be told when to come back.
    pub max_requests_per_second: u32,
    /// The longest time that a request waits for a place at the gate.
    pub max_wait: Duration,
    /// Failures in a row after which the breaker opens.
    pub breaker_failures: u32,
    /// The time that an open breaker waits before its single probe; doubled after each failed probe up to eight times, jittered.
    pub breaker_cooldown: Duration,
    /// The time over which the admitted rate climbs back from a tenth to the whole after a recovery.
    pub ramp: Duration,
    /// Retries over first attempts, at most, counted when a retry is scheduled. From 0 to 1.
    pub retry_budget: crate::Ratio,
    /// Failures in a row after which a peer is left out for a time, while others answer.
    pub eject_after: u32,
    /// Active health checks of the peers; `None` when switched off.
    pub health_check: Option<HealthCheck>,
}

/// One machine of a core: `host:port`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Peer {
    /// A name or an address; without brackets for IPv6.
    pub host: String,
    /// The port.
    pub port: u16,
}

/// `core.tls`: TLS towards the core.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CoreTls {
    /// The authorities that sign the core's certificate, PEM. `None`: the system's.
    pub ca: Option<PathBuf>,
    /// The name that the core's certificate must carry. `None`: the peer's own name.
    pub server_name: Option<String>,
    /// The node's own certificate and key, PEM, for a core that asks for one.
    pub client: Option<(PathBuf, PathBuf)>,
}

/// `core.protocol`: what is spoken with the core.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Protocol {
    /// HTTP/1.1 only.
    #[default]
    Http1,
    /// HTTP/2 where the core offers it by ALPN, else HTTP/1.1; only with TLS.
    Auto,
    /// HTTP/2 only; in plaintext with prior knowledge.
    Http2,
}

/// `core.health_check`: active checks of each peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HealthCheck {
    /// The path asked for; any 2xx answer is healthy.
    pub path: String,
    /// The time between checks.
    pub interval: Duration,
    /// Failed checks in a row that take a peer out.
    pub failures: u32,
    /// Good checks in a row that bring it back.
    pub successes: u32,
}
