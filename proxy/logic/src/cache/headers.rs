//! Which of a core's headers an agent is given, and how a confirmation (304) changes those that are kept.

use bytes::Bytes;
use http::HeaderMap;
use http::header::{self, HeaderName, HeaderValue};

use super::conditional::is_entity_tag;
use super::directives::Directives;
use super::fill::Validators;
use super::tags::TAG_HEADERS;
use crate::Digest;
use crate::heap::{allocation, shared};

/// The part of a core's answer that is kept beside its body. Values are copies, all of them in one piece of memory: none holds on to the
/// buffer that the answer was read into, and each by itself would cost more in bookkeeping than in bytes.
#[derive(Clone, Debug)]
pub struct Kept {
    /// The headers that agents are given, those that a 304 repeats first.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// How many of `headers` a 304 repeats.
    pub in_not_modified: usize,
    /// Whether the entity tag is the node's: the core cannot be asked about it.
    pub own_tag: bool,
}

/// Where the entity tag of an answer comes from that the core gave none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TagFrom<'a> {
    /// There is none.
    Nowhere,
    /// A hash of these bytes: the body, of which parts can be asked for.
    Bytes(&'a Bytes),
    /// This hash of the body, which is not in memory.
    Digest(&'a Digest),
    /// There is none, as the body is still on its way; parts of it can be asked for all the same.
    Later,
}

impl Kept {
    /// The entity tag that agents are given.
    pub fn etag(&self) -> Option<&HeaderValue> {
        self.value(&header::ETAG)
    }

    /// The `Last-Modified` that agents are given.
    pub fn last_modified(&self) -> Option<&HeaderValue> {
        self.value(&header::LAST_MODIFIED)
    }

    /// The entity tag that the core gave.
    pub fn etag_of_core(&self) -> Option<&HeaderValue> {
        self.etag().filter(|_| !self.own_tag)
    }

    /// The entity tag by which the core may name the answer to someone who asks for another: a strong one, as a weak one may be that
    /// of several answers that are not the same bytes.
    pub fn strong_etag(&self) -> Option<&HeaderValue> {
        self.etag_of_core().filter(|tag| !tag.as_bytes().starts_with(b"W/"))
    }

    /// What the core can be asked to confirm.
    pub fn validators(&self) -> Validators {
        Validators { etag: self.etag_of_core().cloned(), last_modified: self.last_modified().cloned() }
    }

    /// Bytes of memory that the headers take, besides the structure itself.
    pub fn bytes(&self) -> usize {
        field_bytes(self.headers.iter().map(|(name, value)| (name, value)), self.headers.capacity())
    }

    fn value(&self, name: &HeaderName) -> Option<&HeaderValue> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value)
    }
}

/// Bytes of memory that headers take which are kept, in a list with room for so many.
pub(crate) fn field_bytes<'a>(fields: impl Iterator<Item = (&'a HeaderName, &'a HeaderValue)>, room: usize) -> usize {
    let (mut values, mut names) = (0, 0);
    for (name, value) in fields {
        values += value.len();
        names += if USUAL.contains(name) { 0 } else { shared(name.as_str().len()) };
    }
    allocation(room * size_of::<(HeaderName, HeaderValue)>()) + shared(values) + names
}

/// What is kept of a core's headers. Left out is what belongs to the connection (RFC 9110, section 7.6.1), what the writer sets
/// anew (`Date`, `Content-Length`, `Age`), `Accept-Ranges`, which is the node's to say, what would tie an agent to the core (`Alt-Svc`), cookies, as on a cached route an
/// answer is nobody's own, the fields that the core calls `private` or `no-cache` by name (RFC 9111, sections 5.2.2.4 and
/// 5.2.2.7), and the tags that it can be purged by, which are the node's.
pub fn kept(headers: &HeaderMap, tag: TagFrom<'_>) -> Kept {
    let listed = listed_by_connection(headers);
    let directives = Directives::of(headers);
    let withheld = |name: &HeaderName| listed.contains(name) || directives.withholds(name);
    let tag_of_core = headers.get(header::ETAG).filter(|_| !directives.withholds(&header::ETAG));
    let tag_of_core = tag_of_core.filter(|value| is_entity_tag(value.as_bytes()));
    let computed = match (tag_of_core, tag) {
        (None, TagFrom::Bytes(body)) => own_tag(xxhash_rust::xxh3::xxh3_128(body)),
        (None, TagFrom::Digest(digest)) => own_tag(first_half(digest)),
        _ => None,
    };
    let given = headers.iter().filter(|(name, _)| !is_left_out(name) && **name != header::ETAG && !withheld(name));
    let (mut list, others): (Vec<_>, Vec<_>) = given.partition(|(name, _)| is_in_not_modified(name));
    list.extend(tag_of_core.or(computed.as_ref()).map(|tag| (&header::ETAG, tag)));
    let in_not_modified = list.len();
    list.extend(others);
    let mut headers = copied(&list, usize::from(tag != TagFrom::Nowhere));
    if tag != TagFrom::Nowhere {
        headers.push((header::ACCEPT_RANGES, BYTES));
    }
    Kept { headers, in_not_modified, own_tag: tag_of_core.is_none() }
}

