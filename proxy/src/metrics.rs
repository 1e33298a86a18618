//! Every metric of the node, in one registry. Label values are enums or names from the configuration, never an agent, a tenant
//! or a path.

use prometheus::{
    Gauge, GaugeVec, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry,
    TextEncoder,
};

/// The node's metrics. Fields are named as the metric without its prefix `weir_`.
#[derive(Clone)]
pub struct Metrics {
    registry: Registry,
    /// Requests by route and outcome: every request once.
    pub requests: IntCounterVec,
    /// Refusals by route and cause; a request that is refused counts in `requests` too.
    pub refusals: IntCounterVec,
    /// Answers that are stale or went past the cache, by route, outcome and cause; they count in `requests` too.
    pub explained: IntCounterVec,
    /// Bytes of answers' bodies by route and outcome.
    pub answer_bytes: IntCounterVec,
    /// Bytes of requests' bodies by route and outcome.
    pub request_bytes: IntCounterVec,
    /// Time from a request's headers to the end of its answer, by route.
    pub request_duration: HistogramVec,
    /// Requests shed by class.
    pub shed: IntCounterVec,
    /// Requests that a limit would have turned away if it were no shadow; by limit.
    pub limit_shadow: IntCounterVec,
    /// Agents that came back before the time that `Retry-After` had told them.
    pub agents_early: IntCounter,
    /// Agents that have been told to come back and whose time has not come; by class.
    pub agents_returning: IntGaugeVec,
    /// What agents were told in `Retry-After`; by class.
    pub retry_after: HistogramVec,
    /// Requests being worked on.
    pub requests_in_flight: IntGauge,
    /// Bytes of request bodies held in memory, as they came, unpacked and waiting for their journal.
    pub buffered_bytes: IntGauge,
    /// Times that memory for a body was refused, by cause: full, `tenant_share`.
    pub buffered_refused: IntCounterVec,

    /// Open connections by listener.
    pub connections: IntGaugeVec,
    /// Connections accepted by listener.
    pub connections_accepted: IntCounterVec,
    /// Connections refused by listener and cause.
    pub connections_refused: IntCounterVec,
    /// Connections that ended after they were established, by listener and reason: agent, idle, age, drain, refused.
    pub connections_ended: IntCounterVec,
    /// Handshakes by kind: full, resumed, failed, timeout.
    pub handshakes: IntCounterVec,
    /// Handshakes that run now, by listener; at `max_handshakes` the next ones wait in the kernel's queue.
    pub handshakes_running: IntGaugeVec,
    /// Tickets that agents showed and that resumed nothing, by cause: key (unknown, or the ticket is damaged), age,
    /// certificate (expired), denied.
    pub tickets_refused: IntCounterVec,
    /// The end of each certificate's validity, in seconds since the Unix epoch, by listener.
    pub certificate_expiry: IntGaugeVec,

    /// Stored answers.
    pub cache_entries: IntGauge,
    /// Bytes of stored answers, keys and headers included.
    pub cache_bytes: IntGauge,
    /// Stored answers that left to make room.
    pub cache_evictions: IntCounter,
    /// The part of the agents that the release on its way has reached, by route: of several keys the least; 1 when none is.
    pub rollout_fraction: GaugeVec,
    /// Answers while a release is on its way, by route and release: current, previous.
    pub rollout_answers: IntCounterVec,
    /// What became of releases, by route: begun, replaced, withdrawn, finished, crowded_out.
    pub rollout_events: IntCounterVec,
    /// Releases kept on disk that could not be read on start.
    pub rollout_damage: IntCounter,
    /// Why manifests, by route, and payloads that are not what a manifest in use says (another) were not used.
    pub payload_faults: IntCounterVec,
    /// Purges by what they named.
    pub cache_purges: IntCounterVec,
    /// Stored answers whose memory was given back after a purge.
    pub cache_purged: IntCounter,
    /// Fills by route and how they ended.
    pub cache_fills: IntCounterVec,
    /// Answers on disk.
    pub packages: IntGauge,
    /// Bytes of answers on disk.
    pub package_bytes: IntGauge,
    /// Answers on disk that left to make room.
    pub package_evictions: IntCounter,
    /// Answers on disk that were damaged or missing.
    pub package_damaged: IntCounter,
    /// Agents that are given an answer from disk.
    pub package_readers: IntGauge,
    /// Requests for the rest of answers on disk that the core broke off, by route and result.
    pub package_resumes: IntCounterVec,

