//! What a core says of keeping its answer, in the fewest words that mean the same, and none that could name anyone.

use std::time::Duration;

use http::HeaderMap;

pub use super::directives::CDN_CACHE_CONTROL;
use super::directives::{Directives, Named};
use crate::Millis;

/// The directives of an answer that was made at `made`, as one `Cache-Control` that means the same to
/// [`CachePolicy`](super::CachePolicy): a targeted field counts instead of the general one, and `Expires` is a `max-age`. Fields
/// that are withheld by name are left out. Empty where the core says nothing.
pub fn said(headers: &HeaderMap, made: Millis) -> String {
    let directives = Directives::of(headers);
    let flags = [
        ("no-store", directives.no_store),
        ("no-cache", directives.no_cache == Named::Whole),
        ("private", directives.private == Named::Whole),
        ("must-revalidate", directives.must_revalidate),
        ("proxy-revalidate", directives.proxy_revalidate),
        ("public", directives.public),
        ("must-understand", directives.must_understand),
    ];
    let expires = || {
        let counts = directives.no_cache != Named::Whole && directives.s_maxage.is_none();
        directives.lifetime(headers, Duration::from_millis(made.0)).filter(|_| counts)
    };
    let times = [
        ("max-age", directives.max_age.or_else(expires)),
        ("s-maxage", directives.s_maxage),
        ("stale-while-revalidate", directives.stale_while_revalidate),
        ("stale-if-error", directives.stale_if_error),
    ];
    let flags = flags.into_iter().filter(|(_, set)| *set).map(|(name, _)| name.to_owned());
    let times = times.into_iter().filter_map(|(name, time)| Some(format!("{name}={}", time?.as_secs())));
    flags.chain(times).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use http::header::CACHE_CONTROL;
    use proptest::prelude::*;

    use super::super::Terms;
    use super::*;

    /// Sun, 06 Nov 1994 08:49:37 GMT.
    const MADE: Millis = Millis(784_111_777_000);

    fn of(list: &[(&'static str, &'static str)]) -> String {
        said(&list.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect(), MADE)
    }

    #[test]
    fn words_that_mean_nothing_to_a_cache_are_not_repeated() {
        assert_eq!(of(&[("cache-control", "max-age=60, tenant=acme, private=\"x-acme\"")]), "max-age=60");
        assert_eq!(of(&[("cache-control", "Public,  S-MAXAGE=5, no-cache")]), "no-cache, public, s-maxage=5");
        assert_eq!(of(&[("cdn-cache-control", "max-age=9"), ("cache-control", "no-store")]), "max-age=9");
        assert_eq!(of(&[("expires", "Sun, 06 Nov 1994 08:50:37 GMT")]), "max-age=60");
        assert_eq!(of(&[("expires", "acme")]), "max-age=0");
        assert_eq!(of(&[("vary", "acme")]), "");
    }

    proptest! {
        #[test]
        fn what_is_repeated_means_the_same(text in "(?i)((no-store|no-cache|private|public|must-[a-z]{4,10}|proxy-revalidate|max-age=\"?[0-9]{0,12}\"?|s-maxage=[0-9]{1,4}|stale-while-revalidate=[0-9a]{0,4}|stale-if-error=[0-9]{1,4}|\"|=)[, ]{1,3}){0,5}") {
            let one = |text: &str| HeaderMap::from_iter([(CACHE_CONTROL, HeaderValue::from_str(text).unwrap())]);
            let (headers, again) = (one(&text), one(&said(&one(&text), MADE)));
            prop_assert_eq!(Terms::of(&headers, MADE, MADE), Terms::of(&again, MADE, MADE));
            prop_assert_eq!(Directives::of(&headers).no_store, Directives::of(&again).no_store);
            let private = |headers: &HeaderMap| Directives::of(headers).private == Named::Whole;
            prop_assert_eq!(private(&headers), private(&again));
        }
    }
}
