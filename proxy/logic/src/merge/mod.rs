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
//! What is held is bounded in keys and in bytes, for all and for each tenant. The bytes are counted from above: a key's
//! bytes and those of its exemplars as an allocator rounds them, its place in a hash table that has just grown, and the
//! names and tables of its agent and tenant, which are there once for each shard. Past a bound, [`Merger::overfull`]
//! names what should leave early: a tenant that holds more than its share, else those windows with a fair part that end
//! soonest, until an eighth of the bound is free. The decision is the caller's ([`Merger::evict`]) because it must be
//! written to the journal before it takes effect. Until then more is held: what the caller applies in between, and never
//! less than one record, which may bring a key or an exemplar of nearly `max_record_bytes`.
//!
//! Agents choose the keys. Tables hash under a secret of the merger, so that no choice makes a table slow, and compare keys in full,
//! so that no two keys are ever taken for one.
//!
//! Not here: where records come from, where repeats go, and the time.

pub(crate) mod fields;
mod json;
pub(crate) mod key;
mod load;
mod shard;

use std::num::NonZeroU64;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use self::fields::{Fields, Found};
pub use self::key::Origin;
pub use self::load::Load;
use self::load::Tenants;
use self::shard::{Growth, Hashing, Part, Shard};
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
    /// The time over which repeats are counted, in milliseconds.
    pub window_ms: NonZeroU64,
    /// What is held at once, at most, but for what arrives until something leaves early.
    pub max: Load,
    /// What is held of one tenant, likewise. Records without a tenant are those of one more tenant.
    pub max_tenant: Load,
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

/// A shard's window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ShardWindow {
    /// The shard, below [`SHARDS`].
    pub shard: u8,
    /// The window's number since 1970.
    pub window: u64,
}

/// What leaves early for want of room.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Eviction {
    /// A shard's window.
    Window(ShardWindow),
    /// All that is held of a tenant, or of those who name none.
    Tenant(Option<String>),
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
    tenant: Option<Arc<str>>,
    agent: Option<Arc<str>>,
    shard: usize,
    key: Box<[u8]>,
}

impl Repeat {
    /// The tenant whose agent sent the records.
    pub fn tenant(&self) -> Option<&str> {
        self.tenant.as_deref()
    }

    /// The agent that sent the records.
    pub fn agent(&self) -> Option<&str> {
        self.agent.as_deref()
    }

    /// The shard of that agent: [`Origin::shard`].
    pub fn shard(&self) -> usize {
        self.shard
    }

    /// The JSON text of each of the plan's `same` fields, in its order; `None` where the records lack it.
    pub fn fields(&self) -> impl Iterator<Item = Option<&[u8]>> {
        key::parts(&self.key)
    }
}

/// Counts repeats. See the module's documentation.
#[derive(Debug)]
pub struct Merger {
    plan: MergePlan,
    fields: Fields,
    shards: Vec<Shard>,
    tenants: Tenants,
    hashing: Hashing,
    now: Millis,
    /// No window with a key in it ends earlier.
    earliest_end: Millis,
    load: Load,
    counted: u64,
    found: Found,
    key: Vec<u8>,
}

impl Merger {
    /// A merger that holds nothing.
    pub fn new(plan: MergePlan) -> Self {
        let hashing = Hashing::new();
        Self {
            fields: Fields::new(&plan.same, &plan.exemplars),
            shards: (0..SHARDS).map(|_| Shard::new(&hashing.names)).collect(),
            tenants: Tenants::new(plan.max_tenant, &hashing.names),
            hashing,
            now: Millis::default(),
            earliest_end: Millis(u64::MAX),
            load: Load::default(),
            counted: 0,
            found: Found::default(),
            key: Vec::new(),
            plan,
        }
    }

    /// How records merge here.
    pub fn plan(&self) -> &MergePlan {
        &self.plan
    }

    /// What is held.
    pub fn load(&self) -> Load {
        self.load
    }

    /// Records counted and not yet given back as repeats.
    pub fn counted(&self) -> u64 {
        self.counted
    }

    /// Moves the time on to `now` and gives the repeats of the windows that have ended, in the order of their ends. A
    /// `now` before the last one changes nothing.
    pub fn advance(&mut self, now: Millis) -> impl Iterator<Item = Repeat> + use<> {
        self.now = self.now.max(now);
        let mut ended = Vec::new();
        if self.earliest_end <= self.now {
            ended = self.windows().filter(|(end, _)| *end <= self.now).collect();
            ended.sort_unstable();
        }
        let taken: Vec<Taken> = ended.into_iter().map(|(_, index)| self.take_shard(index)).collect();
        if !taken.is_empty() {
            self.earliest_end = self.windows().map(|(end, _)| end).min().unwrap_or(Millis(u64::MAX));
        }
        repeats(taken, false)
    }

    /// Takes a record received now, that is, at the time last given to [`Self::advance`]. A repeat allocates nothing,
    /// but for its exemplar.
    pub fn apply(&mut self, origin: &Origin<'_>, record: &[u8]) -> Applied {
        let mut applied = Applied::Repeat;
        self.apply_all(origin, std::iter::once(record), |_| applied = Applied::First);
        applied
    }