    /// Keys that lookups asked for, by route and how each was answered.
    pub lookup_keys: IntCounterVec,
    /// Bulk requests by route and how they ended.
    pub lookup_bulk_requests: IntCounterVec,
    /// Requests waiting for a lookup, by route.
    pub lookup_waiters: IntGaugeVec,

    /// Uploads by stream and result.
    pub uploads: IntCounterVec,
    /// Uploads refused as a whole for what is in them, by stream and reason, the bound that they pass among them.
    pub uploads_refused: IntCounterVec,
    /// Ledger: records acknowledged to agents, by stream.
    pub records_accepted: IntCounterVec,
    /// Ledger: records that the core has accepted as rows of their own, by stream.
    pub records_forwarded: IntCounterVec,
    /// Ledger: records that the core has accepted as part of a repeat's count, by stream.
    pub records_merged: IntCounterVec,
    /// Ledger: records given up, by stream and reason.
    pub records_discarded: IntCounterVec,
    /// Ledger: records put back from the dead letters, by stream.
    pub records_revived: IntCounterVec,
    /// What was lost by stream and reason, each of which the core is told: records, or rows that left early.
    pub losses: IntCounterVec,
    /// Entries, notes and files lost of which nobody can say how many records they held, by stream and reason.
    pub loss_parts: IntCounterVec,
    /// Ledger: records in the journal or the outbox, by stream.
    pub records_held: IntGaugeVec,
    /// Records refused by index in otherwise accepted uploads, by stream and reason: never acknowledged.
    pub records_refused: IntCounterVec,
    /// 1 while a stream turns uploads away, by stream and reason: disk, journal, outbox, broken.
    pub stream_shut: IntGaugeVec,
    /// Bytes of journal on disk, by stream.
    pub journal_bytes: IntGaugeVec,
    /// Bytes of journal that have not been merged yet, by stream.
    pub journal_unread_bytes: IntGaugeVec,
    /// Time of one group commit, by stream.
    pub journal_commit: HistogramVec,
    /// Keys held open by merge windows, by stream.
    pub merge_keys: IntGaugeVec,
    /// Memory that these take, counted from above, by stream.
    pub merge_bytes: IntGaugeVec,
    /// Merge windows, and tenants' parts of all windows, that left early, by stream.
    pub merge_early: IntCounterVec,
    /// Batches not yet accepted by the core, by stream.
    pub outbox_batches: IntGaugeVec,
    /// Bytes of these batches, by stream.
    pub outbox_bytes: IntGaugeVec,
    /// Age of the oldest of these batches in seconds, by stream.
    pub outbox_oldest: IntGaugeVec,
    /// 1 while batches wait and the core has accepted none for 30 seconds, by stream.
    pub outbox_stalled: IntGaugeVec,
    /// Batches that could not be delivered for some time, by stream.
    pub outbox_backlog_batches: IntGaugeVec,
    /// Bytes of these, by stream.
    pub outbox_backlog_bytes: IntGaugeVec,
    /// Records a second that the core has taken over the last minute, by stream.
    pub outbox_drain_records: GaugeVec,
    /// Bytes a second that the core has taken over the last minute, by stream.
    pub outbox_drain_bytes: GaugeVec,
    /// Seconds until the outbox is empty if it goes on like this, by stream; absent when it does not get emptier.
    pub outbox_empty_in: GaugeVec,
    /// 1 while the core blames the configuration or the credentials and deliveries rest, by stream and cause:
    /// credentials, address, other.
    pub delivery_paused: IntGaugeVec,
    /// Files among the dead letters, by stream.
    pub dead_letter_files: IntGaugeVec,
    /// Bytes of these, by stream.
    pub dead_letter_bytes: IntGaugeVec,
    /// Bytes of batches made, by stream and form: raw, compressed.
    pub batch_bytes: IntCounterVec,
    /// Batches by stream and how an attempt to send one ended.
    pub batches: IntCounterVec,
    /// Damaged or torn parts found on start, by stream and kind.
    pub spool_damage: IntCounterVec,
    /// Agents that the presence table holds for its next report.
    pub presence_agents: IntGauge,

