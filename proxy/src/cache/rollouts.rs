//! The releases of keys on routes with a `rollout`: what each agent is given while a changed answer is on its way to all of them.
//!
//! What a rollout is, is said in [`weir_logic::cache::rollout`]. Here the answers themselves are kept, within bounds, beside the
//! store: a previous release is of no use to the store, which keeps what the core says now. What is kept is written to disk
//! (`disk`), so that a node that starts goes on where it stood. Operators see and steer it by `page`.

mod disk;
mod page;

use std::collections::{BTreeMap, HashSet};
use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use dashmap::DashMap;
use parking_lot::{Mutex, MutexGuard};
use weir_config::{ByteSize, Pacing, RolloutLimits};
use weir_logic::cache::Selection;
use weir_logic::cache::rollout::{Arrival, Choice, Releases, Rollout, Step};
use weir_logic::{AgentId, CacheKey, Digest, Millis};

use super::entry::Entry;
use crate::metrics::Metrics;
use crate::purging::Purging;

use disk::Disk;
pub use page::RolloutPage;

/// The releases of all keys that are paced. Looking one up takes the read lock of one of many shards; changes go one at a time.
/// Memory: `max_bytes` as [`Entry::footprint`] counts them, though bodies that the store keeps as well are there once.
pub(super) struct Rollouts {
    slots: DashMap<CacheKey, Slot>,
    books: Mutex<Books>,
    disk: OnceLock<Disk>,
    metrics: Metrics,
}

/// One answer of a key, of which the core may choose among several: they are told apart as [`Selection::key`] says.
#[derive(Clone)]
struct Slot {
    /// The key by which it is purged.
    key: CacheKey,
    route: Arc<str>,
    releases: Releases<Arc<Entry>>,
    place: Place,
}

/// A slot with its key, as the map lends it.
type Held<'a> = dashmap::mapref::multiple::RefMulti<'a, CacheKey, Slot>;

/// The order in which keys leave when there is no room: those on which nothing is on its way first, then by their last change.
type Place = (bool, u64);

/// What all slots weigh, who leaves next, and what is not on disk as it is here.
struct Books {
    limits: RolloutLimits,
    bytes: usize,
    changes: u64,
    order: BTreeMap<Place, CacheKey>,
    unsaved: HashSet<CacheKey>,
    /// The routes whose fraction is shown.
    shown: HashSet<Arc<str>>,
}

impl Rollouts {
    /// Nothing known, nothing on disk.
    pub(super) fn new(metrics: Metrics) -> Self {
        let books = Books {
            limits: RolloutLimits { max_keys: 1024, max_bytes: ByteSize::mib(64) },
            bytes: 0,
            changes: 0,
            order: BTreeMap::new(),
            unsaved: HashSet::new(),
            shown: HashSet::new(),
        };
        Self { slots: DashMap::new(), books: Mutex::new(books), disk: OnceLock::new(), metrics }
    }

    /// Takes up what the directory holds, and keeps everything there from now on. Blocks on the disk; to be called before the
    /// first request. What cannot be read is put aside.
    pub(super) fn open(&self, directory: &Path, purging: &Arc<Purging>, now: Millis) {
        let disk = Disk::new(directory);
        let max_bytes = self.books.lock().limits.max_bytes;
        let restored = disk.load(max_bytes, &|| purging.depart(), now);
        self.metrics.rollout_damage.inc_by(restored.damaged);
        {
            let mut books = self.books.lock();
            for (variant, slot) in restored.found {
                self.put(&mut books, &variant, slot);
            }
            books.unsaved.clear();
            self.make_room(&mut books);
        }
        if self.disk.set(disk).is_err() {
            tracing::error!("the releases on disk are opened twice");
        }
    }

    /// Brings new bounds into force.
    pub(super) fn reconfigure(&self, limits: &RolloutLimits) {
        let mut books = self.books.lock();
        books.limits = *limits;
        self.make_room(&mut books);
    }

