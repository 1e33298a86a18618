//! What agents say.

use weir_config::{CacheRoute, FreshnessMode, Method};
use weir_logic::Outcome::{self, Bypass, Hit, Miss, Stale};

use super::super::support::{Ask, World, reply, text};
use super::{Clamp, Honor, Override, Row, route};

pub(super) const DIRECTIVES: [Row; 6] = [
    ("`max-age`, `min-fresh`", || Box::pin(max_age())),
    ("`max-stale`", || Box::pin(max_stale())),
    ("`no-cache`; `Pragma: no-cache` without `Cache-Control`", || Box::pin(no_cache())),
    ("`no-store`", || Box::pin(no_store())),
    ("`only-if-cached`", || Box::pin(only_if_cached())),
    ("`no-transform`", || Box::pin(no_transform())),
];

pub(super) const FIELDS: [Row; 5] = [
    ("`If-None-Match`, `If-Modified-Since`", || Box::pin(if_none_match())),
    ("`If-Match`, `If-Unmodified-Since`", || Box::pin(if_match())),
    ("`HEAD`", || Box::pin(head())),
    ("`Range`", || Box::pin(range())),
    ("`If-Range`", || Box::pin(if_range())),
];

/// A cache that obeys its agents, with an answer from so many seconds ago.
async fn obeying(freshness: FreshnessMode, control: &'static str, seconds: u64) -> World {
    let world = World::new(CacheRoute { obey_agents: true, ..route(freshness) }, move |_, number| {
        reply(200, &[("cache-control", control)], &number.to_string())
    });
    drop(world.get().await);
    world.pass(seconds);
    world
}

async fn asked(freshness: FreshnessMode, control: &'static str, seconds: u64, says: (&'static str, &str)) -> Outcome {
    let world = obeying(freshness, control, seconds).await;
    world.ask(&Ask::get().with(says.0, says.1)).await.outcome
}

const SAYS: &str = "cache-control";

async fn max_age() {
    assert_eq!(asked(Override, "", 20, (SAYS, "max-age=20")).await, Hit);
    assert_eq!(asked(Override, "", 20, (SAYS, "max-age=19")).await, Miss);
    assert_eq!(asked(Override, "", 20, (SAYS, "min-fresh=40")).await, Hit);
    assert_eq!(asked(Override, "", 20, (SAYS, "min-fresh=41")).await, Miss);
}

async fn max_stale() {
    assert_eq!(asked(Override, "", 100, (SAYS, "max-stale=40")).await, Stale);
    assert_eq!(asked(Override, "", 101, (SAYS, "max-stale=40")).await, Miss);
    assert_eq!(asked(Override, "", 1_000, (SAYS, "max-stale")).await, Miss, "the route's times");
    for mode in [Clamp, Honor] {
        assert_eq!(asked(mode, "max-age=60, must-revalidate", 100, (SAYS, "max-stale=50")).await, Miss);
    }
}

async fn no_cache() {
    for says in [(SAYS, "no-cache"), ("pragma", "no-cache")] {
        assert_eq!(asked(Override, "", 1, says).await, Miss);
    }
    let world = obeying(Override, "", 1).await;
    let both = Ask::get().with("pragma", "no-cache").with(SAYS, "max-stale=1");
    assert_eq!(world.ask(&both).await.outcome, Hit);
}

async fn no_store() {
    let world = obeying(Override, "", 1).await;
    assert_eq!(world.ask(&Ask::get().with(SAYS, "no-store")).await.outcome, Hit);
    let anew = world.ask(&Ask::get().with(SAYS, "no-store, no-cache")).await;
    assert_eq!((anew.outcome, &anew.body[..]), (Bypass, &b"2"[..]));
    assert_eq!(&world.get().await.body[..], b"1", "what is stored stays");
}

