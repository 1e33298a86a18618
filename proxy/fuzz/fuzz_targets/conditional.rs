//! An agent's condition: the held entity tag, the fields of `If-None-Match`, `If-Modified-Since` and `Last-Modified`,
//! each a section. A list that follows the grammar matches exactly the tags in it, and 304 is never said to a tag that
//! stands nowhere in the condition.

#![no_main]

use http::HeaderMap;
use http::header::{IF_MODIFIED_SINCE, IF_NONE_MATCH};
use libfuzzer_sys::fuzz_target;
use weir_config::Method;
use weir_fuzz::{field, sections};
use weir_logic::RequestView;
use weir_logic::cache::conditional::{is_current, is_entity_tag, weakly_equal};

fuzz_target!(|input: &str| {
    let mut input = sections(input);
    let mut next = || input.next().unwrap_or_default();
    let etag = field(next()).filter(|tag| is_entity_tag(tag.as_bytes()));
    let mut headers: HeaderMap = next().split('\n').filter_map(field).map(|value| (IF_NONE_MATCH, value)).collect();
    let lists: Vec<String> = headers
        .get_all(IF_NONE_MATCH)
        .iter()
        .map(|list| String::from_utf8_lossy(list.as_bytes()).into_owned())
        .collect();
    let (since, modified) = (field(next()), field(next()));
    headers.extend(since.clone().map(|since| (IF_MODIFIED_SINCE, since)));
    let ask = |method| {
        let request = RequestView { method, path: "/", query: None, host: "h", headers: &headers, body: b"" };
        is_current(&request, etag.as_ref(), modified.as_ref())
    };
    let current = ask(Method::Get);
    assert_eq!(ask(Method::Head), current);
    if let Some(etag) = &etag {
        assert!(weakly_equal(etag.as_bytes(), etag.as_bytes()));
    }
    if lists.is_empty() {
        assert!(!ask(Method::Post), "a date is no condition on POST");
        let date = |value: &Option<http::HeaderValue>| httpdate::parse_http_date(value.as_ref()?.to_str().ok()?).ok();
        assert_eq!(
            current,
            matches!((date(&since), date(&modified)), (Some(since), Some(modified)) if modified <= since)
        );
        return;
    }
    assert_eq!(ask(Method::Post), current);
    let held = etag.as_ref().map(|tag| String::from_utf8_lossy(tag.as_bytes()).into_owned());
    let opaque = held.as_deref().map(|tag| tag.strip_prefix("W/").unwrap_or(tag));
    let star = lists.iter().any(|list| list.trim_matches([' ', '\t']) == "*");
    if current {
        assert!(
            star || opaque.is_some_and(|opaque| lists.iter().any(|list| list.contains(opaque))),
            "304 out of nowhere"
        );
    }
    let read: Option<Vec<Vec<&str>>> = lists.iter().map(|list| tags(list)).collect();
    if let Some(read) = read {
        let listed = opaque.is_some_and(|opaque| read.iter().flatten().any(|tag| *tag == opaque));
        assert_eq!(current, star || listed, "a list by the grammar is read another way");
    }
});

/// The opaque tags of a list (RFC 9110, sections 5.6.1 and 8.8.3), `None` when it does not follow the grammar. `*` lists
/// none.
fn tags(list: &str) -> Option<Vec<&str>> {
    let mut tags = Vec::new();
    let mut rest = list.trim_matches([' ', '\t']);
    if rest == "*" {
        return Some(tags);
    }
    loop {
        rest = rest.trim_start_matches([' ', '\t']);
        if let Some(after) = rest.strip_prefix(',') {
            rest = after;
            continue;
        }
        if rest.is_empty() {
            return Some(tags);
        }
        rest = rest.strip_prefix("W/").unwrap_or(rest);
        let inner = rest.strip_prefix('"')?;
        let end = inner.find('"')?;
        if inner[..end].chars().any(|c| c == ' ' || c == '\t' || c.is_ascii_control()) {
            return None;
        }
        tags.push(&rest[..end + 2]);
        rest = inner[end + 1..].trim_start_matches([' ', '\t']);
        if !rest.is_empty() && !rest.starts_with(',') {
            return None;
        }
    }
}
