//! A batch as it waits on disk, and reading it back.
//!
//! Layout of version 1, integers little-endian: the magic `WEIRBAT` and a zero byte; the version as two bytes; two
//! bytes of features that a reader must know, of which there is one: 1 for a payload of [`Format::Shapes`]; the length of the meta as four bytes; the meta as JSON; the
//! CRC-32 of all before it; the length of the payload as eight bytes; the payload; the CRC-32 of the payload. A reader
//! refuses versions and features that it does not know and leaves the file alone. Members of the meta that it does not
//! know are ignored.

use std::borrow::Cow;

use memchr::memchr;

use crate::compression::{Compression, Encoding};
use crate::encoder::{BatchEncoder, Counts, Format};
use crate::id::BatchId;
use crate::inflate::InflateError;
use crate::shapes::{self, Undecodable};

/// All that is known of a batch beside its rows.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct BatchMeta {
    /// The batch's name.
    pub id: BatchId,
    /// The core that takes it, by its name in the configuration.
    pub core: String,
    /// The path at the core.
    pub path: String,
    /// How the payload is packed.
    pub compression: Compression,
    /// What the payload's lines are.
    #[serde(default, skip_serializing_if = "Format::is_rows")]
    pub format: Format,
    /// What is in it.
    pub counts: Counts,
    /// When the batch was closed: milliseconds since 1970.
    pub sealed_at: u64,
    /// Whose rows are in it: bit N stands for agents of shard N. Two batches without a bit in common hold rows of
    /// different agents, so neither needs to wait for the other. A part keeps the bits of the whole.
    #[serde(default = "every_shard")]
    pub shards: u64,
    /// Of a dead letter: why the core refuses it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refusal: Option<Refused>,
}

/// Of a batch that does not say whose rows it holds, they may be anyone's.
fn every_shard() -> u64 {
    u64::MAX
}

/// Why the core refuses rows for good.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Refused {
    /// The status it answered.
    pub status: u16,
    /// What it said of the batch, cut to [`Self::MAX_REASON_BYTES`].
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
    /// What it said of each row, in their order; cut like the reason, and no more than the meta has room for: rows
    /// past the end have no reason.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rows: Vec<String>,
}

impl Refused {
    /// Bytes of a reason that are kept.
    pub const MAX_REASON_BYTES: usize = 256;

    /// Bytes of the reasons of all rows that are kept: with escapes, half of what a file's meta may have.
    const MAX_ROW_BYTES: usize = 16 * 1024;

    /// A refusal of a whole batch.
    pub fn whole(status: u16, reason: &str) -> Self {
        Self { status, reason: shortened(reason), rows: Vec::new() }
    }

    /// A refusal of single rows, with a reason for each.
    pub fn of_rows<'a>(status: u16, reasons: impl IntoIterator<Item = &'a str>) -> Self {
        let mut room = Self::MAX_ROW_BYTES;
        let within = |reason: &String| {
            room = room.saturating_sub(reason.len() + 3);
            room > 0
        };
        let rows = reasons.into_iter().map(shortened).take_while(within).collect();
        Self { status, reason: String::new(), rows }
    }
}

/// The beginning of a reason, its control characters left out: it is printed to terminals.
fn shortened(reason: &str) -> String {
    let mut kept: String =
        reason.chars().filter(|letter| !letter.is_control()).take(Refused::MAX_REASON_BYTES).collect();
    while kept.len() > Refused::MAX_REASON_BYTES {
        kept.pop();
    }
    kept
}

/// A batch on disk: its meta and its payload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BatchFile<'a> {
    /// All but the rows.
    pub meta: BatchMeta,
    /// The compressed rows.
    pub payload: &'a [u8],
}

