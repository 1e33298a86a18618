//! Repeats of one agent's records, counted over a window.
//!
//! The first sight of a key leaves at once, unchanged. Records with the same key that follow within the window are
//! counted, and one [`Repeat`] with the count leaves when the window ends. A key is the tenant, the agent and the JSON
//! text of every `same` field, compared in full: one byte changed anywhere is a new key, the number 1 is not the string
//! "1", and an absent field is not a null. Records of two agents never meet. A record that has none of the `same`
//! fields, or one of them twice, is never counted into another: it always leaves unchanged.
//!
//! # Windows
//! Windows lie at fixed places on the clock, so that what is open at any moment follows from the records of the windows
//! still open and from nothing older: a journal of those records is all it takes to rebuild a merger. Agents are spread
//! over [`SHARDS`] shards by a hash of their names; each shard's windows are shifted by another fraction of the window,
//! so that not all end at once.
//!
//! # Bounds
//! A merger holds no more than `max_keys` keys for long: past that, [`Merger::overfull`] names the fullest shard, which
//! the caller sends off early with [`Merger::flush`]. The decision is the caller's because it must be written to the
//! journal before it takes effect. In the worst case a key costs `max_record_bytes` for its fields and as much for its
//! exemplars.
//!
//! Not here: where records come from, where repeats go, and the time.

pub(crate) mod fields;
pub(crate) mod key;

use std::collections::HashMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use self::fields::Fields;
pub use self::key::Origin;
use crate::Millis;

/// The parts over which agents are spread. Part of what a journal means: never to be changed.
pub const SHARDS: usize = 64;

/// How records merge.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MergePlan {
    /// The fields that make two records the same: each a top-level name, or a JSON pointer (RFC 6901) when it begins
    /// with a slash.
    pub same: Vec<String>,
    /// The fields of which a repeat keeps examples.
    pub exemplars: Vec<String>,
    /// Examples kept for each repeat, at most.
    pub max_exemplars: usize,
    /// The time over which repeats are counted, at least a millisecond.
    pub window_ms: u64,
    /// Keys held at once, at most, but for those that arrive until a flush takes effect.
    pub max_keys: usize,
}

/// What became of a record.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Applied {
    /// It is new: it leaves at once, unchanged.
    First,
    /// It is counted; its repeat leaves when the window ends.
    Repeat,
}

/// A shard's window: what an early flush names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShardWindow {
    /// The shard, below [`SHARDS`].
    pub shard: u8,
    /// The window's number since 1970.
    pub window: u64,
}

/// Records that were counted, leaving as one row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Repeat {
    /// When the first sight was received, the one that has left unchanged.
    pub first_seen: Millis,
    /// When the last of the counted records was received.
    pub last_seen: Millis,
    /// How many were counted; the first sight is not among them.
    pub count: u64,
    /// Examples of what differs, each the JSON text of an object.
    pub exemplars: Vec<Box<[u8]>>,
    /// Whether it leaves before its window has ended.
    pub early: bool,
    key: Box<[u8]>,
}

impl Repeat {
    /// The tenant whose agent sent the records.
    pub fn tenant(&self) -> Option<&str> {
        key::text(key::part(&self.key, 0))
    }

    /// The agent that sent the records.
    pub fn agent(&self) -> Option<&str> {
        key::text(key::part(&self.key, 1))
    }

    /// The shard of that agent: [`Origin::shard`].
    pub fn shard(&self) -> usize {
        Origin::new(self.tenant(), self.agent()).shard()
    }

    /// The JSON text of each of the plan's `same` fields, in its order; `None` where the records lack it.
    pub fn fields(&self) -> impl Iterator<Item = Option<&[u8]>> {
        key::parts(&self.key).skip(2)
    }
}

/// Counts repeats. See the module's documentation.
#[derive(Debug)]
pub struct Merger {
    plan: MergePlan,
    fields: Fields,
    shards: Vec<Shard>,
    now: Millis,
    keys: usize,
    counted: u64,
    scratch: Vec<u8>,
}

#[derive(Debug, Default)]
struct Shard {
    window: u64,
    entries: HashMap<Box<[u8]>, Entry>,
    repeats: usize,
}

#[derive(Debug)]
struct Entry {
    order: usize,
    first_seen: Millis,
    last_seen: Millis,
    count: u64,
    exemplars: Vec<Box<[u8]>>,
}

impl Merger {
    /// A merger that holds nothing.
    pub fn new(plan: MergePlan) -> Self {
        Self {
            fields: Fields::new(&plan.same, &plan.exemplars),
            shards: (0..SHARDS).map(|_| Shard::default()).collect(),
            now: Millis::default(),
            keys: 0,
            counted: 0,
            scratch: Vec::new(),
            plan,
        }
    }

