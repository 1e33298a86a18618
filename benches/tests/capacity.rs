//! The reckoning of capacity, from figures that are measured at a size for tests and nothing is said of.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on shall say where")]

use std::process::Command;

use weir_benches::capacity::NodeFigures;

#[test]
fn what_was_measured_is_written_and_can_be_reckoned_with_again() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("figures.json");
    let capacity = |arguments: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_capacity")).arg("--small").args(arguments).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    let measured = capacity(&["--json", file.to_str().unwrap()]);
    let figures: NodeFigures = serde_json::from_str(&std::fs::read_to_string(&file).unwrap()).unwrap();
    assert!(figures.poll_us > 0.0 && figures.upload_us > 0.0 && figures.handshake_us > 0.0, "{figures:?}");
    assert_eq!(capacity(&["--figures", file.to_str().unwrap()]), measured);
    assert!(capacity(&["--figures", file.to_str().unwrap(), "--agents", "20000000"]).contains("20,000,000 agents"));
}
