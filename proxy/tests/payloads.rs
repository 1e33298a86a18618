//! A manifest and its package through a running node, before a core that publishes them in the wrong order.

#![expect(clippy::unwrap_used, reason = "a test has no better use for an error")]

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use http_body_util::Full;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use parking_lot::Mutex;
use tokio::net::TcpListener;
use weir_logic::Digest;
use weir_testkit::ground::ground;
use weir_testkit::{Node, http};

const WEIR: &str = env!("CARGO_BIN_EXE_weir");

const ROUTES: &str = r#"
[[route]]
name = "manifest"
match = { method = "GET", path = "/v1/manifest.json" }
class = "update"
action = "cache"
shared = true
ttl = "50ms"
jitter = 0.0
stale_while_revalidate = "0s"
payload = { url = "body./packages/*/url", sha256 = "body./packages/*/sha256" }

[[route]]
name = "package"
match = { method = "GET", path = "/v1/packages/{file*}" }
class = "download"
action = "cache"
key = ["path.file"]
shared = true
"#;

/// A core that serves what the test puts there; anything else is 404.
type Content = Arc<Mutex<HashMap<String, String>>>;

async fn core(content: Content) -> std::net::SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    weir::task::spawn("core", async move {
        while let Ok((stream, _)) = listener.accept().await {
            let content = Arc::clone(&content);
            let serve = service_fn(move |request: Request<hyper::body::Incoming>| {
                let found = content.lock().get(request.uri().path()).cloned();
                let status = if found.is_some() { 200 } else { 404 };
                let body = Full::new(Bytes::from(found.unwrap_or_default()));
                async move { Response::builder().status(status).body(body) }
            });
            weir::task::spawn("connection", async move {
                drop(Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), serve).await);
            });
        }
    });
    address
}

fn manifest(version: &str) -> String {
    let digest = Digest::of(format!("package {version}").as_bytes());
    format!(r#"{{"packages":[{{"url":"/v1/packages/{version}/agent.msi","sha256":"{digest}"}}]}}"#)
}

fn put(content: &Content, path: &str, body: String) {
    content.lock().insert(path.to_owned(), body);
}

/// What an agent that asks for the manifest and then for its package installs.
async fn installed(node: &Node) -> String {
    let address = node.listener("agents");
    let manifest = http::get(address, "/v1/manifest.json").await.json();
    let package = &manifest["packages"][0];
    let body = http::get(address, package["url"].as_str().unwrap()).await;
    assert_eq!(body.status.as_u16(), 200);
    assert_eq!(package["sha256"].as_str().unwrap(), Digest::of(body.text().as_bytes()).to_string());
    body.text().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_manifest_that_comes_before_its_package_waits_for_it() {
    let content = Content::default();
    put(&content, "/v1/manifest.json", manifest("1"));
    put(&content, "/v1/packages/1/agent.msi", "package 1".to_owned());
    let directory = tempfile::tempdir().unwrap();
    let node = Node::start(
        Path::new(WEIR),
        directory.path(),
        &format!("{}{ROUTES}", ground(core(Arc::clone(&content)).await)),
    )
    .await;
    assert_eq!(installed(&node).await, "package 1");

    put(&content, "/v1/manifest.json", manifest("2"));
    let waits = [("route", "manifest"), ("cause", "not_there")];
    while node.metric("weir_payload_faults_total", &waits).await < 1.0 {
        assert_eq!(installed(&node).await, "package 1", "the package is not there yet");
    }
    put(&content, "/v1/packages/2/agent.msi", "package 1".to_owned());
    let another = [("route", "package"), ("cause", "another")];
    while node.metric("weir_payload_faults_total", &another).await < 1.0 {
        assert_eq!(installed(&node).await, "package 1", "and then it is another");
    }
    put(&content, "/v1/packages/2/agent.msi", "package 2".to_owned());
    while installed(&node).await != "package 2" {}
}
