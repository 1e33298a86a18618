//! What is kept past its TTL, how it is fetched anew, and what becomes of keys that fail.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures::future::join_all;
use serde_json::json;
use weir_config::Route;
use weir_logic::cache::CACHE_STATUS;
use weir_logic::{Cause, Outcome};

use super::support::{Bench, bulk, header, names, rest, text};
use crate::upstream::OriginError;

const fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

#[tokio::test]
async fn a_stale_answer_is_given_at_once_and_fetched_anew_behind_the_agents_back() {
    let bench = Bench::new(|route| route.stale_while_revalidate = secs(30));
    bench.script(names);
    let _kept = bench.ask("a").await;
    bench.core.open.forget_permits(1_000_000);
    bench.hand.advance(secs(75));
    for _ in 0..3 {
        let stale = bench.ask("a").await;
        assert_eq!((stale.outcome, stale.cause, text(&stale)), (Outcome::Stale, Some(Cause::Revalidating), "\"a\""));
        assert_eq!(header(&stale, CACHE_STATUS), "weir; hit; ttl=-15");
    }
    bench.until_asked(2).await;
    assert_eq!(
        bench.core.asked.lock()[1]["keys"],
        json!([{"id": 0, "key": {"identity.tenant": "t-1", "identity.agent": "a"}, "etag": "\"v1\""}])
    );
    bench.core.open.add_permits(1);
    bench.until_landed().await;
    assert_eq!((bench.ask("a").await.outcome, bench.asked()), (Outcome::Hit, 2));
    bench.hand.advance(secs(90));
    bench.core.open.add_permits(1);
    assert_eq!(bench.ask("a").await.outcome, Outcome::Miss, "too stale to be given");
}

#[tokio::test]
async fn what_somebody_asks_for_takes_what_is_to_be_fetched_anew_along() {
    let bench = Bench::new(|route| (route.stale_while_revalidate, route.refresh_window) = (secs(30), secs(3_600)));
    bench.script(names);
    join_all(["a", "b", "c"].map(|agent| bench.ask(agent))).await;
    bench.hand.advance(secs(75));
    join_all(["a", "b", "c"].map(|agent| bench.ask(agent))).await;
    assert_eq!(bench.asked(), 1);
    assert_eq!(bench.ask("d").await.outcome, Outcome::Miss);
    let question = bench.core.asked.lock()[1].clone();
    assert_eq!(question["keys"].as_array().unwrap().len(), 4);
    assert_eq!(bench.ask("b").await.outcome, Outcome::Hit);
}

#[tokio::test]
async fn keys_that_are_asked_for_are_fetched_anew_together_before_their_end() {
    let bench = Bench::new(|_| {});
    bench.script(names);
    let agents: Vec<String> = (0..100).map(|number| format!("a-{number}")).collect();
    join_all(agents.iter().map(|agent| bench.ask(agent))).await;
    bench.hand.advance(secs(30));
    join_all(agents[..60].iter().map(|agent| bench.ask(agent))).await;
    bench.action.shared.refresh_due();
    assert_eq!(bench.asked(), 1, "nothing is due");
    bench.hand.advance(secs(25));
    bench.action.shared.refresh_due();
    bench.until_asked(2).await;
    bench.until_landed().await;
    assert_eq!(bench.core.asked.lock()[1]["keys"].as_array().unwrap().len(), 60);
    bench.hand.advance(secs(10));
    let outcomes = join_all(agents.iter().map(|agent| bench.ask(agent))).await;
    assert!(outcomes[..60].iter().all(|answer| answer.outcome == Outcome::Hit));
    assert!(outcomes[60..].iter().all(|answer| answer.outcome == Outcome::Miss), "nobody had asked for these");
    assert_eq!(bench.asked(), 3);
}

#[tokio::test]
async fn what_was_kept_for_a_route_that_has_changed_is_not_fetched_anew() {
    let bench = Bench::new(|_| {});
    bench.script(names);
    let _kept = bench.ask("a").await;
    let _kept = bench.ask("a").await;
    let mut changed = Route::clone(&bench.route);
    changed.path.text.push('x');
    bench.action.adopt(&[changed]);
    bench.hand.advance(secs(58));
    bench.action.shared.refresh_due();
    assert_eq!(bench.ask("a").await.outcome, Outcome::Hit);
    assert_eq!(bench.asked(), 1);
}

