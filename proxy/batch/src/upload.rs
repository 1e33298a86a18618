//! An agent's upload, cut into records and checked one by one.
//!
//! A record is a JSON object. What is wrong with one record refuses that record by its index and harms no other; what
//! makes it impossible to say where records begin and end refuses the upload. Records keep their bytes: numbers,
//! escapes, order and duplicates of members stay as the agent wrote them. Only line breaks between tokens go, so that a
//! record is one line.

use std::fmt;

use crate::compression::Encoding;
use crate::cutter;
use crate::inflate::{AnyAmount, InflateError, InflateLimits};

/// The bounds of one upload. Its records take the place of its body: cutting needs no memory but for 128 KiB of stack
/// where brackets are nested by the million, and [`Upload::LISTED`] refusals.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UploadLimits {
    /// What the body may unpack to.
    pub inflate: InflateLimits,
    /// Records, at most, refused ones included.
    pub max_records: usize,
    /// Bytes of one record, at most.
    pub max_record_bytes: usize,
    /// Brackets open at once in one record, at most.
    pub max_depth: usize,
    /// Bytes of one string in a record as it is written between its quotes, at most; names of members are strings too.
    pub max_string_bytes: usize,
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
    /// The first [`Upload::LISTED`] of the refused records, by rising index.
    pub refused: Vec<Refusal>,
    /// How many were refused for each reason, in the order of [`Reason::ALL`].
    pub refusals: [usize; Reason::ALL.len()],
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
    /// A string in it is longer than one may be.
    StringTooLong,
}

impl Reason {
    /// All reasons.
    pub const ALL: [Self; 6] =
        [Self::NotJson, Self::NotAnObject, Self::NotUtf8, Self::TooLong, Self::TooDeep, Self::StringTooLong];

    /// The label in metrics.
    pub fn label(self) -> &'static str {
        match self {
            Self::NotJson => "not_json",
            Self::NotAnObject => "not_an_object",
            Self::NotUtf8 => "not_utf8",
            Self::TooLong => "too_long",
            Self::TooDeep => "too_deep",
            Self::StringTooLong => "string_too_long",
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::NotJson => "not JSON",
            Self::NotAnObject => "not an object",
            Self::NotUtf8 => "not UTF-8",
            Self::TooLong => "too long",
            Self::TooDeep => "nested too deep",
            Self::StringTooLong => "string too long",
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
    /// The status of the answer; `None` where the body may be right and there was no memory for it.
    pub fn status(&self) -> Option<u16> {
        match self {
            Self::Inflate(InflateError::NoRoom) => None,
            Self::Inflate(InflateError::TooLarge { .. } | InflateError::TooDense { .. })
            | Self::TooManyRecords { .. } => Some(413),
            Self::Inflate(InflateError::Corrupt { .. }) | Self::NotJson { .. } | Self::NotRecords => Some(400),
        }
    }

    /// The label in metrics.
    pub fn label(&self) -> &'static str {
        match self {
            Self::Inflate(InflateError::TooLarge { .. }) => "inflated_bytes",
            Self::Inflate(InflateError::TooDense { .. }) => "ratio",
            Self::Inflate(InflateError::NoRoom) => "memory",
            Self::Inflate(InflateError::Corrupt { .. }) => "corrupt",
            Self::NotJson { .. } => "not_json",
            Self::NotRecords => "not_records",
            Self::TooManyRecords { .. } => "records",
        }
    }
}

impl Upload {
    /// Refused records that are listed with their reasons, at most. It bounds what an answer takes: 12 KiB.
    pub const LISTED: usize = 256;

    /// Unpacks and cuts `body`, for bodies that need not ask for memory.
    pub fn parse(
        body: &[u8],
        encoding: Encoding,
        framing: Framing,
        limits: &UploadLimits,
    ) -> Result<Self, UploadError> {
        Self::cut(encoding.unpack(body, &limits.inflate, &mut AnyAmount)?, framing, limits)
    }

    /// Cuts a body that has been unpacked. The records are put together in its place; no memory is taken for them where
    /// it has room for one byte more.
    pub fn cut(body: Vec<u8>, framing: Framing, limits: &UploadLimits) -> Result<Self, UploadError> {
        cutter::cut(body, framing, limits)
    }

    /// Records that were refused.
    pub fn refused_count(&self) -> usize {
        self.refusals.iter().sum()
    }

    /// The body of the answer: how many records were taken, and which were not and why. Where more were refused than are
    /// listed, `unlisted` says how many.
    pub fn report(&self) -> Vec<u8> {
        let refused: Vec<String> = self
            .refused
            .iter()
            .map(|refusal| format!(r#"{{"index":{},"reason":"{}"}}"#, refusal.index, refusal.reason))
            .collect();
        let unlisted = match self.refused_count() - self.refused.len() {
            0 => String::new(),
            unlisted => format!(r#","unlisted":{unlisted}"#),
        };
        format!(r#"{{"accepted":{},"refused":[{}]{unlisted}}}"#, self.accepted, refused.join(",")).into_bytes()
    }
}

#[cfg(test)]
mod tests;
