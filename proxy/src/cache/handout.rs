//! What all who wait for one fill are told alike: the headers of its answer with `Age` and `Cache-Status`, written once for each thread.
//!
//! To write the two for each of ten thousand callers takes longer than to wake them. And to share one copy among threads is to pass the
//! counts of who holds it from processor to processor, for each caller four times: so each thread has one of its own, body included, whose
//! counts stay where they are. Whoever must be told something else, such as 304 or a part, gets an answer of its own.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use http::header::AGE;
use weir_logic::cache::purge::Marks;
use weir_logic::cache::{CACHE_STATUS, CacheStatus, age};
use weir_logic::{Field, Fields, Lender};

use super::entry::Entry;

/// Made by the first who needs it. Memory: for each of at most [`COPIES`] threads a list of headers, whose values are the entry's but for two.
#[derive(Debug, Default)]
pub(super) struct Handout(OnceLock<Box<[OnceLock<Arc<Copied>>; COPIES]>>);

#[derive(Debug)]
struct Copied {
    entry: Arc<Entry>,
    /// Seconds.
    age: u64,
    status: CacheStatus,
    fields: Vec<Field>,
    /// The same memory under a count of its own.
    body: Bytes,
}

/// Further threads share.
const COPIES: usize = 16;

static THREADS: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    static NUMBER: usize = THREADS.fetch_add(1, Ordering::Relaxed);
}

impl Handout {
    /// The headers and the body of `entry` for one who is told this age and this status; `None` when the others were told something else.
    pub(super) fn share(
        &self,
        entry: &Arc<Entry>,
        body: &Bytes,
        old: Duration,
        status: &CacheStatus,
    ) -> Option<(Fields, Bytes)> {
        let copied = self.copy(NUMBER.with(|number| *number), || Copied::of(entry, body, old, *status));
        let same = Arc::ptr_eq(&copied.entry, entry) && copied.age == old.as_secs() && copied.status == *status;
        let headers = || Fields::lent(Arc::clone(copied) as Arc<dyn Lender>, copied.fields.len(), 0);
        same.then(|| (headers(), copied.body.clone()))
    }

    /// The copy of the thread with this number.
    fn copy(&self, number: usize, made: impl FnOnce() -> Copied) -> &Arc<Copied> {
        self.0.get_or_init(Box::default)[number % COPIES].get_or_init(|| Arc::new(made()))
    }
}

impl Copied {
    fn of(entry: &Arc<Entry>, body: &Bytes, old: Duration, status: CacheStatus) -> Self {
        let own = [(AGE, age(old)), (CACHE_STATUS, status.value())];
        let fields = entry.headers().iter().cloned().chain(own).collect();
        let body = Bytes::from_owner(body.clone());
        Self { entry: Arc::clone(entry), age: old.as_secs(), status, fields, body }
    }
}

impl Lender for Copied {
    fn fields(&self) -> &[Field] {
        &self.fields
    }

    fn marks(&self) -> &Marks {
        self.entry.stamp().marks()
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use http::HeaderMap;
    use http::header::{CONTENT_TYPE, HeaderValue};
    use weir_logic::Millis;
    use weir_logic::cache::{Arrival, Selection, Terms};

    use super::*;
    use crate::purging::Purging;

    fn entry() -> Arc<Entry> {
        let headers = HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static("text/plain"))]);
        let stamp = Arc::new(Purging::default()).depart().stamp(Arc::new(Marks::new([], "/")));
        let arrival = Arrival { status: 404, terms: Terms::default(), stored: Millis(0), draw: 0.0 };
        Arc::new(Entry::new(arrival, &headers, Bytes::new(), stamp, Selection::default()))
    }

    #[test]
    fn only_who_is_told_the_same_shares_it() {
        let (handout, entry, status, body) = (Handout::default(), entry(), CacheStatus::hit(9), Bytes::from("one"));
        let old = Duration::from_millis(1_900);
        let share = |old, status| handout.share(&entry, &body, old, &status);
        let (headers, shared) = share(old, status).unwrap();
        let text: Vec<_> = headers.iter().map(|(name, value)| format!("{name}: {}", value.to_str().unwrap())).collect();
        assert_eq!(text, ["content-type: text/plain", "age: 1", "cache-status: weir; hit; ttl=9"]);
        assert_eq!((shared.as_ptr(), &shared[..]), (body.as_ptr(), &b"one"[..]));
        assert!(share(Duration::from_secs(1), status).is_some());
        assert!(share(Duration::from_secs(2), status).is_none());
        assert!(share(old, CacheStatus::hit(8)).is_none());
        assert!(handout.share(&self::entry(), &body, old, &status).is_none());
    }

    #[test]
    fn each_thread_has_a_copy_of_its_own() {
        let (handout, entry, status) = (Handout::default(), entry(), CacheStatus::hit(9));
        let copy = |number| handout.copy(number, || Copied::of(&entry, &Bytes::new(), Duration::ZERO, status));
        assert!(Arc::ptr_eq(copy(1), copy(1)) && Arc::ptr_eq(copy(1), copy(1 + COPIES)));
        assert!(!Arc::ptr_eq(copy(1), copy(2)));
    }
}
