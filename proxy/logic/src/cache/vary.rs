//! Several answers of one key, told apart by request headers that the core chooses by and names in `Vary` (RFC 9111, section 4.1).
//!
//! The operator says which headers the core may choose by. A fill sends these as they are compared: normalised, so that spellings
//! that mean the same share an answer, and so that two requests that are held equal ask the core the same. Not here: keeping the
//! answers, and how many of them.

use std::borrow::Cow;

use http::HeaderMap;
use http::header::{ACCEPT, ACCEPT_CHARSET, ACCEPT_ENCODING, ACCEPT_LANGUAGE, HeaderName, HeaderValue, VARY};

use crate::Call;
use crate::heap::{allocation, shared};
use crate::key::{CacheKey, KeyError, NamedValue, header_text};

/// What a request says in the headers that the core may choose by, or the part of it that an answer was chosen by. Empty where
/// nothing is chosen. Memory: names and values, at most the request's own size.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selection {
    /// By name, each once; `None` where the request lacks the header, which is not the same as an empty one.
    fields: Box<[(HeaderName, Option<HeaderValue>)]>,
}

impl Selection {
    /// What `call` says in the headers that its route's `vary` names. Fails where one is not text.
    pub fn of(call: &Call<'_>, vary: &[String]) -> Result<Self, KeyError> {
        let mut fields = Vec::with_capacity(vary.len());
        for name in vary {
            let Ok(name) = name.parse::<HeaderName>() else { continue };
            let value = header_text(call, name.as_str())?.map(|text| normalised(&name, &text));
            let value = value
                .map(|text| HeaderValue::from_bytes(text.as_bytes()))
                .transpose()
                .map_err(|_| KeyError::NotText)?;
            fields.push((name, value));
        }
        fields.sort_unstable_by(|(left, _), (right, _)| left.as_str().cmp(right.as_str()));
        fields.dedup_by(|(left, _), (right, _)| left == right);
        Ok(Self { fields: fields.into() })
    }

    /// The part by which an answer with these headers was chosen: what its `Vary` names. Names that are not among the route's were
    /// not sent, or are in the key, and make no difference. All of it where the field says `*` or cannot be read.
    #[must_use]
    pub fn chosen_by(&self, answer: &HeaderMap) -> Self {
        if self.fields.is_empty() {
            return Self::default();
        }
        let mut named = Vec::new();
        for value in answer.get_all(VARY) {
            let Ok(text) = value.to_str() else { return self.clone() };
            named.extend(text.split(',').map(str::trim));
        }
        if named.contains(&"*") {
            return self.clone();
        }
        self.only(|name| named.iter().any(|known| known.eq_ignore_ascii_case(name.as_str())))
    }

    /// The part with the names of `answers`; `None` where one of them is not there: the operator has taken it back.
    #[must_use]
    pub fn named_as(&self, answers: &Self) -> Option<Self> {
        let part = self.only(|name| answers.value(name).is_some());
        (part.fields.len() == answers.fields.len()).then_some(part)
    }

    /// Whether an answer that was chosen by `self` is one to a request that says `asked`.
    pub fn answers(&self, asked: &Self) -> bool {
        self.fields.iter().all(|(name, value)| asked.value(name).is_some_and(|said| said == value))
    }

    /// Whether both are about the same headers.
    pub fn names_the_same(&self, other: &Self) -> bool {
        self.names().eq(other.names())
    }

    /// What tells this one of the answers of `key` from the others: the key itself where nothing is chosen.
    pub fn key(&self, key: &CacheKey) -> CacheKey {
        if self.fields.is_empty() {
            return key.clone();
        }
        key.variant(self.fields.iter().map(|(name, value)| (name.as_str(), value.as_ref().map(HeaderValue::as_bytes))))
    }

    /// The headers that a fill sends.
    pub fn sent(&self) -> impl Iterator<Item = (HeaderName, HeaderValue)> {
        self.fields.iter().filter_map(|(name, value)| Some((name.clone(), value.clone()?)))
    }

    /// Names and values for people.
    pub fn readable(&self) -> Vec<NamedValue> {
        let text = |value: &HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
        let fields = self.fields.iter();
        fields.map(|(name, value)| (Cow::Owned(name.as_str().to_owned()), value.as_ref().map(text))).collect()
    }

    /// Whether nothing is chosen.
    pub fn is_empty(&self) -> bool {
        self.fields.is_empty()
    }

    /// Bytes of memory besides the structure itself.
    pub fn bytes(&self) -> usize {
        let text = |(name, value): &(HeaderName, Option<HeaderValue>)| {
            shared(name.as_str().len()) + value.as_ref().map_or(0, |value| shared(value.len()))
        };
        allocation(size_of_val(&*self.fields)) + self.fields.iter().map(text).sum::<usize>()
    }

    fn names(&self) -> impl Iterator<Item = &HeaderName> {
        self.fields.iter().map(|(name, _)| name)
    }

    fn value(&self, name: &HeaderName) -> Option<&Option<HeaderValue>> {
        self.fields.iter().find(|(known, _)| known == name).map(|(_, value)| value)
    }

    fn only(&self, wanted: impl Fn(&HeaderName) -> bool) -> Self {
        Self { fields: self.fields.iter().filter(|(name, _)| wanted(name)).cloned().collect() }
    }
}

/// A field value in the one spelling that is compared and sent (RFC 9111, section 4.1). Of the fields by which content is negotiated
/// the grammar is known: the white space between their members goes, case where it says nothing, and the order where it says nothing.
/// Any other is left as it is but for the white space around it.
fn normalised(name: &HeaderName, text: &str) -> String {
    let negotiates = [ACCEPT, ACCEPT_CHARSET, ACCEPT_ENCODING, ACCEPT_LANGUAGE].contains(name);
    // In quotes white space and commas are part of what is said.
    if !negotiates || text.contains('"') {
        return text.trim_matches(BLANK).to_owned();
    }
    let mut members: Vec<String> = text.split(',').map(spaceless).filter(|member| !member.is_empty()).collect();
    if *name != ACCEPT {
        members.iter_mut().for_each(|member| member.make_ascii_lowercase());
    }
    if *name == ACCEPT_ENCODING {
        members.sort_unstable();
        members.dedup();
    }
    members.join(", ")
}

/// A member of a list without the white space around it and its parameters.
fn spaceless(member: &str) -> String {
    member.split(';').map(|part| part.trim_matches(BLANK)).collect::<Vec<_>>().join(";")
}

const BLANK: [char; 2] = [' ', '\t'];

#[cfg(test)]
mod tests;
