//! Counts and histograms of what the agents meet, behind one short lock.
//!
//! Memory: a histogram of about 200 KiB a route, about 100 bytes a second of the schedule, and what
//! [`Remember`](crate::Remember) allows.

use std::collections::HashMap;
use std::time::Duration;

use hdrhistogram::Histogram;

use crate::report::{ConnectionReport, FleetReport, Latency, RecordReport, Route, RouteReport, SecondReport};

/// How one request ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ending {
    /// With this status.
    Answered(u16),
    /// Without a connection.
    Connect,
    /// With a connection that ended too early.
    Reset,
    /// Without an answer in time.
    Timeout,
    /// With something that is not HTTP.
    Protocol,
}

/// One request, once it is over.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Exchange {
    pub(crate) route: Route,
    pub(crate) ending: Ending,
    /// From the time it was due.
    pub(crate) latency: Duration,
    /// Into the schedule.
    pub(crate) ended_after: Duration,
    pub(crate) bytes_up: u64,
    pub(crate) bytes_down: u64,
}

/// The records of one upload, once it is over.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct UploadResult {
    pub(crate) acknowledged: u64,
    pub(crate) refused: u64,
    pub(crate) in_doubt: u64,
}

#[derive(Debug)]
pub(crate) struct Recorder {
    routes: HashMap<Route, RouteRecord>,
    records: RecordReport,
    pub(crate) connections: ConnectionReport,
    series: Series,
}

#[derive(Debug)]
struct RouteRecord {
    counts: RouteReport,
    /// Microseconds.
    latency: Histogram<u64>,
}

/// The longest latency that a histogram tells apart.
const MAX_LATENCY_US: u64 = 3_600_000_000;

impl Recorder {
    pub(crate) fn new() -> Self {
        let record = || RouteRecord { counts: RouteReport::default(), latency: histogram(3) };
        Self {
            routes: Route::ALL.into_iter().map(|route| (route, record())).collect(),
            records: RecordReport::default(),
            connections: ConnectionReport::default(),
            series: Series::new(),
        }
    }

    /// A request leaves, with so many records in it and so many of them repeats.
    pub(crate) fn sent(&mut self, route: Route, records: u64, repeats: u64) {
        self.route(route).counts.sent += 1;
        self.records.sent += records;
        self.records.repeats += repeats;
    }

    pub(crate) fn held(&mut self, route: Route, after: Duration) {
        self.route(route).counts.held += 1;
        self.series.at(after).held += 1;
    }

    pub(crate) fn unsent(&mut self, route: Route, turns: u64) {
        self.route(route).counts.unsent += turns;
    }

    pub(crate) fn ended(&mut self, exchange: &Exchange) {
        let latency_us = u64::try_from(exchange.latency.as_micros()).unwrap_or(u64::MAX).clamp(1, MAX_LATENCY_US);
        let record = self.route(exchange.route);
        let counts = &mut record.counts;
        counts.bytes_up += exchange.bytes_up;
        counts.bytes_down += exchange.bytes_down;
        match exchange.ending {
            Ending::Answered(status) => {
                *counts.statuses.entry(status).or_default() += 1;
                counts.ok += u64::from(is_ok(status));
            }
            Ending::Connect => counts.errors.connect += 1,
            Ending::Reset => counts.errors.reset += 1,
            Ending::Timeout => counts.errors.timeout += 1,
            Ending::Protocol => counts.errors.protocol += 1,
        }
        let timed = matches!(exchange.ending, Ending::Answered(_) | Ending::Timeout);
        if timed {
            record.latency.saturating_record(latency_us);
        }
        let second = self.series.at(exchange.ended_after);
        second.requests += 1;
        match exchange.ending {
            Ending::Answered(status) => {
                second.ok += u32::from(is_ok(status));
                second.server_errors += u32::from(status >= 500);
            }
            _ => second.errors += 1,
        }
        if timed {
            self.series.latency.saturating_record(latency_us);
        }
    }

    pub(crate) fn upload_ended(&mut self, result: UploadResult, ended_after: Duration) {
        self.records.acknowledged += result.acknowledged;
        self.records.refused += result.refused;
        self.records.in_doubt += result.in_doubt;
        self.series.at(ended_after).records += u32::try_from(result.acknowledged).unwrap_or(u32::MAX);
    }

    pub(crate) fn forgotten(&mut self, records: u64) {
        self.records.forgotten += records;
    }

