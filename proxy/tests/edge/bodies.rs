//! Bodies within their bounds of size, time and memory.

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
async fn an_agent_that_waits_is_refused_without_its_body() {
    let node = Node::plain().await;
    let mut agent = Raw::connect(node.address).await;
    agent.write("POST /nowhere HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n").await;
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

#[tokio::test]
async fn all_bodies_together_stay_within_the_memory_they_may_take() {
    let node = Node::start("", "max_buffered_bytes = \"1 MiB\"\nmax_inflated_bytes = \"1 MiB\"").await;
    let body = "a".repeat(60 * 1024);
    let head = format!("POST /v1/uploads HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n", body.len());
    let mut first = Vec::new();
    for held in 1..=17 {
        let mut agent = Raw::connect(node.address).await;
        agent.write(&head).await;
        node.until("its body is held", |node| node.metrics.buffered_bytes.get() == held * 60 * 1024).await;
        first.push(agent);
    }
    let mut last = Raw::connect(node.address).await;
    let answer = last.ask(format!("{head}{body}")).await;
    assert_eq!((answer.status, answer.header("connection")), (503, "keep-alive"));
    for agent in &mut first {
        assert_eq!(agent.ask(&body).await.status, 200);
    }
    assert_eq!(last.ask(format!("{head}{body}")).await.status, 200);
    node.until("nothing is held", |node| node.metrics.buffered_bytes.get() == 0).await;
}