    /// The answer that the agent is given instead of `entry`; `None` when it is given that.
    pub(super) fn instead(&self, asked: &Asked<'_>, entry: &Entry) -> Option<Arc<Entry>> {
        if entry.status() != 200 {
            return None;
        }
        let slot = self.slots.get(&entry.selection().key(asked.key))?;
        let Some(candidate) = slot.releases.candidate() else {
            // What is neither settled nor on its way has just been withdrawn or overtaken.
            let settled = slot.releases.previous();
            return (settled.digest != entry.digest()).then(|| Arc::clone(&settled.answer));
        };
        if !candidate.rollout.is_paced_by(asked.pacing) {
            drop(slot);
            self.alter(&entry.selection().key(asked.key), |releases| releases.adopt(asked.pacing, asked.now));
            return self.instead(asked, entry);
        }
        let agent = asked.agent.map(AgentId::as_str);
        let choice = slot.releases.choice(&entry.digest(), agent, asked.now);
        let previous = (choice == Choice::Previous).then(|| Arc::clone(&slot.releases.previous().answer));
        drop(slot);
        let release = if previous.is_some() { "previous" } else { "current" };
        self.metrics.rollout_answers.with_label_values(&[asked.route, release]).inc();
        previous
    }

    /// The core has given `entry`, where `held` was kept. To be called before the store has it.
    pub(super) fn arrive(&self, asked: &Asked<'_>, held: Option<&Arc<Entry>>, entry: &Arc<Entry>) {
        if entry.status() != 200 {
            return;
        }
        let digest = entry.digest();
        let held = held.filter(|held| held.status() == 200);
        let first = held.unwrap_or(entry);
        let first_digest = first.digest();
        let variant = entry.selection().key(asked.key);
        let mut books = self.books.lock();
        let known = self.slots.get(&variant).map(|slot| slot.releases.clone());
        let pending = books.unsaved.contains(&variant);
        let mut releases = known.clone().unwrap_or_else(|| Releases::settled(first_digest, Arc::clone(first)));
        let arrival = releases.arrive(digest, Arc::clone(entry), asked.pacing, asked.now);
        let as_saved = known.is_some_and(|known| standing(&known) == standing(&releases));
        let slot = Slot { key: asked.key.clone(), route: Arc::from(asked.route), releases, place: (false, 0) };
        self.put(&mut books, &variant, slot);
        if as_saved && !pending {
            books.unsaved.remove(&variant);
        }
        self.make_room(&mut books);
        drop(books);
        if let Some(event) = event(arrival) {
            self.metrics.rollout_events.with_label_values(&[asked.route, event]).inc();
            tracing::info!(route = asked.route, path = entry.stamp().marks().path(), %digest, event, "release");
        }
    }

    /// The release that all agents have, or had before the one on its way.
    pub(super) fn previous(&self, variant: &CacheKey) -> Option<Arc<Entry>> {
        self.slots.get(variant).map(|slot| Arc::clone(&slot.releases.previous().answer))
    }

    /// Forgets what is known of one answer: what is stored is everybody's.
    pub(super) fn forget(&self, variant: &CacheKey) {
        if self.slots.contains_key(variant) {
            self.remove(&mut self.books.lock(), variant);
        }
    }

    /// Forgets what is known of the key, as far as the core chooses it by `selection`, if an answer of that does not stay.
    pub(super) fn prune(&self, key: &CacheKey, selection: &Selection, stays: impl Fn(&Entry) -> bool) {
        let key = &selection.key(key);
        if self.slots.get(key).is_some_and(|slot| !slot.entries().all(|entry| stays(entry))) {
            self.forget(key);
        }
    }

    /// The same for all keys.
    pub(super) fn sweep(&self, stays: impl Fn(&CacheKey, &Entry) -> bool) {
        let leaves = |slot: &Held<'_>| !slot.entries().all(|entry| stays(&slot.key, entry));
        let gone: Vec<_> = self.slots.iter().filter(leaves).map(|slot| slot.key().clone()).collect();
        gone.iter().for_each(|key| self.forget(key));
    }

