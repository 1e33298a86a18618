//! The command line as an operator meets it: what is printed where, and the exit code.

#![expect(clippy::unwrap_used, reason = "a test has no better use for an error")]

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output};

use tempfile::TempDir;
use weir_testkit::Authority;

const WEIR: &str = env!("CARGO_BIN_EXE_weir");

/// Runs `weir` in `directory`.
fn weir(directory: &Path, arguments: &[&str]) -> (i32, String, String) {
    let output = Command::new(WEIR).args(arguments).current_dir(directory).output().unwrap();
    let Output { status, stdout, stderr } = output;
    (status.code().unwrap(), String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap())
}

/// A directory with a configuration of one plaintext listener and these lines more.
fn configured(more: &str) -> TempDir {
    let directory = tempfile::tempdir().unwrap();
    let file = format!(
        r#"
[edge]
data_dir = "data"

[[listener]]
name = "agents"
address = "127.0.0.1:0"

[admin]
address = "127.0.0.1:0"

[core]
peers = ["127.0.0.1:9"]

[identity]
agent = "certificate.cn"
tenant = "certificate.o"

{more}
"#
    );
    std::fs::write(directory.path().join("weir.toml"), file).unwrap();
    directory
}

const UPDATES: &str = r#"
[[route]]
name = "updates"
match = { method = "GET", path = "/v1/updates/{channel}" }
class = "update"
action = "cache"
key = ["path.channel"]
shared = true
"#;

#[test]
fn a_right_configuration_is_said_to_be_right() {
    let directory = configured(UPDATES);
    let (code, output, errors) = weir(directory.path(), &["check", "-c", "weir.toml"]);
    assert_eq!(code, 0, "{errors}");
    assert_eq!(output, "weir.toml is right: 1 listener, 1 core, 1 route, 0 streams\n");
}

#[test]
fn every_problem_of_a_wrong_configuration_is_shown_with_its_place() {
    let directory = configured(&UPDATES.replace("shared", "sharde").replace("\"update\"", "\"updates\""));
    let (code, output, errors) = weir(directory.path(), &["check", "-c", "weir.toml"]);
    assert_eq!((code, output.as_str()), (78, ""));
    assert!(errors.contains("weir.toml:26:1") && errors.contains("shared"), "{errors}");
    assert!(errors.contains("weir.toml:23:9"), "{errors}");
}

#[test]
fn a_file_that_is_not_there_is_a_wrong_configuration() {
    let directory = tempfile::tempdir().unwrap();
    let (code, _, errors) = weir(directory.path(), &["run", "-c", "weir.toml"]);
    assert_eq!(code, 78);
    assert!(errors.contains("weir.toml") && errors.contains("No such file"), "{errors}");
}

#[test]
fn check_tries_what_the_machine_gives_unless_told_not_to() {
    let directory = configured(UPDATES);
    std::fs::write(directory.path().join("data"), "a file in the directory's place").unwrap();
    let (code, _, errors) = weir(directory.path(), &["check", "-c", "weir.toml"]);
    assert_eq!(code, 78);
    assert!(errors.contains("error: edge.data_dir: the data directory"), "{errors}");
    let (code, _, errors) = weir(directory.path(), &["check", "-c", "weir.toml", "--no-environment"]);
    assert_eq!(code, 0, "{errors}");
}

#[test]
fn check_names_the_origin_that_does_not_resolve() {
    let directory = configured(UPDATES);
    let path = directory.path().join("weir.toml");
    let file = std::fs::read_to_string(&path).unwrap().replace("127.0.0.1:9\"", "no-such-core.invalid:443\"");
    std::fs::write(&path, file).unwrap();
    let (code, _, errors) = weir(directory.path(), &["check", "-c", "weir.toml"]);
    assert_eq!(code, 78);
    assert!(errors.contains("error: core.core.peers: no-such-core.invalid: "), "{errors}");
}