#[tokio::test]
async fn a_stale_answer_stands_in_while_the_core_fails_and_no_longer() {
    let bench = Bench::new(|route| route.stale_if_error = secs(100));
    bench.script(names);
    assert_eq!(bench.ask("a").await.status, 200);
    bench.script(|_| bulk(json!([{"id": 0, "status": 500}]), None));
    bench.hand.advance(secs(150));
    let stale = bench.ask("a").await;
    assert_eq!((stale.status, stale.outcome, text(&stale)), (200, Outcome::Stale, "\"a\""));
    assert_eq!((stale.cause, header(&stale, CACHE_STATUS)), (Some(Cause::FillFailed), "weir; hit; ttl=-90"));
    let again = bench.ask("a").await;
    assert_eq!((again.outcome, again.cause, bench.asked()), (Outcome::Stale, Some(Cause::CoreFailing), 2));
    bench.script(|_| Err(OriginError::Broken));
    bench.hand.advance(secs(2));
    assert_eq!(bench.ask("a").await.cause, Some(Cause::CoreFailing), "asked behind the agent's back from now on");
    bench.until_asked(3).await;
    bench.until_landed().await;
    bench.hand.advance(secs(9));
    let none = bench.ask("a").await;
    assert_eq!((none.status, none.outcome), (502, Outcome::Failed));
}

#[tokio::test]
async fn nobody_stands_in_line_who_can_be_given_a_stale_answer() {
    let bench = Bench::new(|route| route.stale_if_error = secs(100));
    bench.script(names);
    assert_eq!(bench.ask("a").await.status, 200);
    bench.hand.advance(secs(150));
    bench.core.crowded.store(true, Ordering::Relaxed);
    bench.core.open.forget_permits(1_000_000);
    let stale = bench.ask("a").await;
    assert_eq!((stale.outcome, stale.cause, text(&stale)), (Outcome::Stale, Some(Cause::Crowded), "\"a\""));
    bench.until_asked(2).await;
    bench.core.open.add_permits(1);
    bench.until_landed().await;
    assert_eq!(bench.ask("a").await.outcome, Outcome::Hit, "it was asked for behind the agent's back");
}

#[tokio::test]
async fn a_key_that_fails_rests_and_others_do_not() {
    let bench = Bench::new(|_| {});
    bench.script(|_| bulk(json!([{"id": 0, "status": 503, "retry_after": 40}]), Some(json!({"status": 204}))));
    assert_eq!(bench.ask("a").await.status, 503);
    let resting = bench.ask("a").await;
    assert_eq!((resting.status, bench.asked()), (503, 1));
    assert!((40..=50).contains(&rest(&resting)));
    bench.script(names);
    assert_eq!(bench.ask("b").await.status, 200);
    bench.hand.advance(secs(51));
    assert_eq!((bench.ask("a").await.status, bench.asked()), (200, 3));
}

#[tokio::test]
async fn who_comes_while_a_key_is_under_way_shares_its_answer_unless_it_is_orders() {
    for (ttl, requests) in [(secs(60), 1), (Duration::ZERO, 2)] {
        let bench = Arc::new(Bench::new(|route| route.ttl = ttl));
        bench.script(names);
        bench.core.open.forget_permits(1_000_000);
        let ask = || {
            let bench = Arc::clone(&bench);
            crate::task::spawn("asks", async move { bench.ask("a").await })
        };
        let first = ask();
        bench.until_asked(1).await;
        let second = ask();
        while bench.waiting() < 2 {
            tokio::task::yield_now().await;
        }
        if requests == 2 {
            bench.until_asked(2).await;
        }
        bench.core.open.add_permits(requests);
        assert_eq!(first.await.unwrap().unwrap().outcome, Outcome::Miss);
        let second = second.await.unwrap().unwrap();
        assert_eq!((text(&second), second.outcome == Outcome::Coalesced), ("\"a\"", requests == 1));
        assert_eq!((bench.asked(), bench.waiting()), (requests, 0));
    }
}

#[tokio::test]
async fn a_bulk_request_that_dies_leaves_no_key_stuck() {
    let bench = Bench::new(|route| route.ttl = secs(60));
    bench.script(|_| panic!("a test"));
    let (a, b) = tokio::join!(bench.ask("a"), bench.ask("a"));
    assert_eq!((a.status, b.status, bench.waiting()), (503, 503, 0));
    bench.script(names);
    assert_eq!(bench.ask("a").await.status, 200);
}
