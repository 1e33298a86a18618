//! Whether an agent holds the answer already (RFC 9110, section 13).

use http::header::{HeaderValue, IF_MODIFIED_SINCE, IF_NONE_MATCH};
use weir_config::Method;

use crate::RequestView;

/// Whether the request has a condition at all: most have none, and then the answer need not be looked at.
pub fn has_condition(request: &RequestView<'_>) -> bool {
    [IF_NONE_MATCH, IF_MODIFIED_SINCE].iter().any(|name| request.headers.known(name).is_some())
}

/// Whether the agent's condition says that it holds the answer, so that 304 is enough.
///
/// `If-None-Match` is compared weakly; `*` matches whatever there is. `If-Modified-Since` counts for `GET` and `HEAD` only, when
/// `If-None-Match` is absent, the date is valid and the answer has a `Last-Modified`. A `POST` whose `If-None-Match` matches is
/// answered 304 as well: RFC 9110 would have 412, but agents that fetch their configuration by `POST` understand 304, and no
/// state changes. The caller asks this for successful answers only.
pub fn is_current(request: &RequestView<'_>, etag: Option<&HeaderValue>, last_modified: Option<&HeaderValue>) -> bool {
    let mut tags = request.headers.values("if-none-match").peekable();
    if tags.peek().is_some() {
        return tags.any(|list| lists(list, etag.map(HeaderValue::as_bytes)));
    }
    if !matches!(request.method, Method::Get | Method::Head) {
        return false;
    }
    let date = |bytes: &[u8]| std::str::from_utf8(bytes).ok().and_then(|text| httpdate::parse_http_date(text).ok());
    let since = request.headers.first("if-modified-since").and_then(date);
    let modified = last_modified.and_then(|value| date(value.as_bytes()));
    matches!((since, modified), (Some(since), Some(modified)) if modified <= since)
}

/// Whether two entity tags are equal by weak comparison (RFC 9110, section 8.8.3.2).
pub fn weakly_equal(left: &[u8], right: &[u8]) -> bool {
    opaque(left) == opaque(right)
}

/// Whether `tag` looks like an entity tag: quotes around bytes that are neither quotes nor controls (RFC 9110, section 8.8.3).
pub fn is_entity_tag(tag: &[u8]) -> bool {
    opaque(tag)
        .strip_prefix(b"\"")
        .and_then(|rest| rest.strip_suffix(b"\""))
        .is_some_and(|inner| inner.iter().all(|byte| matches!(byte, 0x21 | 0x23..=0x7e | 0x80..)))
}

fn opaque(tag: &[u8]) -> &[u8] {
    tag.strip_prefix(b"W/").unwrap_or(tag)
}

/// Whether a field value of `If-None-Match` is `*` or lists a tag equal to `held`.
fn lists(list: &[u8], held: Option<&[u8]>) -> bool {
    if list.trim_ascii() == b"*" {
        return true;
    }
    let Some(held) = held else { return false };
    let mut rest = list;
    while let Some((tag, after)) = next_tag(rest) {
        if weakly_equal(tag, held) {
            return true;
        }
        rest = after;
    }
    false
}

/// The next tag of a list and what follows it. Commas inside a tag's quotes are part of it; what is no tag is passed over.
fn next_tag(list: &[u8]) -> Option<(&[u8], &[u8])> {
    let start = list.iter().position(|byte| !matches!(byte, b' ' | b'\t' | b','))?;
    let list = &list[start..];
    let quote = list.iter().position(|byte| *byte == b'"').filter(|at| matches!(&list[..*at], b"" | b"W/"));
    let end = match quote {
        Some(open) => list[open + 1..].iter().position(|byte| *byte == b'"').map(|length| open + length + 2),
        None => list.iter().position(|byte| *byte == b','),
    };
    Some(list.split_at(end.unwrap_or(list.len())))
}

#[cfg(test)]
mod tests {
    use http::HeaderMap;

    use super::*;

    fn ask(method: Method, headers: &[(&'static str, &'static str)], etag: Option<&'static str>) -> bool {
        let headers: HeaderMap =
            headers.iter().map(|(name, value)| (name.parse().unwrap(), HeaderValue::from_static(value))).collect();
        let request = RequestView { method, path: "/", query: None, host: "h", headers: &headers, body: b"" };
        let modified = HeaderValue::from_static("Wed, 21 Oct 2015 07:28:00 GMT");
        is_current(&request, etag.map(HeaderValue::from_static).as_ref(), Some(&modified))
    }

    fn none_match(list: &'static str) -> bool {
        ask(Method::Get, &[("if-none-match", list)], Some("\"v7\""))
    }

    #[test]
    fn tags_are_compared_weakly_in_lists_with_commas_inside_quotes() {
        for list in ["\"v7\"", "W/\"v7\"", "\"a,b\", \"v7\"", ",, W/\"x\",\"v7\"", "*", " * ", "junk, \"v7\""] {
            assert!(none_match(list), "{list}");
        }
        for list in ["\"v8\"", "v7", "", "\"a,\"v7\",b\"x", "\"v7", "w/\"v7\"", "\"v7 \""] {
            assert!(!none_match(list), "{list}");
        }
    }

    #[test]
    fn a_star_matches_an_answer_without_a_tag_and_a_list_does_not() {
        assert!(ask(Method::Get, &[("if-none-match", "*")], None));
        assert!(!ask(Method::Get, &[("if-none-match", "\"v7\"")], None));
    }

    #[test]
    fn dates_count_only_without_tags_for_reads_and_when_valid() {
        let same = ("if-modified-since", "Wed, 21 Oct 2015 07:28:00 GMT");
        assert!(ask(Method::Get, &[same], None));
        assert!(ask(Method::Head, &[same], None));
        assert!(!ask(Method::Post, &[same], None));
        assert!(!ask(Method::Get, &[same, ("if-none-match", "\"x\"")], Some("\"v7\"")));
        assert!(!ask(Method::Get, &[("if-modified-since", "Wed, 21 Oct 2015 07:27:59 GMT")], None));
        assert!(!ask(Method::Get, &[("if-modified-since", "yesterday")], None));
    }

    #[test]
    fn a_post_whose_tag_matches_is_current() {
        assert!(ask(Method::Post, &[("if-none-match", "\"v7\"")], Some("W/\"v7\"")));
    }

    #[test]
    fn entity_tags_are_recognised() {
        for tag in ["\"\"", "\"v7\"", "W/\"v7\""] {
            assert!(is_entity_tag(tag.as_bytes()), "{tag}");
        }
        for tag in ["", "v7", "\"", "\"a\"b\"", "w/\"v\"", "\"a b\""] {
            assert!(!is_entity_tag(tag.as_bytes()), "{tag}");
        }
    }
}
