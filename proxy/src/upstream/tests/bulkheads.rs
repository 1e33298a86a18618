//! What is wrong with one core, one route or one machine must not reach the others.

use std::sync::Arc;

use futures::future::join_all;
use pingora::upstreams::peer::Peer as _;
use tokio::net::TcpListener;

use super::*;

/// Two routes to the first core, beside the one that every configuration here has.
const ROUTES: &str = "[[route]]\nname = \"one\"\nmatch = { path = \"/one\" }\nclass = \"config\"\naction = \"forward\"\n\
                      [[route]]\nname = \"two\"\nmatch = { path = \"/two\" }\nclass = \"config\"\naction = \"forward\"\n";

fn labelled(label: &str, request: OriginRequest) -> OriginRequest {
    OriginRequest { label: label.into(), ..request }
}

/// Sends so many requests for which nobody waits, and returns when all of them are at the core or in line.
async fn flood(
    upstream: &Arc<Upstream>,
    count: usize,
    core: usize,
    request: &OriginRequest,
) -> Vec<tokio::task::JoinHandle<Option<()>>> {
    let before = upstream.status()[core].in_flight + upstream.status()[core].waiting;
    let sent = (0..count).map(|_| {
        let (upstream, request) = (Arc::clone(upstream), request.clone());
        crate::task::spawn("flood", async move { drop(upstream.send(request).await) })
    });
    let sent: Vec<_> = sent.collect();
    while upstream.status()[core].in_flight + upstream.status()[core].waiting < before + count {
        tokio::task::yield_now().await;
    }
    sent
}

async fn answered(upstream: &Upstream, count: usize, request: &OriginRequest) -> usize {
    let answers = join_all((0..count).map(|_| upstream.send(request.clone()))).await;
    answers.iter().filter(|answer| answer.is_ok()).count()
}

/// How many of 100 requests of one route are answered while all of another's are swallowed.
async fn answered_beside_a_swallowed_route(share: &str) -> usize {
    let sim = started(CoreOptions::default()).await;
    let section = one_core(
        &sim,
        &format!(
            "adaptive = false\nmax_in_flight = 8\nmax_route_share = {share}\nmax_requests_per_second = 100000\nmax_wait = \"1s\"\n"
        ),
    );
    let (upstream, _) = upstream(&(section + ROUTES));
    let upstream = Arc::new(upstream);
    sim.script_for(EndpointKind::Echo, Behaviour::Hang);
    let swallowed = flood(&upstream, 40, 0, &labelled("one", get("/v1/echo"))).await;
    let answered = answered(&upstream, 100, &labelled("two", get("/v1/updates/stable/manifest.json"))).await;
    swallowed.iter().for_each(tokio::task::JoinHandle::abort);
    answered
}

#[tokio::test]
async fn a_route_whose_requests_are_swallowed_leaves_room_to_the_others() {
    assert_eq!(answered_beside_a_swallowed_route("0.5").await, 100);
    assert_eq!(answered_beside_a_swallowed_route("1.0").await, 0, "without the bulkhead");
}

