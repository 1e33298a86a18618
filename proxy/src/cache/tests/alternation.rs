//! A core that changes its mind with every request: good, 500, no answer in time, a reset, half a page.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use weir_config::{CacheRoute, FreshnessMode, StatusTtl};
use weir_logic::Outcome;

use super::support::{Reply, World, cache_status, manifest, reply, text};
use crate::upstream::OriginError;

const JSON: (&str, &str) = ("content-type", "application/json");

fn mood(number: usize, versions: &AtomicU64) -> Reply {
    match number % 5 {
        1 => {
            let version = versions.fetch_add(1, Ordering::SeqCst) + 1;
            reply(200, &[JSON, ("cache-control", "max-age=2")], &format!("{{\"version\":{version}}}"))
        }
        2 => reply(500, &[], "oops"),
        3 => Err(OriginError::Timeout),
        4 => Err(OriginError::Broken),
        _ => reply(200, &[JSON], "{\"version\":"),
    }
}

/// For a minute of the node's clock, five times a second: every answer is a 200 with a version that the core gave whole, and
/// `Age` and `Cache-Status` say when that was and what has become of it.
#[tokio::test]
async fn a_minute_of_moods_shows_agents_no_error_and_the_true_age() {
    for freshness in [FreshnessMode::Override, FreshnessMode::Clamp, FreshnessMode::Honor] {
        let ttl = StatusTtl { ok: Duration::from_secs(2), ..manifest().ttl };
        let route = CacheRoute { freshness, ttl, stale_while_revalidate: Duration::from_secs(1), ..manifest() };
        let versions = Arc::new(AtomicU64::new(0));
        let counted = Arc::clone(&versions);
        let world = World::new(route, move |_, number| mood(number, &counted));
        let mut given: HashMap<u64, u64> = HashMap::new();
        let mut outcomes: HashMap<Outcome, usize> = HashMap::new();
        for step in 0..300_u64 {
            let now = step * 200;
            let answer = world.get().await;
            world.settle().await;
            let latest = versions.load(Ordering::SeqCst);
            given.entry(latest).or_insert(now);
            assert_eq!(answer.status, 200, "{freshness:?} after {now} ms: {}", cache_status(&answer));
            let body: serde_json::Value = serde_json::from_slice(&answer.body).unwrap();
            let age = now - given[&body["version"].as_u64().unwrap()];
            let told = text(&answer, "age");
            assert!(told == (age / 1000).to_string() || (told.is_empty() && age == 0), "{told:?} is not {age} ms");
            let (fresh, status) = (age < 2_000, cache_status(&answer));
            let ttl = if fresh { (2_000 - age) / 1000 } else { (age - 2_000) / 1000 };
            let sign = if fresh || ttl == 0 { "" } else { "-" };
            assert!(status.contains(&format!("; ttl={sign}{ttl}")), "{status} of an answer {age} ms old");
            assert_eq!(fresh, matches!(answer.outcome, Outcome::Hit | Outcome::Miss), "{status}");
            *outcomes.entry(answer.outcome).or_default() += 1;
            world.hand.advance(Duration::from_millis(200));
        }
        assert!(outcomes[&Outcome::Stale] > 50 && outcomes[&Outcome::Hit] > 20, "{outcomes:?}");
        assert!(versions.load(Ordering::SeqCst) >= 3 && world.core.count() >= 12, "{} requests", world.core.count());
        assert_eq!(world.metrics.cache_entries.get(), 1);
    }
}
