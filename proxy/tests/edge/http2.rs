//! HTTP/2: with ALPN over TLS, with prior knowledge in plaintext.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::Frame;
use hyper::client::conn::http2::{SendRequest, handshake};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls_pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::node::Node;
use crate::tls::Secure;

pub(crate) type Sender = SendRequest<Full<Bytes>>;

async fn over<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(stream: S) -> Sender {
    let (sender, connection) = handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    weir::task::spawn("client", connection);
    sender
}

pub(crate) async fn plain(node: &Node) -> Sender {
    over(TcpStream::connect(node.address).await.unwrap()).await
}

pub(crate) async fn send(sender: &mut Sender, method: &str, path: &str, body: &str) -> (u16, http::HeaderMap, String) {
    let request = http::Request::builder()
        .method(method)
        .uri(format!("http://localhost{path}"))
        .header("x-agent-id", "a-1")
        .body(Full::new(Bytes::from(body.to_owned())))
        .unwrap();
    sender.ready().await.unwrap();
    let answer = sender.send_request(request).await.unwrap();
    let (parts, body) = answer.into_parts();
    let body = String::from_utf8_lossy(&body.collect().await.unwrap().to_bytes()).into_owned();
    (parts.status.as_u16(), parts.headers, body)
}

#[tokio::test]
async fn an_action_sees_the_same_request() {
    let node = Node::plain().await;
    let mut agent = plain(&node).await;
    let (status, headers, body) = send(&mut agent, "GET", "/v1/things/a?x=1", "").await;
    assert_eq!(status, 200);
    assert_eq!(headers["server"], "weir");
    assert_eq!(body, r#"Get things /v1/things/a query=Some("x=1") host=localhost agent="a-1" tenant="" body="#);
    let (_, _, body) = send(&mut agent, "POST", "/v1/uploads", "hello").await;
    assert!(body.ends_with("body=hello"));
    let (status, headers, body) = send(&mut agent, "HEAD", "/v1/things/a", "").await;
    assert_eq!((status, body.as_str()), (200, ""));
    assert!(headers.contains_key("content-length"));
}

#[tokio::test]
async fn it_is_chosen_by_alpn() {
    let edge = Secure::start("optional", "").await;
    for (protocols, chosen) in [(&["h2"][..], "h2"), (&["http/1.1"], "http/1.1"), (&["h2", "http/1.1"], "h2")] {
        let client = edge.authority.client(None, protocols);
        let tcp = TcpStream::connect(edge.node.address).await.unwrap();
        let name = ServerName::try_from("localhost").unwrap();
        let stream = TlsConnector::from(Arc::clone(&client)).connect(name, tcp).await.unwrap();
        assert_eq!(stream.get_ref().1.alpn_protocol(), Some(chosen.as_bytes()));
        if chosen == "h2" {
            let (status, ..) = send(&mut over(stream).await, "GET", "/v1/things/a", "").await;
            assert_eq!(status, 200);
        }
    }
}

#[tokio::test]
async fn refusals_keep_the_connection() {
    let node = Node::plain().await;
    let mut agent = plain(&node).await;
    for (method, path, body, status) in [
        ("GET", "/nowhere", "", 404),
        ("DELETE", "/v1/things/a", "", 405),
        ("POST", "/nowhere", "a body that nobody reads", 404),
        ("POST", "/v1/uploads", &*"a".repeat(100 * 1024), 413),
    ] {
        let (got, headers, _) = send(&mut agent, method, path, body).await;
        assert_eq!(got, status, "{path}");
        assert!(headers.contains_key("weir-refusal"));
    }
    assert_eq!(send(&mut agent, "GET", "/v1/things/a", "").await.0, 200);
    assert_eq!(node.metrics.connections_accepted.with_label_values(&["agents"]).get(), 1);
}

#[tokio::test]
async fn a_drain_says_goaway_and_answers_what_is_open() {
    let node = Node::plain().await;
    let mut agent = plain(&node).await;
    let mut other = agent.clone();
    let open = weir::task::spawn("request", async move { send(&mut other, "GET", "/v1/hold/a", "").await });
    node.until("the request is held", |node| node.metrics.requests_in_flight.get() == 1).await;
    node.drain.begin(Duration::ZERO);
    node.held.add_permits(1);
    assert_eq!(open.await.unwrap().unwrap().0, 200);
    node.drain.finished().await;
    assert!(agent.ready().await.is_err());
}

#[tokio::test]
async fn an_idle_connection_is_closed() {
    let node = Node::start("idle_timeout = \"1s\"", "").await;
    let mut agent = plain(&node).await;
    assert_eq!(send(&mut agent, "GET", "/v1/things/a", "").await.0, 200);
    node.until("it is gone", |node| node.drain.open() == 0).await;
    assert!(agent.is_closed() || agent.ready().await.is_err());
}

#[tokio::test]
async fn it_is_not_spoken_where_it_is_switched_off() {
    let node = Node::start("http2 = false", "").await;
    let mut agent = crate::client::Raw::connect(node.address).await;
    let answer = agent.ask("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await;
    assert_eq!(answer.status, 400);
}

#[tokio::test]
async fn a_forwarded_body_that_ends_in_an_empty_frame_does_not_poison_the_core() {
    let node = Node::plain().await;
    let stream = TcpStream::connect(node.address).await.unwrap();
    let (mut sender, connection) = handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    weir::task::spawn("client", connection);
    for _ in 0..3 {
        let frames = ["hello", ""].map(|text| Ok::<_, Infallible>(Frame::data(Bytes::from(text))));
        let body = StreamBody::new(futures::stream::iter(frames));
        let request = http::Request::post("http://localhost/v1/echo").body(body).unwrap();
        let answer = sender.send_request(request).await.unwrap();
        assert_eq!(answer.status(), 200);
        let text = answer.into_body().collect().await.unwrap().to_bytes();
        assert!(String::from_utf8_lossy(&text).contains(r#""body_bytes":5"#), "{text:?}");
    }
    assert_eq!(node.core.snapshot().requests, 3);
}
