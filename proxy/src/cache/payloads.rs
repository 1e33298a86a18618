//! What the manifests in use name: each payload must be what its manifest says, for as long as that manifest may be given to agents.
//!
//! A manifest's claims begin before it is stored and end some minutes after the last copy of it is dropped: they belong to its entry, and agents
//! that were given it have yet to ask. A fill of a
//! payload that somebody claims brings what is claimed or fails, so that the core cannot change a payload under a manifest that
//! agents hold. Where the payloads of a new manifest come from is in `agreement`; what a manifest says in
//! [`weir_logic::cache::payload`].

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use dashmap::DashMap;
use parking_lot::Mutex;
use weir_logic::{CacheKey, Digest, Millis};

use crate::clock::Clock;

/// The claims of all manifests that this node holds. Memory: a key and some tens of bytes for each payload of each of them, which the
/// manifests' entries are charged with, and for the last [`MAX_FORMER`] that were claimed.
pub(super) struct Payloads {
    claimed: DashMap<CacheKey, Claimed>,
    /// The keys that nobody claims any more, in the order in which that ends to count.
    former: Mutex<VecDeque<(CacheKey, Millis)>>,
    /// The lanes of manifests whose payloads are on their way.
    pending: DashMap<CacheKey, usize>,
    clock: Clock,
}

/// What is claimed of one payload.
#[derive(Default)]
struct Claimed {
    /// The digests, and by how many; the last one was claimed last.
    live: Vec<(Digest, usize)>,
    /// What was claimed last by a manifest that is gone, and until when that counts for agents that were given it.
    former: Option<(Digest, Millis)>,
}

/// What one manifest claims of its payloads. Dropping it ends the claims.
pub(super) struct Claims {
    payloads: Arc<Payloads>,
    list: Vec<(CacheKey, Digest)>,
}

/// A manifest waits for its payloads while this lives.
pub(super) struct Pending {
    payloads: Arc<Payloads>,
    lane: CacheKey,
}

impl Payloads {
    pub(super) fn new(clock: Clock) -> Self {
        Self { claimed: DashMap::new(), former: Mutex::default(), pending: DashMap::new(), clock }
    }

    /// What the payload with this key must be; `None` when no manifest that agents may have names it.
    pub(super) fn expected(&self, key: &CacheKey) -> Option<Digest> {
        let claimed = self.claimed.get(key)?;
        let former = claimed.former.filter(|(_, until)| *until > self.clock.now());
        claimed.live.last().map(|(digest, _)| *digest).or(former.map(|(digest, _)| digest))
    }

    /// The same of manifests in use only.
    pub(super) fn claimed(&self, key: &CacheKey) -> Option<Digest> {
        self.claimed.get(key)?.live.last().map(|(digest, _)| *digest)
    }

    /// Whether something else is claimed of the payload: by anybody, and by somebody besides `mine`.
    pub(super) fn stands_against(&self, key: &CacheKey, digest: Digest, mine: Option<&Claims>) -> (bool, bool) {
        let Some(claimed) = self.claimed.get(key) else { return (false, false) };
        let of_mine = |other: Digest| {
            usize::from(mine.is_some_and(|mine| mine.list.iter().any(|(known, said)| known == key && *said == other)))
        };
        let others = || claimed.live.iter().filter(|(other, _)| *other != digest);
        (others().next().is_some(), others().any(|(other, count)| *count > of_mine(*other)))
    }

    /// Claims these digests of these keys, each of which is there once; `None` when somebody besides `mine` claims another.
    pub(super) fn claim(self: &Arc<Self>, list: Vec<(CacheKey, Digest)>, mine: Option<&Claims>) -> Option<Claims> {
        for (key, digest) in &list {
            let live = &mut self.claimed.entry(key.clone()).or_default().live;
            let before = live.iter().position(|(known, _)| known == digest).map(|at| live.remove(at));
            live.push((*digest, before.map_or(0, |(_, count)| count) + 1));
        }
        let claims = Claims { payloads: Arc::clone(self), list };
        // Of two that claim at once, at least the later sees the other.
        let contradicted = |(key, digest): &(CacheKey, Digest)| self.stands_against(key, *digest, mine).1;
        (!claims.list.iter().any(contradicted)).then_some(claims)
    }

    pub(super) fn wait_for(self: &Arc<Self>, lane: &CacheKey) -> Pending {
        *self.pending.entry(lane.clone()).or_default() += 1;
        Pending { payloads: Arc::clone(self), lane: lane.clone() }
    }

