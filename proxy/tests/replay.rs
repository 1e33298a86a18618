//! `weir spool replay`: what a dead node has left reaches the core without it, and dead letters are sent once more.

#![expect(clippy::unwrap_used, reason = "a test has no better use for an error")]

use std::path::Path;
use std::process::Command;

use serde_json::Value;
use tempfile::TempDir;
use weir_core_sim::{Behaviour, CoreOptions, CoreSim, EndpointKind};
use weir_testkit::ground::ground_with_admin;
use weir_testkit::{Node, http};

const WEIR: &str = env!("CARGO_BIN_EXE_weir");

struct Scene {
    directory: TempDir,
    core: CoreSim,
}

/// How a command ended.
#[derive(Debug)]
struct Said {
    code: i32,
    output: String,
    errors: String,
}

impl Scene {
    async fn new() -> Self {
        Self { directory: tempfile::tempdir().unwrap(), core: CoreSim::start(CoreOptions::default()).await.unwrap() }
    }

    fn config(&self, admin: &str) -> String {
        format!(
            r#"{ground}connect_timeout = "1s"

[[route]]
name = "process"
match = {{ method = "POST", path = "/v1/process" }}
class = "telemetry"
action = "aggregate"
stream = "process"

[[route]]
name = "alerts"
match = {{ method = "POST", path = "/v1/alerts" }}
class = "telemetry"
action = "aggregate"
stream = "alerts"

[[stream]]
name = "process"
mode = "events"
same = ["image"]
window = "1h"
batch = {{ max_age = "50ms" }}
retry = {{ initial = "20ms", max = "100ms" }}

[[stream]]
name = "alerts"
mode = "raw"
batch = {{ max_age = "50ms" }}
retry = {{ initial = "20ms", max = "100ms" }}
"#,
            ground = ground_with_admin(self.core.address(), admin),
        )
    }

    async fn life(&self) -> Node {
        Node::start(Path::new(WEIR), self.directory.path(), &self.config("127.0.0.1:0")).await
    }

    fn core_takes(&self, behaviour: Behaviour) {
        self.core.script_for(EndpointKind::Batch, behaviour);
    }

    fn at_core(&self, stream: &str) -> u64 {
        self.core.snapshot().streams.get(stream).map_or(0, |stream| stream.records)
    }

    /// `weir spool replay` with a configuration that names this admin address.
    fn replay(&self, admin: &str, arguments: &[&str]) -> Said {
        let file = self.directory.path().join("replay.toml");
        std::fs::write(&file, self.config(admin)).unwrap();
        let mut command = Command::new(WEIR);
        command.args(["spool", "replay", "-c", "replay.toml"]).args(arguments).current_dir(self.directory.path());
        let output = command.output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        Said { code: output.status.code().unwrap(), output: text(output.stdout), errors: text(output.stderr) }
    }
}

