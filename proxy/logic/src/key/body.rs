//! Values of a JSON body by pointer (RFC 6901), read so that no other reader of the same body can find another value.

use std::borrow::Cow;
use std::collections::HashSet;
use std::fmt;

use bytes::Bytes;
use serde::de::{DeserializeSeed, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize as _, Deserializer as _};
use serde_json::value::RawValue;
use weir_config::Method;

use super::KeyError;
use crate::{Call, RequestView};

/// A value found in a body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Pointed<'a> {
    /// A string, decoded.
    Text(String),
    /// Anything else, as its JSON text was sent: numbers keep their digits, objects their order.
    Json(&'a str),
}

impl Pointed<'_> {
    pub(super) fn tag(&self) -> u8 {
        match self {
            Self::Text(_) => b's',
            Self::Json(_) => b'j',
        }
    }

    pub(super) fn text(&self) -> &str {
        match self {
            Self::Text(text) => text,
            Self::Json(text) => text,
        }
    }

    pub(super) fn into_text(self) -> String {
        match self {
            Self::Text(text) => text,
            Self::Json(text) => text.to_owned(),
        }
    }
}

/// The value at `pointer` in the body of a `POST`; `None` when the body has none or the method has no body.
///
/// The whole body must be one JSON value. A member named twice along the pointer, or one whose name differs from the pointer's in
/// case only, is refused: readers disagree on which counts. Memory: the value found. Stack: constant, however deep the body.
/// Time: the body's length times the pointer's depth.
pub fn pointed<'a>(request: &RequestView<'a>, pointer: &str) -> Result<Option<Pointed<'a>>, KeyError> {
    if request.method != Method::Post {
        return Ok(None);
    }
    require_plain(request)?;
    pointed_in(request.body, pointer)
}

/// The value at `pointer` in a JSON text, under the same rules.
pub fn pointed_in<'a>(json: &'a [u8], pointer: &str) -> Result<Option<Pointed<'a>>, KeyError> {
    let Some(value) = value_at(json, pointer)? else { return Ok(None) };
    let text = value.get();
    if text.starts_with('"') {
        return serde_json::from_str(text).map(|text| Some(Pointed::Text(text))).map_err(|_| KeyError::BadBody);
    }
    Ok(Some(Pointed::Json(text)))
}

/// The members of the list or object at `pointer` in a JSON text, under the same rules; every name of an object must be there once. None
/// where it has nothing there, or something else.
pub fn members_in<'a>(json: &'a [u8], pointer: &str) -> Result<Vec<&'a str>, KeyError> {
    let Some(value) = value_at(json, pointer)? else { return Ok(Vec::new()) };
    let mut reader = serde_json::Deserializer::from_str(value.get());
    let members: Vec<&'a RawValue> = match value.get().as_bytes().first() {
        Some(b'{') => reader.deserialize_map(AllMembers),
        Some(b'[') => Vec::deserialize(&mut reader),
        _ => return Ok(Vec::new()),
    }
    .map_err(|_| KeyError::BadBody)?;
    Ok(members.into_iter().map(RawValue::get).collect())
}

/// The JSON text with nothing at `pointer`, under the same rules: an empty string where there was a string, else `null`. As it was
/// where it has nothing there.
pub fn emptied(json: &[u8], pointer: &str) -> Result<Bytes, KeyError> {
    let Some(value) = value_at(json, pointer)? else { return Ok(Bytes::copy_from_slice(json)) };
    let value = value.get();
    let start = value.as_ptr().addr() - json.as_ptr().addr();
    let nothing: &[u8] = if value.starts_with('"') { b"\"\"" } else { b"null" };
    Ok([&json[..start], nothing, &json[start + value.len()..]].concat().into())
}

fn value_at<'a>(json: &'a [u8], pointer: &str) -> Result<Option<&'a RawValue>, KeyError> {
    let mut value: &'a RawValue = serde_json::from_slice(json).map_err(|_| KeyError::BadBody)?;
    for token in pointer.split('/').skip(1) {
        let token = unescaped(token);
        let Some(inner) = step(value.get(), &token)? else { return Ok(None) };
        value = inner;
    }
    Ok(Some(value))
}

