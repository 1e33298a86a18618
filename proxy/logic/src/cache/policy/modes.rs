//! What each directive means in each mode: the table of `proxy/CACHING.md`, and a naive model of RFC 9111 beside the policy.

use proptest::prelude::*;

use super::tests::{arrived, at, headers, route, secs};
use super::*;

fn mode(freshness: FreshnessMode) -> CacheRoute {
    CacheRoute { freshness, jitter: weir_config::Ratio::default(), ..route() }
}

/// Whole seconds for which an answer with that `Cache-Control` is fresh, then served while it is fetched anew, then served while
/// the core fails, all from its arrival on: under override, clamp (10 s to 100 s) and honor. The route says 60, 30 and 300.
const TABLE: [(&str, [[u64; 3]; 3]); 20] = [
    ("", [[60, 90, 360], [60, 90, 360], [60, 60, 360]]),
    ("max-age=50", [[60, 90, 360], [50, 80, 350], [50, 50, 350]]),
    ("max-age=5", [[60, 90, 360], [10, 40, 310], [5, 5, 305]]),
    ("max-age=500", [[60, 90, 360], [100, 130, 400], [500, 500, 800]]),
    ("max-age=x", [[60, 90, 360], [10, 40, 310], [0, 0, 300]]),
    ("max-age=50, s-maxage=40", [[60, 90, 360], [40, 70, 340], [40, 40, 40]]),
    ("s-maxage=40, stale-while-revalidate=9", [[60, 90, 360], [40, 49, 340], [40, 49, 40]]),
    ("s-maxage=40, stale-if-error=9", [[60, 90, 360], [40, 70, 49], [40, 40, 49]]),
    ("max-age=50, stale-while-revalidate=9", [[60, 90, 360], [50, 59, 350], [50, 59, 350]]),
    ("max-age=50, stale-while-revalidate=900", [[60, 90, 360], [50, 80, 350], [50, 80, 350]]),
    ("max-age=50, stale-if-error=9", [[60, 90, 360], [50, 80, 59], [50, 50, 59]]),
    ("max-age=50, stale-if-error=9000", [[60, 90, 360], [50, 80, 350], [50, 50, 350]]),
    ("max-age=50, stale-if-error=x", [[60, 90, 360], [50, 80, 50], [50, 50, 50]]),
    ("max-age=50, must-revalidate, stale-if-error=9", [[60, 90, 360], [50, 50, 50], [50, 50, 50]]),
    ("max-age=50, proxy-revalidate", [[60, 90, 360], [50, 50, 50], [50, 50, 50]]),
    ("must-revalidate", [[60, 90, 360], [60, 60, 60], [60, 60, 60]]),
    ("max-age=50, no-cache", [[60, 90, 360], [10, 10, 10], [0, 0, 0]]),
    ("max-age=50, no-cache=\"x-a\"", [[60, 90, 360], [50, 80, 350], [50, 50, 350]]),
    ("max-age=50, public, immutable, no-transform, x=1", [[60, 90, 360], [50, 80, 350], [50, 50, 350]]),
    ("max-age=50, private=\"x-a\"", [[60, 90, 360], [50, 80, 350], [50, 50, 350]]),
];

/// The first second at which an answer is no longer so.
fn ends(route: &CacheRoute, arrival: &Arrival) -> [u64; 3] {
    let until = |good: fn(&Freshness) -> bool| (0..2_000).find(|second| !good(&at(route, arrival, *second))).unwrap();
    [
        until(|freshness| matches!(freshness, Freshness::Fresh { .. })),
        until(|freshness| {
            matches!(freshness, Freshness::Fresh { .. } | Freshness::Stale { while_revalidate: true, .. })
        }),
        until(Freshness::serves_errors),
    ]
}

#[test]
fn each_directive_means_in_each_mode_what_the_table_says() {
    for (control, expected) in TABLE {
        let arrival = arrived(200, &[("cache-control", control)]);
        for (mode_of, expected) in
            [FreshnessMode::Override, FreshnessMode::Clamp, FreshnessMode::Honor].iter().zip(expected)
        {
            assert_eq!(ends(&mode(*mode_of), &arrival), expected, "{control} under {mode_of:?}");
        }
    }
}

#[test]
fn an_age_on_arrival_counts_where_the_core_decides() {
    let arrival = arrived(200, &[("cache-control", "max-age=50"), ("age", "20")]);
    let fresh = |freshness| ends(&mode(freshness), &arrival)[0];
    assert_eq!([FreshnessMode::Override, FreshnessMode::Clamp, FreshnessMode::Honor].map(fresh), [60, 30, 30]);
    let older = arrived(200, &[("cache-control", "max-age=50"), ("age", "70")]);
    assert_eq!(at(&mode(FreshnessMode::Honor), &older, 1).ttl(), -21);
    assert_eq!(older.age(Millis(1_000)), secs(71));
}