async fn upload(node: &Node, path: &str, body: &'static str) {
    let who = [("x-agent-id", "a-1"), ("x-tenant-id", "t-1")];
    let answer = http::send(node.listener("agents"), "POST", path, &who, body).await;
    assert_eq!(answer.status.as_u16(), 202, "{}", answer.text());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_disk_of_a_dead_node_is_emptied_into_the_core_once() {
    let scene = Scene::new().await;
    scene.core_takes(Behaviour::Down);
    let node = scene.life().await;
    // Six of them wait in a window for an hour.
    upload(&node, "/v1/process", r#"[{"image":"a"},{"image":"a"},{"image":"a"},{"image":"b"}]"#).await;
    upload(&node, "/v1/alerts", r#"[{"n":1},{"n":2}]"#).await;
    node.metric_until("weir_outbox_batches", &[("stream", "process")], |batches| batches >= 1.0).await;
    upload(&node, "/v1/process", r#"[{"image":"a"},{"image":"a"},{"image":"b"},{"image":"c"}]"#).await;

    let said = scene.replay("127.0.0.1:0", &["data"]);
    assert!(said.code == 69 && said.errors.contains("in use by another node"), "{said:?}");
    node.kill().await;

    let said = scene.replay("127.0.0.1:0", &["data", "--patience", "1"]);
    assert_eq!(said.code, 70, "{said:?}");
    assert!(said.output.contains("process: 0 records delivered, 0 refused, 8 left"), "{said:?}");
    assert!(said.errors.contains("10 records are left"), "{said:?}");

    scene.core_takes(Behaviour::Up);
    let said = scene.replay("127.0.0.1:0", &["data", "--stream", "alerts"]);
    assert!(said.code == 0 && said.output == "alerts: 2 records delivered, 0 refused, 0 left\n", "{said:?}");
    let said = scene.replay("127.0.0.1:0", &["data"]);
    assert_eq!(said.code, 0, "{said:?}");
    assert!(said.output.contains("alerts: 0 records delivered"), "{said:?}");
    assert!(said.output.contains("process: 8 records delivered, 0 refused, 0 left"), "{said:?}");
    assert_eq!((scene.at_core("process"), scene.at_core("alerts")), (8, 2));

    let node = scene.life().await;
    let streams = &node.status().await["streams"];
    assert_eq!((&streams["process"]["accepted"], &streams["process"]["difference"]), (&8.into(), &0.into()));
    upload(&node, "/v1/process", r#"[{"image":"a"}]"#).await;
    node.metric_until("weir_records_forwarded_total", &[("stream", "process")], |records| records >= 4.0).await;
    assert_eq!((scene.at_core("process"), scene.at_core("alerts")), (9, 2));
}

async fn until_dead(node: &Node, stream: &str, enough: f64) {
    let labels = [("stream", stream), ("reason", "dead_letter")];
    node.metric_until("weir_records_discarded_total", &labels, |records| records >= enough).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dead_letters_of_a_running_node_are_sent_once_more_after_the_core_was_mended() {
    let scene = Scene::new().await;
    scene.core_takes(Behaviour::status(415));
    let node = scene.life().await;
    upload(&node, "/v1/alerts", r#"[{"n":1},{"n":2}]"#).await;
    upload(&node, "/v1/process", r#"[{"image":"a"}]"#).await;
    until_dead(&node, "alerts", 2.0).await;
    until_dead(&node, "process", 1.0).await;
    let admin = node.admin().to_string();
    let said = scene.replay(&admin, &[]);
    assert!(said.code == 2 && said.errors.contains("--dead"), "{said:?}");
    let said = scene.replay(&admin, &["--dead", "--stream", "nothing"]);
    assert!(said.code == 2 && said.errors.contains("no such stream"), "{said:?}");

    scene.core_takes(Behaviour::Up);
    let said = scene.replay(&admin, &["--dead", "--stream", "alerts"]);
    assert!(said.code == 0 && said.output == "alerts: 2 records put back in 1 batches\n", "{said:?}");
    node.metric_until("weir_records_forwarded_total", &[("stream", "alerts")], |records| records >= 2.0).await;
    let said = scene.replay(&admin, &["--dead", "--stream", "alerts"]);
    assert!(said.code == 0 && said.output == "alerts: 0 records put back in 0 batches\n", "{said:?}");
    assert_eq!((scene.at_core("alerts"), scene.at_core("process")), (2, 0));
    let streams = &node.status().await["streams"];
    let ledger = |stream: &str, field: &str| streams[stream][field].as_u64().unwrap();
    assert_eq!((ledger("alerts", "forwarded"), ledger("alerts", "discarded")), (2, 0));
    assert_eq!((ledger("process", "discarded"), &streams["alerts"]["difference"]), (1, &Value::from(0)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dead_letters_of_a_dead_node_are_sent_once_more_with_all_else() {
    let scene = Scene::new().await;
    scene.core_takes(Behaviour::status(415));
    let node = scene.life().await;
    upload(&node, "/v1/alerts", r#"[{"n":1},{"n":2}]"#).await;
    until_dead(&node, "alerts", 2.0).await;
    node.kill().await;
    scene.core_takes(Behaviour::Up);
    let said = scene.replay("127.0.0.1:0", &["data"]);
    assert!(said.code == 0 && scene.at_core("alerts") == 0, "{said:?}");
    let said = scene.replay("127.0.0.1:0", &["data", "--dead"]);
    assert_eq!(said.code, 0, "{said:?}");
    assert!(said.output.contains("alerts: 2 records delivered, 0 refused, 0 left; 2 were put back"), "{said:?}");
    assert_eq!(scene.at_core("alerts"), 2);
}