    /// Requests to a core by core, label (route or stream) and result.
    pub core_requests: IntCounterVec,
    /// Time of a request to a core, by core.
    pub core_duration: HistogramVec,
    /// Requests in flight to a core.
    pub core_gate_inflight: IntGaugeVec,
    /// Requests that may be in flight to a core.
    pub core_gate_limit: IntGaugeVec,
    /// Requests that the gate turned away, by core and reason.
    pub core_gate_refused: IntCounterVec,
    /// Retries asked of a core's budget; by core and whether there was one left.
    pub core_retries: IntCounterVec,
    /// Times that a machine was left out for its failures; by core.
    pub core_ejections: IntCounterVec,
    /// Times that the limit on requests in flight was cut; by core and cause.
    pub core_gate_cuts: IntCounterVec,
    /// The breaker: 0 closed, 1 half open, 2 open; by core.
    pub breaker_state: IntGaugeVec,
    /// Requests a second that the gate admits now, by core.
    pub core_admitted_rate: IntGaugeVec,
    /// Peers that are healthy, by core.
    pub core_peers_healthy: IntGaugeVec,

    /// The generation of the configuration in force; each applied reload adds one.
    pub config_generation: IntGauge,
    /// Reloads by result: applied, refused.
    pub config_reloads: IntCounterVec,
    /// Log lines held back because their cause had logged enough for its period.
    pub log_suppressed: IntCounter,
    /// Seconds since the Unix epoch at which the node started.
    pub started: Gauge,
}

