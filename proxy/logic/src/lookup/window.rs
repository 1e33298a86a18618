//! The window in which single requests become one.

use std::collections::HashMap;

use crate::CacheKey;

/// One route's windows: at most one is open at a time. `A` is what is known of a key when it is asked for the first time, `W`
/// whoever waits for the answer.
///
/// Memory: at most `max_waiters` waiters over the open window and those under way, and a key and an `A` for each key of theirs.
#[derive(Debug)]
pub struct LookupWindows<A, W> {
    open: Option<LookupWindow<A, W>>,
    opened: u64,
    waiting: usize,
}

/// A window: keys in the order in which they were first asked for.
#[derive(Debug)]
pub struct LookupWindow<A, W> {
    /// Which window of its route.
    pub number: u64,
    /// Its keys.
    pub entries: Vec<LookupEntry<A, W>>,
    places: HashMap<CacheKey, usize>,
}

/// One key of a window and everyone who waits for it, first come first served.
#[derive(Debug)]
pub struct LookupEntry<A, W> {
    /// The key.
    pub key: CacheKey,
    /// What was known of it when it was first asked for.
    pub about: A,
    /// Who waits, in the order of arrival.
    pub waiters: Vec<W>,
}

/// What became of a request that joined.
#[derive(Debug)]
#[must_use]
pub struct Join<A, W> {
    /// Where it stands.
    pub place: Place,
    /// The window, when this request has filled it: to be sent at once.
    pub full: Option<LookupWindow<A, W>>,
}

/// Where a request stands in its window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// It has opened the window of this number, which somebody has to close in time.
    Opened(u64),
    /// It has brought a new key.
    Added,
    /// Somebody else had asked for the same key.
    Coalesced,
}

/// As many wait as may: the request is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full;

impl<A, W> LookupWindows<A, W> {
    /// No window is open.
    pub fn new() -> Self {
        Self { open: None, opened: 0, waiting: 0 }
    }

    /// Joins the open window, or opens one. The window counts `max_keys` keys at most (at least one), and no more than
    /// `max_waiters` may wait.
    pub fn join(
        &mut self,
        key: CacheKey,
        about: A,
        waiter: W,
        max_keys: usize,
        max_waiters: usize,
    ) -> Result<Join<A, W>, Full> {
        if self.waiting >= max_waiters {
            return Err(Full);
        }
        self.waiting += 1;
        let is_new = self.open.is_none();
        let window = self.open.get_or_insert_with(|| {
            self.opened += 1;
            LookupWindow { number: self.opened, entries: Vec::new(), places: HashMap::new() }
        });
        if let Some(&place) = window.places.get(&key) {
            window.entries[place].waiters.push(waiter);
            return Ok(Join { place: Place::Coalesced, full: None });
        }
        window.places.insert(key.clone(), window.entries.len());
        window.entries.push(LookupEntry { key, about, waiters: vec![waiter] });
        let place = if is_new { Place::Opened(window.number) } else { Place::Added };
        let is_full = window.entries.len() >= max_keys;
        Ok(Join { place, full: if is_full { self.open.take() } else { None } })
    }

    /// Closes the window of that number: its time is over. `None` when it has been closed already, because it was full.
    pub fn close(&mut self, number: u64) -> Option<LookupWindow<A, W>> {
        self.open.take_if(|window| window.number == number)
    }

    /// One who waited has been answered or has left.
    pub fn leave(&mut self) {
        self.waiting = self.waiting.saturating_sub(1);
    }

    /// How many wait.
    pub fn waiting(&self) -> usize {
        self.waiting
    }
}

impl<A, W> Default for LookupWindows<A, W> {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::lookup::kept::tests::key;

    type Windows = LookupWindows<(), u32>;

    #[test]
    fn identical_keys_join_and_stay_in_order() {
        let mut windows = Windows::new();
        let places: Vec<_> = [(1, 10), (2, 20), (1, 11), (1, 12)]
            .map(|(name, waiter)| windows.join(key(name), (), waiter, 10, 10).unwrap().place)
            .into();
        assert_eq!(places, [Place::Opened(1), Place::Added, Place::Coalesced, Place::Coalesced]);
        let window = windows.close(1).unwrap();
        let waiters: Vec<_> = window.entries.iter().map(|entry| entry.waiters.clone()).collect();
        assert_eq!(waiters, [vec![10, 11, 12], vec![20]]);
    }

    #[test]
    fn a_full_window_leaves_at_once_and_its_timer_finds_nothing() {
        let mut windows = Windows::new();
        assert!(windows.join(key(1), (), 1, 2, 10).unwrap().full.is_none());
        assert_eq!(windows.join(key(2), (), 2, 2, 10).unwrap().full.unwrap().entries.len(), 2);
        assert_eq!(windows.join(key(3), (), 3, 2, 10).unwrap().place, Place::Opened(2));
        assert!(windows.close(1).is_none());
        assert!(windows.close(2).is_some());
    }

    #[test]
    fn waiters_of_windows_under_way_count_until_they_leave() {
        let mut windows = Windows::new();
        let _first = windows.join(key(1), (), 1, 1, 1).unwrap();
        assert_eq!(windows.join(key(1), (), 2, 1, 1).unwrap_err(), Full);
        windows.leave();
        assert!(windows.join(key(1), (), 2, 1, 1).is_ok());
    }

    proptest! {
        /// Whatever comes in whatever order: every waiter is in exactly one window, under its own key, in the order of arrival,
        /// no key stands twice in a window, and no window holds more keys than it may.
        #[test]
        fn everyone_waits_exactly_once(steps in prop::collection::vec((0_u32..12, any::<bool>()), 0..200), max_keys in 1_usize..6) {
            let mut windows = Windows::new();
            let (mut sent, mut open) = (Vec::new(), 0);
            for (waiter, &(name, time_is_over)) in (0_u32..).zip(&steps) {
                let joined = windows.join(key(name), (), waiter, max_keys, usize::MAX).unwrap();
                if let Place::Opened(number) = joined.place {
                    open = number;
                }
                sent.extend(joined.full);
                if time_is_over {
                    sent.extend(windows.close(open));
                }
            }
            sent.extend(windows.close(open));
            let mut seen = vec![0; steps.len()];
            for window in &sent {
                prop_assert!(window.entries.len() <= max_keys);
                let distinct: std::collections::HashSet<_> = window.entries.iter().map(|entry| &entry.key).collect();
                prop_assert_eq!(distinct.len(), window.entries.len());
                for entry in &window.entries {
                    prop_assert!(entry.waiters.is_sorted());
                    for &waiter in &entry.waiters {
                        prop_assert_eq!(&entry.key, &key(steps[waiter as usize].0));
                        seen[waiter as usize] += 1;
                    }
                }
            }
            prop_assert!(seen.iter().all(|&times| times == 1));
        }
    }
}