#[tokio::test]
async fn a_black_hole_takes_no_more_than_its_own_room_and_nothing_of_other_cores() {
    // Takes connections, in its backlog, and never says a word.
    let hole = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let sim = started(CoreOptions::default()).await;
    let section = |name: &str, address: String| {
        format!(
            "[[core]]\nname = \"{name}\"\npeers = [\"{address}\"]\nmax_in_flight = 16\nmax_requests_per_second = 1000\nmax_wait = \"1m\"\n"
        )
    };
    let (hole, well) =
        (section("hole", hole.local_addr().unwrap().to_string()), section("well", sim.address().to_string()));
    let (upstream, metrics) = upstream(&(hole + &well));
    let upstream = Arc::new(upstream);
    let to_hole = flood(&upstream, 2_000, 0, &get("/v1/echo")).await;
    let status = upstream.status();
    assert_eq!((status[0].in_flight, status[0].waiting), (14, 1_986), "the rooms of a class and of the line");
    let to_well = OriginRequest { core: CoreId(1), ..get("/v1/echo") };
    assert_eq!(answered(&upstream, 500, &to_well).await, 500);
    assert!(metrics.render().contains(r#"weir_core_gate_refused_total{core="well",reason="full"} 0"#));
    to_hole.iter().for_each(tokio::task::JoinHandle::abort);
}

/// A machine that takes no connections.
async fn closed() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    listener.local_addr().unwrap().to_string()
}

/// Invariant: however many fail and whoever asks, retries are a tenth of the requests and what was saved up.
#[tokio::test]
async fn attempts_at_a_core_that_always_fails_are_within_the_budget() {
    let peers = [closed().await, closed().await, closed().await];
    let (upstream, metrics) = upstream(&format!(
        "[core]\npeers = {peers:?}\nbreaker_failures = 100000\nmax_requests_per_second = 1000000\nmax_in_flight = 1000\n"
    ));
    let label = Arc::from("all");
    let classes = [Rank::Class(Class::Config), Rank::Class(Class::Tasking), Rank::BATCH, Rank::Backlog];
    let mut forwarded_again = 0;
    for round in 0..500 {
        let rank = classes[round % classes.len()];
        assert_eq!(upstream.send(OriginRequest { rank, ..get("/v1/echo") }).await.unwrap_err(), OriginError::Connect);
        let permit = upstream.forward_permit(CoreId(0), Class::Config, &label).await.unwrap();
        forwarded_again += usize::from(permit.try_retry());
        permit.failed(OriginError::Connect);
    }
    let granted = metrics.core_retries.with_label_values(&["core", "granted"]).get();
    assert!(granted <= 1_000 / 10 + 10, "{granted} retries of 1000 requests");
    assert!(granted >= 100 && forwarded_again > 0, "{granted}, of which {forwarded_again} forwarded");
}

#[tokio::test]
async fn batches_that_are_sent_again_pay_for_no_retries() {
    let peers = [closed().await, closed().await];
    let (upstream, metrics) = upstream(&format!(
        "[core]\npeers = {peers:?}\nbreaker_failures = 100000\nmax_requests_per_second = 1000000\nmax_in_flight = 1000\n"
    ));
    for _ in 0..500 {
        let again = OriginRequest { sending: Sending::Again, rank: Rank::Backlog, ..get("/v1/echo") };
        assert_eq!(upstream.send(again).await.unwrap_err(), OriginError::Connect);
    }
    assert_eq!(metrics.core_retries.with_label_values(&["core", "granted"]).get(), 10, "what was in hand at the start");
}

#[tokio::test]
async fn a_machine_that_fails_forwarded_requests_is_left_out() {
    let (bad, good) = (started(CoreOptions::default()).await, started(CoreOptions::default()).await);
    let (upstream, metrics) =
        upstream(&format!("[core]\npeers = [\"{}\", \"{}\"]\neject_after = 3\n", bad.address(), good.address()));
    let label = Arc::from("all");
    let mut given = Vec::new();
    for _ in 0..20 {
        let mut permit = upstream.forward_permit(CoreId(0), Class::Config, &label).await.unwrap();
        let (peer, _, machine) = upstream.peer(CoreId(0)).await.unwrap();
        let is_bad = peer.address().to_string() == bad.address().to_string();
        given.push(is_bad);
        permit.given_to(machine);
        permit.answered(if is_bad { StatusCode::INTERNAL_SERVER_ERROR } else { StatusCode::OK }, None);
    }
    assert_eq!(given.iter().filter(|is_bad| **is_bad).count(), 3, "{given:?}");
    assert!(metrics.render().contains(r#"weir_core_ejections_total{core="core"} 1"#));
}

#[tokio::test]
async fn a_health_check_that_succeeds_again_has_the_breaker_probe_at_once() {
    let sim = started(CoreOptions::default()).await;
    let (upstream, _) = upstream(&one_core(
        &sim,
        "breaker_failures = 2\nbreaker_cooldown = \"10m\"\nhealth_check = { path = \"/healthz\", interval = \"100ms\", \
         failures = 1, successes = 1 }",
    ));
    let upstream = Arc::new(upstream);
    let checked = Arc::clone(&upstream);
    let checks = crate::task::spawn("health", async move { checked.check_health().await });
    sim.script(Behaviour::status(500)).unwrap();
    while upstream.status()[0].breaker != "open" || upstream.status()[0].peers[0].healthy {
        drop(upstream.send(get("/v1/echo")).await);
        tokio::task::yield_now().await;
    }
    assert!(matches!(upstream.send(get("/v1/echo")).await, Err(OriginError::Resting(_))));
    sim.script(Behaviour::Up).unwrap();
    while upstream.status()[0].breaker == "open" {
        tokio::task::yield_now().await;
    }
    assert_eq!(upstream.send(get("/v1/echo")).await.unwrap().status, StatusCode::OK);
    assert_eq!(upstream.status()[0].breaker, "closed");
    checks.abort();
}

#[tokio::test]
async fn a_machine_that_fails_while_another_works_is_left_out() {
    let (bad, good) = (started(CoreOptions::default()).await, started(CoreOptions::default()).await);
    bad.script(Behaviour::status(500)).unwrap();
    let (upstream, metrics) = upstream(&format!(
        "[core]\npeers = [\"{}\", \"{}\"]\neject_after = 3\nmax_requests_per_second = 10000\n",
        bad.address(),
        good.address()
    ));
    let mut refused = 0;
    for _ in 0..50 {
        refused += usize::from(upstream.send(get("/v1/echo")).await.unwrap().status.is_server_error());
    }
    assert_eq!((refused, bad.snapshot().requests), (3, 3));
    let peers = upstream.status()[0].peers.clone();
    assert_eq!([peers[0].left_out, peers[1].left_out], [true, false]);
    assert!(metrics.render().contains(r#"weir_core_ejections_total{core="core"} 1"#));
    // The other one fails as well: now it is the core, and nobody else is left out.
    good.script(Behaviour::status(500)).unwrap();
    for _ in 0..4 {
        assert!(upstream.send(get("/v1/echo")).await.unwrap().status.is_server_error());
    }
    assert!(!upstream.status()[0].peers[1].left_out);
}

#[tokio::test]
async fn who_would_wait_in_vain_is_turned_away_at_once() {
    let sim = started(CoreOptions::default()).await;
    let (upstream, _) = upstream(&one_core(&sim, "max_requests_per_second = 1\nmax_wait = \"10s\"\nadaptive = false"));
    let upstream = Arc::new(upstream);
    upstream.send(get("/v1/echo")).await.unwrap();
    let waiting = flood(&upstream, 5, 0, &get("/v1/echo")).await;
    let short = OriginRequest { patience: Patience::Short, ..get("/v1/echo") };
    assert_eq!(upstream.send(short).await.unwrap_err(), OriginError::Full, "there is something else to serve");
    assert!(upstream.time_through(CoreId(0), Class::Config).unwrap() > Duration::from_secs(4));
    assert_eq!(upstream.status()[0].waiting_by_class["config"], 5);
    waiting.iter().for_each(tokio::task::JoinHandle::abort);
}
