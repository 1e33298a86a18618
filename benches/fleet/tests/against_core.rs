//! A fleet against a simulated core with nothing between them: both sides must have counted the same.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on shall say where")]

use std::time::Duration;

use weir_core_sim::{Behaviour, CoreOptions, CoreSim, CoreTls, EndpointKind};
use weir_fleet::{Compression, Fleet, FleetOptions, FleetReport, FleetTls, Mix, Press, PressOptions, Remember, Route};

const KEY_FIELDS: [&str; 3] = ["image_path", "cmdline", "user"];

fn core_options() -> CoreOptions {
    CoreOptions {
        track_field: Some("eid".into()),
        key_fields: KEY_FIELDS.map(String::from).to_vec(),
        ..CoreOptions::default()
    }
}

fn fleet_options(core: &CoreSim) -> FleetOptions {
    FleetOptions {
        targets: vec![core.address()],
        agents: 50,
        requests_per_second: 200.0,
        duration: Duration::from_secs(2),
        remember: Some(Remember { key_fields: KEY_FIELDS.map(String::from).to_vec(), max: 1_000_000 }),
        ..FleetOptions::default()
    }
}

/// Holds what every report must fulfil.
fn check_sums(report: &FleetReport, turns_due: u64) {
    for (route, counts) in &report.routes {
        let ended = counts.statuses.values().sum::<u64>() + counts.errors.total();
        assert_eq!(ended, counts.sent, "{route:?}");
    }
    let records = &report.records;
    assert_eq!(records.sent, records.acknowledged + records.refused + records.in_doubt);
    let turns: u64 = report.routes.values().map(|counts| counts.sent + counts.held + counts.unsent).sum();
    assert_eq!(turns, turns_due, "every turn is taken or accounted for");
}

