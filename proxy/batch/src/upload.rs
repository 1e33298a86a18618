//! An agent's upload, cut into records and checked one by one.
//!
//! A record is a JSON object. What is wrong with one record refuses that record by its index and harms no other; what
//! makes it impossible to say where records begin and end refuses the upload. Records keep their bytes: numbers,
//! escapes, order and duplicates of members stay as the agent wrote them. Only line breaks between tokens go, so that a
//! record is one line.

use std::fmt;

use memchr::{memchr, memchr2_iter};

use crate::compression::{Encoding, InflateError};
use crate::json::{scan_value, skip_space};

/// The bounds of one upload. An upload costs at most `max_inflated_bytes` for its body and as much again for its
/// records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UploadLimits {
    /// Bytes of the body once unpacked, at most.
    pub max_inflated_bytes: usize,
    /// Records, at most, refused ones included.
    pub max_records: usize,
    /// Bytes of one record, at most.
    pub max_record_bytes: usize,
    /// Brackets open at once in one record, at most.
    pub max_depth: usize,
}

/// How records follow each other in a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// One JSON text: an array of records, or a single one.
    Json,
    /// One record a line; empty lines are no records.
    Lines,
}

impl Framing {
    /// Reads the value of a `Content-Type` header; what is not known as JSON lines is JSON.
    pub fn from_content_type(value: Option<&str>) -> Self {
        let media_type = value.and_then(|value| value.split(';').next()).unwrap_or_default().trim();
        let lines = ["application/x-ndjson", "application/ndjson", "application/jsonl", "application/x-jsonlines"];
        if lines.iter().any(|known| media_type.eq_ignore_ascii_case(known)) { Self::Lines } else { Self::Json }
    }
}

/// The records of one upload.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Upload {
    /// The accepted records in order, each followed by a line feed, none holding one.
    pub lines: Vec<u8>,
    /// How many they are.
    pub accepted: usize,
    /// The refused records, by rising index.
    pub refused: Vec<Refusal>,
}

/// A record that was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Its place among the upload's records, from 0.
    pub index: usize,
    /// What is wrong with it.
    pub reason: Reason,
}

/// What is wrong with a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// A line that is no JSON text.
    NotJson,
    /// JSON, but no object.
    NotAnObject,
    /// Bytes that are no UTF-8.
    NotUtf8,
    /// Longer than a record may be.
    TooLong,
    /// Deeper than a record may be.
    TooDeep,
}

impl fmt::Display for Reason {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::NotJson => "not JSON",
            Self::NotAnObject => "not an object",
            Self::NotUtf8 => "not UTF-8",
            Self::TooLong => "too long",
            Self::TooDeep => "nested too deep",
        })
    }
}

/// Why an upload was refused as a whole.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UploadError {
    /// It could not be unpacked.
    #[error(transparent)]
    Inflate(#[from] InflateError),
    /// It is no JSON text: 400.
    #[error("the body is not JSON: unexpected byte or end at offset {at}")]
    NotJson {
        /// Where it stops being one.
        at: usize,
    },
    /// It is JSON, but neither an array nor an object: 400.
    #[error("the body is neither an array of records nor a record")]
    NotRecords,
    /// It holds too many records: 413.
    #[error("the body holds more than {max_records} records")]
    TooManyRecords {
        /// The bound.
        max_records: usize,
    },
}

impl UploadError {
    /// The status of the answer.
    pub fn status(&self) -> u16 {
        match self {
            Self::Inflate(InflateError::TooLarge { .. }) | Self::TooManyRecords { .. } => 413,
            Self::Inflate(InflateError::Corrupt { .. }) | Self::NotJson { .. } | Self::NotRecords => 400,
        }
    }
}

impl Upload {
    /// Unpacks and cuts `body`.
    pub fn parse(
        body: &[u8],
        encoding: Encoding,
        framing: Framing,
        limits: &UploadLimits,
    ) -> Result<Self, UploadError> {
        let body = encoding.inflate(body, limits.max_inflated_bytes)?;
        let mut cutter = Cutter { limits, seen: 0, upload: Self::default() };
        cutter.upload.lines.reserve(body.len() + 1);
        match framing {
            Framing::Lines => cutter.cut_lines(&body)?,
            Framing::Json => cutter.cut_json(&body)?,
        }
        Ok(cutter.upload)
    }

