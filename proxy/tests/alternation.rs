//! A core that fails in every way, between real sockets: whoever asks for what was stored once sees no error, and is told how old it
//! is. The minute of it is `cargo run --release --bin cache -- --only alternation`.

#![expect(clippy::unwrap_used, reason = "a test has no better use for an error")]

use std::path::Path;
use std::time::Duration;

use futures::future::join_all;
use tokio::time::{Instant, sleep};
use weir_core_sim::{Behaviour, CoreOptions, CoreSim, EndpointKind};
use weir_testkit::http::Answer;
use weir_testkit::{Node, ground, http};

const WEIR: &str = env!("CARGO_BIN_EXE_weir");

/// What the configuration says; no answer may be kept without it.
const TTL: Duration = Duration::from_millis(1);

/// Every answer is stale after a [`TTL`], and of use for an hour while the core fails.
fn config(core: &CoreSim) -> String {
    let ground = ground(core.address());
    format!(
        r#"{ground}request_timeout = "500ms"
breaker_failures = 1000

[[route]]
name = "updates"
match = {{ method = "GET", path = "/v1/updates/{{channel}}/manifest.json" }}
class = "update"
action = "cache"
key = ["path.channel"]
shared = true
ttl = "1ms"
jitter = 0.0
stale_while_revalidate = "0s"
stale_if_error = "1h"
"#
    )
}

const CHANNELS: usize = 5;

#[tokio::test(flavor = "multi_thread")]
async fn stored_keys_never_show_an_error_of_the_core_and_their_age_is_true() {
    let core = CoreSim::start(CoreOptions::default()).await.unwrap();
    let directory = tempfile::tempdir().unwrap();
    let node = Node::start(Path::new(WEIR), directory.path(), &config(&core)).await;
    let address = node.listener("agents");
    let moods = [
        Behaviour::status(500),
        Behaviour::Hang,
        Behaviour::Reset,
        Behaviour::Garbage,
        Behaviour::Down,
        Behaviour::status(429),
    ];
    for (number, mood) in moods.iter().enumerate() {
        // A key that has failed rests for a while: each mood meets keys of its own.
        let all = async || {
            let targets = (0..CHANNELS).map(|channel| format!("/v1/updates/ring-{number}-{channel}/manifest.json"));
            join_all(targets.map(|target| async move { http::send(address, "GET", &target, &[], "").await })).await
        };
        core.script_for(EndpointKind::Update, Behaviour::Up);
        let asked = Instant::now();
        let stored = all().await;
        assert!(stored.iter().all(|answer| answer.status == 200 && answer.header("cache-status").contains("; stored")));
        core.bump_manifest();
        core.script_for(EndpointKind::Update, mood.clone());
        // Only time makes them stale: a node that is asked at once still has them fresh.
        sleep(2 * TTL).await;
        for told in ["fwd=stale", "hit"] {
            for (before, now) in stored.iter().zip(all().await) {
                check(before, &now, told, asked, mood);
            }
        }
    }
    let expected = 2.0 * (CHANNELS * moods.len()) as f64;
    // The last is counted when its agent has it.
    let stale = node.metric_until("weir_requests_total", &[("outcome", "stale")], |stale| stale >= expected).await;
    assert!(stale < expected + 0.5, "{stale} stale answers");
    // It is over: keys that have not failed yet are fetched as ever.
    core.script_for(EndpointKind::Update, Behaviour::Up);
    let anew = http::send(address, "GET", "/v1/updates/ring-new/manifest.json", &[], "").await;
    assert_eq!(anew.status, 200);
}

fn check(before: &Answer, now: &Answer, told: &str, asked: Instant, mood: &Behaviour) {
    let status = now.header("cache-status");
    assert_eq!((now.status.as_u16(), &now.body), (200, &before.body), "{mood:?}: {status}");
    assert!(status.starts_with(&format!("weir; {told}")) && status.contains("; detail="), "{mood:?}: {status}");
    let age: u64 = now.header("age").parse().unwrap();
    assert!(age <= asked.elapsed().as_secs(), "{mood:?}: age {age}");
    let ttl: i64 = status.split("ttl=").nth(1).unwrap().split(';').next().unwrap().parse().unwrap();
    assert!((-age.cast_signed() - 1..=0).contains(&ttl), "{mood:?}: {status} at an age of {age}");
}
