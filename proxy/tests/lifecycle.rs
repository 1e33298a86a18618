//! A node's life: it starts or says why not, serves whatever its core does, and stops without cutting anyone off.

use std::net::TcpListener;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::time::Duration;

use weir_testkit::http::{self, Connection};
use weir_testkit::{Authority, Exit, Node};

const WEIR: &str = env!("CARGO_BIN_EXE_weir");

/// A plaintext listener, and a core behind which nobody listens.
const BASE: &str = r#"
[edge]
data_dir = "data"
log_format = "json"

[[listener]]
name = "agents"
address = "127.0.0.1:0"

[admin]
address = "127.0.0.1:0"

[core]
peers = ["127.0.0.1:9"]

[shutdown]
drain = "200ms"
timeout = "10s"

[[route]]
name = "updates"
match = { method = "GET", path = "/v1/updates/{channel}" }
class = "update"
action = "cache"
key = ["path.channel"]
shared = true
calm = { status = 204 }
"#;

async fn start(directory: &Path) -> Node {
    Node::start(Path::new(WEIR), directory, BASE).await
}

async fn run(directory: &Path, config: &str) -> Exit {
    Node::run(Path::new(WEIR), directory, config).await
}

#[tokio::test]
async fn a_node_whose_core_is_unreachable_is_ready() {
    let directory = tempfile::tempdir().unwrap();
    let node = start(directory.path()).await;
    assert_eq!(http::get(node.admin(), "/readyz").await.status.as_u16(), 200);
    assert_eq!(http::get(node.admin(), "/livez").await.status.as_u16(), 200);
    assert_eq!(http::get(node.admin(), "/nowhere").await.status.as_u16(), 404);
    let status = node.status().await;
    assert_eq!((status["phase"].as_str(), status["generation"].as_u64()), (Some("serving"), Some(1)));
}

#[tokio::test]
async fn a_taken_port_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let agents = BASE.replacen("127.0.0.1:0", &address, 1);
    let admin = BASE.replace("[admin]\naddress = \"127.0.0.1:0\"", &format!("[admin]\naddress = \"{address}\""));
    for (config, named) in [(agents, "weir: listener agents: "), (admin, "weir: admin: ")] {
        let exit = run(directory.path(), &config).await;
        assert_eq!(exit.code, Some(69), "{}", exit.log);
        for word in [named, &address, "in use"] {
            assert!(exit.log.contains(word), "no `{word}` in\n{}", exit.log);
        }
    }
}

#[tokio::test]
async fn a_data_directory_that_cannot_be_written_is_named() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("data"), "a file in its place").unwrap();
    let exit = run(directory.path(), BASE).await;
    assert_eq!(exit.code, Some(73), "{}", exit.log);
    assert!(exit.log.contains("the data directory") && exit.log.contains("data"), "{}", exit.log);
}

#[tokio::test]
async fn two_nodes_do_not_share_a_data_directory() {
    let directory = tempfile::tempdir().unwrap();
    let _first = start(directory.path()).await;
    let exit = run(directory.path(), BASE).await;
    assert_eq!(exit.code, Some(69), "{}", exit.log);
    assert!(exit.log.contains("in use by another node"), "{}", exit.log);
}

#[tokio::test]
async fn a_certificate_without_its_key_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let authority = Authority::new(directory.path());
    authority.server("one", &["localhost"]);
    authority.server("other", &["localhost"]);
    let with = |tls: &str| BASE.replacen("name = \"agents\"", &format!("name = \"agents\"\ntls = {{ {tls} }}"), 1);
    let exit = run(directory.path(), &with("certificate = \"one.pem\"")).await;
    assert_eq!(exit.code, Some(78), "{}", exit.log);
    assert!(exit.log.contains("key"), "{}", exit.log);
    let exit = run(directory.path(), &with("certificate = \"one.pem\", key = \"other.key\"")).await;
    assert_eq!(exit.code, Some(78), "{}", exit.log);
    assert!(exit.log.contains("does not belong to the certificate"), "{}", exit.log);
}

#[tokio::test]
async fn agents_resume_their_tls_sessions_after_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let authority = Authority::new(directory.path());
    authority.server("server", &["localhost"]);
    std::fs::write(directory.path().join("ticket.keys"), "0f".repeat(32)).unwrap();
    let tls = "tls = { certificate = \"server.pem\", key = \"server.key\", ticket_keys = \"ticket.keys\" }";
    let config = BASE.replacen("name = \"agents\"", &format!("name = \"agents\"\n{tls}"), 1);
    let clients: Vec<_> = (0..50).map(|_| authority.client(None, &["http/1.1"])).collect();
    for kind in ["full", "resumed"] {
        let node = Node::start(Path::new(WEIR), directory.path(), &config).await;
        for client in &clients {
            let mut connection = Connection::tls(node.listener("agents"), client.clone()).await.unwrap();
            connection.get("/v1/updates/stable", &[]).await.unwrap();
        }
        assert!((node.metric("weir_handshakes_total", &[("kind", kind)]).await - 50.0).abs() < 0.5, "{kind}");
        node.kill().await;
    }
}

