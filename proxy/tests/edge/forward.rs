//! Passing through: both ways, whole and streamed, and what the agent is told when the core fails.

use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use weir_core_sim::{Behaviour, EndpointKind};
use weir_testkit::http::Connection;

use crate::client::Raw;
use crate::node::Node;
use crate::tls::Secure;

fn headers(body: &str) -> Value {
    serde_json::from_str::<Value>(body).unwrap()["headers"].take()
}

#[tokio::test]
async fn the_core_sees_the_request_and_who_asks() {
    let node = Node::plain().await;
    let mut agent = Raw::connect(node.address).await;
    let answer = agent
        .ask(concat!(
            "POST /v1/echo/a%20b?x=1 HTTP/1.1\r\nHost: edge.example:8443\r\nContent-Length: 5\r\n",
            "X-Agent-Id: a-1\r\nX-Tenant-Id: t-1\r\nX-End: 1\r\nConnection: keep-alive, X-Hop\r\nX-Hop: 1\r\n",
            "Keep-Alive: 5\r\nTE: trailers\r\nProxy-Authorization: secret\r\nX-Forwarded-For: 192.0.2.9\r\n\r\nhello",
        ))
        .await;
    assert_eq!((answer.status, answer.header("connection")), (200, "keep-alive"));
    let told: Value = serde_json::from_str(&answer.body).unwrap();
    assert_eq!(
        (&told["method"], &told["path"], &told["query"]),
        (&"POST".into(), &"/v1/echo/a%20b".into(), &"x=1".into())
    );
    assert_eq!(told["body_bytes"], 5);
    let seen = headers(&answer.body);
    assert_eq!(seen["weir-agent"][0], "a-1");
    assert_eq!(seen["weir-tenant"][0], "t-1");
    assert_eq!(seen["x-end"][0], "1");
    assert_eq!(seen["x-forwarded-for"][0], "192.0.2.9, 127.0.0.1", "this listener trusts headers");
    assert_eq!(seen["x-forwarded-proto"][0], "http");
    assert_eq!(seen["x-forwarded-host"][0], "edge.example:8443");
    assert_eq!(seen["via"][0], "1.1 weir");
    assert_eq!(seen["host"][0], node.core.address().to_string(), "the core's own name, as configured");
    assert!(seen["forwarded"][0].as_str().unwrap().starts_with("for=127.0.0.1;host=\"edge.example:8443\""), "{seen}");
    for gone in ["x-hop", "keep-alive", "te", "proxy-authorization"] {
        assert!(seen[gone].is_null(), "{gone}: {seen}");
    }
    assert_eq!(node.count("forward", "forwarded"), 1);
}

#[tokio::test]
async fn an_agent_cannot_say_who_it_is_where_headers_are_not_trusted() {
    let edge = Secure::start("optional", "").await;
    let pair = edge.authority.agent("a-1", "t-1");
    let mut agent = Raw::connect_tls(edge.node.address, edge.authority.client(Some(&pair), &[])).await.unwrap();
    let forged = concat!(
        "GET /v1/echo HTTP/1.1\r\nHost: edge\r\nWeir-Agent: root\r\nWeir-Tenant: all\r\nX-Agent-Id: root\r\n",
        "X-Tenant-Id: all\r\nX-Forwarded-For: 9.9.9.9\r\nForwarded: for=9.9.9.9\r\nX-Forwarded-Proto: ftp\r\n",
        "X-Real-Ip: 9.9.9.9\r\n\r\n",
    );
    let seen = headers(&agent.ask(forged).await.body);
    assert_eq!((&seen["weir-agent"][0], &seen["weir-tenant"][0]), (&"a-1".into(), &"t-1".into()));
    assert_eq!((&seen["x-forwarded-for"][0], &seen["x-forwarded-proto"][0]), (&"127.0.0.1".into(), &"https".into()));
    assert!(!seen.to_string().contains("9.9.9.9") && !seen.to_string().contains("root"), "{seen}");
    let mut nameless = Raw::connect_tls(edge.node.address, edge.authority.client(None, &[])).await.unwrap();
    let seen = headers(&nameless.ask(forged).await.body);
    assert!(seen["weir-agent"].is_null() && seen["weir-tenant"].is_null(), "{seen}");
}

#[tokio::test]
async fn bodies_stream_both_ways() {
    let node = Node::plain().await;
    let mut agent = Connection::plain(node.address).await.unwrap();
    let body = vec![b'a'; 900_000];
    let answer = agent.send("POST", "/v1/echo", &[], body).await.unwrap();
    assert_eq!(answer.json()["body_bytes"], 900_000);
    let answer = agent.get("/v1/stream?bytes=3000000&chunk=10000", &[]).await.unwrap();
    assert_eq!(answer.body.len(), 3_000_000);
    assert!(node.metrics.answer_bytes.with_label_values(&["forward", "forwarded"]).get() >= 3_000_000);
}

