//! One window: ask the core for all its keys in one bulk request and give every waiter its answer. What the core refuses for one of
//! the keys is asked for in halves.

use std::ops::Range;
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
use weir_logic::lookup::{Division, Kept, KeyAnswer, LookupEntry, Meaning, answers, lease, question};
use weir_logic::retry::asked_wait;

use super::store::Holding;
use super::{About, Asking, Found, KeyFailure, RouteWindows, Settled, Shared, Waiter, Window};
use crate::purging::Departure;
use crate::upstream::{OriginAnswer, OriginError, OriginRequest, Patience, Rank, Sending};

/// A window that has left. However it ends, none of its keys stays under way.
pub(super) struct Bulk {
    windows: Arc<RouteWindows>,
    entries: Vec<LookupEntry<About, Waiter>>,
    /// Which of its keys have landed.
    landed: Vec<bool>,
}

/// Why a whole bulk request came to nothing.
struct BulkFailure {
    /// For its keys.
    failure: KeyFailure,
    /// In the metrics.
    label: &'static str,
    /// Whether one of the keys may be to blame, and half of them may fare better.
    by_content: bool,
}

/// What came of a bulk request: an answer for each key, in order.
type Answers = Vec<Result<KeyAnswer, KeyFailure>>;

impl Bulk {
    pub(super) fn new(window: Window, windows: Arc<RouteWindows>) -> Self {
        let landed = vec![false; window.entries.len()];
        Self { windows, entries: window.entries, landed }
    }

    /// Lands the key in this place: first come, first told. Those who have left hear nothing.
    fn land(&mut self, at: usize, settled: &Settled) {
        let entry = &mut self.entries[at];
        let late = self.windows.windows.lock().land(&entry.key);
        self.landed[at] = true;
        for waiter in std::mem::take(&mut entry.waiters).into_iter().chain(late) {
            drop(waiter.send(settled.clone()));
        }
    }
}

impl Drop for Bulk {
    /// Waiters that are dropped hear that their bulk request died.
    fn drop(&mut self) {
        for (entry, _) in self.entries.iter().zip(&self.landed).filter(|(_, landed)| !**landed) {
            drop(self.windows.windows.lock().land(&entry.key));
        }
    }
}

impl Shared {
    /// Sends the window's keys and distributes the answers. Whatever happens, every waiter hears of it.
    pub(super) async fn ask(&self, route: &Arc<Route>, mut bulk: Bulk) {
        let Action::Lookup(lookup) = &route.action else { return };
        let departure = self.purging.depart();
        let count = bulk.entries.len();
        let may_divide = count > 1 && bulk.windows.may_divide(self.clock.now());
        let mut division = Division::of(count, may_divide);
        let (mut refused, mut answered) = (false, false);
        let mut blamed = Vec::new();
        while let Some(part) = division.next_part() {
            let started = self.clock.elapsed();
            let asked = self.ask_part(route, lookup, &bulk, part.clone()).await;
            // A key waits for its window as well.
            let took = lookup.window + self.clock.elapsed().saturating_sub(started);
            match asked {
                Ok(answers) => {
                    answered = true;
                    for (at, answer) in part.zip(answers) {
                        let settled = self.told(route, lookup, &bulk.entries[at].about, &departure, answer, took);
                        bulk.land(at, &settled);
                    }
                }
                Err(BulkFailure { failure, by_content: true, .. }) => {
                    refused = true;
                    if !division.halve(&part) {
                        blamed.push((part, failure, true));
                    }
                }
                Err(BulkFailure { failure, .. }) => {
                    // The core is in trouble: asking for the other parts would keep their agents waiting in vain.
                    let rest = std::iter::from_fn(|| division.next_part());
                    blamed.extend(std::iter::once(part).chain(rest).map(|part| (part, failure, false)));
                }
            }
        }
        for (part, failure, by_content) in blamed {
            // Where others were answered a key that is refused alone is to blame; finding that out again soon would cost as much.
            let rest = if by_content && answered && part.len() == 1 { Some(BLAMED) } else { failure.rest };
            for at in part {
                let failure = Err(KeyFailure { rest, ..failure });
                let settled = self.told(route, lookup, &bulk.entries[at].about, &departure, failure, Duration::ZERO);
                bulk.land(at, &settled);
            }
        }
        if refused && may_divide {
            bulk.windows.divided(answered, self.clock.now());
        }
    }