    /// Settles what has reached everybody, shows how far the others are, and has that kept, as it may not go back. To be called every
    /// second or so.
    pub(super) fn tend(&self, now: Millis) {
        let due = |slot: &Held<'_>| slot.releases.candidate().is_some_and(|known| known.rollout.fraction(now) >= 1.0);
        let due: Vec<_> = self.slots.iter().filter(due).map(|slot| slot.key().clone()).collect();
        for key in due {
            self.alter(&key, |releases| releases.settle(now));
        }
        let mut books = self.books.lock();
        for mut slot in self.slots.iter_mut() {
            if slot.releases.promise(now) {
                books.differs(slot.key());
            }
        }
        drop(books);
        self.show(now);
    }

    /// Does what the operator says to what is on its way on a route, or on one key of it; gives how many keys that were.
    pub(super) fn step(&self, route: &str, key: Option<u128>, step: Step, now: Millis) -> usize {
        let meant =
            |slot: &Held<'_>| *slot.route == *route && key.is_none_or(|digest| slot.pair().0.digest() == digest);
        let keys: Vec<_> = self.slots.iter().filter(meant).map(|slot| slot.key().clone()).collect();
        keys.iter().filter(|key| self.alter(key, |releases| releases.step(step, now))).count()
    }

    /// The keys of which something is known.
    #[cfg(test)]
    pub(super) fn keys(&self) -> Vec<CacheKey> {
        self.slots.iter().map(|slot| slot.key.clone()).collect()
    }

    /// Whether something is not on disk as it is here.
    pub(super) fn is_unsaved(&self) -> bool {
        self.disk.get().is_some() && !self.books.lock().unsaved.is_empty()
    }

    /// Brings the disk up to date. Blocks on it. What cannot be written is tried again the next time.
    pub(super) fn save(&self) {
        if let Some(disk) = self.disk.get() {
            self.save_to(disk, &disk.lock());
        }
    }

    /// The same, unless somebody is at it: then the rest waits for the next tick, and no thread for the disk.
    pub(super) fn save_soon(&self) {
        if let Some((disk, turn)) = self.disk.get().and_then(|disk| Some((disk, disk.try_lock()?))) {
            self.save_to(disk, &turn);
        }
    }

    fn save_to(&self, disk: &Disk, _turn: &MutexGuard<'_, ()>) {
        let unsaved = std::mem::take(&mut self.books.lock().unsaved);
        if unsaved.is_empty() {
            return;
        }
        for key in unsaved {
            let slot = self.slots.get(&key).map(|slot| slot.clone());
            let saved = match &slot {
                Some(slot) => disk.write(&key, slot),
                None => disk.remove(&key),
            };
            if let Err(error) = saved {
                tracing::warn!(%error, "a release cannot be kept on disk; a restart would not know of it");
                self.books.lock().differs(&key);
            }
        }
        if let Err(error) = disk.sync() {
            tracing::warn!(%error, "the directory of releases cannot be synced; a power loss could undo their last changes");
        }
    }

    /// Changes one key; `change` gives whether it did.
    fn alter(&self, key: &CacheKey, change: impl FnOnce(&mut Releases<Arc<Entry>>) -> bool) -> bool {
        let mut books = self.books.lock();
        let Some(mut slot) = self.slots.get(key).map(|slot| slot.clone()) else { return false };
        if !change(&mut slot.releases) {
            return false;
        }
        if slot.releases.candidate().is_none() {
            self.metrics.rollout_events.with_label_values(&[&slot.route, "finished"]).inc();
        }
        self.put(&mut books, key, slot);
        true
    }

    fn put(&self, books: &mut Books, variant: &CacheKey, slot: Slot) {
        books.changes += 1;
        let place = (slot.releases.candidate().is_some(), books.changes);
        books.bytes += footprint(variant, &slot.releases);
        books.order.insert(place, variant.clone());
        books.differs(variant);
        if let Some(before) = self.slots.insert(variant.clone(), Slot { place, ..slot }) {
            books.leave(variant, &before);
        }
    }

