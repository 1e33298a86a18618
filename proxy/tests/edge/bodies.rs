//! Bodies within their bounds of size, time and memory.

use tokio::net::TcpStream;

use crate::client::Raw;
use crate::node::Node;

#[tokio::test]
async fn bodies_reach_the_action_however_they_are_framed() {
    let node = Node::plain().await;
    let mut agent = Raw::connect(node.address).await;
    let plain = "POST /v1/uploads HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello";
    assert!(agent.ask(plain).await.body.ends_with("body=hello"));
    let chunked =
        "POST /v1/uploads HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n";
    assert!(agent.ask(chunked).await.body.ends_with("body=hello"));
    let empty = "POST /v1/uploads HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n";
    assert!(agent.ask(empty).await.body.ends_with("body="));
    assert_eq!(node.metrics.request_bytes.with_label_values(&["uploads", "hit"]).get(), 10);
}

#[tokio::test]
async fn an_agent_that_waits_for_continue_is_told_to_go_on() {
    let node = Node::plain().await;
    let mut agent = Raw::connect(node.address).await;
    agent.write("POST /v1/uploads HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n").await;
    assert_eq!(agent.answer().await.status, 100);
    let answer = agent.ask("hello").await;
    assert!(answer.body.ends_with("body=hello"));
    assert_eq!(answer.header("connection"), "keep-alive");
}

#[tokio::test]
async fn an_agent_that_waits_is_refused_without_a_large_body() {
    let node = Node::plain().await;
    let mut agent = Raw::connect(node.address).await;
    agent.write("POST /nowhere HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 70000\r\n\r\n").await;
    let answer = agent.answer().await;
    assert_eq!((answer.status, answer.header("connection")), (404, "close"));
    assert!(agent.is_closed().await);
}

#[tokio::test]
async fn a_body_that_is_too_long_is_refused() {
    let node = Node::plain().await;
    let length = 65 * 1024;
    let mut agent = Raw::connect(node.address).await;
    let head = format!("POST /v1/uploads HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n");
    let answer = agent.ask([head.as_bytes(), &vec![b'a'; length]].concat()).await;
    assert_eq!((answer.status, answer.header("connection")), (413, "keep-alive"), "small enough to be read and kept");
    let chunk = format!("{length:x}\r\n{}\r\n0\r\n\r\n", "a".repeat(length));
    let head = "POST /v1/uploads HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
    let answer = agent.ask(format!("{head}{chunk}")).await;
    assert_eq!(answer.status, 413);
    let mut agent = Raw::connect(node.address).await;
    let answer = agent.ask("POST /v1/uploads HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999999\r\n\r\n").await;
    assert_eq!((answer.status, answer.header("connection")), (413, "close"));
    assert!(agent.is_closed().await);
}

#[tokio::test]
async fn a_body_that_does_not_come_in_time_is_refused() {
    let node = Node::start("body_timeout = \"200ms\"", "").await;
    let mut agent = Raw::connect(node.address).await;
    let answer = agent.ask("POST /v1/uploads HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhe").await;
    assert_eq!((answer.status, answer.header("connection")), (408, "close"));
    assert!(answer.header("retry-after").parse::<u32>().is_ok());
}

#[tokio::test]
async fn an_agent_that_leaves_within_its_body_is_counted_as_gone() {
    let node = Node::plain().await;
    let mut agent = Raw::connect(node.address).await;
    agent.write("POST /v1/uploads HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhe").await;
    drop(agent);
    node.until("it is counted", |node| node.count("uploads", "abandoned") == 1).await;
}

/// The head of an upload of so many bytes.
fn head(tenant: &str, length: usize) -> String {
    format!("POST /v1/uploads HTTP/1.1\r\nHost: a\r\nX-Tenant-Id: {tenant}\r\nContent-Length: {length}\r\n\r\n")
}

/// Agents of a tenant that have begun to send; their bodies are held from then on.
async fn holding(node: &Node, tenant: &str, agents: usize, length: usize) -> Vec<Raw<TcpStream>> {
    let before = node.metrics.buffered_bytes.get();
    let mut holding = Vec::new();
    for _ in 0..agents {
        let mut agent = Raw::connect(node.address).await;
        agent.write(head(tenant, length)).await;
        holding.push(agent);
    }
    let held = i64::try_from(agents * length).unwrap();
    node.until("their bodies are held", |node| node.metrics.buffered_bytes.get() == before + held).await;
    holding
}

#[tokio::test]
async fn all_bodies_together_stay_within_the_memory_they_may_take() {
    let limits = "max_buffered_bytes = \"16 MiB\"\nmax_inflated_bytes = \"1 MiB\"\ntenant_share = 1.0";
    let node = Node::start("trusted_headers = true", limits).await;
    // 256 of them fill the budget to the last byte.
    let body = "a".repeat(64 * 1024);
    let mut first = holding(&node, "t-1", 256, body.len()).await;
    let mut last = Raw::connect(node.address).await;
    let answer = last.ask(format!("{}{body}", head("t-2", body.len()))).await;
    assert_eq!((answer.status, answer.header("connection")), (503, "keep-alive"));
    assert!(answer.header("retry-after").parse::<u32>().is_ok());
    for agent in &mut first {
        assert_eq!(agent.ask(&body).await.status, 200);
    }
    assert_eq!(last.ask(format!("{}{body}", head("t-2", body.len()))).await.status, 200);
    node.until("nothing is held", |node| node.metrics.buffered_bytes.get() == 0).await;
}

#[tokio::test]
async fn a_tenant_at_its_share_of_memory_is_told_so_and_others_are_not() {
    let limits = "max_buffered_bytes = \"32 MiB\"\nmax_inflated_bytes = \"1 MiB\"\ntenant_share = \"50 %\"";
    let node = Node::start("trusted_headers = true", limits).await;
    let body = "a".repeat(64 * 1024);
    let mut first = holding(&node, "t-1", 256, body.len()).await;
    let mut next = Raw::connect(node.address).await;
    let answer = next.ask(format!("{}{body}", head("t-1", body.len()))).await;
    assert_eq!((answer.status, answer.header("connection")), (429, "keep-alive"));
    assert_eq!(answer.header("weir-refusal"), "over_share");
    assert!(answer.header("retry-after").parse::<u32>().is_ok());
    assert_eq!(next.ask(format!("{}{body}", head("t-2", body.len()))).await.status, 200, "on the same connection");
    assert_eq!(node.metrics.buffered_refused.with_label_values(&["tenant_share"]).get(), 1);
    assert_eq!(first[0].ask(&body).await.status, 200);
    assert_eq!(next.ask(format!("{}{body}", head("t-1", body.len()))).await.status, 200);
}

#[tokio::test]
async fn a_body_in_chunks_is_held_as_it_comes() {
    let node = Node::plain().await;
    let mut agent = Raw::connect(node.address).await;
    agent.write("POST /v1/uploads HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n").await;
    for chunks in 1..=4 {
        agent.write(format!("3e8\r\n{}\r\n", "a".repeat(1000))).await;
        node.until("the chunk is held", |node| node.metrics.buffered_bytes.get() >= chunks * 1000).await;
    }
    assert!(node.metrics.buffered_bytes.get() <= 8000);
    assert_eq!(agent.ask("0\r\n\r\n").await.status, 200);
    node.until("nothing is held", |node| node.metrics.buffered_bytes.get() == 0).await;
}
