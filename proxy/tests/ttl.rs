//! What other TTLs would mean, as operators ask for it: `weir ttl` on a running node.

#![expect(clippy::unwrap_used, reason = "a test has no better use for an error")]

use std::path::Path;
use std::process::{Command, Output};

use weir_core_sim::{CoreOptions, CoreSim};
use weir_testkit::{Node, http};

const WEIR: &str = env!("CARGO_BIN_EXE_weir");

fn config(core: &str, admin: &str, keys: usize) -> String {
    format!(
        r#"
[edge]
data_dir = "data"
log_format = "json"

[[listener]]
name = "agents"
address = "127.0.0.1:0"
trusted_headers = true

[admin]
address = "{admin}"

[core]
peers = ["{core}"]

[identity]
tenant = "header.x-tenant-id"
agent = "path.agent"

[limits.cache]
what_if_keys = {keys}

[[route]]
name = "updates"
match = {{ method = "GET", path = "/v1/updates/{{channel}}/manifest.json" }}
class = "update"
action = "cache"
key = ["path.channel"]
shared = true
ttl = {{ ok = "10m" }}

[[route]]
name = "tasks"
match = {{ method = "GET", path = "/v1/agents/{{agent}}/tasks" }}
class = "tasking"
action = "lookup"
lookup = {{ path = "/v1/tasks:lookup", key = ["identity.agent"], ttl = "5m" }}
"#
    )
}

struct Scene {
    directory: tempfile::TempDir,
    core: CoreSim,
    node: Node,
}

impl Scene {
    async fn new(keys: usize) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let core = CoreSim::start(CoreOptions::default()).await.unwrap();
        let file = config(&core.address().to_string(), "127.0.0.1:0", keys);
        let node = Node::start(Path::new(WEIR), directory.path(), &file).await;
        // The command reads the admin address from a file: it must name the port that the node was given.
        let file = config(&core.address().to_string(), &node.admin().to_string(), keys);
        std::fs::write(directory.path().join("operator.toml"), file).unwrap();
        Self { directory, core, node }
    }

    async fn get(&self, target: &str) {
        let address = self.node.listener("agents");
        http::send(address, "GET", target, &[("x-tenant-id", "t-1")], "").await;
    }

    fn ttl(&self, arguments: &[&str]) -> Output {
        let file = self.directory.path().join("operator.toml");
        Command::new(WEIR).arg("ttl").arg("-c").arg(file).args(arguments).output().unwrap()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_reads_what_other_ttls_would_mean() {
    let scene = Scene::new(100).await;
    for round in 0..5 {
        for channel in ["stable", "beta"] {
            scene.get(&format!("/v1/updates/{channel}/manifest.json")).await;
        }
        scene.get("/v1/agents/a-1/tasks").await;
        if round == 0 {
            assert_eq!(scene.core.snapshot().requests, 3, "the first of each kind");
        }
    }
    let output = scene.ttl(&[]);
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{said}");
    for (about, count) in [("updates: 10 requests", 1), ("2 keys watched, 100.0% of all", 1), ("tasks: 5 requests", 1)]
    {
        assert_eq!(said.matches(about).count(), count, "{about}: {said}");
    }
    // Within so short a time no candidate would have asked more than once a key.
    assert_eq!(said.matches(" 80.0% ").count(), 12, "{said}");
    assert!(said.contains("today           10m") && said.contains("x8           80m"), "{said}");
    let alone = String::from_utf8(scene.ttl(&["updates"]).stdout).unwrap();
    assert!(alone.starts_with("updates: ") && !alone.contains("tasks"), "{alone}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_told_is_said() {
    let scene = Scene::new(0).await;
    let output = scene.ttl(&[]);
    assert_eq!(output.status.code(), Some(69));
    assert!(String::from_utf8_lossy(&output.stderr).contains("what_if_keys is 0"));
    let scene = Scene::new(10).await;
    let output = scene.ttl(&["nowhere"]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2));
    assert!(said.contains("there are: tasks, updates"), "{said}");
    let answer = http::send(scene.node.admin(), "POST", "/ttl", &[], "").await;
    assert_eq!(answer.status.as_u16(), 405);
}
