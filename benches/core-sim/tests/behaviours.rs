//! The scripts: a core that is gone, late or wrong.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on shall say where")]

mod client;

use std::sync::Arc;
use std::time::Duration;

use client::{Client, get_h2c, parse, request};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use weir_core_sim::{Admin, Behaviour, CoreOptions, CoreSim, EndpointKind};

async fn start() -> (CoreSim, Client) {
    let core = CoreSim::start(CoreOptions::default()).await.unwrap();
    let client = Client::connect(core.address()).await.unwrap();
    (core, client)
}

const PRESENCE: [(&str, &str); 2] = [("content-type", "application/x-ndjson"), ("idempotency-key", "e/presence/1/0")];
const ROW: &str = r#"{"kind":"presence","tenant":"t","agent":"a-1","last_seen":77,"version":null}"#;

#[tokio::test]
async fn a_core_that_is_down_refuses_and_comes_back_on_the_same_port() {
    let (core, mut client) = start().await;
    assert_eq!(client.get("/healthz", &[]).await.status(), 204);
    for _ in 0..3 {
        core.script(Behaviour::Down).unwrap();
        assert!(client.send(request("GET", "/healthz", &[], "")).await.is_err(), "the old connection still answers");
        let refused = TcpStream::connect(core.address()).await.unwrap_err();
        assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);
        core.script(Behaviour::Up).unwrap();
        client = Client::connect(core.address()).await.unwrap();
        assert_eq!(client.get("/healthz", &[]).await.status(), 204);
    }
    assert_eq!(core.snapshot().requests, 4);
}

#[tokio::test]
async fn a_blink_closes_connections_as_well() {
    let (core, mut client) = start().await;
    client.get("/healthz", &[]).await;
    core.script(Behaviour::Down).unwrap();
    core.script(Behaviour::Up).unwrap();
    assert!(client.send(request("GET", "/healthz", &[], "")).await.is_err());
    let mut client = Client::connect(core.address()).await.unwrap();
    assert_eq!(client.get("/healthz", &[]).await.status(), 204);
}

