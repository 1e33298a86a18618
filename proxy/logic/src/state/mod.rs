//! States of agents: the last one wins, and one that has not changed is counted instead of sent.
//!
//! A key is the tenant, the agent and the JSON text of every `key` field; without fields it is the agent alone. The first
//! state of a key that is not known leaves at once. From then on the hash of what has been sent is remembered. Within a
//! window the last state wins: it leaves when the window ends, unless it is the one that was sent last. Those that do not
//! leave are counted into the key's next row. A state that comes `refresh` or longer after the last one was sent leaves
//! though it has not changed. A key of which nothing has come for `refresh` is forgotten; what it has counted leaves as a
//! row of its own, as it does when a key must be forgotten early. So the counts of a key's rows add up to its records.
//! A record that has none of the `key` fields, or one of them twice, always leaves by itself.
//!
//! # Hashes
//! SHA-256, cut to 128 bits, over the bytes of the record. A hash without such strength would not do: who may choose one
//! name in an honest agent's state could choose it so that the change goes unnoticed. As it is, that takes 2^128
//! hashes, or 2^64 for one who chooses both states; by chance a change is missed once in 2^128 times.
//!
//! # Windows and tables
//! Windows lie at fixed places on the clock, for each of [`SHARDS`] shards at another fraction, as those of
//! [`crate::merge`] do. But here what is known outlives the window. So at the end of a window in which something has
//! changed, the shard gives back a [`Change`] of its table: all keys, or those that changed. The tables of all shards
//! and the records of the windows that are open give the state of the whole: a record that a table has already is
//! recognised by its time and passed over ([`Taken::Settled`]). A change is written in full when it would otherwise
//! make the table's log longer than twice the keys, so that a table costs at most three times what it holds.
//!
//! # Bounds
//! Past `max_keys` or `max_bytes`, [`States::overfull`] names the fullest shard, and [`States::flush`] makes room in it:
//! waiting states leave early, and unless they were most of it the longer unseen half of its keys is forgotten. That
//! rests on nothing outside the shard, so that a replay from a table decides the same. A key costs its own bytes and
//! some 200 more, and within a window the last record if it has changed.
//!
//! Not here: files, where records come from, and the time.

mod shard;
mod table;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use self::shard::Shard;
pub use self::table::{Change, Content, Corrupt};
use crate::Millis;
use crate::merge::fields::{Fields, Found};
use crate::merge::{Origin, SHARDS, ShardWindow, key};

/// What makes a state, and how long it is remembered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StatePlan {
    /// The fields that tell the states of one agent apart: each a top-level name, or a JSON pointer (RFC 6901) when it
    /// begins with a slash. Without any, an agent has one state.
    pub key: Vec<String>,
    /// The time within which the last state wins: 1 ms to a year.
    pub window_ms: u64,
    /// The time after which a state is sent though it has not changed, and after which a key is forgotten.
    pub refresh_ms: u64,
    /// Keys held at once, at most, but for those that arrive until a flush takes effect.
    pub max_keys: usize,
    /// Bytes that keys and waiting states take, at most, by the same measure.
    pub max_bytes: u64,
}

/// What became of a record.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken {
    /// It is the first of its key: it leaves at once, counted once.
    First,
    /// It is counted, and may leave when the window ends.
    Held,
    /// A table has it already: this is a replay.
    Settled,
}

/// A row that leaves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// When the first of the records that it stands for was received.
    pub first_seen: Millis,
    /// When the last was received.
    pub last_seen: Millis,
    /// How many records it stands for. Zero for a state that is sent again because a table was damaged.
    pub count: u64,
    /// The last of them, if it is sent; `None` when the last row of the key still holds.
    pub record: Option<Box<[u8]>>,
    key: std::sync::Arc<[u8]>,
}

impl Row {
    /// The tenant whose agent sent the records.
    pub fn tenant(&self) -> Option<&str> {
        key::text(key::part(&self.key, 0))
    }

    /// The agent that sent the records.
    pub fn agent(&self) -> Option<&str> {
        key::text(key::part(&self.key, 1))
    }

