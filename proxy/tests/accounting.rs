//! The books of requests: every request ends in one outcome, and requests and bytes add up to what agents saw.

#![expect(clippy::unwrap_used, reason = "a test has no better use for an error")]

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use weir_core_sim::{Behaviour, CoreOptions, CoreSim, EndpointKind};
use weir_logic::Outcome;
use weir_testkit::{Node, ground, http};

const WEIR: &str = env!("CARGO_BIN_EXE_weir");

fn config(core: SocketAddr) -> String {
    let ground = ground(core);
    format!(
        r#"{ground}request_timeout = "1s"
breaker_failures = 1000

[limits]
max_body_bytes = "2 KiB"
# One agent asks for everything here; turned away at the door it would see little.
agents = {{ requests_per_minute = 600_000, burst = 10_000 }}

[[route]]
name = "updates"
match = {{ method = "GET", path = "/v1/updates/{{channel}}/manifest.json" }}
class = "update"
action = "cache"
key = ["path.channel"]
shared = true
ttl = "1ms"
stale_while_revalidate = "0s"
stale_if_error = "1h"
obey_agents = true
vary = ["accept-language"]

[[route]]
name = "kept"
match = {{ method = "GET", path = "/v1/tenants/{{tenant}}/config" }}
class = "config"
action = "cache"
key = ["path.tenant"]
ttl = "1h"
obey_agents = true

[[route]]
name = "config"
match = {{ method = "GET", path = "/v1/config" }}
class = "config"
action = "cache"
ttl = {{ ok = "0s" }}
calm = {{ status = 204 }}

[[route]]
name = "tasks"
match = {{ method = "GET", path = "/v1/agents/{{agent}}/tasks" }}
class = "tasking"
action = "lookup"
lookup = {{ path = "/v1/tasks:lookup", key = ["identity.agent"], window = "1ms", ttl = "5ms" }}

[[route]]
name = "events"
match = {{ method = "POST", path = "/v1/events/process" }}
class = "telemetry"
action = "aggregate"
stream = "process"

[[route]]
name = "rest"
match = {{ method = ["GET", "POST"], path = "/v1/{{rest*}}" }}
class = "download"
action = "forward"

[[stream]]
name = "process"
mode = "raw"
durability = "os"
"#
    )
}

/// What an agent does next.
struct Ask {
    method: &'static str,
    target: String,
    headers: Vec<(&'static str, &'static str)>,
    body: Vec<u8>,
    /// Whether it leaves without waiting for the answer.
    leaves: bool,
}

impl Ask {
    fn random(random: &mut impl Rng) -> Self {
        let number = random.random_range(0..4);
        let (method, target) = match random.random_range(0..12) {
            0 | 1 => (["GET", "HEAD"][number % 2], format!("/v1/updates/ring-{number}/manifest.json")),
            2 => ("GET", "/v1/config".to_owned()),
            3 => ("GET", format!("/v1/agents/a-{number}/tasks")),
            4 | 5 => ("POST", "/v1/events/process".to_owned()),
            6 => (["GET", "POST"][number % 2], format!("/v1/echo/{number}")),
            7 => ("DELETE", "/v1/config".to_owned()),
            10 => ("GET", NEVER_STORED.to_owned()),
            8 | 9 => (["GET", "HEAD"][number % 2], "/v1/tenants/t-1/config".to_owned()),
            _ => ("GET", "/nowhere".to_owned()),
        };
        let body = match (method, random.random_range(0..4)) {
            ("POST", 0) => b"[{\"a\":1},17]".to_vec(),
            ("POST", 1) => b"no json".to_vec(),
            ("POST", 2) => vec![b' '; 3000],
            ("POST", _) => b"{\"a\":1}".to_vec(),
            _ => Vec::new(),
        };
        let headers = match () {
            () if target == NEVER_STORED => vec![("cache-control", "only-if-cached")],
            () if random.random_bool(0.5) => vec![SAYS[random.random_range(0..SAYS.len())]],
            () => Vec::new(),
        };
        Self { method, target, headers, body, leaves: random.random_ratio(1, 20) }
    }

    async fn leave(&self, address: SocketAddr) {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let Self { method, target, body, .. } = self;
        let head = format!("{method} {target} HTTP/1.1\r\nhost: a\r\ncontent-length: {}\r\n\r\n", body.len());
        stream.write_all(&[head.as_bytes(), body].concat()).await.unwrap();
    }
}

/// Asked for by agents that want only what is stored, and so never stored.
const NEVER_STORED: &str = "/v1/updates/never/manifest.json";

