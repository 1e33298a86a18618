//! Large answers through the real binary: one transfer from the core, every byte right, memory flat, and what a kill leaves.

#![expect(clippy::unwrap_used, reason = "a test has no better use for an error")]

use std::path::Path;
use std::sync::Arc;

use http_body_util::BodyExt;
use rustls::ClientConfig;
use tempfile::TempDir;
use weir_core_sim::{Behaviour, CoreOptions, CoreSim, EndpointCounts, EndpointKind, package_bytes};
use weir_testkit::http::Connection;
use weir_testkit::{Authority, Node};

const WEIR: &str = env!("CARGO_BIN_EXE_weir");
const MIB: usize = 1 << 20;

/// A core, a directory, and the node on it.
struct Scene {
    directory: TempDir,
    authority: Authority,
    core: CoreSim,
}

impl Scene {
    async fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let authority = Authority::new(directory.path());
        authority.server("server", &["localhost"]);
        Self { authority, core: CoreSim::start(CoreOptions::default()).await.unwrap(), directory }
    }

    async fn node(&self) -> Node {
        let config = format!(
            r#"
[edge]
name = "edge-1"
data_dir = "data"
log_format = "json"
threads = 2

[[listener]]
name = "agents"
address = "127.0.0.1:0"
tls = {{ certificate = "server.pem", key = "server.key" }}

[admin]
address = "127.0.0.1:0"

[core]
peers = ["{core}"]

[[route]]
name = "packages"
match = {{ path = "/v1/packages/{{name}}" }}
class = "download"
action = "cache"
key = ["path.name", "query.bytes", "query.delay_ms"]
shared = true
store = "disk"
"#,
            core = self.core.address()
        );
        Node::start(Path::new(WEIR), self.directory.path(), &config).await
    }

    async fn connect(&self, node: &Node) -> Connection {
        Connection::tls(node.listener("agents"), self.client()).await.unwrap()
    }

    fn client(&self) -> Arc<ClientConfig> {
        self.authority.client(None, &["http/1.1"])
    }

    /// What the core was asked for packages.
    fn asked(&self) -> EndpointCounts {
        self.core.snapshot().endpoints.remove(&EndpointKind::Package).unwrap_or_default()
    }

    fn files(&self) -> Vec<String> {
        let files = std::fs::read_dir(self.directory.path().join("data/packages")).unwrap();
        let mut names: Vec<_> = files.map(|file| file.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }
}