/// Why bytes are no batch.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FileError {
    /// They begin like no form of batch.
    #[error("neither a batch file nor an lz4, zstd or gzip payload nor JSON lines")]
    Unknown,
    /// They were written by a later version.
    #[error(
        "a batch file of version {version} with features {features:#06x}; this program reads version 1 with features up \
         to 0x0001"
    )]
    Newer {
        /// The version found.
        version: u16,
        /// The features found.
        features: u16,
    },
    /// They end too early.
    #[error("the batch file is cut short")]
    Short,
    /// A checksum or the meta is wrong.
    #[error("the batch file's {part} is damaged")]
    Damaged {
        /// Which part.
        part: &'static str,
    },
    /// The payload cannot be unpacked.
    #[error(transparent)]
    Inflate(#[from] InflateError),
    /// Its lines say that they are in a format of a later version.
    #[error("the payload's format is {0:?}; this program reads rows/1 and shapes/1")]
    NewerFormat(String),
    /// Its lines are no tables of `shapes/1`.
    #[error("line {line} of the payload is no table of shapes/1, or does not fit the others")]
    Table {
        /// Which line, counted from 1.
        line: usize,
    },
}

const MAGIC: &[u8; 8] = b"WEIRBAT\0";
const VERSION: u16 = 1;
const SHAPES: u16 = 1;
const FEATURES: u16 = SHAPES;

impl<'a> BatchFile<'a> {
    /// The file's bytes.
    pub fn encode(meta: &BatchMeta, payload: &[u8]) -> Vec<u8> {
        let json = serde_json::to_vec(meta).expect("strings and numbers always serialise");
        let length = u32::try_from(json.len()).expect("the meta holds four names that the configuration bounds");
        let mut bytes = Vec::with_capacity(json.len() + payload.len() + 32);
        bytes.extend_from_slice(MAGIC);
        bytes.extend_from_slice(&VERSION.to_le_bytes());
        let features = if meta.format == Format::Shapes { SHAPES } else { 0 };
        bytes.extend_from_slice(&features.to_le_bytes());
        bytes.extend_from_slice(&length.to_le_bytes());
        bytes.extend_from_slice(&json);
        bytes.extend_from_slice(&crc32fast::hash(&bytes).to_le_bytes());
        bytes.extend_from_slice(&(payload.len() as u64).to_le_bytes());
        bytes.extend_from_slice(payload);
        bytes.extend_from_slice(&crc32fast::hash(payload).to_le_bytes());
        bytes
    }

    /// Reads the meta from a file's first [`Self::MAX_META_BYTES`] bytes, or from all of it when it is shorter, and
    /// says how long the whole file must be. The payload's bytes are neither needed nor checked.
    ///
    /// # Errors
    /// When the bytes begin no batch file, or a later version's, or are damaged.
    pub fn peek(prefix: &[u8]) -> Result<(BatchMeta, u64), FileError> {
        let (meta, rest) = read_meta(prefix)?;
        let (length, rest) = rest.split_first_chunk::<8>().ok_or(FileError::Short)?;
        let before = (prefix.len() - rest.len()) as u64;
        let length = u64::from_le_bytes(*length).checked_add(before + 4).ok_or(FileError::Short)?;
        Ok((meta, length))
    }

    /// Bytes within which the meta of every batch file ends.
    pub const MAX_META_BYTES: usize = 64 * 1024;

    /// Reads a whole file and checks every byte of it.
    ///
    /// # Errors
    /// When the bytes are no batch file, a later version's, cut short or damaged.
    pub fn decode(bytes: &'a [u8]) -> Result<Self, FileError> {
        let (meta, rest) = read_meta(bytes)?;
        let (length, rest) = rest.split_first_chunk::<8>().ok_or(FileError::Short)?;
        let length = usize::try_from(u64::from_le_bytes(*length)).map_err(|_| FileError::Short)?;
        let (payload, rest) = rest.split_at_checked(length).ok_or(FileError::Short)?;
        let (checksum, rest) = rest.split_first_chunk::<4>().ok_or(FileError::Short)?;
        if !rest.is_empty() || crc32fast::hash(payload) != u32::from_le_bytes(*checksum) {
            return Err(FileError::Damaged { part: "payload" });
        }
        Ok(Self { meta, payload })
    }
}

