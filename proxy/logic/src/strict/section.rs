//! The parts of an HTTP/1.1 header section, where they stand: nothing is copied, decoded or checked here.
//!
//! Memory: 32 bytes a field, for as long as the request is worked on.

use std::slice::Iter;

use super::bytes::lines;
use super::head::without_space;
use crate::request::{Headers, Values};

/// A header section that [`scan`](super::head::scan) has taken, cut into its parts.
#[derive(Clone, Debug)]
pub struct Section<'a> {
    /// The method, as sent.
    pub method: &'a [u8],
    /// The request target, as sent.
    pub target: &'a [u8],
    /// `HTTP/1.1` or `HTTP/1.0`.
    pub version: &'a [u8],
    fields: Vec<Field<'a>>,
}

/// A name, in the case that it was sent in, and a value without the white space around it.
type Field<'a> = (&'a [u8], &'a [u8]);

impl<'a> Section<'a> {
    /// Cuts a section. `bytes` are those that a scan has found to be one, from the first to the last; of anything else, parts may be
    /// missing.
    pub fn of(bytes: &'a [u8]) -> Self {
        let mut lines = lines(bytes).map(|line| line.strip_suffix(b"\r\n").unwrap_or(line));
        let mut first = lines.next().unwrap_or_default().split(|byte| *byte == b' ');
        let mut part = || first.next().unwrap_or_default();
        let (method, target, version) = (part(), part(), part());
        let mut fields = Vec::with_capacity(USUAL_FIELDS);
        fields.extend(lines.filter_map(|line| {
            let colon = line.iter().position(|byte| *byte == b':')?;
            Some((&line[..colon], without_space(&line[colon + 1..])))
        }));
        Self { method, target, version, fields }
    }
}

impl Headers for Section<'_> {
    fn values<'a, 'n>(&'a self, name: &'n str) -> Values<'a, 'n> {
        Named { fields: self.fields.iter(), name }.into()
    }
}

/// The values of the fields of one name.
pub(crate) struct Named<'a, 'n> {
    fields: Iter<'a, Field<'a>>,
    name: &'n str,
}

impl<'a> Iterator for Named<'a, '_> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let name = self.name.as_bytes();
        self.fields.find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| *value)
    }
}

/// Most requests of agents have no more.
const USUAL_FIELDS: usize = 12;

#[cfg(test)]
mod tests {
    use super::*;

    const BYTES: &[u8] = b"GET /a?b HTTP/1.1\r\nHost: edge:1\r\nX-Two:one\r\nempty:\r\nx-two: \ttwo, three \r\n\r\n";

    #[test]
    fn parts_are_given_as_they_stand() {
        let section = Section::of(BYTES);
        assert_eq!((section.method, section.target, section.version), (&b"GET"[..], &b"/a?b"[..], &b"HTTP/1.1"[..]));
        assert_eq!(section.text("host"), Some("edge:1"));
        assert_eq!(section.first("empty"), Some(&b""[..]));
        assert_eq!(section.first("missing"), None);
    }

    #[test]
    fn the_values_of_a_name_come_in_order_whatever_its_case() {
        let section = Section::of(BYTES);
        assert_eq!(section.values("x-two").collect::<Vec<_>>(), [&b"one"[..], b"two, three"]);
    }

    #[test]
    fn what_is_no_section_has_empty_parts() {
        let section = Section::of(b"");
        assert!(section.method.is_empty() && section.version.is_empty() && section.fields.is_empty());
    }
}