#[tokio::test]
async fn an_agent_that_waits_for_continue_hears_the_cores_word() {
    let node = Node::plain().await;
    let mut agent = Raw::connect(node.address).await;
    agent.write("POST /v1/echo HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n").await;
    assert_eq!(agent.answer().await.status, 100);
    let answer = agent.ask("hello").await;
    assert_eq!((answer.status, answer.header("connection")), (200, "keep-alive"));
    assert!(answer.body.contains(r#""body_bytes":5"#));
}

#[tokio::test]
async fn a_body_past_the_routes_bound_is_refused() {
    let node = Node::plain().await;
    let mut agent = Raw::connect(node.address).await;
    let answer = agent.ask("POST /v1/echo HTTP/1.1\r\nHost: a\r\nContent-Length: 2000000\r\n\r\n").await;
    assert_eq!(answer.status, 413);
    let mut agent = Raw::connect(node.address).await;
    agent.write("POST /v1/echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n").await;
    let chunk = format!("10000\r\n{}\r\n", "a".repeat(0x10000));
    for _ in 0..20 {
        if agent.stream.write_all(chunk.as_bytes()).await.is_err() {
            break;
        }
    }
    let answer = agent.answer().await;
    assert_eq!((answer.status, answer.header("connection")), (413, "close"));
}

#[tokio::test]
async fn a_websocket_passes_where_the_route_says_so() {
    let node = Node::plain().await;
    let mut agent = Raw::connect(node.address).await;
    let handshake = |path: &str| {
        format!(
            "GET {path} HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
        )
    };
    agent.write(handshake("/v1/ws")).await;
    let answer = agent.head_answer().await;
    assert_eq!((answer.status, answer.header("upgrade")), (101, "websocket"));
    assert_eq!(answer.header("sec-websocket-accept"), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    agent.write(b"\x81\x85\0\0\0\0hello").await;
    let mut echo = [0; 5];
    agent.stream.read_exact(&mut echo).await.unwrap();
    drop(agent);
    node.until("the tunnel is closed", |node| node.drain.open() == 0).await;
    let mut agent = Raw::connect(node.address).await;
    let answer = agent.ask(handshake("/v1/echo")).await;
    assert_eq!(answer.status, 200);
    assert!(headers(&answer.body)["upgrade"].is_null());
}

#[tokio::test]
async fn what_the_core_says_passes_whatever_it_is() {
    let node = Node::plain().await;
    let mut agent = Raw::connect(node.address).await;
    for status in [401, 403, 404, 410, 500, 503] {
        let answer = agent.get(&format!("/v1/echo?status={status}")).await;
        assert_eq!((answer.status, answer.header("weir-refusal")), (status, ""));
        assert_eq!(answer.header("connection"), "keep-alive");
    }
}

#[tokio::test]
async fn a_failing_core_is_told_from_the_agents_fault_and_costs_no_connection() {
    let node = Node::start("", "").await;
    let mut agent = Raw::connect(node.address).await;
    assert_eq!(agent.get("/v1/echo").await.status, 200);
    for (behaviour, status, label) in
        [(Behaviour::Hang, 504, "core_timeout"), (Behaviour::Down, 503, "core_unavailable")]
    {
        node.core.script(behaviour.clone()).unwrap();
        for request in [
            "GET /v1/echo HTTP/1.1\r\nHost: a\r\n\r\n",
            "POST /v1/echo HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello",
        ] {
            let answer = agent.ask(request).await;
            let refused = (answer.status, answer.header("weir-refusal"));
            // A pooled connection that breaks under a request is told as such.
            assert!(refused == (status, label) || refused == (502, "core_broken"), "{behaviour:?}: {refused:?}");
            assert_eq!(answer.header("connection"), "keep-alive");
            assert_eq!(answer.header("content-type"), "application/problem+json");
            assert!(answer.header("retry-after").parse::<u32>().unwrap() > 0);
        }
    }
    node.core.script(Behaviour::Up).unwrap();
    node.until("the core listens", |_| true).await;
    assert_eq!(agent.get("/v1/echo").await.status, 200);
    assert_eq!(node.metrics.connections_accepted.with_label_values(&["agents"]).get(), 1);
    assert_eq!(node.count("forward", "failed"), 4);
}

#[tokio::test]
async fn an_answer_that_breaks_off_is_not_passed_off_as_a_whole_one() {
    let node = Node::plain().await;
    let mut agent = Raw::connect(node.address).await;
    agent.write("GET /v1/stream?bytes=1000000&chunk=1000&delay_ms=50 HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert_eq!(agent.head_answer().await.header("content-length"), "1000000");
    node.core.script(Behaviour::Down).unwrap();
    let mut rest = Vec::new();
    agent.stream.read_to_end(&mut rest).await.ok();
    assert!(rest.len() < 1_000_000);
    node.until("it is counted", |node| node.count("forward", "failed") == 1).await;
}

#[tokio::test]
async fn an_agent_that_leaves_is_not_held_against_the_core() {
    let node = Node::plain().await;
    node.core.script_for(EndpointKind::Echo, Behaviour::slow(Duration::from_secs(1)));
    let mut agent = Raw::connect(node.address).await;
    agent.write("GET /v1/echo HTTP/1.1\r\nHost: a\r\n\r\n").await;
    node.until("the core is asked", |node| node.core.snapshot().requests == 1).await;
    drop(agent);
    node.until("it is counted", |node| node.count("forward", "abandoned") == 1).await;
}
