//! Kept answers of all lookup routes, in shards so that routes and threads do not wait for one lock.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;
use weir_config::{CacheLimits, LookupRoute};
use weir_logic::cache::purge::{Mark, Marks};
use weir_logic::cache::{Census, Freshness};
use weir_logic::heap::{allocation, shared};
use weir_logic::lookup::{Kept, KeptAnswers};
use weir_logic::{CacheKey, Field, Lender, Millis};

use super::Asking;
use crate::purging::Stamp;

/// The core's answer to a key, with what it takes to purge it and to ask for it again.
#[derive(Debug)]
pub(super) struct Holding {
    pub(super) kept: Kept,
    pub(super) stamp: Stamp,
    pub(super) asking: Arc<Asking>,
}

/// Kept answers: at most a quarter of the cache's bounds, which leaves the cache its own and lookups theirs.
pub(super) struct KeptStore {
    shards: Vec<Mutex<KeptAnswers<Holding>>>,
    max_object_bytes: AtomicUsize,
}

/// The part of the cache's bounds that lookups have beside it.
pub(super) const PART: usize = 4;

const SHARDS: usize = 16;

/// Below this many answers one shard is enough, and many would leave each with hardly any room.
const ANSWERS_WORTH_SHARDS: usize = 4_096;

impl Holding {
    /// How it may be used.
    pub(super) fn freshness(&self, route: &LookupRoute, now: Millis) -> Freshness {
        self.kept.freshness(route, self.stamp.outdated(), now)
    }

    /// The memory that it takes beside its slot, its key and its marks' place in the census included.
    fn footprint(&self) -> usize {
        let answer = &self.kept.answer;
        let marks = self.stamp.marks();
        let texts = [&answer.etag, &answer.content_type].into_iter().flatten().map(|text| shared(text.len()));
        let own = [
            allocation(COUNTS + size_of::<Self>()),
            allocation(COUNTS + size_of::<Asking>()),
            shared(answer.body.len()),
            shared(self.asking.key.len()),
            allocation(self.asking.text.len()),
            2 * (allocation(COUNTS + size_of::<Marks>()) + marks.bytes()),
            allocation(answer.tags.as_deref().map_or(0, size_of_val)),
            marks.iter().count() * Census::PLACE_BYTES,
        ];
        own.into_iter().chain(texts).sum()
    }
}

/// It lends no header, as its answer has few: only what it can be purged by.
impl Lender for Holding {
    fn fields(&self) -> &[Field] {
        &[]
    }

    fn marks(&self) -> &Marks {
        self.stamp.marks()
    }
}

/// What an answer takes, its body and key and what it can be purged by left out. It has a key of usual length as text as well, an entity tag
/// and a media type.
pub(super) const OWN_BYTES: usize = allocation(COUNTS + size_of::<Holding>())
    + allocation(COUNTS + size_of::<Asking>())
    + allocation(24)
    + 2 * shared(24);

/// The reference counts beside what an `Arc` holds.
const COUNTS: usize = 2 * size_of::<usize>();

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

    /// What is kept, fresh or not. It counts as asked for.
    pub(super) fn find(&self, key: &CacheKey) -> Option<Arc<Holding>> {
        self.shard(key).lock().find(key)
    }

    /// Keeps an answer unless it is too large; what was kept before is gone either way. `true` when it is kept.
    pub(super) fn keep(&self, holding: &Arc<Holding>, due: Option<Millis>) -> bool {
        let key = &holding.asking.key;
        let mut shard = self.shard(key).lock();
        if holding.kept.answer.body.len() > self.max_object_bytes.load(Ordering::Relaxed) {
            shard.forget(key);
            return false;
        }
        shard.keep(key.clone(), Arc::clone(holding), holding.stamp.marks(), holding.footprint(), due)
    }

    pub(super) fn forget(&self, key: &CacheKey) {
        self.shard(key).lock().forget(key);
    }

    /// Forgets what is kept if it is this.
    pub(super) fn forget_this(&self, holding: &Arc<Holding>) -> bool {
        let key = &holding.asking.key;
        self.shard(key).lock().forget_if(key, |kept| Arc::ptr_eq(kept, holding))
    }

    /// What is to be fetched anew by now.
    pub(super) fn take_due(&self, now: Millis) -> Vec<Arc<Holding>> {
        self.shards.iter().flat_map(|shard| shard.lock().take_due(now)).collect()
    }

    /// How many answers carry the mark; all of them without one.
    pub(super) fn count(&self, mark: Option<Mark>) -> usize {
        let count = |shard: &Mutex<KeptAnswers<Holding>>| {
            let shard = shard.lock();
            mark.map_or_else(|| shard.len(), |mark| shard.count(mark))
        };
        self.shards.iter().map(count).sum()
    }

    /// Forgets what `stays` does not say it stays; gives how many answers that were. One shard after the other is locked for as long
    /// as a look at each of its answers takes.
    pub(super) fn sweep(&self, stays: impl Fn(&CacheKey, &Holding) -> bool) -> usize {
        let sweep = |shard: &Mutex<KeptAnswers<Holding>>| {
            let mut shard = shard.lock();
            let gone: Vec<CacheKey> =
                shard.iter().filter(|(key, kept)| !stays(key, kept)).map(|(key, _)| key.clone()).collect();
            gone.iter().for_each(|key| shard.forget(key));
            gone.len()
        };
        self.shards.iter().map(sweep).sum()
    }

    fn shard(&self, key: &CacheKey) -> &Mutex<KeptAnswers<Holding>> {
        let place = key.digest() % self.shards.len() as u128;
        // The remainder is smaller than the number of shards, which is a `usize`.
        &self.shards[usize::try_from(place).unwrap_or(0)]
    }
}
