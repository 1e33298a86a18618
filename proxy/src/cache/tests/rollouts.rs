//! Releases on their way: which agent is given which, and what ends that. What `CACHING.md` says of them row by row is held to in
//! `conformance/releases.rs`.

use std::path::Path;
use std::time::Duration;

use weir_config::{ByteSize, CacheRoute, Pacing, Ratio, RolloutLimits};
use weir_logic::cache::purge::{Mark, Severity, Target};
use weir_logic::cache::rollout::Step;
use weir_logic::{Answer, Outcome};

use super::support::{Ask, Reply, World, cache_status, manifest, reply, text};

/// Four hours from none to all, asked for anew each minute.
pub(super) fn paced() -> CacheRoute {
    CacheRoute { rollout: Some(pacing(4)), ..manifest() }
}

pub(super) fn pacing(hours: u64) -> Pacing {
    Pacing { over: Duration::from_secs(hours * 3600), share: Ratio::new(1.0).unwrap() }
}

pub(super) fn release(name: &str) -> Reply {
    reply(200, &[("content-type", "text/plain"), ("etag", &format!("\"{name}\""))], name)
}

pub(super) fn agent(number: usize) -> Ask {
    Ask { agent: format!("agent-{number}"), ..Ask::get() }
}

/// A world in which everybody has the release `one`, and `two` has just come.
pub(super) async fn begun() -> World {
    let world = World::new(paced(), |_, number| release(if number == 1 { "one" } else { "two" }));
    let _filled = world.get().await;
    brings(&world, "two").await;
    world
}

/// The core brings another release, and the node sees it.
pub(super) async fn brings(world: &World, name: &'static str) {
    world.core.now_does(move |_, _| release(name));
    world.pass(100);
    let _filled = world.get().await;
    world.settle().await;
}

/// What each of 200 agents is given now.
pub(super) async fn given(world: &World) -> Vec<String> {
    let mut given = Vec::new();
    for number in 0..200 {
        given.push(body(&world.ask(&agent(number)).await).to_owned());
    }
    world.settle().await;
    given
}

pub(super) fn body(answer: &Answer) -> &str {
    std::str::from_utf8(&answer.body).unwrap()
}

pub(super) fn have(given: &[String], name: &str) -> usize {
    given.iter().filter(|body| *body == name).count()
}

#[tokio::test]
async fn who_waits_for_its_turn_is_given_the_previous_answer_in_every_respect() {
    let world = begun().await;
    let last = world.ask(&agent(7)).await;
    assert_eq!((body(&last), text(&last, "etag"), last.outcome), ("one", "\"one\"", Outcome::Hit));
    assert_eq!(cache_status(&last), "weir; hit; ttl=60; detail=rollout-previous");
    assert_eq!(text(&last, "age"), "100", "it has not been confirmed since");
    assert_eq!(world.ask(&agent(7).with("if-none-match", "\"one\"")).await.status, 304);
    assert_eq!(world.ask(&agent(7).with("if-none-match", "\"two\"")).await.status, 200);
    let part = world.ask(&agent(7).with("range", "bytes=1-1")).await;
    assert_eq!((part.status, body(&part)), (206, "n"));
    let answers = &world.metrics.rollout_answers;
    assert_eq!(answers.with_label_values(&["r", "previous"]).get(), 5, "the one that began it included");
}

#[tokio::test]
async fn the_core_may_fail_while_a_release_is_on_its_way() {
    let world = begun().await;
    world.core.now_does(|_, _| reply(503, &[], "down"));
    world.pass(100);
    given(&world).await;
    let stale = world.ask(&agent(7)).await;
    assert_eq!((body(&stale), stale.outcome, stale.status), ("one", Outcome::Stale, 200));
    assert_eq!(cache_status(&stale), "weir; hit; ttl=-40; detail=rollout-previous");
}

#[tokio::test]
async fn the_operator_pauses_shares_finishes_and_aborts() {
    let world = begun().await;
    let step = |step| assert_eq!(world.cache.shell.rollouts.step("r", None, step, world.clock.now()), 1);
    world.pass(3600);
    step(Step::Pause);
    let paused = given(&world).await;
    world.pass(20 * 3600);
    given(&world).await;
    assert_eq!(given(&world).await, paused);
    step(Step::Abort);
    assert_eq!(have(&given(&world).await, "one"), 200);
    step(Step::Resume);
    step(Step::Share(Ratio::new(0.25).unwrap()));
    world.pass(20 * 3600);
    given(&world).await;
    assert!((25..75).contains(&have(&given(&world).await, "two")));
    step(Step::Finish);
    assert_eq!(have(&given(&world).await, "two"), 200);
    assert_eq!(world.cache.shell.rollouts.step("r", None, Step::Pause, world.clock.now()), 0, "nothing is on its way");
}

