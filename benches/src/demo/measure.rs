//! From what the fleet, the core and the node counted to the figures of the run. Nothing is measured twice: what agents met comes
//! from the fleet, what the core saw from the core, and only what neither can know from the node.

use std::collections::BTreeMap;

use weir_core_sim::Snapshot;
use weir_fleet::{FleetReport, Route, RouteReport};

use super::figures::{
    ConnectionFigures, FORMAT, Figures, KeyBalance, NodeFigures, Parameters, RouteFigures, Second, StreamFigures,
};
use super::plan::Phases;
use super::verdict::{UPLOADS, judge, steady_and_peak};
use crate::node::Usage;
use crate::status::{NodeStatus, StreamStatus};

/// Everything that was counted.
#[derive(Debug, Default)]
pub(super) struct Counted {
    pub(super) parameters: Parameters,
    pub(super) phases: Phases,
    /// At the end.
    pub(super) fleet: FleetReport,
    /// After the node's end.
    pub(super) core: Snapshot,
    /// The last word of the node before it was stopped.
    pub(super) status: NodeStatus,
    /// What the core answered, by the node's labels.
    pub(super) answered_by_core: BTreeMap<String, u64>,
    /// When the core went down and when it came back.
    pub(super) outage: Option<(Mark, Mark)>,
    pub(super) keys: Option<KeyBalance>,
    pub(super) usage: Usage,
    pub(super) exit_code: Option<i32>,
    /// What the node held, by second of the schedule.
    pub(super) held: BTreeMap<u32, StreamStatus>,
    pub(super) config: String,
}

/// Both sides at one moment.
#[derive(Clone, Debug, Default)]
pub(super) struct Mark {
    pub(super) fleet: FleetReport,
    pub(super) records_at_core: u64,
}

/// Records of the stream that the core has.
pub(super) fn records_at_core(core: &Snapshot) -> u64 {
    core.streams.get("process").map_or(0, |stream| stream.records)
}

/// A route's name in the node's configuration.
pub(crate) const fn name(route: Route) -> &'static str {
    match route {
        Route::Update => "updates",
        Route::Config => "config",
        Route::Tasks => "tasks",
        Route::Upload => UPLOADS,
    }
}

impl Counted {
    /// The figures, judged.
    pub(super) fn figures(self) -> Figures {
        let (fleet, core) = (&self.fleet, &self.core);
        let series = self.series();
        let (steady, peak) = steady_and_peak(&series, &self.phases).unwrap_or_default();
        let (acknowledged, at_core) = (fleet.records.acknowledged, records_at_core(core));
        let mut figures = Figures {
            format: FORMAT,
            phases: self.phases,
            agent_requests: fleet.agent_requests,
            agent_turns_held: fleet.routes.values().map(|route| route.held).sum(),
            agent_turns_unsent: fleet.routes.values().map(|route| route.unsent).sum(),
            origin_requests: core.requests,
            origin_reduction: fleet.agent_requests as f64 / core.requests.max(1) as f64,
            origin_steady_per_second: steady,
            origin_peak_per_second: peak,
            origin_peak_over_steady: if steady > 0.0 { peak / steady } else { 0.0 },
            agent_errors_by_route: by_route(fleet, |route| answers_from(route, 400) + route.errors.total()),
            server_errors_during_outage_by_route: self.server_errors_during_outage(),
            records_acknowledged: acknowledged,
            records_at_core: at_core,
            ledger_difference: difference(at_core, acknowledged),
            records_in_doubt: fleet.records.in_doubt,
            records_held_at_end: self.status.process().held,
            records_by_key: self.keys,
            bytes_from_agents: fleet.bytes_up,
            bytes_to_core: core.endpoints.values().map(|endpoint| endpoint.bytes_wire).sum(),
            latency_ms: by_route(fleet, |route| route.latency_ms),
            routes: self.routes(),
            stream: self.stream(),
            connections: ConnectionFigures {
                opened: fleet.connections.opened,
                reconnects: fleet.connections.reconnects,
                failed: fleet.connections.failed,
            },
            node: NodeFigures {
                outcomes: self.status.requests.clone(),
                hit_ratio: self.status.cache.hit_ratio,
                cpu_seconds: self.usage.cpu_seconds,
                peak_rss_bytes: self.usage.peak_rss_bytes,
                exit_code: self.exit_code,
            },
            series,
            ..Figures::default()
        };
        if let Some((down, up)) = &self.outage {
            let acknowledged_by_then = up.fleet.records.acknowledged;
            figures.records_acknowledged_during_outage = acknowledged_by_then - down.fleet.records.acknowledged;
            figures.records_waiting_at_recovery = acknowledged_by_then.saturating_sub(up.records_at_core);
        }
        figures.parameters = self.parameters;
        figures.config = self.config;
        figures.verdict = judge(&figures);
        figures
    }

    fn server_errors_during_outage(&self) -> BTreeMap<String, u64> {
        let Some((down, up)) = &self.outage else { return by_route(&self.fleet, |_| 0) };
        let before = by_route(&down.fleet, |route| answers_from(route, 500));
        let mut during = by_route(&up.fleet, |route| answers_from(route, 500));
        for (route, count) in &mut during {
            *count -= before.get(route).copied().unwrap_or(0);
        }
        during
    }

