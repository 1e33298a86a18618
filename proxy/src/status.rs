//! `/status`: the state of the node in one JSON document, for people and scripts.
//!
//! Figures are read from the metrics, so that the two never disagree; only what no metric says comes from its owner.

use std::collections::BTreeMap;

use prometheus::proto::{Metric, MetricFamily, MetricType};
use serde::Serialize;
use weir_config::{Action, Route};
use weir_logic::Outcome;

use crate::admission::AgentsStatus;
use crate::aggregate::StreamStatus;
use crate::metrics::Metrics;
use crate::upstream::CoreStatus;

/// The state of the node.
#[derive(Clone, Debug, Serialize)]
pub struct Status {
    /// The version of the binary.
    pub version: &'static str,
    /// The node's name.
    pub edge: String,
    /// The region; `null` while the node is being started.
    pub region: Option<String>,
    /// Where in its life the node is.
    pub phase: &'static str,
    /// Whether agents should be sent here, and why not.
    pub readiness: crate::admin::Readiness,
    /// The generation of the configuration in force; 0 while the node is being started.
    pub generation: u64,
    /// Seconds since the start.
    pub uptime_seconds: u64,
    /// The cores: breaker, gate, machines.
    pub cores: Vec<CoreStatus>,
    /// How agents behave that were told to wait.
    pub agents: AgentsStatus,
    /// Streams by name: ledger, journal, outbox.
    pub streams: BTreeMap<String, StreamFigures>,
    /// What the metrics say.
    #[serde(flatten)]
    pub figures: Figures,
}

/// Sums over the metrics.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Figures {
    /// Requests by outcome; they add up to all requests.
    pub requests: BTreeMap<String, u64>,
    /// Requests being worked on.
    pub requests_in_flight: u64,
    /// Requests sent to the cores by what they were for.
    pub core_requests: BTreeMap<String, u64>,
    /// Open connections by listener.
    pub connections: BTreeMap<String, u64>,
    /// The cache.
    pub cache: CacheFigures,
    /// Lookups.
    pub lookups: LookupFigures,
}

/// The cache in figures.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct CacheFigures {
    /// Stored answers.
    pub entries: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Stored answers that left to make room.
    pub evictions: u64,
    /// Fills by result.
    pub fills: BTreeMap<String, u64>,
    /// The part of the requests on cached routes that cost the core no request; `null` before the first.
    pub hit_ratio: Option<f64>,
}

/// Lookups in figures.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LookupFigures {
    /// Keys by how each was answered.
    pub keys: BTreeMap<String, u64>,
    /// Bulk requests by result.
    pub bulk_requests: BTreeMap<String, u64>,
    /// Requests waiting.
    pub waiting: u64,
}

/// A stream in figures, across restarts. `accepted` = `forwarded` + `merged` + `discarded` + `held` + `difference`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct StreamFigures {
    /// Records acknowledged to agents.
    pub accepted: u64,
    /// Records that the core has as rows of their own.
    pub forwarded: u64,
    /// Records that the core has in a repeat's count.
    pub merged: u64,
    /// Records given up: dead-lettered, expired, damaged on disk.
    pub discarded: u64,
    /// Records in journal or outbox.
    pub held: u64,
    /// Records that are nowhere; always zero.
    pub difference: i64,
    /// Everything else about it.
    #[serde(flatten)]
    pub state: StreamStatus,
}

impl From<StreamStatus> for StreamFigures {
    fn from(status: StreamStatus) -> Self {
        let ledger = status.ledger;
        Self {
            accepted: ledger.accepted,
            forwarded: ledger.forwarded,
            merged: ledger.merged,
            discarded: ledger.dead_lettered + ledger.expired + ledger.damaged,
            held: ledger.in_journal + ledger.in_outbox,
            difference: ledger.difference,
            state: status,
        }
    }
}

impl Figures {
    /// Reads the metrics of a node with these routes.
    pub fn of(metrics: &Metrics, routes: &[Route]) -> Self {
        let families = Families(metrics.registry().gather());
        let requests = families.by("weir_requests_total", "outcome");
        Self {
            requests_in_flight: families.total("weir_requests_in_flight"),
            core_requests: families.by("weir_core_requests_total", "label"),
            connections: families.by("weir_connections", "listener"),
            cache: CacheFigures {
                entries: families.total("weir_cache_entries"),
                bytes: families.total("weir_cache_bytes"),
                evictions: families.total("weir_cache_evictions_total"),
                fills: families.by("weir_cache_fills_total", "result"),
                hit_ratio: hit_ratio(&families.cached(routes)),
            },
            lookups: LookupFigures {
                keys: families.by("weir_lookup_keys_total", "result"),
                bulk_requests: families.by("weir_lookup_bulk_requests_total", "result"),
                waiting: families.total("weir_lookup_waiters"),
            },
            requests,
        }
    }
}

