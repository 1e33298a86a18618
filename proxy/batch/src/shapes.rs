//! The encoding `shapes/1`: rows as tables in columns, in which what many rows have in common stands once.
//!
//! Every line is one JSON object. The first says `{"kind":"format","format":"shapes/1"}`. The table `shape` holds each
//! distinct key (the stream's `same` fields) once, the table `origin` each sender once; both are lists of columns, and
//! a line of a table is named by its place. Every other line is a table of rows that look alike: `rows` says which rows
//! of the batch they are, `members` and `fields` in which order their parts stand, `origin` and `shape` refer to the
//! first two tables, and each further part of a row is a column of values. A row that looks like no other stands
//! unchanged in the table `row`.
//!
//! Decoding gives the same rows, byte for byte and in the same order: columns hold values as the JSON text they are.
//! The format is documented for its readers in `proxy/FORMAT.md`.

mod decode;
mod encode;

pub(crate) use self::decode::{Undecodable, decode};
pub(crate) use self::encode::encode;
use crate::json::{scan_value, skip_space};

/// The name and version in `Weir-Format`.
pub(crate) const NAME: &str = "shapes/1";

/// The first line of a payload in this encoding.
const FORMAT_LINE: &[u8] = b"{\"kind\":\"format\",\"format\":\"shapes/1\"}\n";

/// How a payload of this or a later version begins.
const FORMAT_PREFIX: &[u8] = b"{\"kind\":\"format\",\"format\":\"";

/// The format that a payload names in its first line; `None` for rows.
pub(crate) fn format_of(lines: &[u8]) -> Option<&str> {
    let rest = lines.strip_prefix(FORMAT_PREFIX)?;
    let end = memchr::memchr(b'"', rest)?;
    std::str::from_utf8(&rest[..end]).ok()
}

/// Members of an object at most, for it to be taken apart.
const MAX_MEMBERS: usize = 256;

/// An object's members: the names as they stand between their quotes, and the text of the values.
type Members<'a> = Vec<(&'a [u8], &'a [u8])>;

/// The members of the object that is all of `text`; `None` when it is none or has too many.
fn members(text: &[u8]) -> Option<Members<'_>> {
    let mut members = Vec::new();
    let mut at = open(text, b'{')?;
    if text.get(at) == Some(&b'}') {
        return (at + 1 == text.len()).then_some(members);
    }
    loop {
        if text.get(at) != Some(&b'"') || members.len() == MAX_MEMBERS {
            return None;
        }
        let end = scan_value(text, at).ok()?.end;
        let colon = skip_space(text, end);
        if text.get(colon) != Some(&b':') {
            return None;
        }
        let start = skip_space(text, colon + 1);
        let value_end = scan_value(text, start).ok()?.end;
        members.push((&text[at + 1..end - 1], &text[start..value_end]));
        let next = skip_space(text, value_end);
        match text.get(next)? {
            b',' => at = skip_space(text, next + 1),
            b'}' => return (next + 1 == text.len()).then_some(members),
            _ => return None,
        }
    }
}

/// The place of what follows the opening bracket.
fn open(text: &[u8], bracket: u8) -> Option<usize> {
    (text.first() == Some(&bracket)).then(|| skip_space(text, 1))
}

/// The elements of an array, one after the other. After something that is no element, there is none.
#[derive(Clone, Debug)]
struct Elements<'a> {
    text: &'a [u8],
    at: usize,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    First,
    Further,
    Closed,
    Broken,
}

impl<'a> Elements<'a> {
    /// The elements of the array that is all of `text`.
    fn of(text: &'a [u8]) -> Self {
        match open(text, b'[') {
            Some(at) => Self { text, at, state: State::First },
            None => Self { text, at: 0, state: State::Broken },
        }
    }

    /// Whether the array has ended after the elements that were given, and nothing follows it.
    fn is_over(&mut self) -> bool {
        self.next().is_none() && self.state == State::Closed
    }
}

impl<'a> Iterator for Elements<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let before = std::mem::replace(&mut self.state, State::Broken);
        let at = match (before, self.text.get(self.at)) {
            (State::Closed, _) | (State::First | State::Further, Some(b']')) => {
                self.state = if self.at + 1 == self.text.len() { State::Closed } else { State::Broken };
                return None;
            }
            (State::Further, Some(b',')) => skip_space(self.text, self.at + 1),
            (State::First, Some(_)) => self.at,
            _ => return None,
        };
        let end = scan_value(self.text, at).ok()?.end;
        self.at = skip_space(self.text, end);
        self.state = State::Further;
        Some(&self.text[at..end])
    }
}

#[cfg(test)]
mod tests;
