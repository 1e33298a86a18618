//! Bounds of connections: how many, how long, and what a load balancer says of them.

use std::time::Duration;

use tokio::net::TcpStream;

use crate::client::Raw;
use crate::http2;
use crate::node::Node;
use crate::tls::Secure;

fn refused(node: &Node, cause: &str) -> u64 {
    node.metrics.connections_refused.with_label_values(&["agents", cause]).get()
}

#[tokio::test]
async fn a_connection_too_many_is_closed_and_a_place_that_is_left_is_given_again() {
    let node = Node::start("max_connections = 2", "").await;
    let mut first = Raw::connect(node.address).await;
    let mut second = Raw::connect(node.address).await;
    assert_eq!(first.get("/v1/things/a").await.status, 200);
    assert_eq!(second.get("/v1/things/a").await.status, 200);
    assert!(Raw::connect(node.address).await.is_closed().await);
    assert_eq!(refused(&node, "limit"), 1);
    drop(first);
    node.until("its place is free", |node| node.drain.open() == 1).await;
    assert_eq!(Raw::connect(node.address).await.get("/v1/things/a").await.status, 200);
}

#[tokio::test]
async fn an_idle_connection_is_closed_and_a_slow_header_as_well() {
    let node = Node::start("idle_timeout = \"1s\"\nheader_timeout = \"1s\"", "").await;
    let mut idle = Raw::connect(node.address).await;
    assert_eq!(idle.get("/v1/things/a").await.status, 200);
    assert!(idle.is_closed().await);
    let mut silent = Raw::connect(node.address).await;
    assert!(silent.is_closed().await);
    let mut slow = Raw::connect(node.address).await;
    slow.write("GET /v1/things/a HT").await;
    assert!(slow.is_closed().await);
    assert_eq!(refused(&node, "header_timeout"), 1);
    node.until("all are gone", |node| node.drain.open() == 0).await;
    assert_eq!(node.metrics.connections.with_label_values(&["agents"]).get(), 0);
}

