//! What the core counts, and the snapshot of it that others read.
//!
//! Not here: the balance of batches and records (`balance`), whose counts join the snapshot.

use std::collections::BTreeMap;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use crate::script::EndpointKind;

/// Everything the core has counted since its start.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Snapshot {
    /// When the core started, in milliseconds of the Unix epoch: second 0 of every series.
    pub started_unix_ms: u64,
    /// Milliseconds since the start.
    pub uptime_ms: u64,
    /// Connections accepted (TLS handshakes that failed included).
    pub connections: u64,
    /// Requests seen, whatever became of them. Connections refused while the core was down are not requests.
    pub requests: u64,
    /// Requests by the second of their arrival; index 0 is the first second.
    pub per_second: Vec<u32>,
    /// The same by kind of endpoint. Kinds never asked are missing.
    pub endpoints: BTreeMap<EndpointKind, EndpointCounts>,
    /// Bulk lookups.
    pub lookups: LookupCounts,
    /// Batches, presence included.
    pub batches: BatchCounts,
    /// Records by stream, presence under `presence`.
    pub streams: BTreeMap<String, StreamCounts>,
    /// Uploads that agents sent here directly.
    pub uploads: UploadCounts,
    /// Unique records and keys remembered, where asked for.
    pub tracked: TrackedCounts,
}

/// The counts of one kind of endpoint.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct EndpointCounts {
    /// Requests.
    pub requests: u64,
    /// Requests that a script treated badly; slow answers are not counted.
    pub failed: u64,
    /// Answers of status 304.
    pub not_modified: u64,
    /// Requests refused by the contract itself (400, 404, 413, 415).
    pub refused: u64,
    /// Bytes of bodies as they came, before inflation.
    pub bytes_wire: u64,
    /// Bytes of bodies after inflation.
    pub bytes_inflated: u64,
    /// Requests by the second of their arrival.
    pub per_second: Vec<u32>,
}

/// Bulk lookups and their keys.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LookupCounts {
    /// Bulk requests answered.
    pub bulk_requests: u64,
    /// Keys in them.
    pub keys: u64,
    /// Keys answered 304.
    pub keys_not_modified: u64,
    /// The most keys one request carried.
    pub max_keys: u64,
}

/// What became of batches.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BatchCounts {
    /// Accepted for the first time.
    pub accepted: u64,
    /// Of those accepted: in part.
    pub partial: u64,
    /// Answered 2xx and dropped, for the id was accepted before.
    pub repeated: u64,
    /// Of those repeated: batches whose rows were not the ones first accepted under the id. Always a fault of the sender.
    pub conflicting: u64,
    /// Answered 400, 413 or 415.
    pub refused: u64,
}

/// The records of one stream, each batch counted once.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StreamCounts {
    /// Batches.
    pub batches: u64,
    /// Rows of any kind.
    pub rows: u64,
    /// Rows of kind `event`.
    pub event_rows: u64,
    /// Rows of kind `repeat`.
    pub repeat_rows: u64,
    /// Rows of kind `state`.
    pub state_rows: u64,
    /// Rows of kind `unchanged`.
    pub unchanged_rows: u64,
    /// Repeat rows that left before their window's end.
    pub early_rows: u64,
    /// What rows of kind `loss` tell of, by reason.
    #[serde(default)]
    pub losses: BTreeMap<String, LossCounts>,
    /// Event rows plus the counts of all rows that have one; for presence, rows.
    pub records: u64,
    /// Bytes as they came.
    pub bytes_wire: u64,
    /// Bytes after inflation.
    pub bytes_inflated: u64,
}

/// What a core was told of losses for one reason.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LossCounts {
    /// Rows.
    pub rows: u64,
    /// The sum of their records.
    pub records: u64,
    /// The greatest total.
    pub total: u64,
}

/// Uploads that came without a proxy between.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct UploadCounts {
    /// Uploads answered 202.
    pub uploads: u64,
    /// Records accepted in them.
    pub records: u64,
    /// Records refused by index.
    pub refused: u64,
}

