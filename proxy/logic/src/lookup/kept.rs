//! Answers kept for their TTL, within bounds, and which of them are to be fetched anew before it ends.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use http::header::HeaderValue;
use weir_config::LookupRoute;

use super::contract::KeyAnswer;
use crate::cache::purge::{Mark, Marks};
use crate::cache::{Census, Freshness, Lease};
use crate::heap::table_place;
use crate::{CacheKey, Millis};

/// An answer that is kept. It serves past its TTL while it is fetched anew and while the core fails, and is what a 304 of the core
/// confirms.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept {
    /// The answer.
    pub answer: KeyAnswer,
    /// When the core gave or last confirmed it.
    pub fetched: Millis,
    /// The end of its TTL.
    pub fresh_until: Millis,
}

/// What a lookup route grants an answer of which the core asks that it be kept for `asked`.
pub fn lease(route: &LookupRoute, asked: Option<Duration>) -> Lease {
    Lease {
        ttl: asked.unwrap_or(route.ttl).min(route.max_ttl),
        jitter: route.jitter.value(),
        while_revalidate: route.stale_while_revalidate,
        if_error: route.stale_if_error,
        refresh_ahead: route.refresh_ahead.value(),
    }
}

/// Kept answers, bounded in number and bytes; the least recently used leave first. Memory: what is said of each when it comes, and
/// [`KeptAnswers::SLOT_BYTES`] more, both counted against the bound.
#[derive(Debug)]
pub struct KeptAnswers<V> {
    by_key: HashMap<CacheKey, Slot<V>>,
    by_use: BTreeMap<u64, CacheKey>,
    /// When to fetch anew what is asked for by then.
    by_due: BTreeMap<(Millis, u64), CacheKey>,
    /// How many answers carry each mark.
    census: Census,
    uses: u64,
    bytes: usize,
    max_answers: usize,
    max_bytes: usize,
}

#[derive(Debug)]
struct Slot<V> {
    value: Arc<V>,
    marks: Arc<Marks>,
    used: u64,
    bytes: usize,
    due: Option<(Millis, u64)>,
    /// Whether it was asked for since it came.
    asked: bool,
}

impl Kept {
    /// `answer`, fetched `now`, to be kept for `ttl`.
    pub fn new(answer: KeyAnswer, ttl: Duration, now: Millis) -> Self {
        Self { answer, fetched: now, fresh_until: now.after(ttl) }
    }

    /// The same answer, confirmed by the core `now` and good for another `ttl`.
    #[must_use]
    pub fn confirmed(&self, etag: Option<HeaderValue>, ttl: Duration, now: Millis) -> Self {
        let answer = KeyAnswer { etag: etag.or_else(|| self.answer.etag.clone()), ..self.answer.clone() };
        Self { answer, fetched: now, fresh_until: now.after(ttl) }
    }

    /// How it may be used. It is stale since `outdated`, whatever its TTL.
    pub fn freshness(&self, route: &LookupRoute, outdated: Option<Millis>, now: Millis) -> Freshness {
        let fresh_until = outdated.map_or(self.fresh_until, |at| at.min(self.fresh_until));
        if now < fresh_until {
            return Freshness::Fresh { left: fresh_until.since(now) };
        }
        let past = now.since(fresh_until);
        let while_revalidate = past < route.stale_while_revalidate;
        let if_error = past < route.stale_if_error;
        if while_revalidate || if_error {
            Freshness::Stale { past, while_revalidate, if_error }
        } else {
            Freshness::Expired { past }
        }
    }

    /// When to fetch it anew if it is asked for by then, so that its agents find it fresh: the route's part of its TTL before the
    /// end. `None` where the route wants none of that.
    pub fn due(&self, route: &LookupRoute) -> Option<Millis> {
        let ttl = self.fresh_until.since(self.fetched);
        let part = route.refresh_ahead.value();
        (part > 0.0).then(|| self.fetched.after(ttl.mul_f64(1.0 - part)))
    }
}