    fn routes(&self) -> BTreeMap<String, RouteFigures> {
        let origin = |route: Route| {
            // A stream's batches carry the stream's name, not the route's.
            let label = if route == Route::Upload { "process" } else { name(route) };
            self.answered_by_core.get(label).copied().unwrap_or(0)
        };
        let figures = self.fleet.routes.iter().map(|(route, report)| {
            let origin_requests = origin(*route);
            let reduction = report.sent as f64 / origin_requests.max(1) as f64;
            (name(*route).to_owned(), RouteFigures { agent_requests: report.sent, origin_requests, reduction })
        });
        figures.collect()
    }

    fn stream(&self) -> StreamFigures {
        let counts = self.core.streams.get("process").cloned().unwrap_or_default();
        StreamFigures {
            event_rows: counts.event_rows,
            repeat_rows: counts.repeat_rows,
            merged: counts.records.saturating_sub(counts.event_rows),
            batches: counts.batches,
            batches_repeated: self.core.batches.repeated,
            bytes_uploaded: self.fleet.routes.get(&Route::Upload).map_or(0, |route| route.bytes_up),
            bytes_inflated: counts.bytes_inflated,
            bytes_sent: counts.bytes_wire,
            discarded: self.status.process().discarded,
        }
    }

    fn series(&self) -> Vec<Second> {
        // The core counts from its own start. Its seconds begin at another moment than the fleet's, by half of one at most.
        let ahead_ms = self.fleet.started_unix_ms.saturating_sub(self.core.started_unix_ms);
        let ahead = usize::try_from((ahead_ms + 500) / 1_000).unwrap_or(usize::MAX);
        let last = self.phases.end.ceil();
        let seconds = self.fleet.series.iter().filter(|second| f64::from(second.second) < last);
        let held = |second: u32| self.held.range(..=second).next_back().map(|(_, held)| *held).unwrap_or_default();
        let joined = seconds.map(|second| {
            let at_core = (second.second as usize).saturating_add(ahead);
            let held = held(second.second);
            Second {
                second: second.second,
                agent_requests: second.requests,
                agent_errors: second.requests.saturating_sub(second.ok),
                origin_requests: self.core.per_second.get(at_core).copied().unwrap_or(0),
                records: second.records,
                held: held.held,
                outbox_batches: held.outbox_batches,
                p50_ms: second.p50_ms,
                p99_ms: second.p99_ms,
            }
        });
        joined.collect()
    }
}

fn by_route<T>(fleet: &FleetReport, figure: impl Fn(&RouteReport) -> T) -> BTreeMap<String, T> {
    fleet.routes.iter().map(|(route, report)| (name(*route).to_owned(), figure(report))).collect()
}

fn answers_from(route: &RouteReport, status: u16) -> u64 {
    route.statuses.range(status..).map(|(_, count)| count).sum()
}

fn difference(one: u64, other: u64) -> i64 {
    i64::try_from(i128::from(one) - i128::from(other)).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use weir_core_sim::StreamCounts;
    use weir_fleet::{ErrorCounts, RecordReport, SecondReport};

    use super::*;

    fn fleet(server_errors: u64, acknowledged: u64) -> FleetReport {
        let update = RouteReport {
            sent: 100,
            statuses: BTreeMap::from([(200, 90 - server_errors), (503, server_errors)]),
            errors: ErrorCounts { timeout: 2, ..ErrorCounts::default() },
            ..RouteReport::default()
        };
        FleetReport {
            started_unix_ms: 12_300,
            agent_requests: 100,
            routes: BTreeMap::from([(Route::Update, update)]),
            records: RecordReport { acknowledged, ..RecordReport::default() },
            series: vec![SecondReport { second: 0, requests: 100, ok: 97, ..SecondReport::default() }],
            ..FleetReport::default()
        }
    }

    fn core(records: u64) -> Snapshot {
        let stream = StreamCounts { records, event_rows: records, ..StreamCounts::default() };
        Snapshot {
            started_unix_ms: 10_000,
            requests: 4,
            per_second: vec![9, 9, 7, 9],
            streams: BTreeMap::from([("process".to_owned(), stream)]),
            ..Snapshot::default()
        }
    }

    fn counted() -> Counted {
        let down = Mark { fleet: fleet(1, 10), records_at_core: 10 };
        let up = Mark { fleet: fleet(3, 40), records_at_core: 10 };
        Counted {
            phases: Phases { end: 1.0, ..Phases::default() },
            fleet: fleet(3, 50),
            core: core(49),
            answered_by_core: BTreeMap::from([("updates".to_owned(), 4)]),
            outage: Some((down, up)),
            ..Counted::default()
        }
    }

    #[test]
    fn errors_are_counted_whole_and_for_the_outage_alone() {
        let figures = counted().figures();
        assert_eq!(figures.agent_errors_by_route["updates"], 5);
        assert_eq!(figures.server_errors_during_outage_by_route["updates"], 2);
    }

    #[test]
    fn the_ledger_is_what_the_core_has_minus_what_agents_were_told() {
        let figures = counted().figures();
        assert_eq!(figures.ledger_difference, -1);
        assert_eq!((figures.records_acknowledged_during_outage, figures.records_waiting_at_recovery), (30, 30));
    }

    #[test]
    fn both_series_are_laid_on_one_clock() {
        let figures = counted().figures();
        assert_eq!(figures.series.len(), 1);
        assert_eq!((figures.series[0].agent_requests, figures.series[0].agent_errors), (100, 3));
        assert_eq!(figures.series[0].origin_requests, 7);
        assert!((figures.routes["updates"].reduction - 25.0).abs() < 1e-9);
    }
}
