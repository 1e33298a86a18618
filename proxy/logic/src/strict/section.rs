//! The parts of an HTTP/1.1 header section, where they stand: nothing is copied, decoded or checked here.

use super::bytes::is_named;
use super::head::Head;
use super::parts::{Field, Parts, Tag};
use crate::request::{Headers, Values};

/// A header section that [`scan`](super::head::scan) has taken, in its parts.
#[derive(Clone, Copy, Debug)]
pub struct Section<'a> {
    bytes: &'a [u8],
    parts: &'a Parts,
}

impl<'a> Section<'a> {
    /// The section in these bytes. `head` is what a scan has made of them; with any other, parts are wrong or missing.
    pub fn new(bytes: &'a [u8], head: &'a Head) -> Self {
        Self { bytes, parts: &head.parts }
    }

    /// The method, as sent.
    pub fn method(&self) -> &'a [u8] {
        self.part(0, self.parts.method)
    }

    /// The request target, as sent.
    pub fn target(&self) -> &'a [u8] {
        self.part(self.parts.method + 1, self.parts.target)
    }

    /// `HTTP/1.1` or `HTTP/1.0`.
    pub fn version(&self) -> &'a [u8] {
        self.part(self.parts.method + self.parts.target + 2, VERSION_LENGTH)
    }

    fn part(&self, begin: u32, length: u32) -> &'a [u8] {
        let (begin, length) = (begin as usize, length as usize);
        self.bytes.get(begin..begin + length).unwrap_or_default()
    }
}

/// All versions are as long.
const VERSION_LENGTH: u32 = 8;

impl Headers for Section<'_> {
    fn values<'a, 'n>(&'a self, name: &'n str) -> Values<'a, 'n> {
        Named { section: *self, next: 0, name, tag: Tag::of(name.as_bytes()) }.into()
    }
}

/// The values of the fields of one name.
pub(crate) struct Named<'a, 'n> {
    section: Section<'a>,
    next: usize,
    name: &'n str,
    tag: Tag,
}

impl<'a> Iterator for Named<'a, '_> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let Parts { tags, fields, .. } = self.section.parts;
        loop {
            let found = tags.get(self.next..)?.iter().position(|tag| *tag == self.tag)?;
            let Field { name, name_length, value, value_length } = *fields.get(self.next + found)?;
            self.next += found + 1;
            if is_named(self.section.part(name, name_length), self.name.as_bytes()) {
                return Some(self.section.part(value, value_length));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::strict::head::{Bounds, Scan, scan};

    const BYTES: &[u8] =
        b"GET /a?b HTTP/1.1\r\nHost: edge:1\r\nX-Two:one\r\nempty:\r\nx-owt: no\r\nx-two: \ttwo, three \r\n\r\nbody";

    fn scanned(bytes: &[u8]) -> Head {
        let Ok(Scan::Complete(head)) = scan(bytes, 0, Bounds { head: 4096, target: 64, fields: 64 }) else {
            panic!("no section: {}", bytes.escape_ascii())
        };
        head
    }

    #[test]
    fn parts_are_given_as_they_stand() {
        let head = scanned(BYTES);
        let section = Section::new(BYTES, &head);
        let line = (section.method(), section.target(), section.version());
        assert_eq!(line, (&b"GET"[..], &b"/a?b"[..], &b"HTTP/1.1"[..]));
        assert_eq!(section.text("host"), Some("edge:1"));
        assert_eq!(section.first("empty"), Some(&b""[..]));
        assert_eq!(section.first("missing"), None);
    }

    #[test]
    fn the_values_of_a_name_come_in_order_whatever_its_case() {
        let head = scanned(BYTES);
        let section = Section::new(BYTES, &head);
        assert_eq!(section.values("x-two").collect::<Vec<_>>(), [&b"one"[..], b"two, three"]);
        assert_eq!(section.values("x-owt").collect::<Vec<_>>(), [b"no"]);
    }

    #[test]
    fn fields_past_the_usual_number_are_found_as_well() {
        let fields: String = (0..40).map(|number| format!("X-{number}: {number}\r\n")).collect();
        let bytes = format!("GET / HTTP/1.1\r\nHost: a\r\n{fields}\r\n");
        let head = scanned(bytes.as_bytes());
        let section = Section::new(bytes.as_bytes(), &head);
        assert!((0..40).all(|number| section.text(&format!("x-{number}")) == Some(&*number.to_string())));
    }

    #[test]
    fn other_bytes_than_were_scanned_give_empty_parts() {
        let head = scanned(BYTES);
        let section = Section::new(b"", &head);
        assert!(section.method().is_empty() && section.version().is_empty());
        assert_eq!(section.first("host"), None);
    }
}