#[test]
fn check_warns_of_an_address_in_use() {
    let directory = configured(UPDATES);
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let path = directory.path().join("weir.toml");
    let file = std::fs::read_to_string(&path).unwrap().replacen("127.0.0.1:0", &address, 1);
    std::fs::write(&path, file).unwrap();
    let (code, _, errors) = weir(directory.path(), &["check", "-c", "weir.toml"]);
    assert_eq!(code, 0, "{errors}");
    assert!(errors.contains(&format!("warning: listener.agents.address: {address} is in use")), "{errors}");
}

#[test]
fn check_opens_certificates() {
    let directory = configured(UPDATES);
    let authority = Authority::new(directory.path());
    authority.server("one", &["localhost"]);
    authority.server("other", &["localhost"]);
    let path = directory.path().join("weir.toml");
    let tls = "name = \"agents\"\ntls = { certificate = \"one.pem\", key = \"other.key\" }";
    let file = std::fs::read_to_string(&path).unwrap().replace("name = \"agents\"", tls);
    std::fs::write(&path, &file).unwrap();
    let (code, _, errors) = weir(directory.path(), &["check", "-c", "weir.toml"]);
    assert_eq!(code, 78);
    assert!(errors.contains("error: listener.agents.tls: ") && errors.contains("other.key"), "{errors}");
    std::fs::write(&path, file.replace("other.key", "one.key")).unwrap();
    let (code, _, errors) = weir(directory.path(), &["check", "-c", "weir.toml"]);
    assert_eq!(code, 0, "{errors}");
}

#[test]
fn check_opens_ticket_keys_and_warns_when_others_may() {
    let directory = configured(UPDATES);
    Authority::new(directory.path()).server("one", &["localhost"]);
    let path = directory.path().join("weir.toml");
    let tls =
        "name = \"agents\"\ntls = { certificate = \"one.pem\", key = \"one.key\", ticket_keys = \"ticket.keys\" }";
    let file = std::fs::read_to_string(&path).unwrap().replace("name = \"agents\"", tls);
    std::fs::write(&path, &file).unwrap();
    let keys = directory.path().join("ticket.keys");
    let check = |text: &str, mode: u32| {
        std::fs::write(&keys, text).unwrap();
        std::fs::set_permissions(&keys, std::fs::Permissions::from_mode(mode)).unwrap();
        weir(directory.path(), &["check", "-c", "weir.toml"])
    };
    let (code, _, errors) = check("c2VjcmV0\n", 0o600);
    assert_eq!(code, 78);
    let problem = "ticket.keys:1: 64 hexadecimal digits are expected, not these 8 characters";
    assert!(errors.contains("error: listener.agents.tls: ") && errors.contains(problem), "{errors}");
    let (code, _, errors) = check(&"0f".repeat(32), 0o644);
    assert_eq!(code, 0, "{errors}");
    assert!(errors.contains("warning: listener.agents.tls.ticket_keys: "), "{errors}");
    assert!(errors.contains("ticket.keys: open to others (mode 644)"), "{errors}");
    let (code, _, errors) = check(&"0f".repeat(32), 0o640);
    assert!(code == 0 && !errors.contains("ticket"), "{errors}");
}

