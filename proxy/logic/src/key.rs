//! The key of an answer: what must be equal in two requests for one answer to serve both.
//!
//! Nothing is in a key unless the operator named it, but for the route, the method and, unless the route is shared, the tenant.
//! A key is an unambiguous encoding of names and values as they were sent: percent-encoding is not interpreted, so what is in
//! the key is byte for byte what a fill sends, and no two spellings that a core might read differently share an answer.
//!
//! Not here: what becomes of the answer (`cache`, `lookup`), and the checks on the request as such (`strict`).

mod body;

use std::borrow::{Borrow, Cow};
use std::fmt;
use std::ops::Deref;

use arrayvec::ArrayVec;
use bytes::Bytes;
use weir_config::{KeyPart, Method};

pub use body::{Pointed, emptied, members_in, pointed, pointed_in, require_plain_body};

use crate::{Call, Refusal, TenantId};

/// What tells one answer from another. Two keys are equal exactly when route, path pattern, method (`HEAD` counts as `GET`),
/// scope, and every declared part are. Memory: the declared values, at most the request's own size, and some tens of bytes.
/// Cloning shares the bytes.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CacheKey {
    bytes: Bytes,
}

/// Who may be given the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Anyone: the route is `shared`.
    Shared,
    /// Agents of the tenant that asked.
    Tenant,
}

/// Why a request has no key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum KeyError {
    /// The key needs a tenant or an agent that the request does not name.
    Unidentified,
    /// A declared header is not text.
    NotText,
    /// The body is not one JSON value, or a declared pointer can be read in two ways.
    BadBody,
    /// The body travels in an encoding; keys are taken from plain JSON only.
    EncodedBody,
}

impl CacheKey {
    /// The key of `call` by its route's declared `parts`.
    pub fn of(parts: &[KeyPart], scope: Scope, call: &Call<'_>) -> Result<Self, KeyError> {
        Self::encoded(parts, scope, call).map(|encoding| encoding.key())
    }

    /// The encoding of that key: enough to look for it, without the memory of a key that is kept.
    pub fn encoded(parts: &[KeyPart], scope: Scope, call: &Call<'_>) -> Result<Encoding, KeyError> {
        let mut encoder = Encoding::default();
        encoder.text(&call.route.name);
        encoder.text(&call.route.path.text);
        encoder.tag(method_tag(call.request.method));
        match scope {
            Scope::Shared => encoder.tag(0),
            Scope::Tenant => {
                encoder.tag(1);
                encoder.text(tenant(call)?.as_str());
            }
        }
        for part in parts {
            encoder.part(part, call)?;
        }
        Ok(encoder)
    }

    /// The key of one of several answers of this key, by the headers that it was chosen by. No two lists of headers give the same, and
    /// none gives a key that [`CacheKey::of`] gives.
    #[must_use]
    pub fn variant<'a>(&self, fields: impl Iterator<Item = (&'a str, Option<&'a [u8]>)>) -> Self {
        let mut encoder = Encoding::default();
        encoder.put(&self.bytes);
        for (name, value) in fields {
            encoder.tag(b'v');
            encoder.text(name);
            encoder.number(usize::from(value.is_some()));
            if let Some(value) = value {
                encoder.bytes(value);
            }
        }
        encoder.key()
    }

    /// The key whose encoding this is.
    pub fn restored(encoding: Vec<u8>) -> Self {
        Self { bytes: Bytes::from(encoding) }
    }

    /// The length of the encoding in bytes.
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Never: the route's name is always in.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// The encoding.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// A 128-bit hash (XXH3), the same on every node: for names, samples and spreads. Not proof against crafted collisions, so
    /// never a stand-in for the key.
    pub fn digest(&self) -> u128 {
        digest(&self.bytes)
    }
}

/// The digest of the key that has this encoding ([`CacheKey::digest`]).
pub fn digest(encoding: &[u8]) -> u128 {
    xxhash_rust::xxh3::xxh3_128(encoding)
}

/// So that a table of keys can be asked with an encoding.
impl Borrow<[u8]> for CacheKey {
    fn borrow(&self) -> &[u8] {
        &self.bytes
    }
}

