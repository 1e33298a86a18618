use std::path::Path;

use weir_config::{MemoryEnvironment, parse};

use super::*;

const FILE: &str = r#"
[edge]
region = "us-east-1"

[[listener]]
name = "agents"
address = "0.0.0.0:8443"
trusted_headers = true

[[listener]]
name = "wide"
address = "0.0.0.0:8080"

[core]
peers = ["core-a:443"]

[identity]
agent = ["certificate.cn", "header.x-agent-id"]
tenant = ["certificate.o", "header.x-tenant-id"]

[[route]]
name = "update-manifest"
match = { method = "GET", path = "/v1/updates/{channel}/manifest.json" }
class = "update"
action = "cache"
key = ["path.channel", "query.platform"]
shared = true
ttl = { ok = "60s", not_found = "5s" }
jitter = 0.1
stale_if_error = "24h"
calm = { status = 204 }

payload = { url = "body./url", sha256 = "body./sha256" }
rollout = { over = "4h", share = "25 %" }

[[route]]
name = "packages"
match = { method = "GET", path = "/packages/{file*}" }
class = "download"
action = "cache"
key = ["path.file"]
shared = true
store = "disk"
max_bytes_per_second = "20 MiB"

[[route]]
name = "tasks"
match = { method = "GET", path = "/v1/agents/{agent}/tasks" }
class = "tasking"
action = "lookup"
lookup = { path = "/v1/tasks:lookup", key = ["identity.agent"], window = "25ms", max_keys = 1000 }

[[route]]
name = "process-events"
match = { method = "POST", path = "/v1/events/process" }
class = "telemetry"
action = "aggregate"
stream = "process"

[[stream]]
name = "process"
mode = "events"
same = ["image_path", "cmdline"]
"#;

fn question(method: &str, url: &str) -> Question {
    let environment = MemoryEnvironment::new().file("weir.toml", FILE);
    let config = parse(&environment, Path::new("weir.toml")).unwrap_or_else(|problems| panic!("{problems}")).config;
    Question {
        config,
        method: method.to_owned(),
        url: url.to_owned(),
        headers: Vec::new(),
        body: Vec::new(),
        certificate: None,
        listener: None,
    }
}

fn has(text: &str, label: &str, value: &str) {
    let found = text.lines().any(|line| line.starts_with(label) && line[label.len()..].trim_start().starts_with(value));
    assert!(found, "no `{label} {value}` in\n{text}");
}

#[test]
fn a_cached_route_shows_its_key_its_times_and_what_is_sent() {
    let text = explain(&question("GET", "/v1/updates/stable/manifest.json?platform=win&noise=1")).unwrap();
    has(&text, "route", "update-manifest (GET /v1/updates/{channel}/manifest.json)");
    has(&text, "class", "update");
    has(&text, "key", "path.channel = \"stable\"");
    has(&text, "", "query.platform = \"win\"");
    has(&text, "scope", "shared");
    has(&text, "fresh for", "1m (200, 203, 204), 1m (301, 308), 5s (404, 410), up to 10 % less");
    has(&text, "else", "204 when the core fails");
    has(&text, "sent", "GET /v1/updates/stable/manifest.json?platform=win");
    has(&text, "not sent", "query noise");
    has(&text, "payloads", "used once what body./url names is stored with the SHA-256 at body./sha256; ");
    has(&text, "rollout", "a changed answer reaches 25 % of the agents at most, over 4h");
}

#[test]
fn a_route_of_packages_shows_where_they_are_kept() {
    let text = explain(&question("GET", "/packages/agent-1.msi")).unwrap();
    has(&text, "kept", "on disk, ");
    assert!(text.contains("; each is given to all agents together at 20 MiB a second at most"), "{text}");
}

#[test]
fn a_lookup_needs_to_know_who_asks() {
    let mut poll = question("GET", "https://edge.example/v1/agents/a-1/tasks");
    has(&explain(&poll).unwrap(), "answer", "401 unidentified");
    poll.certificate = Some("cn=a-1,o=t-1".to_owned());
    let text = explain(&poll).unwrap();
    has(&text, "identity", "agent a-1, tenant t-1");
    has(&text, "limits", "agent: 600 requests a minute, 300 at once, on all routes without a limit of their own");
    has(&text, "", "class: while fewer than 20000 of 20000 requests are worked on");
    has(&text, "", "tenant: weight 1, alone up to 80 % of that");
    has(&text, "turned away", "told to come back after 5s to 1m");
    has(&text, "key", "identity.tenant = \"t-1\"");
    has(&text, "sent", "POST /v1/tasks:lookup");
}

#[test]
fn a_route_shows_the_gate_that_it_passes() {
    let gate = |url| {
        let text = explain(&question("GET", url)).unwrap();
        let line = text.lines().find(|line| line.starts_with("gate")).unwrap_or_else(|| panic!("{text}"));
        line["gate".len()..].trim_start().to_owned()
    };
    assert_eq!(
        gate("/v1/updates/stable/manifest.json"),
        "8 to 256 in flight, 50 % of them for this route; held to 500 requests a second; waits 1s at most"
    );
    assert!(gate("/v1/agents/a-1/tasks").contains("; not held to 500 requests a second; "), "orders are not paced");
}

#[test]
fn headers_name_an_agent_only_where_the_listener_believes_them() {
    let mut poll = question("GET", "/v1/agents/a-1/tasks");
    poll.headers = vec!["X-Agent-Id: a-1".to_owned(), "x-tenant-id:t-1".to_owned()];
    has(&explain(&poll).unwrap(), "identity", "agent a-1, tenant t-1");
    poll.listener = Some("wide".to_owned());
    has(&explain(&poll).unwrap(), "identity", "agent unknown, tenant unknown");
}

#[test]
fn an_uploads_records_are_counted() {
    let mut upload = question("POST", "/v1/events/process");
    upload.body = br#"[{"pid":1},{"pid":2},3]"#.to_vec();
    let text = explain(&upload).unwrap();
    has(&text, "merge", "repeats of one agent within 1m, same in image_path, cmdline");
    has(&text, "records", "2 accepted, 1 refused");
    has(&text, "", "record 2: not an object");
    upload.headers = vec!["content-encoding: br".to_owned()];
    has(&explain(&upload).unwrap(), "answer", "415 unsupported_encoding");
}

#[test]
fn what_the_node_would_refuse_is_an_answer() {
    has(&explain(&question("GET", "/nowhere")).unwrap(), "answer", "404 unknown_route");
    has(&explain(&question("PUT", "/v1/events/process")).unwrap(), "answer", "405 wrong_method");
    has(&explain(&question("BREW", "/v1/events/process")).unwrap(), "answer", "405 wrong_method");
    has(&explain(&question("GET", "/v1/a b")).unwrap(), "answer", "400 malformed");
}

#[test]
fn a_wrong_question_is_a_usage_error() {
    let wrong = |change: fn(&mut Question)| {
        let mut question = question("GET", "/");
        change(&mut question);
        explain(&question).unwrap_err().to_string()
    };
    assert!(wrong(|question| question.headers.push("x".to_owned())).contains("expected NAME:VALUE"));
    assert!(wrong(|question| question.certificate = Some("c=1".to_owned())).contains("expected cn, o, ou or san"));
    assert!(wrong(|question| question.listener = Some("no".to_owned())).contains("there are agents, wide"));
}
