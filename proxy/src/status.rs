//! `/status`: the state of the node in one JSON document, for people and scripts.
//!
//! Figures are read from the metrics, so that the two never disagree; only what no metric says comes from its owner.

use std::collections::BTreeMap;

use prometheus::proto::{MetricFamily, MetricType};
use serde::Serialize;
use weir_logic::Outcome;

use crate::metrics::Metrics;
use crate::upstream::CoreStatus;

/// The state of the node.
#[derive(Clone, Debug, Serialize)]
pub struct Status {
    /// The version of the binary.
    pub version: &'static str,
    /// The node's name.
    pub edge: String,
    /// The region.
    pub region: String,
    /// Where in its life the node is.
    pub phase: &'static str,
    /// Whether agents should be sent here, and why not.
    pub readiness: crate::admin::Readiness,
    /// The generation of the configuration in force.
    pub generation: u64,
    /// Seconds since the start.
    pub uptime_seconds: u64,
    /// The cores: breaker, gate, machines.
    pub cores: Vec<CoreStatus>,
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
    /// Streams by name.
    pub streams: BTreeMap<String, StreamFigures>,
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
    /// The part of the requests for stored or looked up answers that cost the core no request of its own; `null` before the first.
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

/// A stream in figures. `accepted` = `forwarded` + `merged` + `discarded` + `held`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct StreamFigures {
    /// Records acknowledged to agents.
    pub accepted: u64,
    /// Records that the core has as rows of their own.
    pub forwarded: u64,
    /// Records that the core has in a repeat's count.
    pub merged: u64,
    /// Records given up: dead-lettered, expired.
    pub discarded: u64,
    /// Records in journal or outbox.
    pub held: u64,
    /// Bytes of journal.
    pub journal_bytes: u64,
    /// Batches to deliver.
    pub outbox_batches: u64,
    /// Their bytes.
    pub outbox_bytes: u64,
    /// The age of the oldest of them.
    pub outbox_oldest_seconds: u64,
    /// Keys in open merge windows.
    pub merge_keys: u64,
}

impl Figures {
    /// Reads the metrics.
    pub fn of(metrics: &Metrics) -> Self {
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
                hit_ratio: hit_ratio(&requests),
            },
            lookups: LookupFigures {
                keys: families.by("weir_lookup_keys_total", "result"),
                bulk_requests: families.by("weir_lookup_bulk_requests_total", "result"),
                waiting: families.total("weir_lookup_waiters"),
            },
            streams: families.streams(),
            requests,
        }
    }
}

/// The outcomes of routes that answer from what is stored or shared, and those among them that cost no origin request.
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
        for (value, count) in self.series(name, label) {
            *sums.entry(value).or_default() += count;
        }
        sums
    }

    /// The sum over all series.
    fn total(&self, name: &str) -> u64 {
        self.series(name, "").map(|(_, count)| count).sum()
    }

    fn series<'a>(&'a self, name: &str, label: &'a str) -> impl Iterator<Item = (String, u64)> + 'a {
        let family = self.0.iter().find(|family| family.name() == name);
        let kind = family.map(MetricFamily::get_field_type);
        family.into_iter().flat_map(|family| family.get_metric()).map(move |metric| {
            let pairs = metric.get_label();
            let value = pairs.iter().find(|pair| pair.name() == label).map_or("", |pair| pair.value());
            let count = if kind == Some(MetricType::COUNTER) {
                metric.get_counter().get_value()
            } else {
                metric.get_gauge().get_value()
            };
            (value.to_owned(), whole(count))
        })
    }

    fn streams(&self) -> BTreeMap<String, StreamFigures> {
        let mut streams: BTreeMap<String, StreamFigures> = BTreeMap::new();
        for (name, field) in STREAM_METRICS {
            for (stream, count) in self.series(name, "stream") {
                *field(streams.entry(stream).or_default()) += count;
            }
        }
        streams
    }
}

type Field = fn(&mut StreamFigures) -> &mut u64;

const STREAM_METRICS: &[(&str, Field)] = &[
    ("weir_records_accepted_total", |stream| &mut stream.accepted),
    ("weir_records_forwarded_total", |stream| &mut stream.forwarded),
    ("weir_records_merged_total", |stream| &mut stream.merged),
    ("weir_records_discarded_total", |stream| &mut stream.discarded),
    ("weir_records_held", |stream| &mut stream.held),
    ("weir_journal_bytes", |stream| &mut stream.journal_bytes),
    ("weir_outbox_batches", |stream| &mut stream.outbox_batches),
    ("weir_outbox_bytes", |stream| &mut stream.outbox_bytes),
    ("weir_outbox_oldest_seconds", |stream| &mut stream.outbox_oldest_seconds),
    ("weir_merge_keys", |stream| &mut stream.merge_keys),
];

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
    use super::*;

    #[test]
    fn figures_are_the_metrics_summed() {
        let metrics = Metrics::new();
        metrics.requests.with_label_values(&["a", "hit"]).inc_by(2);
        metrics.requests.with_label_values(&["b", "hit"]).inc();
        metrics.requests.with_label_values(&["b", "miss"]).inc();
        metrics.connections.with_label_values(&["agents"]).set(7);
        metrics.records_accepted.with_label_values(&["process"]).inc_by(10);
        metrics.records_discarded.with_label_values(&["process", "poison"]).inc();
        metrics.records_discarded.with_label_values(&["process", "expired"]).inc();
        let figures = Figures::of(&metrics);
        assert_eq!(figures.requests, BTreeMap::from([("hit".to_owned(), 3), ("miss".to_owned(), 1)]));
        assert_eq!(figures.cache.hit_ratio, Some(0.75));
        assert_eq!(figures.connections["agents"], 7);
        assert_eq!((figures.streams["process"].accepted, figures.streams["process"].discarded), (10, 2));
    }

    #[test]
    fn a_stream_shows_its_ledger_and_its_spool() {
        let metrics = Metrics::new();
        let stream = &["process"];
        metrics.records_accepted.with_label_values(stream).inc_by(1);
        metrics.records_forwarded.with_label_values(stream).inc_by(2);
        metrics.records_merged.with_label_values(stream).inc_by(3);
        metrics.records_discarded.with_label_values(&["process", "poison"]).inc_by(4);
        metrics.records_held.with_label_values(stream).set(5);
        metrics.journal_bytes.with_label_values(stream).set(6);
        metrics.outbox_batches.with_label_values(stream).set(7);
        metrics.outbox_bytes.with_label_values(stream).set(8);
        metrics.outbox_oldest.with_label_values(stream).set(9);
        metrics.merge_keys.with_label_values(stream).set(10);
        let expected = StreamFigures {
            accepted: 1,
            forwarded: 2,
            merged: 3,
            discarded: 4,
            held: 5,
            journal_bytes: 6,
            outbox_batches: 7,
            outbox_bytes: 8,
            outbox_oldest_seconds: 9,
            merge_keys: 10,
        };
        assert_eq!(Figures::of(&metrics).streams["process"], expected);
    }
}
