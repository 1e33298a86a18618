//! Members of JSON objects and elements of arrays, by their places in the text.
//!
//! The text has been checked before it was accepted. Text that is no JSON gives some members or none, always the same
//! ones, and never a place outside.

use std::ops::Range;

use memchr::memchr;

/// The members of an object in order: the place of each name, quotes included, and of its value.
pub(super) struct Members<'r>(Scan<'r>);

/// The elements of an array in order.
pub(super) struct Elements<'r>(Scan<'r>);

impl<'r> Members<'r> {
    /// Those of the object that stands at `place`; none when it is no object.
    pub(super) fn new(text: &'r [u8], place: Range<usize>) -> Self {
        Self(Scan::open(text, place, b'{'))
    }

    /// The value of the next member, if its name and colon are written just like `expected` and no space stands before them. If
    /// not, nothing is read.
    pub(super) fn next_like(&mut self, expected: &[u8]) -> Option<Range<usize>> {
        let scan = &mut self.0;
        let before = scan.at;
        let name = before + usize::from(scan.text.get(before) == Some(&b','));
        scan.text.get(name..)?.starts_with(expected).then(|| scan.at = name + expected.len())?;
        let value = scan.value();
        if value.is_none() {
            scan.at = before;
        }
        value
    }
}

impl Iterator for Members<'_> {
    type Item = (Range<usize>, Range<usize>);

    fn next(&mut self) -> Option<Self::Item> {
        let scan = &mut self.0;
        scan.skip_to_item()?;
        let name = scan.value()?;
        if scan.peek() != Some(b':') {
            return None;
        }
        scan.at += 1;
        Some((name, scan.value()?))
    }
}

impl<'r> Elements<'r> {
    /// Those of the array that stands at `place`; none when it is no array.
    pub(super) fn new(text: &'r [u8], place: Range<usize>) -> Self {
        Self(Scan::open(text, place, b'['))
    }
}

impl Iterator for Elements<'_> {
    type Item = Range<usize>;

    fn next(&mut self) -> Option<Self::Item> {
        self.0.skip_to_item()?;
        self.0.value()
    }
}

/// Whether a string's content does not end within an escape.
fn is_whole(content: &[u8]) -> bool {
    content.iter().rev().take_while(|byte| **byte == b'\\').count().is_multiple_of(2)
}

/// The bytes that end a number or a word.
const ENDS: [bool; 256] = {
    let mut ends = [false; 256];
    let mut rest: &[u8] = b",}]:\" \t\r\n";
    while let [byte, after @ ..] = rest {
        ends[*byte as usize] = true;
        rest = after;
    }
    ends
};

/// A place in the text up to which it has been read.
struct Scan<'r> {
    text: &'r [u8],
    at: usize,
}

impl<'r> Scan<'r> {
    /// Stands behind the bracket that opens the value at `place`, or at the end when it begins otherwise.
    fn open(text: &'r [u8], place: Range<usize>, bracket: u8) -> Self {
        let mut scan = Self { text: &text[..place.end], at: place.start };
        scan.at = if scan.peek() == Some(bracket) { scan.at + 1 } else { place.end };
        scan
    }

    /// The next byte that is no space.
    fn peek(&mut self) -> Option<u8> {
        loop {
            match self.text.get(self.at) {
                Some(b' ' | b'\t' | b'\r' | b'\n') => self.at += 1,
                other => return other.copied(),
            }
        }
    }

    /// Steps over a comma to the next item; `None` at the bracket that closes.
    fn skip_to_item(&mut self) -> Option<()> {
        let mut next = self.peek()?;
        if next == b',' {
            self.at += 1;
            next = self.peek()?;
        }
        (!matches!(next, b'}' | b']')).then_some(())
    }

