//! Purges: operators and cores take answers out of use before their time, by what the answers are marked with.
//!
//! A purge is a note with a number, and costs the same however many answers it hits. An answer carries the number of the
//! last purge before its fill was *started*, and a mark for everything besides its key that it can be purged by: its route,
//! its tenant, and the tags that the core gave it. Before an answer is used its marks are compared with the notes that are newer than
//! it; so an answer on its way while a purge happens is hit as well, and nothing can put it back.
//!
//! Not here: forgetting the bodies of purged answers, which is a matter of memory and not of truth.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64;

use crate::heap::allocation;
use crate::{CacheKey, Millis};

/// What an answer can be purged by, as a 64-bit hash (XXH3). Two different marks that collide purge one answer too many,
/// which costs the core one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Mark(u64);

/// What is to be purged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// Everything.
    All,
    /// All answers with this mark.
    Marked(Mark),
    /// All answers to requests whose path begins so, byte for byte as agents send it.
    Prefix(String),
}

/// What becomes of purged answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// They are stale from now on: the core is asked, and they serve while it is asked or fails, as the route allows.
    Soft,
    /// They are never used again.
    Hard,
}

/// The number of a purge; greater is later. Zero is before all of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct PurgeNumber(pub u64);

/// What an answer is marked with. Memory: eight bytes a mark, and the path.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Marks {
    marks: Box<[Mark]>,
    path: Box<str>,
    /// Which changes put the answer out of date.
    place: Mark,
}

/// The notes on purges. Memory: some tens of bytes for each mark or prefix purged since the last [`Purges::forget`], at most
/// [`Purges::MAX_MARKS`] and [`Purges::MAX_PREFIXES`].
#[derive(Clone, Debug, Default)]
pub struct Purges {
    latest: PurgeNumber,
    marks: HashMap<Mark, Note>,
    prefixes: Vec<(String, Note)>,
    all: Note,
}

/// The last purges of one target.
#[derive(Clone, Copy, Debug, Default)]
struct Note {
    hard: PurgeNumber,
    soft: PurgeNumber,
    /// When the last of them was: answers are stale from then on.
    at: Millis,
}

/// What the purges say of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// None of them means it.
    Untouched,
    /// It is stale since then.
    StaleSince(Millis),
    /// It must not be used.
    Gone,
}

impl Mark {
    /// The mark of a key.
    pub fn key(key: &CacheKey) -> Self {
        Self::of(b'k', key.as_bytes())
    }

    /// The mark of a route, by its name.
    pub fn route(name: &str) -> Self {
        Self::of(b'r', name.as_bytes())
    }

    /// The mark of a tenant.
    pub fn tenant(name: &str) -> Self {
        Self::of(b't', name.as_bytes())
    }

    /// The mark of a tag that the core has given.
    pub fn tag(tag: &str) -> Self {
        Self::of(b'g', tag.as_bytes())
    }

    /// The mark of what everyone, or one tenant, is given under a path.
    pub fn place(path: &str, tenant: Option<&str>) -> Self {
        // A path holds no NUL byte, so that what follows the last one is the path.
        tenant.map_or_else(
            || Self::of(b'p', path.as_bytes()),
            |name| Self::of(b'q', format!("{name}\0{path}").as_bytes()),
        )
    }

    /// Its bytes, by which it can be hashed once more.
    pub fn to_bytes(self) -> [u8; 8] {
        self.0.to_be_bytes()
    }

    fn of(kind: u8, name: &[u8]) -> Self {
        let mut text = Vec::with_capacity(name.len() + 1);
        text.push(kind);
        text.extend_from_slice(name);
        Self(xxh3_64(&text))
    }
}

impl Marks {
    /// Tags of one answer, at most; the core's further ones are passed over.
    pub const MAX_TAGS: usize = 64;

    /// The marks of an answer to a request with this path.
    pub fn new(marks: impl IntoIterator<Item = Mark>, path: &str) -> Self {
        Self { marks: marks.into_iter().collect(), path: path.into(), place: Mark::place(path, None) }
    }

