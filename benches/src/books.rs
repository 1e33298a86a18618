//! Books: what agents were told against what arrived, key by key. Pure.

use std::collections::{BTreeMap, HashMap, HashSet};

/// The fields that make two process events the same, in every program.
pub(crate) const SAME: [&str; 6] = ["image_path", "cmdline", "sha256", "user", "parent_image", "parent_cmdline"];

/// Sums of records by key.
pub(crate) type Sums = HashMap<String, u64>;

/// What is known of the records of every key.
#[derive(Clone, Debug, Default)]
pub(crate) struct Books {
    /// Records that agents were told are safe.
    pub(crate) acknowledged: Sums,
    /// Records of which agents were told nothing: they may have arrived.
    pub(crate) in_doubt: Sums,
    /// Records that were destroyed on purpose: they may be missing.
    pub(crate) destroyed: Sums,
    /// Records that are where they belong.
    pub(crate) arrived: Sums,
}

/// What is wrong with books; nothing where all is zero.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Balance {
    /// Keys of which too few or too many records arrived.
    pub(crate) differing: u64,
    /// Records that did not arrive, over all keys.
    pub(crate) missing: u64,
    /// Records too many, over all keys.
    pub(crate) surplus: u64,
    /// Some of the keys, and what is wrong with them.
    pub(crate) examples: BTreeMap<String, i64>,
}

/// Keys named as examples, at most.
const MAX_EXAMPLES: usize = 5;

impl Books {
    /// Holds what arrived to what must and what may have arrived.
    pub(crate) fn balance(&self) -> Balance {
        let of = |sums: &Sums, key: &String| sums.get(key).copied().unwrap_or(0);
        let mut balance = Balance::default();
        let keys: HashSet<&String> = self.acknowledged.keys().chain(self.arrived.keys()).collect();
        for key in keys {
            let (acknowledged, arrived) = (of(&self.acknowledged, key), of(&self.arrived, key));
            let missing = acknowledged.saturating_sub(of(&self.destroyed, key)).saturating_sub(arrived);
            let surplus = arrived.saturating_sub(acknowledged + of(&self.in_doubt, key));
            if missing + surplus == 0 {
                continue;
            }
            balance.differing += 1;
            balance.missing += missing;
            balance.surplus += surplus;
            if balance.examples.len() < MAX_EXAMPLES {
                balance.examples.insert(key.clone(), surplus.cast_signed() - missing.cast_signed());
            }
        }
        balance
    }
}

/// Adds sums to others.
pub(crate) fn add(sums: &mut Sums, more: Sums) {
    for (key, count) in more {
        *sums.entry(key).or_default() += count;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sums(counts: &[(&str, u64)]) -> Sums {
        counts.iter().map(|(key, count)| ((*key).to_owned(), *count)).collect()
    }

    #[test]
    fn what_was_acknowledged_must_arrive_and_what_is_in_doubt_may() {
        let mut books = Books { acknowledged: sums(&[("a", 3)]), in_doubt: sums(&[("a", 2)]), ..Books::default() };
        for (arrived, missing, surplus) in [(0, 3, 0), (2, 1, 0), (3, 0, 0), (5, 0, 0), (6, 0, 1)] {
            books.arrived = sums(&[("a", arrived)]);
            let balance = books.balance();
            assert_eq!((balance.missing, balance.surplus), (missing, surplus), "{arrived}");
            assert_eq!(balance.differing, u64::from(missing + surplus > 0));
        }
    }

    #[test]
    fn what_was_destroyed_may_be_missing_and_no_more() {
        let mut books = Books { acknowledged: sums(&[("a", 3)]), destroyed: sums(&[("a", 2)]), ..Books::default() };
        for (arrived, missing) in [(0, 1), (1, 0), (3, 0)] {
            books.arrived = sums(&[("a", arrived)]);
            assert_eq!(books.balance().missing, missing, "{arrived}");
        }
    }

    #[test]
    fn a_key_that_nobody_sent_is_named() {
        let books = Books { arrived: sums(&[("a", 2)]), ..Books::default() };
        let balance = books.balance();
        assert_eq!((balance.surplus, balance.examples["a"]), (2, 2));
    }
}
