//! A rehearsal as operators make it: what it says of a new configuration is what then happens on a running node.

#![expect(clippy::unwrap_used, reason = "a test has no better use for an error")]

use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::time::Instant;
use weir_core_sim::{CoreOptions, CoreSim};
use weir_testkit::ground::{ground, ground_with_admin};
use weir_testkit::http::Connection;
use weir_testkit::{Node, sum};

const WEIR: &str = env!("CARGO_BIN_EXE_weir");

fn routes(ttl: &str) -> String {
    format!(
        r#"
[[route]]
name = "updates"
match = {{ method = "GET", path = "/v1/updates/{{channel}}/manifest.json" }}
class = "update"
action = "cache"
key = ["path.channel"]
shared = true
ttl = {{ ok = "{ttl}" }}
stale_while_revalidate = "0s"
"#
    )
}

/// Requests for keys by Zipf's law, the same each time.
fn channels() -> Vec<u32> {
    let mut shares = Vec::new();
    let mut sum = 0.0;
    for rank in 1..=KEYS {
        sum += 1.0 / f64::from(rank);
        shares.push(sum);
    }
    let mut state = 1_u64;
    let mut draw = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        f64::from(u32::try_from(state >> 32).unwrap()) / f64::from(u32::MAX) * sum
    };
    let mut one = || {
        let drawn = draw();
        u32::try_from(shares.partition_point(|share| *share < drawn)).unwrap()
    };
    (0..REQUESTS).map(|_| one()).collect()
}

/// Sends the requests at their times over a few connections. Gives how far the slowest was behind its time.
async fn drive(node: &Node) -> Duration {
    let (address, start) = (node.listener("agents"), Instant::now());
    let channels = channels();
    let lanes = (0..LANES).map(|lane| {
        let mine: Vec<_> = channels.iter().copied().enumerate().skip(lane).step_by(LANES).collect();
        async move {
            let mut connection = Connection::plain(address).await.unwrap();
            let mut behind = Duration::ZERO;
            for (number, channel) in mine {
                let due = start + GAP * u32::try_from(number).unwrap();
                tokio::time::sleep_until(due).await;
                behind = behind.max(due.elapsed());
                let target = format!("/v1/updates/c{channel}/manifest.json");
                assert_eq!(connection.get(&target, &[]).await.unwrap().status.as_u16(), 200);
            }
            behind
        }
    });
    futures::future::join_all(lanes).await.into_iter().max().unwrap_or_default()
}

/// Requests so far, and those that did not wait for the core.
async fn counted(node: &Node) -> (f64, f64) {
    let metrics = node.metrics().await;
    let of = |labels: &[(&str, &str)]| sum(&metrics, "weir_requests_total", labels);
    (of(&[("route", "updates")]), of(&[("route", "updates"), ("outcome", "hit")]))
}

const KEYS: u32 = 200;
const REQUESTS: u32 = 1_100;
const GAP: Duration = Duration::from_millis(4);
const LANES: usize = 8;

/// What the node then has is what was told, within two points. Requests that are sent later than planned may meet other answers
/// than the recorded ones would have: so much is allowed besides. What a rehearsal says of the very requests that the node then
/// answers holds however late they are.
#[tokio::test(flavor = "multi_thread")]
async fn a_rehearsal_tells_the_hit_ratio_that_the_node_then_has() {
    let directory = tempfile::tempdir().unwrap();
    let core = CoreSim::start(CoreOptions::default()).await.unwrap();
    let (old, new) = (directory.path().join("old.toml"), directory.path().join("new.toml"));
    let node = Node::start(Path::new(WEIR), directory.path(), &(ground(core.address()) + &routes("600ms"))).await;
    for (path, ttl) in [(&old, "600ms"), (&new, "2400ms")] {
        std::fs::write(path, ground_with_admin(core.address(), node.admin()) + &routes(ttl)).unwrap();
    }
    let before = directory.path().join("before.jsonl");
    let mut behind = recorded(&node, &old, &before).await;
    let reloaded = node.reload(&(ground(core.address()) + &routes("2400ms"))).await;
    assert_eq!(reloaded.status.as_u16(), 200, "{}", reloaded.text());
    // What the old TTL has left in the cache is younger than what the new one leaves there.
    drive(&node).await;
    let counts = counted(&node).await;
    let after = directory.path().join("after.jsonl");
    behind = behind.max(recorded(&node, &new, &after).await);
    let (requests, hits) = counted(&node).await;
    let met = (hits - counts.1) / (requests - counts.0);
    let told = hit_ratios(&new, &old, &before).1;
    let (written, retold) = hit_ratios(&new, &new, &after);
    eprintln!("told {told:.4}, met {met:.4}; written down {written:.4}, retold {retold:.4}; {behind:?} behind");
    assert!((0.3..0.95).contains(&met), "a ratio that tells something: {met}");
    assert!((retold - written).abs() <= 0.02, "retold {retold:.4}, written down {written:.4}");
    let late = behind.as_secs_f64() / (GAP * REQUESTS).as_secs_f64();
    assert!((told - met).abs() <= 0.02 + late, "told {told:.4}, met {met:.4}, {late:.4} late");
}

