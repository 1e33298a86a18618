//! What became of a trace's requests, as figures of all requests that they stand for.

use std::collections::BTreeMap;
use std::time::Duration;

use weir_config::{Action, Route};

use crate::whatif::{Ages, Served};

/// A trace that has been played under a configuration.
#[derive(Clone, Debug, Default)]
pub struct Play {
    /// What became of the requests, by the route that took them.
    pub routes: BTreeMap<String, Played>,
    /// Lines that no route took, by the route that took them when they were recorded.
    pub unmatched: BTreeMap<String, u64>,
}

/// What became of one route's requests.
#[derive(Clone, Debug)]
pub struct Played {
    /// The route's name.
    pub route: String,
    /// Its class.
    pub class: String,
    /// Its action.
    pub action: &'static str,
    /// The time that the figures cover.
    pub covered: Duration,
    /// Requests, those that were not recorded included.
    pub requests: f64,
    /// The longest TTL that an answer was granted.
    pub longest_ttl: Duration,
    /// Recorded requests.
    lines: f64,
    /// How many requests a recorded one stands for.
    stands_for: f64,
    asked: Share,
    waited: Share,
    stale: f64,
    failed: f64,
    refused: f64,
    bytes: Share,
    /// Of each key the square of its requests.
    squares: f64,
    /// Recorded requests for keys that were asked for once.
    once: f64,
    ages: Ages,
    bulk: Option<Bulk>,
}

/// Recorded requests that are of a kind.
#[derive(Clone, Copy, Debug, Default)]
struct Share {
    count: f64,
    /// Of each key the product of its requests of the kind with all its requests.
    products: f64,
}

/// What a request met.
pub(super) struct Met {
    age: Option<Duration>,
    stale: bool,
    waits: bool,
    failed: bool,
    refused: bool,
    /// Requests to the core that it caused.
    pub(super) asks: u32,
    /// Bytes of answers that the core sent for that.
    pub(super) bytes: u64,
    ttl: Duration,
}

/// What one key's requests have met.
#[derive(Clone, Copy, Debug)]
pub(super) struct Record {
    pub(super) route: u32,
    requests: f64,
    asked: f64,
    waited: f64,
    bytes: f64,
}

/// Lookups that travel together.
#[derive(Clone, Debug)]
struct Bulk {
    window: f64,
    max_keys: f64,
    second: u64,
    asked: f64,
    requests: f64,
}

impl Met {
    const NOTHING: Self = Self {
        age: None,
        stale: false,
        waits: false,
        failed: false,
        refused: false,
        asks: 0,
        bytes: 0,
        ttl: Duration::ZERO,
    };
    /// An upload, which leaves in a batch.
    pub(super) const TAKEN: Self = Self::NOTHING;
    /// It lacks what its key is made of.
    pub(super) const REFUSED: Self = Self { refused: true, ..Self::NOTHING };
    /// The core fails, and nothing is kept.
    pub(super) const FAILED: Self = Self { failed: true, ..Self::NOTHING };

    pub(super) fn passed_through(bytes: u64) -> Self {
        Self { waits: true, asks: 1, bytes, ..Self::NOTHING }
    }

    pub(super) fn of(served: Served, ahead: bool, ttl: Duration) -> Self {
        let asks = u32::from(ahead) + u32::from(matches!(served, Served::Asks | Served::Stale { asks: true, .. }));
        let age = match served {
            Served::Fresh(age) | Served::Stale { age, .. } => Some(age),
            Served::Asks | Served::Joins => None,
        };
        let (stale, waits) = (matches!(served, Served::Stale { .. }), matches!(served, Served::Asks | Served::Joins));
        Self { age, stale, waits, asks, ttl, ..Self::NOTHING }
    }
}

impl Record {
    pub(super) fn of(route: u32) -> Self {
        Self { route, requests: 0.0, asked: 0.0, waited: 0.0, bytes: 0.0 }
    }

    #[expect(clippy::cast_precision_loss, reason = "bytes of answers")]
    pub(super) fn add(&mut self, met: &Met) {
        self.requests += 1.0;
        self.asked += f64::from(met.asks);
        self.waited += f64::from(u8::from(met.waits));
        self.bytes += met.bytes as f64;
    }
}

impl Played {
    pub(super) fn new(route: &Route, covered: Duration, sample: f64) -> Self {
        let (action, bulk) = match &route.action {
            Action::Cache(_) => ("cache", None),
            Action::Lookup(lookup) => ("lookup", Some(Bulk::new(lookup.window, lookup.max_keys))),
            Action::Aggregate(_) => ("aggregate", None),
            Action::Forward(_) => ("forward", None),
        };
        Self {
            route: route.name.clone(),
            class: route.class.as_str().to_owned(),
            action,
            covered,
            requests: 0.0,
            longest_ttl: Duration::ZERO,
            lines: 0.0,
            stands_for: 1.0 / sample,
            asked: Share::default(),
            waited: Share::default(),
            stale: 0.0,
            failed: 0.0,
            refused: 0.0,
            bytes: Share::default(),
            squares: 0.0,
            once: 0.0,
            ages: Ages::default(),
            bulk,
        }
    }

