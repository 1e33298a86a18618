//! The ghost of a stored answer: when it would have been fetched, and nothing of what it would say.

use std::time::Duration;

use crate::Millis;
use crate::cache::{Freshness, Lease};

/// One key's answer as it would be stored. 24 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ghost {
    stored: Millis,
    /// When the fill under way will land.
    landing: Millis,
    /// Whether it was asked for early enough to be fetched anew before its end.
    wanted: bool,
}

/// What a request would have met.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Served {
    /// A fresh answer, fetched so long ago.
    Fresh(Duration),
    /// An answer past its TTL, fetched so long ago, while it is fetched anew.
    Stale {
        /// The time since it was fetched.
        age: Duration,
        /// Whether it is this request that has it fetched.
        asks: bool,
    },
    /// Nothing usable: this request has the core asked, and waits.
    Asks,
    /// Nothing usable, and the core being asked: this request waits with the others.
    Joins,
}

const NEVER: Millis = Millis(u64::MAX);

impl Ghost {
    /// Nothing stored, nothing on its way.
    pub const EMPTY: Self = Self { stored: NEVER, landing: NEVER, wanted: false };

    /// An answer stored at `at`, and nothing on its way.
    pub const fn stored(at: Millis) -> Self {
        Self { stored: at, ..Self::EMPTY }
    }

    /// A request at `now`, no earlier than the one before. A fill takes `fill`; `seed` makes each key and each fill draw a jitter
    /// of its own.
    pub fn ask(&mut self, now: Millis, lease: &Lease, fill: Duration, seed: u64) -> Served {
        self.land(now, lease);
        let under_way = self.landing != NEVER;
        if self.stored != NEVER {
            let age = now.since(self.stored);
            match lease.freshness(age, draw(seed, self.stored)) {
                Freshness::Fresh { .. } => {
                    self.wanted |= lease.due(draw(seed, self.stored)).is_some_and(|due| age < due);
                    return Served::Fresh(age);
                }
                Freshness::Stale { while_revalidate: true, .. } => {
                    self.depart(now, fill);
                    return Served::Stale { age, asks: !under_way };
                }
                Freshness::Stale { .. } | Freshness::Expired { .. } => {}
            }
        }
        self.depart(now, fill);
        if under_way { Served::Joins } else { Served::Asks }
    }

    /// Whether the core was asked since the last request, because that one wanted an answer which then neared its end. To be called
    /// before each [`Ghost::ask`], and like it.
    pub fn fetched_ahead(&mut self, now: Millis, lease: &Lease, fill: Duration, seed: u64) -> bool {
        self.land(now, lease);
        let due = lease.due(draw(seed, self.stored)).filter(|_| self.wanted);
        let Some(due) = due.map(|due| self.stored.after(due)).filter(|due| *due <= now) else { return false };
        self.wanted = false;
        self.landing = due.after(fill);
        self.land(now, lease);
        true
    }

    /// When it was stored.
    pub fn stored_at(&self) -> Millis {
        self.stored
    }

    /// Until when requests meet what was stored, fresh, and change nothing here; `None` where the next one may. To be called after
    /// [`Ghost::ask`] at `now`.
    pub fn rests_until(&self, now: Millis, lease: &Lease, seed: u64) -> Option<Millis> {
        if self.stored == NEVER {
            return None;
        }
        let draw = draw(seed, self.stored);
        let end = self.stored.after(lease.lifetime(draw));
        let due = lease.due(draw).map(|due| self.stored.after(due)).filter(|due| *due > now);
        let until = end.min(due.unwrap_or(end)).min(self.landing);
        (until > now).then_some(until)
    }

    /// An answer is stored at `now` that was asked for under another name; what is fresh stays.
    pub fn bring(&mut self, now: Millis, lease: &Lease, seed: u64) {
        self.land(now, lease);
        let age = now.since(self.stored);
        let is_fresh = || matches!(lease.freshness(age, draw(seed, self.stored)), Freshness::Fresh { .. });
        if !lease.ttl.is_zero() && (self.stored == NEVER || !is_fresh()) {
            *self = Self::stored(now);
        }
    }

    /// When the fill under way will land; `None` where there is none.
    pub(crate) fn landing(&self) -> Option<Millis> {
        (self.landing != NEVER).then_some(self.landing)
    }

    /// Lands the fill under way, if that is due by `now`; gives whether something is stored then.
    pub(crate) fn lands(&mut self, now: Millis, lease: &Lease) -> bool {
        self.land(now, lease);
        self.stored != NEVER
    }

    /// What is stored has left.
    pub(crate) fn leave(&mut self) {
        self.stored = NEVER;
    }

    /// What is stored is past its TTL since `now`, if it was not before.
    pub(crate) fn outdate(&mut self, now: Millis, lease: &Lease) {
        if self.stored != NEVER {
            let end = Millis(now.0.saturating_sub(Millis::default().after(lease.ttl).0));
            self.stored = self.stored.min(end);
        }
    }

    /// The fill under way, or that would start now, fails: what is stored stays.
    pub fn fail(&mut self) {
        self.landing = NEVER;
    }

