//! Batches and the records in them: each batch counted once, each record remembered where asked for.
//!
//! Plain state behind the server's lock. Worst-case memory: `max_batch_ids` × 64 bytes, and `max_tracked` entries, each
//! as long as the values tracked, for ids, keys and agents present. A batch taken in part keeps its answer beside its id.

use std::collections::{BTreeMap, HashMap, VecDeque};

use bytes::Bytes;
use serde_json::Value;
use serde_json::value::RawValue;
use xxhash_rust::xxh3::{xxh3_64, xxh3_128};

use crate::counters::{BatchCounts, Snapshot, StreamCounts, TrackedCounts, UploadCounts};
use crate::objections::Division;
use crate::options::CoreOptions;
use crate::rows::Row;

/// The stream under which presence is counted.
pub(crate) const PRESENCE_STREAM: &str = "presence";

/// A batch that was read and found right.
#[derive(Debug)]
pub(crate) struct Batch<'a> {
    pub(crate) id: &'a str,
    pub(crate) stream: &'a str,
    pub(crate) rows: &'a [Row<'a>],
    /// The rows as bytes, inflated.
    pub(crate) ndjson: &'a [u8],
    pub(crate) bytes_wire: usize,
    /// Where not all rows are taken: which are.
    pub(crate) division: Option<Division>,
}

/// What became of a batch.
#[must_use]
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Reception {
    Accepted,
    Repeated,
    /// Taken in part, now or before: the body of the answer.
    InPart(Bytes),
}

/// The balance of all that was accepted.
#[derive(Debug)]
pub(crate) struct Balance {
    batches: BatchCounts,
    streams: BTreeMap<String, StreamCounts>,
    uploads: UploadCounts,
    seen: SeenBatches,
    track_field: Option<String>,
    key_fields: Vec<String>,
    ids: Tally,
    keys: Tally,
    last_seen: HashMap<String, u64>,
    max_tracked: usize,
}

impl Balance {
    pub(crate) fn new(options: &CoreOptions) -> Self {
        Self {
            batches: BatchCounts::default(),
            streams: BTreeMap::new(),
            uploads: UploadCounts::default(),
            seen: SeenBatches::new(options.max_batch_ids),
            track_field: options.track_field.clone(),
            key_fields: options.key_fields.clone(),
            ids: Tally::new(options.max_tracked),
            keys: Tally::new(options.max_tracked),
            last_seen: HashMap::new(),
            max_tracked: options.max_tracked,
        }
    }

    /// Accepts a batch, or drops it when its id was accepted before.
    pub(crate) fn receive(&mut self, batch: &Batch<'_>) -> Reception {
        let answer = batch.division.as_ref().map(Division::answer);
        let (sighting, earlier) = self.seen.insert(batch.id, xxh3_64(batch.ndjson), answer.clone());
        if sighting != Sighting::First {
            self.batches.repeated += 1;
            self.batches.conflicting += u64::from(sighting == Sighting::Different);
            return earlier.map_or(Reception::Repeated, Reception::InPart);
        }
        self.batches.accepted += 1;
        self.batches.partial += u64::from(answer.is_some());
        let counts = self.streams.entry(batch.stream.to_owned()).or_default();
        counts.batches += 1;
        counts.bytes_wire += batch.bytes_wire as u64;
        counts.bytes_inflated += batch.ndjson.len() as u64;
        let takes = |row: usize| batch.division.as_ref().is_none_or(|division| division.takes(row));
        let taken = || batch.rows.iter().enumerate().filter(|(number, _)| takes(*number)).map(|(_, row)| row);
        for row in taken() {
            count_row(counts, row);
        }
        for row in taken() {
            self.track_row(row);
        }
        answer.map_or(Reception::Accepted, Reception::InPart)
    }

    /// Whether a batch of this id has been accepted.
    pub(crate) fn knows(&self, id: &str) -> bool {
        self.seen.contents.contains_key(&xxh3_128(id.as_bytes()))
    }

    pub(crate) fn refuse_batch(&mut self) {
        self.batches.refused += 1;
    }

    /// Accepts the records of an agent's own upload.
    pub(crate) fn upload(&mut self, tenant: Option<&str>, agent: Option<&str>, records: &[Value], refused: usize) {
        self.uploads.uploads += 1;
        self.uploads.records += records.len() as u64;
        self.uploads.refused += refused as u64;
        for record in records {
            self.track(tenant, agent, record, 1);
            self.track_id(record);
        }
    }

    /// How often the record of this id came, batches dropped as repeated not counted.
    pub(crate) fn times_seen(&self, id: &str) -> u64 {
        self.ids.count(id)
    }

    pub(crate) fn ids(&self) -> &HashMap<String, u64> {
        &self.ids.counts
    }

    pub(crate) fn keys(&self) -> &HashMap<String, u64> {
        &self.keys.counts
    }

    pub(crate) fn last_seen(&self, agent: &str) -> Option<u64> {
        self.last_seen.get(agent).copied()
    }

