//! The two nodes, in front of one core that each asks in its turn.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use weir_core_sim::{Behaviour, CoreOptions, CoreSim};
use weir_testkit::Node;

use crate::corpus::{Conversation, Manner};
use crate::streams::{self, Ask};
use crate::transcript::Transcript;

/// The nodes that must agree.
pub(crate) struct Pair {
    core: CoreSim,
    first: Side,
    second: Side,
}

struct Side {
    _directory: TempDir,
    node: Node,
}

/// What a core was asked, by kind.
type Asked = BTreeMap<String, u64>;

impl Pair {
    /// Both, with these lines in their limits.
    pub(crate) async fn start(limits: &str) -> Self {
        let core = CoreSim::start(CoreOptions::default()).await.unwrap();
        let start = |plain| Side::start(config(core.address(), plain, limits));
        let (first, second) = tokio::join!(start(false), start(true));
        Self { core, first, second }
    }

    /// Has the core behave so.
    pub(crate) fn script(&self, behaviour: Behaviour) {
        self.core.script(behaviour).unwrap();
    }

    /// What each says, as text.
    pub(crate) async fn transcripts(&self, conversation: &Conversation) -> (String, String) {
        let (first, second) = (self.first.hold(conversation).await, self.second.hold(conversation).await);
        (String::from_utf8_lossy(&first).into_owned(), String::from_utf8_lossy(&second).into_owned())
    }

    /// Holds the conversation with both and compares what they say, and what they ask the core meanwhile.
    pub(crate) async fn assert_same(&self, conversation: &Conversation) {
        let before = self.asked();
        let first = self.first.hold(conversation).await;
        let between = self.asked();
        let second = self.second.hold(conversation).await;
        let after = self.asked();
        let told = |said: &[u8]| Transcript::of(said, conversation);
        let shown = || {
            let (first, second) = (String::from_utf8_lossy(&first), String::from_utf8_lossy(&second));
            format!("{conversation}\npingora:\n{first}\nthe own code:\n{second}")
        };
        assert_eq!(told(&second), told(&first), "{}", shown());
        assert_eq!(grown(&between, &after), grown(&before, &between), "the core is asked otherwise: {}", shown());
    }

    /// Has an agent of HTTP/2 ask both, one request after the other, with windows of this size, and compares as above.
    pub(crate) async fn assert_same_streams(&self, asks: &[Ask], window: u32) {
        let before = self.asked();
        let first = streams::hold(self.first.node.listener("streams"), asks, window).await;
        let between = self.asked();
        let second = streams::hold(self.second.node.listener("streams"), asks, window).await;
        let after = self.asked();
        assert_eq!(second, first, "{asks:?}");
        assert_eq!(grown(&between, &after), grown(&before, &between), "the core is asked otherwise: {asks:?}");
    }

    fn asked(&self) -> Asked {
        let endpoints = self.core.snapshot().endpoints;
        let counts = endpoints.into_iter().map(|(kind, counts)| (format!("{kind:?}"), counts.requests));
        counts.filter(|(kind, _)| !DELIVERIES.contains(&kind.as_str())).collect()
    }

    /// Compares what they have counted.
    pub(crate) async fn assert_same_counts(&self) {
        let (first, second) = (self.first.counts().await, self.second.counts().await);
        assert_eq!(second, first);
        assert!(first.len() > 10, "{first:?}");
    }
}

fn grown(before: &Asked, after: &Asked) -> Asked {
    let by = |kind: &String, count: u64| count - before.get(kind).copied().unwrap_or_default();
    let grown = after.iter().map(|(kind, count)| (kind.clone(), by(kind, *count)));
    grown.filter(|(_, count)| *count > 0).collect()
}

/// What is sent to a core behind the agents' backs, when it is time.
const DELIVERIES: [&str; 3] = ["Batch", "Presence", "Health"];

impl Side {
    async fn start(config: String) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let node = Node::start(Path::new(env!("CARGO_BIN_EXE_weir")), directory.path(), &config).await;
        Self { _directory: directory, node }
    }

    /// Says what the conversation says, and gives all that is answered until the connection ends.
    async fn hold(&self, conversation: &Conversation) -> Vec<u8> {
        let listener = if conversation.manner == Manner::Stalls { "hasty" } else { "agents" };
        let mut agent = TcpStream::connect(self.node.listener(listener)).await.unwrap();
        agent.set_nodelay(true).unwrap();
        let mut answered = Vec::new();
        for piece in &conversation.pieces {
            // A node that has heard enough may have closed.
            if agent.write_all(piece).await.is_err() {
                break;
            }
            tokio::task::yield_now().await;
        }
        let reading = async {
            while conversation.manner == Manner::Leaves && !Transcript::of(&answered, conversation).is_whole() {
                if !agent.read_buf(&mut answered).await.is_ok_and(|count| count > 0) {
                    return;
                }
            }
            if conversation.manner == Manner::Leaves {
                agent.shutdown().await.ok();
            }
            agent.read_to_end(&mut answered).await.ok();
        };
        let ended = tokio::time::timeout(Duration::from_secs(60), reading).await;
        assert!(ended.is_ok(), "the connection does not end: {conversation}\n{}", String::from_utf8_lossy(&answered));
        answered
    }

    /// The counts that requests move, once nothing is under way.
    async fn counts(&self) -> BTreeMap<String, f64> {
        self.node.metric_until("weir_requests_in_flight", &[], |count| count < 0.5).await;
        self.node.metric_until("weir_connections", &[], |count| count < 0.5).await;
        let metrics = self.node.metrics().await;
        let series = metrics.lines().filter_map(|line| line.rsplit_once(' '));
        series
            .filter(|(series, _)| COUNTS.contains(&series.split('{').next().unwrap_or_default()))
            .map(|(series, value)| (series.to_owned(), value.parse().unwrap()))
            .collect()
    }
}

