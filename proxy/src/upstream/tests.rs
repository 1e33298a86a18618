//! The upstream side against the simulated core.

mod bulkheads;
mod gate;
mod streams;
mod tls;

use std::path::Path;
use std::time::Duration;

use weir_config::{Class, Config, MemoryEnvironment};
use weir_core_sim::{Behaviour, CoreOptions, CoreSim, EndpointKind};

use super::*;
use crate::clock::Clock;
use crate::metrics::Metrics;

/// A configuration whose cores are these sections.
fn config(cores: &str) -> Config {
    let text = format!(
        "[edge]\nregion = \"test\"\ndata_dir = \"/var/lib/weir\"\n[[listener]]\naddress = \"127.0.0.1:8080\"\n{cores}\n\
         [[route]]\nname = \"all\"\nmatch = {{ method = \"GET\", path = \"/{{rest*}}\" }}\nclass = \"config\"\naction = \"forward\"\n"
    );
    let environment = MemoryEnvironment::new().file("/weir.toml", text);
    match weir_config::parse(&environment, Path::new("/weir.toml")) {
        Ok(parsed) => parsed.config,
        Err(problems) => panic!("{problems}"),
    }
}

fn upstream(cores: &str) -> (Upstream, Metrics) {
    let metrics = Metrics::new();
    let upstream = Upstream::new(&config(cores), metrics.clone(), Clock::start()).unwrap();
    (upstream, metrics)
}

fn one_core(sim: &CoreSim, more: &str) -> String {
    format!("[core]\npeers = [\"{}\"]\n{more}\n", sim.address())
}

fn request(method: Method, target: &str, body: &'static [u8]) -> OriginRequest {
    OriginRequest {
        core: CoreId(0),
        label: "test".into(),
        rank: Rank::Class(Class::Config),
        method,
        target: target.to_owned(),
        headers: Vec::new(),
        body: Bytes::from_static(body),
        max_answer_bytes: 1 << 20,
        patience: Patience::Whole,
        repeatable: true,
        sending: Sending::First,
    }
}

fn get(target: &str) -> OriginRequest {
    request(Method::GET, target, b"")
}

async fn started(options: CoreOptions) -> CoreSim {
    CoreSim::start(options).await.unwrap()
}

fn told(answer: &OriginAnswer) -> serde_json::Value {
    serde_json::from_slice(&answer.body).unwrap()
}

