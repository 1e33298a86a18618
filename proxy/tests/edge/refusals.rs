//! Those who are turned away keep their connections and are told when to come back, over both protocols.

use crate::client::{Raw, RawAnswer};
use crate::http2;
use crate::node::Node;

/// One request of an agent, and then nothing for a minute.
const ONE_A_MINUTE: &str = "[limits.agents]\nrequests_per_minute = 1\nburst = 1";

fn upload(agent: &str, tenant: &str, extra: &str, length: usize) -> String {
    format!(
        "POST /v1/uploads HTTP/1.1\r\nHost: a\r\nX-Agent-Id: {agent}\r\nX-Tenant-Id: {tenant}\r\n{extra}\
         Content-Length: {length}\r\n\r\n"
    )
}

fn seconds(answer: &RawAnswer) -> u64 {
    answer.header("retry-after").parse().unwrap()
}

#[tokio::test]
async fn an_agent_that_asks_too_often_is_refused_with_its_body_unread() {
    let node = Node::start("trusted_headers = true", ONE_A_MINUTE).await;
    let mut agent = Raw::connect(node.address).await;
    let body = "a".repeat(60 * 1024);
    let request = format!("{}{body}", upload("a-1", "t-1", "", body.len()));
    assert_eq!(agent.ask(&request).await.status, 200);
    for _ in 0..3 {
        let answer = agent.ask(&request).await;
        assert_eq!((answer.status, answer.header("weir-refusal")), (429, "too_often"));
        assert_eq!(answer.header("connection"), "keep-alive");
        assert!((1..=120).contains(&seconds(&answer)), "{}", answer.head);
        assert!(answer.body.len() < 200);
    }
    let neighbour = format!("{}{body}", upload("a-2", "t-1", "", body.len()));
    assert_eq!(agent.ask(neighbour).await.status, 200, "on the same connection");
    assert_eq!(node.metrics.connections_accepted.with_label_values(&["agents"]).get(), 1);
    assert_eq!(node.metrics.buffered_refused.with_label_values(&["full"]).get(), 0);
}

#[tokio::test]
async fn the_same_over_http2() {
    let node = Node::start("trusted_headers = true", ONE_A_MINUTE).await;
    let mut agent = http2::plain(&node).await;
    let body = "a".repeat(60 * 1024);
    let mut statuses = Vec::new();
    for _ in 0..4 {
        let (status, headers, _) = http2::send(&mut agent, "POST", "/v1/uploads", &body).await;
        statuses.push(status);
        assert_eq!(headers.contains_key("retry-after"), status == 429);
    }
    assert_eq!(statuses, [200, 429, 429, 429]);
    assert_eq!(node.metrics.connections_accepted.with_label_values(&["agents"]).get(), 1);
}

#[tokio::test]
async fn a_busy_node_refuses_with_bodies_unread_over_both() {
    let node = Node::start("trusted_headers = true", "max_requests = 2\n[limits.damping]\nshadow = true").await;
    let mut holding = Raw::connect(node.address).await;
    holding.write("GET /v1/hold/a HTTP/1.1\r\nHost: a\r\n\r\n").await;
    node.until("one is held", |node| node.metrics.requests_in_flight.get() == 1).await;
    let mut agent = Raw::connect(node.address).await;
    let request = format!("{}hello", upload("a-1", "t-1", "", 5));
    for _ in 0..3 {
        let answer = agent.ask(&request).await;
        assert_eq!((answer.status, answer.header("weir-refusal")), (503, "overloaded"));
        assert_eq!(answer.header("connection"), "keep-alive");
        assert!((5..=600).contains(&seconds(&answer)));
    }
    let mut other = http2::plain(&node).await;
    let (status, headers, _) = http2::send(&mut other, "POST", "/v1/uploads", "hello").await;
    assert_eq!((status, headers.contains_key("retry-after")), (503, true));
    node.held.add_permits(1);
    assert_eq!(holding.answer().await.status, 200);
    node.until("there is room", |node| node.metrics.requests_in_flight.get() == 0).await;
    assert_eq!(agent.ask(&request).await.status, 200);
    assert_eq!(http2::send(&mut other, "POST", "/v1/uploads", "hello").await.0, 200);
    assert_eq!(node.metrics.connections_accepted.with_label_values(&["agents"]).get(), 3);
}

