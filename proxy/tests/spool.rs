//! What the node keeps on disk, as operators meet it: flushed at a stop, kept while the core is down, readable with `weir batch cat`.

#![expect(clippy::unwrap_used, reason = "a test has no better use for an error")]

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;
use weir_core_sim::{Behaviour, CoreOptions, CoreSim, LossCounts};
use weir_testkit::{Node, ground, http};

const WEIR: &str = env!("CARGO_BIN_EXE_weir");

struct Scene {
    directory: TempDir,
    core: CoreSim,
    max_age: &'static str,
    /// `stream.spool`.
    spool: &'static str,
}

impl Scene {
    async fn new(max_age: &'static str) -> Self {
        let core = CoreSim::start(CoreOptions::default()).await.unwrap();
        Self { directory: tempfile::tempdir().unwrap(), core, max_age, spool: "" }
    }

    async fn life(&self) -> Node {
        let config = format!(
            r#"{ground}connect_timeout = "1s"

[shutdown]
drain = "1ms"
timeout = "2s"

[[route]]
name = "events"
match = {{ method = "POST", path = "/v1/events" }}
class = "telemetry"
action = "aggregate"
stream = "events"

[[stream]]
name = "events"
mode = "raw"
batch = {{ max_age = "{max_age}" }}
spool = {{ {spool} }}
"#,
            ground = ground(self.core.address()),
            max_age = self.max_age,
            spool = self.spool,
        );
        Node::start(Path::new(WEIR), self.directory.path(), &config).await
    }

    fn delivered(&self) -> u64 {
        self.core.snapshot().streams.get("events").map_or(0, |stream| stream.records)
    }

    fn told(&self, reason: &str) -> LossCounts {
        let snapshot = self.core.snapshot();
        snapshot.streams.get("events").and_then(|stream| stream.losses.get(reason)).cloned().unwrap_or_default()
    }

    fn outbox(&self) -> Vec<PathBuf> {
        let entries = std::fs::read_dir(self.directory.path().join("data/spool/events/outbox")).unwrap();
        entries.map(|entry| entry.unwrap().path()).collect()
    }
}