async fn only_if_cached() {
    let world = obeying(Override, "", 1).await;
    let says = Ask::get().with(SAYS, "only-if-cached");
    assert_eq!(world.ask(&says).await.outcome, Hit);
    assert_eq!(world.ask(&says.clone().query("os=other")).await.status, 504);
    world.pass(1_000);
    assert_eq!((world.ask(&says).await.status, world.core.count()), (504, 1));
}

async fn no_transform() {
    assert_eq!(asked(Override, "", 1, (SAYS, "no-transform")).await, Hit);
}

const MODIFIED: &str = "Tue, 14 Nov 2023 22:00:00 GMT";

/// A cache with an answer of ten bytes, an entity tag and a time; `weak` says which kind of tag.
async fn tagged(tag: &'static str) -> World {
    let world = World::new(route(Override), move |_, _| {
        reply(200, &[("etag", tag), ("last-modified", MODIFIED)], "0123456789")
    });
    drop(world.get().await);
    world
}

async fn status(world: &World, fields: &[(&'static str, &str)]) -> u16 {
    let ask = fields.iter().fold(Ask::get(), |ask, (name, value)| ask.with(name, value));
    world.ask(&ask).await.status
}

async fn if_none_match() {
    let world = tagged("W/\"v\"").await;
    assert_eq!(status(&world, &[("if-none-match", "\"x\", \"v\"")]).await, 304);
    assert_eq!(status(&world, &[("if-none-match", "\"x\"")]).await, 200);
    assert_eq!(status(&world, &[("if-modified-since", MODIFIED)]).await, 304);
    assert_eq!(status(&world, &[("if-modified-since", "Tue, 14 Nov 2023 21:00:00 GMT")]).await, 200);
    assert_eq!(world.core.count(), 1);
}

async fn if_match() {
    let world = tagged("\"v\"").await;
    assert_eq!(status(&world, &[("if-match", "\"x\"")]).await, 200);
    assert_eq!(status(&world, &[("if-unmodified-since", "Tue, 14 Nov 2000 21:00:00 GMT")]).await, 200);
}

async fn head() {
    let world = World::new(route(Override), |_, _| reply(200, &[], "one"));
    let ask = Ask { method: Method::Head, ..Ask::get() };
    assert_eq!(world.ask(&ask).await.outcome, Miss);
    assert_eq!((world.get().await.outcome, world.ask(&ask).await.outcome), (Hit, Hit));
    assert_eq!(world.core.requests()[0].method, http::Method::GET);
}

async fn range() {
    let world = tagged("\"v\"").await;
    let part = world.ask(&Ask::get().with("range", "bytes=2-4")).await;
    assert_eq!((part.status, &part.body[..], text(&part, "content-range")), (206, &b"234"[..], "bytes 2-4/10"));
    let beyond = world.ask(&Ask::get().with("range", "bytes=10-")).await;
    assert_eq!((beyond.status, text(&beyond, "content-range")), (416, "bytes */10"));
    for whole in ["bytes=0-1,3-4", "lines=1-2", "bytes=x"] {
        assert_eq!(status(&world, &[("range", whole)]).await, 200, "{whole}");
    }
    assert_eq!(world.core.count(), 1);
}

async fn if_range() {
    const RANGE: (&str, &str) = ("range", "bytes=0-1");
    let strong = tagged("\"v\"").await;
    assert_eq!(status(&strong, &[RANGE, ("if-range", "\"v\"")]).await, 206);
    assert_eq!(status(&strong, &[RANGE, ("if-range", "\"x\"")]).await, 200);
    assert_eq!(status(&strong, &[RANGE, ("if-range", MODIFIED)]).await, 206);
    assert_eq!(status(&strong, &[RANGE, ("if-range", "Tue, 14 Nov 2023 22:00:01 GMT")]).await, 200);
    let weak = tagged("W/\"v\"").await;
    assert_eq!(status(&weak, &[RANGE, ("if-range", "W/\"v\"")]).await, 200);
}
