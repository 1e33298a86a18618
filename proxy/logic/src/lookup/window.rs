//! The window in which single requests become one.

use std::collections::HashMap;

use crate::CacheKey;

/// One route's windows: at most one is open at a time for requests that somebody waits for, and one for keys that are to be
/// refreshed while nobody waits. `A` is what is known of a key when it is asked for the first time, `W` whoever waits for the
/// answer.
///
/// Memory: at most `max_waiters` waiters over the open window and those under way, and a key and an `A` for each key of theirs;
/// `max_keys` keys to be refreshed; a key for each key under way.
#[derive(Debug)]
pub struct LookupWindows<A, W> {
    open: Option<LookupWindow<A, W>>,
    behind: Option<LookupWindow<A, W>>,
    /// Keys that the core has been asked for and has not answered yet, with those who came since.
    under_way: HashMap<CacheKey, Vec<W>>,
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
    /// Who waits, in the order of arrival. Nobody for a key that is refreshed.
    pub waiters: Vec<W>,
}

/// What a route allows its windows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WindowBounds {
    /// Keys of a window, at most; at least one.
    pub max_keys: usize,
    /// Requests that wait, at most, over all windows.
    pub max_waiters: usize,
    /// Whether a request may have the answer of a bulk request that left before it came.
    pub joins_under_way: bool,
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
    /// Somebody else had asked for the same key, in this window or in a bulk request that is under way.
    Coalesced,
}

/// As many wait as may: the request is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full;

impl<A, W> LookupWindows<A, W> {
    /// No window is open.
    pub fn new() -> Self {
        Self { open: None, behind: None, under_way: HashMap::new(), opened: 0, waiting: 0 }
    }

    /// Joins the bulk request under way that has asked for the key, where the bounds allow it; else the open window; else opens one.
    pub fn join(&mut self, key: CacheKey, about: A, waiter: W, bounds: WindowBounds) -> Result<Join<A, W>, Full> {
        if self.waiting >= bounds.max_waiters {
            return Err(Full);
        }
        self.waiting += 1;
        if bounds.joins_under_way
            && let Some(late) = self.under_way.get_mut(&key)
        {
            late.push(waiter);
            return Ok(Join { place: Place::Coalesced, full: None });
        }
        let is_new = self.open.is_none();
        let window = self.open.get_or_insert_with(|| LookupWindow::opened(&mut self.opened));
        if let Some(&place) = window.places.get(&key) {
            window.entries[place].waiters.push(waiter);
            return Ok(Join { place: Place::Coalesced, full: None });
        }
        window.add(LookupEntry { key, about, waiters: vec![waiter] });
        let place = if is_new { Place::Opened(window.number) } else { Place::Added };
        let is_full = window.entries.len() >= bounds.max_keys;
        Ok(Join { place, full: if is_full { self.depart(bounds) } else { None } })
    }

    /// Asks for a key for which nobody waits: it leaves with the next window of its route that has room, or with its own. `None`
    /// when the key will be asked for anyway.
    pub fn refresh(&mut self, key: CacheKey, about: A, bounds: WindowBounds) -> Option<Join<A, W>> {
        let open = self.open.as_ref().is_some_and(|window| window.places.contains_key(&key));
        let behind = self.behind.as_ref().is_some_and(|window| window.places.contains_key(&key));
        if open || behind || self.under_way.contains_key(&key) {
            return None;
        }
        let is_new = self.behind.is_none();
        let window = self.behind.get_or_insert_with(|| LookupWindow::opened(&mut self.opened));
        window.add(LookupEntry { key, about, waiters: Vec::new() });
        let place = if is_new { Place::Opened(window.number) } else { Place::Added };
        let is_full = window.entries.len() >= bounds.max_keys;
        Some(Join { place, full: if is_full { self.depart_behind() } else { None } })
    }

    /// Closes the window of that number: its time is over. `None` when it has left already, because it was full or went with
    /// another.
    pub fn close(&mut self, number: u64, bounds: WindowBounds) -> Option<LookupWindow<A, W>> {
        if self.open.as_ref().is_some_and(|window| window.number == number) {
            return self.depart(bounds);
        }
        if self.behind.as_ref().is_some_and(|window| window.number == number) {
            return self.depart_behind();
        }
        None
    }

    /// The core's answer to a key under way is there, and kept if it is to be: gives those who came while it was under way.
    /// To be called once for every key of every window that left.
    pub fn land(&mut self, key: &CacheKey) -> Vec<W> {
        self.under_way.remove(key).unwrap_or_default()
    }

