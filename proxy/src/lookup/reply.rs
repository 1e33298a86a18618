//! What an agent is told: its key's answer, what is kept, the operator's calm answer, or when to come back.

use std::time::Duration;

use bytes::Bytes;
use http::header::{AGE, CONTENT_TYPE, ETAG};
use weir_config::LookupRoute;
use weir_logic::cache::conditional::is_current;
use weir_logic::cache::{CACHE_STATUS, CacheStatus, age};
use weir_logic::lookup::{Kept, KeyAnswer, Place};
use weir_logic::retry::{agent_hash, retry_after};
use weir_logic::{Answer, Call, Cause, Outcome, calm};

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
        fwd_status: Some(if found.confirmed { 304 } else { found.answer.status }),
        stored: found.stored,
        ..if was_kept { CacheStatus::stale() } else { CacheStatus::miss() }
    };
    prepared(call, &found.answer, outcome).with(CACHE_STATUS, status.value())
}

/// A kept answer, fresh (`Hit`) or standing in for a core that fails (`Stale`).
pub(super) fn kept(call: &Call<'_>, kept: &Kept, outcome: Outcome) -> Answer {
    prepared(call, &kept.answer, outcome)
        .with(AGE, age(call.now.since(kept.fetched)))
        .with(CACHE_STATUS, CacheStatus::hit(ttl_left(call, kept)).value())
}

/// No answer for this key: what is kept if it may stand in, else the calm answer, else when to come back.
pub(super) fn failed(call: &Call<'_>, route: &LookupRoute, held: Option<&Kept>, failure: KeyFailure) -> Answer {
    if let Some(held) = held.filter(|held| held.may_stand_in(route.stale_if_error, call.now)) {
        return kept(call, held, Outcome::Stale).because(Cause::FillFailed);
    }
    if let Some(words) = &route.calm {
        return calm::answer(words, rand::random());
    }
    let base = failure.rest.unwrap_or(USUAL_REST);
    let wait = retry_after(agent_hash(call.identity, rand::random()), base);
    failure.refusal.answer("the core has no answer for now", wait)
}

/// What agents are told at least when nobody has named a time.
const USUAL_REST: Duration = Duration::from_secs(5);

/// The answer, or 304 for an agent that holds it already.
fn prepared(call: &Call<'_>, answer: &KeyAnswer, outcome: Outcome) -> Answer {
    let is_good = (200..300).contains(&answer.status);
    let mut prepared = if is_good && is_current(&call.request, answer.etag.as_ref(), None) {
        Answer::empty(304, outcome)
    } else {
        let mut whole = Answer::empty(answer.status, outcome);
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

/// Seconds, below zero for a stale answer.
fn ttl_left(call: &Call<'_>, kept: &Kept) -> i64 {
    let seconds = |duration: Duration| i64::try_from(duration.as_secs()).unwrap_or(i64::MAX);
    if kept.is_fresh(call.now) {
        seconds(kept.fresh_until.since(call.now))
    } else {
        -seconds(call.now.since(kept.fresh_until))
    }
}
