//! What a core says, with an answer, about how long it may be used: read once, when the answer arrives, so that using the answer
//! costs no more than comparing numbers. What the operator makes of it is the policy's.

use std::time::Duration;

use http::HeaderMap;
use http::header::{AGE, DATE};

use super::directives::{Directives, MAX_SECONDS, Named, http_date};
use crate::Millis;
use crate::retry::delta_seconds;

/// The core's terms for one answer. Memory: the structure itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Terms {
    /// How long the answer is fresh, from its making on; `None` where the core says nothing (RFC 9111, section 4.2.1).
    pub lifetime: Option<Duration>,
    /// `stale-while-revalidate` (RFC 5861, section 3).
    pub stale_while_revalidate: Option<Duration>,
    /// `stale-if-error` (RFC 5861, section 4).
    pub stale_if_error: Option<Duration>,
    /// Whether staleness is forbidden: `must-revalidate`, `proxy-revalidate`, or `no-cache` (RFC 9111, section 4.2.4).
    pub never_stale: bool,
    /// Whether the lifetime is `s-maxage`, which forbids staleness as `proxy-revalidate` does (RFC 9111, section 5.2.2.10).
    pub for_shared_caches: bool,
    /// The answer's age on arrival: the corrected initial age of RFC 9111, section 4.2.3.
    pub age: Duration,
}

impl Terms {
    /// The terms of an answer to a request that was sent at `asked`, whose header section was there at `answered`.
    pub fn of(headers: &HeaderMap, asked: Millis, answered: Millis) -> Self {
        let directives = Directives::of(headers);
        let now = Duration::from_millis(answered.0);
        let date = headers.get(DATE).and_then(|value| http_date(value.as_bytes()));
        Self {
            lifetime: directives.lifetime(headers, date.unwrap_or(now)),
            stale_while_revalidate: directives.stale_while_revalidate,
            stale_if_error: directives.stale_if_error,
            never_stale: directives.must_revalidate
                || directives.proxy_revalidate
                || directives.no_cache == Named::Whole,
            for_shared_caches: directives.s_maxage.is_some(),
            age: initial_age(headers, date, now, answered.since(asked)),
        }
    }
}

/// The age that the answer has on arrival: what caches on the way say plus the time that the answer took, or, if that is more,
/// what the core's clock says. `Date` has whole seconds, of which the last one may not have passed: it does not count.
fn initial_age(headers: &HeaderMap, date: Option<Duration>, now: Duration, delay: Duration) -> Duration {
    let apparent = date.map_or(Duration::ZERO, |date| now.saturating_sub(date + A_SECOND));
    let told = headers.get(AGE).and_then(|value| delta_seconds(value.as_bytes())).unwrap_or_default();
    apparent.max(told.min(MAX_SECONDS) + delay).min(MAX_SECONDS)
}

const A_SECOND: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    /// Sun, 06 Nov 1994 08:49:37 GMT.
    const MADE: u64 = 784_111_777_000;

    fn of(list: &[(&'static str, &'static str)], asked: u64, answered: u64) -> Terms {
        let headers = list.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect();
        Terms::of(&headers, Millis(MADE + asked), Millis(MADE + answered))
    }

    fn age(list: &[(&'static str, &'static str)], asked: u64, answered: u64) -> u128 {
        of(list, asked, answered).age.as_millis()
    }

    #[test]
    fn the_age_on_arrival_is_the_greater_of_what_clocks_and_caches_say() {
        let date = ("date", "Sun, 06 Nov 1994 08:49:37 GMT");
        assert_eq!(age(&[], 0, 300), 300, "the time that the answer took");
        assert_eq!(age(&[("age", "7")], 0, 300), 7_300);
        assert_eq!(age(&[date], 900, 999), 99, "within the second that the date names");
        assert_eq!(age(&[date], 10_000, 10_100), 9_100);
        assert_eq!(age(&[date, ("age", "20")], 10_000, 10_100), 20_100);
        assert_eq!(age(&[("date", "Sun, 06 Nov 1994 09:49:37 GMT")], 0, 0), 0, "a core whose clock is ahead");
        assert_eq!(age(&[("date", "now"), ("age", "soon")], 0, 5), 5, "what is no date or age is not there");
        assert_eq!(age(&[("age", "7"), ("age", "9")], 0, 0), 7_000);
        assert_eq!(age(&[("age", "99999999999999999999")], 0, 0), MAX_SECONDS.as_millis());
    }

    #[test]
    fn expires_counts_from_the_date_or_else_from_the_arrival() {
        let expires = ("expires", "Sun, 06 Nov 1994 08:50:37 GMT");
        let lifetime = |list: &[_]| of(list, 5_000, 10_000).lifetime.map(|time| time.as_secs());
        assert_eq!(lifetime(&[expires]), Some(50));
        assert_eq!(lifetime(&[expires, ("date", "Sun, 06 Nov 1994 08:49:37 GMT")]), Some(60));
    }

    #[test]
    fn what_forbids_staleness_is_told_apart() {
        let of = |control| {
            let terms = of(&[("cache-control", control)], 0, 0);
            (terms.never_stale, terms.for_shared_caches)
        };
        for forbids in ["must-revalidate", "proxy-revalidate", "no-cache", "max-age=9, no-cache"] {
            assert_eq!(of(forbids), (true, false), "{forbids}");
        }
        assert_eq!(of("s-maxage=9, max-age=8"), (false, true));
        assert_eq!(of("max-age=8, no-cache=\"x-a\", stale-if-error=0"), (false, false));
    }
}