/// The metrics that follow from what agents send.
const COUNTS: [&str; 20] = [
    "weir_requests_total",
    "weir_refusals_total",
    "weir_answers_explained_total",
    "weir_answer_bytes_total",
    "weir_request_bytes_total",
    "weir_request_duration_seconds_count",
    "weir_shed_total",
    "weir_limit_shadow_total",
    "weir_retry_after_seconds_count",
    "weir_buffered_bytes",
    "weir_buffered_refused_total",
    "weir_connections_accepted_total",
    "weir_connections_refused_total",
    "weir_cache_fills_total",
    "weir_lookup_keys_total",
    "weir_lookup_bulk_requests_total",
    "weir_uploads_total",
    "weir_uploads_refused_total",
    "weir_records_accepted_total",
    "weir_records_refused_total",
];

fn config(core: SocketAddr, plain: bool, limits: &str) -> String {
    format!(
        r#"
[edge]
name = "edge-{plain}"
data_dir = "data"
log_format = "json"
threads = 2

[[listener]]
name = "agents"
address = "127.0.0.1:0"
trusted_headers = true
http2 = false
plain_requests = {plain}

[[listener]]
name = "hasty"
address = "127.0.0.1:0"
trusted_headers = true
http2 = false
plain_requests = {plain}
header_timeout = "300ms"
body_timeout = "300ms"

[[listener]]
name = "streams"
address = "127.0.0.1:0"
trusted_headers = true
plain_requests = {plain}
body_timeout = "1s"

[admin]
address = "127.0.0.1:0"

[identity]
agent = "header.x-agent-id"
tenant = "header.x-tenant-id"

[core]
peers = ["{core}"]

[limits]
max_body_bytes = "8 KiB"
max_inflated_bytes = "16 KiB"
max_record_bytes = "4 KiB"
max_header_bytes = "2 KiB"
max_target_bytes = "256 B"
{limits}
[limits.agents]
requests_per_minute = 60000000
burst = 1000000
{ROUTES}"#
    )
}

/// A route of each kind. Nothing that is stored ends during a test.
const ROUTES: &str = r#"
[[route]]
name = "own"
match = { method = ["GET", "HEAD"], path = "/v1/echo/own/{name}" }
class = "config"
action = "cache"
key = ["path.name", "query.os"]
vary = ["accept-language"]
ttl = "1h"

[[route]]
name = "all"
match = { path = "/v1/echo/all/{name}" }
class = "update"
action = "cache"
shared = true
key = ["path.name", "header.x-ring"]
ttl = "1h"

[[route]]
name = "calm"
match = { path = "/v1/echo/calm/{name}" }
class = "update"
action = "cache"
shared = true
key = ["path.name"]
ttl = "1h"
calm = { status = 204 }

[[route]]
name = "posted"
match = { method = "POST", path = "/v1/echo/posted" }
class = "config"
action = "cache"
key = ["body./ring"]
max_body_bytes = "1 KiB"
ttl = "1h"

[[route]]
name = "manifest"
match = { path = "/v1/updates/{channel}/manifest.json" }
class = "update"
action = "cache"
shared = true
key = ["path.channel"]
ttl = "1h"

[[route]]
name = "packages"
match = { path = "/v1/packages/{name}" }
class = "download"
action = "cache"
shared = true
key = ["path.name", "query.bytes"]
ttl = "1h"
store = "disk"

[[route]]
name = "tasks"
match = { path = "/v1/agents/{agent}/tasks" }
class = "tasking"
action = "lookup"
lookup = { path = "/v1/tasks:lookup", key = ["identity.agent"], ttl = "1h" }

[[route]]
name = "events"
match = { method = "POST", path = "/v1/events" }
class = "telemetry"
action = "aggregate"
stream = "events"

[[route]]
name = "forward"
match = { method = ["GET", "POST", "PUT"], path = "/v1/echo/through/{rest*}" }
class = "download"
action = "forward"

[[stream]]
name = "events"
mode = "raw"
"#;
