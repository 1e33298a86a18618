//! Parts of stored answers.

use weir_config::Method;
use weir_logic::Outcome;

use super::support::{Ask, World, cache_status, manifest, reply, text};

fn world() -> World {
    World::new(manifest(), |_, _| {
        reply(200, &[("etag", "\"v1\""), ("content-type", "a/b"), ("accept-ranges", "none")], "0123456789")
    })
}

fn range(range: &str) -> Ask {
    Ask::get().with("range", range)
}

#[tokio::test]
async fn many_ranges_cost_the_core_one_request_for_the_whole() {
    let world = world();
    for (asked, expected, told) in
        [("bytes=2-4", "234", "bytes 2-4/10"), ("bytes=-1", "9", "bytes 9-9/10"), ("bytes=8-", "89", "bytes 8-9/10")]
    {
        let answer = world.ask(&range(asked)).await;
        assert_eq!((answer.status, &answer.body[..], text(&answer, "content-range")), (206, expected.as_bytes(), told));
        assert_eq!((text(&answer, "etag"), text(&answer, "content-type")), ("\"v1\"", "a/b"));
    }
    assert_eq!(world.core.count(), 1);
    assert!(world.core.requests()[0].headers.is_empty(), "the core is asked for the whole");
    let whole = world.get().await;
    assert_eq!((whole.status, whole.body.len(), text(&whole, "accept-ranges")), (200, 10, "bytes"));
    assert_eq!(text(&whole, "content-range"), "");
}

#[tokio::test]
async fn a_range_past_the_end_is_answered_416_with_the_length() {
    let world = world();
    let _filled = world.get().await;
    world.pass(5);
    let answer = world.ask(&range("bytes=10-")).await;
    assert_eq!((answer.status, answer.body.len(), answer.outcome), (416, 0, Outcome::Hit));
    assert_eq!(text(&answer, "content-range"), "bytes */10");
    assert_eq!(
        (text(&answer, "age"), cache_status(&answer), text(&answer, "content-type")),
        ("5", "weir; hit; ttl=55", "")
    );
}

#[tokio::test]
async fn conditions_come_before_ranges_and_if_range_must_name_the_answer() {
    let world = world();
    let status = async |name, value| world.ask(&range("bytes=0-0").with(name, value)).await.status;
    assert_eq!(status("if-none-match", "\"v1\"").await, 304);
    assert_eq!(status("if-none-match", "\"v0\"").await, 206);
    assert_eq!(status("if-range", "\"v1\"").await, 206);
    assert_eq!(status("if-range", "\"v0\"").await, 200);
    assert_eq!(status("if-range", "W/\"v1\"").await, 200);
}

#[tokio::test]
async fn heads_several_ranges_and_other_statuses_get_the_whole() {
    let world = World::new(manifest(), |request, _| {
        reply(if request.target.ends_with("gone") { 404 } else { 200 }, &[], "0123456789")
    });
    assert_eq!(world.ask(&Ask { method: Method::Head, ..range("bytes=0-0") }).await.status, 200);
    assert_eq!(world.ask(&range("bytes=0-0, 2-3")).await.status, 200);
    assert_eq!(world.ask(&range("bytes=0-0").query("os=gone")).await.status, 404);
}

#[tokio::test]
async fn a_stale_answer_is_given_in_parts_while_the_core_fails() {
    let world = world();
    let _filled = world.get().await;
    world.core.now_does(|_, _| reply(503, &[], "down"));
    world.pass(100);
    let answer = world.ask(&range("bytes=1-2")).await;
    assert_eq!((answer.status, &answer.body[..], answer.outcome), (206, &b"12"[..], Outcome::Stale));
}