    /// The same for records of one origin that were received together: the agent is looked up once. `first` is given those
    /// that are new.
    pub fn apply_all<'r>(
        &mut self,
        origin: &Origin<'_>,
        records: impl IntoIterator<Item = &'r [u8]>,
        mut first: impl FnMut(&'r [u8]),
    ) {
        let Self { plan, fields, shards, tenants, hashing, found, key, now, .. } = self;
        let mut records = records.into_iter();
        // A record without a key is always new.
        let mut next_with_key = |found: &mut Found, first: &mut dyn FnMut(&'r [u8])| {
            records.find(|record| {
                let has_key = fields.find(record, found);
                if !has_key {
                    first(record);
                }
                has_key
            })
        };
        let Some(mut record) = next_with_key(found, &mut first) else { return };
        let mut run = shards[origin.shard()].run(origin, tenants, hashing);
        loop {
            key.clear();
            fields.same(record, found).for_each(|value| key::push_part(key, value));
            if !run.count(key, *now, plan.max_exemplars, || fields.exemplar(record, found)) {
                run.insert(key, *now);
                first(record);
            }
            match next_with_key(found, &mut first) {
                Some(next) => record = next,
                None => break,
            }
        }
        let grown = run.end();
        self.grow(origin, grown);
    }

    /// When the next window with something to give back ends; `None` while nothing is counted.
    pub fn next_due(&self) -> Option<Millis> {
        self.windows().filter(|(_, index)| self.shards[*index].counted > 0).map(|(end, _)| end).min()
    }

    /// What should leave early because more is held than may be; nothing when all is well.
    pub fn overfull(&self) -> Vec<Eviction> {
        if !self.tenants.over().is_empty() {
            let names = self.tenants.over().iter().map(|name| name.as_deref().map(str::to_owned));
            return names.map(Eviction::Tenant).collect();
        }
        if !self.load.exceeds(self.plan.max) {
            return Vec::new();
        }
        // Windows that hold less than half of an even share would come up again and again and free nothing; the others
        // hold half of all together, which is more than must go.
        let fair = Load { keys: self.load.keys / (2 * SHARDS), bytes: self.load.bytes / (2 * SHARDS as u64) };
        let mut windows: Vec<_> = self.windows().filter(|(_, index)| self.shards[*index].load.exceeds(fair)).collect();
        windows.sort_unstable();
        let enough = self.plan.max.lowered();
        let mut left = self.load;
        let leaving = windows.into_iter().map_while(|(_, index)| {
            let more = left.exceeds(enough);
            left -= self.shards[index].load;
            let which = ShardWindow { shard: u8::try_from(index).ok()?, window: self.shards[index].window };
            more.then_some(Eviction::Window(which))
        });
        leaving.collect()
    }

    /// Forgets keys and gives back their repeats, marked early; nothing when the window is another one by now.
    pub fn evict(&mut self, eviction: &Eviction) -> impl Iterator<Item = Repeat> + use<> {
        let taken = match eviction {
            Eviction::Window(which) => {
                let index = usize::from(which.shard) % SHARDS;
                let is_open = self.shards[index].window == which.window;
                if is_open { vec![self.take_shard(index)] } else { Vec::new() }
            }
            Eviction::Tenant(tenant) => (0..SHARDS).map(|index| self.take_tenant(index, tenant.as_deref())).collect(),
        };
        repeats(taken, true)
    }

    /// Forgets all keys and gives back all repeats, marked early.
    pub fn flush_all(&mut self) -> impl Iterator<Item = Repeat> + use<> {
        repeats((0..SHARDS).map(|index| self.take_shard(index)).collect(), true)
    }

    fn grow(&mut self, origin: &Origin<'_>, Growth { load, counted }: Growth) {
        self.counted += counted;
        if load != Load::default() {
            self.load += load;
            self.tenants.grow(origin.tenant, load);
        }
        if load.keys > 0 {
            self.shards[origin.shard()].window = self.window_of(origin.shard());
            self.earliest_end = self.earliest_end.min(self.end_of(origin.shard()));
        }
    }

    fn take_shard(&mut self, index: usize) -> Taken {
        let parts = self.shards[index].take_all(&self.hashing.names);
        self.forget(index, parts)
    }

    fn take_tenant(&mut self, index: usize, tenant: Option<&str>) -> Taken {
        let part = self.shards[index].take_part(tenant);
        self.forget(index, part.into_iter().collect())
    }

    fn forget(&mut self, shard: usize, parts: Vec<(Option<Arc<str>>, Part)>) -> Taken {
        for (name, part) in &parts {
            self.load -= part.load;
            self.counted -= part.counted;
            self.tenants.shrink(name.as_deref(), part.load);
        }
        Taken { shard, parts }
    }

    /// The ends and shards of the windows that hold a key.
    fn windows(&self) -> impl Iterator<Item = (Millis, usize)> {
        let held = self.shards.iter().enumerate().filter(|(_, shard)| !shard.is_empty());
        held.map(|(index, _)| (self.end_of(index), index))
    }

    fn window_of(&self, shard: usize) -> u64 {
        self.now.0.saturating_add(self.phase(shard)) / self.plan.window_ms
    }

    /// When the shard's window ends; the end of time for one that would end later.
    fn end_of(&self, shard: usize) -> Millis {
        let next = self.shards[shard].window.saturating_add(1);
        let end = next.checked_mul(self.plan.window_ms.get()).and_then(|end| end.checked_sub(self.phase(shard)));
        Millis(end.unwrap_or(u64::MAX))
    }

    /// The part of the window by which the shard's windows begin earlier.
    fn phase(&self, shard: usize) -> u64 {
        let (window, shards, shard) = (self.plan.window_ms.get(), SHARDS as u64, shard as u64);
        window / shards * shard + window % shards * shard / shards
    }
}

/// What has been taken out of a shard.
struct Taken {
    shard: usize,
    parts: Vec<(Option<Arc<str>>, Part)>,
}

/// The repeats in what has been taken out, made one agent at a time.
fn repeats(taken: Vec<Taken>, early: bool) -> impl Iterator<Item = Repeat> {
    taken.into_iter().flat_map(move |Taken { shard, parts }| {
        parts.into_iter().flat_map(move |(tenant, part)| part.repeats(tenant, shard, early))
    })
}

#[cfg(test)]
mod tests;
