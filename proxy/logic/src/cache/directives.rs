//! What a core says of caching: the directives of `Cache-Control` (RFC 9111, section 5.2.2; RFC 5861), or those of
//! `CDN-Cache-Control` where it sends that (RFC 9213).
//!
//! Reading is strict, and what cannot be read counts as the most careful thing that it could have said: a lifetime that is no
//! number is none at all, a field that is not text forbids keeping the answer. Not here: what the directives mean for an answer
//! (`terms`, `policy`), and those of requests (`asking`).

use std::borrow::Cow;
use std::time::Duration;

use http::HeaderMap;
use http::header::{CACHE_CONTROL, EXPIRES, HeaderName};

use super::dictionary::{self, Item};
use crate::retry::delta_seconds;

/// The directives of one answer. Those that are not named here, `immutable` and `no-transform` among them, are passed over:
/// the node asks for an answer anew when it has to whatever an agent's reload button does, and it never transforms a body.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Directives {
    pub(super) no_store: bool,
    pub(super) no_cache: Named,
    pub(super) private: Named,
    pub(super) must_revalidate: bool,
    pub(super) proxy_revalidate: bool,
    pub(super) public: bool,
    pub(super) must_understand: bool,
    pub(super) max_age: Option<Duration>,
    pub(super) s_maxage: Option<Duration>,
    pub(super) stale_while_revalidate: Option<Duration>,
    pub(super) stale_if_error: Option<Duration>,
    /// Whether they come from a targeted field, beside which `Cache-Control` and `Expires` do not count.
    pub(super) targeted: bool,
}

/// What `no-cache` or `private` is said of.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) enum Named {
    /// Nothing: the directive is not there.
    #[default]
    Nothing,
    /// These fields of the answer.
    Fields(Vec<HeaderName>),
    /// The answer.
    Whole,
}

/// What follows a directive's name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Argument<'a> {
    None,
    Text(Cow<'a, str>),
    Unreadable,
}

impl Directives {
    /// The directives that count for the node.
    pub(super) fn of(headers: &HeaderMap) -> Self {
        let targeted = headers.get_all(CDN_CACHE_CONTROL).iter().map(http::HeaderValue::as_bytes);
        if let Some(members) = dictionary::parse(targeted).filter(|members| !members.is_empty()) {
            let mut directives = Self { targeted: true, ..Self::default() };
            for (name, item) in members {
                match item {
                    Item::Flag(false) => {}
                    Item::Flag(true) => directives.note(name, &Argument::None),
                    Item::Number(text) => directives.note(name, &Argument::Text(Cow::Borrowed(text))),
                    // A number in quotes is a string there, and no directive's time is one.
                    Item::Text(text) if text.bytes().any(|byte| !byte.is_ascii_digit()) => {
                        directives.note(name, &Argument::Text(Cow::Owned(text)));
                    }
                    Item::Text(_) | Item::Other => directives.note(name, &Argument::Unreadable),
                }
            }
            return directives;
        }
        let mut directives = Self::default();
        for value in headers.get_all(CACHE_CONTROL) {
            match value.to_str() {
                Ok(text) => each(text, |name, argument| directives.note(name, &argument)),
                Err(_) => directives.no_store = true,
            }
        }
        directives
    }

    /// Whether a field is not to be kept with the answer: `private` and `no-cache` can be said of single fields.
    pub(super) fn withholds(&self, name: &HeaderName) -> bool {
        let names = |named: &Named| matches!(named, Named::Fields(fields) if fields.contains(name));
        names(&self.private) || names(&self.no_cache)
    }