impl fmt::Debug for CacheKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CacheKey({:032x})", self.digest())
    }
}

impl Scope {
    /// The scope of a route whose `shared` says so.
    pub const fn of(shared: bool) -> Self {
        if shared { Self::Shared } else { Self::Tenant }
    }
}

impl From<KeyError> for Refusal {
    fn from(error: KeyError) -> Self {
        match error {
            KeyError::Unidentified => Self::Unidentified,
            KeyError::NotText => Self::Malformed,
            KeyError::BadBody => Self::BadBody,
            KeyError::EncodedBody => Self::UnsupportedEncoding,
        }
    }
}

impl KeyError {
    /// The cause for people, under 60 bytes.
    pub const fn detail(self) -> &'static str {
        match self {
            Self::Unidentified => "this route needs to know who asks",
            Self::NotText => "a header of the key is not text",
            Self::BadBody => "the key cannot be read from the JSON body",
            Self::EncodedBody => "the key is read from plain JSON only",
        }
    }
}

/// Every part of the key with its declared name, for the bulk lookup contract and for people: the tenant first unless the route
/// is shared, then the declared parts in order. A value is as it was sent; `None` where the request lacks it. Several values of
/// one name are joined: a query's with `,`, a header's with `, ` (RFC 9110, section 5.3). A value of the body is its string, or
/// its JSON text when it is something else.
pub fn parts(parts: &[KeyPart], scope: Scope, call: &Call<'_>) -> Result<Vec<NamedValue>, KeyError> {
    let mut list = Vec::with_capacity(parts.len() + 1);
    if scope == Scope::Tenant && !parts.contains(&KeyPart::Tenant) {
        list.push((declared_name(&KeyPart::Tenant), Some(tenant(call)?.as_str().to_owned())));
    }
    for part in parts {
        list.push((declared_name(part), readable(part, call)?));
    }
    Ok(list)
}

/// A part's declared name and its value, `None` where the request lacks it.
pub type NamedValue = (Cow<'static, str>, Option<String>);

/// The part's name as the operator's file writes it: `identity.agent`, `query.os`, `body./policy`.
pub fn declared_name(part: &KeyPart) -> Cow<'static, str> {
    match part {
        KeyPart::Agent => Cow::Borrowed("identity.agent"),
        KeyPart::Tenant => Cow::Borrowed("identity.tenant"),
        KeyPart::Path(name) => Cow::Owned(format!("path.{name}")),
        KeyPart::Query(name) => Cow::Owned(format!("query.{name}")),
        KeyPart::Header(name) => Cow::Owned(format!("header.{name}")),
        KeyPart::Body(pointer) => Cow::Owned(format!("body.{pointer}")),
    }
}

/// The values of one query parameter in order, as sent. `name` and `name=` are both the empty value.
pub fn query_values<'a>(query: Option<&'a str>, name: &'a str) -> impl Iterator<Item = &'a str> + Clone {
    query.unwrap_or_default().split('&').filter_map(move |pair| {
        let (known, value) = pair.split_once('=').unwrap_or((pair, ""));
        (known == name && !pair.is_empty()).then_some(value)
    })
}

/// The values of one header joined with `, `; `None` when the request lacks it.
pub fn header_text<'a>(call: &Call<'a>, name: &str) -> Result<Option<Cow<'a, str>>, KeyError> {
    let mut values = call.request.headers.values(name);
    let Some(first) = values.next() else { return Ok(None) };
    let first = std::str::from_utf8(first).map_err(|_| KeyError::NotText)?;
    let mut joined = Cow::Borrowed(first);
    for value in values {
        let value = std::str::from_utf8(value).map_err(|_| KeyError::NotText)?;
        let joined = joined.to_mut();
        joined.push_str(", ");
        joined.push_str(value);
    }
    Ok(Some(joined))
}