    /// The age of what is stored, if it may be served although the core fails.
    pub fn stands_in(&self, now: Millis, lease: &Lease, seed: u64) -> Option<Duration> {
        let age = now.since(self.stored);
        (self.stored != NEVER && lease.freshness(age, draw(seed, self.stored)).serves_errors()).then_some(age)
    }

    fn land(&mut self, now: Millis, lease: &Lease) {
        if self.landing <= now {
            let stored = if lease.ttl.is_zero() { NEVER } else { self.landing };
            *self = Self { stored, landing: NEVER, wanted: false };
        }
    }

    fn depart(&mut self, now: Millis, fill: Duration) {
        if self.landing == NEVER {
            self.landing = now.after(fill);
        }
    }
}

/// From 0 to 1, the same for the same key and fill.
#[expect(clippy::cast_precision_loss, reason = "53 bits are kept, which is what an f64 holds")]
pub(crate) fn draw(seed: u64, stored: Millis) -> f64 {
    (mixed(seed ^ stored.0.wrapping_mul(0x9e37_79b9_7f4a_7c15)) >> 11) as f64 / (1_u64 << 53) as f64
}

/// Spreads every bit of the number over every bit of the result (the finalizer of SplitMix64).
pub const fn mixed(number: u64) -> u64 {
    let number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ (number >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILL: Duration = Duration::from_millis(100);

    fn lease(while_revalidate: u64) -> Lease {
        Lease {
            ttl: Duration::from_secs(10),
            jitter: 0.0,
            while_revalidate: Duration::from_secs(while_revalidate),
            if_error: Duration::from_secs(60),
            refresh_ahead: 0.0,
        }
    }

    #[test]
    fn one_fill_serves_all_who_wait_and_the_ttl_counts_from_its_landing() {
        let mut ghost = Ghost::EMPTY;
        let mut at = |now| ghost.ask(Millis(now), &lease(0), FILL, 7);
        assert_eq!([at(0), at(99)], [Served::Asks, Served::Joins]);
        assert_eq!(at(100), Served::Fresh(Duration::ZERO));
        assert_eq!(at(10_099), Served::Fresh(Duration::from_millis(9_999)));
        assert_eq!([at(10_100), at(10_101)], [Served::Asks, Served::Joins]);
    }

    #[test]
    fn a_stale_answer_is_served_while_one_fill_is_under_way() {
        let mut ghost = Ghost::EMPTY;
        let mut at = |now| ghost.ask(Millis(now), &lease(5), FILL, 7);
        at(0);
        let stale = |millis, asks| Served::Stale { age: Duration::from_millis(millis), asks };
        assert_eq!([at(10_100), at(10_150)], [stale(10_000, true), stale(10_050, false)]);
        assert_eq!(at(10_250), Served::Fresh(Duration::from_millis(50)));
        assert_eq!(at(25_200), Served::Asks);
    }

    #[test]
    fn what_is_not_kept_is_asked_for_again_and_again() {
        let mut ghost = Ghost::EMPTY;
        let lease = Lease { ttl: Duration::ZERO, ..lease(60) };
        let mut at = |now| ghost.ask(Millis(now), &lease, FILL, 7);
        assert_eq!([at(0), at(50), at(100), at(150)], [Served::Asks, Served::Joins, Served::Asks, Served::Joins]);
    }

    #[test]
    fn what_was_asked_for_is_fetched_before_its_end_once() {
        let mut ghost = Ghost::EMPTY;
        let lease = Lease { refresh_ahead: 0.2, ..lease(0) };
        let mut at = |now| (ghost.fetched_ahead(Millis(now), &lease, FILL, 7), ghost.ask(Millis(now), &lease, FILL, 7));
        assert_eq!(at(0), (false, Served::Asks));
        assert_eq!(at(1_100), (false, Served::Fresh(Duration::from_secs(1))));
        // Due at 8,100 and there at 8,200.
        assert_eq!(at(15_200), (true, Served::Fresh(Duration::from_secs(7))));
        // Fetched ahead again at 16,200; the next one nobody has asked for in time.
        assert_eq!(at(16_250), (true, Served::Fresh(Duration::from_millis(8_050))));
        assert_eq!(at(25_000), (false, Served::Fresh(Duration::from_millis(8_700))));
        assert_eq!(at(30_000), (false, Served::Asks));
    }

    #[test]
    fn a_failed_fill_leaves_what_is_stored_to_stand_in() {
        let mut ghost = Ghost::EMPTY;
        ghost.ask(Millis(0), &lease(0), FILL, 7);
        ghost.ask(Millis(200), &lease(0), FILL, 7);
        assert_eq!(ghost.ask(Millis(20_100), &lease(0), FILL, 7), Served::Asks);
        ghost.fail();
        assert_eq!(ghost.stands_in(Millis(20_100), &lease(0), 7), Some(Duration::from_secs(20)));
        assert_eq!(ghost.stands_in(Millis(70_100), &lease(0), 7), None);
    }
}
