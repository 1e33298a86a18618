//! The bulk lookup contract, version 1: what is asked and how the answer is read. `proxy/CONTRACTS.md` has it in full.

use std::borrow::Cow;
use std::time::Duration;

use bytes::Bytes;
use http::header::HeaderValue;
use serde::ser::SerializeMap;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::value::RawValue;

use crate::cache::conditional::is_entity_tag;
use crate::cache::purge::{Mark, Marks};
use crate::cache::tags::is_tag;
use crate::key::NamedValue;

/// One key's answer as the core gave it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyAnswer {
    /// The status.
    pub status: u16,
    /// The validator for later requests.
    pub etag: Option<HeaderValue>,
    /// The time for which the core asks that the answer be kept.
    pub ttl: Option<Duration>,
    /// The time after which a failed key may be asked for again.
    pub retry_after: Option<Duration>,
    /// The body's media type; `None` when there is no body.
    pub content_type: Option<HeaderValue>,
    /// The body.
    pub body: Bytes,
    /// What the answer can be purged by; `None` when the core said nothing of it.
    pub tags: Option<Box<[Mark]>>,
}

/// A key as the core is asked for it, written once however often that happens.
#[derive(Clone, Debug)]
pub struct KeyText(Box<RawValue>);

/// What an answer means for its key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Meaning {
    /// This is the answer.
    Answer,
    /// What the node holds is current.
    Unchanged,
    /// The core has no answer for now.
    Failed,
}

/// The bulk answer is not what the contract says: every key has failed.
#[derive(Debug)]
pub struct BulkError(serde_json::Error);

impl std::fmt::Display for BulkError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "not a bulk answer: {}", self.0)
    }
}

impl std::error::Error for BulkError {}

impl KeyAnswer {
    /// An answer of this status and nothing else.
    pub const fn of_status(status: u16) -> Self {
        Self { status, etag: None, ttl: None, retry_after: None, content_type: None, body: Bytes::new(), tags: None }
    }

    /// What the status says: 200 to 299, 404 and 410 are answers, 304 confirms, anything else is a failure.
    pub const fn meaning(&self) -> Meaning {
        match self.status {
            200..=299 | 404 | 410 => Meaning::Answer,
            304 => Meaning::Unchanged,
            _ => Meaning::Failed,
        }
    }
}

impl KeyText {
    /// The key of these parts.
    pub fn new(parts: &[NamedValue]) -> Self {
        Self(serde_json::value::to_raw_value(&Parts(parts)).expect("a map of strings serializes"))
    }

    /// Bytes of memory.
    pub fn len(&self) -> usize {
        self.0.get().len()
    }

    /// Never: a key is at least an empty object.
    pub fn is_empty(&self) -> bool {
        self.0.get().is_empty()
    }
}

/// The bulk request for `keys`, in order: the id of a key is its place. A key comes with the validator of the answer that the
/// node holds, if it holds one.
pub fn question<'a>(
    edge: &str,
    route: &str,
    keys: impl Iterator<Item = (&'a KeyText, Option<&'a HeaderValue>)>,
) -> Vec<u8> {
    let keys = keys.enumerate().map(|(id, (text, etag))| Key {
        id,
        key: &text.0,
        etag: etag.and_then(|tag| tag.to_str().ok()),
    });
    let question = Question { version: 1, edge, route, keys: keys.collect() };
    serde_json::to_vec(&question).expect("strings and numbers serialize, and a vector takes every byte")
}

/// Reads a bulk answer to `count` keys: for each its answer, `None` where the core gave none. Bodies are parts of `body`, not
/// copies. Memory beside that: one `KeyAnswer` for each item that the core sent; depth is bounded by the parser.
pub fn answers(body: &Bytes, count: usize) -> Result<Vec<Option<KeyAnswer>>, BulkError> {
    if !body.trim_ascii_start().starts_with(b"{") {
        // An array would otherwise pass for an object with its members in order.
        return Err(BulkError(serde::de::Error::custom("no object")));
    }
    let reply: Reply<'_> = serde_json::from_slice(body).map_err(BulkError)?;
    let others = reply.others.map(|item| item.answer(body));
    let mut list = vec![others; count];
    let mut answered = vec![false; count];
    for item in reply.answers {
        let Some(id) = usize::try_from(item.id).ok().filter(|&id| id < count) else { continue };
        // Of two answers to one key the first counts.
        if !std::mem::replace(&mut answered[id], true) {
            list[id] = Some(item.content.answer(body));
        }
    }
    Ok(list)
}

#[derive(Serialize)]
struct Question<'a> {
    version: u32,
    edge: &'a str,
    route: &'a str,
    keys: Vec<Key<'a>>,
}

#[derive(Serialize)]
struct Key<'a> {
    id: usize,
    key: &'a RawValue,
    #[serde(skip_serializing_if = "Option::is_none")]
    etag: Option<&'a str>,
}

