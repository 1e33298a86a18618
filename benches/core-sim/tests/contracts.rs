//! The contracts, as a proxy meets them.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on shall say where")]

mod client;

use std::io::Write;

use client::{Client, get_h2c, parse};
use serde_json::{Value, json};
use weir_core_sim::{CoreOptions, CoreSim, EndpointKind, KeyFault, ReadFormat, record_key};

async fn start(options: CoreOptions) -> (CoreSim, Client) {
    let core = CoreSim::start(options).await.unwrap();
    let client = Client::connect(core.address()).await.unwrap();
    (core, client)
}

fn lz4(data: &str) -> Vec<u8> {
    let mut encoder = lz4_flex::frame::FrameEncoder::new(Vec::new());
    encoder.write_all(data.as_bytes()).unwrap();
    encoder.finish().unwrap()
}

const ROWS: &str = concat!(
    r#"{"kind":"event","tenant":"t-1","agent":"a-1","received":5,"record":{"eid":"e1","image_path":"cmd.exe"}}"#,
    "\n",
    r#"{"kind":"repeat","tenant":"t-1","agent":"a-1","first_seen":5,"last_seen":9,"count":2,"key":{"image_path":"cmd.exe"},"exemplars":[{"eid":"e2"}]}"#,
    "\n"
);

fn batch_headers(id: &str) -> [(&str, &str); 8] {
    [
        ("content-type", "application/x-ndjson"),
        ("content-encoding", "lz4"),
        ("idempotency-key", id),
        ("weir-edge", "edge-1"),
        ("weir-stream", "process"),
        ("weir-format", "rows/1"),
        ("weir-rows", "2"),
        ("weir-records", "3"),
    ]
}

#[tokio::test]
async fn a_manifest_is_answered_304_until_its_version_changes() {
    let (core, mut client) = start(CoreOptions::default()).await;
    let path = "/v1/updates/stable/manifest.json?platform=windows&arch=x64";
    let first = client.get(path, &[]).await;
    assert_eq!(first.status(), 200);
    let etag = first.headers()["etag"].to_str().unwrap().to_owned();
    assert_eq!(client.get(path, &[("if-none-match", &etag)]).await.status(), 304);
    let time = first.headers()["last-modified"].to_str().unwrap();
    assert_eq!(client.get(path, &[("if-modified-since", time)]).await.status(), 304);
    core.bump_manifest();
    assert_eq!(client.get(path, &[("if-none-match", &etag)]).await.status(), 200);
    let update = &core.snapshot().endpoints[&EndpointKind::Update];
    assert_eq!((update.requests, update.not_modified), (4, 2));
}

#[tokio::test]
async fn a_config_belongs_to_the_tenant_of_the_header_or_the_path() {
    let (_core, mut client) = start(CoreOptions::default()).await;
    let by_header = client.get("/v1/config", &[("x-tenant-id", "t-7")]).await;
    let by_path = client.get("/v1/tenants/t-7/config", &[("x-tenant-id", "t-8")]).await;
    assert_eq!(parse(&by_header)["tenant"], "t-7");
    assert_eq!(by_header.body(), by_path.body());
    assert_eq!(client.get("/v1/config", &[]).await.status(), 400);
}

#[tokio::test]
async fn a_bulk_lookup_answers_tasks_by_id_and_the_rest_by_others() {
    let (core, mut client) = start(CoreOptions { agents_per_task: 0, ..CoreOptions::default() }).await;
    core.set_task("a-2", Some(json!({"run": "isolate"})));
    let keys: Vec<Value> = (1..=3)
        .map(|id| json!({"id": id, "key": {"identity.tenant": "t", "identity.agent": format!("a-{id}")}}))
        .collect();
    let question = json!({"version": 1, "edge": "edge-1", "route": "tasks", "keys": keys}).to_string();
    let answer = parse(&client.post("/v1/tasks:lookup", &[], question).await);
    assert_eq!(answer["others"]["status"], 204);
    assert_eq!(answer["answers"].as_array().unwrap().len(), 1);
    assert_eq!(answer["answers"][0]["id"], 2);
    assert_eq!(answer["answers"][0]["body"], json!({"run": "isolate"}));
    let lookups = core.snapshot().lookups;
    assert_eq!((lookups.bulk_requests, lookups.keys, lookups.max_keys), (1, 3, 3));
}

#[tokio::test]
async fn a_bulk_lookup_revalidates_and_fails_key_by_key() {
    let (core, mut client) = start(CoreOptions { config_ttl: Some(60), ..CoreOptions::default() }).await;
    let ask = |etag: Value| {
        let key = |id, tenant: &str, etag: &Value| json!({"id": id, "key": {"identity.tenant": tenant}, "etag": etag});
        json!({"version": 1, "edge": "e", "route": "config",
            "keys": [key(0, "t-0", &etag), key(1, "t-1", &Value::Null), key(2, "t-2", &Value::Null)]})
        .to_string()
    };
    core.set_key_fault("t-1", Some(KeyFault::RetryAfter(5)));
    core.set_key_fault("t-2", Some(KeyFault::Missing));
    let first = parse(&client.post("/v1/config:lookup", &[], ask(Value::Null)).await);
    assert_eq!(first["answers"].as_array().unwrap().len(), 2);
    assert_eq!(first["answers"][0]["ttl"], 60);
    assert_eq!(first["answers"][1], json!({"id": 1, "status": 503, "retry_after": 5}));
    let again = parse(&client.post("/v1/config:lookup", &[], ask(first["answers"][0]["etag"].clone())).await);
    assert_eq!(again["answers"][0], json!({"id": 0, "status": 304, "ttl": 60}));
    assert_eq!(core.snapshot().lookups.keys_not_modified, 1);
}

