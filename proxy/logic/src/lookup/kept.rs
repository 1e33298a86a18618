//! Answers kept for their TTL, within bounds.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::HeaderValue;

use super::contract::KeyAnswer;
use crate::{CacheKey, Millis};

/// An answer that is kept. It serves past its TTL while the core fails, and is what a 304 of the core confirms.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept {
    /// The answer, its body in memory of its own.
    pub answer: KeyAnswer,
    /// When the core gave or last confirmed it.
    pub fetched: Millis,
    /// The end of its TTL.
    pub fresh_until: Millis,
}

/// Kept answers, bounded in number and bytes; the least recently used leave first. Memory: the bodies and keys counted against
/// the bound, and about 320 bytes for each answer, counted too.
#[derive(Debug)]
pub struct KeptAnswers {
    by_key: HashMap<CacheKey, Slot>,
    by_use: BTreeMap<u64, CacheKey>,
    uses: u64,
    bytes: usize,
    max_answers: usize,
    max_bytes: usize,
}

#[derive(Debug)]
struct Slot {
    kept: Arc<Kept>,
    used: u64,
    bytes: usize,
}

/// What an answer takes beside its body and its key.
const OVERHEAD: usize = 320;

impl Kept {
    /// `answer`, fetched `now`, to be kept for `ttl`. The body is copied: a part of a bulk answer would hold all of it.
    pub fn new(answer: &KeyAnswer, ttl: Duration, now: Millis) -> Self {
        let answer = KeyAnswer { body: Bytes::copy_from_slice(&answer.body), ..answer.clone() };
        Self { answer, fetched: now, fresh_until: now.after(ttl) }
    }

    /// The same answer, confirmed by the core `now` and good for another `ttl`.
    #[must_use]
    pub fn confirmed(&self, etag: Option<HeaderValue>, ttl: Duration, now: Millis) -> Self {
        let answer = KeyAnswer { etag: etag.or_else(|| self.answer.etag.clone()), ..self.answer.clone() };
        Self { answer, fetched: now, fresh_until: now.after(ttl) }
    }

    /// Whether its TTL lasts.
    pub fn is_fresh(&self, now: Millis) -> bool {
        now < self.fresh_until
    }

    /// Whether it may still stand in while the core fails.
    pub fn may_stand_in(&self, stale_if_error: Duration, now: Millis) -> bool {
        now < self.fresh_until.after(stale_if_error)
    }
}

impl KeptAnswers {
    /// Room for so many answers of so many bytes together.
    pub fn new(max_answers: usize, max_bytes: usize) -> Self {
        Self { by_key: HashMap::new(), by_use: BTreeMap::new(), uses: 0, bytes: 0, max_answers, max_bytes }
    }

    /// Changes the bounds; what no longer fits leaves.
    pub fn reconfigure(&mut self, max_answers: usize, max_bytes: usize) {
        (self.max_answers, self.max_bytes) = (max_answers, max_bytes);
        self.shrink(0, 0);
    }

    /// What is kept for `key`, fresh or not.
    pub fn find(&mut self, key: &CacheKey) -> Option<Arc<Kept>> {
        let slot = self.by_key.get_mut(key)?;
        let key = self.by_use.remove(&slot.used)?;
        self.uses += 1;
        slot.used = self.uses;
        self.by_use.insert(slot.used, key);
        Some(Arc::clone(&slot.kept))
    }

    /// Keeps an answer instead of what was kept before. What does not fit at all is not kept: `false`.
    pub fn keep(&mut self, key: CacheKey, kept: Arc<Kept>) -> bool {
        self.forget(&key);
        let bytes = kept.answer.body.len() + 2 * key.len() + OVERHEAD;
        if bytes > self.max_bytes || self.max_answers == 0 {
            return false;
        }
        self.shrink(1, bytes);
        self.uses += 1;
        self.bytes += bytes;
        self.by_use.insert(self.uses, key.clone());
        self.by_key.insert(key, Slot { kept, used: self.uses, bytes });
        true
    }

    /// Forgets what is kept for `key`.
    pub fn forget(&mut self, key: &CacheKey) {
        if let Some(slot) = self.by_key.remove(key) {
            self.by_use.remove(&slot.used);
            self.bytes -= slot.bytes;
        }
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

    fn kept(bytes: usize) -> Arc<Kept> {
        let body = Bytes::from(vec![b'x'; bytes]);
        let answer = KeyAnswer { body, ..KeyAnswer::of_status(200) };
        Arc::new(Kept::new(&answer, Duration::from_secs(60), Millis(1_000)))
    }

    #[test]
    fn the_least_recently_used_leaves_first() {
        let mut answers = KeptAnswers::new(2, usize::MAX);
        answers.keep(key(1), kept(1));
        answers.keep(key(2), kept(2));
        assert!(answers.find(&key(1)).is_some());
        answers.keep(key(3), kept(3));
        assert!(answers.find(&key(2)).is_none());
        assert!(answers.find(&key(1)).is_some() && answers.find(&key(3)).is_some());
    }

    #[test]
    fn an_answer_that_does_not_fit_displaces_only_its_own_key() {
        let mut answers = KeptAnswers::new(10, 2_000);
        answers.keep(key(1), kept(10));
        answers.keep(key(2), kept(10));
        answers.keep(key(2), kept(5_000));
        assert!(answers.find(&key(1)).is_some());
        assert!(answers.find(&key(2)).is_none(), "the older answer is no longer the core's");
    }

    #[test]
    fn narrower_bounds_hold_at_once() {
        let mut answers = KeptAnswers::new(10, usize::MAX);
        (0..10).for_each(|name| assert!(answers.keep(key(name), kept(100))));
        answers.reconfigure(3, usize::MAX);
        assert_eq!(answers.len(), 3);
        answers.reconfigure(3, 0);
        assert!(answers.is_empty());
    }

    #[test]
    fn an_answer_is_fresh_then_stands_in_then_is_no_use() {
        let kept = kept(1);
        let stand_in = |now| kept.may_stand_in(Duration::from_secs(10), Millis(now));
        assert!(kept.is_fresh(Millis(60_999)) && !kept.is_fresh(Millis(61_000)));
        assert!(stand_in(70_999) && !stand_in(71_000));
        let again = kept.confirmed(Some(HeaderValue::from_static("\"v2\"")), Duration::from_secs(1), Millis(90_000));
        assert!(again.is_fresh(Millis(90_999)));
        assert_eq!(again.answer.etag.unwrap(), "\"v2\"");
    }

    proptest! {
        #[test]
        fn bounds_hold_and_the_count_of_bytes_is_right(steps in prop::collection::vec((0_u32..20, 0_usize..900, any::<bool>()), 0..200)) {
            let mut answers = KeptAnswers::new(8, 6_000);
            for (name, bytes, forget) in steps {
                if forget {
                    answers.forget(&key(name));
                } else {
                    answers.keep(key(name), kept(bytes));
                }
                prop_assert!(answers.len() <= 8 && answers.bytes() <= 6_000);
                prop_assert_eq!(answers.by_key.len(), answers.by_use.len());
                prop_assert_eq!(answers.by_key.values().map(|slot| slot.bytes).sum::<usize>(), answers.bytes);
            }
        }
    }
}
