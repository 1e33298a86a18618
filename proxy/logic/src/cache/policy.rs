//! What may be kept and for how long it serves.

use std::time::Duration;

use http::HeaderMap;
use http::header::{CONTENT_ENCODING, CONTENT_TYPE, SET_COOKIE, VARY};
use weir_config::{CacheRoute, KeyPart};

use super::directives;
use crate::Millis;

/// The policy of one cached route. It holds nothing of its own: a reload brings new TTLs to answers kept under the old ones.
#[derive(Clone, Copy, Debug)]
pub struct CachePolicy<'a> {
    route: &'a CacheRoute,
}

/// How a kept answer may be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Freshness {
    /// As it is, for that much longer.
    Fresh {
        /// The time left.
        left: Duration,
    },
    /// Past its TTL, but of use.
    Stale {
        /// The time since it was fresh.
        past: Duration,
        /// Whether it is served while it is fetched anew.
        while_revalidate: bool,
        /// Whether it is served while the core fails.
        if_error: bool,
    },
    /// Only good to ask the core whether it is still current.
    Expired {
        /// The time since it was fresh.
        past: Duration,
    },
}

/// What a core's answer to a fill means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Meaning {
    /// An answer to keep.
    Store,
    /// A good answer that may not be kept; what was kept before is out of date.
    PassOn(Unstorable),
    /// What is kept is current (304).
    Confirmed,
    /// The core finds fault with the request (a 4xx of no other meaning). Passed on when nothing usable is kept; never kept.
    Refused,
    /// The core finds fault with the node's credentials: 401, 403 or 407. The agent's own are never sent, so this says nothing
    /// about the agent; it is a failure and never shown as what it is.
    Denied,
    /// The core failed: 5xx, 408, 425, 429, or a status that makes no sense here.
    Failed,
}

/// Whether an answer's body is what its media type says, as far as that is cheap to tell: a 200 or 203 that calls itself JSON
/// must be one JSON value. A core behind a broken proxy or deployment answers 200 with the half of a page, and that is as much a
/// failure as a 500. Time: one pass over the body; no memory.
pub fn is_intact(status: u16, headers: &HeaderMap, body: &[u8]) -> bool {
    let encoded = headers.get(CONTENT_ENCODING).is_some_and(|encoding| encoding != "identity");
    if encoded || !matches!(status, 200 | 203) {
        return true;
    }
    let media_type = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let media_type = media_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    let json = media_type == "application/json" || media_type.ends_with("+json");
    !json || serde_json::from_slice::<serde::de::IgnoredAny>(body).is_ok()
}

/// Why a good answer may not be kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Unstorable {
    /// The operator gives its status no TTL.
    Status,
    /// `Cache-Control: no-store`.
    NoStore,
    /// `Cache-Control: private`, and the key does not name the agent.
    Private,
    /// `Vary: *`.
    Vary,
    /// It sets a cookie.
    SetCookie,
    /// It is larger than one stored answer may be.
    TooLarge,
}

impl Unstorable {
    /// The token in `Cache-Status`.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Status => "no-ttl",
            Self::NoStore => "no-store",
            Self::Private => "private",
            Self::Vary => "vary",
            Self::SetCookie => "set-cookie",
            Self::TooLarge => "too-large",
        }
    }
}

impl Freshness {
    /// Whole seconds for which the answer is still fresh, below zero when it is not: `ttl` of `Cache-Status`.
    pub fn ttl(&self) -> i64 {
        match self {
            Self::Fresh { left } => seconds(*left),
            Self::Stale { past, .. } | Self::Expired { past } => -seconds(*past),
        }
    }

    /// Whether the answer may be served while the core fails.
    pub fn serves_errors(&self) -> bool {
        matches!(self, Self::Fresh { .. } | Self::Stale { if_error: true, .. })
    }
}

fn seconds(duration: Duration) -> i64 {
    i64::try_from(duration.as_secs()).unwrap_or(i64::MAX)
}

impl<'a> CachePolicy<'a> {
    /// The policy of `route`.
    pub const fn of(route: &'a CacheRoute) -> Self {
        Self { route }
    }

    /// The time for which an answer of that status is fresh: its TTL less the part of the jitter that `draw` says, from 0 to 1.
    pub fn lifetime(&self, status: u16, draw: f64) -> Duration {
        let kept_part = 1.0 - self.route.jitter.value() * draw.clamp(0.0, 1.0);
        self.ttl(status).unwrap_or_default().mul_f64(kept_part)
    }

