//! Configuration fetched by `POST`, and what of it goes over the wire.

use weir_config::{BodyEtag, BodyPointer, CacheRoute, KeyPart, Method, Unchanged};
use weir_logic::{Answer, Outcome};

use super::support::*;

const UNCHANGED: &str = "{\"unchanged\":true}";

/// Keyed by the policy in the body, which also names the tag that the agent holds.
fn policies() -> CacheRoute {
    let unchanged = Unchanged { status: 200, body: UNCHANGED.to_owned(), content_type: "application/json".to_owned() };
    let etag = BodyEtag { request: BodyPointer("/etag".to_owned()), answer: None, unchanged };
    CacheRoute { key: vec![KeyPart::Body("/policy".into())], etag: Some(etag), ..manifest() }
}

fn post(policy: usize, etag: &str) -> Ask {
    Ask { method: Method::Post, body: format!("{{\"policy\":{policy},\"etag\":\"{etag}\"}}"), ..Ask::get() }
}

/// A policy's tag as agents write it into a body: without the header's quotes.
fn tag(answer: &Answer) -> String {
    text(answer, "etag").trim_matches('"').to_owned()
}

#[tokio::test]
async fn an_agent_that_names_its_tag_in_the_body_is_told_that_nothing_has_changed() {
    let world = World::new(policies(), |_, number| {
        reply(200, &[("content-type", "application/json")], &format!("{{\"version\":{}}}", number.div_ceil(2)))
    });
    let first = world.ask(&post(1, "an old one")).await;
    assert_eq!((first.outcome, &first.body[..]), (Outcome::Miss, &b"{\"version\":1}"[..]));
    let held = tag(&first);
    let unchanged = world.ask(&post(1, &held)).await;
    assert_eq!((unchanged.status, unchanged.outcome, &unchanged.body[..]), (200, Outcome::Hit, UNCHANGED.as_bytes()));
    assert_eq!((text(&unchanged, "content-type"), tag(&unchanged)), ("application/json", held.clone()));
    world.pass(120);
    let refilled = world.ask(&post(1, &held)).await;
    assert_eq!((refilled.outcome, &refilled.body[..]), (Outcome::Miss, UNCHANGED.as_bytes()), "the same bytes again");
    world.pass(120);
    assert_eq!(world.ask(&post(1, &held)).await.body, "{\"version\":2}");
}

#[tokio::test]
async fn what_an_agent_holds_never_reaches_the_core() {
    let world = World::new(policies(), |_, _| reply(200, &[], "one"));
    for (seconds, held) in [(0, "v1"), (120, "v2"), (120, "")] {
        world.pass(seconds);
        let _answer = world.ask(&post(1, held)).await;
    }
    let bodies: Vec<_> = world.core.requests().into_iter().map(|request| request.body).collect();
    assert_eq!(bodies, [r#"{"policy":1,"etag":""}"#; 3]);
    let ambiguous = Ask { body: r#"{"policy":2,"etag":"a","Etag":"b"}"#.to_owned(), ..post(2, "") };
    assert_eq!(world.ask(&ambiguous).await.status, 400);
}

/// Bytes of an answer's body and headers, about as they go over the wire.
fn bytes(answer: &Answer) -> usize {
    let headers = answer.headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 4).sum::<usize>();
    answer.body.len() + headers
}

/// The proof that 304-style answers to config POSTs are worth it: a fleet that fetches its configuration by `POST`, half of it in each
/// dialect, all within one TTL.
#[tokio::test]
async fn a_hundred_thousand_agents_of_twenty_policies_cost_twenty_requests_and_few_bytes() {
    const AGENTS: usize = 100_000;
    const POLICIES: usize = 20;
    let world = World::new(policies(), |request, _| {
        let policy = String::from_utf8_lossy(&request.body).into_owned();
        reply(200, &[("content-type", "application/json")], &format!("[{policy}, \"{}\"]", "rule ".repeat(1_600)))
    });
    let mut held = Vec::new();
    for policy in 0..POLICIES {
        let answer = world.ask(&post(policy, "")).await;
        held.push((tag(&answer), bytes(&answer)));
    }
    world.pass(120);
    let (mut sent, mut whole) = (0, 0);
    for agent in 0..AGENTS {
        let policy = agent % POLICIES;
        let (etag, size) = &held[policy];
        let ask = if agent < AGENTS / 2 {
            post(policy, etag)
        } else {
            post(policy, "").with("if-none-match", &format!("\"{etag}\""))
        };
        let answer = world.ask(&ask).await;
        assert_eq!(answer.status, if agent < AGENTS / 2 { 200 } else { 304 });
        sent += bytes(&answer);
        whole += size;
    }
    assert_eq!(world.core.count(), 2 * POLICIES, "once for each policy and TTL");
    println!("{AGENTS} agents, {POLICIES} policies: {POLICIES} requests, {sent} bytes down instead of {whole}");
    assert!(sent * 20 < whole, "{sent} bytes instead of {whole}");
}