#[tokio::test]
async fn a_dropped_core_takes_its_connections_along() {
    let (core, mut client) = start().await;
    let address = core.address();
    client.get("/healthz", &[]).await;
    drop(core);
    assert!(client.send(request("GET", "/healthz", &[], "")).await.is_err());
    // The listener goes with the accept loop, which ends at its next turn.
    while TcpStream::connect(address).await.is_ok() {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_reset_commits_and_breaks_off() {
    let (core, mut client) = start().await;
    core.fail_next(Some(EndpointKind::Presence), 1, Behaviour::Reset);
    assert!(client.send(request("POST", "/v1/presence", &PRESENCE, ROW)).await.is_err());
    let mut client = Client::connect(core.address()).await.unwrap();
    let repeated = client.post("/v1/presence", &PRESENCE, ROW).await;
    assert_eq!(parse(&repeated), json!({"repeated": true}));
}

#[tokio::test]
async fn a_status_commits_nothing_and_keeps_the_connection() {
    let (core, mut client) = start().await;
    core.fail_next(None, 1, Behaviour::Status { code: 429, retry_after: Some(7) });
    let told = client.post("/v1/presence", &PRESENCE, ROW).await;
    assert_eq!((told.status().as_u16(), told.headers()["retry-after"].to_str().unwrap()), (429, "7"));
    assert_eq!(parse(&client.post("/v1/presence", &PRESENCE, ROW).await), json!({"accepted": 1}));
    let snapshot = core.snapshot();
    assert_eq!(snapshot.endpoints[&EndpointKind::Presence].failed, 1);
    assert_eq!(snapshot.connections, 1);
}

#[tokio::test]
async fn a_slow_core_does_its_work_before_it_answers() {
    let (core, mut client) = start().await;
    core.script_for(EndpointKind::Presence, Behaviour::slow(Duration::from_secs(3600)));
    let waiting = tokio::spawn(async move { client.send(request("POST", "/v1/presence", &PRESENCE, ROW)).await });
    while core.last_seen("a-1").is_none() {
        tokio::task::yield_now().await;
    }
    waiting.abort();
}

#[tokio::test]
async fn a_hung_request_ends_when_the_script_changes() {
    let (core, mut client) = start().await;
    core.script(Behaviour::Hang).unwrap();
    let waiting = tokio::spawn(async move { client.send(request("GET", "/healthz", &[], "")).await });
    while core.snapshot().requests == 0 {
        tokio::task::yield_now().await;
    }
    core.script(Behaviour::Up).unwrap();
    assert!(waiting.await.unwrap().is_err());
}

#[tokio::test]
async fn garbage_is_a_200_that_does_not_parse() {
    let (core, mut client) = start().await;
    core.script(Behaviour::Garbage).unwrap();
    let answer = client.post("/v1/tasks:lookup", &[], "{}").await;
    assert_eq!(answer.status(), 200);
    assert!(serde_json::from_slice::<serde_json::Value>(answer.body()).is_err());
}

#[tokio::test]
async fn garbage_is_no_promise_to_take_a_batch() {
    let (core, mut client) = start().await;
    core.fail_next(None, 1, Behaviour::Garbage);
    let answer = client.post("/v1/presence", &PRESENCE, ROW).await;
    assert_eq!(answer.status(), 207);
    assert!(serde_json::from_slice::<serde_json::Value>(answer.body()).is_err());
    assert_eq!(core.last_seen("a-1"), None);
}

#[tokio::test]
async fn a_batch_with_a_bad_row_or_too_many_is_refused_whole() {
    let (core, mut client) = start().await;
    for (behaviour, status) in [(Behaviour::BadRows { one_in: 1 }, 400), (Behaviour::TooLarge { max_rows: 0 }, 413)] {
        core.fail_next(None, 1, behaviour);
        assert_eq!(client.post("/v1/presence", &PRESENCE, ROW).await.status(), status);
    }
    assert_eq!((core.last_seen("a-1"), core.snapshot().batches.accepted), (None, 0));
    for behaviour in [Behaviour::BadRows { one_in: 2_000_000_000 }, Behaviour::TooLarge { max_rows: 1 }] {
        core.fail_next(None, 1, behaviour);
        assert_eq!(client.post("/v1/presence", &PRESENCE, ROW).await.status(), 200);
    }
}

#[tokio::test]
async fn what_was_taken_is_not_refused_later() {
    let (core, mut client) = start().await;
    assert_eq!(parse(&client.post("/v1/presence", &PRESENCE, ROW).await), json!({"accepted": 1}));
    for behaviour in
        [Behaviour::BadRows { one_in: 1 }, Behaviour::TooLarge { max_rows: 0 }, Behaviour::Partial { one_in: 1 }]
    {
        core.fail_next(None, 1, behaviour);
        assert_eq!(parse(&client.post("/v1/presence", &PRESENCE, ROW).await), json!({"repeated": true}));
    }
}

#[tokio::test]
async fn a_part_is_answered_the_same_way_each_time() {
    let (core, mut client) = start().await;
    core.fail_next(None, 1, Behaviour::Partial { one_in: 1 });
    let first = client.post("/v1/presence", &PRESENCE, ROW).await;
    assert_eq!(first.status(), 207);
    assert_eq!(parse(&first)["rejected"][0]["row"], 0);
    let second = client.post("/v1/presence", &PRESENCE, ROW).await;
    assert_eq!((second.status(), second.body()), (first.status(), first.body()));
    let batches = core.snapshot().batches;
    assert_eq!((batches.accepted, batches.partial, batches.repeated), (1, 1, 1));
    assert_eq!(core.last_seen("a-1"), None);
}

#[tokio::test]
async fn a_status_is_given_over_http2_as_well() {
    let (core, _client) = start().await;
    core.fail_next(None, 1, Behaviour::status(503));
    assert_eq!(get_h2c(core.address(), "/healthz").await.status(), 503);
}

#[tokio::test]
async fn a_websocket_gives_every_byte_back() {
    let (core, _client) = start().await;
    let mut stream = TcpStream::connect(core.address()).await.unwrap();
    let handshake = "GET /v1/ws HTTP/1.1\r\nHost: core\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
        Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    stream.write_all(handshake.as_bytes()).await.unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.unwrap());
    }
    let head = String::from_utf8(head).unwrap().to_ascii_lowercase();
    assert!(head.starts_with("http/1.1 101"), "{head}");
    assert!(head.contains("sec-websocket-accept: s3pplmbitxaq9kygzzhzrbk+xoo="), "{head}");
    stream.write_all(b"\x81\x85any bytes").await.unwrap();
    let mut back = [0; 11];
    stream.read_exact(&mut back).await.unwrap();
    assert_eq!(&back, b"\x81\x85any bytes");
    core.script(Behaviour::Down).unwrap();
    assert_eq!(stream.read(&mut back).await.unwrap_or(0), 0, "the core is down and the echo goes on");
}

#[tokio::test]
async fn the_admin_port_reads_and_orders() {
    let (core, mut client) = start().await;
    let admin = Admin::bind(([127, 0, 0, 1], 0).into(), Arc::new(core)).await.unwrap();
    let mut operator = Client::connect(admin.address().unwrap()).await.unwrap();
    let serving = tokio::spawn(admin.serve());
    let order = r#"{"behaviour":{"status":{"code":500}},"kind":"health"}"#;
    assert_eq!(operator.post("/behaviour", &[], order).await.status(), 200);
    assert_eq!(client.get("/healthz", &[]).await.status(), 500);
    let counters = parse(&operator.get("/counters", &[]).await);
    assert_eq!(counters["endpoints"]["health"]["failed"], 1);
    let wrong = operator.post("/behaviour", &[], r#"{"behavior":"up"}"#).await;
    assert_eq!(wrong.status(), 400);
    assert!(String::from_utf8_lossy(wrong.body()).contains("unknown field `behavior`"));
    serving.abort();
}
