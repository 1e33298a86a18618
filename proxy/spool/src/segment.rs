//! A segment: the file of one generation.
//!
//! Layout of version 1, integers little-endian: the magic `WEIRSEG` and a zero byte; the version as two bytes; two
//! bytes of features that a reader must know, none so far; the generation as eight bytes; the length of the plan as
//! four bytes; the [`Plan`] as JSON; the CRC-32 of all before it; then entries. A whole segment ends with an `End`
//! entry.

use std::io;
use std::path::Path;

use crate::files::Files;
use crate::plan::Plan;

/// The head of a segment.
#[derive(Debug)]
pub(crate) struct Head {
    pub(crate) generation: u64,
    pub(crate) plan: Plan,
    /// Its bytes: entries begin after them.
    pub(crate) length: u64,
}

/// Why a file is no segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unreadable {
    /// Its head is cut short or damaged.
    Damaged,
    /// A later version wrote it.
    Newer { version: u16, features: u16 },
}

const MAGIC: &[u8; 8] = b"WEIRSEG\0";
const VERSION: u16 = 1;
const FEATURES: u16 = 0;
const FIXED: usize = 24;

/// Bytes that hold nearly every head, and those that hold any: a plan is a few names and the fields of a stream.
const USUAL_HEAD: usize = 4 * 1024;
const MAX_HEAD: usize = 1024 * 1024;

/// The head of a segment.
pub(crate) fn encode_head(generation: u64, plan: &Plan) -> Vec<u8> {
    let plan = serde_json::to_vec(plan).expect("strings and numbers always serialise");
    let mut head = Vec::with_capacity(FIXED + plan.len() + 4);
    head.extend_from_slice(MAGIC);
    head.extend_from_slice(&VERSION.to_le_bytes());
    head.extend_from_slice(&FEATURES.to_le_bytes());
    head.extend_from_slice(&generation.to_le_bytes());
    head.extend_from_slice(&u32::try_from(plan.len()).expect("a plan is a few names").to_le_bytes());
    head.extend_from_slice(&plan);
    head.extend_from_slice(&crc32fast::hash(&head).to_le_bytes());
    head
}

/// The file name of a generation's segment.
pub(crate) fn file_name(generation: u64) -> String {
    format!("{generation:020}.segment")
}

/// The generation that a file name says. Another spelling of the same number is no segment's name.
pub(crate) fn generation_of(name: &str) -> Option<u64> {
    let generation = name.strip_suffix(".segment")?.parse().ok()?;
    (file_name(generation) == name).then_some(generation)
}

/// Reads a segment's head.
pub(crate) fn read_head<F: Files>(files: &F, path: &Path) -> io::Result<Result<Head, Unreadable>> {
    let mut bytes = files.read(path, USUAL_HEAD)?;
    if bytes.len() == USUAL_HEAD && matches!(decode_head(&bytes), Err(Unreadable::Damaged)) {
        bytes = files.read(path, MAX_HEAD)?;
    }
    Ok(decode_head(&bytes))
}

fn decode_head(bytes: &[u8]) -> Result<Head, Unreadable> {
    let (fixed, rest) = bytes.split_first_chunk::<FIXED>().ok_or(Unreadable::Damaged)?;
    let (magic, fixed) = fixed.split_at(MAGIC.len());
    if magic != MAGIC {
        return Err(Unreadable::Damaged);
    }
    let version = u16::from_le_bytes([fixed[0], fixed[1]]);
    let features = u16::from_le_bytes([fixed[2], fixed[3]]);
    if version > VERSION || features & !FEATURES != 0 {
        return Err(Unreadable::Newer { version, features });
    }
    // Zeros that a crash has left where the head was to be written.
    if version != VERSION {
        return Err(Unreadable::Damaged);
    }
    let generation = fixed[4..12].iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte));
    let length = fixed[12..16].iter().rev().fold(0, |number, byte| number << 8 | usize::from(*byte));
    let (plan, rest) = rest.split_at_checked(length).ok_or(Unreadable::Damaged)?;
    let checksum = rest.first_chunk::<4>().ok_or(Unreadable::Damaged)?;
    if crc32fast::hash(&bytes[..FIXED + length]) != u32::from_le_bytes(*checksum) {
        return Err(Unreadable::Damaged);
    }
    let plan = serde_json::from_slice(plan).map_err(|_| Unreadable::Damaged)?;
    Ok(Head { generation, plan, length: (FIXED + length + 4) as u64 })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_segment_goes_by_one_name_alone() {
        assert_eq!(generation_of(&file_name(7)), Some(7));
        // Read under any other name, the generation would be looked for in a file that is not there.
        for name in ["7.segment", "+0000000000000000007.segment", "00000000000000000007.segment.damaged", ".segment"] {
            assert_eq!(generation_of(name), None, "{name}");
        }
    }
}
