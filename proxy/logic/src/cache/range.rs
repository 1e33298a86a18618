//! Parts of a stored answer (RFC 9110, section 14): what an agent that asks for a range is given.
//!
//! One range is given as asked. Several ranges in one request are answered with the whole, as section 14.2 allows: agents that
//! resume a download ask for one. Not here: preconditions that come before `Range` (`conditional`).

use std::ops::Range;

use http::header::HeaderValue;
use weir_config::Method;

use super::directives::http_date;
use crate::{Millis, RequestView};

/// What is given of a body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part {
    /// All of it, with the answer's own status.
    Whole,
    /// These bytes, with 206.
    Bytes(Range<usize>),
    /// None: the range begins past the end; 416.
    Unsatisfiable,
}

/// What an answer can be recognised by in `If-Range`.
#[derive(Clone, Copy, Debug)]
pub struct Recognised<'a> {
    /// `ETag`; only a strong one counts.
    pub etag: Option<&'a HeaderValue>,
    /// `Last-Modified`; counts where it lies a second before the answer was made (RFC 9110, section 8.8.2.2).
    pub last_modified: Option<&'a HeaderValue>,
    /// When the answer was made.
    pub made: Millis,
}

/// The part of a body of `length` bytes that the request asks for. Only `GET` has ranges; a range that is not understood and one
/// whose `If-Range` names another answer are passed over.
pub fn part(request: &RequestView<'_>, length: usize, recognised: Recognised<'_>) -> Part {
    if request.method != Method::Get {
        return Part::Whole;
    }
    let mut fields = request.headers.values("range");
    let (Some(range), None) = (fields.next(), fields.next()) else { return Part::Whole };
    let holds = request.headers.first("if-range").is_none_or(|validator| recognised.is(validator));
    if !holds {
        return Part::Whole;
    }
    std::str::from_utf8(range).ok().and_then(|range| one_range(range, length)).unwrap_or(Part::Whole)
}

/// `Content-Range` of a 206 or 416 (RFC 9110, section 14.4).
pub fn content_range(bytes: Option<&Range<usize>>, length: usize) -> HeaderValue {
    let text = match bytes {
        Some(range) => format!("bytes {}-{}/{length}", range.start, range.end.saturating_sub(1)),
        None => format!("bytes */{length}"),
    };
    HeaderValue::from_str(&text).unwrap_or(HeaderValue::from_static("bytes */*"))
}

impl Recognised<'_> {
    /// Whether an `If-Range` names the answer, by strong comparison (RFC 9110, section 13.1.5).
    fn is(&self, validator: &[u8]) -> bool {
        let validator = validator.trim_ascii();
        if validator.starts_with(b"\"") {
            return self.etag.is_some_and(|etag| etag.as_bytes() == validator);
        }
        let second_before =
            |date: &HeaderValue| http_date(date.as_bytes()).is_some_and(|date| date.as_secs() < self.made.0 / 1000);
        self.last_modified.is_some_and(|date| date.as_bytes() == validator && second_before(date))
    }
}

/// One range of bytes; `None` for several, for another unit, and for what breaks the grammar.
fn one_range(text: &str, length: usize) -> Option<Part> {
    let (unit, range) = text.split_once('=')?;
    if !unit.eq_ignore_ascii_case("bytes") {
        return None;
    }
    let (first, last) = range.trim_matches([' ', '\t']).split_once('-')?;
    if first.is_empty() {
        let suffix = position(last)?;
        // An empty body has no part that a 206 could name.
        return match (suffix, length) {
            (0, _) => Some(Part::Unsatisfiable),
            (_, 0) => None,
            (suffix, length) => Some(Part::Bytes(length.saturating_sub(suffix)..length)),
        };
    }
    let first = position(first)?;
    let last = if last.is_empty() { usize::MAX } else { position(last)? };
    if last < first {
        return None;
    }
    if first >= length {
        return Some(Part::Unsatisfiable);
    }
    Some(Part::Bytes(first..last.min(length - 1) + 1))
}

