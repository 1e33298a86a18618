//! What a request carries through pingora's callbacks, and the count it leaves behind.

use std::sync::Arc;
use std::time::Duration;

use weir_config::Route;
use weir_logic::{Answer, Cause, Outcome};

use crate::accept::Connection;
use crate::admission::{Admitted, Asked};
use crate::clock::Clock;
use crate::forward::Forwarding;
use crate::metrics::Metrics;
use crate::trace::Sketch;

/// One request on its way through the gateway.
pub struct RequestContext {
    pub(super) connection: Arc<Connection>,
    pub(super) tally: Tally,
    /// Who asks, once that is known.
    pub(super) asked: Option<Asked>,
    pub(super) admitted: Option<Admitted>,
    pub(super) forwarding: Option<Box<Forwarding>>,
}

/// Counts the request, once, when it is dropped: however the request ended, it ended in one outcome.
pub(super) struct Tally {
    metrics: Metrics,
    clock: Clock,
    started: Duration,
    route: Option<Arc<Route>>,
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
    /// A count that begins now.
    pub(super) fn new(metrics: &Metrics, clock: Clock) -> Self {
        Self {
            metrics: metrics.clone(),
            clock,
            started: clock.elapsed(),
            route: None,
            outcome: None,
            cause: None,
            refusal: None,
            answer_bytes: 0,
            request_bytes: 0,
            sketch: None,
        }
    }

    /// Says which route the request took.
    pub(super) fn routed(&mut self, route: &Arc<Route>) {
        self.route = Some(Arc::clone(route));
    }

    /// The route that the request took.
    pub(super) fn route(&self) -> Option<&Route> {
        self.route.as_deref()
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
        let route = self.route.as_ref().map_or(NO_ROUTE, |route| &route.name);
        let outcome = self.outcome.unwrap_or(Outcome::Abandoned);
        let metrics = &self.metrics;
        metrics.requests.with_label_values(&[route, outcome.label()]).inc();
        if let Some(cause) = self.refusal {
            metrics.refusals.with_label_values(&[route, cause]).inc();
        }
        if let Some(cause) = self.cause {
            metrics.explained.with_label_values(&[route, outcome.label(), cause.label()]).inc();
        }
        metrics.answer_bytes.with_label_values(&[route, outcome.label()]).inc_by(self.answer_bytes);
        metrics.request_bytes.with_label_values(&[route, outcome.label()]).inc_by(self.request_bytes);
        metrics.request_duration.with_label_values(&[route]).observe(self.took().as_secs_f64());
        if let Some(sketch) = self.sketch.take() {
            sketch.ended(outcome, self.answer_bytes);
        }
    }
}

/// The route in metrics of a request that found none.
const NO_ROUTE: &str = "none";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_that_ends_without_a_word_counts_as_abandoned() {
        let metrics = Metrics::new();
        drop(Tally::new(&metrics, Clock::start()));
        assert_eq!(metrics.requests.with_label_values(&["none", "abandoned"]).get(), 1);
    }
}