    /// The JSON text of each of the plan's `key` fields, in its order; `None` where the records lack it.
    pub fn fields(&self) -> impl Iterator<Item = Option<&[u8]>> {
        key::parts(&self.key).skip(2)
    }
}

/// What is known of all keys. See the module's documentation.
#[derive(Debug)]
pub struct States {
    plan: StatePlan,
    fields: Fields,
    shards: Vec<Shard>,
    now: Millis,
    /// No shard has anything to do before.
    next: Millis,
    changes: Vec<Change>,
    found: Found,
    scratch: Vec<u8>,
}

impl States {
    /// Knows nothing.
    pub fn new(plan: StatePlan) -> Self {
        Self {
            fields: Fields::new(&plan.key, &[]),
            shards: (0..SHARDS).map(|_| Shard::default()).collect(),
            now: Millis::default(),
            next: NEVER,
            changes: Vec::new(),
            found: Found::default(),
            scratch: Vec::new(),
            plan,
        }
    }

    /// What makes a state here.
    pub fn plan(&self) -> &StatePlan {
        &self.plan
    }

    /// Keys held.
    pub fn keys(&self) -> usize {
        self.shards.iter().map(Shard::keys).sum()
    }

    /// Bytes that keys and waiting states take.
    pub fn bytes(&self) -> u64 {
        self.shards.iter().map(Shard::bytes).sum()
    }

    /// Records counted and not yet given back in a row.
    pub fn counted(&self) -> u64 {
        self.shards.iter().fold(0, |sum, shard| sum.saturating_add(shard.counted()))
    }

    /// Moves the time on to `now` and gives the rows of the windows that have ended, in the order of their ends. A
    /// `now` before the last one changes nothing.
    pub fn advance(&mut self, now: Millis) -> Vec<Row> {
        self.now = self.now.max(now);
        let mut rows = Vec::new();
        while self.next <= self.now {
            let due = self.dues().filter(|(due, _)| *due <= self.now).min();
            let Some((end, index)) = due else {
                self.next = self.dues().map(|(due, _)| due).min().unwrap_or(NEVER);
                break;
            };
            rows.extend(self.shards[index].close(end, self.plan.refresh_ms));
            let content = self.shards[index].change();
            self.changes.extend(content.map(|content| Change { shard: number(index), content }));
        }
        rows
    }

    /// Takes a record received now, that is, at the time last given to [`Self::advance`].
    pub fn apply(&mut self, origin: &Origin<'_>, record: &[u8]) -> Taken {
        self.scratch.clear();
        self.scratch.extend_from_slice(origin.key_prefix());
        if !self.plan.key.is_empty() {
            if !self.fields.find(record, &mut self.found) {
                return Taken::First;
            }
            for value in self.fields.same(record, &self.found) {
                key::push_part(&mut self.scratch, value);
            }
        }
        let index = origin.shard();
        let end = self.end_after(index, self.now);
        let shard = &mut self.shards[index];
        let taken = shard.take(&self.scratch, record, self.now, end, self.plan.refresh_ms);
        if taken != Taken::Settled {
            self.next = self.next.min(end);
        }
        taken
    }

    /// When there is next something to give back: a window ends, or counts leave with a key that is forgotten.
    pub fn next_due(&self) -> Option<Millis> {
        self.dues().filter(|(_, index)| self.shards[*index].holds_rows()).map(|(due, _)| due).min()
    }

    /// The fullest shard, when more is held than may be.
    pub fn overfull(&self) -> Option<ShardWindow> {
        let shards = || self.shards.iter().enumerate();
        let fullest = if self.keys() > self.plan.max_keys {
            shards().max_by_key(|(_, shard)| shard.keys())
        } else if self.bytes() > self.plan.max_bytes {
            shards().max_by_key(|(_, shard)| shard.bytes())
        } else {
            None
        };
        let (index, _) = fullest?;
        Some(ShardWindow { shard: number(index), window: self.window_at(index, self.now) })
    }