#[tokio::test]
async fn a_node_that_gives_notice_is_not_ready_and_takes_connections_until_it_is_over() {
    let directory = tempfile::tempdir().unwrap();
    let config = BASE.replacen("drain = \"200ms\"", "drain = \"200ms\"\nnotice = \"1h\"", 1);
    let node = Node::start(Path::new(WEIR), directory.path(), &config).await;
    node.terminate();
    node.logged("not ready, and serving until load balancers know").await;
    assert_eq!(http::get(node.admin(), "/readyz").await.status.as_u16(), 503);
    let mut connection = Connection::plain(node.listener("agents")).await.unwrap();
    let answer = connection.get("/v1/updates/stable", &[]).await.unwrap();
    assert_ne!(answer.header("connection"), "close");
    // A second signal ends it.
    node.terminate();
    assert_eq!(node.wait().await.code, Some(0));
}

#[tokio::test]
async fn the_name_survives_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let node = start(directory.path()).await;
    let name = node.status().await["edge"].clone();
    node.kill().await;
    let node = start(directory.path()).await;
    assert_eq!(node.status().await["edge"], name);
    assert!(name.as_str().unwrap().starts_with("edge-"));
}

#[tokio::test]
async fn sigterm_lets_connections_end_and_exits_with_0() {
    let directory = tempfile::tempdir().unwrap();
    let node = start(directory.path()).await;
    let mut connections = Vec::new();
    for _ in 0..20 {
        let mut connection = Connection::plain(node.listener("agents")).await.unwrap();
        connection.get("/v1/updates/stable", &[]).await.unwrap();
        connections.push(connection);
    }
    node.terminate();
    node.logged("stopping").await;
    let exit = node.wait().await;
    assert_eq!(exit.code, Some(0), "{}", exit.log);
    assert!(exit.log.contains("\"connections_cut\":0"), "{}", exit.log);
}

#[tokio::test]
async fn while_it_drains_a_node_is_not_ready_and_still_answers() {
    let directory = tempfile::tempdir().unwrap();
    let config = BASE.replace("drain = \"200ms\"", "drain = \"1h\"");
    let node = Node::start(Path::new(WEIR), directory.path(), &config).await;
    // The first connection's turn comes at once, the second one's after half of the window.
    let mut first = Connection::plain(node.listener("agents")).await.unwrap();
    first.get("/v1/updates/stable", &[]).await.unwrap();
    let mut connection = Connection::plain(node.listener("agents")).await.unwrap();
    connection.get("/v1/updates/stable", &[]).await.unwrap();
    node.terminate();
    node.logged("stopping").await;
    let readiness = http::get(node.admin(), "/readyz").await;
    assert_eq!((readiness.status.as_u16(), readiness.json()["reason"].as_str()), (503, Some("draining")));
    assert_eq!(connection.get("/v1/updates/stable", &[]).await.unwrap().status.as_u16(), 204);
    node.terminate();
    assert_eq!(node.wait().await.code, Some(0));
}

#[tokio::test]
async fn sigint_stops_at_once() {
    let directory = tempfile::tempdir().unwrap();
    let config = BASE.replace("drain = \"200ms\"", "drain = \"1h\"");
    let node = Node::start(Path::new(WEIR), directory.path(), &config).await;
    let mut connection = Connection::plain(node.listener("agents")).await.unwrap();
    connection.get("/v1/updates/stable", &[]).await.unwrap();
    node.interrupt();
    assert_eq!(node.wait().await.code, Some(0));
}

#[tokio::test]
async fn the_service_manager_hears_of_start_reload_and_stop() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("notify");
    let manager = UnixDatagram::bind(&path).unwrap();
    manager.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    let told = || {
        let mut buffer = [0; 4096];
        let length = manager.recv(&mut buffer).unwrap();
        String::from_utf8_lossy(&buffer[..length]).into_owned()
    };
    let variables = [("NOTIFY_SOCKET", path.to_str().unwrap())];
    let node = Node::start_in(Path::new(WEIR), directory.path(), BASE, &variables).await;
    let start = told();
    assert!(start.contains("READY=1") && start.contains("MAINPID="), "{start}");
    node.hang_up();
    assert!(told().contains("RELOADING=1"));
    assert!(told().contains("READY=1"));
    node.terminate();
    assert!(told().contains("STOPPING=1"));
    assert_eq!(node.wait().await.code, Some(0));
}