    /// How long the answer is fresh from the time of its making on, where the core says it: `no-cache` is not at all, then
    /// `s-maxage`, `max-age`, and `Expires` less `date` in that order (RFC 9111, section 4.2.1).
    pub(super) fn lifetime(&self, headers: &HeaderMap, date: Duration) -> Option<Duration> {
        if self.no_cache == Named::Whole {
            return Some(Duration::ZERO);
        }
        let said = self.s_maxage.or(self.max_age);
        if said.is_some() || self.targeted {
            return said;
        }
        let mut expires = headers.get_all(EXPIRES).iter();
        let first = expires.next()?;
        if expires.any(|other| other != first) {
            return Some(Duration::ZERO);
        }
        Some(http_date(first.as_bytes()).unwrap_or_default().saturating_sub(date))
    }

    fn note(&mut self, name: &str, argument: &Argument<'_>) {
        let known = |known: &str| name.eq_ignore_ascii_case(known);
        let flags = [
            ("no-store", &mut self.no_store),
            ("must-revalidate", &mut self.must_revalidate),
            ("proxy-revalidate", &mut self.proxy_revalidate),
            ("public", &mut self.public),
            ("must-understand", &mut self.must_understand),
        ];
        if let Some((_, flag)) = flags.into_iter().find(|(flag, _)| known(flag)) {
            *flag = true;
            return;
        }
        let times = [
            ("max-age", &mut self.max_age),
            ("s-maxage", &mut self.s_maxage),
            ("stale-while-revalidate", &mut self.stale_while_revalidate),
            ("stale-if-error", &mut self.stale_if_error),
        ];
        if let Some((_, slot)) = times.into_iter().find(|(time, _)| known(time)) {
            let time = argument.seconds().unwrap_or_default();
            // Said twice and differently is as good as unreadable.
            *slot = Some(slot.map_or(time, |said| if said == time { time } else { Duration::ZERO }));
            return;
        }
        if known("no-cache") {
            self.no_cache.extend(argument);
        } else if known("private") {
            self.private.extend(argument);
        }
    }
}

impl Named {
    fn extend(&mut self, argument: &Argument<'_>) {
        let Argument::Text(list) = argument else {
            *self = Self::Whole;
            return;
        };
        let names: Option<Vec<HeaderName>> = list.split(',').map(|name| name.trim().parse().ok()).collect();
        match (names, &mut *self) {
            (Some(names), Self::Nothing) => *self = Self::Fields(names),
            (Some(names), Self::Fields(known)) => known.extend(names),
            // Who names what can be no field means at least some of the answer: none of it is safe.
            (None, _) => *self = Self::Whole,
            (Some(_), Self::Whole) => {}
        }
    }
}

impl Argument<'_> {
    /// A number of seconds: digits and nothing else, quoted or not, at most 2^31 (RFC 9111, section 1.2.2).
    pub(super) fn seconds(&self) -> Option<Duration> {
        match self {
            Self::Text(text) if !text.contains([' ', '\t']) => {
                delta_seconds(text.as_bytes()).map(|time| time.min(MAX_SECONDS))
            }
            _ => None,
        }
    }
}

/// Calls `note` for each directive of a list: `name`, `name=token` or `name="quoted"`. Commas inside quotes are part of the
/// argument. A quote that never ends hides what follows it, which may be `no-store` and counts as that.
pub(super) fn each<'a>(text: &'a str, mut note: impl FnMut(&'a str, Argument<'a>)) {
    let mut rest = text;
    loop {
        let (end, open) = end_of_directive(rest);
        let directive = rest[..end].trim_matches([' ', '\t']);
        let (name, argument) = match directive.split_once('=') {
            None => (directive, Argument::None),
            Some((name, value)) => (name.trim_end_matches([' ', '\t']), argument(value)),
        };
        if !name.is_empty() {
            note(name, argument);
        }
        if open {
            note("no-store", Argument::Unreadable);
        }
        let Some(after) = rest.get(end + 1..) else { return };
        rest = after;
    }
}

