//! What the manifests in use name: each payload must be what its manifest says, for as long as that manifest may be given to agents.
//!
//! A manifest's claims begin before it is stored and end when the last copy of it is dropped: they belong to its entry. A fill of a
//! payload that somebody claims brings what is claimed or fails, so that the core cannot change a payload under a manifest that
//! agents hold. Where the payloads of a new manifest come from is in `agreement`; what a manifest says in
//! [`weir_logic::cache::payload`].

use std::sync::Arc;

use dashmap::DashMap;
use weir_logic::{CacheKey, Digest};

/// The claims of all manifests that this node holds. Memory: a key and some tens of bytes for each payload of each of them, which the
/// manifests' entries are charged with.
#[derive(Default)]
pub(super) struct Payloads {
    /// The digests that are claimed of a key, and by how many; the last one was claimed last.
    claimed: DashMap<CacheKey, Vec<(Digest, usize)>>,
    /// The lanes of manifests whose payloads are on their way.
    pending: DashMap<CacheKey, usize>,
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
    /// What the payload with this key must be; `None` when no manifest in use names it.
    pub(super) fn expected(&self, key: &CacheKey) -> Option<Digest> {
        self.claimed.get(key)?.last().map(|(digest, _)| *digest)
    }

    /// Whether something else is claimed of the payload: by anybody, and by somebody besides `mine`.
    pub(super) fn stands_against(&self, key: &CacheKey, digest: Digest, mine: Option<&Claims>) -> (bool, bool) {
        let Some(claimed) = self.claimed.get(key) else { return (false, false) };
        let of_mine = |other: Digest| {
            usize::from(mine.is_some_and(|mine| mine.list.iter().any(|(known, said)| known == key && *said == other)))
        };
        let others = || claimed.iter().filter(|(other, _)| *other != digest);
        (others().next().is_some(), others().any(|(other, count)| *count > of_mine(*other)))
    }

    pub(super) fn claim(self: &Arc<Self>, list: Vec<(CacheKey, Digest)>) -> Claims {
        for (key, digest) in &list {
            let mut claimed = self.claimed.entry(key.clone()).or_default();
            let before = claimed.iter().position(|(known, _)| known == digest).map(|at| claimed.remove(at));
            claimed.push((*digest, before.map_or(0, |(_, count)| count) + 1));
        }
        Claims { payloads: Arc::clone(self), list }
    }

    pub(super) fn wait_for(self: &Arc<Self>, lane: &CacheKey) -> Pending {
        *self.pending.entry(lane.clone()).or_default() += 1;
        Pending { payloads: Arc::clone(self), lane: lane.clone() }
    }

    pub(super) fn are_awaited(&self, lane: &CacheKey) -> bool {
        self.pending.contains_key(lane)
    }

    /// Keys of which something is claimed.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.claimed.len()
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
        for (key, digest) in &self.list {
            if let Some(mut claimed) = self.payloads.claimed.get_mut(key) {
                claimed.iter_mut().filter(|(known, _)| known == digest).for_each(|(_, count)| *count -= 1);
                claimed.retain(|(_, count)| *count > 0);
            }
            self.payloads.claimed.remove_if(key, |_, claimed| claimed.is_empty());
        }
    }
}

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
        let payloads = Arc::new(Payloads::default());
        let (key, one, two) = (key_named("p"), Digest::of(b"1"), Digest::of(b"2"));
        let first = payloads.claim(vec![(key.clone(), one)]);
        let again = payloads.claim(vec![(key.clone(), one)]);
        assert_eq!(payloads.stands_against(&key, two, Some(&first)), (true, true), "another manifest claims the same");
        drop(again);
        assert_eq!(payloads.stands_against(&key, two, Some(&first)), (true, false));
        assert_eq!(payloads.stands_against(&key, two, None), (true, true));
        assert_eq!(payloads.stands_against(&key, one, None), (false, false));
        let second = payloads.claim(vec![(key.clone(), two)]);
        assert_eq!(payloads.expected(&key), Some(two));
        drop(second);
        assert_eq!(payloads.expected(&key), Some(one));
        drop(first);
        assert_eq!((payloads.expected(&key), payloads.len()), (None, 0));
    }

    #[test]
    fn a_manifest_waits_until_the_last_who_waits_has_gone() {
        let payloads = Arc::new(Payloads::default());
        let lane = key_named("m");
        let (one, two) = (payloads.wait_for(&lane), payloads.wait_for(&lane));
        drop(one);
        assert!(payloads.are_awaited(&lane));
        drop(two);
        assert!(!payloads.are_awaited(&lane) && payloads.pending.is_empty());
    }
}
