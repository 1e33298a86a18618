//! Records by key and by id, counted out of uploads and rows.

use std::collections::HashMap;

use serde_json::Value;
use weir_core_sim::record_key;
use weir_spool::Upload;

use crate::books::{self, SAME, Sums};

/// Counts of records.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Tally {
    /// All of them.
    pub(super) records: u64,
    /// By key.
    pub(super) keys: Sums,
    /// How often each id comes. Repeats have none but those of their examples.
    pub(super) ids: HashMap<String, u64>,
}

impl Tally {
    /// Counts what agents sent.
    pub(super) fn of_uploads<'a>(uploads: impl IntoIterator<Item = &'a Upload>) -> Self {
        let mut tally = Self::default();
        for upload in uploads {
            for line in lines(&upload.lines) {
                tally.count(upload.tenant.as_deref(), upload.agent.as_deref(), &line, 1);
                tally.identify(&line);
            }
        }
        tally
    }

    /// Counts the rows of a batch.
    pub(super) fn of_rows(rows: &[u8]) -> Self {
        let mut tally = Self::default();
        for row in lines(rows) {
            let (tenant, agent) = (row["tenant"].as_str(), row["agent"].as_str());
            match row["kind"].as_str() {
                Some("event") => {
                    tally.count(tenant, agent, &row["record"], 1);
                    tally.identify(&row["record"]);
                }
                Some("repeat") => {
                    tally.count(tenant, agent, &row["key"], row["count"].as_u64().unwrap_or(0));
                    row["exemplars"].as_array().into_iter().flatten().for_each(|exemplar| tally.identify(exemplar));
                }
                _ => {}
            }
        }
        tally
    }

    /// Adds another.
    pub(super) fn add(&mut self, other: Self) {
        self.records += other.records;
        books::add(&mut self.keys, other.keys);
        books::add(&mut self.ids, other.ids);
    }

    fn count(&mut self, tenant: Option<&str>, agent: Option<&str>, fields: &Value, records: u64) {
        self.records += records;
        let same = SAME.map(str::to_owned);
        *self.keys.entry(record_key(tenant, agent, &same, fields)).or_default() += records;
    }

    fn identify(&mut self, record: &Value) {
        if let Some(id) = record["eid"].as_str() {
            *self.ids.entry(id.to_owned()).or_default() += 1;
        }
    }
}

/// The JSON values of lines.
fn lines(text: &[u8]) -> impl Iterator<Item = Value> {
    text.split(|byte| *byte == b'\n').filter_map(|line| serde_json::from_slice(line).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_and_the_uploads_they_stand_for_count_the_same() {
        let upload = Upload {
            time: Default::default(),
            tenant: Some("t".to_owned()),
            agent: None,
            records: 3,
            lines: b"{\"eid\":\"1\",\"user\":\"u\"}\n{\"eid\":\"2\",\"user\":\"u\"}\n{\"user\":\"u\"}\n"
                .to_vec()
                .into(),
        };
        let rows = br#"{"kind":"event","tenant":"t","agent":null,"received":1,"record":{"eid":"1","user":"u"}}
{"kind":"repeat","tenant":"t","agent":null,"first_seen":1,"last_seen":1,"count":2,"key":{"user":"u"},"exemplars":[{"eid":"2"}]}
"#;
        let (sent, arrived) = (Tally::of_uploads([&upload]), Tally::of_rows(rows));
        assert_eq!(sent, arrived);
        assert_eq!((sent.records, sent.keys.len(), sent.ids.len()), (3, 1, 2));
    }
}
