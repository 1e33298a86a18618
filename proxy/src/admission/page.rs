//! `GET /agents`: how agents behave that were told to wait.

use std::collections::BTreeMap;
use std::sync::Arc;

use http::{Method, StatusCode};
use serde::Serialize;

use super::Door;
use crate::admin::{Pages, Question, Reply};
use crate::clock::Clock;
use crate::snapshot::SharedSnapshot;

/// The page.
pub struct AgentsPage {
    door: Arc<Door>,
    snapshot: SharedSnapshot,
    clock: Clock,
}

/// How agents behave that were told to wait.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct AgentsStatus {
    /// Agents that wait as they were told, or do not, by class.
    pub told_to_wait: BTreeMap<&'static str, u64>,
    /// Times since the start that an agent came back early.
    pub early_returns: u64,
    /// Agents, each on a route, that are damped now.
    pub damped: usize,
    /// The versions of which agents come back early most, the worst first: 32 at most.
    pub versions: Vec<Version>,
}

/// A version of which agents come back early.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Version {
    /// What agents say.
    pub version: String,
    /// How often they came early, at most.
    pub early_returns: u64,
    /// How many of these may have been of versions that the list has no room for.
    pub at_most_over: u64,
}

impl AgentsPage {
    /// The page about the agents at this door.
    pub fn new(door: Arc<Door>, snapshot: SharedSnapshot, clock: Clock) -> Self {
        Self { door, snapshot, clock }
    }

    /// Brings the gauges up to date: to be called before metrics are rendered.
    pub fn refresh_metrics(&self) {
        self.door.refresh_metrics(self.clock.now());
    }

    /// What it says.
    pub fn status(&self) -> AgentsStatus {
        let after = self.snapshot.load().rules.damping().after;
        let now = self.clock.now();
        let versions = self.door.versions.lock().worst_first();
        let told = |counted: weir_logic::admit::VersionCount| Version {
            version: counted.version,
            early_returns: counted.count,
            at_most_over: counted.at_most_over,
        };
        AgentsStatus {
            told_to_wait: self.door.lines.returning(now).map(|(class, count)| (class.as_str(), count)).collect(),
            early_returns: self.door.metrics.agents_early.get(),
            damped: self.door.conduct.count(|conduct| conduct.is_damped(after, now)),
            versions: versions.into_iter().map(told).collect(),
        }
    }
}

impl Pages for AgentsPage {
    fn answer(&self, question: &Question<'_>) -> Option<Reply> {
        if question.path != "/agents" {
            return None;
        }
        if !matches!(*question.method, Method::GET | Method::HEAD) {
            return Some(Reply::refused(StatusCode::METHOD_NOT_ALLOWED, "this page is read only"));
        }
        Some(Reply::ok(serde_json::json!(self.status())))
    }
}