    pub(super) fn are_awaited(&self, lane: &CacheKey) -> bool {
        self.pending.contains_key(lane)
    }

    /// Nobody claims the payload any more; it was claimed as this.
    fn is_former(&self, key: &CacheKey, until: Millis) {
        let mut former = self.former.lock();
        former.push_back((key.clone(), until));
        let now = self.clock.now();
        while former.len() > MAX_FORMER || former.front().is_some_and(|(_, until)| *until <= now) {
            let Some((key, until)) = former.pop_front() else { break };
            let is_over = |_: &CacheKey, claimed: &Claimed| {
                claimed.live.is_empty() && claimed.former.is_some_and(|(_, last)| last <= until)
            };
            self.claimed.remove_if(&key, is_over);
        }
    }
}

impl Claims {
    /// The memory that they take.
    pub(super) fn bytes(&self) -> usize {
        self.list.iter().map(|(key, _)| 2 * key.len() + BYTES_EACH).sum()
    }
}

/// A claim in the list and in the table, counted from above.
const BYTES_EACH: usize = 256;

impl Drop for Claims {
    fn drop(&mut self) {
        let until = self.payloads.clock.now().after(LINGER);
        for (key, digest) in &self.list {
            let Some(mut claimed) = self.payloads.claimed.get_mut(key) else { continue };
            claimed.live.iter_mut().filter(|(known, _)| known == digest).for_each(|(_, count)| *count -= 1);
            claimed.live.retain(|(_, count)| *count > 0);
            if claimed.live.is_empty() {
                claimed.former = Some((*digest, until));
                drop(claimed);
                self.payloads.is_former(key, until);
            }
        }
    }
}

/// The time for which a payload stays what a manifest said that is gone: agents that were given it last have yet to ask.
pub(super) const LINGER: Duration = Duration::from_secs(600);

/// Payloads of manifests that are gone, at most; the oldest leave first.
const MAX_FORMER: usize = 4096;

impl Drop for Pending {
    fn drop(&mut self) {
        if let Some(mut count) = self.payloads.pending.get_mut(&self.lane) {
            *count -= 1;
        }
        self.payloads.pending.remove_if(&self.lane, |_, count| *count == 0);
    }
}

impl std::fmt::Debug for Claims {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.list.iter().map(|(_, digest)| digest)).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::support::key_named;
    use super::*;

    #[test]
    fn the_last_claim_counts_and_each_ends_with_its_manifest() {
        let (clock, hand) = Clock::manual(Millis(0));
        let payloads = Arc::new(Payloads::new(clock));
        let (key, one, two) = (key_named("p"), Digest::of(b"1"), Digest::of(b"2"));
        let first = payloads.claim(vec![(key.clone(), one)], None).unwrap();
        let again = payloads.claim(vec![(key.clone(), one)], None).unwrap();
        assert_eq!(payloads.stands_against(&key, two, Some(&first)), (true, true), "another manifest claims the same");
        drop(again);
        assert_eq!(payloads.stands_against(&key, two, Some(&first)), (true, false));
        assert_eq!(payloads.stands_against(&key, two, None), (true, true));
        assert_eq!(payloads.stands_against(&key, one, None), (false, false));
        assert!(payloads.claim(vec![(key.clone(), two)], None).is_none(), "somebody else claims another");
        let second = payloads.claim(vec![(key.clone(), two)], Some(&first)).unwrap();
        assert_eq!(payloads.expected(&key), Some(two));
        drop(second);
        assert_eq!(payloads.expected(&key), Some(one));
        drop(first);
        assert_eq!((payloads.expected(&key), payloads.claimed(&key)), (Some(one), None), "for those who have it");
        assert_eq!(payloads.stands_against(&key, two, None), (false, false), "but it is in nobody's way");
        hand.advance(LINGER);
        assert_eq!(payloads.expected(&key), None);
        drop(payloads.claim(vec![(key_named("other"), one)], None));
        assert_eq!(payloads.claimed.len(), 1, "and is forgotten");
    }

    #[test]
    fn a_manifest_waits_until_the_last_who_waits_has_gone() {
        let payloads = Arc::new(Payloads::new(Clock::start()));
        let lane = key_named("m");
        let (one, two) = (payloads.wait_for(&lane), payloads.wait_for(&lane));
        drop(one);
        assert!(payloads.are_awaited(&lane));
        drop(two);
        assert!(!payloads.are_awaited(&lane) && payloads.pending.is_empty());
    }
}
