//! What is asked when the core refuses a bulk request for what is in it: its halves, so that one key does not fail the others.
//!
//! Not here: which refusals are of that kind, and for how long a route that is always refused is not divided; the caller knows.

use std::ops::Range;

/// The parts of a bulk request that are still to be asked for, by the places of their keys. At most twice as many requests follow the
/// first as it takes to find one key by halving, and [`Division::SPARE`] more. Memory: a range for each halving.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Division {
    parts: Vec<Range<usize>>,
    further: usize,
}

impl Division {
    /// Requests beyond those that find one key: room for a second one nearby.
    pub const SPARE: usize = 4;

    /// All of `keys` keys in one request. `may_divide` says whether others may follow it.
    pub fn of(keys: usize, may_divide: bool) -> Self {
        let depth = keys.next_power_of_two().trailing_zeros() as usize;
        let further = if may_divide { 2 * depth + Self::SPARE } else { 0 };
        Self { parts: (keys > 0).then_some(0..keys).into_iter().collect(), further }
    }

    /// What to ask for next.
    pub fn next_part(&mut self) -> Option<Range<usize>> {
        self.parts.pop()
    }

    /// The core has refused this part: has its halves asked for, the first one first. `false` when it cannot be divided, or not any
    /// further: its keys have failed.
    pub fn halve(&mut self, part: &Range<usize>) -> bool {
        if part.len() < 2 || self.further < 2 {
            return false;
        }
        self.further -= 2;
        let middle = part.start + part.len() / 2;
        self.parts.extend([middle..part.end, part.start..middle]);
        true
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Asks a core that refuses whatever holds one of `bad`: gives the keys answered, those that failed, and the requests.
    fn asked(keys: usize, bad: &[usize]) -> (Vec<usize>, Vec<usize>, usize) {
        let mut division = Division::of(keys, true);
        let (mut answered, mut failed, mut requests) = (Vec::new(), Vec::new(), 0);
        while let Some(part) = division.next_part() {
            requests += 1;
            if !bad.iter().any(|key| part.contains(key)) {
                answered.extend(part);
            } else if !division.halve(&part) {
                failed.extend(part);
            }
        }
        (answered, failed, requests)
    }

    #[test]
    fn what_may_not_be_divided_is_asked_for_once() {
        let mut division = Division::of(8, false);
        let whole = division.next_part().unwrap();
        assert_eq!((whole.clone(), division.halve(&whole), division.next_part()), (0..8, false, None));
        assert_eq!(Division::of(0, true).next_part(), None);
    }

    #[test]
    fn a_core_that_refuses_everything_is_asked_so_often_and_no_more() {
        let all: Vec<usize> = (0..1_000).collect();
        let (answered, failed, requests) = asked(1_000, &all);
        assert_eq!((answered.len(), failed.len(), requests), (0, 1_000, 1 + 2 * 10 + Division::SPARE));
    }

    proptest! {
        #[test]
        fn one_bad_key_fails_alone_and_every_key_is_told_once(keys in 1_usize..3_000, place in any::<prop::sample::Index>()) {
            let bad = place.index(keys);
            let (mut answered, failed, requests) = asked(keys, &[bad]);
            prop_assert_eq!(&failed, &[bad]);
            answered.extend(failed);
            answered.sort_unstable();
            prop_assert_eq!(answered, (0..keys).collect::<Vec<_>>());
            prop_assert!(requests <= 1 + 2 * 12, "{} requests", requests);
        }

        #[test]
        fn any_number_of_bad_keys_leaves_no_key_untold(keys in 1_usize..500, bad in prop::collection::vec(0_usize..500, 0..20)) {
            let (mut answered, failed, requests) = asked(keys, &bad);
            prop_assert!(answered.iter().all(|key| !bad.contains(key)));
            answered.extend(failed);
            answered.sort_unstable();
            prop_assert_eq!(answered, (0..keys).collect::<Vec<_>>());
            prop_assert!(requests <= 1 + 2 * 9 + Division::SPARE);
        }
    }
}