    /// The marks of an answer to a request with this path on that route, given to this tenant only if one is named, with these tags.
    pub fn of_answer(route: &str, tenant: Option<&str>, path: &str, tags: impl IntoIterator<Item = Mark>) -> Self {
        let marks = [Mark::route(route)].into_iter().chain(tenant.map(Mark::tenant)).chain(tags);
        Self::new(marks, path).of_tenant(tenant)
    }

    /// The tags of marks that were made by [`Marks::of_answer`], and of those that have others besides.
    pub fn tags(&self) -> impl Iterator<Item = Mark> {
        let of_tenant = self.place != Mark::place(&self.path, None);
        self.iter().skip(1 + usize::from(of_tenant))
    }

    /// The same for an answer that only this tenant is given.
    #[must_use]
    pub fn of_tenant(self, tenant: Option<&str>) -> Self {
        Self { place: Mark::place(&self.path, tenant), ..self }
    }

    /// The same answer with other marks besides its path and tenant.
    #[must_use]
    pub fn with(&self, marks: impl IntoIterator<Item = Mark>) -> Self {
        Self { marks: marks.into_iter().collect(), path: self.path.clone(), place: self.place }
    }

    /// Each mark.
    pub fn iter(&self) -> impl Iterator<Item = Mark> {
        self.marks.iter().copied()
    }

    /// The path of the request.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Bytes of memory besides the structure itself.
    pub fn bytes(&self) -> usize {
        allocation(size_of_val(&*self.marks)) + allocation(self.path.len())
    }
}

impl Purges {
    /// Marks that are noted at once, at most.
    pub const MAX_MARKS: usize = 65_536;
    /// Prefixes that are noted at once, at most: they are compared one by one.
    pub const MAX_PREFIXES: usize = 256;

    /// The number of the last purge. Answers not older than it need no look at the notes.
    pub fn latest(&self) -> PurgeNumber {
        self.latest
    }

    /// Notes a purge, and gives its number; `None` when there are as many notes as may be, until some are forgotten.
    pub fn purge(&mut self, target: Target, severity: Severity, now: Millis) -> Option<PurgeNumber> {
        let note = match target {
            Target::All => &mut self.all,
            Target::Marked(mark) => {
                if self.marks.len() >= Self::MAX_MARKS && !self.marks.contains_key(&mark) {
                    return None;
                }
                self.marks.entry(mark).or_default()
            }
            Target::Prefix(prefix) => {
                let known = self.prefixes.iter().position(|(known, _)| *known == prefix);
                if known.is_none() && self.prefixes.len() >= Self::MAX_PREFIXES {
                    return None;
                }
                let place = known.unwrap_or_else(|| {
                    self.prefixes.push((prefix, Note::default()));
                    self.prefixes.len() - 1
                });
                &mut self.prefixes[place].1
            }
        };
        self.latest.0 += 1;
        let latest = self.latest;
        note.at = now;
        match severity {
            Severity::Hard => note.hard = latest,
            Severity::Soft => note.soft = latest,
        }
        Some(latest)
    }

    /// What the purges since `since` say of the answer of that key with these marks.
    pub fn verdict(&self, key: Mark, marks: &Marks, since: PurgeNumber) -> Verdict {
        if since >= self.latest {
            return Verdict::Untouched;
        }
        let by_mark = marks.iter().chain([key, marks.place]).filter_map(|mark| self.marks.get(&mark));
        let by_prefix = self.prefixes.iter().filter(|(prefix, _)| marks.path.starts_with(prefix)).map(|(_, note)| note);
        let mut stale_since: Option<Millis> = None;
        for note in by_mark.chain(by_prefix).chain([&self.all]) {
            if note.hard > since {
                return Verdict::Gone;
            }
            if note.soft > since {
                stale_since = Some(stale_since.map_or(note.at, |at| at.min(note.at)));
            }
        }
        stale_since.map_or(Verdict::Untouched, Verdict::StaleSince)
    }

    /// Forgets the notes on purges up to `number`, when no answer in use or on its way is older than that.
    pub fn forget(&mut self, number: PurgeNumber) {
        let newer = |note: &Note| note.hard.max(note.soft) > number;
        self.marks.retain(|_, note| newer(note));
        self.prefixes.retain(|(_, note)| newer(note));
    }

    /// Notes kept.
    pub fn notes(&self) -> usize {
        self.marks.len() + self.prefixes.len()
    }
}

#[cfg(test)]
mod tests;
