//! The demo at a size that a debug build on a busy machine can carry: the books must be level; nothing is said of its speed.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on shall say where")]

use std::path::Path;
use std::process::{Command, Output};

use weir_benches::demo::Figures;

/// Lines of the verdict that only traffic worth aggregating can pass.
const OF_SCALE: [&str; 2] = ["requests of agents for one at the core", "the core's highest load"];

fn demo(directory: &Path, arguments: &str) -> Output {
    Command::new(env!("CARGO_BIN_EXE_demo")).args(arguments.split_whitespace()).current_dir(directory).output().unwrap()
}

#[test]
fn a_small_run_ends_with_a_level_ledger_and_both_files() {
    let directory = tempfile::tempdir().unwrap();
    let run = demo(directory.path(), "--agents 20 --rate 40 --duration 6s --window 1s --plain --json demo.json");
    let output = format!("{}{}", String::from_utf8_lossy(&run.stdout), String::from_utf8_lossy(&run.stderr));
    let text = std::fs::read_to_string(directory.path().join("demo.json")).expect(&output);
    let figures: Figures = serde_json::from_str(&text).unwrap();
    assert!(figures.agent_requests > 200, "{output}");
    assert!(figures.records_acknowledged_during_outage > 0, "{output}");
    let failed =
        figures.verdict.iter().filter(|line| !line.passed && !OF_SCALE.iter().any(|of| line.what.starts_with(of)));
    assert_eq!(failed.count(), 0, "{output}");
    assert!(std::fs::read_to_string(directory.path().join("demo-report.html")).unwrap().contains("The ledger"));

    let judged = demo(directory.path(), "verdict demo.json");
    assert_eq!(judged.status.code(), run.status.code(), "{}", String::from_utf8_lossy(&judged.stderr));
}

#[test]
fn a_file_that_is_no_result_is_refused_by_name() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("other.json"), "{}").unwrap();
    let judged = demo(directory.path(), "verdict other.json");
    assert_eq!(judged.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&judged.stderr).contains("other.json: `agent_requests` is missing"));
}

#[test]
fn the_configuration_can_be_looked_at_without_a_run() {
    let shown = demo(Path::new("."), "--show-config --rate 1000");
    assert_eq!(shown.status.code(), Some(0));
    assert!(String::from_utf8_lossy(&shown.stdout).contains("window = \"400ms\""));
}
