//! What an agent's request says of caching (RFC 9111, section 5.2.1), for routes that obey their agents.

use std::time::Duration;

use super::directives::{Argument, each};
use super::policy::Freshness;
use crate::Headers;

/// The directives of one request. The default one is content with whatever is fresh.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Asking {
    /// `no-cache`: nothing stored will do without the core's word.
    pub no_cache: bool,
    /// `no-store`: what the core answers to this request is not to be stored.
    pub no_store: bool,
    /// `only-if-cached`: the core is not to be asked.
    pub only_if_cached: bool,
    max_age: Option<Duration>,
    min_fresh: Option<Duration>,
    max_stale: Option<Duration>,
}

impl Asking {
    /// The directives of a request: those of `Cache-Control`; `Pragma: no-cache` counts where that is missing (section 5.4).
    /// `max-age` and `min-fresh` that are no number leave nothing stored good enough; such a `max-stale` allows nothing.
    pub fn of(headers: &dyn Headers) -> Self {
        let mut asking = Self::default();
        let mut lines = headers.values("cache-control").peekable();
        if lines.peek().is_none() {
            let pragma = headers.values("pragma").filter_map(|value| std::str::from_utf8(value).ok());
            pragma.for_each(|text| each(text, |name, _| asking.no_cache |= name.eq_ignore_ascii_case("no-cache")));
            return asking;
        }
        for text in lines.filter_map(|value| std::str::from_utf8(value).ok()) {
            each(text, |name, argument| asking.note(name, &argument));
        }
        asking
    }

    /// Whether a stored answer of that freshness and age will do as it is.
    pub fn accepts(&self, freshness: &Freshness, age: Duration) -> bool {
        let young = !self.no_cache && self.max_age.is_none_or(|most| age <= most);
        young
            && match freshness {
                Freshness::Fresh { left } => self.min_fresh.is_none_or(|least| *left >= least),
                Freshness::Stale { past, .. } => self.takes_stale(*past),
                Freshness::Expired { .. } => false,
            }
    }

    /// Whether an answer that went stale that long ago will do although the core could be asked.
    pub fn takes_stale(&self, past: Duration) -> bool {
        self.max_stale.is_some_and(|most| past <= most) && self.min_fresh.is_none()
    }

    /// Whether an answer of that age may be served stale while it is fetched anew.
    pub fn waits_for_nothing(&self, age: Duration) -> bool {
        !self.no_cache && self.min_fresh.is_none() && self.max_age.is_none_or(|most| age <= most)
    }

    fn note(&mut self, name: &str, argument: &Argument<'_>) {
        let known = |known: &str| name.eq_ignore_ascii_case(known);
        if known("no-cache") {
            self.no_cache = true;
        } else if known("no-store") {
            self.no_store = true;
        } else if known("only-if-cached") {
            self.only_if_cached = true;
        } else if known("max-age") {
            let most = argument.seconds().unwrap_or_default();
            self.max_age = Some(self.max_age.map_or(most, |said| said.min(most)));
        } else if known("min-fresh") {
            let least = argument.seconds().unwrap_or(Duration::MAX);
            self.min_fresh = Some(self.min_fresh.map_or(least, |said| said.max(least)));
        } else if known("max-stale") {
            let most = match argument {
                Argument::None => Duration::MAX,
                said => said.seconds().unwrap_or_default(),
            };
            self.max_stale = Some(self.max_stale.map_or(most, |said| said.min(most)));
        }
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderMap;

    use super::*;

    fn of(list: &[(&'static str, &'static str)]) -> Asking {
        let headers: HeaderMap =
            list.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect();
        Asking::of(&headers)
    }

    fn accepts(control: &'static str, freshness: &Freshness, age: u64) -> bool {
        of(&[("cache-control", control)]).accepts(freshness, Duration::from_secs(age))
    }

    const fn fresh(seconds: u64) -> Freshness {
        Freshness::Fresh { left: Duration::from_secs(seconds) }
    }

    const fn stale(seconds: u64) -> Freshness {
        Freshness::Stale { past: Duration::from_secs(seconds), while_revalidate: false, if_error: true }
    }

    #[test]
    fn ages_and_times_left_are_held_to_what_the_agent_says() {
        assert!(accepts("max-age=60", &fresh(1), 60) && !accepts("max-age=60", &fresh(1), 61));
        assert!(accepts("min-fresh=9", &fresh(9), 0) && !accepts("min-fresh=9", &fresh(8), 0));
        assert!(!accepts("max-age=x", &fresh(1), 1) && !accepts("min-fresh=-1", &fresh(1), 0));
        assert!(!accepts("no-cache", &fresh(1), 0));
        assert!(!accepts("max-age=60, max-age=5", &fresh(1), 6), "said twice, the narrower counts");
        assert!(accepts("", &fresh(1), 0) && accepts("no-store, no-transform, x=\"no-cache\"", &fresh(1), 0));
    }

    #[test]
    fn stale_answers_are_taken_as_far_as_max_stale_says() {
        assert!(accepts("max-stale", &stale(1_000), 0));
        assert!(accepts("max-stale=9", &stale(9), 0) && !accepts("max-stale=9", &stale(10), 0));
        assert!(!accepts("max-stale=x", &stale(1), 0) && !accepts("max-age=9", &stale(0), 1));
        assert!(!accepts("max-stale", &Freshness::Expired { past: Duration::ZERO }, 0), "the route's bounds hold");
    }

    #[test]
    fn pragma_counts_where_cache_control_is_missing() {
        assert!(of(&[("pragma", "x, No-Cache")]).no_cache);
        assert!(!of(&[("pragma", "no-cache"), ("cache-control", "max-age=1")]).no_cache);
        assert_eq!(of(&[]), Asking::default());
    }

    #[test]
    fn flags_are_read() {
        let asking = of(&[("cache-control", "Only-If-Cached"), ("cache-control", "no-store")]);
        assert!(asking.only_if_cached && asking.no_store && !asking.no_cache);
    }
}