    /// Adds the counts of batches and records to those of requests.
    pub(crate) fn fill(&self, snapshot: &mut Snapshot) {
        snapshot.batches = self.batches.clone();
        snapshot.streams = self.streams.clone();
        snapshot.uploads = self.uploads.clone();
        snapshot.tracked = TrackedCounts {
            ids: self.ids.counts.len() as u64,
            ids_seen_again: self.ids.again,
            keys: self.keys.counts.len() as u64,
            overflow: self.ids.overflow + self.keys.overflow,
        };
    }

    fn track_row(&mut self, row: &Row<'_>) {
        match row {
            Row::Presence { agent, last_seen } => {
                if self.last_seen.len() < self.max_tracked || self.last_seen.contains_key(agent) {
                    let latest = self.last_seen.entry(agent.clone()).or_default();
                    *latest = (*latest).max(*last_seen);
                }
            }
            Row::Loss { .. } => {}
            // Reading a record costs more than everything else.
            _ if self.track_field.is_none() && self.key_fields.is_empty() => {}
            Row::Event { origin, record } => {
                let record = read(record);
                self.track(origin.tenant.as_deref(), origin.agent.as_deref(), &record, 1);
                self.track_id(&record);
            }
            Row::State { origin, count, record } => {
                let record = read(record);
                self.track(origin.tenant.as_deref(), origin.agent.as_deref(), &record, *count);
                self.track_id(&record);
            }
            Row::Unchanged { origin, key, count } => {
                self.track(origin.tenant.as_deref(), origin.agent.as_deref(), &read(key), *count);
            }
            Row::Repeat { origin, key, count, exemplars, .. } => {
                self.track(origin.tenant.as_deref(), origin.agent.as_deref(), &read(key), *count);
                for exemplar in exemplars {
                    self.track_id(&read(exemplar));
                }
            }
        }
    }

    fn track(&mut self, tenant: Option<&str>, agent: Option<&str>, fields: &Value, count: u64) {
        if !self.key_fields.is_empty() {
            let key = record_key(tenant, agent, &self.key_fields, fields);
            self.keys.add(&key, count);
        }
    }

    fn track_id(&mut self, record: &Value) {
        let Some(field) = &self.track_field else { return };
        match record.get(field) {
            Some(Value::String(id)) => self.ids.add(id, 1),
            Some(Value::Number(id)) => self.ids.add(&id.to_string(), 1),
            _ => {}
        }
    }
}

/// The name under which the counts of a key are summed: the JSON array of tenant, agent and the values of `fields` in
/// their order, null for what is missing. A field is a member's name or, where no member has that name, a JSON pointer.
pub fn record_key(tenant: Option<&str>, agent: Option<&str>, fields: &[String], record: &Value) -> String {
    let mut parts = vec![Value::from(tenant), Value::from(agent)];
    let value = |field: &String| record.get(field).or_else(|| record.pointer(field)).cloned().unwrap_or_default();
    parts.extend(fields.iter().map(value));
    Value::Array(parts).to_string()
}

/// A record that serde_json cannot hold (a number out of range, say) is tracked as one without fields.
fn read(text: &RawValue) -> Value {
    serde_json::from_str(text.get()).unwrap_or_default()
}

fn count_row(counts: &mut StreamCounts, row: &Row<'_>) {
    counts.rows += 1;
    counts.records += row.records();
    match row {
        Row::Event { .. } => counts.event_rows += 1,
        Row::Repeat { early, .. } => {
            counts.repeat_rows += 1;
            counts.early_rows += u64::from(*early);
        }
        Row::State { .. } => counts.state_rows += 1,
        Row::Unchanged { .. } => counts.unchanged_rows += 1,
        Row::Presence { .. } => {}
        Row::Loss { reason, records, total } => {
            // Names are few: a core that is told nonsense need not keep all of it.
            if counts.losses.len() < MAX_REASONS || counts.losses.contains_key(reason) {
                let loss = counts.losses.entry(reason.clone()).or_default();
                loss.rows += 1;
                loss.records += records;
                loss.total = loss.total.max(*total);
            }
        }
    }
}

/// Reasons of losses that are told apart in one stream.
const MAX_REASONS: usize = 64;

/// A bounded map from names to counts.
#[derive(Debug)]
struct Tally {
    counts: HashMap<String, u64>,
    bound: usize,
    /// Names counted more than once.
    again: u64,
    overflow: u64,
}

impl Tally {
    fn new(bound: usize) -> Self {
        Self { counts: HashMap::new(), bound, again: 0, overflow: 0 }
    }

    fn add(&mut self, name: &str, count: u64) {
        if let Some(total) = self.counts.get_mut(name) {
            self.again += u64::from(*total == 1);
            *total += count;
        } else if self.counts.len() < self.bound {
            self.counts.insert(name.to_owned(), count);
        } else {
            self.overflow += 1;
        }
    }

    fn count(&self, name: &str) -> u64 {
        self.counts.get(name).copied().unwrap_or(0)
    }
}