#[tokio::test]
async fn a_reload_to_another_pace_does_not_jump() {
    let world = begun().await;
    world.pass(3600);
    let before = given(&world).await;
    let world = world.reloaded(CacheRoute { rollout: Some(pacing(400)), ..manifest() });
    assert_eq!(given(&world).await, before);
    let world = world.reloaded(manifest());
    assert_eq!(have(&given(&world).await, "two"), 200, "without a pace everybody is given what there is");
}

#[tokio::test]
async fn the_fraction_is_shown_and_what_has_reached_everybody_is_settled() {
    let world = begun().await;
    let fraction = || world.metrics.rollout_fraction.with_label_values(&["r"]).get();
    let rollouts = &world.cache.shell.rollouts;
    world.pass(3600);
    rollouts.tend(world.clock.now());
    assert!((fraction() - 0.25).abs() < 0.01, "{}", fraction());
    world.pass(3 * 3600);
    rollouts.tend(world.clock.now());
    assert!((fraction() - 1.0).abs() < 1e-9);
    assert_eq!(world.metrics.rollout_events.with_label_values(&["r", "finished"]).get(), 1);
    brings(&world, "one").await;
    assert_eq!(have(&given(&world).await, "two"), 200, "what was there before is a release like any other now");
}

/// Looks after the rollouts as the node does, for so long.
fn tended(world: &World, minutes: u64) {
    for _ in 0..6 * minutes {
        world.pass(10);
        world.cache.shell.rollouts.tend(world.clock.now());
        if world.cache.shell.rollouts.is_unsaved() {
            world.cache.shell.rollouts.save();
        }
    }
}

#[tokio::test]
async fn a_restart_with_a_clock_set_back_takes_no_release_back() {
    let directory = tempfile::tempdir().unwrap();
    let world = World::new(paced(), |_, number| release(if number == 1 { "one" } else { "two" }));
    world.cache.open_rollouts(&LIMITS, directory.path());
    let _filled = world.get().await;
    brings(&world, "two").await;
    tended(&world, 120);
    let before = given(&world).await;
    assert!((70..130).contains(&have(&before, "two")));
    // A crash: nothing is saved. The clock then stands where it did when the node was first started.
    let again = World::new(paced(), |_, _| release("two"));
    again.cache.open_rollouts(&LIMITS, directory.path());
    let now = given(&again).await;
    assert!(before.iter().zip(&now).all(|(before, now)| before != "two" || now == "two"), "one fell back");
    assert!(have(&now, "two") <= have(&before, "two") + 10, "and nobody was hurried");
    tended(&again, 60);
    assert!(have(&given(&again).await, "two") > have(&before, "two") + 20, "it goes on at once");
}

/// The same node after a stop, or a crash, at the same time of day.
fn restarted(world: &World, directory: &Path, name: &'static str) -> World {
    let again = World::new(paced(), move |_, _| release(name));
    again.hand.advance(world.clock.elapsed());
    again.cache.open_rollouts(&LIMITS, directory);
    again
}

const LIMITS: RolloutLimits = RolloutLimits { max_keys: 10, max_bytes: ByteSize::mib(1) };

#[tokio::test]
async fn a_node_that_starts_goes_on_where_it_stood() {
    let directory = tempfile::tempdir().unwrap();
    let world = World::new(paced(), |_, number| release(if number == 1 { "one" } else { "two" }));
    world.cache.open_rollouts(&LIMITS, &directory.path().join("rollouts"));
    let _filled = world.get().await;
    brings(&world, "two").await;
    world.pass(3600);
    let before = given(&world).await;
    world.cache.shell.rollouts.save();
    let again = restarted(&world, &directory.path().join("rollouts"), "two");
    assert_eq!(given(&again).await, before);
    let last = again.ask(&agent(7)).await;
    assert_eq!(
        (text(&last, "etag"), text(&last, "content-type"), text(&last, "age")),
        ("\"one\"", "text/plain", "3700")
    );
    again.pass(3 * 3600);
    given(&again).await;
    assert_eq!(have(&given(&again).await, "two"), 200);
    again.cache.shell.rollouts.tend(again.clock.now());
    again.cache.shell.rollouts.save();
    let later = restarted(&again, &directory.path().join("rollouts"), "three");
    assert_eq!(
        have(&given(&later).await, "two"),
        200,
        "a release that came while the node was down begins when it is seen"
    );
}