/// Drives the node while it writes down what it is asked. Gives how far behind its plan that was.
async fn recorded(node: &Node, config: &Path, trace: &Path) -> Duration {
    let mut recording = tokio::process::Command::new(WEIR)
        .args(["trace", "--sample", "1", "--seconds", "4.6", "-c"])
        .arg(config)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(recording.stdout.take().unwrap());
    let mut text = Vec::new();
    // The head of the trace: from now on requests are written down.
    lines.read_until(b'\n', &mut text).await.unwrap();
    let (behind, read) = tokio::join!(drive(node), lines.read_to_end(&mut text));
    read.unwrap();
    assert!(recording.wait().await.unwrap().success());
    std::fs::write(trace, text).unwrap();
    behind
}

/// The hit ratio that was written down, and the one that the rehearsal says that the new configuration would have had.
fn hit_ratios(new: &Path, old: &Path, trace: &Path) -> (f64, f64) {
    let output = rehearse(new, old, trace, &["--json"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let told: Value = serde_json::from_slice(&output.stdout).unwrap();
    let route = &told["routes"][0];
    (route["recorded_hit_ratio"].as_f64().unwrap(), route["new"]["hit_ratio"].as_f64().unwrap())
}

fn rehearse(new: &Path, old: &Path, trace: &Path, more: &[&str]) -> Output {
    Command::new(WEIR)
        .arg("rehearse")
        .arg(new)
        .arg("--old")
        .arg(old)
        .arg("--trace")
        .arg(trace)
        .args(more)
        .output()
        .unwrap()
}

const TRACE: &str = r#"{"weir_trace":1,"edge":"e","began":1700000000000,"sample":0.5,"salt":"s"}
{"at":0,"route":"updates","class":"update","method":"GET","path":"/v1/updates/~1/manifest.json","status":200,"bytes":10,"outcome":"miss","core":5}
{"at":2000,"route":"updates","class":"update","method":"GET","path":"/v1/updates/~1/manifest.json","status":200,"bytes":10,"outcome":"miss","core":5}
{"at":2500,"route":"gone","class":"config","method":"GET","path":"/v1/gone/~1","status":200,"bytes":10,"outcome":"forwarded","core":5}
{"weir_trace_end":"time","covered":10000,"lines":3,"too_long":0,"requests":{"gone":2,"updates":4}}
"#;

#[test]
fn the_difference_is_printed_for_each_route() {
    let directory = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let path = directory.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    let old = write("old.toml", &(ground("127.0.0.1:9") + &routes("1s")));
    let longer = routes("5m").replace("\"path.channel\"", "\"path.channel\", \"query.os\"");
    let new = write("new.toml", &(ground("127.0.0.1:9") + &longer));
    let trace = write("trace.jsonl", TRACE);
    let output = rehearse(&new, &old, &trace, &[]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    for expected in [
        "3 requests of 50.0% of the keys, in 10s\n",
        "\nupdates (update, cache), 0.0% hits when recorded\n",
        "\n  old        0.400        0.400                 0.0%    0.0%    0.0%        0s        0s",
        "\n  new        0.400        0.000               100.0%    0.0%    0.0%",
        "Requests that no route of the old configuration takes: 1 of gone\n",
        "Note: updates: the key is another, and the trace has a sample of the old one's; record with --sample 1\n",
    ] {
        assert!(text.contains(expected), "{expected}\n{text}");
    }
    let said = |trace: &str| {
        let output = rehearse(&new, &old, &write("bad.jsonl", trace), &[]);
        (output.status.code().unwrap(), String::from_utf8(output.stderr).unwrap())
    };
    let (code, newer) = said(&TRACE.replace("\"weir_trace\":1", "\"weir_trace\":2"));
    assert_eq!(code, 65);
    assert!(newer.contains("bad.jsonl:1: a trace of version 2: this program reads version 1"), "{newer}");
    let (code, torn) = said(&TRACE[..TRACE.len() - 130]);
    assert_eq!(code, 65);
    assert!(torn.contains("bad.jsonl:4:") && torn.contains("expected a request or the trace's end"), "{torn}");
    let output = rehearse(&new, &old, Path::new("nowhere"), &[]);
    assert_eq!(output.status.code(), Some(66));
}