#[tokio::test]
async fn a_batch_counts_once_however_often_it_comes() {
    let key_fields = vec!["image_path".to_owned()];
    let options =
        CoreOptions { track_field: Some("eid".into()), key_fields: key_fields.clone(), ..CoreOptions::default() };
    let (core, mut client) = start(options).await;
    for _ in 0..3 {
        let answer = client.post("/v1/batches/process", &batch_headers("edge-1/process/1/0"), lz4(ROWS)).await;
        assert_eq!(answer.status(), 200);
    }
    let snapshot = core.snapshot();
    assert_eq!((snapshot.batches.accepted, snapshot.batches.repeated, snapshot.batches.conflicting), (1, 2, 0));
    let process = &snapshot.streams["process"];
    assert_eq!((process.rows, process.event_rows, process.records), (2, 1, 3));
    assert_eq!(process.bytes_inflated, ROWS.len() as u64);
    assert_eq!((core.times_seen("e1"), core.times_seen("e2"), core.times_seen("e3")), (1, 1, 0));
    let key = record_key(Some("t-1"), Some("a-1"), &key_fields, &json!({"image_path": "cmd.exe"}));
    assert_eq!(core.tracked_keys()[&key], 3);
}

#[tokio::test]
async fn a_batch_against_the_contract_is_refused_and_not_counted() {
    let (core, mut client) = start(CoreOptions::default()).await;
    let headers = batch_headers("edge-1/process/1/0");
    let mut cases = vec![
        (headers[..2].to_vec(), lz4(ROWS), 400),
        (headers.to_vec(), b"not lz4".to_vec(), 400),
        (headers.to_vec(), lz4("{\"kind\":\"event\"}\n{}\n"), 400),
        (headers.to_vec(), lz4(ROWS.lines().next().unwrap()), 400),
    ];
    let mut unknown = headers.to_vec();
    unknown[1].1 = "br";
    cases.push((unknown, lz4(ROWS), 415));
    for (headers, body, status) in cases {
        assert_eq!(client.post("/v1/batches/process", &headers, body).await.status(), status);
    }
    let batches = core.snapshot().batches;
    assert_eq!((batches.accepted, batches.refused), (0, 5));
}

#[tokio::test]
async fn presence_says_when_an_agent_was_last_seen() {
    let (core, mut client) = start(CoreOptions::default()).await;
    let rows = r#"{"kind":"presence","tenant":"t","agent":"a-1","last_seen":77,"version":"1.2"}"#;
    let headers = [("content-type", "application/x-ndjson"), ("idempotency-key", "edge-1/presence/1/0")];
    assert_eq!(client.post("/v1/presence", &headers, rows).await.status(), 200);
    assert_eq!(core.last_seen("a-1"), Some(77));
    assert_eq!(core.snapshot().streams["presence"].records, 1);
}

#[tokio::test]
async fn an_upload_without_a_proxy_is_answered_record_by_record() {
    let (core, mut client) = start(CoreOptions::default()).await;
    let answer = client.post("/v1/events/process", &[], r#"[{"eid":"1"},7,{"eid":"2"}]"#).await;
    assert_eq!(answer.status(), 202);
    assert_eq!(parse(&answer), json!({"accepted": 2, "refused": [{"index": 1, "reason": "not an object"}]}));
    assert_eq!(client.post("/v1/events/process", &[], "[7]").await.status(), 400);
    assert_eq!(core.snapshot().uploads.records, 2);
}

#[tokio::test]
async fn an_echo_tells_what_came_and_a_stream_is_as_long_as_asked() {
    let (_core, mut client) = start(CoreOptions::default()).await;
    let told = parse(&client.post("/v1/echo/a?b=c", &[("x-one", "1"), ("x-one", "2")], "12345").await);
    assert_eq!((&told["path"], &told["query"], &told["body_bytes"]), (&json!("/v1/echo/a"), &json!("b=c"), &json!(5)));
    assert_eq!(told["headers"]["x-one"], json!(["1", "2"]));
    let stream = client.get("/v1/stream?bytes=2500&chunk=1000&delay_ms=1", &[]).await;
    assert_eq!(stream.body().len(), 2500);
}

#[tokio::test]
async fn http2_is_spoken_with_prior_knowledge() {
    let (core, _client) = start(CoreOptions::default()).await;
    let answer = get_h2c(core.address(), "/v1/echo").await;
    assert_eq!(answer.version(), http::Version::HTTP_2);
    assert_eq!(parse(&answer)["version"], "HTTP/2.0");
}

#[tokio::test]
async fn a_format_is_read_where_the_core_was_told_how() {
    for (read_format, status) in [(None, 400), (Some((|_, _, _| Ok(ROWS.into())) as ReadFormat), 200)] {
        let (core, mut client) = start(CoreOptions { read_format, ..CoreOptions::default() }).await;
        let mut headers = batch_headers("edge-1/process/1/0");
        headers[5].1 = "other/1";
        assert_eq!(client.post("/v1/batches/process", &headers, lz4("anything")).await.status(), status);
        assert_eq!(core.snapshot().streams.contains_key("process"), status == 200);
    }
}