/// The headers of a kept answer after the core confirmed it (RFC 9111, sections 3.2 and 4.3.4): each field that the confirmation
/// names replaces the kept one, but for those that describe the body.
pub fn merged(kept: &Kept, confirmation: &HeaderMap) -> HeaderMap {
    let mut headers = HeaderMap::with_capacity(kept.headers.len() + confirmation.len());
    for (name, value) in kept.headers.iter().filter(|(name, _)| !(kept.own_tag && *name == header::ETAG)) {
        headers.append(name, value.clone());
    }
    for name in confirmation.keys().filter(|name| !DESCRIBES_THE_BODY.contains(name)) {
        headers.remove(name);
        for value in confirmation.get_all(name) {
            headers.append(name, value.clone());
        }
    }
    headers
}

/// The entity tag of a body without one: strong, because equal tags mean equal bytes on every node.
fn own_tag(hash: u128) -> Option<HeaderValue> {
    HeaderValue::from_str(&format!("\"x{hash:032x}\"")).ok()
}

fn first_half(digest: &Digest) -> u128 {
    digest.0.iter().take(16).fold(0, |number, byte| number << 8 | u128::from(*byte))
}

/// Whether a tag is one that the node made: the core cannot confirm it.
pub(crate) fn is_own_tag(tag: &HeaderValue) -> bool {
    let inside = tag.as_bytes().strip_prefix(b"\"x").and_then(|rest| rest.strip_suffix(b"\""));
    inside.is_some_and(|hash| hash.len() == 32 && hash.iter().all(u8::is_ascii_hexdigit))
}

/// The same fields with values in one piece of memory, and room for so many more.
fn copied(list: &[(&HeaderName, &HeaderValue)], more: usize) -> Vec<(HeaderName, HeaderValue)> {
    let all: Vec<&[u8]> = list.iter().map(|(_, value)| value.as_bytes()).collect();
    let mut rest = Bytes::from(all.concat());
    let mut copies = Vec::with_capacity(list.len() + more);
    for (name, value) in list {
        let copy = rest.split_to(value.len());
        let copy = HeaderValue::from_maybe_shared(copy).unwrap_or_else(|_| HeaderValue::clone(value));
        copies.push((HeaderName::clone(name), copy));
    }
    copies
}

fn listed_by_connection(headers: &HeaderMap) -> Vec<HeaderName> {
    let values = headers.get_all(header::CONNECTION).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).filter_map(|name| name.trim().parse().ok()).collect()
}

fn is_left_out(name: &HeaderName) -> bool {
    LEFT_OUT.contains(name) || LEFT_OUT_BY_NAME.contains(&name.as_str()) || TAG_HEADERS.contains(name)
}

fn is_in_not_modified(name: &HeaderName) -> bool {
    IN_NOT_MODIFIED.contains(name)
}

/// Names that take no memory of their own; others may.
const USUAL: [HeaderName; 15] = [
    header::ACCEPT_RANGES,
    header::CACHE_CONTROL,
    header::CONTENT_DISPOSITION,
    header::CONTENT_ENCODING,
    header::CONTENT_LANGUAGE,
    header::CONTENT_LOCATION,
    header::CONTENT_TYPE,
    header::ETAG,
    header::EXPIRES,
    header::LAST_MODIFIED,
    header::LOCATION,
    header::SERVER,
    header::STRICT_TRANSPORT_SECURITY,
    header::VARY,
    header::X_CONTENT_TYPE_OPTIONS,
];

const BYTES: HeaderValue = HeaderValue::from_static("bytes");

