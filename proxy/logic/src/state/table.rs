//! What outlives a window, as bytes.
//!
//! A content, integers little-endian: one byte that is 1 when it replaces all that came before; the time up to which
//! windows have ended, as eight bytes; the keys that are gone and the keys that are there, each list with its length
//! before it as four bytes. A key: its length as four bytes, and its bytes. A key that is there is followed by the hash
//! of what was sent last, 16 bytes, and four numbers of eight: when it was sent, when the first and the last of the counted
//! records came, and how many they are.
//!
//! Checksums, versions and names of files are for whoever writes them.

use crate::Millis;

/// A change of one shard's table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The shard.
    pub shard: u8,
    /// What the table holds from now on.
    pub content: Content,
}

/// What a table holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    /// Nothing: there is no table any more.
    Nothing,
    /// This alone.
    Full(Vec<u8>),
    /// This too.
    More(Vec<u8>),
}

/// Bytes that are no content of this table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the content of a table is damaged")]
pub struct Corrupt;

/// What is remembered of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Saved {
    /// Of what was sent last.
    pub(super) hash: [u8; 16],
    /// When that was.
    pub(super) sent_at: Millis,
    /// When the first of the counted records came; of no meaning while none is counted.
    pub(super) first_seen: Millis,
    /// When the last record came.
    pub(super) last_seen: Millis,
    /// Records counted since.
    pub(super) count: u64,
}

/// Records that one key can have counted: more than a node takes in a thousand years.
const MAX_COUNT: u64 = 1 << 40;

/// Keys of one table, at most, so that no sum overflows.
const MAX_KEYS: usize = 1 << 22;

impl Saved {
    /// Whether this can stand in a table that was written by then.
    pub(super) fn is_sane(&self, latest: Millis) -> bool {
        self.sent_at.max(self.first_seen).max(self.last_seen) <= latest && self.count <= MAX_COUNT
    }
}

/// A content, read.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Decoded<'a> {
    pub(super) full: bool,
    pub(super) until: Millis,
    pub(super) gone: Vec<&'a [u8]>,
    pub(super) there: Vec<(&'a [u8], Saved)>,
}

pub(super) fn encode(full: bool, until: Millis, gone: &[&[u8]], there: &[(&[u8], Saved)]) -> Vec<u8> {
    let mut output = vec![u8::from(full)];
    output.extend_from_slice(&until.0.to_le_bytes());
    push_length(&mut output, gone.len());
    for key in gone {
        push_length(&mut output, key.len());
        output.extend_from_slice(key);
    }
    push_length(&mut output, there.len());
    for (key, saved) in there {
        push_length(&mut output, key.len());
        output.extend_from_slice(key);
        output.extend_from_slice(&saved.hash);
        for number in [saved.sent_at.0, saved.first_seen.0, saved.last_seen.0, saved.count] {
            output.extend_from_slice(&number.to_le_bytes());
        }
    }
    output
}

pub(super) fn decode(content: &[u8]) -> Result<Decoded<'_>, Corrupt> {
    let mut rest = content;
    let [full] = take(&mut rest)?;
    let until = Millis(u64::from_le_bytes(take(&mut rest)?));
    let mut decoded = Decoded { full: full == 1, until, gone: Vec::new(), there: Vec::new() };
    for _ in 0..take_length(&mut rest)?.min(MAX_KEYS) {
        decoded.gone.push(take_key(&mut rest)?);
    }
    for _ in 0..take_length(&mut rest)?.min(MAX_KEYS) {
        let key = take_key(&mut rest)?;
        let hash = take(&mut rest)?;
        let mut number = || take(&mut rest).map(u64::from_le_bytes);
        let (sent_at, first_seen, last_seen) = (Millis(number()?), Millis(number()?), Millis(number()?));
        let saved = Saved { hash, sent_at, first_seen, last_seen, count: number()? };
        decoded.there.push((key, saved));
    }
    if rest.is_empty() && full <= 1 { Ok(decoded) } else { Err(Corrupt) }
}

fn push_length(output: &mut Vec<u8>, length: usize) {
    let length = u32::try_from(length).expect("keys are bounded far below 2^32, and so are their bytes");
    output.extend_from_slice(&length.to_le_bytes());
}

fn take<const N: usize>(rest: &mut &[u8]) -> Result<[u8; N], Corrupt> {
    let (taken, after) = rest.split_first_chunk::<N>().ok_or(Corrupt)?;
    *rest = after;
    Ok(*taken)
}

fn take_length(rest: &mut &[u8]) -> Result<usize, Corrupt> {
    Ok(u32::from_le_bytes(take(rest)?) as usize)
}

fn take_key<'a>(rest: &mut &'a [u8]) -> Result<&'a [u8], Corrupt> {
    let length = take_length(rest)?;
    let (key, after) = rest.split_at_checked(length).ok_or(Corrupt)?;
    *rest = after;
    Ok(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_content_reads_back_as_it_was_written_and_no_part_of_it_does() {
        let saved = Saved { hash: [7; 16], sent_at: Millis(1), first_seen: Millis(2), last_seen: Millis(3), count: 4 };
        let gone: [&[u8]; 2] = [b"a", b""];
        let there = [(b"key".as_slice(), saved)];
        let content = encode(false, Millis(9), &gone, &there);
        let decoded = decode(&content).unwrap();
        assert_eq!((decoded.full, decoded.until), (false, Millis(9)));
        assert_eq!((decoded.gone.as_slice(), decoded.there.as_slice()), (gone.as_slice(), there.as_slice()));
        for end in 0..content.len() {
            assert_eq!(decode(&content[..end]), Err(Corrupt), "{end}");
        }
        assert_eq!(decode(&[content, vec![0]].concat()), Err(Corrupt));
    }
}
