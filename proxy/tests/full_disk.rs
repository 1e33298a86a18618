//! What agents see of a journal that cannot be written or is at its bound: 503 with a time to come back, on a connection that is
//! kept, and no record acknowledged that is not there.

#![expect(clippy::unwrap_used, reason = "a test has no better use for an error")]

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tempfile::TempDir;
use weir_testkit::http::{Answer, Connection};
use weir_testkit::{NOBODY, Node, ground};

/// What follows the ground.
const REST: &str = r#"
[[route]]
name = "events"
match = { method = "POST", path = "/v1/events" }
class = "telemetry"
action = "aggregate"
stream = "events"

[[stream]]
name = "events"
"#;

fn base() -> String {
    ground(NOBODY) + REST
}

/// A node and one kept-alive connection to it.
struct Agent {
    directory: TempDir,
    node: Node,
    connection: Connection,
}

impl Agent {
    async fn new(stream: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let binary = deaf_to_xfsz(directory.path());
        let node = Node::start(&binary, directory.path(), &(base() + stream)).await;
        let connection = Connection::plain(node.listener("agents")).await.unwrap();
        Self { directory, node, connection }
    }

    async fn upload(&mut self, body: String) -> Answer {
        let who = [("x-agent-id", "a-1"), ("x-tenant-id", "t-1")];
        self.connection.send("POST", "/v1/events", &who, body).await.unwrap()
    }

    /// The journal holds what was acknowledged, and all of it went over one connection.
    async fn assert_kept(&self, acknowledged: u32) {
        let accepted = self.node.metric("weir_records_accepted_total", &[("stream", "events")]).await;
        assert!((accepted - f64::from(acknowledged)).abs() < 0.5, "{accepted} of {acknowledged}");
        let connections = self.node.metric("weir_connections_accepted_total", &[]).await;
        assert!((connections - 1.0).abs() < 0.5, "{connections}");
    }
}

/// A script that runs the node so that a write past the limit of a file's size fails, as on a full disk, and does not end it.
fn deaf_to_xfsz(directory: &Path) -> PathBuf {
    let script = directory.join("weir");
    std::fs::write(&script, format!("#!/bin/sh\ntrap '' XFSZ\nexec '{}' \"$@\"\n", env!("CARGO_BIN_EXE_weir")))
        .unwrap();
    std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755)).unwrap();
    script
}

fn assert_told_to_come_back(answer: &Answer) {
    assert_eq!(
        (answer.status.as_u16(), answer.header("weir-refusal")),
        (503, "spool_unavailable"),
        "{}",
        answer.text()
    );
    assert!(answer.header("retry-after").parse::<u32>().is_ok_and(|seconds| (1..=10).contains(&seconds)));
    assert!(answer.body.len() < 200);
}

#[tokio::test]
async fn a_full_disk_costs_neither_connections_nor_records_and_ends_without_a_restart() {
    let stream = "mode = \"raw\"\nbatch = { max_age = \"100ms\" }";
    let mut agent = Agent::new(stream).await;
    let mut acknowledged = 0;
    for _ in 0..3 {
        assert_eq!(agent.upload("[{},{}]".to_owned()).await.status.as_u16(), 202);
        acknowledged += 2;
    }
    agent.node.limit_file_size(Some(0));
    for _ in 0..5 {
        assert_told_to_come_back(&agent.upload("[{},{}]".to_owned()).await);
    }
    agent.assert_kept(acknowledged).await;
    agent.node.limit_file_size(None);
    let back = async {
        while agent.upload("{}".to_owned()).await.status.as_u16() != 202 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), back).await.unwrap();
    agent.assert_kept(acknowledged + 1).await;
    let ledger = &agent.node.status().await["streams"]["events"];
    assert_eq!(ledger["difference"], 0, "{ledger}");
    agent.node.kill().await;
    // What was acknowledged is there for the next life; what was refused is not.
    let node = Node::start(&agent.directory.path().join("weir"), agent.directory.path(), &(base() + stream)).await;
    let accepted = node.metric_until("weir_records_accepted_total", &[], |accepted| accepted >= 7.0).await;
    assert!(accepted < 7.5, "{accepted}");
}

#[tokio::test]
async fn a_journal_at_its_bound_takes_no_more_and_loses_nothing() {
    let stream = "mode = \"raw\"\nbatch = { max_age = \"1h\" }\nspool = { max_journal_bytes = \"1 MiB\" }";
    let mut agent = Agent::new(stream).await;
    let body = format!("{{\"a\":\"{}\"}}", "x".repeat(100_000));
    let mut acknowledged = 0;
    let refused = loop {
        let answer = agent.upload(body.clone()).await;
        if answer.status.as_u16() != 202 {
            break answer;
        }
        acknowledged += 1;
        assert!(acknowledged < 20, "the bound does not hold");
    };
    assert_told_to_come_back(&refused);
    assert!(refused.text().contains("the journal is full"), "{}", refused.text());
    assert!(acknowledged >= 10, "{acknowledged}");
    assert_told_to_come_back(&agent.upload("{}".to_owned()).await);
    agent.assert_kept(acknowledged).await;
}