#[tokio::test]
async fn an_agent_that_waits_to_send_a_small_body_keeps_its_connection() {
    let node = Node::start("trusted_headers = true", ONE_A_MINUTE).await;
    let mut agent = Raw::connect(node.address).await;
    assert_eq!(agent.ask(format!("{}hello", upload("a-1", "t-1", "", 5))).await.status, 200);
    for _ in 0..2 {
        agent.write(upload("a-1", "t-1", "Expect: 100-continue\r\n", 5)).await;
        assert_eq!(agent.answer().await.status, 100, "cheaper than a handshake");
        let answer = agent.ask("hello").await;
        assert_eq!((answer.status, answer.header("connection")), (429, "keep-alive"));
    }
    let mut agent = Raw::connect(node.address).await;
    let answer = agent.ask(upload("a-2", "t-1", "Expect: 100-continue\r\n", 65 * 1024)).await;
    assert_eq!((answer.status, answer.header("connection")), (413, "close"), "dearer than a handshake");
    assert!(agent.is_closed().await);
}

#[tokio::test]
async fn a_body_that_does_not_come_costs_its_stream_and_not_the_connection_of_http2() {
    use std::convert::Infallible;

    use bytes::Bytes;
    use http_body_util::{BodyExt, StreamBody};
    use hyper::body::Frame;
    use hyper_util::rt::{TokioExecutor, TokioIo};

    let node = Node::start("trusted_headers = true\nbody_timeout = \"1s\"", "").await;
    let stream = tokio::net::TcpStream::connect(node.address).await.unwrap();
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    weir::task::spawn("client", connection);
    for _ in 0..2 {
        let never = StreamBody::new(futures::stream::pending::<Result<Frame<Bytes>, Infallible>>());
        let request = http::Request::post("http://localhost/v1/uploads").body(never).unwrap();
        let answer = sender.send_request(request).await.unwrap();
        assert_eq!(answer.status(), 408);
        assert!(answer.headers().contains_key("retry-after"));
        assert!(answer.into_body().collect().await.unwrap().to_bytes().len() < 200);
    }
    assert_eq!(node.metrics.connections_accepted.with_label_values(&["agents"]).get(), 1);
}

#[tokio::test]
async fn refusals_close_where_the_operator_says_so() {
    let node = Node::start("trusted_headers = true", &format!("refusals = \"close\"\n{ONE_A_MINUTE}")).await;
    let mut agent = Raw::connect(node.address).await;
    let request = format!("{}hello", upload("a-1", "t-1", "", 5));
    assert_eq!(agent.ask(&request).await.header("connection"), "keep-alive");
    let answer = agent.ask(&request).await;
    assert_eq!((answer.status, answer.header("connection")), (429, "close"));
    assert!(agent.is_closed().await);
}

#[tokio::test]
async fn an_agent_is_told_the_same_by_every_node() {
    let mut told = Vec::new();
    for _ in 0..2 {
        let node = Node::start("trusted_headers = true", "max_requests = 2").await;
        let mut holding = Raw::connect(node.address).await;
        holding.write("GET /v1/hold/a HTTP/1.1\r\nHost: a\r\n\r\n").await;
        node.until("one is held", |node| node.metrics.requests_in_flight.get() == 1).await;
        let mut agent = Raw::connect(node.address).await;
        told.push(seconds(&agent.ask(format!("{}hello", upload("a-77", "t-1", "", 5))).await));
    }
    assert_eq!(told[0], told[1]);
}

#[tokio::test]
async fn an_agent_that_ignores_its_time_is_answered_from_the_table() {
    let node =
        Node::start("trusted_headers = true", &format!("{ONE_A_MINUTE}\n[limits.damping]\nafter = 1\npause = \"1ms\""))
            .await;
    let mut agent = Raw::connect(node.address).await;
    let request = format!("{}hello", upload("a-1", "t-1", "User-Agent: sensor/7.1\r\n", 5));
    assert_eq!(agent.ask(&request).await.status, 200);
    assert_eq!(agent.ask(&request).await.status, 429);
    let shed = |reason: &str| node.metrics.shed.with_label_values(&["telemetry", reason]).get();
    assert_eq!((shed("agent_rate"), shed("damping")), (1, 0), "it was on its way");
    tokio::time::sleep(std::time::Duration::from_millis(1100)).await;
    let answer = agent.ask(&request).await;
    assert_eq!((answer.status, answer.header("weir-refusal")), (429, "too_often"));
    assert_eq!((shed("agent_rate"), shed("damping")), (1, 1));
    assert_eq!(node.metrics.agents_early.get(), 1);
}
