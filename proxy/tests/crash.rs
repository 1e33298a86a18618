//! Nothing acknowledged is lost and nothing is counted twice, whenever the node is killed.
//!
//! A fleet uploads while the node is killed with `kill -9` and started anew on the same directory, and while the core is down for a
//! time. In the end each record that an agent had acknowledged is at the core exactly once: by its id where records leave as they came,
//! by the sum of counts of its key where repeats are merged. An upload that got no answer may have been accepted or not.

#![expect(clippy::unwrap_used, reason = "a test has no better use for an error")]

use std::collections::HashMap;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::time::Duration;

use tempfile::TempDir;
use weir_core_sim::{Behaviour, CoreOptions, CoreSim};
use weir_fleet::{Acknowledged, Fleet, FleetOptions, FleetReport, Mix, Remember};
use weir_testkit::Node;

const SAME: [&str; 6] = ["image_path", "cmdline", "sha256", "user", "parent_image", "parent_cmdline"];

/// A node's directory, its core, and the address at which it serves in each of its lives.
struct Scene {
    directory: TempDir,
    core: CoreSim,
    agents: SocketAddr,
    mode: &'static str,
}

impl Scene {
    async fn new(mode: &'static str) -> Self {
        let options = CoreOptions {
            track_field: Some("eid".to_owned()),
            key_fields: SAME.map(str::to_owned).to_vec(),
            ..CoreOptions::default()
        };
        let core = CoreSim::start(options).await.unwrap();
        // Free a moment ago; each life of the node must serve at the same address.
        let agents = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        Self { directory: tempfile::tempdir().unwrap(), core, agents, mode }
    }

    fn config(&self) -> String {
        format!(
            r#"
[edge]
name = "edge-1"
data_dir = "data"
log_format = "json"

[[listener]]
name = "agents"
address = "{agents}"
trusted_headers = true

[admin]
address = "127.0.0.1:0"

[core]
peers = ["{core}"]
breaker_cooldown = "100ms"
ramp = "1s"

[identity]
agent = "header.x-agent-id"
tenant = "header.x-tenant-id"

[[route]]
name = "process-events"
match = {{ method = "POST", path = "/v1/events/process" }}
class = "telemetry"
action = "aggregate"
stream = "process"

[[stream]]
name = "process"
{mode}
batch = {{ max_age = "100ms", max_records = 2000 }}
retry = {{ initial = "50ms", max = "500ms" }}
"#,
            agents = self.agents,
            core = self.core.address(),
            mode = self.mode,
        )
    }

    async fn life(&self) -> Node {
        Node::start(Path::new(env!("CARGO_BIN_EXE_weir")), self.directory.path(), &self.config()).await
    }

    fn fleet(&self) -> Fleet {
        let remember = Remember { key_fields: SAME.map(str::to_owned).to_vec(), max: 10_000_000 };
        let options = FleetOptions {
            targets: vec![self.agents],
            agents: 100,
            requests_per_second: 150.0,
            duration: Duration::from_secs(10),
            mix: Mix { update: 0.0, config: 0.0, tasks: 0.0, upload: 1.0 },
            max_backoff: Duration::from_millis(250),
            obey_retry_after: false,
            remember: Some(remember),
            ..FleetOptions::default()
        };
        Fleet::start(options).unwrap()
    }

    /// Kills the node three times while the fleet uploads, the second time while the core is down; gives back the last life once it
    /// holds nothing any more, and what the fleet remembers.
    async fn play(&self) -> (Node, FleetReport, Acknowledged) {
        let mut node = self.life().await;
        let fleet = self.fleet();
        let memory = fleet.memory();
        for act in 0..3 {
            acknowledged_past(&fleet, 2_000).await;
            if act == 1 {
                self.core.script(Behaviour::Down).unwrap();
                acknowledged_past(&fleet, 2_000).await;
            }
            node.kill().await;
            node = self.life().await;
            self.core.script(Behaviour::Up).unwrap();
        }
        let report = fleet.finish().await;
        node.metric_until("weir_records_held", &[], |held| held == 0.0).await;
        node.metric_until("weir_outbox_batches", &[], |batches| batches == 0.0).await;
        (node, report, memory.acknowledged())
    }
}

/// Waits until so many more records have been acknowledged.
async fn acknowledged_past(fleet: &Fleet, more: u64) {
    let wanted = fleet.snapshot().records.acknowledged + more;
    while fleet.snapshot().records.acknowledged < wanted && !fleet.is_over() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

fn assert_each_key_once(core: &HashMap<String, u64>, agents: &Acknowledged) {
    for (key, acknowledged) in &agents.keys {
        let doubtful = agents.keys_in_doubt.get(key).copied().unwrap_or_default();
        let arrived = core.get(key).copied().unwrap_or_default();
        let right = *acknowledged..=acknowledged + doubtful;
        assert!(right.contains(&arrived), "{key}: acknowledged {acknowledged}, in doubt {doubtful}, arrived {arrived}");
    }
    let known = |key: &String| agents.keys.contains_key(key) || agents.keys_in_doubt.contains_key(key);
    assert!(core.keys().all(known), "records arrived that nobody sent");
}

fn assert_no_batch_changed(core: &CoreSim, report: &FleetReport) {
    let snapshot = core.snapshot();
    assert_eq!(snapshot.batches.conflicting, 0, "a batch id came back with other rows");
    assert_eq!(snapshot.tracked.overflow, 0);
    assert_eq!(report.records.forgotten, 0);
    assert!(report.records.acknowledged > 6_000, "{:?}", report.records);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_acknowledged_record_arrives_exactly_once_through_kill_9() {
    let scene = Scene::new("mode = \"raw\"").await;
    let (_node, report, agents) = scene.play().await;
    assert_no_batch_changed(&scene.core, &report);
    let arrived = scene.core.tracked_ids();
    let wrong: Vec<_> = agents.eids.iter().filter(|eid| arrived.get(*eid) != Some(&1)).take(10).collect();
    assert!(wrong.is_empty(), "not exactly once: {wrong:?}");
    assert!(arrived.values().all(|times| *times == 1));
    assert_each_key_once(&scene.core.tracked_keys(), &agents);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn merged_repeats_count_every_acknowledged_record_through_kill_9() {
    let scene = Scene::new(
        r#"mode = "events"
same = ["image_path", "cmdline", "sha256", "user", "parent_image", "parent_cmdline"]
window = "2s""#,
    )
    .await;
    let (node, report, agents) = scene.play().await;
    assert_no_batch_changed(&scene.core, &report);
    assert_each_key_once(&scene.core.tracked_keys(), &agents);
    let rows = &scene.core.snapshot().streams["process"];
    assert!(rows.repeat_rows > 0 && rows.records > rows.rows, "nothing was merged: {rows:?}");
    let ledger = &node.status().await["streams"]["process"];
    let of = |name: &str| ledger[name].as_u64().unwrap();
    assert_eq!(of("accepted"), of("forwarded") + of("merged") + of("discarded") + of("held"), "{ledger}");
    assert_eq!(ledger["difference"], 0);
}
