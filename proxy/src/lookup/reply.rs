//! What an agent is told: its key's answer, what is kept, the operator's calm answer, or when to come back.

use std::sync::Arc;

use bytes::Bytes;
use http::header::{AGE, CONTENT_TYPE, ETAG};
use weir_config::LookupRoute;
use weir_logic::cache::conditional::is_current;
use weir_logic::cache::{CACHE_STATUS, CacheStatus, Freshness, age};
use weir_logic::lookup::Place;
use weir_logic::{Answer, Call, Fields, Lender, Outcome, calm};

use super::store::Holding;
use super::{Found, KeyFailure};

/// The answer that the window brought.
pub(super) fn found(call: &Call<'_>, found: &Found, place: Place, was_kept: bool) -> Answer {
    let outcome = match place {
        Place::Coalesced => Outcome::Coalesced,
        Place::Opened(_) | Place::Added if found.confirmed => Outcome::Revalidated,
        Place::Opened(_) | Place::Added => Outcome::Miss,
    };
    let status = CacheStatus {
        collapsed: place == Place::Coalesced,
        fwd_status: Some(if found.confirmed { 304 } else { found.holding.kept.answer.status }),
        stored: found.stored,
        ..if was_kept { CacheStatus::stale() } else { CacheStatus::miss() }
    };
    prepared(call, &found.holding, outcome).with(CACHE_STATUS, status.value())
}

/// A kept answer: fresh, or stale while it is fetched anew or while the core fails.
pub(super) fn kept(call: &Call<'_>, holding: &Arc<Holding>, freshness: Freshness, outcome: Outcome) -> Answer {
    prepared(call, holding, outcome)
        .with(AGE, age(call.now.since(holding.kept.fetched)))
        .with(CACHE_STATUS, CacheStatus::hit(freshness.ttl()).value())
}

/// No answer for this key and nothing kept that may stand in: the calm answer, else when to come back.
pub(super) fn refused(route: &LookupRoute, failure: KeyFailure) -> Answer {
    if let Some(words) = &route.calm {
        return calm::answer(words);
    }
    failure.refusal.answer("the core has no answer for now", failure.rest.unwrap_or_default())
}

/// The answer, or 304 for an agent that holds it already.
fn prepared(call: &Call<'_>, holding: &Arc<Holding>, outcome: Outcome) -> Answer {
    let answer = &holding.kept.answer;
    let is_good = (200..300).contains(&answer.status);
    let mut prepared = if is_good && is_current(&call.request, answer.etag.as_ref(), None) {
        Answer { headers: lent(holding), ..Answer::empty(304, outcome) }
    } else {
        let mut whole = Answer { headers: lent(holding), ..Answer::empty(answer.status, outcome) };
        whole.body = Bytes::clone(&answer.body);
        match &answer.content_type {
            Some(media_type) => whole.with(CONTENT_TYPE, media_type.clone()),
            None => whole,
        }
    };
    if let Some(etag) = &answer.etag {
        prepared = prepared.with(ETAG, etag.clone());
    }
    prepared
}

/// No header, and room for `Content-Type`, `ETag`, `Age` and `Cache-Status`.
fn lent(holding: &Arc<Holding>) -> Fields {
    Fields::lent(Arc::clone(holding) as Arc<dyn Lender>, 0, 4)
}