/// What agents say besides: parts, conditions, variants, and what their caches would have them say.
const SAYS: [(&str, &str); 11] = [
    ("range", "bytes=0-9"),
    ("range", "bytes=100000000-"),
    ("range", "bytes=5-2"),
    ("if-none-match", "*"),
    ("if-modified-since", "Tue, 14 Nov 2073 22:13:20 GMT"),
    ("accept-language", "de"),
    ("cache-control", "no-cache"),
    ("cache-control", "no-store"),
    ("cache-control", "only-if-cached"),
    ("cache-control", "max-stale=60"),
    ("pragma", "no-cache"),
];

/// What agents saw.
#[derive(Debug, Default)]
struct Seen {
    requests: u32,
    /// Answers by status.
    statuses: BTreeMap<u16, u32>,
    left: u32,
    bytes: u64,
}

async fn agents(seed: u64, address: SocketAddr, core: &CoreSim) -> Seen {
    let mut random = StdRng::seed_from_u64(seed);
    let mut seen = Seen::default();
    for turn in 0..1600 {
        // The first agents meet a core that is well, so that there is something to be stale later.
        if turn % 40 == 39 {
            let faults =
                [Behaviour::Up, Behaviour::status(500), Behaviour::Garbage, Behaviour::Reset, Behaviour::status(429)];
            let fault = faults[random.random_range(0..faults.len())].clone();
            for kind in [EndpointKind::Update, EndpointKind::Config, EndpointKind::Lookup, EndpointKind::Echo] {
                core.script_for(kind, fault.clone());
            }
        }
        let ask = Ask::random(&mut random);
        seen.requests += 1;
        if ask.leaves {
            seen.left += 1;
            ask.leave(address).await;
            continue;
        }
        let headers = [&[("x-agent-id", "a-1"), ("x-tenant-id", "t-1")], &ask.headers[..]].concat();
        let answer = http::send(address, ask.method, &ask.target, &headers, ask.body.clone()).await;
        seen.bytes += answer.body.len() as u64;
        *seen.statuses.entry(answer.status.as_u16()).or_default() += 1;
    }
    seen
}

#[tokio::test]
async fn requests_and_bytes_add_up_whatever_agents_and_the_core_do() {
    let core = CoreSim::start(CoreOptions::default()).await.unwrap();
    let directory = tempfile::tempdir().unwrap();
    let node = Node::start(Path::new(WEIR), directory.path(), &config(core.address())).await;
    let seed: u64 = rand::rng().random();
    let seen = agents(seed, node.listener("agents"), &core).await;
    // Those who left are counted when the node finds out.
    let total = f64::from(seen.requests);
    node.metric_until("weir_requests_total", &[], |counted| counted >= total).await;
    let metrics = node.metrics().await;
    let sum = |name, labels: &[(&str, &str)]| weir_testkit::sum(&metrics, name, labels);
    let context = format!("seed {seed}, {seen:?}\n{metrics}");
    assert!((sum("weir_requests_total", &[]) - total).abs() < 0.5, "{context}");
    let known: f64 =
        Outcome::ALL.iter().map(|outcome| sum("weir_requests_total", &[("outcome", outcome.label())])).sum();
    assert!((known - total).abs() < 0.5, "{known} of them under the outcomes that there are: {context}");
    for status in [200, 202, 206, 304, 416, 504] {
        assert!(seen.statuses.contains_key(&status), "nobody was answered {status}: {context}");
    }
    // An answer to an agent that left may have been written or not; no answer here is longer than 4 KiB.
    #[expect(clippy::cast_precision_loss, reason = "a few thousand")]
    let bytes = seen.bytes as f64;
    let written = sum("weir_answer_bytes_total", &[]);
    let most = bytes + f64::from(seen.left) * 4096.0;
    assert!((bytes..=most).contains(&written), "{written} of {bytes} bytes: {context}");
    for outcome in ["stale", "bypass"] {
        let labels = [("outcome", outcome)];
        let explained = sum("weir_answers_explained_total", &labels);
        assert!((sum("weir_requests_total", &labels) - explained).abs() < 0.5, "{outcome}: {context}");
    }
    let durations = sum("weir_request_duration_seconds_count", &[]);
    assert!((durations - total).abs() < 0.5, "{context}");
    let fills = sum("weir_cache_fills_total", &[]);
    let misses = sum("weir_requests_total", &[("outcome", "miss")]);
    assert!(fills > 0.0 && misses > 0.0, "the run met no fill: {context}");
}