/// Reads the meta from a file's beginning and gives what follows it.
fn read_meta(bytes: &[u8]) -> Result<(BatchMeta, &[u8]), FileError> {
    let rest = bytes.strip_prefix(MAGIC).ok_or(FileError::Unknown)?;
    let (header, rest) = rest.split_first_chunk::<8>().ok_or(FileError::Short)?;
    let [v0, v1, f0, f1, l0, l1, l2, l3] = *header;
    let (version, features) = (u16::from_le_bytes([v0, v1]), u16::from_le_bytes([f0, f1]));
    if version > VERSION || features & !FEATURES != 0 {
        return Err(FileError::Newer { version, features });
    }
    // Zeros that a crash has left where the head was to be written.
    if version != VERSION {
        return Err(FileError::Damaged { part: "head" });
    }
    let length = usize::try_from(u32::from_le_bytes([l0, l1, l2, l3])).map_err(|_| FileError::Short)?;
    let (json, rest) = rest.split_at_checked(length).ok_or(FileError::Short)?;
    let (checksum, rest) = rest.split_first_chunk::<4>().ok_or(FileError::Short)?;
    let covered = MAGIC.len() + header.len() + length;
    if crc32fast::hash(&bytes[..covered]) != u32::from_le_bytes(*checksum) {
        return Err(FileError::Damaged { part: "meta" });
    }
    let meta = serde_json::from_slice(json).map_err(|_| FileError::Damaged { part: "meta" })?;
    Ok((meta, rest))
}

/// A batch in any form: a batch file, a bare payload as the core receives it, or plain JSON lines.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch<'a> {
    /// All but the rows, where the form has it.
    pub meta: Option<BatchMeta>,
    /// How the payload is packed.
    pub encoding: Encoding,
    /// The lines as packed.
    pub payload: &'a [u8],
}

impl<'a> Batch<'a> {
    /// Recognises the form of `bytes` by how they begin.
    ///
    /// # Errors
    /// When they are no batch in any form, or a damaged batch file.
    pub fn open(bytes: &'a [u8]) -> Result<Self, FileError> {
        if bytes.starts_with(MAGIC) {
            let BatchFile { meta, payload } = BatchFile::decode(bytes)?;
            let encoding = Encoding::Compressed(meta.compression);
            return Ok(Self { meta: Some(meta), encoding, payload });
        }
        let encoding = match bytes {
            [0x04, 0x22, 0x4d, 0x18, ..] => Encoding::Compressed(Compression::Lz4),
            [0x28, 0xb5, 0x2f, 0xfd, ..] => Encoding::Compressed(Compression::Zstd),
            [0x1f, 0x8b, ..] => Encoding::Compressed(Compression::Gzip),
            [b'{', ..] | [] => Encoding::Identity,
            _ => return Err(FileError::Unknown),
        };
        Ok(Self { meta: None, encoding, payload: bytes })
    }

    /// The rows, unpacked to at most `max_bytes` bytes, whatever the format.
    ///
    /// # Errors
    /// When the payload is corrupt, longer than that, or of a later format.
    pub fn rows(&self, max_bytes: usize) -> Result<Cow<'a, [u8]>, FileError> {
        let format = self.meta.as_ref().map(|meta| meta.format);
        Ok(read_rows(self.encoding, format, self.payload, max_bytes)?.0)
    }

    /// The lines as they travel, unpacked to at most `max_bytes` bytes.
    ///
    /// # Errors
    /// When the payload is corrupt or longer than that.
    pub fn lines(&self, max_bytes: usize) -> Result<Cow<'a, [u8]>, FileError> {
        Ok(self.encoding.inflate(self.payload, max_bytes)?)
    }
}

