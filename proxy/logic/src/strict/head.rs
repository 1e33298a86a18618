//! The header section of an HTTP/1.1 request (RFC 9112, sections 2 to 6).
//!
//! Any fault found here leaves open where the next request begins, so the connection closes after the refusal.

use memchr::memchr_iter;
use smallvec::SmallVec;

use super::Fault;
use super::bytes::{TARGET, TOKEN, are_all_value, count, is_named};
use super::parts::{Parts, Tag};
use crate::Refusal;

/// How long a header section may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Bytes of the whole section, at most.
    pub head: usize,
    /// Bytes of the request target, at most.
    pub target: usize,
    /// Fields, at most.
    pub fields: usize,
}

/// What the bytes read so far hold.
#[expect(clippy::large_enum_variant, reason = "looked at where it was scanned, and never kept")]
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scan {
    /// The section has not ended; nothing wrong so far.
    Incomplete,
    /// A whole section.
    Complete(Head),
}

/// A header section whose framing is certain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    /// Bytes of the section, its empty line included.
    pub length: usize,
    /// How the body is framed.
    pub body: Framing,
    /// Where its parts are.
    pub(super) parts: Parts,
}

/// How a request's body is framed (RFC 9112, section 6.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// This many bytes; zero when the request has no body.
    Length(u64),
    /// Chunks.
    Chunked,
    /// The request asks for another protocol on this connection: what follows is not HTTP's.
    Upgrade,
}

/// Scans a header section from its first byte. Call again with more bytes after [`Scan::Incomplete`], and say how many
/// were `searched` before, so that bytes that trickle in are searched once.
///
/// Costs a search for line feeds and one pass over the bytes. An incomplete section within its bounds is only searched for its end.
///
/// # Errors
/// The first [`Fault`] in the section: 431 or 414 past the bounds, 405 for `CONNECT`, else 400.
pub fn scan(bytes: &[u8], searched: usize, bounds: Bounds) -> Result<Scan, Fault> {
    let Some((length, ends)) = end_of_section(bytes, searched, bounds.fields) else {
        return if bytes.len() > bounds.head { Err(too_large(bytes, bounds)) } else { Ok(Scan::Incomplete) };
    };
    if length > bounds.head {
        return Err(too_large(bytes, bounds));
    }
    let [first, fields @ ..] = ends.as_slice() else { return Err(BARE_LF) };
    let line = |begin: usize, end: usize| bytes[begin..end].strip_suffix(b"\r\n").ok_or(BARE_LF);
    let mut parts = Parts::default();
    let version = request_line(line(0, *first)?, bounds, &mut parts)?;
    let (mut framing, mut begin) = (Fields::default(), *first);
    for (number, end) in fields.iter().enumerate() {
        if number >= bounds.fields {
            return Err(Fault { refusal: Refusal::HeadersTooLarge, detail: "too many header fields" });
        }
        framing.add(line(begin, *end)?, begin, &mut parts)?;
        begin = *end;
    }
    Ok(Scan::Complete(Head { length, body: framing.framing(version)?, parts }))
}

/// Behind the line feed of each line, but for the empty one at the end.
type Ends = SmallVec<[usize; USUAL_LINES]>;

/// Most requests of agents have no more.
const USUAL_LINES: usize = 16;

/// The length of the section with its closing empty line, and where its lines end: of one field too many, and no more. A bare LF never ends
/// a section; it is a fault once the end is found.
fn end_of_section(bytes: &[u8], searched: usize, max_fields: usize) -> Option<(usize, Ends)> {
    let max_lines = max_fields + 2;
    let mut ends = Ends::new();
    if searched >= END.len() {
        let from = (searched - (END.len() - 1)).min(bytes.len());
        let mut found = memchr_iter(b'\n', &bytes[from..]).map(|at| from + at + 1);
        let length = found.find(|end| bytes[from..*end].ends_with(END))?;
        ends.extend(memchr_iter(b'\n', &bytes[..length - 2]).map(|at| at + 1).take(max_lines));
        return Some((length, ends));
    }
    for end in memchr_iter(b'\n', bytes).map(|at| at + 1) {
        if bytes[..end].ends_with(END) {
            return Some((end, ends));
        }
        if ends.len() < max_lines {
            ends.push(end);
        }
    }
    None
}

fn too_large(bytes: &[u8], bounds: Bounds) -> Fault {
    let line = bytes.split(|byte| *byte == b'\n').next().unwrap_or(bytes);
    if line.len() > bounds.target + REQUEST_LINE_EXTRA {
        return Fault { refusal: Refusal::TargetTooLong, detail: "request target too long" };
    }
    Fault { refusal: Refusal::HeadersTooLarge, detail: "header section too large" }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Version {
    Http10,
    Http11,
}

/// `method SP target SP version`, single spaces, nothing to repair.
fn request_line(line: &[u8], bounds: Bounds, parts: &mut Parts) -> Result<Version, Fault> {
    let method = count(line, TOKEN);
    if method == 0 || method > MAX_METHOD || line.get(method) != Some(&b' ') {
        return Err(Fault::malformed("bad method"));
    }
    if &line[..method] == b"CONNECT" {
        return Err(Fault { refusal: Refusal::WrongMethod, detail: "no tunnels here" });
    }
    let rest = &line[method + 1..];
    let target = count(rest, TARGET);
    if target > bounds.target {
        return Err(Fault { refusal: Refusal::TargetTooLong, detail: "request target too long" });
    }
    if target == 0 || rest.get(target) != Some(&b' ') {
        return Err(Fault::malformed("bad request target"));
    }
    parts.line(method, target);
    match &rest[target + 1..] {
        b"HTTP/1.1" => Ok(Version::Http11),
        b"HTTP/1.0" => Ok(Version::Http10),
        _ => Err(Fault::malformed("unknown HTTP version")),
    }
}

/// What the fields say about framing and host, gathered in one pass.
#[derive(Default)]
struct Fields<'a> {
    content_length: Option<&'a [u8]>,
    transfer_encoding: Option<&'a [u8]>,
    host: Option<&'a [u8]>,
    upgrade: bool,
}