    /// A recorded request, `at` milliseconds after the trace was begun.
    #[expect(clippy::cast_precision_loss, reason = "bytes of answers")]
    pub(super) fn add(&mut self, at: u64, met: &Met) {
        let one = |is: bool| f64::from(u8::from(is));
        self.lines += 1.0;
        self.asked.count += f64::from(met.asks);
        self.waited.count += one(met.waits);
        self.bytes.count += met.bytes as f64;
        self.stale += one(met.stale);
        self.failed += one(met.failed);
        self.refused += one(met.refused);
        self.longest_ttl = self.longest_ttl.max(met.ttl);
        if let Some(age) = met.age {
            self.ages.add(age, 1.0);
        }
        if let Some(bulk) = &mut self.bulk {
            bulk.add(at, f64::from(met.asks) * self.stands_for);
        }
    }

    /// What one of the route's keys met, all in all.
    pub(super) fn settle(&mut self, record: &Record) {
        self.squares += record.requests * record.requests;
        self.asked.products += record.asked * record.requests;
        self.waited.products += record.waited * record.requests;
        self.bytes.products += record.bytes * record.requests;
        if (0.5..1.5).contains(&record.requests) {
            self.once += 1.0;
        }
    }

    /// Requests to the core; of lookup routes keys that were asked for, of uploads none is counted.
    pub fn core_requests(&self) -> f64 {
        self.estimate(self.asked)
    }

    /// Bulk requests to the core, of lookup routes.
    pub fn bulk_requests(&self) -> Option<f64> {
        self.bulk.as_ref().map(Bulk::requests)
    }

    /// Bytes of answers' bodies that the core sent.
    pub fn core_bytes(&self) -> f64 {
        self.estimate(self.bytes)
    }

    /// The part of the requests that was answered without waiting for the core, from 0 to 1; `None` of routes that keep nothing.
    pub fn hit_ratio(&self) -> Option<f64> {
        let keeps = matches!(self.action, "cache" | "lookup");
        keeps.then(|| (1.0 - part(self.estimate(self.waited), self.requests) - self.failed() - self.refused()).max(0.0))
    }

    /// The part of the requests that was answered past the TTL, from 0 to 1.
    pub fn stale(&self) -> f64 {
        part(self.stale, self.lines)
    }

    /// The part of the requests for which there was neither an answer nor a core that gives one, from 0 to 1.
    pub fn failed(&self) -> f64 {
        part(self.failed, self.lines)
    }

    /// The part of the requests that lack what the key is made of, from 0 to 1.
    pub fn refused(&self) -> f64 {
        part(self.refused, self.lines)
    }

    /// The part of the requests whose key was asked for once, from 0 to 1.
    pub fn asked_for_once(&self) -> f64 {
        part(self.once, self.lines)
    }

    /// The mean age of the answers, new ones included.
    pub fn mean_age(&self) -> Duration {
        self.ages.mean(self.lines)
    }

    /// The age that 99 of 100 answers did not exceed, rounded up by less than a fifth.
    pub fn p99_age(&self) -> Duration {
        self.ages.quantile(0.99, self.lines)
    }

    /// How many of all requests are of a kind. See [`Figures`](crate::whatif::Figures): a sample of keys tells badly what a few keys
    /// have most of; by as much as it is wrong about the number of requests, which is known, its other counts are put right.
    fn estimate(&self, share: Share) -> f64 {
        if self.squares <= 0.0 {
            return part_of(share.count, self.lines) * self.requests;
        }
        let slope = share.products / self.squares;
        (share.count * self.stands_for + slope * (self.requests - self.lines * self.stands_for)).max(0.0)
    }
}

impl Bulk {
    #[expect(clippy::cast_precision_loss, reason = "a number of keys")]
    fn new(window: Duration, max_keys: usize) -> Self {
        Self { window: window.as_secs_f64(), max_keys: max_keys as f64, second: 0, asked: 0.0, requests: 0.0 }
    }

    fn add(&mut self, at: u64, asked: f64) {
        let second = at / 1000;
        if second != self.second {
            self.requests = self.requests();
            (self.second, self.asked) = (second, 0.0);
        }
        self.asked += asked;
    }

    /// Keys that come at random within a second: one opens a window, those that come while it is open travel with it.
    fn requests(&self) -> f64 {
        let windows = self.asked / (1.0 + self.asked * self.window);
        self.requests + windows.max(self.asked / self.max_keys.max(1.0))
    }
}

fn part(of: f64, whole: f64) -> f64 {
    part_of(of, whole).clamp(0.0, 1.0)
}

fn part_of(of: f64, whole: f64) -> f64 {
    if whole > 0.0 { of / whole } else { 0.0 }
}
