//! The purges in force, shared by everything that keeps answers for agents.
//!
//! What a purge means is said in [`weir_logic::cache::purge`]. Here is what makes it cheap: an answer that has been compared
//! with the latest purge needs one look at a counter to be used again.

mod changes;
mod orders;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::{Mutex, RwLock};
use weir_logic::cache::purge::{Mark, Marks, PurgeNumber, Purges, Severity, Target, Verdict};
use weir_logic::{CacheKey, Millis};

pub use self::changes::Changes;
pub use self::orders::{Keeper, PurgeOrders};

/// The purges of a node. Memory: see [`Purges`], and a few words for each fill under way.
#[derive(Debug, Default)]
pub struct Purging {
    latest: AtomicU64,
    purges: RwLock<Purges>,
    /// How many fills under way were started after which purge.
    under_way: Mutex<BTreeMap<PurgeNumber, usize>>,
}

/// A fill under way: purges that happen meanwhile will be known when it lands.
#[derive(Debug)]
pub struct Departure {
    purging: Arc<Purging>,
    since: PurgeNumber,
}

/// What a kept answer can be purged by, and how far that has been looked at.
#[derive(Debug)]
pub struct Stamp {
    marks: Arc<Marks>,
    /// The number of the last purge that the answer has been compared with.
    checked: AtomicU64,
    /// When a soft purge has made it stale, in milliseconds since 1970; [`NEVER`] while none has.
    outdated: AtomicU64,
}

const NEVER: u64 = u64::MAX;

impl Purging {
    /// Notes a purge and gives its number; `None` when there are as many notes as may be.
    pub fn purge(&self, target: Target, severity: Severity, now: Millis) -> Option<PurgeNumber> {
        let mut purges = self.purges.write();
        let number = purges.purge(target, severity, now)?;
        self.latest.store(number.0, Ordering::Release);
        Some(number)
    }

    /// To be held from before the core is asked until the answer is kept or given up.
    pub fn depart(self: &Arc<Self>) -> Departure {
        // Under the lock: a purge is not forgotten between the reading of its number and the note of the departure.
        let mut under_way = self.under_way.lock();
        let since = PurgeNumber(self.latest.load(Ordering::Acquire));
        *under_way.entry(since).or_default() += 1;
        Departure { purging: Arc::clone(self), since }
    }

    /// Whether a kept answer may still be used. Notes in its stamp when it has become stale.
    pub fn allows(&self, key: &CacheKey, stamp: &Stamp) -> bool {
        if self.has_nothing_new_for(stamp) {
            return true;
        }
        let checked = stamp.checked.load(Ordering::Acquire);
        let purges = self.purges.read();
        match purges.verdict(Mark::key(key), &stamp.marks, PurgeNumber(checked)) {
            Verdict::Gone => return false,
            Verdict::StaleSince(at) => {
                stamp.outdated.fetch_min(at.0, Ordering::AcqRel);
            }
            Verdict::Untouched => {}
        }
        stamp.checked.fetch_max(purges.latest().0, Ordering::AcqRel);
        true
    }

    /// Whether an answer has been compared with every purge there was, so that [`Purging::allows`] would allow it.
    pub fn has_nothing_new_for(&self, stamp: &Stamp) -> bool {
        stamp.checked.load(Ordering::Acquire) >= self.latest.load(Ordering::Acquire)
    }

    /// The number of the last purge: what a sweep that begins now will have looked at.
    pub fn latest(&self) -> PurgeNumber {
        PurgeNumber(self.latest.load(Ordering::Acquire))
    }

    /// Forgets the purges that every kept answer has been compared with, as far as no fill under way is older.
    pub fn forget(&self, swept: PurgeNumber) {
        let under_way = self.under_way.lock();
        let oldest = under_way.keys().next().copied().unwrap_or(swept);
        self.purges.write().forget(oldest.min(swept));
    }

    /// Purges that are noted.
    pub fn notes(&self) -> usize {
        self.purges.read().notes()
    }
}

impl Departure {
    /// The stamp of the answer that the fill has brought.
    pub fn stamp(&self, marks: Arc<Marks>) -> Stamp {
        Stamp { marks, checked: AtomicU64::new(self.since.0), outdated: AtomicU64::new(NEVER) }
    }

    /// The stamp of an answer that is stale since `at`, as after a soft purge.
    pub fn outdated_stamp(&self, marks: Arc<Marks>, at: Millis) -> Stamp {
        Stamp { outdated: AtomicU64::new(at.0), ..self.stamp(marks) }
    }
}

impl Drop for Departure {
    fn drop(&mut self) {
        let mut under_way = self.purging.under_way.lock();
        if let Some(count) = under_way.get_mut(&self.since) {
            *count -= 1;
            if *count == 0 {
                under_way.remove(&self.since);
            }
        }
    }
}

impl Clone for Stamp {
    fn clone(&self) -> Self {
        let copy = |number: &AtomicU64| AtomicU64::new(number.load(Ordering::Acquire));
        Self { marks: Arc::clone(&self.marks), checked: copy(&self.checked), outdated: copy(&self.outdated) }
    }
}

impl Stamp {
    /// What the answer can be purged by.
    pub fn marks(&self) -> &Arc<Marks> {
        &self.marks
    }

    /// When a purge has made the answer stale.
    pub fn outdated(&self) -> Option<Millis> {
        Some(self.outdated.load(Ordering::Acquire)).filter(|at| *at != NEVER).map(Millis)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tagged(tag: &str) -> Arc<Marks> {
        Arc::new(Marks::new([Mark::tag(tag)], "/"))
    }

    fn key() -> CacheKey {
        crate::cache::key_named("any")
    }

    #[test]
    fn an_answer_that_was_on_its_way_is_purged_and_the_note_waits_for_it() {
        let purging = Arc::new(Purging::default());
        let departure = purging.depart();
        let number = purging.purge(Target::Marked(Mark::tag("a")), Severity::Hard, Millis(1)).unwrap();
        purging.forget(number);
        assert_eq!(purging.notes(), 1, "a fill is under way that must hear of it");
        let (hit, other) = (departure.stamp(tagged("a")), departure.stamp(tagged("b")));
        assert!(!purging.allows(&key(), &hit) && purging.allows(&key(), &other));
        drop(departure);
        purging.forget(number);
        assert_eq!(purging.notes(), 0);
        assert!(purging.allows(&key(), &purging.depart().stamp(tagged("a"))));
    }

    #[test]
    fn a_soft_purge_is_remembered_after_its_note_is_forgotten() {
        let purging = Arc::new(Purging::default());
        let stamp = purging.depart().stamp(tagged("a"));
        let number = purging.purge(Target::All, Severity::Soft, Millis(5)).unwrap();
        assert!(purging.allows(&key(), &stamp));
        purging.forget(number);
        assert_eq!(stamp.outdated(), Some(Millis(5)));
    }
}