    /// Makes room in a shard, and gives what leaves for that; nothing when the shard's window is another one by now.
    pub fn flush(&mut self, which: ShardWindow) -> Vec<Row> {
        let index = usize::from(which.shard) % SHARDS;
        if self.window_at(index, self.now) != which.window {
            return Vec::new();
        }
        let end = self.end_after(index, self.now);
        self.next = self.next.min(end);
        self.shards[index].flush(self.now, end)
    }

    /// Forgets all keys and gives back all that is held.
    pub fn flush_all(&mut self) -> Vec<Row> {
        let mut rows = Vec::new();
        for (index, shard) in self.shards.iter_mut().enumerate() {
            let (held, had_table) = shard.flush_all(self.now);
            rows.extend(held);
            self.changes.extend(had_table.then(|| Change { shard: number(index), content: Content::Nothing }));
        }
        self.next = NEVER;
        rows
    }

    /// The changes of tables since the last call, in order.
    pub fn take_changes(&mut self) -> Vec<Change> {
        std::mem::take(&mut self.changes)
    }

    fn dues(&self) -> impl Iterator<Item = (Millis, usize)> {
        let due = |(index, shard): (usize, &Shard)| {
            // A key is forgotten at the end of a window.
            let forgotten = shard.expiry().map(|at| self.end_after(index, Millis(at.0.saturating_sub(1))).max(at));
            Some((shard.open_until().into_iter().chain(forgotten).min()?, index))
        };
        self.shards.iter().enumerate().filter_map(due)
    }

    fn window_at(&self, shard: usize, time: Millis) -> u64 {
        time.0.saturating_add(self.phase(shard)) / self.window_ms()
    }

    /// The end of the window that holds `time`.
    fn end_after(&self, shard: usize, time: Millis) -> Millis {
        let next = self.window_at(shard, time).saturating_add(1);
        Millis(next.saturating_mul(self.window_ms()).saturating_sub(self.phase(shard)))
    }

    fn phase(&self, shard: usize) -> u64 {
        self.window_ms() * shard as u64 / SHARDS as u64
    }

    /// A plan comes from a file, where any number may stand.
    fn window_ms(&self) -> u64 {
        self.plan.window_ms.clamp(1, MAX_WINDOW_MS)
    }
}

/// Starting from tables.
impl States {
    /// Adds what a shard's table holds: the contents of its changes, in order. `latest` is the time up to which the
    /// journal has been turned into rows.
    ///
    /// # Errors
    /// When it is no such content: the shard must then be declared lost.
    pub fn load(&mut self, shard: u8, content: &[u8], latest: Millis) -> Result<(), Corrupt> {
        let index = usize::from(shard);
        let shard = self.shards.get_mut(index).ok_or(Corrupt)?;
        shard.load(index, content, 2 + self.plan.key.len(), latest)?;
        shard.reckon(self.plan.refresh_ms);
        self.next = Millis::default();
        Ok(())
    }

    /// A shard's table is damaged: nothing is known of its keys. Until [`Self::replayed`], the records that come for
    /// them count for nothing, since it is not known which of them have left; the last of each key leaves again.
    pub fn lose(&mut self, shard: u8) {
        if let Some(shard) = self.shards.get_mut(usize::from(shard)) {
            *shard = Shard::lost();
        }
    }

    /// What follows has not been turned into rows before.
    pub fn replayed(&mut self) {
        for index in 0..SHARDS {
            let end = self.end_after(index, self.now);
            if self.shards[index].replayed(end) {
                self.next = Millis::default();
            }
        }
    }
}

fn number(index: usize) -> u8 {
    u8::try_from(index % SHARDS).expect("there are 64 shards")
}

/// The hash of a record.
fn hash(record: &[u8]) -> [u8; 16] {
    let digest: [u8; 32] = Sha256::digest(record).into();
    let (first, _) = digest.split_first_chunk().expect("16 bytes are in 32");
    *first
}

/// Later than any window's end.
const NEVER: Millis = Millis(u64::MAX);

/// A year.
const MAX_WINDOW_MS: u64 = 366 * 24 * 3600 * 1000;

#[cfg(test)]
mod tests;
