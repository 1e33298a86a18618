//! Several answers of one key, between which the core chooses by what agents say (`Vary`).

use weir_config::{CacheRoute, Method};
use weir_logic::cache::purge::{Mark, Severity, Target};
use weir_logic::{Answer, Outcome};

use super::support::{Ask, Reply, World, cache_status, manifest, reply, text};
use crate::purging::Keeper;
use crate::upstream::{OriginError, OriginRequest};

/// A shared route whose answers may depend on the language and the encoding.
fn negotiated() -> CacheRoute {
    CacheRoute { vary: vec!["accept-language".to_owned(), "accept-encoding".to_owned()], ..manifest() }
}

fn said<'a>(request: &'a OriginRequest, name: &str) -> &'a str {
    let value = request.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.to_str().unwrap());
    value.unwrap_or("-")
}

/// A core that answers in the language asked for.
fn in_language(request: &OriginRequest) -> Reply {
    reply(200, &[("vary", "Accept-Language")], said(request, "accept-language"))
}

fn asking(language: &str) -> Ask {
    Ask::get().with("accept-language", language)
}

fn body(answer: &Answer) -> String {
    String::from_utf8(answer.body.to_vec()).unwrap()
}

async fn got(world: &World, language: &str) -> (String, Outcome) {
    let answer = world.ask(&asking(language)).await;
    (body(&answer), answer.outcome)
}

#[tokio::test]
async fn each_language_is_fetched_once_and_given_to_who_asks_for_it() {
    let world = World::new(negotiated(), |request, _| in_language(request));
    for outcome in [Outcome::Miss, Outcome::Hit] {
        for language in ["de", "en", ""] {
            assert_eq!(got(&world, language).await, (language.to_owned(), outcome));
        }
        let unsaid = world.get().await;
        assert_eq!((body(&unsaid).as_str(), unsaid.outcome), ("-", outcome), "absent is not empty");
    }
    assert_eq!((world.core.count(), world.metrics.cache_entries.get()), (4, 4));
    assert_eq!(got(&world, " DE").await, ("de".to_owned(), Outcome::Hit), "another spelling of the same");
}

#[tokio::test]
async fn what_the_answer_does_not_vary_by_makes_no_difference() {
    let world = World::new(negotiated(), |request, _| in_language(request));
    let first = world.ask(&asking("de").with("accept-encoding", "br").with("accept", "a/b")).await;
    assert_eq!(first.outcome, Outcome::Miss);
    assert_eq!(world.ask(&asking("de").with("accept-encoding", "gzip")).await.outcome, Outcome::Hit);
    let sent = &world.core.requests()[0].headers;
    let sent: Vec<_> = sent.iter().map(|(name, value)| format!("{name}: {}", value.to_str().unwrap())).collect();
    assert_eq!(sent, ["accept-encoding: br", "accept-language: de"]);
}

#[tokio::test]
async fn the_newest_answer_says_which_headers_count() {
    let world = World::new(negotiated(), |request, number| match number {
        1 | 2 => in_language(request),
        3 => reply(200, &[("vary", "accept-encoding")], "by encoding"),
        _ => reply(200, &[], "for all"),
    });
    drop((got(&world, "de").await, got(&world, "en").await));
    assert_eq!(got(&world, "fr").await.0, "by encoding");
    assert_eq!(world.metrics.cache_entries.get(), 1, "what was chosen by other headers has left");
    assert_eq!(got(&world, "de").await, ("by encoding".to_owned(), Outcome::Hit));
    assert_eq!(body(&world.ask(&asking("de").with("accept-encoding", "br")).await), "for all");
    assert_eq!(got(&world, "en").await, ("for all".to_owned(), Outcome::Hit));
    assert_eq!(world.metrics.cache_entries.get(), 1);
}

#[tokio::test]
async fn over_the_bound_the_variant_leaves_that_was_not_asked_for_longest() {
    let world = World::new(CacheRoute { max_variants: 2, ..negotiated() }, |request, _| in_language(request));
    for language in ["de", "en", "de", "fr"] {
        drop(got(&world, language).await);
    }
    assert_eq!((world.metrics.cache_entries.get(), world.metrics.cache_evictions.get()), (2, 1));
    assert_eq!(got(&world, "de").await.1, Outcome::Hit);
    assert_eq!(got(&world, "fr").await.1, Outcome::Hit);
    assert_eq!(got(&world, "en").await.1, Outcome::Miss);
}