/// Unpacks and decodes rows; gives them, and the fields that made their shapes. Where nothing says the format, the lines
/// do: no row is of the kind `format`.
fn read_rows(
    encoding: Encoding,
    format: Option<Format>,
    payload: &[u8],
    max_bytes: usize,
) -> Result<(Cow<'_, [u8]>, Vec<String>), FileError> {
    let lines = encoding.inflate(payload, max_bytes)?;
    let named = shapes::format_of(&lines);
    match (format, named) {
        (Some(Format::Rows), _) | (None, None) => return Ok((lines, Vec::new())),
        (Some(Format::Shapes), _) | (None, Some(shapes::NAME)) => {}
        (None, Some(other)) => return Err(FileError::NewerFormat(other.to_owned())),
    }
    match shapes::decode(&lines, max_bytes) {
        Ok(decoded) => Ok((Cow::Owned(decoded.rows), decoded.same)),
        Err(Undecodable::TooLarge) => Err(InflateError::TooLarge { max_bytes }.into()),
        Err(Undecodable::Malformed { line }) => Err(FileError::Table { line }),
    }
}

/// A part of a batch, packed anew.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// Its meta, with an id of its own.
    pub meta: BatchMeta,
    /// Its compressed rows.
    pub payload: Vec<u8>,
}

impl BatchFile<'_> {
    /// Cuts the batch in two by rows; `None` for a batch of one row. The same batch is always cut at the same row.
    ///
    /// # Errors
    /// When the payload is corrupt.
    pub fn halve(&self) -> Result<Option<[Part; 2]>, FileError> {
        if self.meta.counts.rows < 2 {
            return Ok(None);
        }
        let middle = self.meta.counts.rows.div_ceil(2);
        let [first, second] = self.meta.id.split();
        Ok(Some([self.pick(first, |row| row < middle)?, self.pick(second, |row| row >= middle)?]))
    }

    /// Packs the rows that `keep` is true for, by their numbers from 0, as a batch of that id.
    ///
    /// # Errors
    /// When the payload is corrupt.
    pub fn pick(&self, id: BatchId, mut keep: impl FnMut(u64) -> bool) -> Result<Part, FileError> {
        let damaged = |_| FileError::Damaged { part: "payload" };
        let encoding = Encoding::Compressed(self.meta.compression);
        let max_bytes = usize::try_from(self.meta.counts.raw_bytes).unwrap_or(usize::MAX);
        let (rows, same) = read_rows(encoding, Some(self.meta.format), self.payload, max_bytes)?;
        let mut rest: &[u8] = &rows;
        let mut encoder = match self.meta.format {
            Format::Rows => BatchEncoder::new(self.meta.compression).map_err(damaged)?,
            Format::Shapes => BatchEncoder::shapes(self.meta.compression, same),
        };
        for number in 0..self.meta.counts.rows {
            let end = memchr(b'\n', rest).ok_or(FileError::Damaged { part: "payload" })?;
            let (row, after) = rest.split_at(end + 1);
            rest = after;
            if !keep(number) {
                continue;
            }
            push_again(&mut encoder, row).map_err(damaged)?;
        }
        let payload = encoder.finish().map_err(damaged)?;
        let meta = BatchMeta { id, format: payload.format, counts: payload.counts, ..self.meta.clone() };
        Ok(Part { meta, payload: payload.bytes })
    }
}

/// Adds a row that stands for as many records as it says.
fn push_again(encoder: &mut BatchEncoder, row: &[u8]) -> std::io::Result<()> {
    #[derive(serde::Deserialize)]
    struct Head<'a> {
        kind: &'a str,
        #[serde(default)]
        count: u64,
    }
    match serde_json::from_slice(row) {
        Ok(Head { kind: "repeat" | "unchanged", count }) => encoder.push_repeat(row, count),
        Ok(Head { kind: "state", count }) => encoder.push_counted(row, count, count.saturating_sub(1)),
        Ok(Head { kind: "loss", .. }) => encoder.push_counted(row, 0, 0),
        _ => encoder.push(row),
    }
}

#[cfg(test)]
mod tests;
