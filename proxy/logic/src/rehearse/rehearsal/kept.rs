//! What would be kept under a key, and what its requests meet.

use std::time::Duration;

use super::super::played::{Met, Record};
use super::super::room::Weight;
use super::Cue;
use super::purges::{Notes, Stamp};
use crate::Millis;
use crate::cache::Lease;
use crate::cache::purge::Verdict;
use crate::whatif::{Ghost, Served};

/// What would be kept under a key.
pub(super) struct Kept {
    pub(super) ghost: Ghost,
    pub(super) lease: Lease,
    bytes: u64,
    beside: u32,
    stamp: Stamp,
    /// Since when the fill under way brings what is stale: a soft purge has been meanwhile.
    outdated: Option<Millis>,
    /// The entity tag of what the core gave last.
    tag: Option<u64>,
    pub(super) record: Record,
}

/// What is known of a recorded route's core at a moment.
#[derive(Clone, Copy, Default)]
pub(super) struct Core {
    /// How long fills take, the last ones above all.
    fill: Option<Duration>,
    fails: bool,
}

impl Core {
    pub(super) fn learn(&mut self, cue: &Cue) {
        if let Some(took) = cue.core {
            self.fill = Some(self.fill.map_or(took, |usual| (usual * 7 + took) / 8));
        }
        self.fails = cue.core_fails.unwrap_or(self.fails);
    }
}

impl Kept {
    pub(super) fn somewhere_in_its_life(
        cue: &Cue,
        key: u128,
        stamp: Stamp,
        now: Millis,
        usual: impl FnOnce() -> Lease,
    ) -> Self {
        let lease = cue.granted.unwrap_or_else(usual);
        let part = crate::whatif::draw(seed(key), now);
        let age = Millis::default().after(lease.ttl.mul_f64(part));
        let stored = Ghost::stored(Millis(now.0.saturating_sub(age.0)));
        let ghost = if lease.ttl.is_zero() { Ghost::EMPTY } else { stored };
        Self { ghost, lease, bytes: 0, beside: 0, stamp, outdated: None, tag: None, record: Record::of(cue.route) }
    }

    /// Does what purges say since it was last asked about. Gives whether what was stored, and what was on its way, is gone.
    pub(super) fn compare(&mut self, notes: &Notes) -> bool {
        match notes.verdict(&mut self.stamp) {
            Verdict::Untouched => false,
            Verdict::StaleSince(at) => {
                self.ghost.outdate(at, &self.lease);
                self.outdated = self.ghost.landing().and(Some(at));
                false
            }
            Verdict::Gone => {
                // What is on its way may be given to who waits for it, and is not kept.
                self.ghost.leave();
                self.fail();
                true
            }
        }
    }

    /// Lands the fill under way, if that is due by `now`; gives whether something is stored then.
    pub(super) fn land(&mut self, now: Millis) -> bool {
        let due = self.ghost.landing().is_some_and(|at| at <= now);
        let stored = self.ghost.lands(now, &self.lease);
        if due && let Some(at) = self.outdated.take() {
            self.ghost.outdate(at, &self.lease);
        }
        stored
    }

    fn fail(&mut self) {
        self.ghost.fail();
        self.outdated = None;
    }

    /// What the line tells of the answer.
    pub(super) fn learn(&mut self, cue: &Cue) {
        self.lease = cue.granted.unwrap_or(self.lease);
        self.bytes = cue.whole.unwrap_or(self.bytes);
        self.beside = self.beside.max(cue.beside);
        if cue.tells_tags {
            self.stamp.marks = cue.marks;
        }
    }

    pub(super) fn weight(&self) -> Weight {
        let body = usize::try_from(self.bytes).unwrap_or(usize::MAX >> 1);
        Weight { beside: self.beside as usize, body }
    }

    pub(super) fn meet(&mut self, cue: &Cue, key: u128, now: Millis, core: Core) -> Met {
        self.land(now);
        self.learn(cue);
        let (lease, seed, fill) = (self.lease, seed(key), core.fill.unwrap_or_default());
        let ahead = !core.fails && self.ghost.fetched_ahead(now, &lease, fill, seed);
        let served = self.ghost.ask(now, &lease, fill, seed);
        let mut met = Met::of(served, ahead, lease.ttl);
        if core.fails && !matches!(served, Served::Fresh(_)) {
            self.fail();
            met = match (served, self.ghost.stands_in(now, &lease, seed)) {
                (Served::Stale { age, .. }, _) | (_, Some(age)) => {
                    Met::of(Served::Stale { age, asks: false }, false, lease.ttl)
                }
                (_, None) => Met::FAILED,
            };
        }
        if met.asks > 0 {
            let confirmed = cue.tag.is_some() && cue.tag == self.tag;
            self.tag = cue.tag;
            met.bytes = if confirmed { 0 } else { self.bytes };
        }
        met
    }
}

/// Half of the digest is enough to draw by.
#[expect(clippy::cast_possible_truncation, reason = "half of the digest is enough")]
fn seed(key: u128) -> u64 {
    key as u64
}