struct Parts<'a>(&'a [NamedValue]);

impl Serialize for Parts<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (name, value) in self.0 {
            map.serialize_entry(name, value)?;
        }
        map.end()
    }
}

#[derive(Deserialize)]
struct Reply<'a> {
    #[serde(borrow)]
    answers: Vec<Item<'a>>,
    #[serde(borrow, default)]
    others: Option<Content<'a>>,
}

struct Item<'a> {
    id: u64,
    content: Content<'a>,
}

/// `id` and the rest stand side by side in the JSON; `serde(flatten)` would copy every body.
impl<'de: 'a, 'a> Deserialize<'de> for Item<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let content = Content::deserialize(deserializer)?;
        let id = content.id.ok_or_else(|| serde::de::Error::missing_field("id"))?;
        Ok(Self { id, content })
    }
}

#[derive(Deserialize)]
struct Content<'a> {
    #[serde(default)]
    id: Option<u64>,
    status: u16,
    #[serde(borrow, default)]
    etag: Option<Cow<'a, str>>,
    #[serde(default)]
    ttl: Option<f64>,
    #[serde(default)]
    retry_after: Option<f64>,
    #[serde(borrow, default)]
    content_type: Option<Cow<'a, str>>,
    #[serde(borrow, default, deserialize_with = "present")]
    body: Option<&'a RawValue>,
    #[serde(borrow, default)]
    text: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    tags: Option<Vec<Cow<'a, str>>>,
}

/// `"body": null` is a body, the JSON value `null`.
fn present<'de: 'a, 'a, D: Deserializer<'de>>(deserializer: D) -> Result<Option<&'a RawValue>, D::Error> {
    <&RawValue>::deserialize(deserializer).map(Some)
}

impl Content<'_> {
    fn answer(self, whole: &Bytes) -> KeyAnswer {
        let has_body = !matches!(self.status, 204 | 205 | 304);
        let (usual_type, body) = match (self.text, self.body) {
            (Some(Cow::Borrowed(text)), _) if has_body => (Some(TEXT), whole.slice_ref(text.as_bytes())),
            (Some(Cow::Owned(text)), _) if has_body => (Some(TEXT), Bytes::from(text)),
            (None, Some(body)) if has_body => (Some(JSON), whole.slice_ref(body.get().as_bytes())),
            _ => (None, Bytes::new()),
        };
        let given_type = self.content_type.and_then(|given| HeaderValue::from_str(&given).ok());
        let etag = self.etag.filter(|tag| is_entity_tag(tag.as_bytes()));
        KeyAnswer {
            status: self.status,
            etag: etag.and_then(|tag| HeaderValue::from_str(&tag).ok()),
            ttl: self.ttl.map(seconds),
            retry_after: self.retry_after.map(seconds),
            content_type: usual_type.map(|usual| given_type.unwrap_or(usual)),
            body,
            tags: self.tags.map(|tags| marks(&tags)),
        }
    }
}