    /// How an answer of that status, kept since `stored`, may be used. `draw` is the one drawn when it was stored; it is stale
    /// since `outdated`, whatever its TTL.
    pub fn freshness(
        &self,
        status: u16,
        stored: Millis,
        draw: f64,
        outdated: Option<Millis>,
        now: Millis,
    ) -> Freshness {
        let resident = now.since(stored);
        let lifetime = self.lifetime(status, draw).min(outdated.map_or(Duration::MAX, |at| at.since(stored)));
        if resident < lifetime {
            return Freshness::Fresh { left: lifetime - resident };
        }
        let past = resident - lifetime;
        let while_revalidate = past < self.route.stale_while_revalidate;
        let if_error = past < self.route.stale_if_error;
        if while_revalidate || if_error {
            Freshness::Stale { past, while_revalidate, if_error }
        } else {
            Freshness::Expired { past }
        }
    }

    /// What an answer means. `conditional` says whether the fill named a validator, without which 304 makes no sense.
    pub fn meaning(&self, status: u16, headers: &HeaderMap, conditional: bool) -> Meaning {
        match status {
            304 if conditional => Meaning::Confirmed,
            401 | 403 | 407 => Meaning::Denied,
            404 | 410 => self.good(status, headers),
            206 | 304 | 408 | 416 | 425 | 429 => Meaning::Failed,
            200..=399 => self.good(status, headers),
            400..=499 => Meaning::Refused,
            _ => Meaning::Failed,
        }
    }

    /// Whether an answer with these headers may be kept; the reason when not.
    pub fn unstorable(&self, status: u16, headers: &HeaderMap) -> Option<Unstorable> {
        if self.ttl(status).is_none_or(|ttl| ttl.is_zero()) {
            return Some(Unstorable::Status);
        }
        if directives::has(headers, "no-store") {
            return Some(Unstorable::NoStore);
        }
        if directives::has(headers, "private") && !self.route.key.contains(&KeyPart::Agent) {
            return Some(Unstorable::Private);
        }
        if headers.contains_key(SET_COOKIE) {
            return Some(Unstorable::SetCookie);
        }
        let varies_on_all = headers.get_all(VARY).iter().any(|value| value.as_bytes().contains(&b'*'));
        varies_on_all.then_some(Unstorable::Vary)
    }

    fn good(&self, status: u16, headers: &HeaderMap) -> Meaning {
        self.unstorable(status, headers).map_or(Meaning::Store, Meaning::PassOn)
    }

    fn ttl(&self, status: u16) -> Option<Duration> {
        match status {
            200 | 203 | 204 => Some(self.route.ttl.ok),
            301 | 308 => Some(self.route.ttl.redirect),
            404 | 410 => Some(self.route.ttl.not_found),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use weir_config::{ByteSize, Ratio, StatusTtl};

    use super::*;

    fn route() -> CacheRoute {
        CacheRoute {
            key: vec![],
            shared: true,
            ttl: StatusTtl { ok: secs(60), redirect: Duration::ZERO, not_found: secs(5) },
            jitter: Ratio::new(0.1).unwrap(),
            stale_while_revalidate: secs(30),
            stale_if_error: secs(300),
            calm: None,
            max_body_bytes: ByteSize::kib(64),
        }
    }

    const fn secs(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn headers(list: &[(&'static str, &'static str)]) -> HeaderMap {
        list.iter().map(|(name, value)| (name.parse().unwrap(), http::HeaderValue::from_static(value))).collect()
    }

    #[test]
    fn an_answer_is_fresh_then_stale_in_two_ways_then_expired() {
        let route = route();
        let at = |seconds: u64| CachePolicy::of(&route).freshness(200, Millis(0), 0.0, None, Millis(seconds * 1000));
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
            CachePolicy::of(&route).freshness(200, Millis(0), 0.0, Some(Millis(20_000)), Millis(seconds * 1000))
        };
        assert_eq!(at(20), Freshness::Stale { past: secs(0), while_revalidate: true, if_error: true });
        assert_eq!(at(50), Freshness::Stale { past: secs(30), while_revalidate: false, if_error: true });
    }

    #[test]
    fn a_reload_changes_the_ttl_of_what_is_kept() {
        let mut route = route();
        route.ttl.ok = secs(10);
        let freshness = CachePolicy::of(&route).freshness(200, Millis(0), 0.0, None, Millis(20_000));
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
        let mut tenths = [0_u32; 10];
        for step in 0..10_000_u32 {
            let lifetime = policy.lifetime(200, (f64::from(step) + 0.5) / 10_000.0).as_secs_f64();
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
            let rank = |now| match CachePolicy::of(&route).freshness(200, Millis(0), draw, None, Millis(now)) {
                Freshness::Fresh { .. } => 0,
                Freshness::Stale { while_revalidate, if_error, .. } => 3 - u8::from(while_revalidate) - u8::from(if_error),
                Freshness::Expired { .. } => 4,
            };
            prop_assert!(rank(at) <= rank(at + later));
        }
    }
}
