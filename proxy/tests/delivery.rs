//! Deliveries as the core sees them: the order after an outage, and batches whose answers were lost.

#![expect(clippy::unwrap_used, reason = "a test has no better use for an error")]

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use serde_json::Value;
use tokio::net::TcpListener;
use weir_batch::Batch;
use weir_core_sim::{Behaviour, CoreOptions, CoreSim, EndpointKind};
use weir_testkit::{Node, ground, http as client};

const WEIR: &str = env!("CARGO_BIN_EXE_weir");

/// A core that writes down each batch it takes, in the order of their coming; 503 while it is down.
#[derive(Default)]
struct Witness {
    is_up: AtomicBool,
    taken: Mutex<Vec<Taken>>,
}

#[derive(Clone, Debug)]
struct Taken {
    lane: String,
    /// Of the records in it.
    numbers: Vec<u64>,
}

impl Witness {
    async fn start() -> (Arc<Self>, SocketAddr) {
        let witness = Arc::new(Self::default());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let serving = Arc::clone(&witness);
        weir::task::spawn("witness", async move {
            while let Ok((stream, _)) = listener.accept().await {
                let witness = Arc::clone(&serving);
                weir::task::spawn("witness-connection", async move {
                    let answer = service_fn(move |request| Arc::clone(&witness).answer(request));
                    let connection = hyper::server::conn::http1::Builder::new();
                    // The node may close it at any time.
                    connection.serve_connection(TokioIo::new(stream), answer).await.unwrap_or(());
                });
            }
        });
        (witness, address)
    }

    async fn answer(self: Arc<Self>, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, hyper::Error> {
        let lane = request.headers()["weir-delivery"].to_str().unwrap().to_owned();
        let body = request.into_body().collect().await?.to_bytes();
        let status = if self.is_up.load(Ordering::Acquire) {
            let rows = Batch::open(&body).unwrap().rows(1 << 20).unwrap().into_owned();
            let rows = String::from_utf8(rows).unwrap();
            let number = |row: &str| serde_json::from_str::<Value>(row).unwrap()["record"]["n"].as_u64().unwrap();
            self.taken.lock().push(Taken { lane, numbers: rows.lines().map(number).collect() });
            200
        } else {
            503
        };
        Ok(Response::builder().status(status).body(Full::default()).unwrap())
    }
}

fn config(core: SocketAddr, more: &str) -> String {
    let ground = ground(core);
    format!(
        r#"{ground}breaker_cooldown = "50ms"
ramp = "100ms"

[shutdown]
drain = "1ms"

[[route]]
name = "events"
match = {{ method = "POST", path = "/v1/events" }}
class = "telemetry"
action = "aggregate"
stream = "events"

[[stream]]
name = "events"
mode = "raw"
batch = {{ max_age = "10ms" }}
retry = {{ initial = "20ms", max = "100ms" }}
{more}
"#
    )
}

async fn upload(node: &Node, number: usize) {
    let who = [("x-agent-id", "a-1"), ("x-tenant-id", "t-1")];
    let body: &'static str = format!(r#"{{"n":{number},"eid":"{number}"}}"#).leak();
    let answer = client::send(node.listener("agents"), "POST", "/v1/events", &who, body).await;
    assert_eq!(answer.status.as_u16(), 202, "{}", answer.text());
}

async fn assert_all_delivered(node: &Node, records: usize) {
    node.metric_until("weir_records_held", &[], |held| held == 0.0).await;
    let ledger = &node.status().await["streams"]["events"];
    assert_eq!((&ledger["accepted"], &ledger["forwarded"]), (&records.into(), &records.into()), "{ledger}");
    assert_eq!((&ledger["difference"], &ledger["discarded"]), (&0.into(), &0.into()), "{ledger}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_an_outage_fresh_batches_go_first_and_each_lane_in_its_order() {
    let directory = tempfile::tempdir().unwrap();
    let (core, address) = Witness::start().await;
    let config = config(address, "delivery = { live_for = \"5s\" }");
    let node = Node::start(Path::new(WEIR), directory.path(), &config).await;
    let batches = |count: usize| move |seen: f64| (seen - f64::from(u32::try_from(count).unwrap())).abs() < 0.5;
    for number in 0..10 {
        upload(&node, number).await;
        node.metric_until("weir_outbox_batches", &[], batches(number + 1)).await;
    }
    node.metric_until("weir_outbox_backlog_batches", &[], batches(10)).await;
    for number in 10..15 {
        upload(&node, number).await;
        node.metric_until("weir_outbox_batches", &[], batches(number + 1)).await;
    }
    core.is_up.store(true, Ordering::Release);
    assert_all_delivered(&node, 15).await;
    let taken = core.taken.lock().clone();
    let of = |lane: &str| -> Vec<u64> {
        taken.iter().filter(|batch| batch.lane == lane).flat_map(|batch| batch.numbers.clone()).collect()
    };
    assert_eq!(of("live"), (10..15).collect::<Vec<u64>>(), "{taken:?}");
    assert_eq!(of("backlog"), (0..10).collect::<Vec<u64>>(), "{taken:?}");
    assert_eq!(taken[0].lane, "live", "{taken:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_batch_whose_answer_was_lost_counts_once_across_retries_and_kill_9() {
    let directory = tempfile::tempdir().unwrap();
    let options = CoreOptions { track_field: Some("eid".to_owned()), ..CoreOptions::default() };
    let core = CoreSim::start(options).await.unwrap();
    // Takes the batch, and the connection ends within the answer.
    core.script_for(EndpointKind::Batch, Behaviour::Reset);
    let config = config(core.address(), "");
    let mut node = Node::start(Path::new(WEIR), directory.path(), &config).await;
    for number in 0..3 {
        upload(&node, number).await;
    }
    for _ in 0..2 {
        let repeated = core.snapshot().batches.repeated;
        let again = async {
            while core.snapshot().batches.repeated < repeated + 2 {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(std::time::Duration::from_secs(60), again).await.unwrap();
        node.kill().await;
        node = Node::start(Path::new(WEIR), directory.path(), &config).await;
    }
    core.script(Behaviour::Up).unwrap();
    assert_all_delivered(&node, 3).await;
    let snapshot = core.snapshot();
    assert!((0..3).all(|number: u32| core.times_seen(&number.to_string()) == 1), "{snapshot:?}");
    assert_eq!((snapshot.batches.conflicting, snapshot.tracked.ids_seen_again), (0, 0));
}