#[test]
fn statuses_without_a_ttl_are_kept_where_the_core_says_for_how_long() {
    let said = headers(&[("cache-control", "max-age=9")]);
    let kept = |freshness, status| mode(freshness).unstorable_of(status, &said).is_none();
    for status in [200, 203, 204, 300, 301, 302, 303, 307, 308, 404, 410] {
        assert!(kept(FreshnessMode::Honor, status) && kept(FreshnessMode::Clamp, status), "{status}");
    }
    for status in [201, 202, 205, 207, 226, 304, 305, 399] {
        assert!(!kept(FreshnessMode::Honor, status) && !kept(FreshnessMode::Clamp, status), "{status}");
    }
    assert!(!kept(FreshnessMode::Override, 302) && !kept(FreshnessMode::Override, 301), "its ttl is 0");
    assert_eq!(mode(FreshnessMode::Honor).unstorable_of(302, &HeaderMap::new()), Some(Unstorable::Status));
}

#[test]
fn what_the_core_forbids_to_keep_is_not_kept_in_any_mode() {
    for freshness in [FreshnessMode::Override, FreshnessMode::Clamp, FreshnessMode::Honor] {
        let of = |list| mode(freshness).unstorable_of(200, &headers(list));
        assert_eq!(of(&[("cache-control", "max-age=9, no-store")]), Some(Unstorable::NoStore));
        assert_eq!(of(&[("cache-control", "max-age=9, private")]), Some(Unstorable::Private));
        assert_eq!(of(&[("cache-control", "max-age=9, no-store, must-understand")]), None);
        assert_eq!(of(&[("cache-control", "no-store"), ("cdn-cache-control", "max-age=9")]), None);
        assert_eq!(of(&[("cache-control", "max-age=9"), ("cdn-cache-control", "no-store")]), Some(Unstorable::NoStore));
        assert_eq!(of(&[("cache-control", "private=\"x-a\", max-age=9")]), None);
    }
}

#[test]
fn an_answer_that_could_never_be_used_is_not_kept() {
    let route = CacheRoute { stale_if_error: Duration::ZERO, ..mode(FreshnessMode::Honor) };
    let of = |list| route.unstorable_of(200, &headers(list));
    assert_eq!(of(&[("cache-control", "max-age=0")]), Some(Unstorable::NeverFresh));
    assert_eq!(of(&[("cache-control", "no-cache")]), Some(Unstorable::NeverFresh));
    assert_eq!(of(&[("cache-control", "no-cache"), ("etag", "\"v\"")]), None, "the core can be asked to confirm it");
    assert_eq!(of(&[("cache-control", "max-age=0, stale-while-revalidate=9")]), None);
    let kept_for_outages = mode(FreshnessMode::Honor).unstorable_of(200, &headers(&[("cache-control", "max-age=0")]));
    assert_eq!(kept_for_outages, None);
}

#[test]
fn answers_to_credentials_are_kept_where_the_core_says_that_they_are_for_others_too() {
    let key = vec![KeyPart::Header("authorization".into())];
    let of = |freshness, control| {
        let route = CacheRoute { key: key.clone(), ..mode(freshness) };
        route.unstorable_of(200, &headers(&[("cache-control", control)]))
    };
    for allows in ["public, max-age=9", "must-revalidate, max-age=9", "s-maxage=9"] {
        assert_eq!(of(FreshnessMode::Honor, allows), None, "{allows}");
    }
    assert_eq!(of(FreshnessMode::Honor, "max-age=9"), Some(Unstorable::Authorization));
    assert_eq!(of(FreshnessMode::Clamp, ""), Some(Unstorable::Authorization));
    assert_eq!(of(FreshnessMode::Override, "max-age=9"), None, "the operator has put them into the key");
}

trait Asked {
    fn unstorable_of(&self, status: u16, headers: &HeaderMap) -> Option<Unstorable>;
}

impl Asked for CacheRoute {
    fn unstorable_of(&self, status: u16, headers: &HeaderMap) -> Option<Unstorable> {
        CachePolicy::of(self).unstorable(status, headers)
    }
}

/// What a core says in the model: times in seconds, where it names them.
#[derive(Clone, Debug)]
struct Said {
    s_maxage: Option<u64>,
    max_age: Option<u64>,
    expires_in: Option<u64>,
    age: Option<u64>,
    while_revalidate: Option<u64>,
    if_error: Option<u64>,
    no_cache: bool,
    must_revalidate: bool,
}