/// Asks for the package, or for so many bytes of it from there on, and compares what comes with `whole` piece by piece. Gives the
/// bytes that came before the end, or before the connection broke.
async fn download(
    connection: &mut Connection,
    target: &str,
    part: Option<(usize, usize)>,
    whole: &[u8],
) -> Result<usize, usize> {
    let (from, length) = part.unwrap_or((0, whole.len()));
    let range = format!("bytes={from}-{}", from + length - 1);
    let headers: &[(&str, &str)] = if part.is_some() { &[("range", &range)] } else { &[] };
    let mut answer = connection.open(target, headers).await.map_err(|_| 0_usize)?;
    assert_eq!(answer.status(), if part.is_some() { 206 } else { 200 }, "{:?}", answer.headers());
    let mut at = from;
    while let Some(frame) = answer.body_mut().frame().await {
        let frame = frame.map_err(|_| at - from)?;
        let Some(piece) = frame.data_ref() else { continue };
        assert!(whole[at..].starts_with(piece), "wrong bytes at {at}");
        at += piece.len();
    }
    if at == from + length { Ok(length) } else { Err(at - from) }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_requests_cost_one_transfer_and_no_memory() {
    const CONNECTIONS: usize = 250;
    const BYTES: usize = 32 * MIB;
    let scene = Scene::new().await;
    let node = scene.node().await;
    let whole = Arc::new(package_bytes(0, BYTES));
    let mut agents = Vec::new();
    for _ in 0..CONNECTIONS {
        let mut agent = scene.connect(&node).await;
        assert_eq!(download(&mut agent, "/v1/packages/small?bytes=10", None, &whole[..10]).await, Ok(10));
        agents.push(agent);
    }
    let before = node.peak_memory();
    let tasks: Vec<_> = agents
        .into_iter()
        .enumerate()
        .map(|(number, mut agent)| {
            let whole = Arc::clone(&whole);
            weir::task::spawn("agent", async move {
                for round in 0..4 {
                    // Ranges everywhere in the package, some of them long before they have arrived.
                    let from = (number * 4 + round) * 33_000;
                    let part = (number % 10 != 0 || round > 0).then_some((from, 128 * 1024));
                    let target = "/v1/packages/large?bytes=33554432&delay_ms=2";
                    let got = download(&mut agent, target, part, &whole).await;
                    assert_eq!(got, Ok(part.map_or(BYTES, |(_, length)| length)));
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap().expect("the agent got every byte");
    }
    let asked = scene.asked();
    assert_eq!((asked.requests, asked.not_modified), (2, 0), "one transfer of each package");
    let grown = node.peak_memory() - before;
    assert!(grown < 48 * MIB as u64, "{} KiB more", grown / 1024);
    let answered = node.metric("weir_requests_total", &[("route", "packages")]).await;
    assert!((answered - 1_250.0).abs() < 0.5, "{answered} requests");
    assert!((node.metric("weir_packages", &[]).await - 2.0).abs() < 0.5);
}

#[tokio::test]
async fn a_node_that_is_killed_leaves_whole_packages_or_none() {
    let scene = Scene::new().await;
    let whole = package_bytes(0, 4 * MIB);
    let slow = "/v1/packages/slow?bytes=4194304&delay_ms=50";
    let node = scene.node().await;
    let mut agent = scene.connect(&node).await;
    let mut answer = agent.open(slow, &[]).await.unwrap();
    assert!(answer.body_mut().frame().await.unwrap().is_ok());
    assert!(scene.files().iter().any(|name| name.ends_with(".part")), "{:?}", scene.files());
    node.kill().await;
    while let Some(Ok(_)) = answer.body_mut().frame().await {}

    let node = scene.node().await;
    assert_eq!(scene.files(), [""; 0], "what was not whole is gone");
    let fast = "/v1/packages/fast?bytes=4194304";
    let mut agent = scene.connect(&node).await;
    assert_eq!(download(&mut agent, fast, None, &whole).await, Ok(4 * MIB));
    node.metric_until("weir_packages", &[], |packages| packages > 0.5).await;
    node.kill().await;

    let node = scene.node().await;
    let mut agent = scene.connect(&node).await;
    for _ in 0..2 {
        assert_eq!(download(&mut agent, fast, Some((MIB, 100)), &whole).await, Ok(100));
        node.metric_until("weir_cache_fills_total", &[("result", "confirmed")], |fills| fills > 0.5).await;
    }
    let asked = scene.asked();
    assert_eq!((asked.requests, asked.not_modified), (3, 1), "asked whether it is current, and not sent again");
    assert_eq!(scene.files().len(), 2, "{:?}", scene.files());
}

#[tokio::test]
async fn a_transfer_that_breaks_is_gone_on_with_and_costs_the_core_the_rest() {
    let scene = Scene::new().await;
    let node = scene.node().await;
    let whole = package_bytes(0, 4 * MIB);
    scene.core.fail_next(Some(EndpointKind::Package), 2, Behaviour::Reset);
    let mut agent = scene.connect(&node).await;
    let target = "/v1/packages/broken?bytes=4194304&delay_ms=1";
    assert_eq!(download(&mut agent, target, None, &whole).await, Ok(4 * MIB));
    assert_eq!(scene.asked().requests, 3);
    assert!((node.metric("weir_package_resumes_total", &[("result", "resumed")]).await - 2.0).abs() < 0.5);
    node.metric_until("weir_packages", &[], |packages| packages > 0.5).await;
}

#[tokio::test]
async fn a_transfer_that_ends_too_soon_ends_the_agents_connection_before_the_package_looks_whole() {
    let scene = Scene::new().await;
    let node = scene.node().await;
    let whole = package_bytes(0, 4 * MIB);
    scene.core.script_for(EndpointKind::Package, Behaviour::status(404));
    scene.core.fail_next(Some(EndpointKind::Package), 1, Behaviour::Reset);
    let mut agent = scene.connect(&node).await;
    let target = "/v1/packages/broken?bytes=4194304&delay_ms=1";
    let got = download(&mut agent, target, None, &whole).await.unwrap_err();
    assert!(got <= 2 * MIB, "{got}");
    node.metric_until("weir_cache_fills_total", &[("result", "failed")], |fills| fills > 0.5).await;
    let mut agent = scene.connect(&node).await;
    let answer = agent.get(target, &[]).await.unwrap();
    assert_eq!((answer.status.as_u16(), answer.headers.contains_key("retry-after")), (503, true));
    assert!(node.metric("weir_requests_total", &[("outcome", "failed")]).await > 0.5);
}