impl Metrics {
    /// A registry with every metric at zero.
    #[expect(clippy::too_many_lines, reason = "a table: one line a metric")]
    pub fn new() -> Self {
        let registry = Registry::new();
        let make = Maker { registry: &registry };
        Self {
            requests: make.counters("requests_total", "Requests by outcome.", &["route", "outcome"]),
            refusals: make.counters("refusals_total", "Refusals by cause.", &["route", "cause"]),
            explained: make.counters(
                "answers_explained_total",
                "Answers stale or past the cache.",
                &["route", "outcome", "cause"],
            ),
            answer_bytes: make.counters("answer_bytes_total", "Bytes of answers' bodies.", &["route", "outcome"]),
            request_bytes: make.counters("request_bytes_total", "Bytes of requests' bodies.", &["route", "outcome"]),
            request_duration: make.histograms(
                "request_duration_seconds",
                "Time to answer.",
                &["route"],
                REQUEST_BUCKETS,
            ),
            shed: make.counters("shed_total", "Requests shed.", &["class", "reason"]),
            limit_shadow: make.counters("limit_shadow_total", "Requests past a limit that only counts.", &["limit"]),
            agents_early: make.counter("agents_early_total", "Agents that came back before their time."),
            agents_returning: make.gauges("agents_returning", "Agents told to come back.", &["class"]),
            retry_after: make.histograms("retry_after_seconds", "Retry-After as told.", &["class"], PATIENCE_BUCKETS),
            requests_in_flight: make.gauge("requests_in_flight", "Requests being worked on."),
            buffered_bytes: make.gauge("buffered_bytes", "Bytes of request bodies in memory."),
            buffered_refused: make.counters("buffered_refused_total", "Memory refused to a body.", &["cause"]),

            connections: make.gauges("connections", "Open connections.", &["listener"]),
            connections_accepted: make.counters("connections_accepted_total", "Connections accepted.", &["listener"]),
            connections_refused: make.counters(
                "connections_refused_total",
                "Connections closed before a request.",
                &["listener", "cause"],
            ),
            connections_ended: make.counters(
                "connections_ended_total",
                "Connections ended after they were established.",
                &["listener", "reason"],
            ),
            handshakes: make.counters("handshakes_total", "TLS handshakes.", &["kind"]),
            handshakes_running: make.gauges("handshakes_running", "TLS handshakes under way.", &["listener"]),
            tickets_refused: make.counters("tickets_refused_total", "Tickets that resumed nothing.", &["cause"]),
            certificate_expiry: make.gauges(
                "certificate_expiry_timestamp_seconds",
                "End of the certificate's validity.",
                &["listener"],
            ),

            cache_entries: make.gauge("cache_entries", "Stored answers."),
            cache_bytes: make.gauge("cache_bytes", "Bytes of stored answers."),
            cache_evictions: make.counter("cache_evictions_total", "Stored answers that left to make room."),
            rollout_fraction: make.float_gauges(
                "rollout_fraction",
                "Part of the agents that the release on its way has reached; 1 when none is.",
                &["route"],
            ),
            rollout_answers: make.counters(
                "rollout_answers_total",
                "Answers while a release is on its way.",
                &["route", "release"],
            ),
            rollout_events: make.counters("rollout_events_total", "What became of releases.", &["route", "event"]),
            rollout_damage: make.counter("rollout_damage_total", "Kept releases that could not be read."),
            payload_faults: make.counters(
                "payload_faults_total",
                "Manifests and payloads that were not used.",
                &["route", "cause"],
            ),
            cache_purges: make.counters("cache_purges_total", "Purges.", &["kind"]),
            cache_purged: make.counter("cache_purged_total", "Stored answers swept out after a purge."),
            cache_fills: make.counters("cache_fills_total", "Fills by result.", &["route", "result"]),
            packages: make.gauge("packages", "Answers on disk."),
            package_bytes: make.gauge("package_bytes", "Bytes of answers on disk, with what is kept beside them."),
            package_evictions: make.counter("package_evictions_total", "Answers on disk that left to make room."),
            package_damaged: make.counter("package_damaged_total", "Answers on disk found damaged or missing."),
            package_readers: make.gauge("package_readers", "Agents that are given an answer from disk."),
            package_resumes: make.counters(
                "package_resumes_total",
                "Requests for the rest of answers on disk that the core broke off.",
                &["route", "result"],
            ),

            lookup_keys: make.counters("lookup_keys_total", "Keys looked up.", &["route", "result"]),
            lookup_bulk_requests: make.counters("lookup_bulk_requests_total", "Bulk requests.", &["route", "result"]),
            lookup_waiters: make.gauges("lookup_waiters", "Requests waiting for a lookup.", &["route"]),

            uploads: make.counters("uploads_total", "Uploads by result.", &["stream", "result"]),
            uploads_refused: make.counters("uploads_refused_total", "Uploads refused.", &["stream", "reason"]),
            records_accepted: make.counters("records_accepted_total", "Records acknowledged.", &["stream"]),
            records_forwarded: make.counters("records_forwarded_total", "Records delivered as rows.", &["stream"]),
            records_merged: make.counters(
                "records_merged_total",
                "Records delivered in a repeat's count.",
                &["stream"],
            ),
            records_discarded: make.counters("records_discarded_total", "Records given up.", &["stream", "reason"]),
            records_revived: make.counters("records_revived_total", "Dead letters put back.", &["stream"]),
            losses: make.counters("losses_total", "Losses told to the core.", &["stream", "reason"]),
            loss_parts: make.counters("loss_parts_total", "Lost parts of unknown size.", &["stream", "reason"]),
            records_held: make.gauges("records_held", "Records in journal or outbox.", &["stream"]),
            records_refused: make.counters("records_refused_total", "Records refused by index.", &["stream", "reason"]),
            stream_shut: make.gauges("stream_shut", "1 while uploads are turned away.", &["stream", "reason"]),
            journal_bytes: make.gauges("journal_bytes", "Bytes of journal.", &["stream"]),
            journal_unread_bytes: make.gauges("journal_unread_bytes", "Bytes of journal not merged yet.", &["stream"]),
            journal_commit: make.histograms(
                "journal_commit_seconds",
                "Time of a group commit.",
                &["stream"],
                COMMIT_BUCKETS,
            ),
            merge_keys: make.gauges("merge_keys", "Keys in open merge windows.", &["stream"]),
            merge_bytes: make.gauges(
                "merge_bytes",
                "Memory that open merge windows take, counted from above.",
                &["stream"],
            ),
            merge_early: make.counters(
                "merge_early_total",
                "Windows, and tenants, that left early for want of room.",
                &["stream"],
            ),
            outbox_batches: make.gauges("outbox_batches", "Batches to deliver.", &["stream"]),
            outbox_bytes: make.gauges("outbox_bytes", "Bytes of batches to deliver.", &["stream"]),
            outbox_oldest: make.gauges("outbox_oldest_seconds", "Age of the oldest batch to deliver.", &["stream"]),
            outbox_stalled: make.gauges("outbox_stalled", "1 while batches wait and none is accepted.", &["stream"]),
            outbox_backlog_batches: make.gauges("outbox_backlog_batches", "Batches of the backlog.", &["stream"]),
            outbox_backlog_bytes: make.gauges("outbox_backlog_bytes", "Bytes of the backlog.", &["stream"]),
            outbox_drain_records: make.float_gauges(
                "outbox_drain_records_per_second",
                "Records taken by the core over the last minute.",
                &["stream"],
            ),
            outbox_drain_bytes: make.float_gauges(
                "outbox_drain_bytes_per_second",
                "Bytes taken by the core over the last minute.",
                &["stream"],
            ),
            outbox_empty_in: make.float_gauges(
                "outbox_empty_in_seconds",
                "Time until the outbox is empty; absent when it does not get emptier.",
                &["stream"],
            ),
            delivery_paused: make.gauges(
                "delivery_paused",
                "1 while the core blames the configuration and deliveries rest.",
                &["stream", "cause"],
            ),
            dead_letter_files: make.gauges("dead_letter_files", "Files of dead letters.", &["stream"]),
            dead_letter_bytes: make.gauges("dead_letter_bytes", "Bytes of dead letters.", &["stream"]),
            batch_bytes: make.counters("batch_bytes_total", "Bytes of batches made.", &["stream", "form"]),
            batches: make.counters("batches_total", "Attempts to deliver a batch.", &["stream", "result"]),
            spool_damage: make.counters("spool_damage_total", "Damage found on start.", &["stream", "kind"]),
            presence_agents: make.gauge("presence_agents", "Agents in the next presence report."),

            core_requests: make.counters("core_requests_total", "Requests to a core.", &["core", "label", "result"]),
            core_duration: make.histograms(
                "core_request_duration_seconds",
                "Time to an answer.",
                &["core"],
                REQUEST_BUCKETS,
            ),
            core_gate_inflight: make.gauges("core_gate_inflight", "Requests in flight to a core.", &["core"]),
            core_gate_limit: make.gauges("core_gate_limit", "Requests that may be in flight.", &["core"]),
            core_gate_refused: make.counters(
                "core_gate_refused_total",
                "Turned away at the gate.",
                &["core", "reason"],
            ),
            core_retries: make.counters(
                "core_retries_total",
                "Retries scheduled, or refused by the budget.",
                &["core", "result"],
            ),
            core_ejections: make.counters(
                "core_ejections_total",
                "Machines left out for their failures while others answered.",
                &["core"],
            ),
            core_gate_cuts: make.counters(
                "core_gate_cuts_total",
                "Cuts of the limit on requests in flight.",
                &["core", "cause"],
            ),
            breaker_state: make.gauges("breaker_state", "0 closed, 1 half open, 2 open.", &["core"]),
            core_admitted_rate: make.gauges("core_admitted_rate", "Requests a second admitted.", &["core"]),
            core_peers_healthy: make.gauges("core_peers_healthy", "Healthy peers.", &["core"]),

            config_generation: make.gauge("config_generation", "Generation of the configuration in force."),
            config_reloads: make.counters("config_reloads_total", "Reloads by result.", &["result"]),
            log_suppressed: make.counter("log_lines_suppressed_total", "Log lines held back."),
            started: make.float_gauge("start_time_seconds", "When the node started."),
            registry,
        }
    }

