//! The storms at a size that a debug build on a busy machine can carry, both ways: each passes, and each fails when what it is about
//! is switched off.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on shall say where")]

use std::process::{Command, Output};

use weir_benches::storm::Report;

fn storm(arguments: &str) -> (Output, Vec<Report>) {
    let directory = tempfile::tempdir().unwrap();
    let json = directory.path().join("storm.json");
    let output = Command::new(env!("CARGO_BIN_EXE_storm"))
        .args(arguments.split_whitespace())
        .arg("--json")
        .arg(&json)
        .current_dir(directory.path())
        .output()
        .unwrap();
    let reports =
        std::fs::read_to_string(&json).map_or_else(|_| Vec::new(), |text| serde_json::from_str(&text).unwrap());
    (output, reports)
}

fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

#[track_caller]
fn passes(arguments: &str) {
    let (output, reports) = storm(arguments);
    assert_eq!(output.status.code(), Some(0), "{arguments}: {}", text(&output));
    assert!(!reports.is_empty() && reports.iter().all(Report::passed), "{}", text(&output));
}

/// Fails in one of the lines that begin so, and so by what it measured.
#[track_caller]
fn fails(arguments: &str, lines: &[&str]) {
    let (output, reports) = storm(arguments);
    assert_eq!(output.status.code(), Some(1), "{arguments}: {}", text(&output));
    let failed = reports.iter().flat_map(|report| &report.lines).filter(|line| !line.passed);
    let of_these = failed.filter(|line| lines.iter().any(|begin| line.what.starts_with(begin)));
    assert!(of_these.count() > 0, "{arguments}: {}", text(&output));
}

#[test]
fn the_incident_is_no_event_with_a_node_and_one_without_its_protections() {
    passes("recovery-stampede --virtual --small");
    fails("recovery-stampede --virtual --small --without pace", &["the core's highest"]);
    fails("recovery-stampede --virtual --small --without stale", &["requests of agents refused"]);
    fails("recovery-stampede --virtual --small --direct", &["the core's highest"]);
}

#[test]
fn an_outage_has_no_echo_with_a_node_and_one_without_stale_answers() {
    passes("echo --small");
    fails("echo --small --without stale", &["the agents' highest", "their highest"]);
    fails("echo --small --direct", &["the agents' highest"]);
}

#[test]
fn a_refusal_costs_no_connection_unless_it_closes_it() {
    passes("shed-reconnect --small");
    fails("shed-reconnect --small --without keep-alive", &["HTTP/1.1: new handshakes"]);
}

#[test]
fn agents_of_nodes_that_restart_resume_elsewhere_one_by_one_unless_tickets_or_turns_are_missing() {
    passes("cert-restart --small");
    fails("cert-restart --small --without tickets", &["agents that came back resumed"]);
    fails("cert-restart --small --without drain", &["the busiest fifth"]);
}

#[test]
fn uploads_that_drown_a_node_are_not_felt_by_polls_unless_all_classes_share_its_room() {
    passes("control-lanes --small");
    fails("control-lanes --small --without lanes", &["polls not answered", "the slowest order"]);
}

#[test]
fn a_slow_core_is_asked_less_unless_the_bound_is_fixed() {
    passes("slow-core --small");
    fails("slow-core --small --without adaptive", &["requests to the core without an answer"]);
}

#[test]
fn polls_are_few_requests_and_as_many_without_bulk_lookups() {
    passes("polls --small");
    fails("polls --small --without lookups", &["requests/s at the core"]);
}

#[test]
fn a_bad_record_is_found_unless_nobody_looks_for_it() {
    passes("poison-batch --small");
    fails("poison-batch --small --without bisect", &["records neither delivered"]);
}

#[test]
fn a_core_that_hangs_is_felt_by_its_own_routes_unless_they_share_a_gate() {
    passes("black-hole --small");
    fails("black-hole --small --without bulkhead", &["p99", "good answers"]);
}

#[test]
fn agents_are_told_different_times_unless_nobody_knows_who_they_are() {
    passes("retry-after --small");
    fails("retry-after --small --without identity", &["different waits"]);
}

#[test]
fn agents_that_do_not_wait_cost_little_unless_nobody_damps_them() {
    passes("retry-ignorers --small");
    fails("retry-ignorers --small --without damping", &["requests/s of an agent"]);
}

#[test]
fn a_noisy_tenant_is_not_felt_by_others_unless_it_may_have_everything() {
    passes("noisy-tenant --small");
    fails("noisy-tenant --small --without shares", &["polls of the others"]);
}

#[test]
fn a_change_for_everybody_is_no_stampede_unless_a_protection_is_off() {
    std::thread::scope(|scope| {
        scope.spawn(|| passes("policy-change --small"));
        scope.spawn(|| fails("policy-change --small --without pace", &["requests at the core"]));
        scope.spawn(|| fails("policy-change --small --without lookups", &["of 100 configurations"]));
        scope.spawn(|| fails("policy-change --small --without stale", &["requests of agents not answered"]));
    });
}

#[test]
fn a_core_that_fails_is_left_alone_unless_there_is_no_breaker() {
    passes("failing-core --small");
    fails("failing-core --small --without breaker", &["requests at the core that fails"]);
}

#[test]
fn refusals_cost_no_connections_unless_they_close_them() {
    passes("refusals --small");
    fails("refusals --small --without keep-alive", &["no such route", "no identity"]);
}

#[test]
fn the_plot_is_written_and_every_scenario_is_listed() {
    let directory = tempfile::tempdir().unwrap();
    let run = |arguments: &str| {
        let arguments = arguments.split_whitespace();
        Command::new(env!("CARGO_BIN_EXE_storm")).args(arguments).current_dir(directory.path()).output().unwrap()
    };
    assert_eq!(run("echo --small --agents 1000 --plot storm.svg").status.code().map(|code| code < 2), Some(true));
    assert!(std::fs::read_to_string(directory.path().join("storm.svg")).unwrap().starts_with("<svg"));
    let listed = String::from_utf8(run("list").stdout).unwrap();
    assert!(listed.contains("recovery-stampede") && listed.contains("--without"), "{listed}");
    assert_eq!(run("no-such-storm").status.code(), Some(2));
    assert_eq!(run("echo --without lookups").status.code(), Some(2), "the scenario does not test it");
}
