//! One bulk request: ask the core for all keys of a window and give every waiter its answer.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use http::{Method, StatusCode};
use weir_config::{Action, LookupRoute, Route};
use weir_logic::Refusal;
use weir_logic::lookup::{Kept, KeyAnswer, LookupEntry, Meaning, answers, question};
use weir_logic::retry::asked_wait;

use super::{About, Found, KeyFailure, Settled, Shared, Waiter, Window};
use crate::upstream::{OriginAnswer, OriginError, OriginRequest, Rank};

/// Why a whole bulk request came to nothing: for its keys, and as a label.
type BulkFailure = (KeyFailure, &'static str);

impl Shared {
    /// Sends the window's keys and distributes the answers. Whatever happens, every waiter hears of it.
    pub(super) async fn ask(&self, route: &Arc<Route>, window: Window) {
        let Action::Lookup(lookup) = &route.action else { return };
        let count = window.entries.len();
        let keys = window.entries.iter().map(|entry| (&entry.about.parts[..], entry.about.validator()));
        let body = Bytes::from(question(&self.edge, &route.name, keys));
        let result = self.origin.send(self.request(route, lookup, body)).await;
        let answers = self.read(result, count);
        let label = answers.as_ref().map_or_else(|(_, label)| *label, |_| "answered");
        self.metrics.lookup_bulk_requests.with_label_values(&[route.name.as_str(), label]).inc();
        let answers: Vec<Result<KeyAnswer, KeyFailure>> = match answers {
            Ok(answers) => answers.into_iter().map(|answer| answer.ok_or(NO_ANSWER)).collect(),
            Err((failure, _)) => vec![Err(failure); count],
        };
        for (entry, answer) in window.entries.into_iter().zip(answers) {
            let settled = answer.and_then(|answer| self.settle(lookup, &entry, answer)).map(Arc::new);
            self.metrics.lookup_keys.with_label_values(&[route.name.as_str(), key_label(&settled)]).inc();
            tell(entry, &settled);
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
        let answer =
            result.map_err(|error| (KeyFailure { refusal: error.refusal(), rest: error.rest() }, error.label()))?;
        if answer.status != StatusCode::OK {
            let header = answer.headers.get(RETRY_AFTER);
            let rest = header.and_then(|header| asked_wait(header.as_bytes(), self.clock.now()));
            let overloaded = matches!(answer.status, StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE);
            let refusal = if overloaded { Refusal::CoreUnavailable } else { Refusal::CoreBroken };
            return Err((KeyFailure { refusal, rest }, "refused"));
        }
        answers(&answer.body, count).map_err(|error| {
            tracing::warn!(%error, "a bulk lookup's answer breaks the contract");
            (KeyFailure { refusal: Refusal::CoreBroken, rest: None }, "broken")
        })
    }

    /// What one key's answer means, and what is kept of it. A failure leaves what is kept alone.
    fn settle(
        &self,
        lookup: &LookupRoute,
        entry: &LookupEntry<About, Waiter>,
        answer: KeyAnswer,
    ) -> Result<Found, KeyFailure> {
        let ttl = jittered(answer.ttl.unwrap_or(lookup.ttl).min(lookup.max_ttl), lookup.jitter, rand::random());
        let now = self.clock.now();
        match (answer.meaning(), &entry.about.kept) {
            (Meaning::Answer, _) => {
                let stored = if ttl.is_zero() {
                    self.kept.forget(&entry.key);
                    false
                } else {
                    self.kept.keep(&entry.key, Kept::new(&answer, ttl, now))
                };
                Ok(Found { answer, confirmed: false, stored })
            }
            (Meaning::Unchanged, Some(kept)) => {
                let confirmed = kept.confirmed(answer.etag, ttl, now);
                let answer = confirmed.answer.clone();
                let stored = self.kept.keep(&entry.key, confirmed);
                Ok(Found { answer, confirmed: true, stored })
            }
            // A 304 to a key that came without a validator confirms nothing.
            (Meaning::Unchanged, None) => Err(KeyFailure { refusal: Refusal::CoreBroken, rest: None }),
            (Meaning::Failed, _) => Err(KeyFailure { refusal: Refusal::CoreUnavailable, rest: answer.retry_after }),
        }
    }
}

impl About {
    fn validator(&self) -> Option<&HeaderValue> {
        self.kept.as_ref().and_then(|kept| kept.answer.etag.as_ref())
    }
}

/// First come, first told. Those who have left hear nothing.
fn tell(entry: LookupEntry<About, Waiter>, settled: &Settled) {
    for waiter in entry.waiters {
        drop(waiter.send(settled.clone()));
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

/// The core has answered the bulk request and left this key out.
const NO_ANSWER: KeyFailure = KeyFailure { refusal: Refusal::CoreUnavailable, rest: None };

const JSON: HeaderValue = HeaderValue::from_static("application/json");
