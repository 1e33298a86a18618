//! The running node as its operators see it.

use std::sync::Arc;

use weir_config::{Action, Config};

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
    /// region out of service. Neither does a spool that is full, which empties again; nor a stream that takes no uploads until a
    /// restart, as long as there are routes that need no stream.
    fn readiness(&self) -> Readiness {
        let phase = self.lifecycle.phase();
        if phase != Phase::Serving {
            return Readiness { ready: false, reason: phase.label() };
        }
        if self.aggregate.is_broken() && takes_uploads_only(&self.snapshot.load().config) {
            return Readiness { ready: false, reason: "a stream takes no uploads until a restart" };
        }
        Readiness { ready: true, reason: phase.label() }
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
            streams: self.aggregate.status().into_iter().map(|status| (status.stream.clone(), status.into())).collect(),
            figures: Figures::of(&self.metrics, &snapshot.config.routes),
        };
        serde_json::json!(status)
    }

    fn reload(&self) -> ReloadAnswer {
        self.reloader.reload()
    }
}

fn takes_uploads_only(config: &Config) -> bool {
    config.routes.iter().all(|route| matches!(route.action, Action::Aggregate(_)))
}