    /// How records merge here.
    pub fn plan(&self) -> &MergePlan {
        &self.plan
    }

    /// Keys held.
    pub fn keys(&self) -> usize {
        self.keys
    }

    /// Records counted and not yet given back as repeats.
    pub fn counted(&self) -> u64 {
        self.counted
    }

    /// Moves the time on to `now` and gives the repeats of the windows that have ended, in the order of their ends. A
    /// `now` before the last one changes nothing.
    pub fn advance(&mut self, now: Millis) -> Vec<Repeat> {
        self.now = self.now.max(now);
        let mut ended: Vec<(Millis, usize)> = self
            .shards
            .iter()
            .enumerate()
            .filter(|(_, shard)| !shard.entries.is_empty())
            .map(|(index, shard)| (self.end_of(index, shard.window), index))
            .filter(|(end, _)| *end <= self.now)
            .collect();
        ended.sort_unstable();
        ended.into_iter().flat_map(|(_, index)| self.close(index, false)).collect()
    }

    /// Takes a record received now, that is, at the time last given to [`Self::advance`].
    pub fn apply(&mut self, origin: &Origin, record: &[u8]) -> Applied {
        let Some(values) = self.fields.values(record) else { return Applied::First };
        self.scratch.clear();
        self.scratch.extend_from_slice(origin.key_prefix());
        for value in values.same() {
            key::push_part(&mut self.scratch, value);
        }
        let window = self.window_of(origin.shard());
        let shard = &mut self.shards[origin.shard()];
        if let Some(entry) = shard.entries.get_mut(self.scratch.as_slice()) {
            shard.repeats += usize::from(entry.count == 0);
            entry.count += 1;
            entry.last_seen = self.now;
            if entry.exemplars.len() < self.plan.max_exemplars {
                entry.exemplars.extend(values.exemplar());
            }
            self.counted += 1;
            return Applied::Repeat;
        }
        shard.window = window;
        let order = shard.entries.len();
        let entry = Entry { order, first_seen: self.now, last_seen: self.now, count: 0, exemplars: Vec::new() };
        shard.entries.insert(self.scratch.as_slice().into(), entry);
        self.keys += 1;
        Applied::First
    }

    /// When the next window with something to give back ends; `None` while nothing is counted.
    pub fn next_due(&self) -> Option<Millis> {
        let waiting = self.shards.iter().enumerate().filter(|(_, shard)| shard.repeats > 0);
        waiting.map(|(index, shard)| self.end_of(index, shard.window)).min()
    }

    /// The fullest shard, when more keys are held than may be.
    pub fn overfull(&self) -> Option<ShardWindow> {
        if self.keys <= self.plan.max_keys {
            return None;
        }
        let (index, shard) = self.shards.iter().enumerate().max_by_key(|(_, shard)| shard.entries.len())?;
        Some(ShardWindow { shard: u8::try_from(index).ok()?, window: shard.window })
    }

    /// Forgets a shard's keys and gives back its repeats, marked early; nothing when the shard's window is another one
    /// by now.
    pub fn flush(&mut self, which: ShardWindow) -> Vec<Repeat> {
        let index = usize::from(which.shard) % SHARDS;
        if self.shards[index].window == which.window { self.close(index, true) } else { Vec::new() }
    }

    /// Forgets all keys and gives back all repeats, marked early.
    pub fn flush_all(&mut self) -> Vec<Repeat> {
        (0..SHARDS).flat_map(|index| self.close(index, true)).collect()
    }

    fn close(&mut self, index: usize, early: bool) -> Vec<Repeat> {
        let shard = std::mem::take(&mut self.shards[index]);
        self.keys -= shard.entries.len();
        let mut entries: Vec<_> = shard.entries.into_iter().filter(|(_, entry)| entry.count > 0).collect();
        entries.sort_unstable_by_key(|(_, entry)| entry.order);
        self.counted -= entries.iter().map(|(_, entry)| entry.count).sum::<u64>();
        entries.into_iter().map(|(key, entry)| entry.leave(key, early)).collect()
    }

    fn window_of(&self, shard: usize) -> u64 {
        (self.now.0 + self.phase(shard)) / self.plan.window_ms
    }

    fn end_of(&self, shard: usize, window: u64) -> Millis {
        let end = Duration::from_millis((window + 1) * self.plan.window_ms - self.phase(shard));
        Millis::default().after(end)
    }

    fn phase(&self, shard: usize) -> u64 {
        self.plan.window_ms * shard as u64 / SHARDS as u64
    }
}

impl Entry {
    fn leave(self, key: Box<[u8]>, early: bool) -> Repeat {
        let Self { first_seen, last_seen, count, exemplars, .. } = self;
        Repeat { first_seen, last_seen, count, exemplars, early, key }
    }
}

#[cfg(test)]
mod tests;
