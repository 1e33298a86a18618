//! Answers that are taken out of use.

use weir_config::{CacheRoute, KeyPart};
use weir_logic::Outcome;
use weir_logic::cache::purge::{Mark, Severity, Target};

use super::support::{Ask, World, manifest, ok, reply, text};
use crate::purging::Keeper;

impl World {
    fn purge(&self, target: Target, severity: Severity) {
        self.cache.shell.purging.purge(target, severity, self.clock.now()).unwrap();
    }

    fn purge_tag(&self, tag: &str, severity: Severity) {
        self.purge(Target::Marked(Mark::tag(tag)), severity);
    }
}

fn tagged(body: &str) -> super::support::Reply {
    reply(200, &[("surrogate-key", "stable release-7"), ("etag", "\"v1\"")], body)
}

#[tokio::test]
async fn a_purged_answer_is_fetched_anew_and_its_tags_stay_here() {
    let world = World::new(manifest(), |_, number| tagged(&number.to_string()));
    let first = world.get().await;
    assert_eq!(text(&first, "surrogate-key"), "");
    world.purge_tag("another", Severity::Hard);
    assert_eq!(world.get().await.outcome, Outcome::Hit);
    world.purge_tag("release-7", Severity::Hard);
    let anew = world.get().await;
    assert_eq!((anew.outcome, &anew.body[..]), (Outcome::Miss, &b"2"[..]));
    assert!(world.core.requests()[1].headers.is_empty(), "what is gone is not confirmed");
    assert_eq!(world.get().await.outcome, Outcome::Hit);
}

#[tokio::test]
async fn a_softly_purged_answer_serves_while_it_is_fetched_anew() {
    let world = World::new(manifest(), |_, number| tagged(&number.to_string()));
    drop(world.get().await);
    world.purge(Target::Prefix("/v1/".to_owned()), Severity::Soft);
    assert_eq!(world.get().await.outcome, Outcome::Stale);
    world.settle().await;
    let anew = world.get().await;
    assert_eq!((anew.outcome, &anew.body[..]), (Outcome::Hit, &b"2"[..]));
}

#[tokio::test]
async fn an_answer_on_its_way_is_not_put_back_and_not_given_to_who_came_after() {
    let world = World::new(manifest(), |_, number| tagged(&number.to_string()));
    world.core.close().await;
    let early = world.crowd(1);
    world.core.asked(1).await;
    world.purge_tag("release-7", Severity::Hard);
    let late = world.crowd(3);
    world.core.open();
    for agent in early.into_iter().chain(late) {
        let answer = agent.await.unwrap().unwrap();
        assert_eq!(&answer.body[..], b"2");
    }
    assert_eq!((world.core.count(), &world.get().await.body[..]), (2, &b"2"[..]));
}

#[tokio::test]
async fn one_tenants_purge_leaves_the_others_alone() {
    let route = CacheRoute { shared: false, key: vec![KeyPart::Query("os".into())], ..manifest() };
    let world = World::new(route, |_, _| ok("one"));
    let of = |tenant: &str| Ask { tenant: tenant.to_owned(), ..Ask::get() };
    drop(world.ask(&of("t-1")).await);
    drop(world.ask(&of("t-2")).await);
    assert_eq!((world.cache.count(Some(Mark::tenant("t-1"))), world.cache.count(Some(Mark::route("r")))), (1, 2));
    world.purge(Target::Marked(Mark::tenant("t-1")), Severity::Hard);
    assert_eq!(world.cache.sweep(), 1);
    assert_eq!(world.ask(&of("t-2")).await.outcome, Outcome::Hit);
    assert_eq!(world.ask(&of("t-1")).await.outcome, Outcome::Miss);
}

#[tokio::test]
async fn a_confirmed_answer_keeps_its_tags_and_a_purge_before_the_confirmation_does_not_hit_it() {
    let world = World::new(manifest(), |_, number| if number == 1 { tagged("one") } else { reply(304, &[], "") });
    drop(world.get().await);
    world.purge_tag("stable", Severity::Soft);
    drop(world.get().await);
    world.settle().await;
    assert_eq!(world.get().await.outcome, Outcome::Hit);
    world.purge_tag("stable", Severity::Hard);
    assert_eq!(world.cache.sweep(), 1);
}
