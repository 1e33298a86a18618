//! `GET /ttl`: for each route that keeps answers what each candidate TTL would have meant on the last hour's traffic.

use std::sync::Arc;
use std::time::Duration;

use http::{Method, StatusCode};
use serde_json::{Value, json};
use weir_config::{Action, Route};
use weir_logic::whatif::Candidate;

use super::{Known, WhatIf, keeps_answers};
use crate::admin::{Pages, Question, Reply};
use crate::clock::Clock;
use crate::snapshot::SharedSnapshot;

/// The page.
pub struct TtlPage {
    what_if: Arc<WhatIf>,
    snapshot: SharedSnapshot,
    clock: Clock,
}

impl TtlPage {
    /// The page about these watches.
    pub fn new(what_if: Arc<WhatIf>, snapshot: SharedSnapshot, clock: Clock) -> Self {
        Self { what_if, snapshot, clock }
    }

    fn all(&self) -> Value {
        let snapshot = self.snapshot.load();
        let now = self.clock.now();
        let routes = snapshot.config.routes.iter().filter(|route| keeps_answers(&route.action));
        let told = routes.filter_map(|route| Some(told(route, &self.what_if.known(&route.name, now)?)));
        json!({ "what_if_keys": snapshot.config.limits.cache.what_if_keys, "routes": told.collect::<Vec<_>>() })
    }
}

impl Pages for TtlPage {
    fn answer(&self, question: &Question<'_>) -> Option<Reply> {
        if question.path != "/ttl" {
            return None;
        }
        if !matches!(*question.method, Method::GET | Method::HEAD) {
            return Some(Reply::refused(StatusCode::METHOD_NOT_ALLOWED, "this page is read only"));
        }
        Some(Reply::ok(self.all()))
    }
}

fn told(route: &Route, known: &Known) -> Value {
    let (action, usual) = match &route.action {
        Action::Cache(cache) => ("cache", cache.ttl.ok),
        Action::Lookup(lookup) => ("lookup", lookup.ttl),
        Action::Aggregate(_) | Action::Forward(_) => ("", Duration::ZERO),
    };
    let ttls = known.ttls.unwrap_or((usual, usual));
    let seconds = known.covered.as_secs_f64().max(1.0);
    let candidates = known.figures.candidates().map(|candidate| candidate_told(&candidate, ttls, seconds));
    json!({
        "route": route.name,
        "action": action,
        "covered_seconds": known.covered.as_secs(),
        "requests": known.figures.requests,
        "requests_per_second": known.figures.requests / seconds,
        "watched_keys": known.keys,
        "watched_part": known.part,
        "candidates": candidates,
    })
}

fn candidate_told(candidate: &Candidate, ttls: (Duration, Duration), seconds: f64) -> Value {
    json!({
        "multiplier": candidate.multiplier,
        "ttl_seconds": ttls.0.mul_f64(candidate.multiplier).as_secs_f64(),
        "longest_ttl_seconds": ttls.1.mul_f64(candidate.multiplier).as_secs_f64(),
        "core_requests": candidate.core_requests,
        "core_requests_per_second": candidate.core_requests / seconds,
        "hit_ratio": candidate.hit_ratio,
        "stale_ratio": candidate.stale_ratio,
        "mean_age_seconds": candidate.mean_age.as_secs_f64(),
        "p99_age_seconds": candidate.p99_age.as_secs_f64(),
    })
}