#[test]
fn explain_takes_the_request_from_its_arguments() {
    let directory = configured(
        r#"
[[route]]
name = "policy"
match = { method = "POST", path = "/v1/policy" }
class = "config"
action = "cache"
key = ["body./policy", "header.x-os"]
"#,
    );
    std::fs::write(directory.path().join("body.json"), r#"{"policy":"p-7"}"#).unwrap();
    let arguments = ["-H", "X-OS: win", "--body", "body.json", "--certificate", "cn=a-1,o=t-1"];
    let question = ["explain", "-c", "weir.toml", "POST", "https://edge.example/v1/policy"];
    let (code, output, errors) = weir(directory.path(), &[&question[..], &arguments[..]].concat());
    assert_eq!(code, 0, "{errors}");
    for fact in ["agent a-1, tenant t-1", "body./policy = \"p-7\"", "header.x-os = \"win\""] {
        assert!(output.contains(fact), "no `{fact}` in\n{output}");
    }
    let (code, _, errors) = weir(directory.path(), &[&question[..], &["-H", "nonsense"]].concat());
    assert_eq!(code, 2);
    assert!(errors.contains("expected NAME:VALUE"), "{errors}");
}

#[test]
fn the_example_is_right_and_what_is_shown_is_the_same_configuration() {
    let directory = tempfile::tempdir().unwrap();
    let (_, example, _) = weir(directory.path(), &["config", "example"]);
    std::fs::write(directory.path().join("weir.toml"), example).unwrap();
    let (code, shown, errors) = weir(directory.path(), &["config", "show", "-c", "weir.toml"]);
    assert_eq!(code, 0, "{errors}");
    std::fs::write(directory.path().join("shown.toml"), &shown).unwrap();
    let (code, again, errors) = weir(directory.path(), &["config", "show", "-c", "shown.toml"]);
    assert_eq!((code, again), (0, shown), "{errors}");
}

#[test]
fn schema_completions_and_man_page_come_from_the_same_tables() {
    let directory = tempfile::tempdir().unwrap();
    let (code, schema, _) = weir(directory.path(), &["config", "schema"]);
    assert!(code == 0 && serde_json::from_str::<serde_json::Value>(&schema).is_ok());
    for shell in ["bash", "zsh", "fish"] {
        let (code, script, _) = weir(directory.path(), &["completions", shell]);
        assert!(code == 0 && script.contains("explain"), "{shell}");
    }
    let (code, page, _) = weir(directory.path(), &["man"]);
    assert!(code == 0 && page.contains(".TH weir"));
}

#[test]
fn a_damaged_batch_file_is_a_data_error() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("batch"), "certainly not a batch").unwrap();
    let (code, output, errors) = weir(directory.path(), &["batch", "cat", "batch"]);
    assert_eq!((code, output.as_str()), (65, ""));
    assert!(errors.starts_with("weir: batch: "), "{errors}");
    assert_eq!(weir(directory.path(), &["batch", "cat", "nowhere"]).0, 66);
}

#[test]
fn a_batch_of_shapes_is_printed_as_rows_or_as_it_travels() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("batch"), include_bytes!("../batch/tests/golden/shapes-1.batch")).unwrap();
    let (code, rows, _) = weir(directory.path(), &["batch", "cat", "batch"]);
    assert_eq!((code, rows.as_str()), (0, include_str!("../batch/tests/golden/rows-1.ndjson")));
    let (_, lines, _) = weir(directory.path(), &["batch", "cat", "--raw", "batch"]);
    assert_eq!(lines, include_str!("../batch/tests/golden/shapes-1.ndjson"));
}

#[test]
fn wrong_arguments_end_with_2_and_help_with_0() {
    let directory = tempfile::tempdir().unwrap();
    assert_eq!(weir(directory.path(), &["frobnicate"]).0, 2);
    assert_eq!(weir(directory.path(), &["run"]).0, 2);
    assert_eq!(weir(directory.path(), &["--help"]).0, 0);
    assert_eq!(weir(directory.path(), &["--version"]).1, format!("weir {}\n", env!("CARGO_PKG_VERSION")));
}

#[test]
fn health_of_a_node_that_does_not_run_is_unavailable() {
    let directory = configured(UPDATES);
    let path = directory.path().join("weir.toml");
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let file = std::fs::read_to_string(&path)
        .unwrap()
        .replace("[admin]\naddress = \"127.0.0.1:0\"", &format!("[admin]\naddress = \"{free}\""));
    std::fs::write(&path, file).unwrap();
    let (code, _, errors) = weir(directory.path(), &["health", "-c", "weir.toml"]);
    assert_eq!(code, 69);
    assert!(errors.contains(&free.to_string()), "{errors}");
}
