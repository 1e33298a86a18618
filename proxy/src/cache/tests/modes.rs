//! The core's directives where they count, and agents' where they do.

use std::time::Duration;

use weir_config::{CacheRoute, FreshnessMode};
use weir_logic::Outcome;

use super::support::{Ask, World, cache_status, manifest, reply, text};

fn honoring() -> CacheRoute {
    CacheRoute { freshness: FreshnessMode::Honor, ..manifest() }
}

fn obeying() -> CacheRoute {
    CacheRoute { obey_agents: true, ..manifest() }
}

fn saying(control: &'static str) -> Ask {
    Ask::get().with("cache-control", control)
}

#[tokio::test]
async fn the_core_decides_where_it_is_honored() {
    let world = World::new(honoring(), |_, _| reply(200, &[("cache-control", "max-age=500"), ("age", "100")], "one"));
    assert_eq!(cache_status(&world.get().await), "weir; fwd=uri-miss; fwd-status=200; stored; ttl=400");
    world.pass(399);
    let hit = world.get().await;
    assert_eq!((cache_status(&hit), text(&hit, "age")), ("weir; hit; ttl=1", "499"));
    world.pass(1);
    assert_eq!(cache_status(&world.get().await), "weir; fwd=stale; fwd-status=200; stored; ttl=400");
}

#[tokio::test]
async fn what_must_be_revalidated_is_never_served_stale_while_an_override_serves_it() {
    for (route, expected) in [(honoring(), 503), (manifest(), 200)] {
        let world = World::new(route, |_, number| match number {
            1 => reply(200, &[("cache-control", "max-age=60, must-revalidate")], "one"),
            _ => reply(503, &[], "down"),
        });
        let _filled = world.get().await;
        world.pass(61);
        let _asked = world.get().await;
        world.settle().await;
        assert_eq!(world.get().await.status, expected);
        assert_eq!(world.metrics.cache_entries.get(), 1, "an error takes nothing away");
    }
}

#[tokio::test]
async fn a_no_cache_answer_is_confirmed_each_time_by_one_request_for_all_who_wait() {
    let world = World::new(honoring(), |request, _| {
        let conditional = request.headers.iter().any(|(name, _)| name == "if-none-match");
        let fields = [("etag", "\"v1\""), ("cache-control", "no-cache")];
        if conditional { reply(304, &fields, "") } else { reply(200, &fields, "one") }
    });
    let _filled = world.get().await;
    world.core.close().await;
    let crowd = world.crowd(20);
    world.core.asked(2).await;
    world.core.open();
    for agent in crowd {
        let answer = agent.await.unwrap().unwrap();
        assert_eq!((answer.status, &answer.body[..]), (200, &b"one"[..]));
    }
    assert!(world.core.count() < 20, "{} requests", world.core.count());
    let before = world.core.count();
    let confirmed = world.get().await;
    assert_eq!((confirmed.outcome, world.core.count()), (Outcome::Revalidated, before + 1));
}

#[tokio::test]
async fn a_targeted_field_is_for_the_node_and_cache_control_for_agents() {
    let route = CacheRoute {
        freshness: FreshnessMode::Clamp,
        min_ttl: Duration::ZERO,
        max_ttl: Duration::from_secs(90),
        ..manifest()
    };
    let world = World::new(route, |_, _| {
        reply(200, &[("cache-control", "no-store"), ("cdn-cache-control", "max-age=600")], "one")
    });
    let miss = world.get().await;
    assert_eq!(cache_status(&miss), "weir; fwd=uri-miss; fwd-status=200; stored; ttl=90");
    assert_eq!(text(&miss, "cache-control"), "no-store");
}

#[tokio::test]
async fn a_reload_to_another_mode_reaches_what_is_kept() {
    let world = World::new(manifest(), |_, _| reply(200, &[("cache-control", "max-age=500")], "one"));
    assert_eq!(cache_status(&world.get().await), "weir; fwd=uri-miss; fwd-status=200; stored; ttl=60");
    let world = world.reloaded(honoring());
    assert_eq!(cache_status(&world.get().await), "weir; hit; ttl=500");
}

#[tokio::test]
async fn the_time_that_an_answer_took_is_part_of_its_age() {
    let world = World::new(honoring(), |_, _| reply(200, &[("cache-control", "max-age=500")], "one"));
    world.core.close().await;
    let mut waiting = world.crowd(1);
    world.core.asked(1).await;
    world.pass(7);
    world.core.open();
    let answer = waiting.remove(0).await.unwrap().unwrap();
    assert_eq!(
        (text(&answer, "age"), cache_status(&answer)),
        ("7", "weir; fwd=uri-miss; fwd-status=200; stored; ttl=493")
    );
}

