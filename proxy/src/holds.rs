//! Keys for which the core was last asked in vain.

use std::collections::VecDeque;

use dashmap::DashMap;
use parking_lot::Mutex;
use weir_logic::CacheKey;
use weir_logic::cache::Hold;

/// The holds of keys that fail. A hold stays after its end until an answer comes: it says that the key still fails. Past the
/// bound the oldest is forgotten, which costs one early request. Memory: 16,384 keys at most.
pub(crate) struct Holds {
    map: DashMap<CacheKey, Hold>,
    /// Keys in the order of their first failure; may name keys that have succeeded since.
    order: Mutex<VecDeque<CacheKey>>,
}

impl Holds {
    pub(crate) fn new() -> Self {
        Self { map: DashMap::new(), order: Mutex::new(VecDeque::new()) }
    }

    pub(crate) fn find(&self, key: &CacheKey) -> Option<Hold> {
        self.map.get(key).map(|hold| *hold)
    }

    /// Notes a failure; `next` makes the hold from the one before.
    pub(crate) fn note(&self, key: &CacheKey, next: impl FnOnce(Option<Hold>) -> Hold) -> Hold {
        let previous = self.find(key);
        let hold = next(previous);
        if self.map.insert(key.clone(), hold).is_none() {
            let mut order = self.order.lock();
            order.push_back(key.clone());
            if order.len() > MAX_HOLDS {
                let forgotten = order.pop_front();
                drop(order);
                forgotten.and_then(|key| self.map.remove(&key));
            }
        }
        hold
    }

    /// Forgets the failures of a key that succeeded.
    pub(crate) fn clear(&self, key: &CacheKey) {
        self.map.remove(key);
    }
}

const MAX_HOLDS: usize = 16_384;

#[cfg(test)]
mod tests {
    use weir_logic::Millis;

    use super::*;
    use crate::cache::key_named;

    #[test]
    fn a_hold_stays_until_success_and_remembers_failures() {
        let holds = Holds::new();
        let key = key_named("k");
        let fail = || holds.note(&key, |previous| Hold::after(previous, None, Millis(0), 0.0)).failures;
        assert_eq!((fail(), fail()), (1, 2));
        assert!(holds.find(&key).is_some());
        holds.clear(&key);
        assert_eq!(holds.find(&key), None);
        assert_eq!(fail(), 1);
    }

    #[test]
    fn the_oldest_hold_is_forgotten_past_the_bound() {
        let holds = Holds::new();
        for name in 0..=MAX_HOLDS {
            holds.note(&key_named(&name.to_string()), |_| Hold { until: Millis(1), failures: 1 });
        }
        assert_eq!(holds.map.len(), MAX_HOLDS);
        assert!(holds.find(&key_named("0")).is_none() && holds.find(&key_named("1")).is_some());
    }
}