    /// One bulk request, for the keys in these places.
    async fn ask_part(
        &self,
        route: &Route,
        lookup: &LookupRoute,
        bulk: &Bulk,
        part: Range<usize>,
    ) -> Result<Answers, BulkFailure> {
        let count = part.len();
        let keys = bulk.entries[part].iter().map(|entry| (&entry.about.asking.text, entry.about.validator()));
        let body = Bytes::from(question(&self.edge, &route.name, keys));
        let result = self.origin.send(self.request(route, lookup, body)).await;
        let answers = self.read(result, count);
        let label = answers.as_ref().map_or_else(|failed| failed.label, |_| "answered");
        self.metrics.lookup_bulk_requests.with_label_values(&[route.name.as_str(), label]).inc();
        answers.map(|answers| answers.into_iter().map(|answer| answer.ok_or(KeyFailure::LOST)).collect())
    }

    /// What one key's waiters are told, and what is noted of it.
    fn told(
        &self,
        route: &Route,
        lookup: &LookupRoute,
        about: &About,
        departure: &Departure,
        answer: Result<KeyAnswer, KeyFailure>,
        took: Duration,
    ) -> Settled {
        let settled = answer.and_then(|answer| self.settle(lookup, about, departure, answer)).map(Arc::new);
        self.note(&about.asking, &settled);
        if let Ok(found) = &settled {
            let granted = lease(lookup, found.holding.kept.answer.ttl);
            self.what_if.filled(&route.name, &about.asking.key, self.clock.now(), granted, took);
        }
        self.metrics.lookup_keys.with_label_values(&[route.name.as_str(), key_label(&settled)]).inc();
        settled
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
            patience: Patience::Whole,
            // A lookup changes nothing at the core.
            repeatable: true,
            sending: Sending::First,
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
            BulkFailure {
                failure: KeyFailure { refusal: error.refusal(), rest: error.rest(), turned_away },
                label: error.label(),
                by_content: matches!(error, OriginError::TooLarge(_)),
            }
        })?;
        if answer.status != StatusCode::OK {
            let header = answer.headers.get(RETRY_AFTER);
            let rest = header.and_then(|header| asked_wait(header.as_bytes(), self.clock.now()));
            let overloaded = matches!(answer.status, StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE);
            let refusal = if overloaded { Refusal::CoreUnavailable } else { Refusal::CoreBroken };
            let failure = KeyFailure { refusal, rest, turned_away: false };
            return Err(BulkFailure { failure, label: "refused", by_content: BY_CONTENT.contains(&answer.status) });
        }
        answers(&answer.body, count).map_err(|error| {
            tracing::warn!(%error, "a bulk lookup's answer breaks the contract");
            let failure = KeyFailure { refusal: Refusal::CoreBroken, ..KeyFailure::LOST };
            BulkFailure { failure, label: "broken", by_content: false }
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

/// What a core says that finds fault with what a request holds. Others are about the node, its credentials or the core itself, and
/// halves would fare no better.
const BY_CONTENT: [StatusCode; 3] =
    [StatusCode::BAD_REQUEST, StatusCode::PAYLOAD_TOO_LARGE, StatusCode::UNPROCESSABLE_ENTITY];

/// The rest of a key for which others had to be asked for in parts.
const BLAMED: Duration = Duration::from_secs(60);

const JSON: HeaderValue = HeaderValue::from_static("application/json");