fn argument(value: &str) -> Argument<'_> {
    let Some(quoted) = value.strip_prefix('"') else { return Argument::Text(Cow::Borrowed(value)) };
    let Some(inside) = quoted.strip_suffix('"') else { return Argument::Unreadable };
    if !inside.contains(['\\', '"']) {
        return Argument::Text(Cow::Borrowed(inside));
    }
    let mut text = String::with_capacity(inside.len());
    let mut characters = inside.chars();
    while let Some(c) = characters.next() {
        match c {
            '\\' => match characters.next() {
                Some(escaped) => text.push(escaped),
                None => return Argument::Unreadable,
            },
            '"' => return Argument::Unreadable,
            c => text.push(c),
        }
    }
    Argument::Text(Cow::Owned(text))
}

/// Where the first directive ends, and whether inside a quote.
fn end_of_directive(text: &str) -> (usize, bool) {
    let mut quoted = false;
    let mut escaped = false;
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            b',' if !quoted => return (at, false),
            _ => {}
        }
    }
    (text.len(), quoted)
}

/// A date in one of the forms of RFC 9110, section 5.6.7, as the time since 1970; `None` for anything else.
pub(super) fn http_date(value: &[u8]) -> Option<Duration> {
    let date = httpdate::parse_http_date(std::str::from_utf8(value).ok()?).ok()?;
    date.duration_since(std::time::UNIX_EPOCH).ok()
}

/// RFC 9111, section 1.2.2: greater times count as this one.
pub(super) const MAX_SECONDS: Duration = Duration::from_secs(1 << 31);

/// The targeted field that counts for the node.
pub const CDN_CACHE_CONTROL: HeaderName = HeaderName::from_static("cdn-cache-control");

#[cfg(test)]
mod tests {
    use super::*;

    fn of(list: &[(&'static str, &'static str)]) -> Directives {
        Directives::of(&headers(list))
    }

    fn headers(list: &[(&'static str, &'static str)]) -> HeaderMap {
        list.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect()
    }

    fn control(value: &'static str) -> Directives {
        of(&[("cache-control", value)])
    }

    fn fields(names: &[&str]) -> Named {
        Named::Fields(names.iter().map(|name| name.parse().unwrap()).collect())
    }

    const fn secs(seconds: u64) -> Option<Duration> {
        Some(Duration::from_secs(seconds))
    }

    #[test]
    fn a_directive_is_found_in_any_field_case_and_form() {
        assert!(control("max-age=60, No-Store").no_store);
        assert!(of(&[("cache-control", "public"), ("cache-control", "NO-STORE")]).no_store);
        assert_eq!(control("ext=\"a,\\\"b\", private").private, Named::Whole);
        let all = control("public,must-revalidate , proxy-revalidate,must-understand,\tmax-age=1,s-maxage=\"2\"");
        assert!(all.public && all.must_revalidate && all.proxy_revalidate && all.must_understand);
        assert_eq!((all.max_age, all.s_maxage), (secs(1), secs(2)));
    }

    #[test]
    fn what_stands_in_a_quoted_argument_is_no_directive() {
        let quoted = control("ext=\"a, no-store\", no-store-at-all, max-age=0");
        assert_eq!(quoted, Directives { max_age: secs(0), ..Directives::default() });
    }

    #[test]
    fn what_cannot_be_read_forbids() {
        let unreadable = [(CACHE_CONTROL, http::HeaderValue::from_bytes(b"\xff").unwrap())];
        assert!(Directives::of(&HeaderMap::from_iter(unreadable)).no_store);
        assert!(control("max-age=60, ext=\"a, no-store").no_store, "a quote that never ends may hide anything");
    }

    #[test]
    fn times_are_digits_and_nothing_else() {
        for (text, expected) in [
            ("max-age=60", 60),
            ("max-age=\"60\"", 60),
            ("max-age=\"6\\0\"", 60),
            ("MAX-AGE=007", 7),
            ("max-age=99999999999999999999", 1 << 31),
            ("max-age=60, max-age=60", 60),
        ] {
            assert_eq!(control(text).max_age, secs(expected), "{text}");
        }
        for text in [
            "max-age",
            "max-age=",
            "max-age=-1",
            "max-age=+1",
            "max-age=1.5",
            "max-age= 60",
            "max-age=60s",
            "max-age=\"60",
            "max-age='60'",
            "max-age=\" 60\"",
            "max-age=60, max-age=61",
            "max-age=61, max-age=x",
        ] {
            assert_eq!(control(text).max_age, secs(0), "{text}");
        }
    }

