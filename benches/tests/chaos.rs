//! The chaos scenario at a size that a debug build on a busy machine can carry: a deck of faults, each kind once.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on shall say where")]

use std::process::{Command, Output};

use weir_benches::chaos::Figures;

fn chaos(arguments: &str) -> Output {
    Command::new(env!("CARGO_BIN_EXE_chaos")).args(arguments.split_whitespace()).output().unwrap()
}

#[test]
fn every_kind_of_fault_leaves_level_books() {
    let directory = tempfile::tempdir().unwrap();
    let (json, keep) = (directory.path().join("chaos.json"), directory.path().join("node"));
    let run = chaos(&format!("--seed 1 --faults 25 --json {} --keep {}", json.display(), keep.display()));
    let output = format!("{}{}", String::from_utf8_lossy(&run.stdout), String::from_utf8_lossy(&run.stderr));
    let text = std::fs::read_to_string(json).expect(&output);
    let figures: Figures = serde_json::from_str(&text).unwrap();
    assert_eq!(figures.faults.len(), 25, "{output}");
    assert!(figures.lives > 5 && figures.records.acknowledged > 1_000, "{output}");
    assert_eq!(run.status.code(), Some(0), "{output}");
}

#[test]
fn a_seed_names_its_faults_without_a_run() {
    let listed = |seed| chaos(&format!("--seed {seed} --faults 50 --list")).stdout;
    assert_eq!(listed(3), listed(3));
    assert_ne!(listed(3), listed(4));
    assert_eq!(String::from_utf8(listed(3)).unwrap().lines().count(), 51);
}