#[tokio::test]
async fn requests_carry_host_length_and_agent_and_share_a_connection() {
    let sim = started(CoreOptions::default()).await;
    let (upstream, metrics) = upstream(&one_core(&sim, ""));
    for _ in 0..5 {
        let answer = upstream.send(request(Method::POST, "/v1/echo/a?b=c", b"hello")).await.unwrap();
        let told = told(&answer);
        assert_eq!(told["body_bytes"], 5);
        assert_eq!(told["query"], "b=c");
        assert_eq!(told["headers"]["host"][0], sim.address().to_string());
        assert_eq!(told["headers"]["content-length"][0], "5");
        assert_eq!(told["headers"]["user-agent"][0], concat!("weir/", env!("CARGO_PKG_VERSION")));
    }
    assert_eq!(sim.snapshot().connections, 1);
    let text = metrics.render();
    assert!(text.contains(r#"weir_core_requests_total{core="core",label="test",result="2xx"} 5"#), "{text}");
    assert!(text.contains(r#"weir_core_gate_inflight{core="core"} 0"#));
}

#[tokio::test]
async fn a_key_that_names_the_agents_own_name_sends_that_and_no_other() {
    let sim = started(CoreOptions::default()).await;
    let (upstream, _) = upstream(&one_core(&sim, ""));
    let named = (http::header::USER_AGENT, http::HeaderValue::from_static("agent/7"));
    let answer = upstream.send(OriginRequest { headers: vec![named], ..get("/v1/echo") }).await.unwrap();
    assert_eq!(told(&answer)["headers"]["user-agent"], serde_json::json!(["agent/7"]));
}

#[tokio::test]
async fn the_operators_host_is_what_the_core_sees() {
    let sim = started(CoreOptions::default()).await;
    let (upstream, _) = upstream(&one_core(&sim, "host = \"core.example\""));
    let answer = upstream.send(get("/v1/echo")).await.unwrap();
    assert_eq!(told(&answer)["headers"]["host"][0], "core.example");
}

#[tokio::test]
async fn plaintext_http2_is_spoken_with_prior_knowledge() {
    let sim = started(CoreOptions::default()).await;
    let (upstream, _) = upstream(&one_core(&sim, "protocol = \"http2\""));
    for body in [&b""[..], b"hello"] {
        let answer = upstream.send(request(Method::POST, "/v1/echo", body)).await.unwrap();
        assert_eq!(told(&answer)["version"], "HTTP/2.0");
        assert_eq!(told(&answer)["body_bytes"], body.len());
    }
    assert_eq!(sim.snapshot().connections, 1);
}

#[tokio::test]
async fn an_answer_is_bounded_and_its_core_not_blamed() {
    let sim = started(CoreOptions::default()).await;
    let (upstream, _) = upstream(&one_core(&sim, "breaker_failures = 1"));
    let bounded = |bytes| OriginRequest { max_answer_bytes: bytes, ..get("/v1/stream?bytes=200000&chunk=50000") };
    assert_eq!(upstream.send(bounded(199_999)).await.unwrap_err(), OriginError::TooLarge(199_999));
    assert_eq!(upstream.send(bounded(200_000)).await.unwrap().body.len(), 200_000);
    assert_eq!(upstream.status()[0].breaker, "closed");
}

#[tokio::test]
async fn a_head_answer_has_a_length_and_no_body() {
    let sim = started(CoreOptions::default()).await;
    let (upstream, _) = upstream(&one_core(&sim, ""));
    for _ in 0..2 {
        let head = upstream.send(request(Method::HEAD, "/v1/updates/stable/manifest.json", b"")).await.unwrap();
        assert_eq!((head.status, head.body.len()), (StatusCode::OK, 0));
    }
    assert_eq!(sim.snapshot().connections, 1);
}

#[tokio::test]
async fn a_silent_core_times_out_and_a_broken_one_is_told_apart() {
    let sim = started(CoreOptions::default()).await;
    let (upstream, _) = upstream(&one_core(&sim, "request_timeout = \"200ms\"\nbreaker_failures = 100"));
    sim.script(Behaviour::Hang).unwrap();
    assert_eq!(upstream.send(get("/v1/echo")).await.unwrap_err(), OriginError::Timeout);
    sim.script(Behaviour::Reset).unwrap();
    assert_eq!(upstream.send(get("/v1/updates/stable/manifest.json")).await.unwrap_err(), OriginError::Broken);
    sim.script(Behaviour::Down).unwrap();
    assert_eq!(upstream.send(get("/v1/echo")).await.unwrap_err(), OriginError::Connect);
    sim.script(Behaviour::Up).unwrap();
    assert_eq!(upstream.send(get("/v1/echo")).await.unwrap().status, StatusCode::OK);
}

#[tokio::test]
async fn a_pooled_connection_that_died_is_replaced_once_where_that_does_no_harm() {
    let sim = started(CoreOptions::default()).await;
    let (upstream, _) = upstream(&one_core(&sim, "breaker_failures = 100"));
    upstream.send(get("/v1/echo")).await.unwrap();
    // The connection is closed when the request arrives: the node cannot know that nothing was done.
    let down = |times| sim.fail_next(Some(EndpointKind::Echo), times, Behaviour::Down);
    down(1);
    assert_eq!(upstream.send(get("/v1/echo")).await.unwrap().status, StatusCode::OK);
    down(1);
    let once = OriginRequest { repeatable: false, ..get("/v1/echo") };
    assert_eq!(upstream.send(once).await.unwrap_err(), OriginError::Broken);
    upstream.send(get("/v1/echo")).await.unwrap();
    down(2);
    assert_eq!(upstream.send(get("/v1/echo")).await.unwrap_err(), OriginError::Broken, "once, not for ever");
}

#[tokio::test]
async fn a_core_that_was_restarted_is_reached_again() {
    for protocol in ["http1", "http2"] {
        let sim = started(CoreOptions::default()).await;
        let (upstream, _) = upstream(&one_core(&sim, &format!("protocol = \"{protocol}\"")));
        for _ in 0..3 {
            assert_eq!(upstream.send(get("/v1/echo")).await.unwrap().status, StatusCode::OK, "{protocol}");
            sim.script(Behaviour::Down).unwrap();
            sim.script(Behaviour::Up).unwrap();
        }
    }
}

#[tokio::test]
async fn a_refusal_of_a_long_body_is_heard() {
    let sim = started(CoreOptions { max_body_bytes: 1_000, ..CoreOptions::default() }).await;
    for protocol in ["http1", "http2"] {
        let (upstream, _) = upstream(&one_core(&sim, &format!("protocol = \"{protocol}\"")));
        let body = Bytes::from(vec![b'x'; 16 << 20]);
        for _ in 0..3 {
            let request = OriginRequest { body: body.clone(), ..request(Method::POST, "/v1/batches/process", b"") };
            let answer = upstream.send(request).await.unwrap();
            assert_eq!(answer.status, StatusCode::PAYLOAD_TOO_LARGE, "{protocol}");
        }
        assert_eq!(upstream.send(get("/v1/echo")).await.unwrap().status, StatusCode::OK);
    }
}

#[tokio::test]
async fn many_requests_at_once_share_few_http2_connections() {
    let sim = started(CoreOptions::default()).await;
    let (upstream, _) = upstream(&one_core(&sim, "protocol = \"http2\"\nmax_requests_per_second = 100000"));
    upstream.send(get("/v1/echo")).await.unwrap();
    let answers = futures::future::join_all((0..150).map(|_| upstream.send(get("/v1/echo")))).await;
    assert!(answers.iter().all(Result::is_ok));
    assert!(sim.snapshot().connections <= 3, "{}", sim.snapshot().connections);
}

#[tokio::test]
async fn the_next_peer_is_tried_when_one_takes_no_connection() {
    let (dead, alive) = (started(CoreOptions::default()).await, started(CoreOptions::default()).await);
    dead.script(Behaviour::Down).unwrap();
    let section = format!("[core]\npeers = [\"{}\", \"{}\"]\n", dead.address(), alive.address());
    let (upstream, _) = upstream(&section);
    for _ in 0..6 {
        assert_eq!(upstream.send(get("/v1/echo")).await.unwrap().status, StatusCode::OK);
    }
    assert_eq!(alive.snapshot().requests, 6);
}

#[tokio::test]
async fn peers_take_turns() {
    let (one, two) = (started(CoreOptions::default()).await, started(CoreOptions::default()).await);
    let (upstream, _) = upstream(&format!("[core]\npeers = [\"{}\", \"{}\"]\n", one.address(), two.address()));
    for _ in 0..6 {
        upstream.send(get("/v1/echo")).await.unwrap();
    }
    assert_eq!((one.snapshot().requests, two.snapshot().requests), (3, 3));
}

#[tokio::test]
async fn a_name_is_resolved_and_unknown_names_are_no_connection() {
    let sim = started(CoreOptions::default()).await;
    let (known, _) = upstream(&format!("[core]\npeers = [\"localhost:{}\"]\n", sim.address().port()));
    assert_eq!(known.send(get("/v1/echo")).await.unwrap().status, StatusCode::OK);
    let (unknown, _) = upstream("[core]\npeers = [\"core.invalid:80\"]\n");
    assert_eq!(unknown.send(get("/v1/echo")).await.unwrap_err(), OriginError::Connect);
    assert!(unknown.peer(CoreId(0)).await.is_none());
}

#[tokio::test]
async fn unhealthy_peers_are_left_out_until_they_are_well() {
    let (sick, well) = (started(CoreOptions::default()).await, started(CoreOptions::default()).await);
    let section = format!(
        "[core]\npeers = [\"{}\", \"{}\"]\nhealth_check = {{ path = \"/healthz\", interval = \"100ms\", failures = 1, successes = 1 }}\n",
        sick.address(),
        well.address()
    );
    let (upstream, _) = upstream(&section);
    let upstream = std::sync::Arc::new(upstream);
    let checked = upstream.clone();
    let checks = crate::task::spawn("checks", async move { checked.check_health().await });
    sick.script_for(EndpointKind::Health, Behaviour::status(500));
    while upstream.status()[0].peers[0].healthy {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    for _ in 0..4 {
        upstream.send(get("/v1/echo")).await.unwrap();
    }
    assert_eq!(well.snapshot().endpoints[&EndpointKind::Echo].requests, 4);
    sick.script(Behaviour::Up).unwrap();
    while !upstream.status()[0].peers[0].healthy {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    checks.abort();
}

#[tokio::test]
async fn a_reload_changes_bounds_and_keeps_connections() {
    let sim = started(CoreOptions::default()).await;
    let (upstream, _) = upstream(&one_core(&sim, ""));
    upstream.send(get("/v1/echo")).await.unwrap();
    upstream.reconfigure(&config(&one_core(&sim, "max_in_flight = 7"))).unwrap();
    upstream.send(get("/v1/echo")).await.unwrap();
    assert_eq!(sim.snapshot().connections, 1);
    assert_eq!(upstream.status()[0].limit, 7);
}

#[tokio::test]
async fn a_reload_that_moves_cores_is_refused_whole() {
    let (one, two) = (started(CoreOptions::default()).await, started(CoreOptions::default()).await);
    let section = |name: &str, sim: &CoreSim| format!("[[core]]\nname = \"{name}\"\npeers = [\"{}\"]\n", sim.address());
    let (upstream, _) = upstream(&section("a", &one));
    let moved = config(&(section("b", &two) + &section("a", &one)));
    let error = upstream.reconfigure(&moved).unwrap_err().to_string();
    assert!(error.contains("needs a restart"), "{error}");
    assert_eq!(upstream.status().len(), 1);
    upstream.reconfigure(&config(&(section("a", &one) + &section("b", &two)))).unwrap();
    let to_b = OriginRequest { core: CoreId(1), ..get("/v1/echo") };
    upstream.send(to_b).await.unwrap();
    assert_eq!((one.snapshot().requests, two.snapshot().requests), (0, 1));
}