impl<V> KeptAnswers<V> {
    /// What an answer takes in the tables besides itself and its key. Trees keep their nodes between half full and full.
    pub const SLOT_BYTES: usize = table_place(size_of::<(CacheKey, Slot<V>)>())
        + 2 * size_of::<(u64, CacheKey)>()
        + 2 * size_of::<((Millis, u64), CacheKey)>();

    /// Room for so many answers of so many bytes together.
    pub fn new(max_answers: usize, max_bytes: usize) -> Self {
        Self {
            by_key: HashMap::new(),
            by_use: BTreeMap::new(),
            by_due: BTreeMap::new(),
            census: Census::default(),
            uses: 0,
            bytes: 0,
            max_answers,
            max_bytes,
        }
    }

    /// Changes the bounds; what no longer fits leaves.
    pub fn reconfigure(&mut self, max_answers: usize, max_bytes: usize) {
        (self.max_answers, self.max_bytes) = (max_answers, max_bytes);
        self.shrink(0, 0);
    }

    /// What is kept for `key`, fresh or not. It counts as asked for.
    pub fn find(&mut self, key: &CacheKey) -> Option<Arc<V>> {
        let slot = self.by_key.get_mut(key)?;
        let key = self.by_use.remove(&slot.used)?;
        self.uses += 1;
        slot.used = self.uses;
        slot.asked = true;
        self.by_use.insert(slot.used, key);
        Some(Arc::clone(&slot.value))
    }

    /// Keeps an answer of so many bytes, which can be purged by its marks, instead of what was kept before;
    /// [`KeptAnswers::take_due`] will give it at `due`. What does not fit at all is not kept: `false`.
    pub fn keep(
        &mut self,
        key: CacheKey,
        value: Arc<V>,
        marks: &Arc<Marks>,
        bytes: usize,
        due: Option<Millis>,
    ) -> bool {
        self.forget(&key);
        let bytes = bytes + Self::SLOT_BYTES;
        if bytes > self.max_bytes || self.max_answers == 0 {
            return false;
        }
        self.shrink(1, bytes);
        self.uses += 1;
        self.bytes += bytes;
        let due = due.map(|due| (due, self.uses));
        if let Some(due) = due {
            self.by_due.insert(due, key.clone());
        }
        self.by_use.insert(self.uses, key.clone());
        self.census.enter(marks);
        let slot = Slot { value, marks: Arc::clone(marks), used: self.uses, bytes, due, asked: false };
        self.by_key.insert(key, slot);
        true
    }

    /// Forgets what is kept for `key`.
    pub fn forget(&mut self, key: &CacheKey) {
        self.forget_if(key, |_| true);
    }

    /// Forgets what is kept for `key` if it is what `wanted` says; gives whether it was.
    pub fn forget_if(&mut self, key: &CacheKey, wanted: impl FnOnce(&Arc<V>) -> bool) -> bool {
        if !self.by_key.get(key).is_some_and(|slot| wanted(&slot.value)) {
            return false;
        }
        let Some(slot) = self.by_key.remove(key) else { return false };
        self.by_use.remove(&slot.used);
        slot.due.and_then(|due| self.by_due.remove(&due));
        self.census.leave(&slot.marks);
        self.bytes -= slot.bytes;
        true
    }

    /// What is due by now and was asked for since it came, each once. What nobody asked for stays until its TTL ends, and then
    /// until somebody asks.
    pub fn take_due(&mut self, now: Millis) -> Vec<Arc<V>> {
        let mut due = Vec::new();
        while let Some(first) = self.by_due.first_entry().filter(|first| first.key().0 <= now) {
            let key = first.remove();
            let Some(slot) = self.by_key.get_mut(&key) else { continue };
            slot.due = None;
            if slot.asked {
                due.push(Arc::clone(&slot.value));
            }
        }
        due
    }

    /// How many answers carry the mark.
    pub fn count(&self, mark: Mark) -> usize {
        self.census.count(mark)
    }