    /// One who waited has been answered or has left.
    pub fn leave(&mut self) {
        self.waiting = self.waiting.saturating_sub(1);
    }

    /// How many wait.
    pub fn waiting(&self) -> usize {
        self.waiting
    }

    /// The open window leaves and takes along what is to be refreshed, as far as there is room.
    fn depart(&mut self, bounds: WindowBounds) -> Option<LookupWindow<A, W>> {
        let mut window = self.open.take()?;
        if let Some(behind) = self.behind.take() {
            let mut left = LookupWindow { number: behind.number, entries: Vec::new(), places: HashMap::new() };
            for entry in behind.entries {
                if window.places.contains_key(&entry.key) {
                    continue;
                }
                let with = if window.entries.len() < bounds.max_keys { &mut window } else { &mut left };
                with.add(entry);
            }
            self.behind = Some(left).filter(|left| !left.entries.is_empty());
        }
        self.note_under_way(&window);
        Some(window)
    }

    /// What is to be refreshed leaves by itself, but for keys that somebody waits for by now.
    fn depart_behind(&mut self) -> Option<LookupWindow<A, W>> {
        let mut window = self.behind.take()?;
        let open = self.open.as_ref();
        window.entries.retain(|entry| {
            !open.is_some_and(|open| open.places.contains_key(&entry.key)) && !self.under_way.contains_key(&entry.key)
        });
        self.note_under_way(&window);
        Some(window).filter(|window| !window.entries.is_empty())
    }

    fn note_under_way(&mut self, window: &LookupWindow<A, W>) {
        for entry in &window.entries {
            self.under_way.entry(entry.key.clone()).or_default();
        }
    }
}

impl<A, W> LookupWindow<A, W> {
    fn opened(count: &mut u64) -> Self {
        *count += 1;
        Self { number: *count, entries: Vec::new(), places: HashMap::new() }
    }

