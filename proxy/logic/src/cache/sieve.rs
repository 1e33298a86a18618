//! The order in which stored answers leave: SIEVE (Zhang et al., NSDI 2024).
//!
//! A list from oldest to newest and a hand that moves towards the newest. The hand passes over what was asked for since it last
//! came by and takes out the first that was not. A hit costs one flag and no lock, and a sweep of keys that are asked for once
//! leaves without pushing out the others.

use std::num::NonZeroU32;

/// Items in order of arrival, linked through a slab: fewer than 2^32 of them. Not thread-safe; the store locks it.
#[derive(Debug)]
pub struct Sieve<T> {
    slots: Vec<Slot<T>>,
    free: Vec<usize>,
    oldest: Option<Place>,
    newest: Option<Place>,
    hand: Option<Place>,
}

#[derive(Debug)]
struct Slot<T> {
    item: Option<T>,
    older: Option<Place>,
    newer: Option<Place>,
}

/// A slot's place in the slab, in four bytes of which none says that there is no place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Place(NonZeroU32);

impl Place {
    fn of(at: usize) -> Self {
        let number = u32::try_from(at + 1).ok().and_then(NonZeroU32::new);
        Self(number.expect("`limits.cache.max_keys` is at most 10^9, and the store holds one more for a moment"))
    }

    const fn at(self) -> usize {
        self.0.get() as usize - 1
    }
}

impl<T> Sieve<T> {
    /// Bytes of memory for each item.
    pub const SLOT_BYTES: usize = size_of::<Slot<T>>();

    /// Nothing in it.
    pub const fn new() -> Self {
        Self { slots: Vec::new(), free: Vec::new(), oldest: None, newest: None, hand: None }
    }

    /// Adds an item as the newest; gives the slot by which it is replaced or removed.
    pub fn insert(&mut self, item: T) -> usize {
        let slot = Slot { item: Some(item), older: self.newest, newer: None };
        let at = match self.free.pop() {
            Some(at) => {
                self.slots[at] = slot;
                at
            }
            None => {
                self.slots.push(slot);
                self.slots.len() - 1
            }
        };
        let place = Place::of(at);
        match self.newest.replace(place) {
            Some(previous) => self.slots[previous.at()].newer = Some(place),
            None => self.oldest = Some(place),
        }
        at
    }

    /// Puts another item in the place of the one in `at`.
    pub fn replace(&mut self, at: usize, item: T) -> Option<T> {
        self.slots.get_mut(at)?.item.replace(item)
    }

    /// Takes out the item in `at`.
    pub fn remove(&mut self, at: usize) -> Option<T> {
        let slot = self.slots.get_mut(at)?;
        let item = slot.item.take()?;
        let (older, newer) = (slot.older, slot.newer);
        match older {
            Some(older) => self.slots[older.at()].newer = newer,
            None => self.oldest = newer,
        }
        match newer {
            Some(newer) => self.slots[newer.at()].older = older,
            None => self.newest = older,
        }
        if self.hand == Some(Place::of(at)) {
            self.hand = newer;
        }
        self.free.push(at);
        Some(item)
    }

    /// Takes out the item that the hand stops at. `spared` says, and forgets, whether an item was asked for since it was last
    /// asked. After 64 spared items the next leaves anyhow: the work of one eviction is bounded.
    pub fn evict(&mut self, spared: impl Fn(&T) -> bool) -> Option<T> {
        let mut at = self.hand.or(self.oldest)?;
        for _ in 0..MAX_SPARED {
            if !self.slots[at.at()].item.as_ref().is_some_and(&spared) {
                break;
            }
            at = self.slots[at.at()].newer.or(self.oldest)?;
        }
        self.hand = self.slots[at.at()].newer;
        self.remove(at.at())
    }
}

impl<T> Default for Sieve<T> {
    fn default() -> Self {
        Self::new()
    }
}

const MAX_SPARED: usize = 64;

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::collections::{HashMap, HashSet};

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_oldest_that_was_not_asked_for_leaves() {
        let mut sieve = Sieve::new();
        for item in 1..=4 {
            sieve.insert(item);
        }
        let asked = RefCell::new(HashSet::from([1, 3]));
        let mut evict = || sieve.evict(|item| asked.borrow_mut().remove(item));
        assert_eq!(evict(), Some(2));
        assert_eq!(evict(), Some(4), "3 was spared, and the hand went on from 2");
        assert_eq!((evict(), evict(), evict()), (Some(1), Some(3), None));
    }

    #[test]
    fn a_scan_does_not_push_out_what_is_asked_for() {
        let mut sieve = Sieve::new();
        for item in 0..10 {
            sieve.insert(item);
        }
        let mut left = HashSet::new();
        for item in 10..1_000 {
            sieve.insert(item);
            left.extend(sieve.evict(|item| *item < 10));
        }
        assert!(left.iter().all(|item| *item >= 10), "{left:?}");
    }

    #[test]
    fn one_eviction_looks_at_a_bounded_number_of_items() {
        let mut sieve = Sieve::new();
        for item in 0..1_000 {
            sieve.insert(item);
        }
        let looked = RefCell::new(0);
        let evicted = sieve.evict(|_| {
            *looked.borrow_mut() += 1;
            true
        });
        assert!(evicted.is_some());
        assert_eq!(*looked.borrow(), MAX_SPARED);
    }

    proptest! {
        #[test]
        fn any_order_of_operations_keeps_exactly_what_was_put_in(operations in prop::collection::vec((0_u8..4, 0_usize..8), 0..200)) {
            let mut sieve = Sieve::new();
            let mut model = HashMap::new();
            for (step, (operation, pick)) in operations.into_iter().enumerate() {
                let slot = model.keys().copied().nth(pick);
                match (operation, slot) {
                    (0 | 1, _) => {
                        model.insert(sieve.insert(step), step);
                    }
                    (2, Some(slot)) => prop_assert_eq!(sieve.remove(slot), model.remove(&slot)),
                    (3, _) => {
                        let gone = sieve.evict(|item| item % 3 == 0);
                        let slot = model.iter().find(|(_, item)| Some(**item) == gone).map(|(slot, _)| *slot);
                        prop_assert_eq!(slot.is_some(), gone.is_some());
                        prop_assert_eq!(gone.is_none(), model.is_empty());
                        slot.and_then(|slot| model.remove(&slot));
                    }
                    _ => {}
                }
            }
            let mut rest: Vec<_> = std::iter::from_fn(|| sieve.evict(|_| false)).collect();
            let mut expected: Vec<_> = model.into_values().collect();
            rest.sort_unstable();
            expected.sort_unstable();
            prop_assert_eq!(rest, expected);
        }
    }
}