    /// All that is kept, in no order.
    pub fn iter(&self) -> impl Iterator<Item = (&CacheKey, &Arc<V>)> {
        self.by_key.iter().map(|(key, slot)| (key, &slot.value))
    }

    /// Makes room for so many more answers and bytes.
    fn shrink(&mut self, more_answers: usize, more_bytes: usize) {
        while self.by_key.len() + more_answers > self.max_answers || self.bytes + more_bytes > self.max_bytes {
            let Some((_, oldest)) = self.by_use.pop_first() else { break };
            self.forget(&oldest);
        }
    }

    /// How many answers are kept.
    pub fn len(&self) -> usize {
        self.by_key.len()
    }

    /// Whether nothing is kept.
    pub fn is_empty(&self) -> bool {
        self.by_key.is_empty()
    }

    /// The bytes counted against the bound.
    pub fn bytes(&self) -> usize {
        self.bytes
    }
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A key that differs from those of other numbers.
    pub(in super::super) fn key(number: u32) -> CacheKey {
        let route = weir_config::Route {
            name: format!("r{number}"),
            methods: vec![weir_config::Method::Get],
            path: weir_config::PathPattern { text: "/".into(), segments: Vec::new() },
            host: None,
            class: weir_config::Class::Config,
            core: weir_config::CoreId(0),
            agent_limit: None,
            action: weir_config::Action::Aggregate(weir_config::AggregateRoute { stream: "s".into() }),
        };
        let headers = http::HeaderMap::new();
        let request = crate::RequestView {
            method: weir_config::Method::Get,
            path: "/",
            query: None,
            host: "h",
            headers: &headers,
            body: b"",
        };
        let call = crate::Call {
            request,
            route: &Arc::new(route),
            parameters: &Vec::new(),
            identity: &crate::Identity::default(),
            now: Millis(0),
        };
        CacheKey::of(&[], crate::key::Scope::Shared, &call).unwrap()
    }

    const LARGE: usize = 5_000;

    fn keep(answers: &mut KeptAnswers<u32>, name: u32, bytes: usize) -> bool {
        let marks = Arc::new(Marks::new([Mark::tag(if name.is_multiple_of(2) { "even" } else { "odd" })], "/"));
        answers.keep(key(name), Arc::new(name), &marks, bytes, Some(Millis(u64::from(name))))
    }

    #[test]
    fn the_least_recently_used_leaves_first() {
        let mut answers = KeptAnswers::new(2, usize::MAX);
        keep(&mut answers, 1, 1);
        keep(&mut answers, 2, 2);
        assert!(answers.find(&key(1)).is_some());
        keep(&mut answers, 3, 3);
        assert!(answers.find(&key(2)).is_none());
        assert!(answers.find(&key(1)).is_some() && answers.find(&key(3)).is_some());
    }

    #[test]
    fn an_answer_that_does_not_fit_displaces_only_its_own_key() {
        let mut answers = KeptAnswers::new(10, 2_000);
        keep(&mut answers, 1, 10);
        keep(&mut answers, 2, 10);
        assert!(!keep(&mut answers, 2, LARGE));
        assert!(answers.find(&key(1)).is_some());
        assert!(answers.find(&key(2)).is_none(), "the older answer is no longer the core's");
    }

    #[test]
    fn narrower_bounds_hold_at_once() {
        let mut answers = KeptAnswers::new(10, usize::MAX);
        (0..10).for_each(|name| assert!(keep(&mut answers, name, 100)));
        answers.reconfigure(3, usize::MAX);
        assert_eq!(answers.len(), 3);
        answers.reconfigure(3, 0);
        assert!(answers.is_empty());
    }