#[tokio::test]
async fn a_lower_bound_holds_from_the_next_answer_on() {
    let world = World::new(negotiated(), |request, _| in_language(request));
    for language in ["de", "en", "fr", "it"] {
        drop(got(&world, language).await);
    }
    let world = world.reloaded(CacheRoute { max_variants: 2, ..negotiated() });
    drop((got(&world, "de").await, got(&world, "es").await));
    assert_eq!((world.metrics.cache_entries.get(), world.metrics.cache_evictions.get()), (2, 3));
    assert_eq!((got(&world, "de").await.1, got(&world, "es").await.1), (Outcome::Hit, Outcome::Hit));
}

#[tokio::test]
async fn a_crowd_costs_one_request_for_each_language() {
    let world = World::new(negotiated(), |request, _| in_language(request));
    let answers = (0..100).map(|agent| {
        let (world, language) = (&world, ["de", "en"][agent % 2]);
        async move { assert_eq!(got(world, language).await.0, language) }
    });
    futures::future::join_all(answers).await;
    assert_eq!(world.core.count(), 2);
}

#[tokio::test]
async fn a_crowd_that_differs_in_what_is_known_not_to_matter_shares_one_fill() {
    let world = World::new(negotiated(), |request, _| in_language(request));
    drop(got(&world, "de").await);
    world.pass(1_000);
    let answers = (0..100).map(|agent| {
        let ask = asking("de").with("accept-encoding", ["br", "gzip", "zstd"][agent % 3]);
        let world = &world;
        async move { assert_eq!(body(&world.ask(&ask).await), "de") }
    });
    futures::future::join_all(answers).await;
    assert_eq!(world.core.count(), 2);
}

#[tokio::test]
async fn who_shared_a_fill_that_proved_to_be_for_others_asks_again() {
    let world = World::new(negotiated(), |request, number| {
        if number == 1 {
            return in_language(request);
        }
        reply(200, &[("vary", "accept-language, accept-encoding")], said(request, "accept-encoding"))
    });
    drop(got(&world, "de").await);
    world.pass(1_000);
    let answers = (0..100).map(|agent| {
        let encoding = ["br", "gzip"][agent % 2];
        let ask = asking("de").with("accept-encoding", encoding);
        let world = &world;
        async move { assert_eq!(body(&world.ask(&ask).await), encoding) }
    });
    futures::future::join_all(answers).await;
    assert_eq!(world.core.count(), 3, "one fill shared in vain by some, one for these");
}

#[tokio::test]
async fn each_variant_is_confirmed_by_its_own_validators() {
    let world = World::new(negotiated(), |request, number| match number {
        1 | 2 => {
            let language = said(request, "accept-language");
            reply(200, &[("vary", "accept-language"), ("etag", &format!("\"{language}\""))], language)
        }
        _ => reply(304, &[], ""),
    });
    drop((got(&world, "de").await, got(&world, "en").await));
    world.pass(1_000);
    assert_eq!(got(&world, "de").await, ("de".to_owned(), Outcome::Revalidated));
    let asked = &world.core.requests()[2];
    assert_eq!((said(asked, "if-none-match"), said(asked, "accept-language")), ("\"de\"", "de"));
    assert_eq!(got(&world, "de").await.1, Outcome::Hit);
    assert_eq!(world.metrics.cache_entries.get(), 2, "its Vary has stayed");
}

#[tokio::test]
async fn the_core_may_choose_a_stored_variant_for_another_request() {
    let world = World::new(negotiated(), |request, number| match number {
        1 | 2 => {
            let language = said(request, "accept-language");
            reply(200, &[("vary", "accept-language"), ("etag", &format!("\"{language}\""))], language)
        }
        _ => reply(304, &[("etag", "\"de\""), ("vary", "accept-language")], ""),
    });
    drop((got(&world, "de").await, got(&world, "en").await));
    assert_eq!(got(&world, "de-ch").await, ("de".to_owned(), Outcome::Revalidated));
    assert_eq!(said(&world.core.requests()[2], "if-none-match"), "\"de\", \"en\"");
    assert_eq!(got(&world, "de-ch").await, ("de".to_owned(), Outcome::Hit));
    assert_eq!(got(&world, "en").await, ("en".to_owned(), Outcome::Hit));
    assert_eq!(world.metrics.cache_entries.get(), 3);
}

#[tokio::test]
async fn a_confirmation_that_names_no_variant_is_not_believed() {
    for tag in [None, Some("\"fr\"")] {
        let world = World::new(negotiated(), move |request, number| match number {
            1 => reply(200, &[("vary", "accept-language"), ("etag", "\"de\"")], "de"),
            2 => reply(304, &tag.map(|tag| ("etag", tag)).into_iter().collect::<Vec<_>>(), ""),
            _ => in_language(request),
        });
        drop(got(&world, "de").await);
        assert_eq!(got(&world, "en").await, ("en".to_owned(), Outcome::Miss));
        assert_eq!(said(&world.core.requests()[2], "if-none-match"), "-");
    }
}