fn requests(core: &CoreSim, kind: EndpointKind) -> u64 {
    core.snapshot().endpoints.get(&kind).map_or(0, |counts| counts.requests)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn both_sides_count_the_same() {
    let core = CoreSim::start(core_options()).await.unwrap();
    let fleet = Fleet::start(fleet_options(&core)).unwrap();
    let memory = fleet.memory();
    let report = fleet.finish().await;
    check_sums(&report, 400);
    let kinds = [
        (Route::Update, EndpointKind::Update),
        (Route::Config, EndpointKind::Config),
        (Route::Tasks, EndpointKind::Tasks),
        (Route::Upload, EndpointKind::Events),
    ];
    for (route, kind) in kinds {
        let counts = &report.routes[&route];
        assert_eq!(counts.sent, counts.ok, "{route:?}");
        assert_eq!(counts.sent, requests(&core, kind), "{route:?}");
    }
    let snapshot = core.snapshot();
    assert_eq!(report.records.acknowledged, snapshot.uploads.records);
    assert_eq!(report.records.acknowledged, report.routes[&Route::Upload].sent * 24);
    let acknowledged = memory.acknowledged();
    assert_eq!(acknowledged.eids.len() as u64, snapshot.uploads.records);
    assert!(acknowledged.eids.iter().all(|eid| core.times_seen(eid) == 1));
    assert_eq!(acknowledged.keys, core.tracked_keys());
    assert_eq!(report.connections.opened, 50);
    assert!(report.routes[&Route::Config].statuses.contains_key(&304), "configs are asked for conditionally");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn agents_that_lost_their_connection_resume_their_tls_session() {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let pem = made.cert.pem().into_bytes();
    let tls = CoreTls { certificates: pem.clone(), key: made.signing_key.serialize_pem().into_bytes() };
    let core = CoreSim::start(CoreOptions { tls: Some(tls), ..core_options() }).await.unwrap();
    let tls = FleetTls { server_name: "localhost".into(), authorities: Some(pem), client_certificate: None };
    let duration = Duration::from_secs(6);
    let options = FleetOptions { tls: Some(tls), agents: 150, duration, ..fleet_options(&core) };
    let mut fleet = Fleet::start(options).unwrap();
    fleet.ramped_up().await;
    assert_eq!(fleet.snapshot().connections.handshakes_full, 150);
    // Session tickets come after the handshake: every agent shall have read from its connection.
    while core.snapshot().requests < 200 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    core.script(Behaviour::Down).unwrap();
    while fleet.snapshot().connected > 0 {
        tokio::task::yield_now().await;
    }
    core.script(Behaviour::Up).unwrap();
    let report = fleet.finish().await;
    check_sums(&report, 1200);
    // A ticket may have been on its way when the connection was lost.
    let connections = &report.connections;
    assert!(connections.handshakes_resumed >= 140 && connections.handshakes_full <= 160, "{connections:?}");
    let (acknowledged, in_doubt) = (report.records.acknowledged, report.records.in_doubt);
    assert!((acknowledged..=acknowledged + in_doubt).contains(&core.snapshot().uploads.records));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_core_that_is_down_shows_as_errors_and_held_turns() {
    let core = CoreSim::start(CoreOptions { behaviour: Behaviour::Down, ..core_options() }).await.unwrap();
    let report = Fleet::start(fleet_options(&core)).unwrap().finish().await;
    check_sums(&report, 400);
    let (errors, held) = report
        .routes
        .values()
        .fold((0, 0), |(errors, held), counts| (errors + counts.errors.connect, held + counts.held));
    assert_eq!(errors, report.agent_requests);
    assert!(held > 0 && report.connections.opened == 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn retry_after_is_heeded_unless_told_otherwise() {
    let core = CoreSim::start(core_options()).await.unwrap();
    core.script(Behaviour::Status { code: 503, retry_after: Some(3600) }).unwrap();
    let mix = Mix { update: 1.0, config: 0.0, tasks: 0.0, upload: 0.0 };
    let obedient = FleetOptions { mix, ..fleet_options(&core) };
    let report = Fleet::start(obedient.clone()).unwrap().finish().await;
    check_sums(&report, 400);
    assert_eq!(report.agent_requests, 50, "each agent asks once and then waits");
    let report = Fleet::start(FleetOptions { obey_retry_after: false, ..obedient }).unwrap().finish().await;
    check_sums(&report, 400);
    assert_eq!(report.routes[&Route::Update].statuses[&503], report.agent_requests);
    assert_eq!(report.routes[&Route::Update].held, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fleet_that_is_stopped_closes_its_books() {
    let core = CoreSim::start(core_options()).await.unwrap();
    let options = FleetOptions { duration: Duration::from_secs(3600), ..fleet_options(&core) };
    let mut fleet = Fleet::start(options).unwrap();
    fleet.ramped_up().await;
    while core.snapshot().uploads.uploads == 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let report = fleet.stop().await;
    assert_eq!(report.connected, 0);
    assert_eq!(report.agent_requests, core.snapshot().requests);
    assert_eq!(report.records.acknowledged, core.snapshot().uploads.records);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_answer_is_felt_by_the_turns_behind_it() {
    let core = CoreSim::start(core_options()).await.unwrap();
    core.script(Behaviour::slow(Duration::from_millis(200))).unwrap();
    let options = FleetOptions { agents: 1, requests_per_second: 10.0, ..fleet_options(&core) };
    let report = Fleet::start(options).unwrap().finish().await;
    check_sums(&report, 20);
    // An answer takes two turns: at most half are sent by the end, and the last of those was due a second before.
    assert!(report.agent_requests <= 11, "{}", report.agent_requests);
    let slowest = report.routes.values().map(|counts| counts.latency_ms.max).fold(0.0, f64::max);
    assert!(slowest >= 900.0, "{slowest} ms");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn compressed_uploads_arrive_whole() {
    for compression in [Compression::Gzip, Compression::Zstd, Compression::Lz4] {
        let core = CoreSim::start(core_options()).await.unwrap();
        let mut options = fleet_options(&core);
        (options.duration, options.uploads.compression) = (Duration::from_millis(500), Some(compression));
        let fleet = Fleet::start(options).unwrap();
        let memory = fleet.memory();
        let report = fleet.finish().await;
        assert!(report.records.acknowledged > 0 && report.records.refused == 0, "{:?}", report.records);
        assert_eq!(memory.acknowledged().keys, core.tracked_keys(), "{compression:?}");
        let events = &core.snapshot().endpoints[&EndpointKind::Events];
        assert!(events.bytes_wire * 2 < events.bytes_inflated, "{events:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_press_sends_until_it_is_stopped() {
    let core = CoreSim::start(core_options()).await.unwrap();
    let options = PressOptions {
        target: core.address(),
        tls: None,
        path: "/v1/events/process".to_owned(),
        connections: 4,
        uploads_per_second: None,
        uploads: FleetOptions::default().uploads,
        seed: 1,
    };
    let press = Press::start(options).unwrap();
    while press.counts().uploads < 50 {
        tokio::task::yield_now().await;
    }
    let counts = press.stop().await;
    assert_eq!((counts.records, counts.refused, counts.failed), (counts.uploads * 24, 0, 0));
    assert!(core.snapshot().uploads.records >= counts.records);
}