async fn upload(node: &Node, body: &'static str) {
    let who = [("x-agent-id", "a-1"), ("x-tenant-id", "t-1")];
    let answer = http::send(node.listener("agents"), "POST", "/v1/events", &who, body).await;
    assert_eq!(answer.status.as_u16(), 202, "{}", answer.text());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_delivers_what_half_full_batches_hold() {
    let scene = Scene::new("1m").await;
    let node = scene.life().await;
    upload(&node, r#"[{"pid":1},{"pid":2}]"#).await;
    assert_eq!(scene.delivered(), 0);
    node.terminate();
    let exit = node.wait().await;
    assert_eq!(exit.code, Some(0), "{}", exit.log);
    assert!(exit.log.contains("\"all_delivered\":true"), "{}", exit.log);
    assert_eq!(scene.delivered(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_core_does_not_take_at_a_stop_is_delivered_after_the_next_start() {
    let scene = Scene::new("100ms").await;
    scene.core.script(Behaviour::Down).unwrap();
    let node = scene.life().await;
    upload(&node, r#"[{"pid":1},{"pid":2}]"#).await;
    node.terminate();
    let exit = node.wait().await;
    assert_eq!(exit.code, Some(0), "{}", exit.log);
    assert!(exit.log.contains("\"all_delivered\":false"), "{}", exit.log);
    scene.core.script(Behaviour::Up).unwrap();
    let node = scene.life().await;
    node.metric_until("weir_records_forwarded_total", &[("stream", "events")], |records| records >= 2.0).await;
    assert_eq!(scene.delivered(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_batch_in_the_outbox_reads_as_json_lines() {
    let scene = Scene::new("100ms").await;
    scene.core.script(Behaviour::Down).unwrap();
    let node = scene.life().await;
    upload(&node, r#"[{"pid":1},{"cmdline":"a \"b\""}]"#).await;
    node.metric_until("weir_outbox_batches", &[("stream", "events")], |batches| batches >= 1.0).await;
    let [batch] = &scene.outbox()[..] else { panic!("{:?}", scene.outbox()) };
    let output = Command::new(WEIR).args(["batch", "cat"]).arg(batch).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let rows: Vec<Value> =
        String::from_utf8(output.stdout).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(rows.len(), 2);
    assert_eq!(
        (&rows[0]["kind"], &rows[0]["tenant"], &rows[0]["agent"]),
        (&"event".into(), &"t-1".into(), &"a-1".into())
    );
    assert_eq!(rows[1]["record"]["cmdline"], "a \"b\"");
}

fn weir_spool(scene: &Scene, arguments: &[&str]) -> (i32, String, String) {
    let output = Command::new(WEIR).arg("spool").args(arguments).current_dir(scene.directory.path()).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_spool_of_a_running_node_is_listed_inspected_verified_and_exported() {
    let scene = Scene::new("100ms").await;
    scene.core.script(Behaviour::status(422)).unwrap();
    let node = scene.life().await;
    upload(&node, r#"[{"pid":1}]"#).await;
    // The record, and the row that tells of its loss: this core takes nothing.
    node.metric_until("weir_dead_letter_files", &[("stream", "events")], |files| files >= 2.0).await;
    scene.core.script(Behaviour::Down).unwrap();
    upload(&node, r#"[{"pid":2},{"pid":3}]"#).await;
    node.metric_until("weir_outbox_batches", &[("stream", "events")], |batches| batches >= 1.0).await;

    let (code, list, errors) = weir_spool(&scene, &["ls", "data"]);
    assert_eq!(code, 0, "{errors}");
    let fields: Vec<&str> = list.lines().nth(1).unwrap().split_whitespace().collect();
    assert_eq!((fields[0], fields[3], fields[5], fields[7], fields[8], fields[9]), ("events", "1", "2", "2", "1", "0"));

    let (code, dead, errors) = weir_spool(&scene, &["export", "data", "events"]);
    assert_eq!(code, 0, "{errors}");
    let dead: Vec<Value> = dead.lines().map(|row| serde_json::from_str(row).unwrap()).collect();
    assert_eq!((&dead[0]["status"], &dead[0]["row"]["record"]["pid"]), (&422.into(), &1.into()));
    assert_eq!((&dead[1]["row"]["kind"], &dead[1]["row"]["records"]), (&"loss".into(), &1.into()));
    let (_, waiting, _) = weir_spool(&scene, &["export", "data", "events", "--outbox"]);
    assert_eq!(waiting.lines().count(), 2, "{waiting}");

    let batch = scene.outbox().remove(0);
    let (code, content, _) = weir_spool(&scene, &["inspect", batch.to_str().unwrap()]);
    let content: Value = serde_json::from_str(&content).unwrap();
    assert_eq!((code, &content["file"], &content["counts"]["rows"]), (0, &"batch".into(), &2.into()));

    let (code, whole, errors) = weir_spool(&scene, &["verify", "data"]);
    assert!(code == 0 && whole.starts_with("data is whole: "), "{whole}{errors}");
    let mut bytes = std::fs::read(&batch).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    std::fs::write(&batch, bytes).unwrap();
    let (code, _, errors) = weir_spool(&scene, &["verify", "data"]);
    assert!(code == 65 && errors.contains("the batch file's payload is damaged"), "{errors}");
}

/// Waits until the core was told of losses for that reason and the node knows it.
async fn settled(node: &Node, scene: &Scene, reason: &str) {
    let stream = [("stream", "events")];
    while scene.told(reason).rows == 0 || node.metric("weir_outbox_batches", &stream).await > 0.0 {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_expires_is_counted_across_a_kill_and_told_to_the_core_once() {
    let scene = Scene { spool: r#"max_age = "2s""#, ..Scene::new("50ms").await };
    scene.core.script(Behaviour::Down).unwrap();
    let node = scene.life().await;
    upload(&node, r#"[{"pid":1},{"pid":2},{"pid":3}]"#).await;
    let expired = [("stream", "events"), ("reason", "expired")];
    node.metric_until("weir_records_discarded_total", &expired, |records| records >= 3.0).await;
    node.logged("batches are given up: the core did not take them in time").await;
    node.kill().await;
    let node = scene.life().await;
    scene.core.script(Behaviour::Up).unwrap();
    settled(&node, &scene, "expired").await;
    assert_eq!(scene.delivered(), 0);
    let told = scene.told("expired");
    assert_eq!((told.records, told.total), (3, 3), "{told:?}");
    let stream = &node.status().await["streams"]["events"];
    assert_eq!((&stream["accepted"], &stream["discarded"]), (&3.into(), &3.into()), "{stream}");
    assert_eq!(stream["difference"], 0, "{stream}");
    assert_eq!(stream["losses"]["expired"]["untold"], false, "{stream}");
    upload(&node, r#"[{"pid":4}]"#).await;
    node.metric_until("weir_records_forwarded_total", &[("stream", "events")], |records| records >= 1.0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dead_letter_is_told_to_the_core_and_so_is_its_removal() {
    let scene = Scene { spool: "max_dead_files = 1", ..Scene::new("50ms").await };
    scene.core.script(Behaviour::status(415)).unwrap();
    let node = scene.life().await;
    let dead = [("stream", "events"), ("reason", "dead_letter")];
    upload(&node, r#"[{"pid":1},{"pid":2}]"#).await;
    node.metric_until("weir_records_discarded_total", &dead, |records| records >= 2.0).await;
    upload(&node, r#"[{"pid":3}]"#).await;
    node.metric_until("weir_records_discarded_total", &dead, |records| records >= 3.0).await;
    scene.core.script(Behaviour::Up).unwrap();
    // Rows that this core refused tell of nothing any more; removing them costs no record.
    let dropped = [("stream", "events"), ("reason", "dropped")];
    node.metric_until("weir_losses_total", &dropped, |records| records >= 2.0).await;
    settled(&node, &scene, "dropped").await;
    assert!(scene.told("dropped").total >= 2, "{:?}", scene.told("dropped"));
    let files = std::fs::read_dir(scene.directory.path().join("data/spool/events/dead")).unwrap().count();
    assert_eq!((files, node.metric("weir_dead_letter_files", &[("stream", "events")]).await), (1, 1.0));
    let stream = &node.status().await["streams"]["events"];
    assert_eq!((&stream["accepted"], &stream["discarded"]), (&3.into(), &3.into()), "{stream}");
    assert_eq!(stream["difference"], 0, "{stream}");
}
