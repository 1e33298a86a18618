//! The counters that the requests of one route move, each looked up once: finding a series by its labels costs a lock and a hash, and a
//! request moves four.
//!
//! A series appears when the first request moves it, as if it were looked up each time. Memory: 1 KiB a route.

use std::sync::OnceLock;
use std::time::Duration;

use prometheus::{Histogram, IntCounter};
use weir_logic::Outcome;

use crate::metrics::Metrics;

/// The counters of one route under one configuration.
#[derive(Debug)]
pub struct RouteMeters {
    /// The route's place in the configuration; `None` stands for the requests that found none.
    pub number: Option<usize>,
    /// The route's name, in metrics.
    pub name: String,
    ended: [OnceLock<Ended>; Outcome::ALL.len()],
    duration: OnceLock<Histogram>,
}

/// What moves when a request of the route ends in one outcome.
#[derive(Debug)]
struct Ended {
    requests: IntCounter,
    answer_bytes: IntCounter,
    request_bytes: IntCounter,
}

/// A request that has ended.
#[derive(Clone, Copy, Debug)]
pub struct End {
    /// How.
    pub outcome: Outcome,
    /// Bytes of the answer's body written.
    pub answer_bytes: u64,
    /// Bytes of the request's body read.
    pub request_bytes: u64,
    /// The time from its headers to the end of its answer.
    pub took: Duration,
}

impl RouteMeters {
    /// The counters of the configuration's route of that number and name, none of them looked up.
    pub fn of(number: usize, name: &str) -> Self {
        Self { number: Some(number), name: name.into(), ended: Default::default(), duration: OnceLock::new() }
    }

    /// Those of the requests that found no route.
    pub fn of_none() -> Self {
        Self { number: None, name: "none".into(), ended: Default::default(), duration: OnceLock::new() }
    }

    /// Counts a request.
    pub fn count(&self, metrics: &Metrics, end: &End) {
        let ended = self.ended[end.outcome as usize].get_or_init(|| {
            let labels = [self.name.as_str(), end.outcome.label()];
            Ended {
                requests: metrics.requests.with_label_values(&labels),
                answer_bytes: metrics.answer_bytes.with_label_values(&labels),
                request_bytes: metrics.request_bytes.with_label_values(&labels),
            }
        });
        ended.requests.inc();
        ended.answer_bytes.inc_by(end.answer_bytes);
        // Most requests have no body, and a count that all processors share is not touched for nothing.
        if end.request_bytes > 0 {
            ended.request_bytes.inc_by(end.request_bytes);
        }
        let duration = self.duration.get_or_init(|| metrics.request_duration.with_label_values(&[self.name.as_str()]));
        duration.observe(end.took.as_secs_f64());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_outcome_has_a_place_of_its_own() {
        let metrics = Metrics::new();
        let meters = RouteMeters::of(3, "things");
        for (times, outcome) in Outcome::ALL.into_iter().enumerate() {
            let end = End { outcome, answer_bytes: 2, request_bytes: 1, took: Duration::from_millis(1) };
            (0..=times).for_each(|_| meters.count(&metrics, &end));
        }
        for (times, outcome) in Outcome::ALL.into_iter().enumerate() {
            let labels = ["things", outcome.label()];
            let times = times as u64 + 1;
            assert_eq!(metrics.requests.with_label_values(&labels).get(), times, "{outcome:?}");
            assert_eq!(metrics.answer_bytes.with_label_values(&labels).get(), 2 * times);
            assert_eq!(metrics.request_bytes.with_label_values(&labels).get(), times);
        }
        assert_eq!(metrics.request_duration.with_label_values(&["things"]).get_sample_count(), 91);
    }
}
