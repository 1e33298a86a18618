//! What agents send wrongly: each mistake has its status, a reason, and costs no connection where the framing allows.

#![expect(clippy::unwrap_used, reason = "a test has no better use for an error")]

use std::io::Write;
use std::path::Path;

use tempfile::TempDir;
use weir_testkit::http::{self, Answer, Connection};
use weir_testkit::{NOBODY, Node, ground};

/// What follows the ground.
const REST: &str = r#"
[limits]
max_body_bytes = "4 KiB"
max_inflated_bytes = "16 KiB"
max_record_bytes = "4 KiB"

[[route]]
name = "events"
match = { method = "POST", path = "/v1/events" }
class = "telemetry"
action = "aggregate"
stream = "events"

[[route]]
name = "tasks"
match = { method = "GET", path = "/v1/agents/{agent}/tasks" }
class = "tasking"
action = "lookup"
lookup = { path = "/v1/tasks:lookup", key = ["identity.agent"] }
calm = { status = 204 }

[[route]]
name = "config"
match = { method = "GET", path = "/v1/config" }
class = "config"
action = "cache"

[[stream]]
name = "events"
mode = "raw"
"#;

fn base() -> String {
    ground(NOBODY) + REST
}

/// A node and one kept-alive connection to it.
struct Agent {
    _directory: TempDir,
    node: Node,
    connection: Connection,
}

impl Agent {
    async fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let node = Node::start(Path::new(env!("CARGO_BIN_EXE_weir")), directory.path(), &base()).await;
        let connection = Connection::plain(node.listener("agents")).await.unwrap();
        Self { _directory: directory, node, connection }
    }

    async fn upload(&mut self, headers: &[(&str, &str)], body: impl Into<Vec<u8>>) -> Answer {
        let who = [("x-agent-id", "a-1"), ("x-tenant-id", "t-1")];
        self.connection.send("POST", "/v1/events", &[&who[..], headers].concat(), body.into()).await.unwrap()
    }

    async fn get(&mut self, target: &str) -> Answer {
        self.connection.get(target, &[]).await.unwrap()
    }
}

fn assert_refused(answer: &Answer, status: u16, refusal: &str) {
    assert_eq!((answer.status.as_u16(), answer.header("weir-refusal")), (status, refusal), "{}", answer.text());
    assert_eq!(answer.header("content-type"), "application/problem+json");
    assert_eq!(answer.json()["type"], format!("urn:weir:{refusal}"));
    assert!(answer.body.len() < 200, "{}", answer.text());
}

#[tokio::test]
async fn uploads_that_are_not_records_are_refused_and_the_next_one_is_taken() {
    let mut agent = Agent::new().await;
    assert_refused(&agent.upload(&[], "[{\"a\":1},").await, 400, "bad_body");
    assert_refused(&agent.upload(&[], "7").await, 400, "bad_body");
    assert_refused(&agent.upload(&[("content-encoding", "gzip")], "not gzip").await, 400, "bad_body");
    assert_refused(&agent.upload(&[("content-encoding", "br")], "[]").await, 415, "unsupported_encoding");
    let answer = agent.upload(&[], "[{\"a\":1},2,{\"b\":3}]").await;
    assert_eq!(answer.status.as_u16(), 202, "{}", answer.text());
    assert_eq!(answer.json(), serde_json::json!({"accepted": 2, "refused": [{"index": 1, "reason": "not an object"}]}));
    assert_eq!(agent.upload(&[], "[1,2]").await.status.as_u16(), 400);
    let accepted = agent.node.metric("weir_records_accepted_total", &[("stream", "events")]).await;
    assert!((accepted - 2.0).abs() < 1e-9, "{accepted}");
    let connections = agent.node.metric("weir_connections_accepted_total", &[]).await;
    assert!((connections - 1.0).abs() < 1e-9, "a refusal cost a connection: {connections}");
}

#[tokio::test]
async fn a_body_past_the_bound_is_413_on_the_wire_and_inflated() {
    let mut agent = Agent::new().await;
    let long = format!("[{{\"a\":\"{}\"}}]", "x".repeat(64 * 1024));
    assert_refused(&agent.upload(&[], long.clone()).await, 413, "body_too_large");
    let mut agent = Agent::new().await;
    let bomb = lz4_of(long.as_bytes());
    assert!(bomb.len() < 4096);
    assert_refused(&agent.upload(&[("content-encoding", "lz4")], bomb).await, 413, "body_too_large");
}

#[tokio::test]
async fn unknown_routes_wrong_methods_and_strangers_are_told_so() {
    let mut agent = Agent::new().await;
    assert_refused(&agent.get("/nowhere").await, 404, "unknown_route");
    let wrong = agent.get("/v1/events").await;
    assert_refused(&wrong, 405, "wrong_method");
    assert_eq!(wrong.header("allow"), "POST");
    assert_refused(&agent.get("/v1/config").await, 401, "unidentified");
    assert_refused(&agent.get("/v1/agents/a-1/tasks").await, 401, "unidentified");
}

#[tokio::test]
async fn an_unreachable_core_is_told_calmly_or_with_a_time_to_come_back() {
    let mut agent = Agent::new().await;
    let who = [("x-agent-id", "a-1"), ("x-tenant-id", "t-1")];
    let calm = agent.connection.get("/v1/agents/a-1/tasks", &who).await.unwrap();
    assert_eq!(calm.status.as_u16(), 204);
    let refused = agent.connection.get("/v1/config", &who).await.unwrap();
    assert_refused(&refused, 503, "core_unavailable");
    assert!(refused.header("retry-after").parse::<u64>().is_ok_and(|seconds| seconds >= 1));
}

#[tokio::test]
async fn bytes_that_are_not_http_are_answered_400() {
    let agent = Agent::new().await;
    let address = agent.node.listener("agents");
    for request in ["hello\r\n\r\n", "GET / HTTP/1.1\r\n\r\n", "GET /a b HTTP/1.1\r\nhost: a\r\n\r\n"] {
        let answer = String::from_utf8(http::raw(address, request.as_bytes()).await).unwrap();
        assert!(answer.starts_with("HTTP/1.1 400 "), "{request:?}: {answer}");
    }
}

fn lz4_of(bytes: &[u8]) -> Vec<u8> {
    let mut frame = lz4_flex::frame::FrameEncoder::new(Vec::new());
    frame.write_all(bytes).unwrap();
    frame.finish().unwrap()
}