    /// Steps over a value and gives its place.
    fn value(&mut self) -> Option<Range<usize>> {
        let first = self.peek()?;
        let start = self.at;
        match first {
            b'"' => self.skip_string()?,
            b'{' | b'[' => self.skip_nested()?,
            _ => {
                let rest = &self.text[start..];
                let length = rest.iter().position(|byte| ENDS[usize::from(*byte)]).unwrap_or(rest.len());
                self.at += length;
                (length > 0).then_some(())?;
            }
        }
        Some(start..self.at)
    }

    /// A quote ends the string unless it is escaped: an odd number of backslashes stands before it.
    #[inline]
    fn skip_string(&mut self) -> Option<()> {
        let text = self.text.get(self.at + 1..)?;
        let mut at = 0;
        loop {
            let quote = at + memchr(b'"', &text[at..])?;
            at = quote + 1;
            if !text[..quote].ends_with(b"\\") || is_whole(&text[..quote]) {
                self.at += 1 + at;
                return Some(());
            }
        }
    }

    fn skip_nested(&mut self) -> Option<()> {
        let mut depth = 0usize;
        loop {
            match self.text.get(self.at)? {
                b'"' => {
                    self.skip_string()?;
                    continue;
                }
                b'{' | b'[' => depth += 1,
                b'}' | b']' => depth -= 1,
                _ => {}
            }
            self.at += 1;
            if depth == 0 {
                return Some(());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value;
    use serde_json::value::RawValue;

    use super::*;

    fn members(text: &str) -> Vec<(&str, &str)> {
        Members::new(text.as_bytes(), 0..text.len()).map(|(name, value)| (&text[name], &text[value])).collect()
    }

    #[test]
    fn members_are_found_whatever_stands_in_them() {
        let text = r#" { "a" : "x,\"}" ,"b":{"c":["}",1]},"d":-1.5e3 , "e":[] }"#;
        let expected = [("\"a\"", r#""x,\"}""#), ("\"b\"", r#"{"c":["}",1]}"#), ("\"d\"", "-1.5e3"), ("\"e\"", "[]")];
        assert_eq!(members(text), expected);
        assert_eq!(members("{}"), []);
        assert_eq!(members("[1]"), []);
    }

    fn json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<i32>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            "(\\PC|[\"\\\\{}\\[\\],: \n]){0,8}".prop_map(Value::from),
        ];
        leaf.prop_recursive(3, 24, 4, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                proptest::collection::hash_map("[a-c\"\\\\{ ]{0,3}", inner, 0..4)
                    .prop_map(|members| Value::Object(members.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn items_are_those_that_another_reader_finds(value in json(), pretty: bool) {
            let text = if pretty { serde_json::to_string_pretty(&value) } else { serde_json::to_string(&value) }.unwrap();
            let whole = || 0..text.len();
            let elements: Vec<&str> = Elements::new(text.as_bytes(), whole()).map(|place| &text[place]).collect();
            let expected: Vec<&RawValue> = serde_json::from_str(&text).unwrap_or_default();
            prop_assert_eq!(elements, expected.iter().map(|raw| raw.get()).collect::<Vec<_>>());
            let found: std::collections::BTreeMap<String, Value> = members(&text)
                .into_iter()
                .map(|(name, value)| (serde_json::from_str(name).unwrap(), serde_json::from_str(value).unwrap()))
                .collect();
            let expected = value.as_object().cloned().unwrap_or_default().into_iter().collect();
            prop_assert_eq!(found, expected);
        }

        #[test]
        fn no_text_leads_outside(text in "[{}\\[\\]\",:\\\\ a1]{0,40}", start in 0usize..40) {
            let start = start.min(text.len());
            for (name, value) in Members::new(text.as_bytes(), start..text.len()) {
                prop_assert!(name.end <= value.start && value.end <= text.len());
            }
            let ends: Vec<usize> = Elements::new(text.as_bytes(), start..text.len()).map(|place| place.end).collect();
            prop_assert!(ends.is_sorted_by(|a, b| a < b));
        }
    }
}
