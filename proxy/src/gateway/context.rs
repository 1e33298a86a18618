//! What a request carries along its way, through pingora's callbacks if need be, and the count it leaves behind.

use std::sync::Arc;
use std::time::Duration;

use weir_config::Route;
use weir_logic::{Answer, Cause, Outcome};

use super::Parts;
use crate::accept::Connection;
use crate::admission::{Admitted, Asked};
use crate::clock::Clock;
use crate::forward::Forwarding;
use crate::meters::{End, RouteMeters};
use crate::metrics::Metrics;
use crate::snapshot::ConfigSnapshot;
use crate::trace::Sketch;

/// One request on its way through the gateway.
pub struct RequestContext {
    /// The configuration that it sees, from its beginning to its end.
    pub(super) snapshot: Arc<ConfigSnapshot>,
    pub(super) connection: Arc<Connection>,
    pub(super) tally: Tally,
    /// Who asks, once that is known.
    pub(super) asked: Option<Asked>,
    pub(super) admitted: Option<Admitted>,
    pub(super) forwarding: Option<Box<Forwarding>>,
}

impl RequestContext {
    /// The context of a request that begins now.
    pub(super) fn new(parts: &Parts, snapshot: Arc<ConfigSnapshot>, connection: Arc<Connection>) -> Self {
        Self::began(parts, snapshot, connection, parts.clock.elapsed())
    }

    /// The context of a request that began at that time of the clock.
    pub(super) fn began(
        parts: &Parts,
        snapshot: Arc<ConfigSnapshot>,
        connection: Arc<Connection>,
        started: Duration,
    ) -> Self {
        let tally = Tally::new(&parts.metrics, parts.clock, started, Arc::clone(snapshot.meters_of_none()));
        Self { snapshot, connection, tally, asked: None, admitted: None, forwarding: None }
    }

    /// The route that the request took.
    pub(super) fn route(&self) -> Option<&Route> {
        self.snapshot.config.routes.get(self.tally.route.number?)
    }
}

/// Counts the request, once, when it is dropped: however the request ended, it ended in one outcome.
pub(super) struct Tally {
    metrics: Arc<Metrics>,
    clock: Clock,
    started: Duration,
    route: Arc<RouteMeters>,
    /// How the request ended; `None` until it is known, and abandoned when it never is.
    pub(super) outcome: Option<Outcome>,
    /// Why its answer was stale or went past the cache, when it did.
    pub(super) cause: Option<Cause>,
    /// Why it was refused, when it was.
    pub(super) refusal: Option<&'static str>,
    /// Bytes of the answer's body written.
    pub(super) answer_bytes: u64,
    /// Bytes of the request's body read.
    pub(super) request_bytes: u64,
    /// What a trace will tell of it, if one is recorded and has it in its sample.
    pub(super) sketch: Option<Box<Sketch>>,
}

impl Tally {
    /// A count that began at `started`, of a request whose route is not known.
    fn new(metrics: &Arc<Metrics>, clock: Clock, started: Duration, none: Arc<RouteMeters>) -> Self {
        Self {
            metrics: Arc::clone(metrics),
            clock,
            started,
            route: none,
            outcome: None,
            cause: None,
            refusal: None,
            answer_bytes: 0,
            request_bytes: 0,
            sketch: None,
        }
    }

    /// Says which route the request took.
    pub(super) fn routed(&mut self, route: &Arc<RouteMeters>) {
        self.route = Arc::clone(route);
    }

    /// Notes the answer for the trace.
    pub(super) fn answered<B>(&mut self, answer: &Answer<B>) {
        if let Some(mut sketch) = self.sketch.take() {
            sketch.answered(answer, self.took());
            self.sketch = Some(sketch);
        }
    }

    /// Notes for the trace that the request has been passed through and what the agent was given, if anything.
    pub(super) fn forwarded(&mut self, status: Option<u16>) {
        if let (Some(mut sketch), Some(status)) = (self.sketch.take(), status) {
            sketch.forwarded(status, self.took());
            self.sketch = Some(sketch);
        }
    }

    fn took(&self) -> Duration {
        self.clock.elapsed().saturating_sub(self.started)
    }
}

impl Drop for Tally {
    fn drop(&mut self) {
        let route = self.route.name.as_str();
        let outcome = self.outcome.unwrap_or(Outcome::Abandoned);
        let metrics = &self.metrics;
        if let Some(cause) = self.refusal {
            metrics.refusals.with_label_values(&[route, cause]).inc();
        }
        if let Some(cause) = self.cause {
            metrics.explained.with_label_values(&[route, outcome.label(), cause.label()]).inc();
        }
        let Self { answer_bytes, request_bytes, .. } = *self;
        self.route.count(metrics, &End { outcome, answer_bytes, request_bytes, took: self.took() });
        if let Some(sketch) = self.sketch.take() {
            sketch.ended(outcome, self.answer_bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_that_ends_without_a_word_counts_as_abandoned() {
        let metrics = Arc::new(Metrics::new());
        drop(Tally::new(&metrics, Clock::start(), Duration::ZERO, Arc::new(RouteMeters::of_none())));
        assert_eq!(metrics.requests.with_label_values(&["none", "abandoned"]).get(), 1);
    }
}
