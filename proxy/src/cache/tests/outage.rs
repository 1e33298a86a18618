//! Stale answers: when they are served, and that errors never take them away.

use std::time::Duration;

use proptest::prelude::*;
use weir_config::CacheRoute;
use weir_logic::Outcome;
use weir_logic::answer::Wait;

use super::support::{Ask, Reply, World, cache_status, calm, manifest, ok, reply, text};
use crate::upstream::OriginError;

#[tokio::test]
async fn a_stale_answer_is_served_at_once_while_one_fill_runs_behind() {
    let world = World::new(manifest(), |_, number| ok(if number == 1 { "one" } else { "two" }));
    let _filled = world.get().await;
    world.pass(65);
    world.core.close().await;
    for _ in 0..10 {
        let stale = world.get().await;
        assert_eq!((&stale.body[..], stale.outcome), (&b"one"[..], Outcome::Stale));
        assert_eq!((cache_status(&stale), text(&stale, "age")), ("weir; hit; ttl=-5", "65"));
    }
    world.core.open();
    world.settle().await;
    assert_eq!(world.core.count(), 2);
    assert_eq!(&world.get().await.body[..], b"two");
}

#[tokio::test]
async fn past_its_window_a_stale_answer_is_fetched_anew_first() {
    let world = World::new(manifest(), |_, number| ok(if number == 1 { "one" } else { "two" }));
    let _filled = world.get().await;
    world.pass(90);
    let answer = world.get().await;
    assert_eq!((&answer.body[..], answer.outcome), (&b"two"[..], Outcome::Miss));
    assert_eq!(cache_status(&answer), "weir; fwd=stale; fwd-status=200; stored; ttl=60");
}

#[tokio::test]
async fn stale_answer_is_served_while_the_core_is_down() {
    let world = World::new(manifest(), |_, number| if number == 1 { ok("one") } else { reply(503, &[], "down") });
    let _filled = world.get().await;
    world.pass(100);
    let first = world.get().await;
    assert_eq!((first.status, &first.body[..], first.outcome), (200, &b"one"[..], Outcome::Stale));
    assert_eq!(cache_status(&first), "weir; fwd=stale; fwd-status=503; ttl=-40; detail=stale-if-error");
    assert_eq!(text(&first, "age"), "100");
    for _ in 0..100 {
        assert_eq!(cache_status(&world.get().await), "weir; hit; ttl=-40; detail=core-failing");
    }
    assert_eq!(world.core.count(), 2, "the key rests after the failure");
    world.pass(2);
    assert_eq!(world.get().await.outcome, Outcome::Stale);
    world.settle().await;
    assert_eq!(world.core.count(), 3, "asked again behind the agent's back once the rest is over");
    world.core.now_does(|_, _| ok("two"));
    world.pass(3);
    assert_eq!(world.get().await.outcome, Outcome::Stale);
    world.settle().await;
    assert_eq!((&world.get().await.body[..], world.get().await.outcome), (&b"two"[..], Outcome::Hit));
}

#[tokio::test]
async fn nothing_that_goes_wrong_displaces_a_stored_answer_or_reaches_an_agent() {
    let world = World::new(manifest(), |_, _| ok("one"));
    let _filled = world.get().await;
    let wrongs: [fn() -> Reply; 17] = [
        || reply(200, &[("content-type", "application/json")], "{\"half\": "),
        || reply(500, &[], "oops"),
        || reply(502, &[], ""),
        || reply(503, &[("retry-after", "1")], ""),
        || reply(429, &[], ""),
        || reply(401, &[], "who?"),
        || reply(403, &[], "no"),
        || reply(407, &[], ""),
        || reply(408, &[], ""),
        || reply(400, &[], "what?"),
        || reply(206, &[], "half"),
        || reply(304, &[("etag", "\"other\"")], ""),
        || reply(599, &[], ""),
        || Err(OriginError::Timeout),
        || Err(OriginError::Broken),
        || Err(OriginError::TooLarge(9)),
        || Err(OriginError::Resting(Duration::from_millis(10))),
    ];
    world.pass(91);
    for wrong in wrongs {
        world.core.now_does(move |_, _| wrong());
        let before = world.core.count();
        let answer = world.get().await;
        world.settle().await;
        assert!(world.core.count() > before, "the core was asked");
        assert_eq!(
            (answer.status, &answer.body[..], answer.outcome),
            (200, &b"one"[..], Outcome::Stale),
            "{:?}",
            wrong()
        );
        assert_eq!(world.metrics.cache_entries.get(), 1);
        world.pass(17);
        if world.clock.now().0 > 1_700_000_300_000 {
            world.core.now_does(|_, _| ok("one"));
            let _asked = world.get().await;
            world.settle().await;
            world.pass(91);
        }
    }
}

#[tokio::test]
async fn a_refused_login_of_the_node_is_never_shown_to_the_agent() {
    for status in [401, 403, 407] {
        let world = World::new(manifest(), move |_, _| reply(status, &[], "no"));
        let answer = world.get().await;
        assert_eq!((answer.status, answer.outcome), (502, Outcome::Failed));
        assert_eq!(world.fills("denied"), 1);
    }
}