/// The ids of batches accepted, with what was in them.
#[derive(Debug)]
struct SeenBatches {
    contents: HashMap<u128, Seen>,
    order: VecDeque<u128>,
    bound: usize,
}

#[derive(Debug)]
struct Seen {
    content: u64,
    /// Of a batch taken in part: the answer, which must be the same each time.
    answer: Option<Bytes>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sighting {
    First,
    Same,
    Different,
}

impl SeenBatches {
    fn new(bound: usize) -> Self {
        Self { contents: HashMap::new(), order: VecDeque::new(), bound: bound.max(1) }
    }

    /// Remembers a batch, and gives the answer that it was given before.
    fn insert(&mut self, id: &str, content: u64, answer: Option<Bytes>) -> (Sighting, Option<Bytes>) {
        let id = xxh3_128(id.as_bytes());
        if let Some(seen) = self.contents.get(&id) {
            let sighting = if seen.content == content { Sighting::Same } else { Sighting::Different };
            return (sighting, seen.answer.clone());
        }
        if self.order.len() == self.bound
            && let Some(oldest) = self.order.pop_front()
        {
            self.contents.remove(&oldest);
        }
        self.contents.insert(id, Seen { content, answer });
        self.order.push_back(id);
        (Sighting::First, None)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::rows::parse_rows;

    fn balance() -> Balance {
        Balance::new(&CoreOptions {
            track_field: Some("eid".into()),
            key_fields: vec!["image".into()],
            max_tracked: 3,
            ..CoreOptions::default()
        })
    }

    fn receive(balance: &mut Balance, id: &str, ndjson: &str) -> Reception {
        let rows = parse_rows(ndjson.as_bytes()).unwrap();
        let batch =
            Batch { id, stream: "process", rows: &rows, ndjson: ndjson.as_bytes(), bytes_wire: 10, division: None };
        balance.receive(&batch)
    }

    fn snapshot(balance: &Balance) -> Snapshot {
        let mut snapshot = Snapshot::default();
        balance.fill(&mut snapshot);
        snapshot
    }

    const EVENT: &str =
        r#"{"kind":"event","tenant":"t","agent":"a","received":1,"record":{"eid":"1","image":"cmd.exe","pid":4}}"#;
    const REPEAT: &str = r#"{"kind":"repeat","tenant":"t","agent":"a","first_seen":1,"last_seen":2,"count":2,"key":{"image":"cmd.exe"},"exemplars":[{"eid":"2"},{"eid":"3"}],"early":true}"#;

    #[test]
    fn a_batch_of_a_known_id_is_counted_once() {
        let mut balance = balance();
        assert_eq!(receive(&mut balance, "e/process/1/0", EVENT), Reception::Accepted);
        assert_eq!(receive(&mut balance, "e/process/1/0", EVENT), Reception::Repeated);
        let snapshot = snapshot(&balance);
        assert_eq!(snapshot.streams["process"].records, 1);
        assert_eq!(snapshot.batches, BatchCounts { accepted: 1, repeated: 1, ..BatchCounts::default() });
    }

    #[test]
    fn other_rows_under_a_known_id_are_a_conflict() {
        let mut balance = balance();
        assert_eq!(receive(&mut balance, "e/process/1/0", EVENT), Reception::Accepted);
        assert_eq!(receive(&mut balance, "e/process/1/0", REPEAT), Reception::Repeated);
        assert_eq!(snapshot(&balance).batches.conflicting, 1);
    }

    #[test]
    fn counts_of_first_sight_and_repeats_add_up_under_one_key() {
        let mut balance = balance();
        assert_eq!(receive(&mut balance, "1", &format!("{EVENT}\n{REPEAT}\n")), Reception::Accepted);
        let key = record_key(Some("t"), Some("a"), &["image".to_owned()], &json!({"image": "cmd.exe"}));
        assert_eq!(key, r#"["t","a","cmd.exe"]"#);
        assert_eq!(balance.keys()[&key], 3);
        assert_eq!(balance.times_seen("3"), 1);
        let streams = &snapshot(&balance).streams["process"];
        assert_eq!((streams.rows, streams.records, streams.early_rows), (2, 3, 1));
    }

    #[test]
    fn tracking_stops_at_its_bound_and_says_so() {
        let mut balance = balance();
        let records: Vec<Value> = (0..5).map(|eid| json!({"eid": eid, "image": "x"})).collect();
        balance.upload(None, None, &records, 0);
        assert_eq!(balance.ids().len(), 3);
        assert_eq!(snapshot(&balance).tracked.overflow, 2);
    }

    #[test]
    fn the_oldest_batch_id_leaves_at_the_bound() {
        let mut seen = SeenBatches::new(2);
        for id in ["1", "2", "3"] {
            assert_eq!(seen.insert(id, 0, None).0, Sighting::First);
        }
        assert_eq!(seen.insert("3", 0, None).0, Sighting::Same);
        assert_eq!(seen.insert("1", 0, None).0, Sighting::First);
    }
}
