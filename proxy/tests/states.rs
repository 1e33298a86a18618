//! A stream of states through the real node: the core sees changes only, and every record is in a count, through `kill -9`.

#![expect(clippy::unwrap_used, reason = "a test has no better use for an error")]

use std::collections::BTreeMap;
use std::path::Path;

use tempfile::TempDir;
use weir_core_sim::{CoreOptions, CoreSim};
use weir_testkit::{Node, ground, http};

const AGENTS: u64 = 20;

struct Scene {
    directory: TempDir,
    core: CoreSim,
    /// Records acknowledged, by the key under which the core sums their counts.
    acknowledged: BTreeMap<String, u64>,
}

impl Scene {
    async fn new() -> Self {
        let options = CoreOptions {
            track_field: Some("sid".to_owned()),
            key_fields: vec!["disk".to_owned()],
            ..CoreOptions::default()
        };
        let core = CoreSim::start(options).await.unwrap();
        Self { directory: tempfile::tempdir().unwrap(), core, acknowledged: BTreeMap::new() }
    }

    async fn life(&self, mode: &str) -> Node {
        let config = format!(
            r#"{ground}
[[route]]
name = "inventory"
match = {{ method = "POST", path = "/v1/inventory" }}
class = "telemetry"
action = "aggregate"
stream = "inventory"

[[stream]]
name = "inventory"
{mode}
batch = {{ max_age = "50ms" }}
retry = {{ initial = "50ms", max = "500ms" }}
"#,
            ground = ground(self.core.address()),
        );
        Node::start(Path::new(env!("CARGO_BIN_EXE_weir")), self.directory.path(), &config).await
    }

    /// Every agent says how full its two disks are; each state has a number of its own.
    async fn report(&mut self, node: &Node, version: impl Fn(u64) -> u64) {
        for agent in 0..AGENTS {
            let body: String = (0..2)
                .map(|disk| {
                    let version = version(agent);
                    format!("{{\"disk\":\"{disk}\",\"sid\":\"{agent}-{disk}-{version}\",\"free\":{version}}}\n")
                })
                .collect();
            let name = format!("a-{agent}");
            let headers =
                [("content-type", "application/x-ndjson"), ("x-agent-id", name.as_str()), ("x-tenant-id", "t-1")];
            let answer = http::send(node.listener("agents"), "POST", "/v1/inventory", &headers, body).await;
            assert_eq!(answer.status, 202, "{}", answer.text());
            for disk in 0..2 {
                *self.acknowledged.entry(format!("[\"t-1\",\"{name}\",\"{disk}\"]")).or_default() += 1;
            }
        }
    }

    fn state_rows(&self) -> u64 {
        self.core.snapshot().streams.get("inventory").map_or(0, |counts| counts.state_rows)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_core_sees_changes_only_and_counts_are_exact_through_kill_9() {
    let mut scene = Scene::new().await;
    let state = "mode = \"state\"\nkey = [\"disk\"]\nwindow = \"1s\"";
    let mut node = scene.life(state).await;
    scene.report(&node, |_| 1).await;
    node.metric_until("weir_records_forwarded_total", &[], |rows| rows == 40.0).await;
    for _ in 0..3 {
        scene.report(&node, |_| 1).await;
        node.kill().await;
        node = scene.life(state).await;
    }
    // One agent in twenty changes.
    let changed = |agent: u64| 1 + u64::from(agent == 7);
    scene.report(&node, changed).await;
    node.metric_until("weir_records_forwarded_total", &[], |rows| rows == 42.0).await;
    node.metric_until("weir_journal_bytes", &[], |bytes| bytes == 0.0).await;
    // Only tables know of the states now.
    node.kill().await;
    node = scene.life(state).await;
    scene.report(&node, changed).await;
    node.metric_until("weir_journal_bytes", &[], |bytes| bytes == 0.0).await;
    assert_eq!(scene.state_rows(), 42);

    // What has been counted leaves when the mode changes.
    node.kill().await;
    let node = scene.life("mode = \"raw\"").await;
    node.metric_until("weir_records_held", &[], |held| held == 0.0).await;
    let counts = &scene.core.snapshot().streams["inventory"];
    assert_eq!((counts.state_rows, counts.event_rows), (42, 0), "{counts:?}");
    assert_eq!(counts.records, 6 * 2 * AGENTS);
    let arrived: BTreeMap<String, u64> = scene.core.tracked_keys().into_iter().collect();
    assert_eq!(arrived, scene.acknowledged);
    assert!(scene.core.tracked_ids().values().all(|times| *times == 1), "a state was sent again");
    let ledger = &node.status().await["streams"]["inventory"];
    assert_eq!(ledger["difference"], 0, "{ledger}");
}
