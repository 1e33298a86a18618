//! A release on its way through a running node: what agents are given, the operator's word, and a crash.

#![expect(clippy::unwrap_used, reason = "a test has no better use for an error")]

use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;

use weir_core_sim::{CoreOptions, CoreSim};
use weir_testkit::ground::{ground, ground_with_admin};
use weir_testkit::{Node, http};

const WEIR: &str = env!("CARGO_BIN_EXE_weir");

/// Half of the agents are reached at once: the test waits for nothing.
const ROUTE: &str = r#"
[[route]]
name = "updates"
match = { method = "GET", path = "/v1/updates/{channel}/manifest.json" }
class = "update"
action = "cache"
key = ["path.channel"]
shared = true
stale_while_revalidate = "0s"
rollout = { over = "0s", share = "50 %" }
"#;

struct Scene {
    directory: tempfile::TempDir,
    core: CoreSim,
    node: Node,
}

impl Scene {
    async fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let core = CoreSim::start(CoreOptions::default()).await.unwrap();
        let node = Self::node(directory.path(), &core).await;
        Self { directory, core, node }
    }

    async fn node(directory: &Path, core: &CoreSim) -> Node {
        let node = Node::start(Path::new(WEIR), directory, &format!("{}{ROUTE}", ground(core.address()))).await;
        // The command reads the admin address from a file: it must name the port that the node was given.
        let file = format!("{}{ROUTE}", ground_with_admin(core.address(), node.admin()));
        std::fs::write(directory.join("operator.toml"), file).unwrap();
        node
    }

    /// The entity tag that each of 60 agents is given.
    async fn given(&self) -> Vec<String> {
        let mut given = Vec::new();
        for number in 0..60 {
            let agent = format!("agent-{number}");
            let target = "/v1/updates/stable/manifest.json";
            let answer = http::send(self.node.listener("agents"), "GET", target, &[("x-agent-id", &agent)], "").await;
            assert_eq!(answer.status.as_u16(), 200);
            given.push(answer.header("etag").to_owned());
        }
        given
    }

    fn weir(&self, command: &str, arguments: &[&str]) -> Output {
        let file = self.directory.path().join("operator.toml");
        Command::new(WEIR).arg(command).args(arguments).arg("-c").arg(file).output().unwrap()
    }

    fn said(&self, command: &str, arguments: &[&str]) -> String {
        let output = self.weir(command, arguments);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    /// Waits until the release on its way is on disk.
    async fn saved(&self) {
        let holds = |file: std::fs::DirEntry| {
            let bytes = std::fs::read(file.path()).unwrap_or_default();
            file.path().extension().is_some_and(|extension| extension == "release")
                && bytes.windows(20).any(|part| part == b"\"candidate\":{\"digest")
        };
        let directory = self.directory.path().join("data/rollouts");
        for _ in 0..500 {
            if std::fs::read_dir(&directory).is_ok_and(|mut files| files.any(|file| holds(file.unwrap()))) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("nothing was saved");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_release_reaches_its_share_outlives_a_crash_and_obeys_the_operator() {
    let mut scene = Scene::new().await;
    let old = scene.given().await.remove(0);
    assert_eq!(scene.said("rollout", &["list"]), "no release is on its way\n");
    scene.core.bump_manifest();
    scene.said("purge", &["--soft", "route", "updates"]);
    let half = scene.given().await;
    let count = half.iter().filter(|tag| **tag == old).count();
    assert!((10..=50).contains(&count), "{count} of 60 have the previous one");
    let new = half.iter().find(|tag| **tag != old).unwrap().clone();
    let list = scene.said("rollout", &["list", "updates"]);
    assert!(list.starts_with("updates /v1/updates/stable/manifest.json: 50.0% of the agents, going"), "{list}");

    scene.saved().await;
    scene.node.kill().await;
    scene.node = Scene::node(scene.directory.path(), &scene.core).await;
    assert_eq!(scene.given().await, half, "a node that starts takes nobody further and nobody back");

    assert_eq!(scene.said("rollout", &["abort", "updates"]), "abort: 1 key of updates\n");
    assert!(scene.given().await.iter().all(|tag| *tag == old));
    assert_eq!(scene.said("rollout", &["resume", "updates"]), "resume: 1 key of updates\n");
    assert_eq!(scene.given().await, half);
    assert_eq!(scene.said("rollout", &["share", "updates", "0.5"]), "share: 1 key of updates\n");
    assert_eq!(scene.said("rollout", &["finish", "updates"]), "finish: 1 key of updates\n");
    assert!(scene.given().await.iter().all(|tag| *tag == new));
    let answers = scene.node.metric("weir_rollout_answers_total", &[("release", "previous")]).await;
    assert!(answers >= 60.0, "{answers}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_order_says_what_was_expected() {
    let scene = Scene::new().await;
    for (arguments, named) in [
        (&["pause", "nowhere"][..], "there are: updates"),
        (&["pause", "updates"], "no release is on its way there"),
        (&["pause", "updates", "--key", "x"], "in hexadecimal"),
        (&["share", "updates", "150%"], "a number from 0 to 1"),
    ] {
        let output = scene.weir("rollout", arguments);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {said}");
        assert!(said.contains(named), "{arguments:?}: {said}");
    }
    for body in [
        "{}",
        r#"{"route":"updates","action":"stop"}"#,
        r#"{"route":"updates","action":"pause","share":"1"}"#,
        "no json",
    ] {
        let answer = http::send(scene.node.admin(), "POST", "/rollouts", &[], body).await;
        assert_eq!(answer.status.as_u16(), 400, "{body}");
    }
}
