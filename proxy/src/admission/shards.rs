//! A table of a fixed size behind many locks.

use parking_lot::Mutex;
use weir_logic::Millis;
use weir_logic::admit::Slots;
use weir_logic::admit::slots::Keep;

/// A [`Slots`] in parts, each behind a lock of its own, held for as long as one value is looked at.
pub(super) struct Shards<V> {
    shards: Vec<Mutex<Slots<V>>>,
}

/// Locks.
const SHARDS: usize = 64;

impl<V: Keep> Shards<V> {
    /// A table with room for `places` keys at least.
    pub(super) fn new(places: usize) -> Self {
        let each = places.div_ceil(SHARDS);
        Self { shards: (0..SHARDS).map(|_| Mutex::new(Slots::new(each))).collect() }
    }

    /// Works on the value of a key, new where it had none.
    pub(super) fn of<T>(&self, key: u64, now: Millis, work: impl FnOnce(&mut V) -> T) -> T {
        work(self.shard(key).lock().of(key, now))
    }

    /// Works on the value of a key, if it has one.
    pub(super) fn find<T>(&self, key: u64, work: impl FnOnce(&mut V) -> T) -> Option<T> {
        self.shard(key).lock().find(key).map(work)
    }

    /// Values of which `wanted` holds.
    pub(super) fn count(&self, wanted: impl Fn(&V) -> bool) -> usize {
        self.shards.iter().map(|shard| shard.lock().values().filter(|value| wanted(value)).count()).sum()
    }

    /// By the low bits: the table inside takes the high ones.
    fn shard(&self, key: u64) -> &Mutex<Slots<V>> {
        &self.shards[usize::try_from(key % SHARDS as u64).unwrap_or(0)]
    }
}