    /// All metrics in Prometheus's text format.
    pub fn render(&self) -> String {
        TextEncoder::new().encode_to_string(&self.registry.gather()).unwrap_or_default()
    }

    /// The registry, for tests that read single values.
    pub fn registry(&self) -> &Registry {
        &self.registry
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

/// Seconds; long waits matter during an outage, so the buckets reach ten minutes.
const REQUEST_BUCKETS: &[f64] = &[
    0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 60.0, 600.0,
];

/// Seconds; from the shortest that an agent is told to half an hour.
const PATIENCE_BUCKETS: &[f64] = &[5.0, 10.0, 20.0, 40.0, 80.0, 160.0, 320.0, 640.0, 1800.0];

/// Seconds; a group commit is one `fsync`.
const COMMIT_BUCKETS: &[f64] = &[0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 10.0];

struct Maker<'a> {
    registry: &'a Registry,
}

impl Maker<'_> {
    fn add<M: prometheus::core::Collector + Clone + 'static>(&self, metric: prometheus::Result<M>) -> M {
        let metric = metric.expect("names and labels are literals that a test has seen valid");
        self.registry.register(Box::new(metric.clone())).expect("names are literals that a test has seen unique");
        metric
    }

    fn opts(name: &str, help: &str) -> Opts {
        Opts::new(name, help).namespace("weir")
    }

    fn counter(&self, name: &str, help: &str) -> IntCounter {
        self.add(IntCounter::with_opts(Self::opts(name, help)))
    }

    fn counters(&self, name: &str, help: &str, labels: &[&str]) -> IntCounterVec {
        self.add(IntCounterVec::new(Self::opts(name, help), labels))
    }

    fn gauge(&self, name: &str, help: &str) -> IntGauge {
        self.add(IntGauge::with_opts(Self::opts(name, help)))
    }

    fn gauges(&self, name: &str, help: &str, labels: &[&str]) -> IntGaugeVec {
        self.add(IntGaugeVec::new(Self::opts(name, help), labels))
    }

    fn float_gauges(&self, name: &str, help: &str, labels: &[&str]) -> GaugeVec {
        self.add(GaugeVec::new(Self::opts(name, help), labels))
    }

    fn float_gauge(&self, name: &str, help: &str) -> Gauge {
        self.add(Gauge::with_opts(Self::opts(name, help)))
    }

    fn histograms(&self, name: &str, help: &str, labels: &[&str], buckets: &[f64]) -> HistogramVec {
        let opts = HistogramOpts { common_opts: Self::opts(name, help), buckets: buckets.to_vec() };
        self.add(HistogramVec::new(opts, labels))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_metric_registers_once_and_renders() {
        let metrics = Metrics::new();
        metrics.requests.with_label_values(&["tasks", "hit"]).inc();
        assert!(metrics.render().contains(r#"weir_requests_total{outcome="hit",route="tasks"} 1"#));
    }
}
