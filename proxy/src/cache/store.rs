//! Stored answers within bounds of bytes and keys.

use std::sync::Arc;

use ahash::RandomState;
use dashmap::DashMap;
use dashmap::mapref::entry::Entry as Place;
use parking_lot::Mutex;
use prometheus::{IntCounter, IntGauge};
use weir_config::CacheLimits;
use weir_logic::CacheKey;
use weir_logic::cache::purge::Mark;
use weir_logic::cache::sieve::Sieve;
use weir_logic::cache::{Census, Selection};

use super::entry::Entry;
use super::shelf::{Found, Resident, Shelf};
use crate::hashing::secret;
use crate::metrics::Metrics;

/// The answers that a node keeps. Finding one takes the read lock of one of many shards; changes go one at a time, as fills do.
/// Memory: `max_bytes` as [`Entry::footprint`] counts them, and for a moment one answer more.
pub(super) struct Store {
    map: DashMap<CacheKey, Shelf, RandomState>,
    order: Mutex<Order>,
    gauges: Gauges,
}

/// What a store may hold.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    /// As [`Entry::footprint`] counts them.
    pub(super) bytes: usize,
    /// Of one body.
    pub(super) object_bytes: usize,
    pub(super) keys: usize,
}

/// What operators see of a store.
pub(super) struct Gauges {
    pub(super) entries: IntGauge,
    pub(super) bytes: IntGauge,
    pub(super) evictions: IntCounter,
}

/// Who leaves next, and what all of them weigh. Changed together with the map, under one lock.
struct Order {
    sieve: Sieve<(CacheKey, Arc<Entry>)>,
    bytes: usize,
    /// Bytes of what is on its way.
    reserved: usize,
    keys: usize,
    /// How many answers carry each mark.
    census: Census,
    bounds: Bounds,
}

impl Store {
    pub(super) fn new(bounds: Bounds, gauges: Gauges) -> Self {
        Self {
            map: DashMap::with_hasher(secret()),
            order: Mutex::new(Order {
                sieve: Sieve::new(),
                bytes: 0,
                reserved: 0,
                keys: 0,
                census: Census::default(),
                bounds,
            }),
            gauges,
        }
    }

    /// What is kept under `key` for a request that says `asked`.
    pub(super) fn find(&self, key: &CacheKey, asked: &Selection) -> Found {
        self.map.get(key).map_or(Found::Nothing, |shelf| shelf.find(asked))
    }

    /// What is kept under the key with this encoding, where it is one answer for everyone with the key.
    pub(super) fn find_only(&self, encoding: &[u8]) -> Option<Arc<Entry>> {
        self.map.get(encoding)?.only()
    }

    /// All answers kept under `key`.
    pub(super) fn variants(&self, key: &CacheKey) -> Vec<Arc<Entry>> {
        let Some(shelf) = self.map.get(key) else { return Vec::new() };
        shelf.residents().map(|resident| Arc::clone(&resident.entry)).collect()
    }

    /// Keeps `entry` in the place of what it puts out of date under `key`, beside at most `max_variants` - 1 others, and makes room.
    /// `false` when it alone is over the bounds.
    pub(super) fn insert(&self, key: &CacheKey, entry: &Arc<Entry>, max_variants: usize) -> bool {
        let mut order = self.order.lock();
        let footprint = entry.footprint(key.len());
        let body_fits = entry.body_len() <= order.bounds.object_bytes;
        if !body_fits || footprint > order.bounds.bytes || order.bounds.keys == 0 {
            return false;
        }
        // The key as it is kept already: another one would be another piece of memory.
        let key = &self.map.get(key).map_or_else(|| key.clone(), |shelf| shelf.key().clone());
        // Before the old one leaves: both may have the same body.
        order.enter(footprint, entry);
        let item = (key.clone(), Arc::clone(entry));
        match self.map.entry(key.clone()) {
            Place::Vacant(place) => {
                let slot = order.sieve.insert(item);
                place.insert(Shelf::of(Resident { entry: Arc::clone(entry), slot }));
            }
            Place::Occupied(mut shelf) => {
                let replaced = shelf.get().slot_of(entry.selection());
                let slot = match replaced {
                    Some(slot) => {
                        order.sieve.replace(slot, item);
                        slot
                    }
                    None => order.sieve.insert(item),
                };
                let displaced = shelf.get_mut().put(Resident { entry: Arc::clone(entry), slot }, max_variants);
                drop(shelf);
                self.gauges.evictions.inc_by(displaced.crowded_out.len() as u64);
                for gone in displaced.outdated.into_iter().chain(displaced.crowded_out) {
                    if replaced != Some(gone.slot) {
                        order.sieve.remove(gone.slot);
                    }
                    order.leave(key, &gone.entry);
                }
            }
        }
        self.make_room(&mut order);
        true
    }