    #[test]
    fn no_cache_and_private_name_fields_or_the_whole() {
        assert_eq!(control("private=\"X-A, x-b\"").private, fields(&["x-a", "x-b"]));
        assert_eq!(control("no-cache=x-a, no-cache=\"x-b\"").no_cache, fields(&["x-a", "x-b"]));
        for whole in ["private", "private=\"\"", "private=\"a b\"", "private=\"x-a\", private", "private, private=x-a"]
        {
            assert_eq!(control(whole).private, Named::Whole, "{whole}");
        }
        let named = control("private=\"x-a\", no-cache=\"x-b\"");
        assert!(named.withholds(&"x-a".parse().unwrap()) && named.withholds(&"x-b".parse().unwrap()));
        assert!(!named.withholds(&"x-c".parse().unwrap()));
    }

    #[test]
    fn a_targeted_field_takes_the_place_of_cache_control() {
        let both = |targeted| of(&[("cache-control", "no-store"), ("cdn-cache-control", targeted)]);
        assert_eq!((both("max-age=60").max_age, both("max-age=60").no_store), (secs(60), false));
        assert!(!both("none").no_store, "a directive that nobody knows is still a directive");
        assert!(both("no-store=?1").no_store && !both("no-store=?0").no_store);
        assert_eq!(both("private=\"x-a\"").private, fields(&["x-a"]));
        assert_eq!(both("max-age=60, max-age=61").max_age, secs(61), "the last member of a dictionary counts");
        for wrong in ["max-age=1.5", "max-age=(1)", "max-age=?1", "max-age=:YQ==:", "max-age=\"60\""] {
            assert_eq!(both(wrong).max_age, secs(0), "{wrong}");
        }
        for unusable in ["", "Max-Age=60", "max-age=60,", "max-age=\"60", "max-age = 60", "max-age=60 no-store"] {
            assert!(both(unusable).no_store, "{unusable}: Cache-Control counts");
        }
    }

    #[test]
    fn a_lifetime_is_the_most_particular_that_is_said() {
        let date = httpdate::parse_http_date("Sun, 06 Nov 1994 08:49:37 GMT").unwrap();
        let date = date.duration_since(std::time::UNIX_EPOCH).unwrap();
        let expires = ("expires", "Sun, 06 Nov 1994 08:50:37 GMT");
        let of = |list: &[(&'static str, &'static str)]| of(list).lifetime(&headers(list), date);
        assert_eq!(of(&[]), None);
        assert_eq!(of(&[expires]), secs(60));
        assert_eq!(of(&[expires, expires]), secs(60));
        assert_eq!(of(&[expires, ("cache-control", "max-age=9")]), secs(9));
        assert_eq!(of(&[expires, ("cache-control", "max-age=9, s-maxage=8")]), secs(8));
        assert_eq!(of(&[expires, ("cache-control", "max-age=9, s-maxage=8, no-cache")]), secs(0));
        assert_eq!(of(&[expires, ("cache-control", "max-age=9, no-cache=\"x-a\"")]), secs(9));
        assert_eq!(
            of(&[expires, ("cdn-cache-control", "none")]),
            None,
            "beside a targeted field Expires does not count"
        );
        for stale in ["0", "", "Sun, 06 Nov 1994 08:49:37 GMT", "Sun, 06 Nov 1994 08:40:00 GMT", "tomorrow"] {
            assert_eq!(of(&[("expires", stale)]), secs(0), "{stale}");
        }
        assert_eq!(of(&[expires, ("expires", "0")]), secs(0), "said twice and differently");
    }
}
