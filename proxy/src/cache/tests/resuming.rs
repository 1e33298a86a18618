//! Transfers of answers on disk that break off: what is gone on with, and what is not. And the tag of a body without one.

use http::header::{ETAG, HeaderValue};
use weir_logic::Outcome;

use super::packages::{Depot, next, read};
use super::support::Ask;
use crate::answer::Cut;
use crate::upstream::OriginError;

const TAG: (&str, &str) = ("etag", "\"v1\"");
const LENGTH: (&str, &str) = ("content-length", "10");

/// A fill that has brought the first half of `0123456789` and breaks off then.
async fn broken(depot: &Depot, headers: &[(&'static str, &str)]) -> crate::answer::Answer {
    let core = depot.core.prepare(200, headers);
    core.send(Ok("01234".into())).await.unwrap();
    let mut reader = depot.get().await;
    assert_eq!(next(&mut reader).await.unwrap(), "01234");
    core.send(Err(OriginError::Broken)).await.unwrap();
    reader
}

#[tokio::test(start_paused = true)]
async fn a_transfer_that_breaks_is_gone_on_with_and_its_readers_notice_a_pause() {
    for headers in [&[TAG, LENGTH][..], &[TAG]] {
        let depot = Depot::new();
        for (piece, range) in [("56", "bytes 5-9/10"), ("789", "bytes 7-9/10")] {
            let rest = depot.core.prepare(206, &[TAG, ("content-range", range)]);
            rest.send(Ok(piece.into())).await.unwrap();
            if piece == "56" {
                rest.send(Err(OriginError::Timeout)).await.unwrap();
            }
        }
        // Prepared behind the two rests, asked for before them.
        depot.core.put_next_first();
        let reader = broken(&depot, headers).await;
        assert_eq!(read(reader).await.unwrap(), "56789");
        depot.quiet().await;
        let hit = depot.ask(&Ask::get().with("range", "bytes=4-7")).await;
        assert_eq!((hit.outcome, read(hit).await.unwrap().as_str()), (Outcome::Hit, "4567"));
        let asked = depot.core.asked.borrow().clone();
        let said = |at: usize, name: &str| {
            let field = asked[at].headers.iter().find(|(known, _)| known == name);
            field.map(|(_, value)| value.to_str().unwrap().to_owned()).unwrap_or_default()
        };
        assert_eq!([said(1, "range"), said(2, "range")], ["bytes=5-", "bytes=7-"]);
        assert_eq!([said(0, "if-range"), said(1, "if-range")], ["", "\"v1\""]);
        assert_eq!(asked.len(), 3);
        assert_eq!(depot.metrics.package_resumes.with_label_values(&["r", "resumed"]).get(), 2);
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_not_the_rest_of_the_same_body_is_not_joined_to_it() {
    for (status, tag, range) in [(206, "\"v2\"", "bytes 5-9/10"), (206, "\"v1\"", "bytes 4-9/10"), (200, "\"v2\"", "")]
    {
        let depot = Depot::new();
        let other = depot.core.prepare(status, &[("etag", tag), ("content-range", range)]);
        other.send(Ok("abcde".into())).await.unwrap();
        drop(other);
        depot.core.put_next_first();
        let reader = broken(&depot, &[TAG, LENGTH]).await;
        assert_eq!(read(reader).await, Err(Cut));
        depot.quiet().await;
        assert_eq!((depot.core.count(), depot.metrics.packages.get()), (2, 0));
        depot.has_files(0).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_core_that_is_gone_is_asked_for_the_rest_a_few_times_and_no_more() {
    let depot = Depot::new();
    let reader = broken(&depot, &[TAG, LENGTH]).await;
    assert_eq!(read(reader).await, Err(Cut));
    depot.quiet().await;
    assert_eq!(depot.core.count(), 6);
}

#[tokio::test(start_paused = true)]
async fn without_a_strong_validator_a_transfer_that_breaks_is_over() {
    for headers in [&[LENGTH, ("etag", "W/\"v1\"")][..], &[LENGTH]] {
        let depot = Depot::new();
        let reader = broken(&depot, headers).await;
        assert_eq!(read(reader).await, Err(Cut));
        depot.quiet().await;
        assert_eq!(depot.core.count(), 1);
    }
}

#[tokio::test]
async fn a_body_without_a_tag_has_one_from_its_hash_when_it_is_whole() {
    let depot = Depot::new();
    let core = depot.core.prepare(200, &[("content-length", "10")]);
    core.send(Ok("01234".into())).await.unwrap();
    let first = depot.get().await;
    assert_eq!(first.header(&ETAG), None, "its hash is not known yet");
    core.send(Ok("56789".into())).await.unwrap();
    drop(core);
    assert_eq!(read(first).await.unwrap(), "0123456789");
    depot.quiet().await;
    // The first half of its SHA-256.
    let tag = HeaderValue::from_static("\"x84d89877f0d4041efb6bf91a16f0248f\"");
    assert_eq!(depot.get().await.header(&ETAG), Some(&tag));
    let depot = depot.restarted().await;
    drop(depot.core.prepare(503, &[]));
    let resumed = depot.ask(&Ask::get().with("range", "bytes=8-").with("if-range", tag.to_str().unwrap())).await;
    assert_eq!((resumed.status, resumed.header(&ETAG)), (206, Some(&tag)));
    assert_eq!(read(resumed).await.unwrap(), "89");
    depot.quiet().await;
    let asked = depot.core.asked.borrow()[1].headers.clone();
    assert!(asked.iter().all(|(name, _)| name != "if-none-match"), "the core knows nothing of it: {asked:?}");
    let known = depot.ask(&Ask::get().with("if-none-match", tag.to_str().unwrap())).await;
    assert_eq!(known.status, 304);
}
