//! Kept answers of all lookup routes, in shards so that routes and threads do not wait for one lock.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;
use weir_config::CacheLimits;
use weir_logic::CacheKey;
use weir_logic::lookup::{Kept, KeptAnswers};

/// Kept answers: at most a quarter of the cache's bounds, which leaves the cache its own and lookups theirs.
pub(super) struct KeptStore {
    shards: Vec<Mutex<KeptAnswers>>,
    max_object_bytes: AtomicUsize,
}

/// The part of the cache's bounds that lookups have beside it.
const PART: usize = 4;

const SHARDS: usize = 16;

/// Below this many answers one shard is enough, and many would leave each with hardly any room.
const ANSWERS_WORTH_SHARDS: usize = 4_096;

impl KeptStore {
    pub(super) fn new(limits: &CacheLimits) -> Self {
        let shards = if limits.max_keys / PART < ANSWERS_WORTH_SHARDS { 1 } else { SHARDS };
        let store = Self {
            shards: (0..shards).map(|_| Mutex::new(KeptAnswers::new(0, 0))).collect(),
            max_object_bytes: AtomicUsize::new(0),
        };
        store.reconfigure(limits);
        store
    }

    /// Changes the bounds; what no longer fits leaves.
    pub(super) fn reconfigure(&self, limits: &CacheLimits) {
        let shards = self.shards.len();
        let answers = (limits.max_keys / PART).div_ceil(shards);
        let bytes = limits.max_bytes.as_usize() / PART / shards;
        for shard in &self.shards {
            shard.lock().reconfigure(answers, bytes);
        }
        self.max_object_bytes.store(limits.max_object_bytes.as_usize(), Ordering::Relaxed);
    }

    /// What is kept, fresh or not.
    pub(super) fn find(&self, key: &CacheKey) -> Option<Arc<Kept>> {
        self.shard(key).lock().find(key)
    }

    /// Keeps an answer unless it is too large; what was kept before is gone either way. `true` when it is kept.
    pub(super) fn keep(&self, key: &CacheKey, kept: Kept) -> bool {
        let mut shard = self.shard(key).lock();
        if kept.answer.body.len() > self.max_object_bytes.load(Ordering::Relaxed) {
            shard.forget(key);
            return false;
        }
        shard.keep(key.clone(), Arc::new(kept))
    }

    pub(super) fn forget(&self, key: &CacheKey) {
        self.shard(key).lock().forget(key);
    }

    fn shard(&self, key: &CacheKey) -> &Mutex<KeptAnswers> {
        let place = key.digest() % self.shards.len() as u128;
        // The remainder is smaller than the number of shards, which is a `usize`.
        &self.shards[usize::try_from(place).unwrap_or(0)]
    }
}
