//! Purges as operators make them: `weir purge` on a running node.

#![expect(clippy::unwrap_used, reason = "a test has no better use for an error")]

use std::path::Path;
use std::process::{Command, Output};

use tokio::io::{AsyncBufReadExt, BufReader};
use weir_core_sim::{Behaviour, CoreOptions, CoreSim, EndpointKind};
use weir_testkit::{Node, http};

const WEIR: &str = env!("CARGO_BIN_EXE_weir");

fn config(core: &str, admin: &str) -> String {
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
agent = "header.x-agent-id"

[[route]]
name = "updates"
match = {{ method = "GET", path = "/v1/updates/{{channel}}/manifest.json" }}
class = "update"
action = "cache"
key = ["path.channel", "query.os"]
shared = true

[[route]]
name = "config"
match = {{ method = "GET", path = "/v1/config" }}
class = "config"
action = "cache"

[[route]]
name = "tasks"
match = {{ method = "GET", path = "/v1/agents/{{agent}}/tasks" }}
class = "tasking"
action = "lookup"
lookup = {{ path = "/v1/tasks:lookup", key = ["identity.agent"], ttl = "10m" }}

[[route]]
name = "change"
match = {{ method = ["PUT", "DELETE"], path = "/v1/{{rest*}}" }}
class = "config"
action = "forward"
"#
    )
}

struct Scene {
    directory: tempfile::TempDir,
    core: CoreSim,
    node: Node,
}

impl Scene {
    async fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let core = CoreSim::start(CoreOptions::default()).await.unwrap();
        let file = config(&core.address().to_string(), "127.0.0.1:0");
        let node = Node::start(Path::new(WEIR), directory.path(), &file).await;
        // The command reads the admin address from a file: it must name the port that the node was given.
        let file = config(&core.address().to_string(), &node.admin().to_string());
        std::fs::write(directory.path().join("operator.toml"), file).unwrap();
        Self { directory, core, node }
    }

    async fn get(&self, target: &str, tenant: &str) -> String {
        self.get_as(target, tenant, "a-1").await
    }

    async fn get_as(&self, target: &str, tenant: &str, agent: &str) -> String {
        let address = self.node.listener("agents");
        let answer = http::send(address, "GET", target, &[("x-tenant-id", tenant), ("x-agent-id", agent)], "").await;
        answer.header("cache-status").to_owned()
    }

    fn purge(&self, arguments: &[&str]) -> Output {
        let file = self.directory.path().join("operator.toml");
        Command::new(WEIR).arg("purge").arg("-c").arg(file).args(arguments).output().unwrap()
    }

    fn purged(&self, arguments: &[&str]) -> String {
        let output = self.purge(arguments);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }
}

const STABLE: &str = "/v1/updates/stable/manifest.json?os=win";
const BETA: &str = "/v1/updates/beta/manifest.json?os=win";

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_purges_by_request_prefix_route_tenant_and_all() {
    let scene = Scene::new().await;
    let fill = async || {
        for (target, tenant) in [(STABLE, "t-1"), (BETA, "t-1"), ("/v1/config", "t-1"), ("/v1/config", "t-2")] {
            scene.get(target, tenant).await;
            assert!(scene.get(target, tenant).await.starts_with("weir; hit"), "{target}");
        }
    };
    let left = async || {
        let mut left = Vec::new();
        for (target, tenant) in [(STABLE, "t-1"), (BETA, "t-1"), ("/v1/config", "t-1"), ("/v1/config", "t-2")] {
            left.push(scene.get(target, tenant).await.starts_with("weir; hit"));
        }
        left
    };
    fill().await;
    assert!(scene.purged(&["request", STABLE]).starts_with("the answer is out of use"));
    assert_eq!(left().await, [false, true, true, true]);
    scene.purged(&["prefix", "/v1/updates/"]);
    assert_eq!(left().await, [false, false, true, true]);
    assert!(scene.purged(&["tenant", "t-2"]).starts_with("1 answers are"));
    assert_eq!(left().await, [true, true, true, false]);
    assert!(scene.purged(&["route", "config"]).starts_with("2 answers are"));
    assert_eq!(left().await, [true, true, false, false]);
    assert!(scene.purged(&["--soft", "all"]).starts_with("4 answers are stale from now on"));
    // Served stale at once, and fetched anew behind the agents' backs.
    assert!(scene.get(STABLE, "t-1").await.contains("weir; hit; ttl=0"));
    assert!(scene.core.snapshot().requests > 8);
}

