//! What all who wait for one fill are told alike: the headers of its answer with `Age` and `Cache-Status`, written once.
//!
//! To write the two for each of ten thousand callers takes longer than to wake them. Whoever must be told something else, such as 304
//! or a part, gets an answer of its own.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use http::header::AGE;
use weir_logic::cache::{CACHE_STATUS, CacheStatus, age};
use weir_logic::{Field, Fields, Lender};

use super::entry::Entry;

/// Made by the first who needs it. Memory: one list of headers for a fill, whose values are the entry's but for two.
#[derive(Debug, Default)]
pub(super) struct Handout(OnceLock<Arc<Copied>>);

#[derive(Debug)]
struct Copied {
    entry: Arc<Entry>,
    /// Seconds.
    age: u64,
    status: CacheStatus,
    fields: Vec<Field>,
}

impl Handout {
    /// The headers of `entry` for one who is told this age and this status; `None` when the others were told something else.
    pub(super) fn headers(&self, entry: &Arc<Entry>, old: Duration, status: &CacheStatus) -> Option<Fields> {
        let copied = self.0.get_or_init(|| Arc::new(Copied::of(entry, old, *status)));
        let same = Arc::ptr_eq(&copied.entry, entry) && copied.age == old.as_secs() && copied.status == *status;
        same.then(|| Fields::lent(Arc::clone(copied) as Arc<dyn Lender>, copied.fields.len(), 0))
    }
}

impl Copied {
    fn of(entry: &Arc<Entry>, old: Duration, status: CacheStatus) -> Self {
        let own = [(AGE, age(old)), (CACHE_STATUS, status.value())];
        let fields = entry.headers().iter().cloned().chain(own).collect();
        Self { entry: Arc::clone(entry), age: old.as_secs(), status, fields }
    }
}

impl Lender for Copied {
    fn fields(&self) -> &[Field] {
        &self.fields
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use http::HeaderMap;
    use http::header::{CONTENT_TYPE, HeaderValue};
    use weir_logic::Millis;
    use weir_logic::cache::purge::Marks;
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
        let (handout, entry, status) = (Handout::default(), entry(), CacheStatus::hit(9));
        let old = Duration::from_millis(1_900);
        let shared = handout.headers(&entry, old, &status).unwrap();
        let text: Vec<_> = shared.iter().map(|(name, value)| format!("{name}: {}", value.to_str().unwrap())).collect();
        assert_eq!(text, ["content-type: text/plain", "age: 1", "cache-status: weir; hit; ttl=9"]);
        assert!(handout.headers(&entry, Duration::from_secs(1), &status).is_some());
        assert!(handout.headers(&entry, Duration::from_secs(2), &status).is_none());
        assert!(handout.headers(&entry, old, &CacheStatus::hit(8)).is_none());
        assert!(handout.headers(&self::entry(), old, &status).is_none());
    }
}
