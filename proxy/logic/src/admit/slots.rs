//! A table of a fixed size that forgets what matters least.
//!
//! Sets of eight places; a key has one set. Nothing is allocated after the start and no request waits for a table that grows.
//! A key whose set is full takes the place of the one that is least worth keeping, which for the tables of admission is most often one
//! that says nothing any more: a full bucket, a promise kept.

use crate::Millis;

/// What a [`Slots`] keeps for a key. The default value must say the same as no value at all.
pub trait Keep: Copy + Default {
    /// How much is lost when this is forgotten; 0: nothing.
    fn worth(&self, now: Millis) -> u64;
}

/// The table. Keys are hashes under a secret of the process, so that nobody can choose names that meet in a set; two names of one
/// hash, which takes luck that nobody has, count as one.
///
/// Memory: a value and 8 bytes for each place, all of it from the start.
#[derive(Clone, Debug)]
pub struct Slots<V> {
    sets: Vec<Set<V>>,
}

/// Keys beside their values. 0 stands for no key.
type Set<V> = [(u64, V); WAYS];

/// Places in a set.
const WAYS: usize = 8;

impl<V: Keep> Slots<V> {
    /// A table with room for `places` keys, rounded up to whole sets, at least one.
    ///
    /// A set may be full while others are not. With half of the places taken by what is worth keeping, one key in fifty meets a full set.
    pub fn new(places: usize) -> Self {
        let sets = places.div_ceil(WAYS).max(1);
        Self { sets: vec![[(0, V::default()); WAYS]; sets] }
    }

    /// The value of a key, new where it had none.
    pub fn of(&mut self, key: u64, now: Millis) -> &mut V {
        let key = key.max(1);
        let index = self.index(key);
        let set = &mut self.sets[index];
        let place = set.iter().position(|(held, _)| *held == key).unwrap_or_else(|| least_worth(set, now));
        let (held, value) = &mut set[place];
        if *held != key {
            (*held, *value) = (key, V::default());
        }
        value
    }

    /// The value of a key, if it has one.
    pub fn find(&mut self, key: u64) -> Option<&mut V> {
        let key = key.max(1);
        let index = self.index(key);
        self.sets[index].iter_mut().find(|(held, _)| *held == key).map(|(_, value)| value)
    }

    /// All values; those of no key are the default.
    pub fn values(&self) -> impl Iterator<Item = &V> {
        self.sets.iter().flatten().map(|(_, value)| value)
    }

    fn index(&self, key: u64) -> usize {
        let index = (u128::from(key) * self.sets.len() as u128) >> 64;
        usize::try_from(index).expect("less than the number of sets, which is a usize")
    }
}

fn least_worth<V: Keep>(set: &Set<V>, now: Millis) -> usize {
    let worth = |&place: &usize| if set[place].0 == 0 { 0 } else { set[place].1.worth(now) };
    (0..WAYS).min_by_key(worth).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    struct Until(u64);

    impl Keep for Until {
        fn worth(&self, now: Millis) -> u64 {
            self.0.saturating_sub(now.0)
        }
    }

    #[test]
    fn what_matters_least_gives_way() {
        let mut slots = Slots::new(8);
        for key in 1..=8 {
            *slots.of(key, Millis(0)) = Until(100 + key);
        }
        assert_eq!(*slots.of(9, Millis(0)), Until(0));
        assert_eq!(slots.find(1), None);
        assert_eq!(slots.find(2), Some(&mut Until(102)));
    }

    #[test]
    fn what_says_nothing_any_more_gives_way_first() {
        let mut slots = Slots::new(8);
        for key in 1..=8 {
            *slots.of(key, Millis(0)) = Until(if key == 5 { 10 } else { 1000 });
        }
        assert_eq!(slots.values().filter(|value| value.worth(Millis(10)) > 0).count(), 7);
        slots.of(9, Millis(10)).0 = 2000;
        let kept = (1..=9).filter(|key| slots.find(*key).is_some()).collect::<Vec<_>>();
        assert_eq!(kept, [1, 2, 3, 4, 6, 7, 8, 9]);
    }

    proptest! {
        #[test]
        fn a_key_finds_what_it_left_while_there_is_room(keys in prop::collection::hash_set(any::<u64>(), 0..8)) {
            let mut slots: Slots<Until> = Slots::new(8);
            for key in &keys {
                slots.of(*key, Millis(0)).0 = key.max(&1) | 1;
            }
            for key in &keys {
                prop_assert_eq!(slots.of(*key, Millis(0)).0, key.max(&1) | 1);
            }
        }
    }
}
