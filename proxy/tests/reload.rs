//! A reload puts the file in force whole, or not at all, and touches no connection.

#![expect(clippy::unwrap_used, reason = "a test has no better use for an error")]

use std::path::Path;

use weir_testkit::http::Connection;
use weir_testkit::{Authority, Node};

const WEIR: &str = env!("CARGO_BIN_EXE_weir");

/// Nobody listens behind this core: the calm answer tells which configuration is in force.
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

[[route]]
name = "updates"
match = { method = "GET", path = "/v1/updates/{channel}" }
class = "update"
action = "cache"
key = ["path.channel"]
shared = true
calm = { status = 200, body = "one", content_type = "text/plain" }
"#;

async fn start(directory: &Path, config: &str) -> (Node, Connection) {
    let node = Node::start(Path::new(WEIR), directory, config).await;
    let connection = Connection::plain(node.listener("agents")).await.unwrap();
    (node, connection)
}

async fn answer(connection: &mut Connection) -> String {
    connection.get("/v1/updates/stable", &[]).await.unwrap().text().to_owned()
}

#[tokio::test]
async fn a_reload_changes_routes_and_keeps_connections() {
    let directory = tempfile::tempdir().unwrap();
    let (node, mut connection) = start(directory.path(), BASE).await;
    assert_eq!(answer(&mut connection).await, "one");
    let report = node.reload(&BASE.replace("\"one\"", "\"two\"")).await;
    assert_eq!(report.status.as_u16(), 200, "{}", report.text());
    assert_eq!(report.json()["generation"], 2);
    assert_eq!(report.json()["changed"][0]["key"], "route.updates.calm.body");
    assert_eq!(answer(&mut connection).await, "two");
    assert!((node.metric("weir_config_generation", &[]).await - 2.0).abs() < 1e-9);
}

#[tokio::test]
async fn a_refused_reload_says_every_problem_and_changes_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let (node, mut connection) = start(directory.path(), BASE).await;
    let broken = BASE.replace("\"one\"", "\"two\"").replace("shared", "sharde").replace("[core]", "[cores]");
    let report = node.reload(&broken).await;
    assert_eq!(report.status.as_u16(), 422);
    assert!(report.text().contains("sharde") && report.text().contains("cores"), "{}", report.text());
    assert_eq!(answer(&mut connection).await, "one");
    assert!((node.metric("weir_config_generation", &[]).await - 1.0).abs() < 1e-9);
    assert!((node.metric("weir_config_reloads_total", &[("result", "refused")]).await - 1.0).abs() < 1e-9);
}

#[tokio::test]
async fn sighup_reloads_as_well() {
    let directory = tempfile::tempdir().unwrap();
    let (node, mut connection) = start(directory.path(), BASE).await;
    node.write_config(&BASE.replace("\"one\"", "\"two\""));
    node.hang_up();
    let line = node.logged("reloaded").await;
    assert_eq!(line["fields"]["changed"], "route.updates.calm.body");
    assert_eq!(answer(&mut connection).await, "two");
}

#[tokio::test]
async fn what_needs_a_restart_is_named_until_the_restart() {
    let directory = tempfile::tempdir().unwrap();
    let (node, _connection) = start(directory.path(), BASE).await;
    let moved = BASE.replacen("name = \"agents\"", "name = \"agents\"\nmax_http2_streams = 7", 1);
    for generation in [2, 3] {
        let report = node.reload(&moved).await.json();
        assert_eq!(report["generation"], generation);
        assert_eq!(report["needs_restart"][0]["key"], "listener.agents.max_http2_streams", "{report}");
        assert_eq!(report["changed"].as_array().map(Vec::len), Some(0), "{report}");
    }
}

#[tokio::test]
async fn a_broken_certificate_refuses_the_reload_and_the_old_one_goes_on_serving() {
    let directory = tempfile::tempdir().unwrap();
    let authority = Authority::new(directory.path());
    let pair = authority.server("server", &["localhost"]);
    let tls = "name = \"agents\"\ntls = { certificate = \"server.pem\", key = \"server.key\" }";
    let config = BASE.replacen("name = \"agents\"", tls, 1);
    let node = Node::start(Path::new(WEIR), directory.path(), &config).await;
    let client = authority.client(None, &["http/1.1"]);
    let before = std::fs::read(&pair.key).unwrap();

    std::fs::write(&pair.key, "not a key").unwrap();
    let report = node.reload(&config).await;
    assert_eq!(report.status.as_u16(), 422);
    assert!(report.text().contains("listener agents: ") && report.text().contains("server.key"), "{}", report.text());
    let mut connection = Connection::tls(node.listener("agents"), client.clone()).await.unwrap();
    assert_eq!(answer(&mut connection).await, "one");

    std::fs::write(&pair.key, before).unwrap();
    assert_eq!(node.reload(&config).await.status.as_u16(), 200);
    assert_eq!(answer(&mut connection).await, "one");
}

/// A route and a stream more.
const STREAM: &str = r#"
[[route]]
name = "events"
match = { method = "POST", path = "/v1/events" }
class = "telemetry"
action = "aggregate"
stream = "events"

[[stream]]
name = "events"
mode = "raw"
"#;

#[tokio::test]
async fn a_stream_comes_with_a_reload() {
    let directory = tempfile::tempdir().unwrap();
    let (node, mut connection) = start(directory.path(), BASE).await;
    let upload = async |connection: &mut Connection| {
        connection.send("POST", "/v1/events", &[], "{\"pid\":1}").await.unwrap().status.as_u16()
    };
    assert_eq!(upload(&mut connection).await, 404);
    let report = node.reload(&format!("{BASE}{STREAM}")).await;
    assert_eq!(report.status.as_u16(), 200, "{}", report.text());
    assert_eq!(upload(&mut connection).await, 202);
    assert_eq!(node.status().await["streams"]["events"]["accepted"], 1);
}

#[tokio::test]
async fn a_stream_that_cannot_be_opened_refuses_the_whole_reload() {
    let directory = tempfile::tempdir().unwrap();
    let (node, mut connection) = start(directory.path(), BASE).await;
    std::fs::create_dir_all(directory.path().join("data/spool")).unwrap();
    std::fs::write(directory.path().join("data/spool/events"), "a file in the directory's place").unwrap();
    let wanted = BASE.replace("\"one\"", "\"two\"").replace("[core]", "[core]\nmax_in_flight = 7");
    let report = node.reload(&format!("{wanted}{STREAM}")).await;
    assert_eq!(report.status.as_u16(), 422, "{}", report.text());
    assert!(report.text().contains("events"), "{}", report.text());
    assert_eq!(answer(&mut connection).await, "one");
    let status = node.status().await;
    assert_eq!(status["generation"], 1);
    assert!(status["cores"][0]["limit"].as_u64() > Some(7), "{status}");
}

#[tokio::test]
async fn requests_during_many_reloads_all_succeed() {
    let directory = tempfile::tempdir().unwrap();
    let (node, mut connection) = start(directory.path(), BASE).await;
    let requests = weir::task::spawn("requests", async move {
        for _ in 0..500 {
            let body = answer(&mut connection).await;
            assert!(["one", "two"].contains(&body.as_str()), "{body}");
        }
    });
    for number in 0..50 {
        let body = if number % 2 == 0 { "\"two\"" } else { "\"one\"" };
        assert_eq!(node.reload(&BASE.replace("\"one\"", body)).await.status.as_u16(), 200);
    }
    assert!(requests.await.unwrap().is_some(), "a request failed");
    assert!((node.metric("weir_config_generation", &[]).await - 51.0).abs() < 1e-9);
}
