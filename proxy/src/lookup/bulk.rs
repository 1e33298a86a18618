//! One bulk request: ask the core for all keys of a window and give every waiter its answer.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use http::{Method, StatusCode};
use weir_config::{Action, LookupRoute, Route};
use weir_logic::Refusal;
use weir_logic::cache::Hold;
use weir_logic::cache::purge::Marks;
use weir_logic::lookup::{Kept, KeyAnswer, LookupEntry, Meaning, answers, lease, question};
use weir_logic::retry::asked_wait;

use super::store::Holding;
use super::{About, Asking, Found, KeyFailure, RouteWindows, Settled, Shared, Waiter, Window};
use crate::purging::Departure;
use crate::upstream::{OriginAnswer, OriginError, OriginRequest, Rank};

/// A window that has left. However it ends, none of its keys stays under way.
pub(super) struct Bulk {
    windows: Arc<RouteWindows>,
    entries: Vec<LookupEntry<About, Waiter>>,
    /// How many of its keys have landed.
    landed: usize,
}

/// Why a whole bulk request came to nothing: for its keys, and as a label.
type BulkFailure = (KeyFailure, &'static str);

impl Bulk {
    pub(super) fn new(window: Window, windows: Arc<RouteWindows>) -> Self {
        Self { windows, entries: window.entries, landed: 0 }
    }

    /// Lands the next key: first come, first told. Those who have left hear nothing.
    fn land(&mut self, settled: &Settled) {
        let Some(entry) = self.entries.get_mut(self.landed) else { return };
        let late = self.windows.windows.lock().land(&entry.key);
        self.landed += 1;
        for waiter in std::mem::take(&mut entry.waiters).into_iter().chain(late) {
            drop(waiter.send(settled.clone()));
        }
    }
}

impl Drop for Bulk {
    /// Waiters that are dropped hear that their bulk request died.
    fn drop(&mut self) {
        for entry in self.entries.iter().skip(self.landed) {
            drop(self.windows.windows.lock().land(&entry.key));
        }
    }
}

impl Shared {
    /// Sends the window's keys and distributes the answers. Whatever happens, every waiter hears of it.
    pub(super) async fn ask(&self, route: &Arc<Route>, mut bulk: Bulk) {
        let Action::Lookup(lookup) = &route.action else { return };
        let count = bulk.entries.len();
        let departure = self.purging.depart();
        let started = self.clock.elapsed();
        let keys = bulk.entries.iter().map(|entry| (&entry.about.asking.text, entry.about.validator()));
        let body = Bytes::from(question(&self.edge, &route.name, keys));
        let result = self.origin.send(self.request(route, lookup, body)).await;
        // A key waits for its window as well.
        let took = lookup.window + self.clock.elapsed().saturating_sub(started);
        let answers = self.read(result, count);
        let label = answers.as_ref().map_or_else(|(_, label)| *label, |_| "answered");
        self.metrics.lookup_bulk_requests.with_label_values(&[route.name.as_str(), label]).inc();
        let answers: Vec<Result<KeyAnswer, KeyFailure>> = match answers {
            Ok(answers) => answers.into_iter().map(|answer| answer.ok_or(KeyFailure::LOST)).collect(),
            Err((failure, _)) => vec![Err(failure); count],
        };
        for (at, answer) in answers.into_iter().enumerate() {
            let about = &bulk.entries[at].about;
            let settled = answer.and_then(|answer| self.settle(lookup, about, &departure, answer)).map(Arc::new);
            self.note(&about.asking, &settled);
            if let Ok(found) = &settled {
                let granted = lease(lookup, found.holding.kept.answer.ttl);
                self.what_if.filled(&route.name, &about.asking.key, self.clock.now(), granted, took);
            }
            self.metrics.lookup_keys.with_label_values(&[route.name.as_str(), key_label(&settled)]).inc();
            bulk.land(&settled);
        }
    }

    fn request(&self, route: &Route, lookup: &LookupRoute, body: Bytes) -> OriginRequest {
        OriginRequest {
            core: route.core,
            label: route.name.as_str().into(),
            rank: Rank::Class(route.class),
            method: Method::POST,
            target: lookup.path.clone(),
            headers: vec![(CONTENT_TYPE, JSON), (ACCEPT, JSON)],
            body,
            max_answer_bytes: self.max_answer_bytes.load(Ordering::Relaxed),
            // A lookup changes nothing at the core.
            repeatable: true,
        }
    }

    /// The answers to all keys, in order, or the one reason why there are none.
    fn read(
        &self,
        result: Result<OriginAnswer, OriginError>,
        count: usize,
    ) -> Result<Vec<Option<KeyAnswer>>, BulkFailure> {
        let answer = result.map_err(|error| {
            let turned_away = matches!(error, OriginError::Resting(_) | OriginError::Full);
            (KeyFailure { refusal: error.refusal(), rest: error.rest(), turned_away }, error.label())
        })?;
        if answer.status != StatusCode::OK {
            let header = answer.headers.get(RETRY_AFTER);
            let rest = header.and_then(|header| asked_wait(header.as_bytes(), self.clock.now()));
            let overloaded = matches!(answer.status, StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE);
            let refusal = if overloaded { Refusal::CoreUnavailable } else { Refusal::CoreBroken };
            return Err((KeyFailure { refusal, rest, turned_away: false }, "refused"));
        }
        answers(&answer.body, count).map_err(|error| {
            tracing::warn!(%error, "a bulk lookup's answer breaks the contract");
            (KeyFailure { refusal: Refusal::CoreBroken, ..KeyFailure::LOST }, "broken")
        })
    }

    /// What one key's answer means, and what is kept of it. A failure leaves what is kept alone.
    fn settle(
        &self,
        lookup: &LookupRoute,
        about: &About,
        departure: &Departure,
        answer: KeyAnswer,
    ) -> Result<Found, KeyFailure> {
        let ttl = jittered(answer.ttl.unwrap_or(lookup.ttl).min(lookup.max_ttl), lookup.jitter, rand::random());
        let now = self.clock.now();
        let asking = &about.asking;
        let held = |kept, marks| Arc::new(Holding { kept, stamp: departure.stamp(marks), asking: Arc::clone(asking) });
        match (answer.meaning(), &about.held) {
            (Meaning::Answer, _) => {
                let marks = asking.marked(&answer);
                if ttl.is_zero() {
                    self.kept.forget(&asking.key);
                    let holding = held(Kept::new(answer, ttl, now), marks);
                    return Ok(Found { holding, confirmed: false, stored: false });
                }
                // A part of a bulk answer would hold all of it.
                let answer = KeyAnswer { body: Bytes::copy_from_slice(&answer.body), ..answer };
                let holding = held(Kept::new(answer, ttl, now), marks);
                let stored = self.kept.keep(&holding, holding.kept.due(lookup));
                Ok(Found { holding, confirmed: false, stored })
            }
            (Meaning::Unchanged, Some(before)) => {
                // A confirmation without tags leaves those that the answer came with.
                let marks =
                    if answer.tags.is_some() { asking.marked(&answer) } else { Arc::clone(before.stamp.marks()) };
                let holding = held(before.kept.confirmed(answer.etag, ttl, now), marks);
                let stored = self.kept.keep(&holding, holding.kept.due(lookup));
                Ok(Found { holding, confirmed: true, stored })
            }
            // A 304 to a key that came without a validator confirms nothing.
            (Meaning::Unchanged, None) => Err(KeyFailure { refusal: Refusal::CoreBroken, ..KeyFailure::LOST }),
            (Meaning::Failed, _) => Err(KeyFailure { rest: answer.retry_after, ..KeyFailure::LOST }),
        }
    }

    /// Gives a key that failed some rest, and ends that of one that did not.
    fn note(&self, asking: &Asking, settled: &Settled) {
        let Err(failure) = settled else { return self.holds.clear(&asking.key) };
        let (now, draw) = (self.clock.now(), rand::random());
        self.holds.note(&asking.key, |previous| {
            if failure.turned_away {
                Hold::turned_away(failure.rest, now, draw)
            } else {
                Hold::after(previous, failure.rest, now, draw)
            }
        });
    }
}

impl About {
    fn validator(&self) -> Option<&HeaderValue> {
        self.held.as_ref().and_then(|held| held.kept.answer.etag.as_ref())
    }
}

impl Asking {
    /// What this answer can be purged by.
    fn marked(&self, answer: &KeyAnswer) -> Arc<Marks> {
        let Some(tags) = answer.tags.as_deref().filter(|tags| !tags.is_empty()) else { return Arc::clone(&self.marks) };
        Arc::new(self.marks.with(self.marks.iter().chain(tags.iter().copied())))
    }
}

/// A TTL, less a part that is drawn: keys that were looked up together do not expire together.
fn jittered(ttl: Duration, jitter: weir_config::Ratio, random: f64) -> Duration {
    ttl.mul_f64(1.0 - jitter.value() * random)
}

fn key_label(settled: &Settled) -> &'static str {
    match settled {
        Ok(found) if found.confirmed => "unchanged",
        Ok(_) => "answered",
        Err(_) => "failed",
    }
}

const JSON: HeaderValue = HeaderValue::from_static("application/json");
