//! A trace as operators record it: `weir trace` on a running node.

#![expect(clippy::unwrap_used, reason = "a test has no better use for an error")]

use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};

use weir_core_sim::{CoreOptions, CoreSim};
use weir_logic::rehearse::{End, Head, Line, Reader};
use weir_testkit::ground::{ground, ground_with_admin};
use weir_testkit::{Node, http};

const WEIR: &str = env!("CARGO_BIN_EXE_weir");

const ROUTES: &str = r#"
[[route]]
name = "updates"
match = { method = "GET", path = "/v1/updates/{channel}/manifest.json" }
class = "update"
action = "cache"
key = ["path.channel", "query.os"]
shared = true
ttl = { ok = "10m" }

[[route]]
name = "tasks"
match = { method = "GET", path = "/v1/agents/{agent}/tasks" }
class = "tasking"
action = "lookup"
lookup = { path = "/v1/tasks:lookup", key = ["identity.agent"], ttl = "5m" }

[[route]]
name = "rest"
match = { method = "GET", path = "/v1/{rest*}" }
class = "config"
action = "forward"
"#;

struct Scene {
    directory: tempfile::TempDir,
    _core: CoreSim,
    node: Node,
}

impl Scene {
    async fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let core = CoreSim::start(CoreOptions::default()).await.unwrap();
        let file = ground(core.address()) + ROUTES;
        let node = Node::start(Path::new(WEIR), directory.path(), &file).await;
        // The command reads the admin address from a file: it must name the port that the node was given.
        let file = ground_with_admin(core.address(), node.admin()) + ROUTES;
        std::fs::write(directory.path().join("operator.toml"), file).unwrap();
        Self { directory, _core: core, node }
    }

    async fn get(&self, target: &str, agent: &str, tenant: &str) {
        let headers = [("x-agent-id", agent), ("x-tenant-id", tenant)];
        http::send(self.node.listener("agents"), "GET", target, &headers, "").await;
    }

    fn operators_file(&self) -> PathBuf {
        self.directory.path().join("operator.toml")
    }

    fn trace(&self, arguments: &[&str]) -> tokio::process::Child {
        let mut command = tokio::process::Command::new(WEIR);
        command.arg("trace").arg("-c").arg(self.operators_file()).args(arguments);
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    }
}

fn read(output: &Output) -> (Head, Vec<Line>, End) {
    let mut reader = Reader::default();
    let lines = output.stdout.trim_ascii_end().split(|byte| *byte == b'\n');
    let lines = lines.filter_map(|line| reader.take(line).unwrap()).collect();
    let (head, end) = reader.finish().unwrap();
    (head, lines, end)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trace_tells_how_requests_ended_and_not_whose_they_were() {
    let scene = Scene::new().await;
    scene.get("/v1/updates/before/manifest.json", "agent-before", "tenant-before").await;
    let child = scene.trace(&["--seconds", "3", "--sample", "1"]);
    scene.node.logged("recording a trace").await;
    for _ in 0..2 {
        scene
            .get("/v1/updates/secretchannel/manifest.json?os=secretos&secretname=1", "secretagent", "secrettenant")
            .await;
        scene.get("/v1/agents/secretagent/tasks", "secretagent", "secrettenant").await;
    }
    scene.get("/v1/ping/secretpath", "secretagent", "secrettenant").await;
    scene.get("/v2/secretpath", "secretagent", "secrettenant").await;
    let output = child.wait_with_output().await.unwrap();
    let said = String::from_utf8(output.stderr.clone()).unwrap();
    assert!(output.status.success() && said.starts_with("5 of 5 requests in 3."), "{said}");
    assert!(!String::from_utf8_lossy(&output.stdout).contains("secret"));
    let (head, mut lines, end) = read(&output);
    assert_eq!((head.edge.as_str(), head.sample, end.requests["updates"]), ("edge-1", 1.0, 2));
    // Lines stand in the order in which requests ended, which is a moment after their agents knew.
    lines.sort_by(|one, other| (&one.route, one.core.is_none()).cmp(&(&other.route, other.core.is_none())));
    let told: Vec<_> = lines.iter().map(|line| (&*line.route, &*line.outcome, line.core.is_some())).collect();
    let expected = [
        ("rest", "forwarded", true),
        ("tasks", "miss", true),
        ("tasks", "hit", false),
        ("updates", "miss", true),
        ("updates", "hit", false),
    ];
    assert_eq!(told, expected);
    let same = |of: fn(&Line) -> Option<&String>| lines.iter().all(|line| of(line) == of(&lines[0]));
    assert!(same(|line| line.agent.as_ref()) && same(|line| line.tenant.as_ref()), "equal values have equal marks");
    assert!(lines[3].bytes > 0 && lines[3].status == Some(200), "{:?}", lines[3]);
    assert!(lines[1].path.starts_with("/v1/agents/~") && lines[1].path.ends_with("/tasks"), "{:?}", lines[1]);
}

#[tokio::test(flavor = "multi_thread")]
async fn there_is_one_trace_at_a_time_until_nobody_reads_it() {
    let scene = Scene::new().await;
    let mut first = scene.trace(&["--seconds", "600"]);
    scene.node.logged("recording a trace").await;
    let second = scene.trace(&["--seconds", "1"]).wait_with_output().await.unwrap();
    let said = String::from_utf8_lossy(&second.stderr).into_owned();
    assert_eq!(second.status.code(), Some(69));
    assert!(said.contains("there is one at a time") && second.stdout.is_empty(), "{said}");
    first.kill().await.unwrap();
    // The node learns of it when it writes next.
    scene.node.logged("the trace is over").await;
    let third = scene.trace(&["--seconds", "0.2"]).wait_with_output().await.unwrap();
    assert!(third.status.success(), "{}", String::from_utf8_lossy(&third.stderr));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_beyond_its_bounds_is_refused() {
    let scene = Scene::new().await;
    for (arguments, problem) in [
        (["--seconds", "7200"], "at most 1h, which admin.max_trace_time says"),
        (["--sample", "1.5"], "`sample` is from 0.000001 to 1"),
        (["--header", "a b"], "a header's name has forbidden characters"),
    ] {
        let output = scene.trace(&arguments).wait_with_output().await.unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(said.contains(problem), "{said}");
    }
    let answer = http::get(scene.node.admin(), "/trace").await;
    assert_eq!(answer.status.as_u16(), 405);
}
