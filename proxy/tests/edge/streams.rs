//! Bodies that come piece by piece, over HTTP/1.1 and HTTP/2.

use http_body_util::{BodyExt, Full};

use crate::client::Raw;
use crate::http2;
use crate::node::Node;

const HELD: &str = "/v1/things/a?stream=";

#[tokio::test]
async fn a_stream_of_known_length_is_framed_by_it_and_keeps_the_connection() {
    let node = Node::plain().await;
    let mut agent = Raw::connect(node.address).await;
    for _ in 0..2 {
        let answer = agent.get(&format!("{HELD}known")).await;
        assert_eq!((answer.status, answer.body.as_str()), (200, "one-two-tri."));
        assert_eq!(answer.header("content-length"), "12");
    }
    node.until("both are counted", |node| node.count("things", "hit") == 2).await;
    let bytes = node.metrics.answer_bytes.with_label_values(&["things", "hit"]).get();
    assert_eq!(bytes, 24);
}

#[tokio::test]
async fn a_stream_of_unknown_length_is_chunked_and_keeps_the_connection() {
    let node = Node::plain().await;
    let mut agent = Raw::connect(node.address).await;
    let head = agent.get(&format!("{HELD}open")).await;
    assert_eq!((head.header("transfer-encoding"), head.header("content-length")), ("chunked", ""));
    agent.write("GET /v1/things/b HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").await;
    let rest = agent.rest().await;
    let (chunks, next) = rest.split_once("0\r\n\r\n").unwrap();
    assert_eq!(chunks, "4\r\none-\r\n4\r\ntwo-\r\n4\r\ntri.\r\n");
    assert!(next.starts_with("HTTP/1.1 200 OK"), "{next}");
}

#[tokio::test]
async fn an_agent_of_http_1_0_learns_of_the_end_by_the_close() {
    let node = Node::plain().await;
    let mut agent = Raw::connect(node.address).await;
    agent.write(format!("GET {HELD}open HTTP/1.0\r\nHost: localhost\r\nConnection: keep-alive\r\n\r\n")).await;
    let all = agent.rest().await;
    assert!(all.ends_with("\r\n\r\none-two-tri.") && !all.contains("chunked"), "{all}");
}

#[tokio::test]
async fn a_head_request_learns_the_length_and_reads_nothing() {
    let node = Node::plain().await;
    let mut agent = Raw::connect(node.address).await;
    agent.write(format!("HEAD {HELD}known-cut HTTP/1.1\r\nHost: localhost\r\n\r\n")).await;
    assert_eq!(agent.head_answer().await.header("content-length"), "12");
    assert_eq!(agent.get("/v1/things/a").await.status, 200, "the connection is kept");
}

#[tokio::test]
async fn a_stream_that_breaks_off_ends_the_connection_before_the_body_looks_whole() {
    let node = Node::plain().await;
    for script in ["known-cut", "open-cut"] {
        let mut agent = Raw::connect(node.address).await;
        agent.write(format!("GET {HELD}{script} HTTP/1.1\r\nHost: localhost\r\n\r\n")).await;
        let all = agent.rest().await;
        assert!(all.contains("two-") && !all.contains("\r\n0\r\n"), "{all}");
    }
    node.until("both are counted", |node| node.count("things", "failed") == 2).await;
    let bytes = node.metrics.answer_bytes.with_label_values(&["things", "failed"]).get();
    assert_eq!(bytes, 16, "what was written counts");
}

#[tokio::test]
async fn over_http2_a_stream_that_breaks_off_is_reset_and_the_connection_goes_on() {
    let node = Node::plain().await;
    let mut agent = http2::plain(&node).await;
    for (script, length) in [("known", Some("12")), ("open", None)] {
        let (status, headers, body) = http2::send(&mut agent, "GET", &format!("{HELD}{script}"), "").await;
        assert_eq!((status, body.as_str()), (200, "one-two-tri."));
        assert_eq!(headers.get("content-length").map(|value| value.to_str().unwrap()), length);
    }
    for script in ["known-cut", "open-cut"] {
        let request = http::Request::get(format!("http://localhost{HELD}{script}")).body(Full::default()).unwrap();
        // The reset may overtake what was written before it.
        if let Ok(answer) = agent.send_request(request).await {
            assert!(answer.into_body().collect().await.is_err(), "{script}");
        }
    }
    let (status, ..) = http2::send(&mut agent, "GET", "/v1/things/a", "").await;
    assert_eq!(status, 200);
}
