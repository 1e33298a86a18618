//! The running node as its operators see it.

use std::sync::{Arc, OnceLock};

use super::lifecycle::{Heartbeat, Lifecycle, Phase};
use crate::admin::{Feed, Operations, Pages, Question, Readiness, ReloadAnswer, Reply, ShutStream};
use crate::admission::AgentsPage;
use crate::aggregate::Aggregate;
use crate::clock::Clock;
use crate::metrics::Metrics;
use crate::presence::Presence;
use crate::reload::Reloader;
use crate::snapshot::SharedSnapshot;
use crate::status::{Figures, Status};
use crate::upstream::Upstream;

/// Answers the admin listener, from before the spools are opened to the end.
pub(super) struct Node {
    edge: String,
    lifecycle: Lifecycle,
    heartbeats: Vec<Heartbeat>,
    metrics: Metrics,
    clock: Clock,
    parts: OnceLock<Parts>,
}

/// What there is once the node has been composed.
pub(super) struct Parts {
    /// The configuration in force.
    pub(super) snapshot: SharedSnapshot,
    /// The cores.
    pub(super) upstream: Arc<Upstream>,
    /// Uploads.
    pub(super) aggregate: Arc<Aggregate>,
    /// Who is alive.
    pub(super) presence: Arc<Presence>,
    /// How agents behave.
    pub(super) agents: Arc<AgentsPage>,
    /// Puts a changed file in force.
    pub(super) reloader: Arc<Reloader>,
    /// The pages of parts that have their own.
    pub(super) pages: Vec<Arc<dyn Pages>>,
}

impl Node {
    /// A node that is being started. `heartbeats` are of the loops that must turn while it serves.
    pub(super) fn new(
        edge: &str,
        lifecycle: Lifecycle,
        heartbeats: Vec<Heartbeat>,
        metrics: Metrics,
        clock: Clock,
    ) -> Self {
        Self { edge: edge.to_owned(), lifecycle, heartbeats, metrics, clock, parts: OnceLock::new() }
    }

    /// Shows the parts; a second time has no effect.
    pub(super) fn composed(&self, parts: Parts) {
        if self.parts.set(parts).is_err() {
            tracing::debug!("the node was composed before");
        }
    }

    /// Gauges of things that nobody counts as they change.
    fn refresh(&self) {
        if let Some(parts) = self.parts.get() {
            parts.aggregate.refresh_metrics();
            parts.presence.refresh_metrics();
            parts.agents.refresh_metrics();
        }
    }
}

impl Operations for Node {
    fn metrics(&self) -> String {
        self.refresh();
        self.metrics.render()
    }

    /// Before the node serves there is no loop to turn: opening a large spool is life enough.
    fn is_alive(&self) -> bool {
        self.lifecycle.phase() == Phase::Starting || self.heartbeats.iter().all(Heartbeat::is_alive)
    }

    /// A node helps agents from its start to its stop. A core that is down does not change that, or one incident would take every
    /// region out of service; neither does a journal or an outbox at its bound, which is the core's doing too. A stream whose disk
    /// fails does: agents had better take their uploads to another node, which can answer all else as well.
    fn readiness(&self) -> Readiness {
        let phase = self.lifecycle.phase();
        let Some(parts) = self.parts.get().filter(|_| phase == Phase::Serving) else {
            return Readiness::of(false, phase.label());
        };
        let streams = parts.aggregate.shut();
        let ready = !streams.iter().any(crate::aggregate::ShutStream::is_better_elsewhere);
        let reason = if ready { phase.label() } else { "a stream can keep no uploads" };
        let shut = streams.into_iter().map(|crate::aggregate::ShutStream { stream, reason, since }| {
            let seconds = since.map(|since| since.as_secs());
            ShutStream { stream, reason: reason.label(), seconds }
        });
        Readiness { ready, reason, shut: shut.collect() }
    }

    fn status(&self) -> serde_json::Value {
        self.refresh();
        let snapshot = self.parts.get().map(|parts| parts.snapshot.load());
        let streams = self.parts.get().map(|parts| parts.aggregate.status()).unwrap_or_default();
        let status = Status {
            version: env!("CARGO_PKG_VERSION"),
            edge: self.edge.clone(),
            region: snapshot.as_ref().map(|snapshot| snapshot.config.edge.region.clone()),
            phase: self.lifecycle.phase().label(),
            readiness: self.readiness(),
            generation: snapshot.as_ref().map_or(0, |snapshot| snapshot.generation),
            uptime_seconds: self.clock.elapsed().as_secs(),
            cores: self.parts.get().map(|parts| parts.upstream.status()).unwrap_or_default(),
            agents: self.parts.get().map(|parts| parts.agents.status()).unwrap_or_default(),
            streams: streams.into_iter().map(|status| (status.stream.clone(), status.into())).collect(),
            figures: Figures::of(&self.metrics, snapshot.as_ref().map_or(&[], |snapshot| &snapshot.config.routes)),
        };
        serde_json::json!(status)
    }

    fn reload(&self) -> ReloadAnswer {
        match self.parts.get() {
            Some(parts) => parts.reloader.reload(),
            None => ReloadAnswer::Refused("the node is still starting".to_owned()),
        }
    }

    fn consult(&self, question: &Question<'_>) -> Option<Reply> {
        self.parts.get()?.pages.iter().find_map(|pages| pages.answer(question))
    }

    fn feed(&self, question: &Question<'_>) -> Option<Result<Feed, Reply>> {
        self.parts.get()?.pages.iter().find_map(|pages| pages.feed(question))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_that_is_still_starting_is_alive_but_not_ready() {
        let clock = Clock::start();
        let node = Node::new("edge-1", Lifecycle::default(), vec![Heartbeat::new(clock)], Metrics::new(), clock);
        assert!(node.is_alive());
        assert_eq!(node.readiness(), Readiness::of(false, "starting"));
        assert_eq!(node.status()["phase"], "starting");
        assert!(matches!(node.reload(), ReloadAnswer::Refused(_)));
    }
}
