//! One fill for each key, whoever waits, leaves or dies.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use weir_config::{ByteSize, CacheLimits};
use weir_logic::answer::Wait;
use weir_logic::{Answer, Outcome};

use super::support::{Ask, World, cache_status, calm, manifest, ok, reply, text};
use crate::upstream::OriginError;

async fn answers(crowd: Vec<tokio::task::JoinHandle<Option<Answer>>>) -> Vec<Answer> {
    let mut all = Vec::new();
    for agent in crowd {
        all.push(agent.await.unwrap().expect("no request panics"));
    }
    all
}

fn outcomes(answers: &[Answer]) -> BTreeMap<Outcome, usize> {
    let mut counts = BTreeMap::new();
    for answer in answers {
        *counts.entry(answer.outcome).or_default() += 1;
    }
    counts
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn ten_thousand_callers_of_a_cold_key_ask_the_core_once() {
    let world = World::new(manifest(), |_, _| ok("one"));
    world.core.close().await;
    let crowd = world.crowd(10_000);
    world.core.asked(1).await;
    world.core.open();
    let all = answers(crowd).await;
    assert!(all.iter().all(|answer| answer.status == 200 && &answer.body[..] == b"one"));
    assert_eq!(world.core.count(), 1);
    let counts = outcomes(&all);
    assert_eq!(counts[&Outcome::Miss], 1);
    assert_eq!(counts.values().sum::<usize>(), 10_000);
}

#[tokio::test]
async fn a_fill_that_landed_since_the_look_at_the_store_is_not_repeated() {
    let world = World::new(manifest(), |_, _| ok("one"));
    let _filled = world.get().await;
    assert_eq!(world.get_after_a_late_look().await.outcome, Outcome::Hit);
    world.pass(3_600);
    world.core.now_does(|_, _| Err(OriginError::Connect));
    let _failed = world.get().await;
    assert_eq!(world.get_after_a_late_look().await.outcome, Outcome::Failed);
    assert_eq!(world.core.count(), 2);
}

#[tokio::test]
async fn those_who_wait_are_coalesced_and_told_so() {
    let world = World::new(manifest(), |_, _| ok("one"));
    world.core.close().await;
    let crowd = world.crowd(3);
    world.core.asked(1).await;
    tokio::task::yield_now().await;
    world.core.open();
    let all = answers(crowd).await;
    assert_eq!(outcomes(&all), BTreeMap::from([(Outcome::Coalesced, 2), (Outcome::Miss, 1)]));
    let joined = all.iter().find(|answer| answer.outcome == Outcome::Coalesced).unwrap();
    assert_eq!(cache_status(joined), "weir; fwd=uri-miss; fwd-status=200; stored; collapsed; ttl=60");
}

#[tokio::test]
async fn each_of_a_crowd_is_told_what_it_would_be_told_alone() {
    let world = World::new(manifest(), |_, _| reply(200, &[("etag", "\"a\"")], "one"));
    world.core.close().await;
    let conditional = Ask::get().with("if-none-match", "\"a\"");
    let asks = [Ask::get(), Ask::get(), conditional, Ask::get().with("range", "bytes=1-1"), Ask::get()];
    let all = futures::future::join_all(asks.iter().map(|ask| world.ask(ask)));
    let (all, ()) = tokio::join!(all, async { world.core.open() });
    let told: Vec<_> = all.iter().map(|answer| (answer.status, text(answer, "age"), &answer.body[..])).collect();
    let whole = (200, "0", &b"one"[..]);
    assert_eq!(told, [(200, "", &b"one"[..]), whole, (304, "0", b""), (206, "0", b"n"), whole]);
    assert!(all.iter().all(|answer| text(answer, "etag") == "\"a\""));
    assert!(all[1..].iter().all(|answer| cache_status(answer) == cache_status(&all[1])));
    assert_eq!(cache_status(&all[0]), "weir; fwd=uri-miss; fwd-status=200; stored; ttl=60");
}

#[tokio::test]
async fn the_fill_goes_on_when_the_request_that_started_it_leaves() {
    let world = World::new(manifest(), |_, _| ok("one"));
    world.core.close().await;
    let mut crowd = world.crowd(2);
    world.core.asked(1).await;
    crowd.remove(0).abort();
    world.core.open();
    assert_eq!(&answers(crowd).await[0].body[..], b"one");
    assert_eq!(world.core.count(), 1);
}

#[tokio::test]
async fn the_fill_goes_on_when_everyone_leaves_and_serves_who_comes_next() {
    let world = World::new(manifest(), |_, _| ok("one"));
    world.core.close().await;
    for agent in world.crowd(5) {
        world.core.asked(1).await;
        agent.abort();
    }
    world.core.open();
    world.settle().await;
    assert_eq!(world.get().await.outcome, Outcome::Hit);
    assert_eq!(world.core.count(), 1);
}

#[tokio::test]
async fn a_fill_that_dies_hands_over_to_one_of_those_who_wait() {
    let world = World::new(manifest(), |_, number| if number == 1 { panic!("on purpose") } else { ok("one") });
    world.core.close().await;
    let crowd = world.crowd(100);
    world.core.asked(1).await;
    tokio::task::yield_now().await;
    world.core.open();
    let all = answers(crowd).await;
    assert!(all.iter().all(|answer| answer.status == 200));
    assert_eq!(world.core.count(), 2);
}

#[tokio::test]
async fn a_key_whose_fills_always_die_is_answered_and_not_stuck() {
    let world = World::new(manifest(), |_, _| panic!("on purpose"));
    assert_eq!(world.get().await.status, 502);
    assert_eq!(world.core.count(), 2);
    assert!(world.cache.shell.flights.is_empty());
}

#[tokio::test]
async fn an_uncacheable_answer_goes_to_all_who_wait_and_serialises_nobody() {
    let world = World::new(manifest(), |_, _| reply(200, &[("cache-control", "no-store")], "one"));
    world.core.close().await;
    let crowd = world.crowd(50);
    world.core.asked(1).await;
    tokio::task::yield_now().await;
    world.core.open();
    let all = answers(crowd).await;
    assert_eq!(outcomes(&all), BTreeMap::from([(Outcome::Bypass, 1), (Outcome::Coalesced, 49)]));
    assert_eq!(world.core.count(), 1);
}

#[tokio::test]
async fn a_failure_is_told_to_all_who_wait_and_the_core_is_left_alone() {
    let world = World::new(manifest(), |_, _| reply(503, &[("retry-after", "30")], "down"));
    world.core.close().await;
    let crowd = world.crowd(1_000);
    world.core.asked(1).await;
    tokio::task::yield_now().await;
    world.core.open();
    let all = answers(crowd).await;
    assert!(all.iter().all(|answer| answer.status == 503 && answer.outcome == Outcome::Failed));
    let patient =
        |answer: &Answer| matches!(answer.wait, Some(Wait::AtLeast(rest)) if (30..=38).contains(&rest.as_secs()));
    assert!(all.iter().all(patient));
    assert_eq!(world.core.count(), 1);
    world.pass(29);
    assert_eq!(cache_status(&world.get().await), "weir; detail=core_unavailable");
    assert_eq!(world.core.count(), 1);
    world.pass(9);
    world.core.now_does(|_, _| ok("one"));
    assert_eq!(world.get().await.outcome, Outcome::Miss);
}

#[tokio::test]
async fn those_over_the_bound_of_waiters_are_shed_or_calmed() {
    let limits = CacheLimits {
        max_bytes: ByteSize::mib(1),
        max_object_bytes: ByteSize::mib(1),
        max_waiters: 3,
        max_keys: 100,
        what_if_keys: 0,
    };
    for (calm, status, outcome) in [(None, 503, Outcome::Shed), (Some(calm()), 204, Outcome::Calm)] {
        let world = World::within(limits, weir_config::CacheRoute { calm, ..manifest() }, |_, _| ok("one"));
        world.core.close().await;
        let crowd = world.crowd(10);
        world.core.asked(1).await;
        tokio::task::yield_now().await;
        world.core.open();
        let all = answers(crowd).await;
        let turned_away: Vec<_> = all.iter().filter(|answer| answer.outcome == outcome).collect();
        assert_eq!(turned_away.len(), 7);
        assert!(turned_away.iter().all(|answer| answer.status == status));
    }
}

#[tokio::test]
async fn different_keys_fill_at_the_same_time() {
    let world = World::new(manifest(), |request, _| ok(&request.target));
    world.core.close().await;
    let (mac, win) = (Ask::get().query("os=mac"), Ask::get().query("os=win"));
    let both = futures::future::join(world.ask(&mac), world.ask(&win));
    let opened = async {
        world.core.asked(2).await;
        world.core.open();
    };
    let ((mac, win), ()) = futures::future::join(both, opened).await;
    assert_ne!(mac.body, win.body);
}

#[tokio::test(start_paused = true)]
async fn an_agent_waits_for_a_core_that_hangs_only_so_long_and_not_alone() {
    let world = World::new(manifest(), |_, _| ok("one"));
    world.core.close().await;
    let crowd = world.crowd(10);
    let all = answers(crowd).await;
    assert!(all.iter().all(|answer| answer.status == 504 && answer.outcome == Outcome::Failed));
    assert_eq!(world.core.count(), 1, "the fill goes on; nobody asks again");
    world.core.open();
    world.settle().await;
    assert_eq!(world.get().await.outcome, Outcome::Hit);
}

#[tokio::test(start_paused = true)]
async fn a_fill_that_never_ends_is_given_up() {
    let world = World::new(manifest(), |_, _| ok("one"));
    world.core.close().await;
    assert_eq!(world.get().await.status, 504);
    tokio::time::advance(std::time::Duration::from_secs(300)).await;
    world.settle().await;
    assert_eq!(world.fills("failed"), 1);
}

#[tokio::test]
async fn a_key_that_the_gate_turned_away_often_rests_no_longer_than_one_second() {
    let world = World::new(manifest(), |_, _| Err(OriginError::Resting(std::time::Duration::from_millis(100))));
    for times in 1..=10 {
        let _failed = world.get().await;
        assert_eq!(world.core.count(), times);
        world.pass(1);
    }
    world.core.now_does(|_, _| ok("one"));
    assert_eq!(world.get().await.outcome, Outcome::Miss);
}

#[tokio::test]
async fn errors_of_the_gate_are_told_by_what_they_are() {
    let table = [
        (OriginError::Resting(std::time::Duration::from_secs(9)), 503),
        (OriginError::Full, 503),
        (OriginError::Connect, 503),
        (OriginError::Timeout, 504),
        (OriginError::Broken, 502),
        (OriginError::TooLarge(1), 502),
    ];
    for (error, status) in table {
        let world = Arc::new(World::new(manifest(), move |_, _| Err(error)));
        let answer = world.get().await;
        assert_eq!((answer.status, answer.outcome), (status, Outcome::Failed), "{error}");
        assert!(answer.wait.is_some());
    }
}

/// Agents come, wait, leave and hit fills that die, on eight keys and four threads; no key ever has two fills at once, and
/// whoever stays gets an answer.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn no_key_ever_has_two_fills_at_once() {
    let ttl = weir_config::StatusTtl { ok: Duration::ZERO, ..manifest().ttl };
    let route = weir_config::CacheRoute { ttl, ..manifest() };
    let world =
        Arc::new(World::new(route, |_, number| if number % 23 == 0 { panic!("on purpose") } else { ok("one") }));
    let agents = (0..2_000).map(|agent| {
        let world = Arc::clone(&world);
        crate::task::spawn("agent", async move {
            let ask = Ask::get().query(&format!("os={}", agent % 8));
            if agent % 5 == 0 {
                let _left = futures::poll!(std::pin::pin!(world.ask(&ask)));
                return None;
            }
            let _earlier = world.ask(&ask).await;
            Some(world.ask(&ask).await)
        })
    });
    for agent in agents.collect::<Vec<_>>() {
        let answer = agent.await.unwrap().expect("no request panics");
        assert!(answer.is_none_or(|answer| [200, 502].contains(&answer.status)));
    }
    world.settle().await;
    assert_eq!(world.core.most_for_one_target(), 1);
    assert!(world.core.count() > 16, "several fills ran: {}", world.core.count());
    assert!(world.cache.shell.flights.is_empty());
}