/// What the optional tracking holds.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrackedCounts {
    /// Distinct values of `track_field`.
    pub ids: u64,
    /// Of those, the ones seen more than once.
    pub ids_seen_again: u64,
    /// Distinct keys.
    pub keys: u64,
    /// Sightings not remembered because the bound was met.
    pub overflow: u64,
}

/// The live counts of requests.
#[derive(Debug)]
pub(crate) struct Counters {
    started: Instant,
    started_unix_ms: u64,
    connections: u64,
    per_second: Vec<u32>,
    endpoints: BTreeMap<EndpointKind, EndpointCounts>,
    lookups: LookupCounts,
}

/// How one request ended, for the counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ending {
    NotModified,
    Refused,
    Failed,
}

/// Seconds of series kept; what comes later counts in the totals alone.
const MAX_SERIES_SECONDS: usize = 86_400;

impl Counters {
    pub(crate) fn new() -> Self {
        Self {
            started: Instant::now(),
            started_unix_ms: unix_ms(),
            connections: 0,
            per_second: Vec::new(),
            endpoints: BTreeMap::new(),
            lookups: LookupCounts::default(),
        }
    }

    pub(crate) fn connection(&mut self) {
        self.connections += 1;
    }

    pub(crate) fn request(&mut self, kind: EndpointKind) {
        let second = usize::try_from(self.started.elapsed().as_secs()).unwrap_or(usize::MAX);
        count_at(&mut self.per_second, second);
        let counts = self.endpoints.entry(kind).or_default();
        counts.requests += 1;
        count_at(&mut counts.per_second, second);
    }

    pub(crate) fn body(&mut self, kind: EndpointKind, wire: usize, inflated: usize) {
        let counts = self.endpoints.entry(kind).or_default();
        counts.bytes_wire += wire as u64;
        counts.bytes_inflated += inflated as u64;
    }

    pub(crate) fn ended(&mut self, kind: EndpointKind, ending: Ending) {
        let counts = self.endpoints.entry(kind).or_default();
        match ending {
            Ending::NotModified => counts.not_modified += 1,
            Ending::Refused => counts.refused += 1,
            Ending::Failed => counts.failed += 1,
        }
    }

    pub(crate) fn lookup(&mut self, keys: u64, not_modified: u64) {
        self.lookups.bulk_requests += 1;
        self.lookups.keys += keys;
        self.lookups.keys_not_modified += not_modified;
        self.lookups.max_keys = self.lookups.max_keys.max(keys);
    }

    /// The counts of requests; those of records are left at zero.
    pub(crate) fn snapshot(&self) -> Snapshot {
        Snapshot {
            started_unix_ms: self.started_unix_ms,
            uptime_ms: u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX),
            connections: self.connections,
            requests: self.endpoints.values().map(|counts| counts.requests).sum(),
            per_second: self.per_second.clone(),
            endpoints: self.endpoints.clone(),
            lookups: self.lookups.clone(),
            ..Snapshot::default()
        }
    }
}

fn count_at(series: &mut Vec<u32>, second: usize) {
    if second >= MAX_SERIES_SECONDS {
        return;
    }
    if series.len() <= second {
        series.resize(second + 1, 0);
    }
    series[second] += 1;
}

fn unix_ms() -> u64 {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since_epoch.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_total_is_the_sum_of_the_endpoints() {
        let mut counters = Counters::new();
        counters.request(EndpointKind::Update);
        counters.request(EndpointKind::Lookup);
        counters.request(EndpointKind::Lookup);
        let snapshot = counters.snapshot();
        assert_eq!(snapshot.requests, 3);
        assert_eq!(snapshot.per_second.iter().sum::<u32>(), 3);
        assert_eq!(snapshot.endpoints[&EndpointKind::Lookup].per_second.iter().sum::<u32>(), 2);
    }

    #[test]
    fn a_series_does_not_grow_past_its_bound() {
        let mut series = Vec::new();
        count_at(&mut series, 2);
        count_at(&mut series, MAX_SERIES_SECONDS);
        assert_eq!(series, [0, 0, 1]);
    }
}
