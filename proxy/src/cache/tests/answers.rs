//! Fresh answers, conditions, revalidation, and what is not kept.

use http::header::ETAG;
use weir_config::{ByteSize, CacheLimits, KeyPart, Method};
use weir_logic::Outcome;

use super::support::{Ask, World, cache_status, manifest, ok, reply, text};

#[tokio::test]
async fn the_first_request_asks_and_the_next_is_a_hit_that_tells_its_age() {
    let world = World::new(manifest(), |_, _| ok("one"));
    let miss = world.get().await;
    assert_eq!((miss.status, &miss.body[..], miss.outcome), (200, &b"one"[..], Outcome::Miss));
    assert_eq!(cache_status(&miss), "weir; fwd=uri-miss; fwd-status=200; stored; ttl=60");
    assert_eq!(text(&miss, "age"), "");
    world.pass(7);
    let hit = world.get().await;
    assert_eq!((hit.status, &hit.body[..], hit.outcome), (200, &b"one"[..], Outcome::Hit));
    assert_eq!(
        (cache_status(&hit), text(&hit, "age"), text(&hit, "content-type")),
        ("weir; hit; ttl=53", "7", "text/plain")
    );
    assert_eq!((world.core.count(), world.metrics.cache_entries.get(), world.fills("stored")), (1, 1, 1));
}

#[tokio::test]
async fn the_age_on_arrival_counts() {
    let world = World::new(manifest(), |_, _| reply(200, &[("age", "100")], "one"));
    assert_eq!(text(&world.get().await, "age"), "100");
    world.pass(7);
    assert_eq!(text(&world.get().await, "age"), "107");
}

#[tokio::test]
async fn declared_parameters_tell_answers_apart_and_others_do_not() {
    let world = World::new(manifest(), |request, _| ok(&request.target));
    let of = async |query: &str| world.ask(&Ask::get().query(query)).await;
    assert_eq!(&of("os=win&x=1").await.body[..], b"/v1/manifest?os=win");
    assert_eq!(&of("os=mac").await.body[..], b"/v1/manifest?os=mac");
    assert_eq!(of("token=2&os=win").await.outcome, Outcome::Hit);
    assert_eq!(world.core.count(), 2);
}

#[tokio::test]
async fn head_is_answered_from_the_stored_get_and_fills_with_get() {
    let world = World::new(manifest(), |_, _| ok("one"));
    let head = world.ask(&Ask { method: Method::Head, ..Ask::get() }).await;
    assert_eq!((head.outcome, &head.body[..]), (Outcome::Miss, &b"one"[..]));
    assert_eq!(world.core.requests()[0].method, http::Method::GET);
    assert_eq!(world.get().await.outcome, Outcome::Hit);
}

#[tokio::test]
async fn an_agent_that_holds_the_answer_is_told_304_with_the_headers_that_matter() {
    let world = World::new(manifest(), |_, _| {
        reply(200, &[("etag", "\"v1\""), ("content-type", "text/plain"), ("cache-control", "max-age=9")], "one")
    });
    let first = world.ask(&Ask::get().with("if-none-match", "W/\"v1\"")).await;
    assert_eq!((first.status, first.outcome, first.body.len()), (304, Outcome::Miss, 0));
    for list in ["\"v1\"", "\"v0\", W/\"v1\"", "*"] {
        let answer = world.ask(&Ask::get().with("if-none-match", list)).await;
        assert_eq!((answer.status, answer.outcome), (304, Outcome::Hit), "{list}");
        assert_eq!((text(&answer, "etag"), text(&answer, "cache-control")), ("\"v1\"", "max-age=9"));
        assert_eq!(text(&answer, "content-type"), "");
    }
    assert_eq!(world.ask(&Ask::get().with("if-none-match", "\"v2\"")).await.status, 200);
}

#[tokio::test]
async fn if_modified_since_is_answered_304() {
    let date = "Wed, 21 Oct 2015 07:28:00 GMT";
    let world = World::new(manifest(), move |_, _| reply(200, &[("last-modified", date)], "one"));
    assert_eq!(world.ask(&Ask::get().with("if-modified-since", date)).await.status, 304);
}

#[tokio::test]
async fn a_condition_is_not_applied_to_a_kept_404() {
    let world = World::new(manifest(), |_, _| reply(404, &[("etag", "\"v1\"")], "none"));
    let answer = world.ask(&Ask::get().with("if-none-match", "*")).await;
    assert_eq!(answer.status, 404);
    assert_eq!(world.get().await.outcome, Outcome::Hit);
    world.pass(5);
    world.core.now_does(|_, _| ok("there"));
    let _asked = world.get().await;
    world.settle().await;
    assert_eq!(world.get().await.status, 200);
}

#[tokio::test]
async fn an_answer_without_a_tag_gets_one_from_its_bytes() {
    let world = World::new(manifest(), |_, _| reply(200, &[], "one"));
    let tag = world.get().await.header(&ETAG).unwrap().to_str().unwrap().to_owned();
    assert_eq!(world.ask(&Ask::get().with("if-none-match", &tag)).await.status, 304);
    world.pass(120);
    let _refilled = world.get().await;
    assert!(world.core.requests()[1].headers.is_empty(), "the core is not asked about a tag that it did not give");
}