impl<'a> Fields<'a> {
    /// The field on a line that begins at `begin` of the section.
    fn add(&mut self, line: &'a [u8], begin: usize, parts: &mut Parts) -> Result<(), Fault> {
        let colon = count(line, TOKEN);
        if colon == 0 || line.get(colon) != Some(&b':') {
            return Err(bad_name(line));
        }
        let (name, value) = (&line[..colon], &line[colon + 1..]);
        let before = value.iter().take_while(|byte| matches!(byte, b' ' | b'\t')).count();
        let value = without_space(&value[before..]);
        if !are_all_value(value) {
            return Err(Fault::malformed("forbidden byte in a header value"));
        }
        let tag = Tag::of(name);
        parts.field(tag, begin, colon, begin + colon + 1 + before, value.len());
        match tag {
            CONTENT_LENGTH if is_named(name, b"content-length") => {
                once(&mut self.content_length, value, "more than one Content-Length")
            }
            TRANSFER_ENCODING if is_named(name, b"transfer-encoding") => {
                once(&mut self.transfer_encoding, value, "more than one Transfer-Encoding")
            }
            HOST if is_named(name, b"host") => once(&mut self.host, value, "more than one Host"),
            UPGRADE => {
                self.upgrade |= is_named(name, b"upgrade");
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn framing(&self, version: Version) -> Result<Framing, Fault> {
        if version == Version::Http11 && self.host.is_none_or(<[u8]>::is_empty) {
            return Err(Fault::malformed("no Host"));
        }
        let framing = match (self.content_length, self.transfer_encoding) {
            (Some(_), Some(_)) => return Err(Fault::malformed("Content-Length with Transfer-Encoding")),
            (Some(length), None) => Framing::Length(whole_number(length)?),
            (None, Some(_)) if version == Version::Http10 => {
                return Err(Fault::malformed("Transfer-Encoding in HTTP/1.0"));
            }
            (None, Some(coding)) if coding.eq_ignore_ascii_case(b"chunked") => Framing::Chunked,
            (None, Some(_)) => return Err(Fault::malformed("Transfer-Encoding other than chunked")),
            (None, None) => Framing::Length(0),
        };
        match framing {
            Framing::Length(0) if self.upgrade => Ok(Framing::Upgrade),
            _ if self.upgrade => Err(Fault::malformed("Upgrade with a body")),
            framing => Ok(framing),
        }
    }
}

const CONTENT_LENGTH: Tag = Tag::of(b"content-length");
const TRANSFER_ENCODING: Tag = Tag::of(b"transfer-encoding");
const HOST: Tag = Tag::of(b"host");
const UPGRADE: Tag = Tag::of(b"upgrade");

#[cold]
fn bad_name(line: &[u8]) -> Fault {
    Fault::malformed(match line.first() {
        Some(b' ' | b'\t') => "folded header line",
        _ if line.contains(&b':') => "bad header name",
        _ => "header line without a colon",
    })
}

/// A value without the white space behind it, which is spaces and tabs and nothing else (RFC 9110, section 5.6.3): a
/// carriage return or a form feed there is a fault of the value.
fn without_space(mut value: &[u8]) -> &[u8] {
    while let [rest @ .., b' ' | b'\t'] = value {
        value = rest;
    }
    value
}

fn once<'a>(slot: &mut Option<&'a [u8]>, value: &'a [u8], twice: &'static str) -> Result<(), Fault> {
    if slot.replace(value).is_some() {
        return Err(Fault::malformed(twice));
    }
    Ok(())
}

/// Digits alone, no sign, no list, no overflow.
fn whole_number(text: &[u8]) -> Result<u64, Fault> {
    if !(1..=MAX_LENGTH_DIGITS).contains(&text.len()) {
        return Err(Fault::malformed("bad Content-Length"));
    }
    text.iter().try_fold(0_u64, |sum, byte| match byte {
        b'0'..=b'9' => Ok(sum * 10 + u64::from(byte - b'0')),
        _ => Err(Fault::malformed("bad Content-Length")),
    })
}

const END: &[u8] = b"\r\n\r\n";

const BARE_LF: Fault = Fault::malformed("line feed without a carriage return");

/// Longer than any registered method.
const MAX_METHOD: usize = 32;

/// A method, two spaces and a version beside the target.
const REQUEST_LINE_EXTRA: usize = MAX_METHOD + 2 + "HTTP/1.1\r".len();

/// Nineteen digits always fit.
const MAX_LENGTH_DIGITS: usize = 19;

#[cfg(test)]
mod tests;