#[tokio::test]
async fn agents_are_not_obeyed_by_default() {
    let world = World::new(manifest(), |_, _| reply(200, &[], "one"));
    let _filled = world.get().await;
    for control in ["no-cache", "no-store", "max-age=0", "min-fresh=1000"] {
        assert_eq!(world.ask(&saying(control)).await.outcome, Outcome::Hit, "{control}");
    }
    assert_eq!(world.ask(&Ask::get().query("os=mac").with("cache-control", "only-if-cached")).await.status, 200);
    assert_eq!(world.ask(&Ask::get().with("pragma", "no-cache")).await.outcome, Outcome::Hit);
}

#[tokio::test]
async fn an_agent_that_is_obeyed_reaches_the_core_when_what_is_stored_will_not_do() {
    let world = World::new(obeying(), |_, _| reply(200, &[], "one"));
    let _filled = world.get().await;
    world.pass(10);
    for (control, outcome) in [
        ("max-age=10", Outcome::Hit),
        ("min-fresh=50", Outcome::Hit),
        ("no-store", Outcome::Hit),
        ("only-if-cached", Outcome::Hit),
        ("max-age=9", Outcome::Miss),
    ] {
        assert_eq!(world.ask(&saying(control)).await.outcome, outcome, "{control}");
    }
    let forced = world.ask(&saying("no-cache")).await;
    assert_eq!(cache_status(&forced), "weir; fwd=request; fwd-status=200; stored; ttl=60");
    assert_eq!(world.ask(&Ask::get().with("pragma", "no-cache")).await.outcome, Outcome::Miss);
    assert_eq!(world.ask(&saying("min-fresh=61")).await.outcome, Outcome::Miss);
    assert_eq!(world.core.count(), 5);
}

#[tokio::test]
async fn an_agent_that_insists_gets_what_is_stored_while_the_core_fails() {
    let world = World::new(obeying(), |_, number| match number {
        1 => reply(200, &[], "one"),
        _ => reply(503, &[], "down"),
    });
    let _filled = world.get().await;
    world.pass(10);
    for status in
        ["weir; fwd=request; fwd-status=503; ttl=50; detail=core-failing", "weir; hit; ttl=50; detail=core-failing"]
    {
        let answer = world.ask(&saying("no-cache")).await;
        assert_eq!((answer.status, &answer.body[..], text(&answer, "age")), (200, &b"one"[..], "10"));
        assert_eq!((answer.outcome, answer.cause, cache_status(&answer)), (Outcome::Hit, None, status), "it is fresh");
    }
    assert_eq!(world.core.count(), 2, "the key rests after the failure");
}

#[tokio::test]
async fn what_may_be_stale_while_it_is_fetched_anew_does_not_stand_in_for_an_error() {
    let route = CacheRoute { stale_if_error: Duration::ZERO, ..obeying() };
    let world =
        World::new(route, |_, number| if number == 1 { reply(200, &[], "one") } else { reply(503, &[], "down") });
    let _filled = world.get().await;
    world.pass(70);
    assert_eq!(world.get().await.outcome, Outcome::Stale, "and fetched anew in vain");
    world.settle().await;
    assert_eq!(world.ask(&saying("no-cache")).await.status, 503);
    assert_eq!(world.get().await.outcome, Outcome::Stale);
}

#[tokio::test]
async fn only_if_cached_is_answered_504_without_asking() {
    let world = World::new(obeying(), |_, _| reply(200, &[], "one"));
    let answer = world.ask(&saying("only-if-cached")).await;
    assert_eq!((answer.status, answer.outcome), (504, Outcome::Refused));
    assert_eq!((cache_status(&answer), world.core.count()), ("weir; detail=not_stored", 0));
}

#[tokio::test]
async fn max_stale_takes_what_is_stale_within_the_routes_bounds() {
    let world = World::new(obeying(), |_, _| reply(200, &[], "one"));
    let _filled = world.get().await;
    world.pass(100);
    let stale = world.ask(&saying("max-stale=40, only-if-cached")).await;
    assert_eq!((stale.outcome, cache_status(&stale)), (Outcome::Stale, "weir; hit; ttl=-40"));
    assert_eq!(world.ask(&saying("max-stale=39, only-if-cached")).await.status, 504);
    assert_eq!(world.core.count(), 1);
    assert_eq!(world.ask(&saying("max-stale=39")).await.outcome, Outcome::Miss);
}

#[tokio::test]
async fn an_answer_to_no_store_is_passed_on_and_leaves_what_is_stored() {
    let world = World::new(obeying(), |_, number| reply(200, &[], if number == 1 { "one" } else { "two" }));
    let _filled = world.get().await;
    let answer = world.ask(&saying("no-store, no-cache")).await;
    assert_eq!((&answer.body[..], answer.outcome), (&b"two"[..], Outcome::Bypass));
    assert_eq!(cache_status(&answer), "weir; fwd=request; fwd-status=200; detail=agent-no-store");
    assert_eq!(&world.get().await.body[..], b"one");
}