#[tokio::test]
async fn past_every_window_the_failure_is_told() {
    let world = World::new(manifest(), |_, number| if number == 1 { ok("one") } else { reply(500, &[], "down") });
    let _filled = world.get().await;
    world.pass(60 + 300);
    let answer = world.get().await;
    assert_eq!((answer.status, answer.outcome), (503, Outcome::Failed));
    assert_eq!(cache_status(&answer), "weir; fwd=stale; fwd-status=500; detail=core_unavailable");
}

#[tokio::test]
async fn where_nothing_is_stored_the_calm_answer_is_given() {
    let world = World::new(CacheRoute { calm: Some(calm()), ..manifest() }, |_, _| Err(OriginError::Connect));
    for (fwd, asked) in [("; fwd=uri-miss", 1), ("", 1)] {
        let answer = world.get().await;
        assert_eq!((answer.status, answer.outcome), (204, Outcome::Calm));
        assert_eq!(cache_status(&answer), format!("weir{fwd}; detail=calm"));
        assert_eq!(answer.wait, Some(Wait::Calm(Duration::from_secs(60))));
        assert_eq!(world.core.count(), asked);
    }
}

#[tokio::test(start_paused = true)]
async fn a_core_that_hangs_counts_as_failing_for_those_who_hold_something_stale() {
    let world = World::new(manifest(), |_, _| ok("one"));
    let _filled = world.get().await;
    world.pass(100);
    world.core.close().await;
    let answer = world.get().await;
    assert_eq!((answer.status, answer.outcome), (200, Outcome::Stale));
    assert_eq!(cache_status(&answer), "weir; fwd=stale; ttl=-40; detail=stale-if-error");
    let next = tokio::time::timeout(Duration::from_millis(1), world.get()).await;
    assert_eq!(next.expect("the next does not wait").outcome, Outcome::Stale);
    assert_eq!(world.core.count(), 2);
}

#[tokio::test]
async fn revalidation_behind_the_agents_back_keeps_the_body() {
    let world = World::new(manifest(), |_, number| if number == 1 { ok("one") } else { reply(304, &[], "") });
    let _filled = world.get().await;
    world.pass(61);
    assert_eq!(world.get().await.outcome, Outcome::Stale);
    world.settle().await;
    let hit = world.ask(&Ask::get()).await;
    assert_eq!((hit.outcome, &hit.body[..], text(&hit, "age")), (Outcome::Hit, &b"one"[..], "0"));
}

/// What the core does in one step of an outage.
#[derive(Clone, Copy, Debug)]
enum Weather {
    Good,
    Unchanged,
    Status(u16),
    Lost(OriginError),
}

fn weather() -> impl Strategy<Value = Weather> {
    let errors = [OriginError::Timeout, OriginError::Broken, OriginError::Connect, OriginError::Full];
    prop_oneof![
        Just(Weather::Good),
        Just(Weather::Unchanged),
        prop::sample::select(vec![500, 502, 503, 429, 401, 403, 400, 206, 408]).prop_map(Weather::Status),
        prop::sample::select(errors.to_vec()).prop_map(Weather::Lost),
    ]
}

impl Weather {
    fn answer(self, conditional: bool, body: &str) -> Reply {
        match self {
            Self::Good => reply(200, &[("etag", &format!("\"{body}\""))], body),
            Self::Unchanged if conditional => reply(304, &[], ""),
            Self::Unchanged => reply(304, &[], "without being asked"),
            Self::Status(status) => reply(status, &[], "trouble"),
            Self::Lost(error) => Err(error),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// However the core behaves, an agent gets 200 with a body that the core once gave, of the age that the answer says, unless
    /// nothing was ever stored or all stale windows have passed; and it never gets more than one version back.
    #[test]
    fn any_weather_is_survived(steps in prop::collection::vec((weather(), 0_u64..200), 1..60)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(async {
            let world = World::new(manifest(), |_, _| Err(OriginError::Connect));
            // Seconds at which the core last gave or confirmed the version that is stored.
            let (mut now, mut confirmed, mut version) = (0, None, 0_u64);
            for (weather, seconds) in steps {
                let (asked, next) = (world.core.count(), version + 1);
                world.core.now_does(move |request, _| {
                    weather.answer(request.headers.iter().any(|(name, _)| name == "if-none-match"), &next.to_string())
                });
                let answer = world.get().await;
                let served: Option<u64> = std::str::from_utf8(&answer.body).ok().and_then(|body| body.parse().ok());
                match confirmed {
                    Some(at) if now - at < 360 => {
                        assert_eq!(answer.status, 200, "{weather:?} after {} s", now - at);
                        let age: u64 = text(&answer, "age").parse().unwrap_or(0);
                        assert!(served == Some(version) && age == now - at || served == Some(next) || age == 0);
                    }
                    _ => assert!(served == Some(next) || served.is_none() || served == Some(version)),
                }
                world.settle().await;
                let reached = world.core.count() > asked;
                match weather {
                    Weather::Good if reached => (confirmed, version) = (Some(now), next),
                    Weather::Unchanged if reached && confirmed.is_some() => confirmed = Some(now),
                    _ => {}
                }
                world.pass(seconds);
                now += seconds;
            }
        });
    }
}
