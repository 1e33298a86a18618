//! Freshness, meaning and storing in each of the modes.

use proptest::prelude::*;
use weir_config::{ByteSize, FreshnessMode, Ratio, StatusTtl};

use super::*;

pub(super) fn route() -> CacheRoute {
    CacheRoute {
        vary: Vec::new(),
        max_variants: 8,
        key: vec![],
        shared: true,
        freshness: FreshnessMode::Override,
        ttl: StatusTtl { ok: secs(60), redirect: Duration::ZERO, not_found: secs(5) },
        min_ttl: secs(10),
        max_ttl: secs(100),
        jitter: Ratio::new(0.1).unwrap(),
        stale_while_revalidate: secs(30),
        stale_if_error: secs(300),
        calm: None,
        obey_agents: false,
        max_body_bytes: ByteSize::kib(64),
        etag: None,
        payload: None,
        rollout: None,
        store: weir_config::AnswerStore::Memory,
        max_bytes_per_second: ByteSize::default(),
    }
}

pub(super) const fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

pub(super) fn headers(list: &[(&'static str, &'static str)]) -> HeaderMap {
    list.iter().map(|(name, value)| (name.parse().unwrap(), http::HeaderValue::from_static(value))).collect()
}

/// An answer of that status that came at 0 with these headers.
pub(super) fn arrived(status: u16, list: &[(&'static str, &'static str)]) -> Arrival {
    Arrival { status, terms: Terms::of(&headers(list), Millis(0), Millis(0)), stored: Millis(0), draw: 0.0 }
}

pub(super) fn at(route: &CacheRoute, arrival: &Arrival, seconds: u64) -> Freshness {
    CachePolicy::of(route).freshness(arrival, None, Millis(seconds * 1000))
}

#[test]
fn an_answer_is_fresh_then_stale_in_two_ways_then_expired() {
    let route = route();
    let at = |seconds| at(&route, &arrived(200, &[]), seconds);
    assert_eq!(at(59), Freshness::Fresh { left: secs(1) });
    assert_eq!(at(60), Freshness::Stale { past: secs(0), while_revalidate: true, if_error: true });
    assert_eq!(at(90), Freshness::Stale { past: secs(30), while_revalidate: false, if_error: true });
    assert_eq!(at(360), Freshness::Expired { past: secs(300) });
    assert_eq!((at(59).ttl(), at(90).ttl()), (1, -30));
}

#[test]
fn a_purged_answer_is_stale_from_then_on() {
    let route = route();
    let at = |seconds: u64| {
        CachePolicy::of(&route).freshness(&arrived(200, &[]), Some(Millis(20_000)), Millis(seconds * 1000))
    };
    assert_eq!(at(20), Freshness::Stale { past: secs(0), while_revalidate: true, if_error: true });
    assert_eq!(at(50), Freshness::Stale { past: secs(30), while_revalidate: false, if_error: true });
}

#[test]
fn a_reload_changes_the_ttl_of_what_is_kept() {
    let mut route = route();
    route.ttl.ok = secs(10);
    let freshness = at(&route, &arrived(200, &[("cache-control", "max-age=99")]), 20);
    assert_eq!(freshness, Freshness::Stale { past: secs(10), while_revalidate: true, if_error: true });
}

#[test]
fn statuses_mean_what_the_table_says() {
    let route = route();
    let policy = CachePolicy::of(&route);
    let meaning = |status| policy.meaning(status, &HeaderMap::new(), false);
    let table = [
        (Meaning::Store, &[200, 203, 204, 404, 410][..]),
        (Meaning::PassOn(Unstorable::Status), &[201, 202, 300, 301, 302, 303, 307, 308]),
        (Meaning::Refused, &[400, 405, 406, 409, 411, 412, 413, 414, 415, 422, 451]),
        (Meaning::Denied, &[401, 403, 407]),
        (Meaning::Failed, &[100, 199, 206, 304, 408, 416, 425, 429, 500, 502, 503, 504, 599, 999]),
    ];
    for (expected, statuses) in table {
        for status in statuses {
            assert_eq!(meaning(*status), expected, "{status}");
        }
    }
    assert_eq!(policy.meaning(304, &HeaderMap::new(), true), Meaning::Confirmed);
}

#[test]
fn what_the_core_forbids_to_keep_is_not_kept() {
    let mut route = route();
    let of = |route: &CacheRoute, list| CachePolicy::of(route).unstorable(200, &headers(list));
    assert_eq!(of(&route, &[("cache-control", "no-store")]), Some(Unstorable::NoStore));
    assert_eq!(of(&route, &[("cache-control", "private")]), Some(Unstorable::Private));
    assert_eq!(of(&route, &[("set-cookie", "a=b")]), Some(Unstorable::SetCookie));
    assert_eq!(of(&route, &[("vary", "accept, *")]), Some(Unstorable::Vary));
    assert_eq!(of(&route, &[("cache-control", "max-age=0, no-cache"), ("vary", "accept")]), None);
    route.key = vec![KeyPart::Agent];
    assert_eq!(of(&route, &[("cache-control", "private")]), None);
}

#[test]
fn a_200_that_calls_itself_json_must_be_json() {
    let of = |media_type, body: &[u8]| is_intact(200, &headers(&[("content-type", media_type)]), body);
    assert!(of("application/json; charset=utf-8", b"{\"a\":[1]}") && of("application/problem+json", b"1"));
    for half in [&b"{\"a\":[1"[..], b"", b"<html>", b"{} {}", b"{\"a\": \x00\xff}"] {
        assert!(!of("Application/JSON", half), "{half:?}");
    }
    assert!(of("text/html", b"<html>"));
    assert!(is_intact(404, &headers(&[("content-type", "application/json")]), b"<html>"));
    let gzip = headers(&[("content-type", "application/json"), ("content-encoding", "gzip")]);
    assert!(is_intact(200, &gzip, b"\x1f\x8b"));
}

#[test]
fn ten_thousand_lifetimes_spread_over_the_whole_jitter() {
    let route = route();
    let policy = CachePolicy::of(&route);
    let arrival = arrived(200, &[]);
    let mut tenths = [0_u32; 10];
    for step in 0..10_000_u32 {
        let lifetime = policy.lifetime(&Arrival { draw: (f64::from(step) + 0.5) / 10_000.0, ..arrival }).as_secs_f64();
        assert!((54.0..=60.0).contains(&lifetime), "{lifetime}");
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "0 to 9")]
        let tenth = ((lifetime - 54.0) / 0.6) as usize;
        tenths[tenth.min(9)] += 1;
    }
    assert!(tenths.iter().all(|count| (900..=1100).contains(count)), "{tenths:?}");
}

proptest! {
    #[test]
    fn freshness_only_ever_declines(ok in 0_u64..100, swr in 0_u64..100, sie in 0_u64..100, draw in 0.0..=1.0_f64, at in 0_u64..400_000, later in 0_u64..100_000) {
        let route = CacheRoute {
            ttl: StatusTtl { ok: secs(ok), ..route().ttl },
            stale_while_revalidate: secs(swr),
            stale_if_error: secs(sie),
            ..route()
        };
        let arrival = Arrival { draw, ..arrived(200, &[]) };
        let rank = |now| match CachePolicy::of(&route).freshness(&arrival, None, Millis(now)) {
            Freshness::Fresh { .. } => 0,
            Freshness::Stale { while_revalidate, if_error, .. } => 3 - u8::from(while_revalidate) - u8::from(if_error),
            Freshness::Expired { .. } => 4,
        };
        prop_assert!(rank(at) <= rank(at + later));
    }
}