    /// Forgets what an answer that is not kept itself puts out of date: what it would have replaced.
    pub(super) fn outdate(&self, key: &CacheKey, by: &Selection) {
        self.remove_if(key, |held| {
            let selection = held.selection();
            selection == by || !selection.names_the_same(by)
        });
    }

    /// Forgets of what is kept under `key` what is `unwanted`; gives whether there was any.
    pub(super) fn remove_if(&self, key: &CacheKey, unwanted: impl Fn(&Arc<Entry>) -> bool) -> bool {
        let mut order = self.order.lock();
        let gone = self.take(key, unwanted);
        for resident in &gone {
            order.sieve.remove(resident.slot);
            order.leave(key, &resident.entry);
        }
        self.report(&order);
        !gone.is_empty()
    }

    /// Takes answers out of the map only.
    fn take(&self, key: &CacheKey, unwanted: impl Fn(&Arc<Entry>) -> bool) -> Vec<Resident> {
        let mut gone = Vec::new();
        if let Place::Occupied(mut shelf) = self.map.entry(key.clone())
            && shelf.get_mut().take(unwanted, &mut gone)
        {
            shelf.remove();
        }
        gone
    }

    /// How many answers carry the mark; all of them without one.
    pub(super) fn count(&self, mark: Option<Mark>) -> usize {
        let order = self.order.lock();
        mark.map_or(order.keys, |mark| order.census.count(mark))
    }

    /// Forgets what `stays` does not say it stays; gives how many answers that were. Looks at each answer once; those
    /// who look for an answer meanwhile do not wait, those who bring one wait for one of many shards.
    pub(super) fn sweep(&self, stays: impl Fn(&CacheKey, &Entry) -> bool) -> usize {
        let mut gone: Vec<(CacheKey, Arc<Entry>)> = Vec::new();
        for shelf in &self.map {
            let leaving = shelf.residents().filter(|held| !stays(shelf.key(), &held.entry));
            gone.extend(leaving.map(|held| (shelf.key().clone(), Arc::clone(&held.entry))));
        }
        gone.iter().filter(|(key, entry)| self.remove_if(key, |held| Arc::ptr_eq(held, entry))).count()
    }

    /// Brings new bounds into force.
    pub(super) fn reconfigure(&self, bounds: Bounds) {
        let mut order = self.order.lock();
        order.bounds = bounds;
        self.make_room(&mut order);
    }

    /// Holds room for so many bytes that are on their way; `false` when what is on its way would take more than all of it.
    pub(super) fn reserve(&self, bytes: usize) -> bool {
        let mut order = self.order.lock();
        if order.reserved.saturating_add(bytes) > order.bounds.bytes {
            return false;
        }
        order.reserved += bytes;
        self.make_room(&mut order);
        true
    }

    /// Gives such room back.
    pub(super) fn release(&self, bytes: usize) {
        let mut order = self.order.lock();
        order.reserved = order.reserved.saturating_sub(bytes);
    }

    /// Everything that is kept.
    #[cfg(test)]
    pub(super) fn all(&self) -> Vec<Arc<Entry>> {
        let shelves = self.map.iter();
        shelves.flat_map(|shelf| shelf.residents().map(|held| Arc::clone(&held.entry)).collect::<Vec<_>>()).collect()
    }

    fn make_room(&self, order: &mut Order) {
        while order.bytes + order.reserved > order.bounds.bytes || order.keys > order.bounds.keys {
            let Some((key, entry)) = order.sieve.evict(|(_, entry)| entry.take_visit()) else { break };
            self.take(&key, |held| Arc::ptr_eq(held, &entry));
            order.leave(&key, &entry);
            self.gauges.evictions.inc();
        }
        self.report(order);
    }

    fn report(&self, order: &Order) {
        self.gauges.entries.set(i64::try_from(order.keys).unwrap_or(i64::MAX));
        self.gauges.bytes.set(i64::try_from(order.bytes).unwrap_or(i64::MAX));
    }
}