    fn add(&mut self, entry: LookupEntry<A, W>) {
        self.places.insert(entry.key.clone(), self.entries.len());
        self.entries.push(entry);
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

    fn bounds(max_keys: usize, max_waiters: usize, joins_under_way: bool) -> WindowBounds {
        WindowBounds { max_keys, max_waiters, joins_under_way }
    }

    #[test]
    fn identical_keys_join_and_stay_in_order() {
        let mut windows = Windows::new();
        let bounds = bounds(10, 10, false);
        let places: Vec<_> = [(1, 10), (2, 20), (1, 11), (1, 12)]
            .map(|(name, waiter)| windows.join(key(name), (), waiter, bounds).unwrap().place)
            .into();
        assert_eq!(places, [Place::Opened(1), Place::Added, Place::Coalesced, Place::Coalesced]);
        let window = windows.close(1, bounds).unwrap();
        let waiters: Vec<_> = window.entries.iter().map(|entry| entry.waiters.clone()).collect();
        assert_eq!(waiters, [vec![10, 11, 12], vec![20]]);
    }

    #[test]
    fn a_full_window_leaves_at_once_and_its_timer_finds_nothing() {
        let mut windows = Windows::new();
        let bounds = bounds(2, 10, false);
        assert!(windows.join(key(1), (), 1, bounds).unwrap().full.is_none());
        assert_eq!(windows.join(key(2), (), 2, bounds).unwrap().full.unwrap().entries.len(), 2);
        assert_eq!(windows.join(key(3), (), 3, bounds).unwrap().place, Place::Opened(2));
        assert!(windows.close(1, bounds).is_none());
        assert!(windows.close(2, bounds).is_some());
    }

    #[test]
    fn waiters_of_windows_under_way_count_until_they_leave() {
        let mut windows = Windows::new();
        let bounds = bounds(1, 1, false);
        let _first = windows.join(key(1), (), 1, bounds).unwrap();
        assert_eq!(windows.join(key(1), (), 2, bounds).unwrap_err(), Full);
        windows.leave();
        assert!(windows.join(key(1), (), 2, bounds).is_ok());
    }

    #[test]
    fn who_comes_while_the_key_is_under_way_joins_only_where_an_older_answer_will_do() {
        for joins in [true, false] {
            let mut windows = Windows::new();
            let bounds = bounds(10, 10, joins);
            let _opened = windows.join(key(1), (), 1, bounds).unwrap();
            let _first = windows.close(1, bounds).unwrap();
            let place = windows.join(key(1), (), 2, bounds).unwrap().place;
            assert_eq!(place, if joins { Place::Coalesced } else { Place::Opened(2) });
            assert_eq!(windows.land(&key(1)), if joins { vec![2] } else { Vec::new() });
            let after = windows.join(key(1), (), 3, bounds).unwrap().place;
            assert_eq!(after, if joins { Place::Opened(2) } else { Place::Coalesced });
        }
    }

    #[test]
    fn what_is_refreshed_leaves_with_the_next_window_that_has_room() {
        let mut windows = Windows::new();
        let bounds = bounds(3, 10, true);
        let opened = windows.refresh(key(1), (), bounds).unwrap().place;
        assert_eq!(opened, Place::Opened(1));
        assert!(windows.refresh(key(1), (), bounds).is_none(), "it waits already");
        let _added = windows.refresh(key(2), (), bounds).unwrap();
        let _asked = [(1, 10), (3, 30)].map(|(name, waiter)| windows.join(key(name), (), waiter, bounds).unwrap());
        let window = windows.close(2, bounds).unwrap();
        let keys: Vec<_> = window.entries.iter().map(|entry| (&entry.key, entry.waiters.len())).collect();
        assert_eq!(keys, [(&key(1), 1), (&key(3), 1), (&key(2), 0)], "somebody waits for the first one by now");
        assert!(windows.close(1, bounds).is_none());
        assert!(windows.refresh(key(2), (), bounds).is_none(), "it is under way");
    }

    #[test]
    fn what_finds_no_company_is_refreshed_in_a_window_of_its_own() {
        let mut windows = Windows::new();
        let bounds = bounds(2, 10, true);
        let _alone = windows.refresh(key(1), (), bounds).unwrap();
        let _asked = windows.join(key(1), (), 1, bounds).unwrap();
        assert!(windows.close(1, bounds).is_none(), "its only key is in the open window");
        let _alone = windows.refresh(key(2), (), bounds).unwrap();
        assert_eq!(windows.refresh(key(3), (), bounds).unwrap().full.unwrap().entries.len(), 2);
    }

    proptest! {
        /// Whatever comes in whatever order: every waiter is told exactly once, under its own key and in the order of arrival, no
        /// key stands twice in a window or in two windows under way, and no window holds more keys than it may.
        #[test]
        fn everyone_waits_exactly_once(
            steps in prop::collection::vec((0_u32..12, 0_u8..5), 0..200),
            max_keys in 1_usize..6,
            joins in any::<bool>(),
        ) {
            let bounds = bounds(max_keys, usize::MAX, joins);
            let mut windows = Windows::new();
            let mut sent: std::collections::VecDeque<LookupWindow<(), u32>> = std::collections::VecDeque::new();
            let (mut told, mut asked) = (Vec::new(), 0);
            let mut land = |windows: &mut Windows, window: LookupWindow<(), u32>| {
                for entry in window.entries {
                    told.push((entry.key.clone(), entry.waiters, windows.land(&entry.key)));
                }
            };
            let mut numbers = Vec::new();
            for (waiter, &(name, kind)) in (0_u32..).zip(&steps) {
                let joined = match kind {
                    0..=2 => {
                        asked += 1;
                        Some(windows.join(key(name), (), waiter, bounds).unwrap())
                    }
                    _ => windows.refresh(key(name), (), bounds),
                };
                if let Some(joined) = joined {
                    if let Place::Opened(number) = joined.place {
                        numbers.push(number);
                    }
                    sent.extend(joined.full);
                }
                if kind == 1 && let Some(number) = numbers.pop() {
                    sent.extend(windows.close(number, bounds));
                }
                if kind == 2 && let Some(window) = sent.pop_front() {
                    land(&mut windows, window);
                }
                let flying: Vec<_> = sent.iter().flat_map(|window| &window.entries).map(|entry| &entry.key).collect();
                let distinct: std::collections::HashSet<_> = flying.iter().collect();
                prop_assert!(!joins || distinct.len() == flying.len());
                prop_assert!(sent.iter().all(|window| window.entries.len() <= max_keys));
            }
            for number in numbers {
                sent.extend(windows.close(number, bounds));
            }
            for window in sent {
                land(&mut windows, window);
            }
            let mut seen = vec![0; steps.len()];
            for (at, waiters, late) in &told {
                let all: Vec<_> = waiters.iter().chain(late).copied().collect();
                prop_assert!(all.is_sorted());
                for waiter in all {
                    prop_assert_eq!(at, &key(steps[waiter as usize].0));
                    seen[waiter as usize] += 1;
                }
            }
            prop_assert!(seen.iter().all(|&times| times <= 1));
            prop_assert_eq!(seen.iter().sum::<i32>(), asked);
            prop_assert!(windows.under_way.is_empty() && windows.open.is_none() && windows.behind.is_none());
        }
    }
}