#[tokio::test]
async fn an_old_connection_ends_with_an_answer() {
    let node = Node::start("max_age = \"1s\"", "").await;
    let mut agent = Raw::connect(node.address).await;
    let mut answers = 0;
    loop {
        let answer = agent.get("/v1/things/a").await;
        assert_eq!(answer.status, 200);
        answers += 1;
        if answer.header("connection") == "close" {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(answers > 1 && agent.is_closed().await);
    node.until("it is gone", |node| ended(node, "age") == 1).await;
}

#[tokio::test]
async fn an_old_connection_with_http2_is_told_to_end() {
    let node = Node::start("max_age = \"1s\"\ntrusted_headers = true", "").await;
    let mut agent = http2::plain(&node).await;
    assert_eq!(http2::send(&mut agent, "GET", "/v1/things/a", "").await.0, 200);
    node.until("it is gone", |node| ended(node, "age") == 1).await;
    assert!(agent.ready().await.is_err());
}

fn ended(node: &Node, reason: &str) -> u64 {
    node.metrics.connections_ended.with_label_values(&["agents", reason]).get()
}

#[tokio::test]
async fn the_gauge_says_what_the_kernel_says() {
    let node = Node::start("", "").await;
    let gauge = || usize::try_from(node.metrics.connections.with_label_values(&["agents"]).get()).unwrap();
    let mut agents = Vec::new();
    for _ in 0..50 {
        let mut agent = Raw::connect(node.address).await;
        assert_eq!(agent.get("/v1/things/a").await.status, 200);
        agents.push(agent);
    }
    assert_eq!((gauge(), established(node.address)), (50, 50));
    agents.truncate(20);
    node.until("thirty have gone", |_| gauge() == 20).await;
    assert_eq!(established(node.address), 20);
    node.drain.begin(Duration::ZERO);
    node.drain.finished().await;
    assert_eq!((gauge(), established(node.address)), (0, 0));
    assert_eq!((ended(&node, "agent"), ended(&node, "drain")), (30, 20));
}

/// The node's ends of connections that the kernel knows as established.
fn established(address: std::net::SocketAddr) -> usize {
    let table = std::fs::read_to_string("/proc/self/net/tcp").unwrap();
    let port = format!(":{:04X}", address.port());
    let sockets = table.lines().skip(1).map(|line| line.split_whitespace().collect::<Vec<_>>());
    sockets.filter(|fields| fields[1].ends_with(&port) && fields[3] == "01").count()
}

#[tokio::test]
async fn half_open_clients_give_their_handshakes_back() {
    let edge = Secure::start("off", ", max_handshakes = 2, handshake_timeout = \"500ms\"").await;
    let mut half_open = Vec::new();
    for _ in 0..2 {
        half_open.push(TcpStream::connect(edge.node.address).await.unwrap());
    }
    let running = edge.node.metrics.handshakes_running.with_label_values(&["agents"]);
    edge.node.until("both have begun", |node| node.drain.open() == 2 && running.get() == 2).await;
    // It waits in the kernel's queue until the two have had their time.
    let mut agent = Raw::connect_tls(edge.node.address, edge.authority.client(None, &[])).await.unwrap();
    assert_eq!(agent.get("/v1/things/a").await.status, 200);
    assert!(edge.node.metrics.handshakes.with_label_values(&["timeout"]).get() >= 1);
    edge.node.until("both are gone", |node| refused(node, "timeout") == 2 && node.drain.open() == 1).await;
    assert_eq!(running.get(), 0);
    drop(half_open);
}

#[tokio::test]
async fn what_is_not_tls_is_refused() {
    let edge = Secure::start("off", "").await;
    let mut agent = Raw::connect(edge.node.address).await;
    agent.write("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    edge.node.until("it is refused", |node| refused(node, "handshake") == 1).await;
}

const PROXY_HEADER: &[u8] = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\xc0\0\x02\x07\x0a\0\0\x01\x30\x39\x01\xbb";
const LOCAL_HEADER: &[u8] = b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0";

#[tokio::test]
async fn the_proxy_header_tells_the_agents_address() {
    let node = Node::start("proxy_protocol = \"v2\"", "").await;
    let mut agent = Raw::connect(node.address).await;
    agent.write(PROXY_HEADER).await;
    let answer = agent.get("/v1/echo").await;
    assert!(answer.body.contains(r#""x-forwarded-for":["192.0.2.7"]"#), "{}", answer.body);
    let mut balancer = Raw::connect(node.address).await;
    balancer.write(LOCAL_HEADER).await;
    assert!(balancer.get("/v1/echo").await.body.contains(r#""x-forwarded-for":["127.0.0.1"]"#));
}

#[tokio::test]
async fn without_a_proxy_header_or_from_a_stranger_nothing_is_served() {
    let node = Node::start("proxy_protocol = \"v2\"", "").await;
    let mut agent = Raw::connect(node.address).await;
    agent.write("GET /v1/things/a HTTP/1.1\r\nHost: a\r\n\r\n").await;
    node.until("it is refused", |node| refused(node, "proxy_header") == 1).await;
    drop(TcpStream::connect(node.address).await.unwrap());
    node.until("the health check is silent", |node| refused(node, "silent") == 1).await;
    let node = Node::start("proxy_protocol = \"v2\"\nproxy_sources = [\"192.0.2.0/24\"]", "").await;
    let mut agent = Raw::connect(node.address).await;
    agent.write(PROXY_HEADER).await;
    node.until("it is refused", |node| refused(node, "proxy_source") == 1).await;
    assert_eq!(node.count("things", "hit"), 0);
}

#[tokio::test]
async fn a_peer_that_takes_nothing_is_given_up() {
    let node = Node::start("body_timeout = \"300ms\"", "").await;
    let mut agent = Raw::connect(node.address).await;
    agent.write("GET /v1/stream?bytes=50000000&chunk=65536 HTTP/1.1\r\nHost: a\r\n\r\n").await;
    node.until("it is asked", |node| node.metrics.requests_in_flight.get() == 1).await;
    node.until("it is gone", |node| node.drain.open() == 0).await;
    assert_eq!(node.count("forward", "abandoned"), 1);
}