    fn remove(&self, books: &mut Books, key: &CacheKey) {
        if let Some((key, slot)) = self.slots.remove(key) {
            books.leave(&key, &slot);
            books.differs(&key);
        }
    }

    fn make_room(&self, books: &mut Books) {
        while books.bytes > books.limits.max_bytes.as_usize() || books.order.len() > books.limits.max_keys {
            let Some(((under_way, _), key)) = books.order.first_key_value().map(|(place, key)| (*place, key.clone()))
            else {
                break;
            };
            if under_way && let Some(slot) = self.slots.get(&key) {
                self.metrics.rollout_events.with_label_values(&[&slot.route, "crowded_out"]).inc();
                tracing::warn!(route = &*slot.route, "no room for more releases: the oldest on its way is everybody's");
            }
            self.remove(books, &key);
        }
    }

    /// The least fraction of each route; 1 where nothing is on its way.
    fn show(&self, now: Millis) {
        let mut least: BTreeMap<Arc<str>, f64> = BTreeMap::new();
        for slot in &self.slots {
            let fraction = slot.releases.candidate().map_or(1.0, |candidate| candidate.rollout.fraction(now));
            let shown = least.entry(Arc::clone(&slot.route)).or_insert(1.0);
            *shown = shown.min(fraction);
        }
        let mut books = self.books.lock();
        for gone in books.shown.iter().filter(|route| !least.contains_key(*route)) {
            // It was shown, so it is there.
            let _removed = self.metrics.rollout_fraction.remove_label_values(&[gone]);
        }
        for (route, fraction) in &least {
            self.metrics.rollout_fraction.with_label_values(&[route]).set(*fraction);
        }
        books.shown = least.into_keys().collect();
    }
}

/// Who asks for what, on a route with a rollout.
pub(super) struct Asked<'a> {
    pub(super) key: &'a CacheKey,
    pub(super) route: &'a str,
    pub(super) pacing: Pacing,
    pub(super) agent: Option<&'a AgentId>,
    pub(super) now: Millis,
}

impl Slot {
    fn entries(&self) -> impl Iterator<Item = &Arc<Entry>> {
        let candidate = self.releases.candidate().and_then(|candidate| candidate.answer.as_ref());
        candidate.into_iter().chain([&self.releases.previous().answer])
    }
}

impl Books {
    /// The disk must be told of the key. While it fails for long there are more of them than are kept: a restart then finds files of
    /// keys that were forgotten since.
    fn differs(&mut self, key: &CacheKey) {
        if self.unsaved.len() < 2 * self.limits.max_keys {
            self.unsaved.insert(key.clone());
        }
    }

    fn leave(&mut self, key: &CacheKey, slot: &Slot) {
        self.bytes -= footprint(key, &slot.releases);
        self.order.remove(&slot.place);
    }
}

fn footprint(key: &CacheKey, releases: &Releases<Arc<Entry>>) -> usize {
    let candidate = releases.candidate().and_then(|candidate| candidate.answer.as_ref());
    let entries = [&releases.previous().answer].into_iter().chain(candidate);
    entries.map(|entry| entry.footprint(key.len())).sum()
}

/// What of the releases is on disk, but for the settled answer, of which an older copy with the same body does as well.
fn standing(releases: &Releases<Arc<Entry>>) -> (Digest, Option<(Digest, Rollout)>) {
    let candidate = releases.candidate().map(|candidate| (candidate.digest, candidate.rollout));
    (releases.previous().digest, candidate)
}

fn event(arrival: Arrival) -> Option<&'static str> {
    match arrival {
        Arrival::Known => None,
        Arrival::Begun => Some("begun"),
        Arrival::Replaced => Some("replaced"),
        Arrival::Withdrawn => Some("withdrawn"),
    }
}

/// How often what is on its way is looked at.
pub(super) const TICK: Duration = Duration::from_secs(1);
