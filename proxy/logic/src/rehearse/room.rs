//! The bounds of a configuration's stores, and who leaves them for want of room, in virtual time: by the code that the stores
//! themselves use.
//!
//! Of a sample of the keys the stores have as large a part of their room. Not modelled: room that is held for what is on its way, and the
//! places of variants beside one another.

use std::cell::Cell;
use std::collections::HashMap;
use std::sync::Arc;

use weir_config::{AnswerStore, ByteSize, Limits};

use crate::CacheKey;
use crate::cache::purge::Marks;
use crate::cache::sieve::Sieve;
use crate::heap::shared;
use crate::lookup::KeptAnswers;

/// What the stores count for each answer, which a program knows that has the stores: not its key, headers, body and what it can be
/// purged by.
#[derive(Clone, Copy, Debug)]
pub struct Overheads {
    /// Of an answer in the cache, in bytes.
    pub cached: usize,
    /// Of an answer to a lookup, in bytes.
    pub looked_up: usize,
    /// The part of the cache's bounds that lookups have beside it: one of so many.
    pub lookups_part: usize,
}

/// Which store a route's answers are in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Where {
    Memory,
    Disk,
    Lookups,
}

/// What an answer takes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Weight {
    pub(super) beside: usize,
    pub(super) body: usize,
}

/// The stores. Memory: 64 bytes for each answer in them.
pub(super) struct Rooms {
    overheads: Overheads,
    memory: Room,
    disk: Room,
    lookups: KeptAnswers<()>,
    lookups_object: usize,
    marks: Arc<Marks>,
}

/// A store whose answers leave by [`Sieve`].
struct Room {
    sieve: Sieve<u128>,
    places: HashMap<u128, Place>,
    bytes: usize,
    max_bytes: usize,
    max_object: usize,
    max_keys: usize,
}

struct Place {
    slot: usize,
    bytes: usize,
    asked_for: Cell<bool>,
}

impl From<AnswerStore> for Where {
    fn from(store: AnswerStore) -> Self {
        match store {
            AnswerStore::Memory => Self::Memory,
            AnswerStore::Disk => Self::Disk,
        }
    }
}

impl Rooms {
    /// Such a part of the room that the configuration gives.
    pub(super) fn new(limits: &Limits, overheads: Overheads, sample: f64) -> Self {
        let (cache, packages) = (&limits.cache, &limits.packages);
        let bytes = |bytes: ByteSize| scaled(bytes.as_usize(), sample);
        let part = overheads.lookups_part.max(1);
        Self {
            overheads,
            memory: Room::new(bytes(cache.max_bytes), cache.max_object_bytes, scaled(cache.max_keys, sample)),
            disk: Room::new(bytes(packages.max_bytes), packages.max_object_bytes, scaled(packages.max_objects, sample)),
            lookups: KeptAnswers::new(scaled(cache.max_keys / part, sample), bytes(cache.max_bytes) / part),
            lookups_object: cache.max_object_bytes.as_usize(),
            marks: Arc::new(Marks::new([], "/")),
        }
    }

    /// Whether the answer is there; it is asked for.
    pub(super) fn find(&mut self, at: Where, key: u128) -> bool {
        match at {
            Where::Lookups => self.lookups.find(&name(key)).is_some(),
            Where::Memory => self.memory.find(key),
            Where::Disk => self.disk.find(key),
        }
    }

    /// Puts an answer in the place of the one before, if it is not over the bounds.
    pub(super) fn put(&mut self, at: Where, key: u128, weight: Weight) {
        let bytes = |own: usize| own + weight.beside + shared(weight.body);
        let cached = bytes(self.overheads.cached);
        match at {
            Where::Lookups if weight.body > self.lookups_object => self.lookups.forget(&name(key)),
            Where::Lookups => {
                let bytes = bytes(self.overheads.looked_up);
                let _kept = self.lookups.keep(name(key), Arc::new(()), &self.marks, bytes, None);
            }
            Where::Memory => self.memory.put(key, cached, weight.body),
            Where::Disk => self.disk.put(key, cached, weight.body),
        }
    }

    /// Takes an answer out.
    pub(super) fn remove(&mut self, at: Where, key: u128) {
        match at {
            Where::Lookups => self.lookups.forget(&name(key)),
            Where::Memory => self.memory.remove(key),
            Where::Disk => self.disk.remove(key),
        }
    }
}

impl Room {
    fn new(max_bytes: usize, max_object: ByteSize, max_keys: usize) -> Self {
        let max_object = max_object.as_usize();
        Self { sieve: Sieve::new(), places: HashMap::new(), bytes: 0, max_bytes, max_object, max_keys }
    }

    fn find(&self, key: u128) -> bool {
        self.places.get(&key).inspect(|place| place.asked_for.set(true)).is_some()
    }

    fn put(&mut self, key: u128, bytes: usize, body: usize) {
        if body > self.max_object || bytes > self.max_bytes || self.max_keys == 0 {
            self.remove(key);
            return;
        }
        match self.places.get_mut(&key) {
            Some(place) => {
                self.bytes -= place.bytes;
                (place.bytes, place.asked_for) = (bytes, Cell::new(false));
            }
            None => {
                let place = Place { slot: self.sieve.insert(key), bytes, asked_for: Cell::new(false) };
                self.places.insert(key, place);
            }
        }
        self.bytes += bytes;
        while self.bytes > self.max_bytes || self.places.len() > self.max_keys {
            let spared = |key: &u128| self.places.get(key).is_some_and(|place| place.asked_for.replace(false));
            let Some(gone) = self.sieve.evict(spared) else { break };
            if let Some(place) = self.places.remove(&gone) {
                self.bytes -= place.bytes;
            }
        }
    }

    fn remove(&mut self, key: u128) {
        if let Some(place) = self.places.remove(&key) {
            self.sieve.remove(place.slot);
            self.bytes -= place.bytes;
        }
    }
}

fn name(key: u128) -> CacheKey {
    CacheKey::restored(key.to_be_bytes().to_vec())
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    clippy::cast_sign_loss,
    reason = "a part of a bound, of which few digits matter"
)]
fn scaled(bound: usize, sample: f64) -> usize {
    (bound as f64 * sample).ceil() as usize
}