    /// The body of the answer: how many records were taken, and which were not and why.
    pub fn report(&self) -> Vec<u8> {
        let refused: Vec<String> = self
            .refused
            .iter()
            .map(|refusal| format!(r#"{{"index":{},"reason":"{}"}}"#, refusal.index, refusal.reason))
            .collect();
        format!(r#"{{"accepted":{},"refused":[{}]}}"#, self.accepted, refused.join(",")).into_bytes()
    }
}

struct Cutter<'a> {
    limits: &'a UploadLimits,
    seen: usize,
    upload: Upload,
}

impl Cutter<'_> {
    fn cut_lines(&mut self, body: &[u8]) -> Result<(), UploadError> {
        let mut rest = body;
        while !rest.is_empty() {
            let end = memchr(b'\n', rest).unwrap_or(rest.len());
            let line = &rest[..end];
            rest = rest.get(end + 1..).unwrap_or_default();
            let start = skip_space(line, 0);
            if start == line.len() {
                continue;
            }
            let verdict = self.check_line(line, start);
            self.take(verdict)?;
        }
        Ok(())
    }

    fn check_line<'l>(&self, line: &'l [u8], start: usize) -> Result<&'l [u8], Reason> {
        if line.trim_ascii().len() > self.limits.max_record_bytes {
            return Err(Reason::TooLong);
        }
        let scanned = scan_value(line, start).map_err(|_| Reason::NotJson)?;
        if skip_space(line, scanned.end) != line.len() {
            return Err(Reason::NotJson);
        }
        self.check(&line[start..scanned.end], scanned.depth)
    }

    fn cut_json(&mut self, body: &[u8]) -> Result<(), UploadError> {
        let start = skip_space(body, 0);
        let end = match body.get(start) {
            Some(b'[') => self.cut_array(body, start + 1)?,
            Some(b'{') => self.cut_element(body, start)?,
            _ => {
                // The difference matters to whoever reads the answer: "17" is JSON, "hello" is not.
                scan_value(body, start).map_err(|error| UploadError::NotJson { at: error.at })?;
                return Err(UploadError::NotRecords);
            }
        };
        let end = skip_space(body, end);
        if end == body.len() { Ok(()) } else { Err(UploadError::NotJson { at: end }) }
    }

    /// Cuts the elements that follow an opening bracket and gives the offset past the closing one.
    fn cut_array(&mut self, body: &[u8], at: usize) -> Result<usize, UploadError> {
        let mut at = skip_space(body, at);
        if body.get(at) == Some(&b']') {
            return Ok(at + 1);
        }
        loop {
            at = skip_space(body, self.cut_element(body, at)?);
            match body.get(at) {
                Some(b',') => at = skip_space(body, at + 1),
                Some(b']') => return Ok(at + 1),
                _ => return Err(UploadError::NotJson { at }),
            }
        }
    }

    fn cut_element(&mut self, body: &[u8], start: usize) -> Result<usize, UploadError> {
        let scanned = scan_value(body, start).map_err(|error| UploadError::NotJson { at: error.at })?;
        let verdict = self.check(&body[start..scanned.end], scanned.depth);
        self.take(verdict)?;
        Ok(scanned.end)
    }

    fn check<'r>(&self, record: &'r [u8], depth: usize) -> Result<&'r [u8], Reason> {
        if record.first() != Some(&b'{') {
            return Err(Reason::NotAnObject);
        }
        if record.len() > self.limits.max_record_bytes {
            return Err(Reason::TooLong);
        }
        if depth > self.limits.max_depth {
            return Err(Reason::TooDeep);
        }
        if std::str::from_utf8(record).is_err() {
            return Err(Reason::NotUtf8);
        }
        Ok(record)
    }

    fn take(&mut self, verdict: Result<&[u8], Reason>) -> Result<(), UploadError> {
        let index = self.seen;
        self.seen += 1;
        if self.seen > self.limits.max_records {
            return Err(UploadError::TooManyRecords { max_records: self.limits.max_records });
        }
        match verdict {
            Ok(record) => {
                push_line(&mut self.upload.lines, record);
                self.upload.accepted += 1;
            }
            Err(reason) => self.upload.refused.push(Refusal { index, reason }),
        }
        Ok(())
    }
}