fn readable(part: &KeyPart, call: &Call<'_>) -> Result<Option<String>, KeyError> {
    Ok(match part {
        KeyPart::Agent => Some(agent(call)?.to_owned()),
        KeyPart::Tenant => Some(tenant(call)?.as_str().to_owned()),
        KeyPart::Path(name) => call.parameter(name).map(str::to_owned),
        KeyPart::Query(name) => {
            let values: Vec<_> = query_values(call.request.query, name).collect();
            (!values.is_empty()).then(|| values.join(","))
        }
        KeyPart::Header(name) => header_text(call, name)?.map(Cow::into_owned),
        KeyPart::Body(pointer) => body::pointed(&call.request, pointer)?.map(Pointed::into_text),
    })
}

fn tenant<'a>(call: &Call<'a>) -> Result<&'a TenantId, KeyError> {
    call.identity.tenant.as_ref().ok_or(KeyError::Unidentified)
}

fn agent<'a>(call: &Call<'a>) -> Result<&'a str, KeyError> {
    call.identity.agent.as_ref().map(crate::AgentId::as_str).ok_or(KeyError::Unidentified)
}

fn method_tag(method: Method) -> u8 {
    match method {
        Method::Get | Method::Head => b'G',
        Method::Post => b'P',
        Method::Put => b'U',
        Method::Patch => b'A',
        Method::Delete => b'D',
        Method::Options => b'O',
    }
}

/// Route, pattern, tenant and two or three short values: such a key takes no memory but its own.
const TYPICAL_KEY_BYTES: usize = 256;

/// A key's encoding while it is written. No two lists of fields have the same bytes: every text follows its length, every part its
/// kind, its name and the number of its values. Memory: none but its own up to 256 bytes.
#[derive(Default)]
pub struct Encoding {
    short: ArrayVec<u8, TYPICAL_KEY_BYTES>,
    /// All of it, once it does not fit there.
    long: Vec<u8>,
}

impl Deref for Encoding {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        if self.long.is_empty() { &self.short } else { &self.long }
    }
}

impl Encoding {
    /// The key, in memory of just its size: tables keep it.
    pub fn key(&self) -> CacheKey {
        CacheKey { bytes: Bytes::copy_from_slice(self) }
    }

    fn put(&mut self, bytes: &[u8]) {
        if self.long.is_empty() {
            if self.short.try_extend_from_slice(bytes).is_ok() {
                return;
            }
            self.long = self.short.to_vec();
        }
        self.long.extend_from_slice(bytes);
    }

    fn tag(&mut self, tag: u8) {
        self.put(&[tag]);
    }

    fn number(&mut self, number: usize) {
        self.put(&(number as u64).to_le_bytes()[..5]);
    }

    fn text(&mut self, text: &str) {
        self.bytes(text.as_bytes());
    }

    fn bytes(&mut self, bytes: &[u8]) {
        self.number(bytes.len());
        self.put(bytes);
    }

    fn maybe(&mut self, text: Option<&str>) {
        self.number(usize::from(text.is_some()));
        if let Some(text) = text {
            self.text(text);
        }
    }

    fn part(&mut self, part: &KeyPart, call: &Call<'_>) -> Result<(), KeyError> {
        match part {
            KeyPart::Agent => {
                self.tag(b'a');
                self.text(agent(call)?);
            }
            KeyPart::Tenant => {
                self.tag(b't');
                self.text(tenant(call)?.as_str());
            }
            KeyPart::Path(name) => {
                self.tag(b'p');
                self.text(name);
                self.maybe(call.parameter(name));
            }
            KeyPart::Query(name) => {
                self.tag(b'q');
                self.text(name);
                let values = query_values(call.request.query, name);
                self.number(values.clone().count());
                values.for_each(|value| self.text(value));
            }
            KeyPart::Header(name) => {
                self.tag(b'h');
                self.text(name);
                self.maybe(header_text(call, name)?.as_deref());
            }
            KeyPart::Body(pointer) => {
                self.tag(b'b');
                self.text(pointer);
                let value = body::pointed(&call.request, pointer)?;
                self.tag(value.as_ref().map_or(0, Pointed::tag));
                self.maybe(value.as_ref().map(Pointed::text));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