#[tokio::test]
async fn tags_that_may_be_those_of_several_bodies_are_not_offered_for_another_request() {
    for fields in [[("etag", "W/\"v\""), ("x", "1")], [("etag", "\"v\""), ("content-encoding", "br")]] {
        let world = World::new(negotiated(), move |request, _| {
            let fields = [&fields[..], &[("vary", "accept-language")]].concat();
            reply(200, &fields, said(request, "accept-language"))
        });
        drop((got(&world, "de").await, got(&world, "en").await));
        assert_eq!(said(&world.core.requests()[1], "if-none-match"), "-");
    }
}

#[tokio::test]
async fn a_purge_takes_all_variants() {
    let world = World::new(negotiated(), |request, _| in_language(request));
    drop((got(&world, "de").await, got(&world, "en").await));
    assert_eq!(world.cache.count(Some(Mark::route("r"))), 2);
    let path = Target::Prefix("/v1/manifest".to_owned());
    world.cache.shell.purging.purge(path, Severity::Hard, world.clock.now()).unwrap();
    assert_eq!(got(&world, "de").await.1, Outcome::Miss);
    assert_eq!(world.cache.sweep(), 1, "the other one");
    assert_eq!(got(&world, "en").await.1, Outcome::Miss);
}

#[tokio::test]
async fn while_the_core_fails_each_gets_the_variant_that_is_stored_for_it_and_no_other() {
    let world = World::new(negotiated(), |request, _| in_language(request));
    drop(got(&world, "de").await);
    world.pass(100);
    world.core.now_does(|_, _| Err(OriginError::Timeout));
    assert_eq!(got(&world, "de").await, ("de".to_owned(), Outcome::Stale));
    assert_eq!(world.ask(&asking("en")).await.status, 504);
    assert_eq!(got(&world, "de").await, ("de".to_owned(), Outcome::Stale));
}

#[tokio::test]
async fn an_answer_that_is_not_stored_puts_out_of_date_what_it_would_have_replaced() {
    let world = World::new(negotiated(), |request, number| match number {
        1 | 2 => in_language(request),
        3 => reply(200, &[("vary", "accept-language"), ("cache-control", "no-store")], "secret"),
        _ => reply(200, &[("vary", "*")], "for you alone"),
    });
    drop((got(&world, "de").await, got(&world, "en").await));
    world.pass(1_000);
    assert_eq!(got(&world, "de").await, ("secret".to_owned(), Outcome::Bypass));
    assert_eq!(world.metrics.cache_entries.get(), 1, "the other language stays");
    let alone = world.ask(&asking("de")).await;
    assert_eq!(
        (body(&alone).as_str(), cache_status(&alone)),
        ("for you alone", "weir; fwd=uri-miss; fwd-status=200; detail=vary")
    );
    assert_eq!(world.metrics.cache_entries.get(), 0, "what headers count is not known any more");
}

#[tokio::test]
async fn conditions_ranges_and_head_are_those_of_the_variant() {
    let world = World::new(negotiated(), |request, _| in_language(request));
    let tag = text(&world.ask(&asking("deutsch")).await, "etag").to_owned();
    drop(got(&world, "english").await);
    assert_eq!(world.ask(&asking("deutsch").with("if-none-match", &tag)).await.status, 304);
    assert_eq!(world.ask(&asking("english").with("if-none-match", &tag)).await.status, 200);
    let part = world.ask(&asking("english").with("range", "bytes=0-2")).await;
    assert_eq!((part.status, body(&part).as_str()), (206, "eng"));
    let head = world.ask(&Ask { method: Method::Head, ..asking("english") }).await;
    assert_eq!((head.outcome, text(&head, "vary")), (Outcome::Hit, "Accept-Language"));
    assert_eq!(world.core.count(), 2);
}

#[tokio::test]
async fn a_reload_that_takes_a_header_back_ends_the_variants_that_it_chose() {
    let world = World::new(negotiated(), |request, _| in_language(request));
    drop((got(&world, "de").await, got(&world, "en").await));
    let world = world.reloaded(manifest());
    assert_eq!(got(&world, "de").await, ("-".to_owned(), Outcome::Miss));
    assert_eq!(got(&world, "en").await, ("-".to_owned(), Outcome::Hit));
    assert_eq!(world.metrics.cache_entries.get(), 1);
}
