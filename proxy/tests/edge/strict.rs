//! A corpus of requests that are read one way here and another way elsewhere: each is refused, and nothing that hides
//! behind one reaches an action or the core.

use crate::client::Raw;
use crate::node::Node;

const HIDDEN: &str = "GET /v1/things/hidden HTTP/1.1\r\nHost: a\r\n\r\n";

async fn refused(head: &str) {
    let node = Node::plain().await;
    let mut agent = Raw::connect(node.address).await;
    let answer = agent.ask(format!("{head}\r\n\r\n{HIDDEN}")).await;
    assert_eq!(answer.status, 400, "{head:?}: {}", answer.head);
    assert_eq!(answer.header("connection"), "close", "{head:?}");
    assert!(agent.is_closed().await, "{head:?}");
    assert_eq!(node.count("things", "hit"), 0, "{head:?}");
    assert_eq!(node.count("none", "refused"), 1, "{head:?}");
    assert_eq!(node.core.snapshot().requests, 0, "{head:?}");
}

#[tokio::test]
async fn ambiguous_framing_is_refused_and_closed() {
    for fields in [
        "Content-Length: 4\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: chunked\r\nContent-Length: 4",
        "Content-Length: 4\r\nContent-Length: 4",
        "Content-Length: 4\r\nContent-Length: 5",
        "Content-Length: 4, 4",
        "Content-Length: +4",
        "Content-Length: 0x4",
        "Content-Length : 4",
        "Transfer-Encoding: xchunked",
        "Transfer-Encoding: gzip, chunked",
        "Transfer-Encoding: chunked, chunked",
        "Transfer-Encoding : chunked",
        "Transfer-Encoding:\x0bchunked",
        " Content-Length: 4",
        "X: 1\r\n Transfer-Encoding: chunked",
        "X: 1\nTransfer-Encoding: chunked",
        "X: 1\rTransfer-Encoding: chunked",
        "X\0: 1",
    ] {
        refused(&format!("POST /v1/uploads HTTP/1.1\r\nHost: a\r\n{fields}")).await;
    }
}

#[tokio::test]
async fn request_lines_that_others_repair_are_refused_and_closed() {
    for line in [
        "GET /v1/things/a b HTTP/1.1",
        "GET  /v1/things/a HTTP/1.1",
        "GET /v1/things/a\0 HTTP/1.1",
        "GET /v1/things/\u{e9} HTTP/1.1",
        "GET /v1/things/a HTTP/1.2",
        "GET /v1/things/a HTTP/2.0",
        "GET /v1/things/a",
        "G\u{1}T /v1/things/a HTTP/1.1",
        "GET\t/v1/things/a HTTP/1.1",
    ] {
        refused(&format!("{line}\r\nHost: a")).await;
    }
}

#[tokio::test]
async fn requests_without_one_host_are_refused_and_closed() {
    for fields in ["X: 1", "Host:", "Host: a\r\nHost: a", "Host: a\r\nHost: b"] {
        refused(&format!("GET /v1/things/a HTTP/1.1\r\n{fields}")).await;
    }
}

#[tokio::test]
async fn tunnels_are_refused_and_closed() {
    let node = Node::plain().await;
    let mut agent = Raw::connect(node.address).await;
    let answer = agent.ask("CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n").await;
    assert_eq!((answer.status, answer.header("connection")), (405, "close"));
    assert_eq!(node.count("none", "refused"), 1);
}

#[tokio::test]
async fn targets_that_name_another_host_are_refused() {
    let node = Node::plain().await;
    for (target, host) in [
        ("http://b/v1/things/a", "a"),
        ("http://a@b/v1/things/a", "b"),
        ("/v1/things/a#b", "a"),
        ("/v1/things/a\\b", "a"),
    ] {
        let mut agent = Raw::connect(node.address).await;
        let answer = agent.ask(format!("GET {target} HTTP/1.1\r\nHost: {host}\r\n\r\n")).await;
        assert_eq!(answer.status, 400, "{target}");
    }
    let mut agent = Raw::connect(node.address).await;
    let answer = agent.ask("GET http://a:80/v1/things/a HTTP/1.1\r\nHost: a:80\r\n\r\n").await;
    assert!(answer.body.contains("/v1/things/a query=None host=a "), "{}", answer.body);
}

#[tokio::test]
async fn bounds_of_targets_and_headers_hold() {
    let node = Node::plain().await;
    for (request, status) in [
        (format!("GET /v1/things/{} HTTP/1.1\r\nHost: a\r\n\r\n", "a".repeat(1100)), 414),
        (format!("GET /v1/things/a HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n", "a".repeat(5000)), 431),
        (format!("GET /v1/things/a HTTP/1.1\r\nHost: a\r\n{}\r\n", "X: 1\r\n".repeat(200)), 431),
        (format!("GET /v1/things/a HTTP/1.1\r\nHost: a\r\nX: {}", "a".repeat(9000)), 431),
    ] {
        let mut agent = Raw::connect(node.address).await;
        let answer = agent.ask(&request).await;
        assert_eq!(answer.status, status);
        assert!(agent.is_closed().await);
    }
}

#[tokio::test]
async fn a_malformed_chunk_is_refused_and_closed() {
    for body in ["x\r\nhello\r\n0\r\n\r\n", "5\r\nhelloX\r\n0\r\n\r\n", "fffffffffffffffff\r\n", "-1\r\nx\r\n0\r\n\r\n"]
    {
        let node = Node::plain().await;
        let mut agent = Raw::connect(node.address).await;
        let head = "POST /v1/uploads HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
        let answer = agent.ask(format!("{head}{body}{HIDDEN}")).await;
        assert_eq!((answer.status, answer.header("connection")), (400, "close"), "{body:?}");
        assert!(agent.is_closed().await, "{body:?}");
        assert_eq!(node.count("uploads", "refused"), 1);
        assert_eq!(node.count("things", "hit"), 0);
    }
}

#[tokio::test]
async fn dots_and_doubled_slashes_are_not_resolved() {
    let node = Node::plain().await;
    let mut agent = Raw::connect(node.address).await;
    assert!(agent.get("/v1/things/..").await.body.contains(" /v1/things/.. "));
    assert_eq!(agent.get("/x/../v1/things/a").await.status, 404);
    assert_eq!(agent.get("//v1/things/a").await.status, 404);
}
