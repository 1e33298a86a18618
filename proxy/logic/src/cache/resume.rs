//! Going on with an answer whose transfer broke off: the rest is asked for and joined to what is there (RFC 9110, sections 13.1.5 and
//! 15.3.7.3), if a strong validator proves that both are of one body.

use http::HeaderMap;
use http::header::{ACCEPT_RANGES, CONTENT_RANGE, DATE, ETAG, HeaderName, HeaderValue, IF_RANGE, LAST_MODIFIED, RANGE};

use super::conditional::is_entity_tag;
use super::directives::http_date;
use super::fill::FillRequest;

/// By what the rest of an answer can be told from the rest of another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resumption {
    field: HeaderName,
    validator: HeaderValue,
}

impl Resumption {
    /// Of an answer with these headers; `None` where the core gives no parts, or nothing in them is a strong validator: a strong entity
    /// tag, or without any tag a `Last-Modified` a second before its `Date` (RFC 9110, section 8.8.2.2).
    pub fn of(headers: &HeaderMap) -> Option<Self> {
        if headers.get(ACCEPT_RANGES).is_some_and(|units| units.as_bytes().eq_ignore_ascii_case(b"none")) {
            return None;
        }
        if let Some(tag) = headers.get(ETAG) {
            let strong = is_entity_tag(tag.as_bytes()) && tag.as_bytes().starts_with(b"\"");
            return strong.then(|| Self { field: ETAG, validator: tag.clone() });
        }
        let date = |name: HeaderName| headers.get(name).and_then(|value| http_date(value.as_bytes()));
        let (modified, made) = (date(LAST_MODIFIED)?, date(DATE)?);
        let validator = headers.get(LAST_MODIFIED).filter(|_| modified.as_secs() < made.as_secs())?;
        Some(Self { field: LAST_MODIFIED, validator: validator.clone() })
    }

    /// The request for what follows the first `from` bytes, or for the whole if that is another by now; `None` where parts cannot be asked
    /// for.
    pub fn request(&self, request: &FillRequest, from: u64) -> Option<FillRequest> {
        if request.method != http::Method::GET {
            return None;
        }
        let range = HeaderValue::from_str(&format!("bytes={from}-")).ok()?;
        let mut request = request.clone();
        request.headers.extend([(RANGE, range), (IF_RANGE, self.validator.clone())]);
        Some(request)
    }

    /// Whether an answer brings what follows the first `from` bytes of this body, whose length is `length` where that is known. It may
    /// bring a part of that only.
    pub fn is_continued_by(&self, status: u16, headers: &HeaderMap, from: u64, length: Option<u64>) -> bool {
        let same = headers.get(&self.field) == Some(&self.validator);
        let fits = |(first, last, whole): (u64, u64, Option<u64>)| {
            let agrees = whole.is_none() || length.is_none() || whole == length;
            first == from && last >= first && length.or(whole).is_none_or(|length| last < length) && agrees
        };
        status == 206 && same && content_range(headers).is_some_and(fits)
    }

    /// The length of the whole body, where the answer with a part of it names that.
    pub fn whole_length(headers: &HeaderMap) -> Option<u64> {
        content_range(headers)?.2
    }
}

/// First, last and length of one `Content-Range` in bytes.
fn content_range(headers: &HeaderMap) -> Option<(u64, u64, Option<u64>)> {
    let mut fields = headers.get_all(CONTENT_RANGE).iter();
    let (Some(field), None) = (fields.next(), fields.next()) else { return None };
    let (unit, range) = field.to_str().ok()?.split_once(' ')?;
    let (bytes, whole) = range.split_once('/')?;
    let (first, last) = bytes.split_once('-')?;
    let whole = if whole == "*" { None } else { Some(number(whole)?) };
    unit.eq_ignore_ascii_case("bytes").then_some((number(first)?, number(last)?, whole))
}

fn number(digits: &str) -> Option<u64> {
    let all = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    if all { digits.parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn headers(list: &[(&'static str, &'static str)]) -> HeaderMap {
        list.iter().map(|(name, value)| (name.parse().unwrap(), HeaderValue::from_static(value))).collect()
    }

    fn tagged(tag: &'static str) -> Option<Resumption> {
        Resumption::of(&headers(&[("etag", tag)]))
    }

    #[test]
    fn only_what_a_strong_validator_recognises_is_gone_on_with() {
        assert!(tagged("\"v1\"").is_some());
        assert!(tagged("W/\"v1\"").is_none() && tagged("v1").is_none());
        let dated = |modified, date| Resumption::of(&headers(&[("last-modified", modified), ("date", date)]));
        let (one, two) = ("Wed, 21 Oct 2015 07:28:00 GMT", "Wed, 21 Oct 2015 07:28:01 GMT");
        assert!(dated(one, two).is_some());
        assert!(dated(one, one).is_none() && dated("x", two).is_none());
        assert!(Resumption::of(&headers(&[("last-modified", one)])).is_none());
        assert!(Resumption::of(&headers(&[("etag", "\"v1\""), ("accept-ranges", "none")])).is_none());
    }

    #[test]
    fn the_rest_is_asked_for_on_condition_that_it_is_of_the_same_body() {
        let resumption = tagged("\"v1\"").unwrap();
        let request =
            FillRequest { method: http::Method::GET, target: "/p".into(), headers: Vec::new(), body: Bytes::new() };
        let asked = resumption.request(&request, 7).unwrap();
        let expected = [(RANGE, HeaderValue::from_static("bytes=7-")), (IF_RANGE, HeaderValue::from_static("\"v1\""))];
        assert_eq!(asked.headers, expected);
        assert!(resumption.request(&FillRequest { method: http::Method::POST, ..request }, 7).is_none());
    }

    #[test]
    fn what_is_not_the_rest_of_the_same_body_is_not_joined_to_it() {
        let resumption = tagged("\"v1\"").unwrap();
        let joins = |status, tag, range, length| {
            resumption.is_continued_by(status, &headers(&[("etag", tag), ("content-range", range)]), 7, length)
        };
        for range in ["bytes 7-9/10", "bytes 7-8/10", "bytes 7-9/*", "Bytes 7-9/10"] {
            assert!(joins(206, "\"v1\"", range, Some(10)) && joins(206, "\"v1\"", range, None), "{range}");
        }
        for range in [
            "bytes 6-9/10",
            "bytes 7-9/11",
            "bytes 7-10/10",
            "bytes 7-6/10",
            "bytes */10",
            "lines 7-9/10",
            "",
            "bytes 7-+9/10",
        ] {
            assert!(!joins(206, "\"v1\"", range, Some(10)), "{range}");
        }
        assert!(!joins(200, "\"v1\"", "bytes 7-9/10", Some(10)) && !joins(206, "\"v2\"", "bytes 7-9/10", Some(10)));
        let untagged = headers(&[("content-range", "bytes 7-9/10")]);
        assert!(!resumption.is_continued_by(206, &untagged, 7, None));
        assert_eq!(Resumption::whole_length(&untagged), Some(10));
    }
}