    #[test]
    fn what_was_asked_for_is_due_once_and_what_was_not_never() {
        let mut answers = KeptAnswers::new(10, usize::MAX);
        (1..=4).for_each(|name| assert!(keep(&mut answers, name, 1)));
        for name in [1, 2, 4] {
            answers.find(&key(name));
        }
        answers.forget(&key(2));
        let due = |answers: &mut KeptAnswers<u32>, now| -> Vec<u32> {
            answers.take_due(Millis(now)).iter().map(|value| **value).collect()
        };
        assert_eq!(due(&mut answers, 3), [1]);
        assert!(due(&mut answers, 3).is_empty());
        keep(&mut answers, 4, 1);
        assert!(due(&mut answers, 4).is_empty(), "nobody has asked for the new answer");
    }

    pub(in super::super) fn route() -> LookupRoute {
        LookupRoute {
            path: String::new(),
            key: Vec::new(),
            shared: false,
            window: Duration::ZERO,
            max_keys: 1,
            max_waiters: 1,
            ttl: Duration::from_secs(60),
            max_ttl: Duration::from_secs(60),
            jitter: weir_config::Ratio::default(),
            stale_while_revalidate: Duration::from_secs(5),
            stale_if_error: Duration::from_secs(10),
            refresh_ahead: weir_config::Ratio::new(0.1).unwrap(),
            refresh_window: Duration::from_secs(1),
            calm: None,
        }
    }

    #[test]
    fn an_answer_is_fresh_then_stale_in_two_ways_then_expired() {
        let kept = Kept::new(KeyAnswer::of_status(200), Duration::from_secs(60), Millis(1_000));
        let at = |now, outdated: Option<u64>| kept.freshness(&route(), outdated.map(Millis), Millis(now));
        let secs = Duration::from_secs;
        assert_eq!(at(60_000, None), Freshness::Fresh { left: secs(1) });
        assert_eq!(at(61_000, None), Freshness::Stale { past: secs(0), while_revalidate: true, if_error: true });
        assert_eq!(at(66_000, None), Freshness::Stale { past: secs(5), while_revalidate: false, if_error: true });
        assert_eq!(at(71_000, None), Freshness::Expired { past: secs(10) });
        assert_eq!(at(12_000, Some(2_000)), Freshness::Expired { past: secs(10) }, "purged softly");
        let again = kept.confirmed(Some(HeaderValue::from_static("\"v2\"")), secs(1), Millis(90_000));
        assert_eq!((again.fresh_until, again.answer.etag.unwrap()), (Millis(91_000), "\"v2\"".parse().unwrap()));
    }

    #[test]
    fn an_answer_is_due_before_its_end_unless_the_route_wants_none_of_that() {
        let kept = Kept::new(KeyAnswer::of_status(200), Duration::from_secs(60), Millis(1_000));
        assert_eq!(kept.due(&route()), Some(Millis(55_000)));
        let never = weir_config::Ratio::new(0.0).unwrap();
        assert_eq!(kept.due(&LookupRoute { refresh_ahead: never, ..route() }), None);
    }

    proptest! {
        #[test]
        fn bounds_hold_and_the_count_of_bytes_is_right(steps in prop::collection::vec((0_u32..20, 0_usize..900, 0_u8..4), 0..200)) {
            let mut answers = KeptAnswers::new(8, 6_000);
            for (name, bytes, kind) in steps {
                match kind {
                    0 => answers.forget(&key(name)),
                    1 => drop(answers.take_due(Millis(u64::from(name) / 3))),
                    _ => drop(keep(&mut answers, name, bytes)),
                }
                prop_assert!(answers.len() <= 8 && answers.bytes() <= 6_000);
                prop_assert_eq!(answers.by_key.len(), answers.by_use.len());
                let due = answers.by_key.values().filter(|slot| slot.due.is_some()).count();
                prop_assert_eq!(due, answers.by_due.len());
                prop_assert_eq!(answers.by_key.values().map(|slot| slot.bytes).sum::<usize>(), answers.bytes);
                let even = answers.iter().filter(|(_, name)| name.is_multiple_of(2)).count();
                prop_assert_eq!([answers.count(Mark::tag("even")), answers.count(Mark::tag("odd"))], [even, answers.len() - even]);
            }
        }
    }
}
