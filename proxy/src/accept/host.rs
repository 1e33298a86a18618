//! What all connections of a node share.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use pingora::server::ShutdownWatch;
use weir_logic::strict::head::Bounds;
use weir_logic::{Answer, Refusal};

use super::connection::Connection;
use super::{Drain, Shortcut};
use crate::clock::Clock;
use crate::meters::{End, RouteMeters};
use crate::metrics::Metrics;
use crate::snapshot::SharedSnapshot;

/// The surroundings of every connection.
pub(super) struct Host<A> {
    /// Who answers requests.
    pub(super) app: Arc<A>,
    /// Who is asked first, where the listener says so.
    pub(super) shortcut: Arc<dyn Shortcut>,
    pub(super) snapshot: SharedSnapshot,
    pub(super) drain: Arc<Drain>,
    pub(super) metrics: Metrics,
    pub(super) clock: Clock,
    /// Pingora's own signal, which never comes before ours.
    pub(super) shutdown: ShutdownWatch,
    /// The number of the next connection.
    pub(super) next: AtomicU64,
}

impl<A> Host<A> {
    /// The bounds of a header section in force now.
    pub(super) fn bounds(&self) -> Bounds {
        let snapshot = self.snapshot.load();
        let limits = &snapshot.config.limits;
        Bounds {
            head: limits.max_header_bytes.as_usize(),
            target: limits.max_target_bytes.as_usize(),
            fields: MAX_FIELDS,
        }
    }

    /// Counts a request that ended before it could be routed, and says what it is told.
    pub(super) fn refuse(&self, refusal: Refusal, detail: &str) -> Answer {
        let (outcome, took) = (refusal.outcome(), Duration::ZERO);
        RouteMeters::of_none().count(&self.metrics, &End { outcome, answer_bytes: 0, request_bytes: 0, took });
        self.metrics.refusals.with_label_values(&[NO_ROUTE, refusal.label()]).inc();
        refusal.answer(detail, Duration::ZERO)
    }

    /// Counts what was written of the answer to such a request.
    pub(super) fn written(&self, answer: &Answer) {
        let labels = [NO_ROUTE, answer.outcome.label()];
        self.metrics.answer_bytes.with_label_values(&labels).inc_by(answer.body.len() as u64);
    }

    /// Counts a connection that has ended.
    pub(super) fn ended(&self, connection: &Connection) {
        let (listener, reason) = (connection.listener.name.as_str(), connection.end().label());
        self.metrics.connections_ended.with_label_values(&[listener, reason]).inc();
    }

    /// Counts a connection that ended before its first request.
    pub(super) fn turn_away(&self, listener: &str, cause: &str) {
        self.metrics.connections_refused.with_label_values(&[listener, cause]).inc();
    }
}

/// Header fields, at most; the bytes are bounded by the configuration, and pingora takes 256.
const MAX_FIELDS: usize = 128;

/// The route in metrics of a request that found none.
const NO_ROUTE: &str = "none";