/// The marks of the tags that can be tags, up to as many as an answer may have.
fn marks(tags: &[Cow<'_, str>]) -> Box<[Mark]> {
    tags.iter().filter(|tag| is_tag(tag)).take(Marks::MAX_TAGS).map(|tag| Mark::tag(tag)).collect()
}

/// Negative, absurd and missing numbers of seconds are brought into what a year can hold.
fn seconds(number: f64) -> Duration {
    Duration::from_secs_f64(if number.is_nan() { 0.0 } else { number.clamp(0.0, 31_536_000.0) })
}

const JSON: HeaderValue = HeaderValue::from_static("application/json");
const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(text: &'static str, count: usize) -> Vec<Option<KeyAnswer>> {
        answers(&Bytes::from_static(text.as_bytes()), count).unwrap()
    }

    /// The examples that the core's teams read.
    #[test]
    fn the_documented_exchange_is_the_codes() {
        let document = include_str!("../../../CONTRACTS.md");
        let part = |name, value: Option<&str>| (Cow::Borrowed(name), value.map(str::to_owned));
        let first = [part("identity.tenant", Some("t-1")), part("query.os", None)];
        let second = [part("identity.tenant", Some("t\"2"))];
        let etag = HeaderValue::from_static("\"v7\"");
        let texts = [KeyText::new(&first), KeyText::new(&second)];
        let keys = texts.iter().zip([None, Some(&etag)]);
        let asked = String::from_utf8(question("edge-1", "tasks", keys)).unwrap();
        assert!(document.lines().any(|line| line == asked), "{asked}");

        let answered = document.lines().find(|line| line.starts_with("{\"answers\"")).unwrap();
        let list = read(answered, 4);
        let statuses: Vec<_> = list.iter().flatten().map(|answer| answer.status).collect();
        assert_eq!(statuses, [200, 304, 503, 204]);
        assert_eq!(list[0].as_ref().unwrap().body, "{\"tasks\":[]}");
    }

    #[test]
    fn bodies_are_taken_as_they_stand() {
        let list = read(
            r#"{"answers":[{"id":1,"status":200,"etag":"\"v7\"","ttl":60,"body":{"b":1, "a":[ 2]}},{"id":0,"status":200,"text":"a\nb"},
               {"id":2,"status":200,"body":null},{"id":3,"status":200,"content_type":"text/css","text":"x"}]}"#,
            4,
        );
        let bodies: Vec<_> = list.iter().flatten().map(|answer| &answer.body[..]).collect();
        assert_eq!(bodies, [&b"a\nb"[..], br#"{"b":1, "a":[ 2]}"#, b"null", b"x"]);
        let types: Vec<_> = list.iter().flatten().map(|answer| answer.content_type.clone().unwrap()).collect();
        assert_eq!(types, ["text/plain; charset=utf-8", "application/json", "application/json", "text/css"]);
        let second = list[1].as_ref().unwrap();
        assert_eq!(
            (second.etag.clone().unwrap(), second.ttl),
            ("\"v7\"".parse().unwrap(), Some(Duration::from_secs(60)))
        );
    }

    #[test]
    fn others_answer_what_is_not_listed() {
        let list = read(
            r#"{"answers":[{"id":1,"status":503,"retry_after":5},{"id":9,"status":200}],"others":{"status":204}}"#,
            3,
        );
        let statuses: Vec<_> = list.iter().flatten().map(|answer| answer.status).collect();
        assert_eq!(statuses, [204, 503, 204]);
        assert_eq!(list[1].as_ref().unwrap().retry_after, Some(Duration::from_secs(5)));
        assert_eq!(read(r#"{"answers":[{"id":0,"status":204}]}"#, 2)[1], None);
    }

    #[test]
    fn the_first_of_two_answers_counts() {
        let list = read(r#"{"answers":[{"id":0,"status":204},{"id":0,"status":200}]}"#, 1);
        assert_eq!(list[0].as_ref().unwrap().status, 204);
    }

    #[test]
    fn statuses_mean_what_the_contract_says() {
        let meanings: Vec<_> =
            [200, 204, 304, 404, 410, 401, 403, 429, 500].map(|s| KeyAnswer::of_status(s).meaning()).into();
        use Meaning::{Answer, Failed, Unchanged};
        assert_eq!(meanings, [Answer, Answer, Unchanged, Answer, Answer, Failed, Failed, Failed, Failed]);
    }

    #[test]
    fn what_is_no_bulk_answer_is_an_error() {
        for text in
            ["", "[]", "[[]]", "{}", r#"{"answers":[{"status":200}]}"#, r#"{"answers":[{"id":0}]}"#, "\u{7f}ELF"]
        {
            assert!(answers(&Bytes::copy_from_slice(text.as_bytes()), 1).is_err(), "{text}");
        }
        let deep = format!(r#"{{"answers":[{{"id":0,"status":200,"body":{}}}]}}"#, "[".repeat(1 << 20));
        assert!(answers(&Bytes::from(deep), 1).is_err());
    }

    #[test]
    fn tags_are_marks_and_what_can_be_no_tag_is_passed_over() {
        let list = read(r#"{"answers":[{"id":0,"status":204,"tags":["r-7","no tag",""]},{"id":1,"status":204}]}"#, 2);
        let tags: Vec<_> = list.into_iter().flatten().map(|answer| answer.tags).collect();
        assert_eq!(tags, [Some(Box::from([Mark::tag("r-7")])), None]);
    }

    #[test]
    fn a_wrong_validator_is_dropped() {
        let list =
            read(r#"{"answers":[{"id":0,"status":200,"etag":"v7"},{"id":1,"status":200,"etag":"\"a\nb\""}]}"#, 2);
        assert!(list.iter().flatten().all(|answer| answer.etag.is_none()));
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..200), count in 0_usize..4) {
            if let Ok(list) = answers(&Bytes::from(bytes), count) {
                prop_assert_eq!(list.len(), count);
            }
        }

        #[test]
        fn whatever_the_core_says_is_read_or_refused(status in any::<u16>(), ttl in any::<f64>(), text in ".*") {
            let reply = serde_json::json!({"answers": [{"id": 0, "status": status, "ttl": ttl, "text": text}]}).to_string();
            let list = answers(&Bytes::from(reply), 1).unwrap();
            let answer = list[0].clone().unwrap();
            prop_assert_eq!(answer.status, status);
            if ![204, 205, 304].contains(&status) {
                prop_assert_eq!(&answer.body[..], text.as_bytes());
            }
        }
    }
}
