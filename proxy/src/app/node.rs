//! The running node as its operators see it.

use std::sync::Arc;

use super::lifecycle::{Heartbeat, Lifecycle, Phase};
use crate::admin::{Operations, Readiness, ReloadAnswer};
use crate::aggregate::Aggregate;
use crate::clock::Clock;
use crate::metrics::Metrics;
use crate::presence::Presence;
use crate::reload::Reloader;
use crate::snapshot::SharedSnapshot;
use crate::status::{Figures, Status};
use crate::upstream::Upstream;

/// Answers the admin listener.
pub(super) struct Node {
    /// The node's name.
    pub(super) edge: String,
    /// Where in its life it is.
    pub(super) lifecycle: Lifecycle,
    /// The loops that must turn while it serves.
    pub(super) heartbeats: Vec<Heartbeat>,
    /// The configuration in force.
    pub(super) snapshot: SharedSnapshot,
    /// The cores.
    pub(super) upstream: Arc<Upstream>,
    /// Uploads.
    pub(super) aggregate: Arc<Aggregate>,
    /// Who is alive.
    pub(super) presence: Arc<Presence>,
    /// Puts a changed file in force.
    pub(super) reloader: Arc<Reloader>,
    /// Every metric.
    pub(super) metrics: Metrics,
    /// The time since the start.
    pub(super) clock: Clock,
}

impl Node {
    /// Gauges of things that nobody counts as they change.
    fn refresh(&self) {
        self.aggregate.refresh_metrics();
        self.presence.refresh_metrics();
    }
}

impl Operations for Node {
    fn metrics(&self) -> String {
        self.refresh();
        self.metrics.render()
    }

    /// Before the node serves there is no loop to turn: replaying a large spool is life enough.
    fn is_alive(&self) -> bool {
        self.lifecycle.phase() == Phase::Starting || self.heartbeats.iter().all(Heartbeat::is_alive)
    }

    /// A node helps agents from its start to its stop. A core that is down does not change that, or one incident would take every
    /// region out of service; neither does a spool that refuses uploads, since polls, updates and configurations are answered.
    fn readiness(&self) -> Readiness {
        let phase = self.lifecycle.phase();
        Readiness { ready: phase == Phase::Serving, reason: phase.label() }
    }

    fn status(&self) -> serde_json::Value {
        self.refresh();
        let snapshot = self.snapshot.load();
        let status = Status {
            version: env!("CARGO_PKG_VERSION"),
            edge: self.edge.clone(),
            region: snapshot.config.edge.region.clone(),
            phase: self.lifecycle.phase().label(),
            readiness: self.readiness(),
            generation: snapshot.generation,
            uptime_seconds: self.clock.elapsed().as_secs(),
            cores: self.upstream.status(),
            figures: Figures::of(&self.metrics),
        };
        serde_json::json!(status)
    }

    fn reload(&self) -> ReloadAnswer {
        self.reloader.reload()
    }
}