impl Order {
    fn enter(&mut self, footprint: usize, entry: &Entry) {
        self.keys += 1;
        self.bytes += footprint;
        entry.placed();
        self.census.enter(entry.stamp().marks());
    }

    fn leave(&mut self, key: &CacheKey, entry: &Entry) {
        self.keys -= 1;
        self.bytes -= entry.footprint(key.len());
        entry.displaced();
        self.census.leave(entry.stamp().marks());
    }
}

impl From<&CacheLimits> for Bounds {
    fn from(limits: &CacheLimits) -> Self {
        Self {
            bytes: limits.max_bytes.as_usize(),
            object_bytes: limits.max_object_bytes.as_usize(),
            keys: limits.max_keys,
        }
    }
}

impl Gauges {
    /// Those of the store in memory.
    pub(super) fn of_memory(metrics: &Metrics) -> Self {
        Self {
            entries: metrics.cache_entries.clone(),
            bytes: metrics.cache_bytes.clone(),
            evictions: metrics.cache_evictions.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use dashmap::mapref::multiple::RefMulti;
    use http::HeaderMap;
    use weir_logic::Millis;
    use weir_logic::cache::purge::Marks;
    use weir_logic::cache::{Arrival, Terms};

    use super::super::tests::support::key_named;
    use super::*;
    use crate::purging::Purging;

    fn bounds(bytes: usize, keys: usize) -> Bounds {
        Bounds { bytes, object_bytes: 8 * 1024, keys }
    }

    fn store(bytes: usize, keys: usize) -> Store {
        Store::new(bounds(bytes, keys), Gauges::of_memory(&Metrics::new()))
    }

    fn entry(bytes: usize) -> Arc<Entry> {
        let body = Bytes::from(vec![b'x'; bytes]);
        let marks = Arc::new(Marks::new([Mark::tag("all")], "/"));
        let stamp = Arc::new(Purging::default()).depart().stamp(marks);
        let arrival = Arrival { status: 200, terms: Terms::default(), stored: Millis(0), draw: 0.0 };
        Arc::new(Entry::new(arrival, &HeaderMap::new(), body, stamp, Selection::default()))
    }

    fn counted(store: &Store) -> (i64, i64) {
        (store.gauges.entries.get(), store.gauges.bytes.get())
    }

    fn weight(shelf: &RefMulti<'_, CacheKey, Shelf>) -> usize {
        shelf.residents().map(|held| held.entry.footprint(shelf.key().len())).sum()
    }

    #[test]
    fn bytes_and_keys_stay_within_bounds_and_the_counts_true() {
        let store = store(64 * 1024, 20);
        for round in 0..1_000_usize {
            let key = key_named(&format!("k{}", round % 60));
            if round % 7 == 0 {
                store.outdate(&key, &Selection::default());
            } else {
                assert!(store.insert(&key, &entry(round * 37 % 8_000), 8));
            }
            let held: usize = store.map.iter().map(|shelf| weight(&shelf)).sum();
            assert_eq!(counted(&store), (i64::try_from(store.map.len()).unwrap(), i64::try_from(held).unwrap()));
            assert_eq!(store.count(Some(Mark::tag("all"))), store.map.len());
            assert!(held <= 64 * 1024 && store.map.len() <= 20, "{held} bytes, {} keys", store.map.len());
        }
        assert!(store.gauges.evictions.get() > 0);
    }

    #[test]
    fn what_is_asked_for_outlives_a_scan() {
        let store = store(1 << 20, 20);
        let popular = key_named("popular");
        store.insert(&popular, &entry(10), 8);
        for round in 0..500 {
            assert!(store.find(&popular, &Selection::default()).entry().is_some(), "gone after {round}");
            store.insert(&key_named(&format!("once{round}")), &entry(10), 8);
        }
    }

    #[test]
    fn what_is_over_the_bounds_alone_is_not_kept_and_displaces_nothing() {
        let store = store(16 * 1024, 20);
        let key = key_named("k");
        assert!(store.insert(&key, &entry(10), 8));
        assert!(!store.insert(&key, &entry(8 * 1024 + 1), 8));
        assert_eq!(store.find(&key, &Selection::default()).entry().unwrap().body_len(), 10);
    }

    #[test]
    fn narrower_bounds_hold_at_once() {
        let store = store(1 << 20, 100);
        for name in 0..50 {
            store.insert(&key_named(&name.to_string()), &entry(10), 8);
        }
        store.reconfigure(bounds(1 << 20, 5));
        assert_eq!(store.map.len(), 5);
    }
}