#[tokio::test]
async fn a_post_is_keyed_by_its_pointers_and_answered_304_style() {
    let route = weir_config::CacheRoute { key: vec![KeyPart::Body("/policy".into())], ..manifest() };
    let world = World::new(route, |request, _| reply(200, &[], std::str::from_utf8(&request.body).unwrap()));
    let post = |body: &str| Ask { method: Method::Post, body: body.into(), ..Ask::get() };
    let first = world.ask(&post(r#"{"policy":1,"at":"now"}"#)).await;
    let second = world.ask(&post(r#"{"at":"later","policy":1}"#)).await;
    assert_eq!((first.outcome, second.outcome), (Outcome::Miss, Outcome::Hit));
    assert_eq!(first.body, second.body);
    assert_eq!(world.ask(&post(r#"{"policy":2}"#)).await.outcome, Outcome::Miss);
    let tag = text(&first, "etag").to_owned();
    assert_eq!(world.ask(&post(r#"{"policy":1}"#).with("if-none-match", &tag)).await.status, 304);
    assert_eq!(world.ask(&post(r#"{"policy":1,"policy":2}"#)).await.status, 400);
    assert_eq!(world.ask(&post(r#"{"policy":1}"#).with("content-encoding", "gzip")).await.status, 415);
    assert_eq!(world.core.count(), 2);
}

#[tokio::test]
async fn a_confirmation_makes_the_answer_fresh_and_merges_its_headers() {
    let world = World::new(manifest(), |request, _| {
        if request.headers.iter().any(|(name, value)| name == "if-none-match" && value == "\"v1\"") {
            return reply(304, &[("etag", "\"v1\""), ("x-new", "2"), ("content-type", "wrong/type")], "");
        }
        reply(200, &[("etag", "\"v1\""), ("content-type", "text/plain"), ("x-new", "1")], "one")
    });
    let _filled = world.get().await;
    world.pass(100);
    let answer = world.get().await;
    assert_eq!((answer.status, answer.outcome, &answer.body[..]), (200, Outcome::Revalidated, &b"one"[..]));
    assert_eq!(cache_status(&answer), "weir; fwd=stale; fwd-status=304; ttl=60");
    assert_eq!((text(&answer, "x-new"), text(&answer, "content-type"), text(&answer, "age")), ("2", "text/plain", "0"));
    world.pass(59);
    assert_eq!(world.get().await.outcome, Outcome::Hit);
    assert_eq!((world.core.count(), world.fills("confirmed")), (2, 1));
}

#[tokio::test]
async fn a_confirmation_of_another_answer_is_not_believed() {
    let world = World::new(manifest(), |_, number| match number {
        1 => ok("one"),
        2 => reply(304, &[("etag", "\"v2\"")], ""),
        _ => reply(200, &[("etag", "\"v2\"")], "two"),
    });
    let _filled = world.get().await;
    world.pass(100);
    assert_eq!(&world.get().await.body[..], b"two");
    assert_eq!(world.core.count(), 3);
}

#[tokio::test]
async fn what_may_not_be_kept_is_passed_on_without_cookies_and_ends_what_was_kept() {
    let world = World::new(manifest(), |_, _| ok("one"));
    let _filled = world.get().await;
    world.pass(100);
    world.core.now_does(|_, _| reply(200, &[("set-cookie", "session=1"), ("x", "1")], "two"));
    let answer = world.get().await;
    assert_eq!((&answer.body[..], answer.outcome), (&b"two"[..], Outcome::Bypass));
    assert_eq!((text(&answer, "set-cookie"), text(&answer, "x")), ("", "1"));
    assert_eq!(cache_status(&answer), "weir; fwd=stale; fwd-status=200; detail=set-cookie");
    assert_eq!(world.metrics.cache_entries.get(), 0);
    assert_eq!(cache_status(&world.get().await), "weir; fwd=uri-miss; fwd-status=200; detail=set-cookie");
}

#[tokio::test]
async fn an_answer_over_the_object_bound_is_passed_on_and_not_kept() {
    let limits = CacheLimits {
        max_bytes: ByteSize::mib(1),
        max_object_bytes: ByteSize::new(10),
        max_waiters: 10,
        max_keys: 10,
        what_if_keys: 0,
    };
    let world = World::within(limits, manifest(), |_, _| ok("eleven byte"));
    let answer = world.get().await;
    assert_eq!((answer.status, answer.outcome, answer.body.len()), (200, Outcome::Bypass, 11));
    assert_eq!(cache_status(&answer), "weir; fwd=uri-miss; fwd-status=200; detail=too-large");
    assert_eq!(world.metrics.cache_entries.get(), 0);
}

#[tokio::test]
async fn a_shorter_ttl_after_a_reload_reaches_what_is_kept() {
    let world = World::new(manifest(), |_, _| ok("one"));
    let _filled = world.get().await;
    world.pass(20);
    let mut shorter = manifest();
    shorter.ttl.ok = std::time::Duration::from_secs(10);
    let world = world.reloaded(shorter);
    assert_eq!(world.get().await.outcome, Outcome::Stale);
}

#[tokio::test]
async fn a_fault_that_the_core_finds_is_passed_on_and_never_kept() {
    let world = World::new(manifest(), |_, _| reply(400, &[], "bad os"));
    for _ in 0..2 {
        let answer = world.get().await;
        assert_eq!((answer.status, &answer.body[..], answer.outcome), (400, &b"bad os"[..], Outcome::Bypass));
    }
    assert_eq!(world.core.count(), 2);
}