impl Said {
    /// As header fields, made at second 1,000 and received within it.
    fn fields(&self) -> HeaderMap {
        let timed = |name: &str, time: Option<u64>| time.map(|time| format!("{name}={time}"));
        let flag = |name: &str, said: bool| said.then(|| name.to_owned());
        let control = [
            timed("s-maxage", self.s_maxage),
            timed("Max-Age", self.max_age),
            timed("stale-while-revalidate", self.while_revalidate),
            timed("stale-if-error", self.if_error),
            flag("no-cache", self.no_cache),
            flag("must-revalidate", self.must_revalidate),
        ];
        let control: Vec<String> = control.into_iter().flatten().collect();
        let date = |seconds| httpdate::fmt_http_date(std::time::UNIX_EPOCH + secs(seconds));
        let mut fields = vec![("date", date(1_000)), ("cache-control", control.join(", "))];
        fields.extend(self.expires_in.map(|seconds| ("expires", date(1_000 + seconds))));
        fields.extend(self.age.map(|age| ("age", age.to_string())));
        fields.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect()
    }

    /// RFC 9111 read aloud, for `honor` on a route with a ttl of 60 s, 30 s for revalidation and 300 s for errors: whether an
    /// answer may be given `resident` seconds after it came, as it is, while it is fetched anew, and while the core fails.
    fn may_be_given(&self, resident: u64) -> [bool; 3] {
        let current_age = self.age.unwrap_or(0) + resident; // 4.2.3
        let said = self.s_maxage.or(self.max_age).or(self.expires_in); // 4.2.1: the first match counts
        let heuristic = 60; // 4.2.2: the operator's
        let freshness_lifetime = if self.no_cache { 0 } else { said.unwrap_or(heuristic) }; // 5.2.2.4
        let fresh = current_age < freshness_lifetime; // 4.2
        let prohibited = self.no_cache || self.must_revalidate; // 4.2.4
        let stale_for = |allowed: u64| !prohibited && current_age < freshness_lifetime + allowed;
        let implied = if self.s_maxage.is_some() { 0 } else { 300 }; // 5.2.2.10
        let while_revalidate = self.while_revalidate.unwrap_or(0).min(30); // RFC 5861, 3
        let if_error = self.if_error.unwrap_or(implied).min(300); // RFC 5861, 4
        [fresh, fresh || stale_for(while_revalidate), fresh || stale_for(if_error)]
    }
}

prop_compose! {
    fn said()(
        times in prop::array::uniform6(prop::option::of(0_u64..120)),
        no_cache in prop::bool::weighted(0.2),
        must_revalidate in prop::bool::weighted(0.2),
    ) -> Said {
        let [s_maxage, max_age, expires_in, age, while_revalidate, if_error] = times;
        Said { s_maxage, max_age, expires_in, age, while_revalidate, if_error, no_cache, must_revalidate }
    }
}

proptest! {
    #[test]
    fn honor_is_what_the_rfc_says(said in said(), resident in 0_u64..600) {
        let route = mode(FreshnessMode::Honor);
        let came = Millis(1_000_000);
        let terms = Terms::of(&said.fields(), came, came);
        let arrival = Arrival { status: 200, terms, stored: came, draw: 0.0 };
        let freshness = CachePolicy::of(&route).freshness(&arrival, None, came.after(secs(resident)));
        let given = [
            matches!(freshness, Freshness::Fresh { .. }),
            matches!(freshness, Freshness::Fresh { .. } | Freshness::Stale { while_revalidate: true, .. }),
            freshness.serves_errors(),
        ];
        prop_assert_eq!(given, said.may_be_given(resident), "{:?} after {} s", said, resident);
    }

    /// The other modes differ from `honor` only where the operator has said so.
    #[test]
    fn clamp_without_bounds_is_honor_but_for_staleness_and_override_is_the_table(said in said(), resident in 0_u64..600) {
        let came = Millis(1_000_000);
        let terms = Terms::of(&said.fields(), came, came);
        let arrival = Arrival { status: 200, terms, stored: came, draw: 0.0 };
        let fresh = |freshness| {
            let route = CacheRoute { min_ttl: Duration::ZERO, max_ttl: Duration::MAX, ..mode(freshness) };
            let freshness = CachePolicy::of(&route).freshness(&arrival, None, came.after(secs(resident)));
            matches!(freshness, Freshness::Fresh { .. })
        };
        prop_assert_eq!(fresh(FreshnessMode::Clamp), fresh(FreshnessMode::Honor));
        prop_assert_eq!(fresh(FreshnessMode::Override), resident < 60);
    }
}
