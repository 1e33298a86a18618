//! Who sends records, and a record's fields as the bytes of a key.

use xxhash_rust::xxh3::xxh3_64;

use super::SHARDS;

/// Who sends records, prepared for a run of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin<'a> {
    pub(super) tenant: Option<&'a str>,
    pub(super) agent: Option<&'a str>,
    prefix: Vec<u8>,
    shard: usize,
}

impl<'a> Origin<'a> {
    /// The origin of an upload; `None` where the request did not say.
    pub fn new(tenant: Option<&'a str>, agent: Option<&'a str>) -> Self {
        let mut prefix = Vec::new();
        push_part(&mut prefix, tenant.map(str::as_bytes));
        push_part(&mut prefix, agent.map(str::as_bytes));
        // XXH3 is fixed for good, as what a journal means depends on it.
        let shard = usize::try_from(xxh3_64(&prefix) % SHARDS as u64).unwrap_or_default();
        Self { tenant, agent, prefix, shard }
    }

    /// Where its windows are kept: below [`SHARDS`], the same for all records of one agent.
    pub fn shard(&self) -> usize {
        self.shard
    }

    /// The two names as parts of a key.
    pub(crate) fn key_prefix(&self) -> &[u8] {
        &self.prefix
    }
}

/// Appends a part: four bytes that hold 0 for an absent one, else its length and one, and then its bytes. No two lists of
/// parts look alike.
pub(crate) fn push_part(key: &mut Vec<u8>, part: Option<&[u8]>) {
    let length = part.map_or(0, |part| u32::try_from(part.len() + 1).expect("a record is far below 4 GiB"));
    key.extend_from_slice(&length.to_le_bytes());
    key.extend_from_slice(part.unwrap_or_default());
}

/// A key's parts in order.
pub(crate) fn parts(key: &[u8]) -> impl Iterator<Item = Option<&[u8]>> {
    let mut rest = key;
    std::iter::from_fn(move || {
        let (length, after) = rest.split_first_chunk::<4>()?;
        let length = u32::from_le_bytes(*length) as usize;
        let (part, after) = after.split_at_checked(length.saturating_sub(1))?;
        rest = after;
        Some((length > 0).then_some(part))
    })
}

/// The part at `index`.
pub(crate) fn part(key: &[u8], index: usize) -> Option<&[u8]> {
    parts(key).nth(index).flatten()
}

/// A part that was made of a string.
pub(crate) fn text(part: Option<&[u8]>) -> Option<&str> {
    part.and_then(|part| std::str::from_utf8(part).ok())
}