/// The outcomes that cost the core no request over these and those that did.
fn hit_ratio(requests: &BTreeMap<String, u64>) -> Option<f64> {
    const SPARED: [Outcome; 4] = [Outcome::Hit, Outcome::Stale, Outcome::Coalesced, Outcome::Calm];
    const SPENT: [Outcome; 4] = [Outcome::Miss, Outcome::Revalidated, Outcome::Bypass, Outcome::Failed];
    let sum = |outcomes: [Outcome; 4]| -> u64 {
        outcomes.iter().map(|outcome| requests.get(outcome.label()).copied().unwrap_or_default()).sum()
    };
    let (spared, spent) = (sum(SPARED), sum(SPENT));
    // Precise up to 2^53 requests.
    #[expect(clippy::cast_precision_loss, reason = "a ratio for people")]
    (spared + spent > 0).then(|| spared as f64 / (spared + spent) as f64)
}

struct Families(Vec<MetricFamily>);

impl Families {
    /// Sums by the values of one label.
    fn by(&self, name: &str, label: &str) -> BTreeMap<String, u64> {
        let mut sums = BTreeMap::new();
        for (value, count) in self.series(name, label, |_| true) {
            *sums.entry(value).or_default() += count;
        }
        sums
    }

    /// Requests on cached routes, by outcome.
    fn cached(&self, routes: &[Route]) -> BTreeMap<String, u64> {
        let cached = |name: &str| {
            let mut named = routes.iter().filter(|route| route.name == name);
            named.any(|route| matches!(route.action, Action::Cache(_)))
        };
        let on_cached = |metric: &Metric| cached(label_of(metric, "route"));
        let mut sums = BTreeMap::new();
        for (outcome, count) in self.series("weir_requests_total", "outcome", on_cached) {
            *sums.entry(outcome).or_default() += count;
        }
        sums
    }

    /// The sum over all series.
    fn total(&self, name: &str) -> u64 {
        self.series(name, "", |_| true).map(|(_, count)| count).sum()
    }

    /// The wanted series of a metric, each by the value of one label.
    fn series<'a>(
        &'a self,
        name: &str,
        label: &'a str,
        wanted: impl Fn(&Metric) -> bool + 'a,
    ) -> impl Iterator<Item = (String, u64)> + 'a {
        let family = self.0.iter().find(|family| family.name() == name);
        let counts = family.is_some_and(|family| family.get_field_type() == MetricType::COUNTER);
        let metrics = family.into_iter().flat_map(|family| family.get_metric());
        metrics.filter(move |metric| wanted(metric)).map(move |metric| {
            let value = if counts { metric.get_counter().get_value() } else { metric.get_gauge().get_value() };
            (label_of(metric, label).to_owned(), whole(value))
        })
    }
}

fn label_of<'a>(metric: &'a Metric, name: &str) -> &'a str {
    metric.get_label().iter().find(|pair| pair.name() == name).map_or("", |pair| pair.value())
}

/// The registry holds whole numbers as floats; none is negative.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "`as` saturates, and the values are counts"
)]
fn whole(value: f64) -> u64 {
    value as u64
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use weir_config::{EXAMPLE, MemoryEnvironment, parse};

    use super::*;

    #[test]
    fn figures_are_the_metrics_summed() {
        let metrics = Metrics::new();
        metrics.requests.with_label_values(&["a", "hit"]).inc_by(2);
        metrics.requests.with_label_values(&["b", "hit"]).inc();
        metrics.requests.with_label_values(&["b", "miss"]).inc();
        metrics.connections.with_label_values(&["agents"]).set(7);
        let figures = Figures::of(&metrics, &[]);
        assert_eq!(figures.requests, BTreeMap::from([("hit".to_owned(), 3), ("miss".to_owned(), 1)]));
        assert_eq!(figures.connections["agents"], 7);
        assert_eq!(figures.cache.hit_ratio, None);
    }

    #[test]
    fn the_hit_ratio_is_of_cached_routes_alone() {
        let environment = MemoryEnvironment::new().file("weir.toml", EXAMPLE);
        let routes = parse(&environment, Path::new("weir.toml")).unwrap().config.routes;
        let named = |wanted: fn(&Action) -> bool| &routes.iter().find(|route| wanted(&route.action)).unwrap().name;
        let (cached, other) =
            (named(|action| matches!(action, Action::Cache(_))), named(|action| !matches!(action, Action::Cache(_))));
        let metrics = Metrics::new();
        metrics.requests.with_label_values(&[cached, "hit"]).inc_by(3);
        metrics.requests.with_label_values(&[cached, "miss"]).inc();
        metrics.requests.with_label_values(&[other, "miss"]).inc_by(100);
        assert_eq!(Figures::of(&metrics, &routes).cache.hit_ratio, Some(0.75));
    }
}
