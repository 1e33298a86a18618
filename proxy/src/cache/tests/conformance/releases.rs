//! How a release reaches the agents.

use weir_config::CacheRoute;
use weir_logic::cache::purge::{Mark, Severity, Target};
use weir_logic::cache::rollout::Step;

use super::super::rollouts::{agent, begun, body, brings, given, have, paced, pacing, release};
use super::super::support::{Ask, World, cache_status, manifest, reply};
use super::Row;

pub(super) const RELEASES: [Row; 8] = [
    ("the core brings an answer 200 with another body", || Box::pin(another_body())),
    ("the core goes back to the previous body", || Box::pin(back())),
    ("the core brings a third body meanwhile", || Box::pin(a_third_body())),
    ("an answer with another status that is stored (404, 204)", || Box::pin(another_status())),
    ("an answer that may not be stored, or a purge of the key", || Box::pin(unstorable_or_purged())),
    ("`share` is lowered, `over` made longer, a pause", || Box::pin(slower())),
    ("the first answer that a node ever sees of a key", || Box::pin(the_first())),
    ("an agent without a name", || Box::pin(no_name())),
];

async fn another_body() {
    let world = begun().await;
    let mut before = given(&world).await;
    assert_eq!(have(&before, "one"), 200);
    for quarter in 1..=16 {
        world.pass(900);
        let now = given(&world).await;
        let expected = 200 * quarter / 16;
        assert!(have(&now, "two").abs_diff(expected) <= 36, "{} of {expected}", have(&now, "two"));
        assert!(before.iter().zip(&now).all(|(before, now)| before != "two" || now == "two"), "one fell back");
        before = now;
    }
    assert_eq!(have(&before, "two"), 200);
}

async fn back() {
    let world = begun().await;
    world.pass(7200);
    given(&world).await;
    assert!(have(&given(&world).await, "two") > 50);
    brings(&world, "one").await;
    let now = given(&world).await;
    assert_eq!(have(&now, "one"), 200);
    assert!(!cache_status(&world.ask(&agent(7)).await).contains("rollout"));
    assert_eq!(world.metrics.rollout_events.with_label_values(&["r", "withdrawn"]).get(), 1);
}

async fn a_third_body() {
    let world = begun().await;
    world.pass(7200);
    given(&world).await;
    brings(&world, "three").await;
    assert_eq!(have(&given(&world).await, "one"), 200, "who had the second is given what was settled until its turn");
    world.pass(4 * 3600);
    given(&world).await;
    assert_eq!(have(&given(&world).await, "three"), 200);
}

async fn another_status() {
    for status in [404, 204] {
        let world = begun().await;
        world.core.now_does(move |_, _| reply(status, &[], ""));
        world.pass(100);
        let _filled = world.get().await;
        assert_eq!(have(&given(&world).await, ""), 200, "{status}");
        world.pass(3600);
        brings(&world, "two").await;
        let two = have(&given(&world).await, "two");
        assert!((20..90).contains(&two), "{two} after somewhat more than an hour of four");
    }
}

async fn unstorable_or_purged() {
    let world = begun().await;
    world.core.now_does(|_, _| reply(200, &[("cache-control", "no-store")], "three"));
    world.pass(100);
    assert_eq!(have(&given(&world).await, "three"), 200);
    let world = begun().await;
    let purging = &world.cache.shell.purging;
    purging.purge(Target::Marked(Mark::route("r")), Severity::Hard, world.clock.now()).unwrap();
    assert_eq!(have(&given(&world).await, "two"), 200, "asked for anew, with nothing before it");
    assert!(world.metrics.rollout_events.with_label_values(&["r", "begun"]).get() == 1);
}

async fn slower() {
    let steps: [fn(&World) -> Option<CacheRoute>; 3] = [
        |_| {
            Some(CacheRoute {
                rollout: Some(weir_config::Pacing { share: weir_config::Ratio::new(0.1).unwrap(), ..pacing(4) }),
                ..manifest()
            })
        },
        |_| Some(CacheRoute { rollout: Some(pacing(400)), ..manifest() }),
        |world| {
            assert_eq!(world.cache.shell.rollouts.step("r", None, Step::Pause, world.clock.now()), 1);
            None
        },
    ];
    for step in steps {
        let world = begun().await;
        world.pass(7200);
        let before = given(&world).await;
        let world = match step(&world) {
            Some(route) => world.reloaded(route),
            None => world,
        };
        assert_eq!(given(&world).await, before);
        world.pass(3600);
        given(&world).await;
        let later = given(&world).await;
        assert!(before.iter().zip(&later).all(|(before, later)| before != "two" || later == "two"), "one fell back");
        assert!(have(&later, "two") <= have(&before, "two") + 5);
    }
}

async fn the_first() {
    let world = World::new(paced(), |_, _| release("one"));
    assert_eq!(have(&given(&world).await, "one"), 200);
    assert_eq!(world.metrics.rollout_events.with_label_values(&["r", "begun"]).get(), 0);
    assert!(!cache_status(&world.get().await).contains("rollout"));
}

async fn no_name() {
    let world = begun().await;
    let nobody = || Ask { agent: String::new(), ..Ask::get() };
    for (seconds, expected) in [(0, "one"), (4 * 3600 - 200, "one"), (300, "two")] {
        world.pass(seconds);
        let _stale = world.ask(&nobody()).await;
        world.settle().await;
        assert_eq!(body(&world.ask(&nobody()).await), expected);
    }
}
