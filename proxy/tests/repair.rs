//! `weir spool repair`: a torn end, flipped bits and a lost line are dealt with before the node runs again, and the books show it.

#![expect(clippy::unwrap_used, reason = "a test has no better use for an error")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use tempfile::TempDir;
use weir_core_sim::{Behaviour, CoreOptions, CoreSim, EndpointKind};
use weir_testkit::{Node, ground, http};

const WEIR: &str = env!("CARGO_BIN_EXE_weir");

struct Scene {
    directory: TempDir,
    core: CoreSim,
}

impl Scene {
    async fn new() -> Self {
        Self { directory: tempfile::tempdir().unwrap(), core: CoreSim::start(CoreOptions::default()).await.unwrap() }
    }

    async fn life(&self) -> Node {
        let config = format!(
            r#"{ground}connect_timeout = "1s"

[[route]]
name = "process"
match = {{ method = "POST", path = "/v1/process" }}
class = "telemetry"
action = "aggregate"
stream = "process"

[[stream]]
name = "process"
mode = "events"
same = ["image"]
window = "1h"
batch = {{ max_age = "20ms" }}
retry = {{ initial = "20ms", max = "100ms" }}
"#,
            ground = ground(self.core.address()),
        );
        Node::start(Path::new(WEIR), self.directory.path(), &config).await
    }

    fn files(&self, place: &str) -> Vec<PathBuf> {
        let dir = self.directory.path().join("data/spool/process").join(place);
        let mut files: Vec<PathBuf> = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
        files.sort_unstable();
        files
    }

    /// Every file of the spool and its bytes.
    fn content(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        let all = ["", "journal", "outbox", "dead"].into_iter().flat_map(|place| self.files(place));
        all.filter(|path| path.is_file()).map(|path| (path.clone(), std::fs::read(path).unwrap())).collect()
    }

    fn weir_spool(&self, arguments: &[&str]) -> (i32, String, String) {
        let mut command = Command::new(WEIR);
        let output = command.arg("spool").args(arguments).current_dir(self.directory.path()).output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
    }
}

async fn upload(node: &Node, body: &'static str) {
    let who = [("x-agent-id", "a-1"), ("x-tenant-id", "t-1")];
    let answer = http::send(node.listener("agents"), "POST", "/v1/process", &who, body).await;
    assert_eq!(answer.status.as_u16(), 202, "{}", answer.text());
}

fn damage(path: &Path, change: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = std::fs::read(path).unwrap();
    change(&mut bytes);
    std::fs::write(path, bytes).unwrap();
}

fn place_of(bytes: &[u8], text: &str) -> usize {
    bytes.windows(text.len()).position(|window| window == text.as_bytes()).unwrap()
}

async fn batches(node: &Node, count: f64) {
    node.metric_until("weir_outbox_batches", &[("stream", "process")], |batches| batches >= count).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_spool_is_made_whole_and_the_node_goes_on_with_it() {
    let scene = Scene::new().await;
    scene.core.script_for(EndpointKind::Batch, Behaviour::Down);
    let node = scene.life().await;
    // Each is a generation and a batch of its own; the segments stay for as long as the windows are open.
    upload(&node, r#"[{"image":"first"},{"image":"first"}]"#).await;
    batches(&node, 1.0).await;
    upload(&node, r#"[{"image":"second"},{"image":"second"},{"image":"second"}]"#).await;
    batches(&node, 2.0).await;
    upload(&node, r#"[{"image":"third"}]"#).await;
    batches(&node, 3.0).await;
    let (code, _, errors) = scene.weir_spool(&["repair", "data"]);
    assert!(code == 69 && errors.contains("in use by another node"), "{errors}");
    node.kill().await;

    let segments = scene.files("journal");
    let flip = |bytes: &mut Vec<u8>| {
        let at = place_of(bytes, "first");
        bytes[at] ^= 1;
    };
    damage(&segments[0], flip);
    damage(segments.last().unwrap(), |bytes| bytes.extend_from_slice(b"the beginning of an en"));
    damage(&scene.files("outbox")[1], |bytes| *bytes.last_mut().unwrap() ^= 1);
    assert_eq!(scene.weir_spool(&["verify", "data"]).0, 65);

    let before = scene.content();
    let (code, plan, errors) = scene.weir_spool(&["repair", "data", "--dry-run"]);
    assert_eq!(code, 0, "{errors}");
    assert_eq!(scene.content(), before);
    let (code, done, errors) = scene.weir_spool(&["repair", "data"]);
    assert_eq!(code, 0, "{errors}");
    for said in ["written anew without 1 entries", "a write was never finished", "given up with 1 records"] {
        assert!(done.contains(said), "{said}: {done}");
    }
    assert_eq!(
        plan.replace("would be ", ""),
        done.lines().filter(|line| !line.contains(" is whole: ")).map(|line| format!("{line}\n")).collect::<String>()
    );
    let (code, again, _) = scene.weir_spool(&["repair", "data"]);
    assert!(code == 0 && again.ends_with(" files, 2 of them put aside\n"), "{again}");

    scene.core.script_for(EndpointKind::Batch, Behaviour::Up);
    let node = scene.life().await;
    node.metric_until("weir_records_forwarded_total", &[("stream", "process")], |records| records >= 2.0).await;
    let stream = &node.status().await["streams"]["process"];
    let count = |field: &str| stream[field].as_u64().unwrap();
    assert_eq!(stream["difference"], Value::from(0), "{stream}");
    // The repeat that waited in the damaged segment is lost by its number, the second batch is a dead letter.
    assert_eq!((count("accepted"), count("forwarded"), count("discarded")), (6, 2, 2), "{stream}");
}
