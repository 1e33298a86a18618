//! Two nodes, of which one answers plain requests by its own code and the other has pingora read everything, are sent the same bytes: they
//! must say the same, count the same, ask the core the same, and keep or end the same connections.

#![expect(clippy::unwrap_used, reason = "a test has no better use for an error")]

mod corpus;
mod side;
mod streams;
mod transcript;

use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::{Config, TestRunner};
use weir_core_sim::Behaviour;

use crate::corpus::{Conversation, conversations, generated, head, post};
use crate::side::Pair;

#[tokio::test]
async fn the_same_bytes_are_given_the_same_answers_by_both_ways() {
    let pair = Pair::start("").await;
    for conversation in conversations() {
        pair.assert_same(&conversation).await;
    }
    pair.assert_same_counts().await;
}

#[tokio::test]
async fn whatever_agents_send_in_whatever_order_is_answered_alike() {
    let pair = Pair::start("").await;
    let mut runner = TestRunner::new(Config { failure_persistence: None, ..Config::default() });
    for _ in 0..GENERATED {
        let conversation = generated().new_tree(&mut runner).unwrap().current();
        pair.assert_same(&conversation).await;
    }
    pair.assert_same_counts().await;
}

#[tokio::test]
async fn a_refusal_that_closes_does_so_on_both_ways() {
    let pair = Pair::start("refusals = \"close\"\n").await;
    for request in [head("GET", "/nowhere", ""), post("/v1/echo/own/a", "", b"x"), head("GET", "/v1/echo/own/a", "")] {
        pair.assert_same(&Conversation::of([request, head("GET", "/v1/echo/all/a", "")])).await;
    }
    pair.assert_same_counts().await;
}

#[tokio::test]
async fn a_core_that_fails_is_no_different_for_agents_of_either_way() {
    let pair = Pair::start("").await;
    pair.script(Behaviour::status(503));
    for target in ["/v1/echo/own/a", "/v1/echo/calm/a", "/v1/agents/a-1/tasks", "/v1/packages/p?bytes=100"] {
        pair.assert_same(&Conversation::of([head("GET", target, WHO), head("GET", "/v1/echo/own/a", WHO)])).await;
    }
    pair.assert_same_counts().await;
}

#[tokio::test]
async fn streams_of_http2_are_given_the_same_answers_by_both_ways() {
    let pair = Pair::start("").await;
    for asks in streams::conversations() {
        pair.assert_same_streams(&asks, WINDOW).await;
    }
    pair.assert_same_counts().await;
}

#[tokio::test]
async fn an_agent_whose_windows_are_narrow_is_given_the_same_and_one_that_opens_none_is_given_up_alike() {
    let pair = Pair::start("").await;
    for asks in streams::for_small_windows() {
        pair.assert_same_streams(&asks, 50).await;
    }
    let hit = streams::get("/v1/echo/all/a");
    pair.assert_same_streams(&[hit.clone(), hit.clone().whose_body_nobody_reads(), hit], 50).await;
    pair.assert_same_counts().await;
}

#[tokio::test]
async fn whatever_agents_send_over_http2_is_answered_alike() {
    let pair = Pair::start("").await;
    let mut runner = TestRunner::new(Config { failure_persistence: None, ..Config::default() });
    for _ in 0..GENERATED {
        let asks = streams::generated().new_tree(&mut runner).unwrap().current();
        pair.assert_same_streams(&asks, WINDOW).await;
    }
    pair.assert_same_counts().await;
}

#[tokio::test]
async fn a_core_that_fails_is_no_different_for_streams_of_either_way() {
    let pair = Pair::start("").await;
    pair.script(Behaviour::status(503));
    for target in ["/v1/echo/own/a", "/v1/echo/calm/a", "/v1/agents/a-1/tasks", "/v1/packages/p?bytes=100"] {
        pair.assert_same_streams(&[streams::get(target), streams::get("/v1/echo/own/a")], WINDOW).await;
    }
    pair.assert_same_counts().await;
}

#[tokio::test]
async fn the_second_way_is_taken_by_plain_requests_and_by_no_other() {
    let pair = Pair::start("").await;
    let own_code = "\r\nCache-Status: ";
    for (request, plain) in [
        (head("GET", "/v1/echo/all/a", ""), true),
        (head("GET", "/v1/echo/all/a", "Connection: x\r\n"), false),
        (head("PUT", "/v1/echo/all/a", ""), false),
    ] {
        let conversation = Conversation::of([request]);
        let (first, second) = pair.transcripts(&conversation).await;
        assert!(!first.contains(own_code), "{first}");
        assert_eq!(second.contains(own_code), plain, "{second}");
    }
}

/// An agent with a name.
const WHO: &str = "x-agent-id: a-1\r\nx-tenant-id: t-1\r\n";

/// Bytes of an answer that an agent of HTTP/2 takes before it says so.
const WINDOW: u32 = 65_535;

/// Conversations in one run.
const GENERATED: usize = 400;