const LEFT_OUT: [HeaderName; 14] = [
    header::ACCEPT_RANGES,
    header::AGE,
    header::ALT_SVC,
    header::CONNECTION,
    header::CONTENT_LENGTH,
    header::DATE,
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    header::SET_COOKIE,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    header::WWW_AUTHENTICATE,
];

const LEFT_OUT_BY_NAME: [&str; 5] =
    ["keep-alive", "proxy-connection", "proxy-authentication-info", "set-cookie2", "authentication-info"];

/// RFC 9110, section 15.4.5, and `Last-Modified`, which agents that know no entity tags need.
const IN_NOT_MODIFIED: [HeaderName; 6] = [
    header::CACHE_CONTROL,
    header::CONTENT_LOCATION,
    header::ETAG,
    header::EXPIRES,
    header::LAST_MODIFIED,
    header::VARY,
];

const DESCRIBES_THE_BODY: [&HeaderName; 4] =
    [&header::CONTENT_ENCODING, &header::CONTENT_LENGTH, &header::CONTENT_RANGE, &header::CONTENT_TYPE];

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(list: &[(&'static str, &'static str)]) -> HeaderMap {
        list.iter().map(|(name, value)| (name.parse().unwrap(), HeaderValue::from_static(value))).collect()
    }

    fn names(kept: &Kept) -> Vec<&str> {
        kept.headers.iter().map(|(name, _)| name.as_str()).collect()
    }

    #[test]
    fn what_belongs_to_the_connection_or_to_one_agent_is_left_out() {
        let all = headers(&[
            ("connection", "close, X-Hop"),
            ("x-hop", "1"),
            ("keep-alive", "timeout=5"),
            ("transfer-encoding", "chunked"),
            ("content-length", "2"),
            ("date", "now"),
            ("age", "7"),
            ("set-cookie", "session=1"),
            ("alt-svc", "h3=\":443\""),
            ("content-type", "text/plain"),
            ("x-custom", "1"),
        ]);
        let kept = kept(&all, TagFrom::Nowhere);
        assert_eq!(names(&kept), ["content-type", "x-custom"]);
    }

    #[test]
    fn fields_that_are_private_or_no_cache_by_name_are_left_out() {
        let all = headers(&[
            ("cache-control", "private=\"x-who\", no-cache=\"x-when, etag\""),
            ("x-who", "1"),
            ("x-when", "2"),
            ("etag", "\"v\""),
            ("x-other", "3"),
        ]);
        let kept = kept(&all, TagFrom::Nowhere);
        assert_eq!(names(&kept), ["cache-control", "x-other"]);
        assert_eq!(kept.validators(), Validators::default());
    }

    #[test]
    fn a_304_repeats_the_first_of_the_kept_headers() {
        let all = headers(&[("content-type", "a/b"), ("etag", "\"v\""), ("cache-control", "max-age=1")]);
        let kept = kept(&all, TagFrom::Nowhere);
        assert_eq!(&names(&kept)[..kept.in_not_modified], ["cache-control", "etag"]);
        assert_eq!(kept.etag_of_core().unwrap(), "\"v\"");
    }

    #[test]
    fn a_body_without_a_tag_gets_one_from_its_bytes_that_the_core_is_not_asked_about() {
        let tag = |body: &'static str| {
            let kept = kept(&headers(&[("etag", "broken")]), TagFrom::Bytes(&Bytes::from(body)));
            assert_eq!(kept.validators(), Validators::default());
            kept.etag().unwrap().clone()
        };
        assert_eq!(tag("a"), tag("a"));
        assert_ne!(tag("a"), tag("b"));
        assert!(is_entity_tag(tag("a").as_bytes()));
    }

    #[test]
    fn a_confirmation_replaces_fields_but_not_those_that_describe_the_body() {
        let body = Bytes::from("a");
        let old = kept(&headers(&[("content-type", "a/b"), ("x", "1"), ("x", "2"), ("y", "3")]), TagFrom::Bytes(&body));
        let confirmation = headers(&[("content-type", "c/d"), ("content-encoding", "gzip"), ("x", "4"), ("age", "9")]);
        let merged = merged(&old, &confirmation);
        assert_eq!(merged.get("content-type").unwrap(), "a/b");
        assert_eq!(merged.get_all("x").iter().collect::<Vec<_>>(), ["4"]);
        assert_eq!(merged.get("y").unwrap(), "3");
        assert!(!merged.contains_key("content-encoding") && !merged.contains_key("etag"));
        assert_eq!(merged.get("age").unwrap(), "9");
    }
}