#[tokio::test(flavor = "multi_thread")]
async fn kept_lookup_answers_are_purged_and_counted_like_cached_ones() {
    let scene = Scene::new().await;
    let tasks = "/v1/agents/any/tasks";
    let asked = [("t-1", "a-1"), ("t-1", "a-2"), ("t-2", "a-1")];
    let left = async || {
        let mut left = Vec::new();
        for (tenant, agent) in asked {
            left.push(scene.get_as(tasks, tenant, agent).await.starts_with("weir; hit"));
        }
        left
    };
    left().await;
    assert_eq!(left().await, [true; 3]);
    assert!(scene.purged(&["tenant", "t-1"]).starts_with("2 answers are"));
    assert_eq!(left().await, [false, false, true]);
    assert!(scene.purged(&["route", "tasks"]).starts_with("3 answers are"));
    assert_eq!(left().await, [false; 3]);
    scene.get(STABLE, "t-1").await;
    assert!(scene.purged(&["all"]).starts_with("4 answers are"));
    assert_eq!(left().await, [false; 3]);
    scene.purged(&["prefix", "/v1/agents/"]);
    assert_eq!(left().await, [false; 3]);
    assert_eq!(left().await, [true; 3]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_that_the_core_takes_puts_the_tenants_and_the_shared_answers_of_its_path_out_of_use() {
    let scene = Scene::new().await;
    let asked = [(STABLE, "t-1"), (BETA, "t-1"), ("/v1/config", "t-1"), ("/v1/config", "t-2")];
    let left = async || {
        let mut left = Vec::new();
        for (target, tenant) in asked {
            left.push(scene.get(target, tenant).await.starts_with("weir; hit"));
        }
        left
    };
    let change = async |method, target, tenant| {
        let address = scene.node.listener("agents");
        http::send(address, method, target, &[("x-tenant-id", tenant)], "{}").await.status.as_u16()
    };
    left().await;
    assert_eq!(left().await, [true; 4]);
    let taken = |kind| scene.core.fail_next(Some(kind), 1, Behaviour::status(204));
    taken(EndpointKind::Config);
    assert_eq!(change("PUT", "/v1/config", "t-1").await, 204);
    assert_eq!(left().await, [true, true, false, true], "the other tenant's stays");
    taken(EndpointKind::Update);
    assert_eq!(change("DELETE", "/v1/updates/stable/manifest.json", "t-2").await, 204);
    assert_eq!(left().await, [false, true, true, true], "a shared answer, whatever its query");
    assert_eq!(change("PUT", "/v1/config", "t-1").await, 405);
    assert_eq!(left().await, [true; 4], "a change that the core refuses changes nothing");
}

/// The trace is of a few requests, all of them before anything expires: what a rehearsal finds asked for again was purged.
#[tokio::test(flavor = "multi_thread")]
async fn purges_and_changes_stand_in_a_trace_and_happen_again_in_a_rehearsal() {
    let scene = Scene::new().await;
    let operators = scene.directory.path().join("operator.toml");
    let weir = || Command::new(WEIR);
    let mut trace = tokio::process::Command::from(weir());
    trace.args(["trace", "--sample", "1", "--seconds", "600", "-c"]).arg(&operators).kill_on_drop(true);
    let mut trace = trace.stdout(std::process::Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(trace.stdout.take().unwrap()).lines();
    lines.next_line().await.unwrap().unwrap();
    let manifest = "/v1/updates/stable/manifest.json";
    scene.get(manifest, "t-1").await;
    scene.purged(&["request", manifest]);
    scene.purged(&["tag", "release-7"]);
    scene.get(manifest, "t-1").await;
    scene.core.fail_next(Some(EndpointKind::Update), 1, Behaviour::status(204));
    let address = scene.node.listener("agents");
    let answer = http::send(address, "PUT", manifest, &[("x-tenant-id", "t-1"), ("x-agent-id", "a-1")], "").await;
    assert_eq!(answer.status.as_u16(), 204);
    scene.get(manifest, "t-1").await;
    // Of each request its line, and of each purge and change.
    let mut told = Vec::new();
    while told.len() < 7 {
        told.push(lines.next_line().await.unwrap().unwrap());
    }
    let all = told.join("\n");
    assert!(!all.contains("stable") && !all.contains("release-7"), "{all}");
    let count = |kind: &str| told.iter().filter(|line| line.starts_with(&format!("{{\"purge\":\"{kind}\""))).count();
    assert_eq!([count("request"), count("tag"), count("change")], [1, 1, 1], "{all}");
    let asked = |told: &[&String]| {
        let head = "{\"weir_trace\":1,\"edge\":\"e\",\"began\":1700000000000,\"sample\":1.0,\"salt\":\"s\"}";
        let end = format!(
            "{{\"weir_trace_end\":\"time\",\"covered\":10000,\"lines\":{},\"too_long\":0,\"requests\":{{}}}}",
            told.len()
        );
        let text: Vec<_> = [head].into_iter().chain(told.iter().map(|line| line.as_str())).chain([&*end]).collect();
        let file = scene.directory.path().join("trace.jsonl");
        std::fs::write(&file, text.join("\n")).unwrap();
        let mut command = weir();
        command.arg("rehearse").arg(&operators).arg("--old").arg(&operators).arg("--json").arg("--trace").arg(file);
        let output = command.output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let said: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        let routes = said["routes"].as_array().unwrap();
        let updates = routes.iter().find(|route| route["route"] == "updates").unwrap();
        updates["new"]["core_requests"].as_f64().unwrap()
    };
    let every: Vec<_> = told.iter().collect();
    let without = |kind: &str| -> Vec<_> { told.iter().filter(|line| !line.contains(kind)).collect() };
    // What the core was asked for: again after the purge of the request, and after the change.
    let all_of_them = asked(&every);
    assert!(all_of_them > asked(&without("\"purge\":\"request\"")) + 0.5, "{all}");
    assert!(all_of_them > asked(&without("\"purge\":\"change\"")) + 0.5, "{all}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_order_says_what_was_expected() {
    let scene = Scene::new().await;
    for (arguments, code, named) in [
        (&["route", "nowhere"][..], 2, "there are: tasks, config, updates"),
        (&["prefix", "v1"], 2, "begins with `/`"),
        (&["request", "/nowhere"], 2, "no route takes this request"),
        (&["request", "/v1/config"], 2, "who asks"),
        (&["tag", "has space"], 2, "can be no tag"),
    ] {
        let output = scene.purge(arguments);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {said}");
        assert!(said.contains(named), "{arguments:?}: {said}");
    }
    for body in ["{}", "{\"all\":true,\"tag\":\"x\"}", "{\"every\":1}", "no json"] {
        let answer = http::send(scene.node.admin(), "POST", "/purge", &[], body).await;
        assert_eq!(answer.status.as_u16(), 400, "{body}");
    }
}