/// Appends a valid record as one line. A line break in valid JSON stands between tokens, and no two tokens of JSON need
/// space between them, so leaving it out changes nothing but the layout.
fn push_line(lines: &mut Vec<u8>, record: &[u8]) {
    let mut kept = 0;
    for at in memchr2_iter(b'\n', b'\r', record) {
        lines.extend_from_slice(&record[kept..at]);
        kept = at + 1;
    }
    lines.extend_from_slice(&record[kept..]);
    lines.push(b'\n');
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LIMITS: UploadLimits =
        UploadLimits { max_inflated_bytes: 4096, max_records: 8, max_record_bytes: 64, max_depth: 3 };

    fn json(body: &str) -> Result<Upload, UploadError> {
        Upload::parse(body.as_bytes(), Encoding::Identity, Framing::Json, &LIMITS)
    }

    fn lines(body: &[u8]) -> Result<Upload, UploadError> {
        Upload::parse(body, Encoding::Identity, Framing::Lines, &LIMITS)
    }

    fn text(upload: &Upload) -> &str {
        std::str::from_utf8(&upload.lines).unwrap()
    }

    #[test]
    fn records_keep_their_bytes() {
        let upload = json(r#" [ {"a" : 1.0e+2, "a":"\u0041\/"} , {} ] "#).unwrap();
        assert_eq!(text(&upload), "{\"a\" : 1.0e+2, \"a\":\"\\u0041\\/\"}\n{}\n");
        assert_eq!(upload.accepted, 2);
    }

    #[test]
    fn one_object_is_an_upload_of_one_record() {
        assert_eq!(text(&json(r#"{"a":1}"#).unwrap()), "{\"a\":1}\n");
    }

    #[test]
    fn line_breaks_between_tokens_go_and_nothing_else() {
        let upload = json("{\r\n  \"a\": [1,\n 2],\n\t\"b\": \"x\\ny\"\n}").unwrap();
        assert_eq!(text(&upload), "{  \"a\": [1, 2],\t\"b\": \"x\\ny\"}\n");
    }

    #[test]
    fn a_bad_record_is_refused_by_index_without_harming_the_others() {
        let long = "x".repeat(80);
        let upload = json(&format!(r#"[{{"a":1}},17,{{"a":"{long}"}},{{"a":[[[]]]}},{{"b":2}}]"#)).unwrap();
        assert_eq!(text(&upload), "{\"a\":1}\n{\"b\":2}\n");
        let expected = r#"{"accepted":2,"refused":[{"index":1,"reason":"not an object"},{"index":2,"reason":"too long"},{"index":3,"reason":"nested too deep"}]}"#;
        assert_eq!(String::from_utf8(upload.report()).unwrap(), expected);
    }

    #[test]
    fn a_bad_line_is_refused_by_index() {
        let upload = lines(b"{\"a\":1}\r\n\n{\"a\":\n{\"a\":\"\xff\"}\n{} {}\n  {\"b\":2}").unwrap();
        assert_eq!(text(&upload), "{\"a\":1}\n{\"b\":2}\n");
        let refused: Vec<(usize, Reason)> =
            upload.refused.iter().map(|refusal| (refusal.index, refusal.reason)).collect();
        assert_eq!(refused, [(1, Reason::NotJson), (2, Reason::NotUtf8), (3, Reason::NotJson)]);
    }

    #[test]
    fn an_array_that_breaks_off_is_refused_as_a_whole() {
        assert_eq!(json(r#"[{"a":1},{"b":"#), Err(UploadError::NotJson { at: 14 }));
        assert_eq!(json(r#"[{"a":1}] x"#), Err(UploadError::NotJson { at: 10 }));
        assert_eq!(json(r#"{"a":1}{"b":2}"#), Err(UploadError::NotJson { at: 7 }));
        assert_eq!(json(""), Err(UploadError::NotJson { at: 0 }));
        assert_eq!(json("17"), Err(UploadError::NotRecords));
    }

    #[test]
    fn the_number_of_records_is_bounded() {
        let error = lines(&b"{}\n".repeat(9)).unwrap_err();
        assert_eq!((error.status(), error), (413, UploadError::TooManyRecords { max_records: 8 }));
    }

    #[test]
    fn the_media_type_tells_lines_from_json() {
        assert_eq!(Framing::from_content_type(Some("Application/X-NDJSON; charset=utf-8")), Framing::Lines);
        assert_eq!(Framing::from_content_type(Some("application/json")), Framing::Json);
        assert_eq!(Framing::from_content_type(None), Framing::Json);
    }

    proptest! {
        #[test]
        fn any_bytes_parse_within_the_bounds(body in proptest::collection::vec(any::<u8>(), 0..300), framing in any::<bool>()) {
            let framing = if framing { Framing::Lines } else { Framing::Json };
            if let Ok(upload) = Upload::parse(&body, Encoding::Identity, framing, &LIMITS) {
                prop_assert!(upload.lines.len() <= body.len() + 1);
                prop_assert!(upload.accepted + upload.refused.len() <= LIMITS.max_records);
            }
        }

        #[test]
        fn every_record_is_accepted_or_refused(records in proptest::collection::vec(
            prop_oneof![Just("{}"), Just("{\"a\":\n1}"), Just("[{}]"), Just("1"), Just("{\"a\":{\"b\":{\"c\":{}}}}")], 0..8,
        )) {
            let upload = json(&format!("[{}]", records.join(","))).unwrap();
            prop_assert_eq!(upload.accepted + upload.refused.len(), records.len());
            let accepted: Vec<&str> = text(&upload).lines().collect();
            prop_assert_eq!(accepted.len(), upload.accepted);
            for record in accepted {
                prop_assert!(serde_json::from_str::<serde_json::Map<String, serde_json::Value>>(record).is_ok());
            }
        }
    }
}
