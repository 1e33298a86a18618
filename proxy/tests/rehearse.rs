//! A rehearsal as operators make it: what it says of a new configuration is what then happens on a running node.

#![expect(clippy::unwrap_used, reason = "a test has no better use for an error")]

use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;

use serde_json::Value;
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

/// A request that is later than this may meet another answer than its time would have had it.
const ON_TIME: Duration = Duration::from_millis(250);

/// What the node then has is what was told, within two points. A machine that is too busy to ask at the times of the plan asks
/// something else; nothing can be told of that, and the drives are made again, a few times.
#[tokio::test(flavor = "multi_thread")]
async fn a_rehearsal_tells_the_hit_ratio_that_the_node_then_has() {
    for _ in 0..3 {
        let (told, met, behind) = tell_and_meet().await;
        eprintln!("told {told:.4}, met {met:.4}, {behind:?} behind");
        if behind <= ON_TIME {
            assert!((told - met).abs() <= 0.02, "told {told:.4}, met {met:.4}");
            assert!((0.3..0.9).contains(&met), "a ratio that tells something: {met}");
            return;
        }
    }
    eprintln!("this machine is too busy to ask in time; nothing was compared");
}

/// The hit ratio that the rehearsal of another TTL tells, the one that the node then has, and how far behind its plan the test was.
async fn tell_and_meet() -> (f64, f64, Duration) {
    let directory = tempfile::tempdir().unwrap();
    let core = CoreSim::start(CoreOptions::default()).await.unwrap();
    let (old, new) = (directory.path().join("old.toml"), directory.path().join("new.toml"));
    let node = Node::start(Path::new(WEIR), directory.path(), &(ground(core.address()) + &routes("600ms"))).await;
    for (path, ttl) in [(&old, "600ms"), (&new, "2400ms")] {
        std::fs::write(path, ground_with_admin(core.address(), node.admin()) + &routes(ttl)).unwrap();
    }
    let trace = directory.path().join("trace.jsonl");
    let recording = tokio::process::Command::new(WEIR)
        .args(["trace", "--sample", "1", "--seconds", "4.6", "-c"])
        .arg(&old)
        .stdout(std::fs::File::create(&trace).unwrap())
        .spawn();
    let mut recording = recording.unwrap();
    node.logged("recording a trace").await;
    let mut behind = drive(&node).await;
    assert!(recording.wait().await.unwrap().success());
    let reloaded = node.reload(&(ground(core.address()) + &routes("2400ms"))).await;
    assert_eq!(reloaded.status.as_u16(), 200, "{}", reloaded.text());
    // What the old TTL has left in the cache is younger than what the new one leaves there.
    drive(&node).await;
    let before = counted(&node).await;
    behind = behind.max(drive(&node).await);
    let after = counted(&node).await;
    let output = rehearse(&new, &old, &trace, &["--json"]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{said}");
    let told: Value = serde_json::from_slice(&output.stdout).unwrap();
    let route = &told["routes"][0];
    (route["new"]["hit_ratio"].as_f64().unwrap(), (after.1 - before.1) / (after.0 - before.0), behind)
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