    /// The figures so far; what the recorder does not know is left at zero.
    pub(crate) fn report(&self) -> FleetReport {
        let routes = self.routes.iter().map(|(route, record)| {
            (*route, RouteReport { latency_ms: percentiles(&record.latency), ..record.counts.clone() })
        });
        let mut report = FleetReport { routes: routes.collect(), ..FleetReport::default() };
        report.agent_requests = report.routes.values().map(|counts| counts.sent).sum();
        report.bytes_up = report.routes.values().map(|counts| counts.bytes_up).sum();
        report.bytes_down = report.routes.values().map(|counts| counts.bytes_down).sum();
        report.records = self.records;
        report.connections = self.connections;
        report.series = self.series.report();
        report
    }

    fn route(&mut self, route: Route) -> &mut RouteRecord {
        self.routes.get_mut(&route).expect("a record was made for every route")
    }
}

/// Seconds that are over, and the one that is not.
#[derive(Debug)]
struct Series {
    seconds: Vec<SecondReport>,
    current: SecondReport,
    latency: Histogram<u64>,
}

impl Series {
    fn new() -> Self {
        Self { seconds: Vec::new(), current: SecondReport::default(), latency: histogram(2) }
    }

    /// The second to count in. What ends a moment late counts in the second that is current then.
    fn at(&mut self, after: Duration) -> &mut SecondReport {
        let second = u32::try_from(after.as_secs()).unwrap_or(u32::MAX);
        while self.current.second < second {
            let over = self.closed();
            self.seconds.push(over);
            self.latency.reset();
            self.current = SecondReport { second: over.second + 1, ..SecondReport::default() };
        }
        &mut self.current
    }

    /// The current second with its percentiles.
    fn closed(&self) -> SecondReport {
        let Latency { p50, p99, .. } = percentiles(&self.latency);
        SecondReport { p50_ms: p50, p99_ms: p99, ..self.current }
    }

    fn report(&self) -> Vec<SecondReport> {
        let mut seconds = self.seconds.clone();
        seconds.push(self.closed());
        seconds
    }
}

fn is_ok(status: u16) -> bool {
    matches!(status, 200..=299 | 304)
}

fn histogram(digits: u8) -> Histogram<u64> {
    Histogram::new_with_bounds(1, MAX_LATENCY_US, digits).expect("1 < 2 x 1 <= the bound, and the digits are 0 to 5")
}

fn percentiles(latency: &Histogram<u64>) -> Latency {
    let ms = |us: u64| us as f64 / 1000.0;
    let at = |quantile| ms(latency.value_at_quantile(quantile));
    Latency { p50: at(0.5), p90: at(0.9), p99: at(0.99), p999: at(0.999), max: ms(latency.max()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exchange(ending: Ending, latency_ms: u64, ended_after_ms: u64) -> Exchange {
        Exchange {
            route: Route::Config,
            ending,
            latency: Duration::from_millis(latency_ms),
            ended_after: Duration::from_millis(ended_after_ms),
            bytes_up: 10,
            bytes_down: 20,
        }
    }

    #[test]
    fn every_request_ends_as_a_status_or_an_error() {
        let mut recorder = Recorder::new();
        for ending in [Ending::Answered(304), Ending::Answered(503), Ending::Reset, Ending::Timeout] {
            recorder.sent(Route::Config, 0, 0);
            recorder.ended(&exchange(ending, 5, 100));
        }
        let report = recorder.report();
        let config = &report.routes[&Route::Config];
        assert_eq!((config.sent, config.ok, config.errors.total()), (4, 1, 2));
        assert_eq!(config.statuses.values().sum::<u64>() + config.errors.total(), config.sent);
        assert_eq!((report.bytes_up, report.bytes_down), (40, 80));
    }

    #[test]
    fn seconds_without_traffic_stand_in_the_series() {
        let mut recorder = Recorder::new();
        recorder.ended(&exchange(Ending::Answered(200), 5, 500));
        recorder.ended(&exchange(Ending::Answered(200), 900, 3100));
        let series = recorder.report().series;
        assert_eq!(series.iter().map(|second| second.requests).collect::<Vec<_>>(), [1, 0, 0, 1]);
        assert!((4.9..5.2).contains(&series[0].p50_ms), "{}", series[0].p50_ms);
        assert!(series[3].p99_ms > 890.0);
    }

    #[test]
    fn a_timeout_shows_in_the_latency() {
        let mut recorder = Recorder::new();
        recorder.ended(&exchange(Ending::Timeout, 30_000, 0));
        assert!(recorder.report().routes[&Route::Config].latency_ms.max >= 30_000.0);
    }
}