/// Refuses a `POST` whose body travels in an encoding.
pub fn require_plain_body(call: &Call<'_>) -> Result<(), KeyError> {
    require_plain(&call.request)
}

fn require_plain(request: &RequestView<'_>) -> Result<(), KeyError> {
    if request.method != Method::Post {
        return Ok(());
    }
    let encoded = request.headers.values("content-encoding").any(|value| !value.eq_ignore_ascii_case(b"identity"));
    if encoded { Err(KeyError::EncodedBody) } else { Ok(()) }
}

/// RFC 6901, section 4: `~1` is `/` and `~0` is `~`, in this order.
fn unescaped(token: &str) -> Cow<'_, str> {
    if token.contains('~') { Cow::Owned(token.replace("~1", "/").replace("~0", "~")) } else { Cow::Borrowed(token) }
}

fn step<'a>(text: &'a str, token: &str) -> Result<Option<&'a RawValue>, KeyError> {
    let mut reader = serde_json::Deserializer::from_str(text);
    match text.as_bytes().first() {
        Some(b'{') => reader.deserialize_map(Member(token)).map_err(|_| KeyError::BadBody),
        Some(b'[') => match index(token) {
            Some(index) => reader.deserialize_seq(Element(index)).map_err(|_| KeyError::BadBody),
            None => Ok(None),
        },
        _ => Ok(None),
    }
}

/// An array index: decimal digits without a leading zero (RFC 6901, section 4).
fn index(token: &str) -> Option<usize> {
    let canonical = token == "0" || !token.starts_with('0');
    (canonical && token.bytes().all(|byte| byte.is_ascii_digit())).then(|| token.parse().ok())?
}

struct Member<'t>(&'t str);

impl<'de> Visitor<'de> for Member<'_> {
    type Value = Option<&'de RawValue>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object whose names are told apart by more than case")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut found = None;
        while let Some(likeness) = map.next_key_seed(Name(self.0))? {
            match likeness {
                Likeness::None => {
                    map.next_value::<IgnoredAny>()?;
                }
                Likeness::Same if found.is_none() => found = Some(map.next_value()?),
                Likeness::Same | Likeness::CaseOnly => return Err(serde::de::Error::custom("ambiguous name")),
            }
        }
        Ok(found)
    }
}

struct AllMembers;

impl<'de> Visitor<'de> for AllMembers {
    type Value = Vec<&'de RawValue>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object whose names are told apart by more than case")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let (mut names, mut members) = (HashSet::new(), Vec::new());
        while let Some(name) = map.next_key::<String>()? {
            if !names.insert(name.to_ascii_lowercase()) {
                return Err(serde::de::Error::custom("ambiguous name"));
            }
            members.push(map.next_value()?);
        }
        Ok(members)
    }
}

struct Name<'t>(&'t str);

enum Likeness {
    Same,
    CaseOnly,
    None,
}

impl<'de> DeserializeSeed<'de> for Name<'_> {
    type Value = Likeness;

    fn deserialize<D: serde::Deserializer<'de>>(self, deserializer: D) -> Result<Likeness, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for Name<'_> {
    type Value = Likeness;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a name")
    }

    fn visit_str<E>(self, name: &str) -> Result<Likeness, E> {
        Ok(if name == self.0 {
            Likeness::Same
        } else if name.eq_ignore_ascii_case(self.0) {
            Likeness::CaseOnly
        } else {
            Likeness::None
        })
    }
}

struct Element(usize);

impl<'de> Visitor<'de> for Element {
    type Value = Option<&'de RawValue>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        let mut found = None;
        let mut at = 0_usize;
        loop {
            if at == self.0 {
                found = seq.next_element()?;
                if found.is_none() {
                    return Ok(None);
                }
            } else if seq.next_element::<IgnoredAny>()?.is_none() {
                return Ok(found);
            }
            at += 1;
        }
    }
}
