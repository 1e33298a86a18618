//! Includes, variables and secret files.

use std::path::{Path, PathBuf};

use weir_config::{Diagnostics, MemoryEnvironment, Parsed, Severity, parse, to_toml};

const BASE: &str = r#"
[[listener]]
address = "127.0.0.1:0"
[core]
peers = "core-a:80"
[[route]]
name = "a"
match = { path = "/a" }
class = "update"
action = "cache"
shared = true
"#;

fn parsed(environment: &MemoryEnvironment) -> Parsed {
    parse(environment, Path::new("/etc/weir/weir.toml")).unwrap_or_else(|problems| panic!("{problems}"))
}

fn refused(environment: &MemoryEnvironment) -> Diagnostics {
    parse(environment, Path::new("/etc/weir/weir.toml")).expect_err("it is wrong")
}

#[test]
fn an_included_file_adds_tables_and_lists_of_tables() {
    let region = "[edge]\nregion = \"eu-west-1\"\n[limits]\nmax_requests = 5\n[[listener]]\naddress = \"127.0.0.1:1\"\n\
                  [[route]]\nname = \"b\"\nmatch = { path = \"/b\" }\nclass = \"update\"\naction = \"forward\"\n";
    let environment = MemoryEnvironment::new()
        .file("/etc/weir/weir.toml", format!("include = \"regions/eu.toml\"\n{BASE}[limits]\nmax_json_depth = 7\n"))
        .file("/etc/weir/regions/eu.toml", region);
    let parsed = parsed(&environment);
    assert_eq!(parsed.config.edge.region, "eu-west-1");
    assert_eq!((parsed.config.limits.max_requests, parsed.config.limits.max_json_depth), (5, 7));
    assert_eq!(parsed.config.listeners.len(), 2);
    assert_eq!(parsed.config.routes.len(), 2);
    assert_eq!(parsed.files, [PathBuf::from("/etc/weir/weir.toml"), PathBuf::from("/etc/weir/regions/eu.toml")]);
}

#[test]
fn a_relative_path_starts_at_the_file_it_stands_in() {
    let listener =
        "[[listener]]\naddress = \"127.0.0.1:1\"\ntls = { certificate = \"server.pem\", key = \"/keys/server.key\" }\n";
    let environment = MemoryEnvironment::new()
        .file("/etc/weir/weir.toml", format!("include = \"tls/listener.toml\"\n{BASE}"))
        .file("/etc/weir/tls/listener.toml", listener);
    let tls = parsed(&environment).config.listeners[1].tls.clone().expect("the included listener has TLS");
    assert_eq!(tls.certificate, Path::new("/etc/weir/tls/server.pem"));
    assert_eq!(tls.key, Path::new("/keys/server.key"));
}

#[test]
fn includes_that_never_end_are_refused() {
    let mut environment = MemoryEnvironment::new().file("/etc/weir/weir.toml", format!("include = \"0.toml\"\n{BASE}"));
    for depth in 0..20 {
        environment =
            environment.file(format!("/etc/weir/{depth}.toml"), format!("include = \"{}.toml\"\n", depth + 1));
    }
    let problems = refused(&environment);
    assert!(problems.to_string().contains("more than 8 deep"), "{problems}");
}

#[test]
fn a_file_that_includes_many_twice_over_is_refused() {
    let mut environment =
        MemoryEnvironment::new().file("/etc/weir/weir.toml", format!("include = [\"0.toml\"]\n{BASE}"));
    for depth in 0..7 {
        let next = format!("\"{}.toml\", ", depth + 1).repeat(30);
        environment = environment.file(format!("/etc/weir/{depth}.toml"), format!("include = [{next}]\n"));
    }
    let problems = refused(&environment.file("/etc/weir/7.toml", ""));
    assert!(problems.to_string().contains("more than 256 files"), "{problems}");
}

#[test]
fn a_value_can_neither_add_keys_nor_name_files() {
    let sneaky = "x\"\n[admin]\naddress = \"0.0.0.0:1\"\n#";
    let environment = MemoryEnvironment::new()
        .file("/etc/weir/weir.toml", format!("{BASE}calm = {{ status = 200, body = \"${{BODY}}\" }}\n"))
        .with_variable("BODY", sneaky);
    let parsed = parsed(&environment);
    assert_eq!(parsed.config.admin.address.port(), 9600);
    assert!(to_toml(&parsed.config).contains("0.0.0.0:1"));
}

#[test]
fn a_file_value_is_shown_by_its_name_only() {
    let text = format!("{BASE}calm = {{ status = 200, body = \"file:calm.json\" }}\n");
    let old = MemoryEnvironment::new().file("/etc/weir/weir.toml", &text).file("/etc/weir/calm.json", "hunter2\n");
    let new = MemoryEnvironment::new().file("/etc/weir/weir.toml", &text).file("/etc/weir/calm.json", "hunter3\n");
    let (old, new) = (parsed(&old), parsed(&new));
    let shown = old.to_toml();
    assert!(shown.contains("file:/etc/weir/calm.json"), "{shown}");
    assert!(!shown.contains("hunter"), "{shown}");
    let changes = old.changes(&new);
    assert_eq!(changes.len(), 1);
    assert_eq!(changes[0].key, "route.a.calm.body");
    assert_eq!(changes[0].new.as_deref(), Some("\"file:/etc/weir/calm.json\""));
}

#[test]
fn a_secret_longer_than_its_bound_is_refused() {
    let environment = MemoryEnvironment::new()
        .file("/etc/weir/weir.toml", format!("{BASE}calm = {{ status = 200, body = \"file:long\" }}\n"))
        .file("/etc/weir/long", "x".repeat(64 * 1024 + 1));
    assert!(refused(&environment).to_string().contains("longer than 65536 bytes"));
}

#[test]
fn a_missing_file_is_an_error_with_its_name() {
    let problems = refused(&MemoryEnvironment::new());
    let problem = problems.iter().next().expect("one problem");
    assert_eq!(problem.to_string(), "/etc/weir/weir.toml:1:1: error: cannot read /etc/weir/weir.toml: no such file");
}

#[test]
fn machines_read_places_people_read_text() {
    let environment =
        MemoryEnvironment::new().file("/etc/weir/weir.toml", format!("{BASE}é = 1\n[edge]\nregoin = \"é\"\n"));
    let problems = refused(&environment);
    let places: Vec<_> = problems.iter().map(|problem| (problem.severity, problem.line, problem.column)).collect();
    assert_eq!(places, [(Severity::Error, 12, 1)], "{problems}");
}

#[test]
fn a_flood_of_problems_is_cut_short() {
    let keys: String = (0..5000).map(|number| format!("key-{number} = 1\n")).collect();
    let problems = refused(&MemoryEnvironment::new().file("/etc/weir/weir.toml", format!("{keys}{BASE}")));
    assert_eq!((problems.len(), problems.omitted()), (200, 4800));
    assert!(problems.to_string().ends_with("\n\nand 4800 more"));
}