#[tokio::test]
async fn a_purge_is_not_undone_by_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let world = begun().await;
    world.cache.open_rollouts(&LIMITS, directory.path());
    brings(&world, "three").await;
    world.cache.shell.rollouts.save();
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 1);
    world.cache.shell.purging.purge(Target::All, Severity::Hard, world.clock.now()).unwrap();
    crate::purging::Keeper::sweep(&*world.cache);
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
}

#[tokio::test]
async fn what_is_damaged_on_disk_is_put_aside_and_counted() {
    let directory = tempfile::tempdir().unwrap();
    let world = begun().await;
    world.cache.open_rollouts(&LIMITS, directory.path());
    brings(&world, "three").await;
    world.cache.shell.rollouts.save();
    let file = std::fs::read_dir(directory.path()).unwrap().next().unwrap().unwrap().path();
    let whole = std::fs::read(&file).unwrap();
    for (cut, byte) in
        [(0, 0), (10, 0), (whole.len() - 1, 0), (whole.len(), 3), (whole.len(), 80), (whole.len(), whole.len() - 1)]
    {
        let mut damaged = whole[..cut].to_vec();
        if let Some(byte) = damaged.get_mut(byte) {
            *byte ^= 1;
        }
        let place = tempfile::tempdir().unwrap();
        let file = place.path().join(file.file_name().unwrap());
        std::fs::write(&file, damaged).unwrap();
        let again = restarted(&world, place.path(), "three");
        assert_eq!(again.metrics.rollout_damage.get(), 1, "cut to {cut}, byte {byte}");
        assert!(!file.exists() && file.with_extension("damaged").exists());
        assert_eq!(body(&again.get().await), "three", "and the node serves");
    }
}

#[tokio::test]
async fn keys_are_bounded_and_those_with_nothing_on_its_way_leave_first() {
    let directory = tempfile::tempdir().unwrap();
    let world = World::new(paced(), |_, _| release("one"));
    world.cache.open_rollouts(&RolloutLimits { max_keys: 3, ..LIMITS }, directory.path());
    let ask = |number: usize| Ask { query: Some(format!("os=o{number}")), ..agent(7) };
    for number in 0..3 {
        let _filled = world.ask(&ask(number)).await;
    }
    world.core.now_does(|_, _| release("two"));
    world.pass(100);
    assert_eq!(body(&world.ask(&ask(0)).await), "one");
    for number in 5..9 {
        let _filled = world.ask(&ask(number)).await;
    }
    assert_eq!(body(&world.ask(&ask(0)).await), "one", "it is on its way and stays");
    world.core.now_does(|_, _| release("three"));
    world.pass(100);
    for number in 5..8 {
        assert_eq!(body(&world.ask(&ask(number)).await), "two", "{number}");
    }
    assert_eq!(world.metrics.rollout_events.with_label_values(&["r", "crowded_out"]).get(), 1);
}

#[tokio::test]
async fn each_of_several_answers_of_a_key_has_releases_of_its_own() {
    let directory = tempfile::tempdir().unwrap();
    let route = CacheRoute { vary: vec!["accept-language".into()], max_variants: 4, ..paced() };
    let said = |version: &'static str| {
        move |request: &crate::upstream::OriginRequest, _| {
            let language = request.headers.iter().find(|(name, _)| name == "accept-language");
            let language = language.map_or("none", |(_, value)| value.to_str().unwrap());
            reply(200, &[("vary", "accept-language")], &format!("{version} {language}"))
        }
    };
    let world = World::new(route, said("one"));
    world.cache.open_rollouts(&LIMITS, directory.path());
    let ask = |language| agent(7).with("accept-language", language);
    for language in ["de", "fr"] {
        assert_eq!(body(&world.ask(&ask(language)).await), format!("one {language}"));
    }
    world.core.now_does(said("two"));
    world.pass(100);
    for language in ["de", "fr"] {
        assert_eq!(body(&world.ask(&ask(language)).await), format!("one {language}"));
    }
    let request = Mark::key(&world.cache.shell.rollouts.keys()[0]);
    world.cache.shell.purging.purge(Target::Marked(request), Severity::Hard, world.clock.now()).unwrap();
    for language in ["de", "fr"] {
        assert_eq!(body(&world.ask(&ask(language)).await), format!("two {language}"), "a purge means all of them");
    }
}
