//! Uploads that unpack to far more than they weigh, from many agents at once: each is answered, no connection is lost, and
//! the node's memory stays within its budget.

#![expect(clippy::unwrap_used, reason = "a test has no better use for an error")]

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;

use bytes::Bytes;
use flate2::write::GzEncoder;
use futures::future::join_all;
use tempfile::TempDir;
use weir_batch::{BatchEncoder, Compression};
use weir_testkit::http::{Answer, Connection};
use weir_testkit::{NOBODY, Node, ground};

const MIB: u64 = 1 << 20;
const BUDGET: u64 = 64 * MIB;

/// What follows the ground.
const REST: &str = r#"
[limits]
max_body_bytes = "256 KiB"
max_inflated_bytes = "16 MiB"
max_buffered_bytes = "64 MiB"
tenant_share = 0.5
max_inflation_ratio = RATIO

[[route]]
name = "events"
match = { method = "POST", path = "/v1/events" }
class = "telemetry"
action = "aggregate"
stream = "events"

[[stream]]
name = "events"
mode = "raw"
"#;

fn base() -> String {
    ground(NOBODY) + REST
}

const ENCODINGS: [Compression; 3] = [Compression::Gzip, Compression::Zstd, Compression::Lz4];

/// A node, its agents' connections, and the memory that it took once each of them had sent something.
struct Scene {
    _directory: TempDir,
    node: Node,
    agents: Vec<Agent>,
    idle: u64,
}

struct Agent {
    connection: Connection,
    name: String,
    tenant: String,
}

impl Agent {
    async fn upload(&mut self, encoding: &str, body: Bytes) -> Answer {
        let headers = [("x-agent-id", &*self.name), ("x-tenant-id", &*self.tenant), ("content-encoding", encoding)];
        self.connection.send("POST", "/v1/events", &headers, body).await.unwrap()
    }
}

impl Scene {
    async fn new(agents: usize, ratio: u32) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let config = base().replace("RATIO", &ratio.to_string());
        let node = Node::start(Path::new(env!("CARGO_BIN_EXE_weir")), directory.path(), &config).await;
        let address = node.listener("agents");
        let connected = join_all((0..agents).map(|number| async move {
            let connection = Connection::plain(address).await.unwrap();
            Agent { connection, name: format!("a-{number}"), tenant: format!("t-{}", number % 10) }
        }));
        let mut scene = Self { _directory: directory, node, agents: connected.await, idle: 0 };
        let small = ENCODINGS.map(|compression| Bytes::from(deflate(compression, "{}")));
        assert_eq!(scene.all_upload(&small).await, BTreeMap::from([(202, agents)]));
        scene.idle = scene.node.peak_memory();
        scene
    }

    /// All agents upload at once, the first body in the first encoding and so on; gives how many were answered with which status.
    async fn all_upload(&mut self, bodies: &[Bytes; 3]) -> BTreeMap<u16, usize> {
        let uploads = self
            .agents
            .iter_mut()
            .enumerate()
            .map(|(number, agent)| agent.upload(ENCODINGS[number % 3].name(), bodies[number % 3].clone()));
        let mut statuses = BTreeMap::new();
        for answer in join_all(uploads).await {
            let status = answer.status.as_u16();
            let wants_rest = matches!(status, 429 | 503);
            assert_eq!(answer.headers.contains_key("retry-after"), wants_rest, "{status}: {}", answer.text());
            *statuses.entry(status).or_default() += 1;
        }
        statuses
    }

    /// The memory taken since it was idle stays within the budget and a twentieth of it.
    fn assert_within_budget(&self) {
        let taken = self.node.peak_memory() - self.idle;
        println!("idle {} KiB, {} KiB more at most", self.idle / 1024, taken / 1024);
        assert!(taken <= BUDGET + BUDGET / 20, "{} MiB over a budget of {}", taken / MIB, BUDGET / MIB);
    }

    async fn assert_no_connection_was_lost(&self) {
        let connections = self.node.metric("weir_connections_accepted_total", &[]).await;
        assert!((connections - self.agents.len() as f64).abs() < 0.5, "{connections}");
        self.node.metric_until("weir_buffered_bytes", &[], |bytes| bytes == 0.0).await;
    }
}

fn deflate(compression: Compression, bytes: impl AsRef<[u8]>) -> Vec<u8> {
    let mut encoder = BatchEncoder::new(compression).unwrap();
    encoder.push(bytes.as_ref()).unwrap();
    encoder.finish().unwrap().bytes
}

/// A body that unpacks to a thousand times its length, or to as much as LZ4 can, which is 255 times.
fn bomb(compression: Compression) -> Bytes {
    let text = format!("[{{\"a\":\"{}\"}}]", "a".repeat(16 << 20));
    let packed = match compression {
        Compression::Gzip => {
            let mut encoder = GzEncoder::new(Vec::new(), flate2::Compression::best());
            encoder.write_all(text.as_bytes()).unwrap();
            encoder.finish().unwrap()
        }
        Compression::Zstd | Compression::Lz4 => deflate(compression, &text),
    };
    assert!(text.len() / packed.len() > 240, "{} bytes in {compression:?}", packed.len());
    Bytes::from(packed)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bombs_on_500_connections_are_refused_within_the_budget() {
    let mut scene = Scene::new(500, 20).await;
    let bombs = ENCODINGS.map(bomb);
    let statuses = scene.all_upload(&bombs).await;
    println!("{statuses:?}");
    assert!(statuses.keys().all(|status| matches!(status, 413 | 429 | 503)), "{statuses:?}");
    let refused = statuses.get(&413).copied().unwrap_or_default();
    assert!(refused >= 100, "{refused}");
    scene.assert_within_budget();
    scene.assert_no_connection_was_lost().await;
    let by_ratio = scene.node.metric("weir_uploads_refused_total", &[("reason", "ratio")]).await;
    assert!((by_ratio - refused as f64).abs() < 0.5, "{by_ratio} of {refused}");
    let calm = scene.agents[0].upload("identity", Bytes::from_static(b"{}")).await;
    assert_eq!(calm.status.as_u16(), 202);
}