/// Digits and nothing else; what is greater than any length counts as the greatest.
fn position(text: &str) -> Option<usize> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| text.parse().unwrap_or(usize::MAX))
}

#[cfg(test)]
mod tests {
    use http::HeaderMap;
    use proptest::prelude::*;

    use super::*;

    fn asked(method: Method, fields: &[(&'static str, &str)], length: usize) -> Part {
        let headers: HeaderMap =
            fields.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect();
        let request = RequestView { method, path: "/", query: None, host: "h", headers: &headers, body: b"" };
        let (etag, modified) =
            (HeaderValue::from_static("\"v\""), HeaderValue::from_static("Sun, 06 Nov 1994 08:49:37 GMT"));
        let made = Millis(784_111_778_000);
        part(&request, length, Recognised { etag: Some(&etag), last_modified: Some(&modified), made })
    }

    fn of(range: &str, length: usize) -> Part {
        asked(Method::Get, &[("range", range)], length)
    }

    #[test]
    fn one_range_is_given_as_asked() {
        for (range, expected) in [
            ("bytes=0-0", 0..1),
            ("bytes=2-4", 2..5),
            ("Bytes=2-", 2..10),
            ("bytes=-3", 7..10),
            ("bytes=-300", 0..10),
            ("bytes=9-99999999999999999999999", 9..10),
            ("bytes= 1-1 ", 1..2),
        ] {
            assert_eq!(of(range, 10), Part::Bytes(expected), "{range}");
        }
    }

    #[test]
    fn a_range_past_the_end_cannot_be_satisfied() {
        for range in ["bytes=10-", "bytes=10-11", "bytes=99999999999999999999-", "bytes=-0"] {
            assert_eq!(of(range, 10), Part::Unsatisfiable, "{range}");
        }
        assert_eq!(of("bytes=0-", 0), Part::Unsatisfiable);
        assert_eq!(of("bytes=-1", 0), Part::Whole);
    }

    #[test]
    fn what_is_not_one_range_of_bytes_is_passed_over() {
        for range in [
            "",
            "bytes",
            "bytes=",
            "bytes=-",
            "bytes=a-b",
            "bytes=4-2",
            "bytes=1-2,4-5",
            "bytes=+1-2",
            "lines=1-2",
            "bytes=1 - 2",
            "bytes = 1-2",
            "1-2",
        ] {
            assert_eq!(of(range, 10), Part::Whole, "{range}");
        }
        let range = ("range", "bytes=0-0");
        assert_eq!(asked(Method::Head, &[range], 10), Part::Whole);
        assert_eq!(asked(Method::Post, &[range], 10), Part::Whole);
        assert_eq!(asked(Method::Get, &[range, range], 10), Part::Whole);
    }

    #[test]
    fn if_range_compares_strongly() {
        let given = |validator| asked(Method::Get, &[("range", "bytes=0-0"), ("if-range", validator)], 10);
        for same in ["\"v\"", "Sun, 06 Nov 1994 08:49:37 GMT"] {
            assert_eq!(given(same), Part::Bytes(0..1), "{same}");
        }
        for other in ["\"w\"", "W/\"v\"", "v", "", "Sun, 06 Nov 1994 08:49:38 GMT", "Sunday, 06-Nov-94 08:49:37 GMT"] {
            assert_eq!(given(other), Part::Whole, "{other}");
        }
    }

    #[test]
    fn a_date_of_the_second_in_which_the_answer_was_made_proves_nothing() {
        let date = HeaderValue::from_static("Sun, 06 Nov 1994 08:49:37 GMT");
        let recognised = |made| Recognised { etag: None, last_modified: Some(&date), made: Millis(made) };
        assert!(recognised(784_111_778_000).is(date.as_bytes()));
        assert!(!recognised(784_111_777_999).is(date.as_bytes()));
    }

    proptest! {
        #[test]
        fn any_range_lies_within_the_body(range in "bytes=[0-9]{0,3}-[0-9]{0,3}", length in 0_usize..200) {
            if let Part::Bytes(bytes) = of(&range, length) {
                prop_assert!(bytes.start < bytes.end && bytes.end <= length);
            }
        }
    }
}
