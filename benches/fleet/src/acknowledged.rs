//! Which records were acknowledged, for tests that compare it with what arrived.

use std::collections::HashMap;

use serde_json::Value;

use crate::options::Remember;

/// What agents were told is safe.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Acknowledged {
    /// The `eid` of every acknowledged record that has one.
    pub eids: Vec<String>,
    /// Acknowledged records by key: the JSON array of tenant, agent and the values of the key fields in their order,
    /// null for what is missing. A field is a member's name or, where no member has that name, a JSON pointer.
    pub keys: HashMap<String, u64>,
    /// The same of records in uploads that got no answer, which may have been accepted.
    pub keys_in_doubt: HashMap<String, u64>,
}

/// Remembers within a bound.
#[derive(Debug)]
pub(crate) struct Memory {
    remember: Remember,
    acknowledged: Acknowledged,
}

/// Whose upload it was.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Uploader<'a> {
    pub(crate) tenant: &'a str,
    pub(crate) agent: &'a str,
}

impl Memory {
    pub(crate) fn new(remember: Remember) -> Self {
        Self { remember, acknowledged: Acknowledged::default() }
    }

    /// Takes in an upload that was answered, but for the records refused by index; gives back how many did not fit.
    pub(crate) fn acknowledge(&mut self, uploader: Uploader<'_>, body: &[u8], refused: &[u64]) -> u64 {
        let records = records(body);
        let kept = records.iter().enumerate().filter(|(at, _)| !refused.contains(&(*at as u64)));
        let mut forgotten = 0;
        for (_, record) in kept {
            let fits = self.acknowledged.eids.len() < self.remember.max;
            if fits && let Some(eid) = record.get("eid").and_then(Value::as_str) {
                self.acknowledged.eids.push(eid.to_owned());
            }
            let key = self.key(uploader, record);
            let counted = count(&mut self.acknowledged.keys, key, self.remember.max);
            forgotten += u64::from(!fits || !counted);
        }
        forgotten
    }

    /// Takes in an upload that got no answer.
    pub(crate) fn doubt(&mut self, uploader: Uploader<'_>, body: &[u8]) -> u64 {
        let mut forgotten = 0;
        for record in records(body) {
            let key = self.key(uploader, &record);
            forgotten += u64::from(!count(&mut self.acknowledged.keys_in_doubt, key, self.remember.max));
        }
        forgotten
    }

    pub(crate) fn acknowledged(&self) -> Acknowledged {
        self.acknowledged.clone()
    }

    fn key(&self, uploader: Uploader<'_>, record: &Value) -> String {
        let mut parts = vec![Value::from(uploader.tenant), Value::from(uploader.agent)];
        let value = |field: &String| record.get(field).or_else(|| record.pointer(field)).cloned().unwrap_or_default();
        parts.extend(self.remember.key_fields.iter().map(value));
        Value::Array(parts).to_string()
    }
}

fn records(body: &[u8]) -> Vec<Value> {
    // The fleet wrote the body itself, as an array of objects.
    serde_json::from_slice(body).unwrap_or_default()
}

fn count(keys: &mut HashMap<String, u64>, key: String, max: usize) -> bool {
    let fits = keys.len() < max || keys.contains_key(&key);
    if fits {
        *keys.entry(key).or_default() += 1;
    }
    fits
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refused_records_are_not_acknowledged_and_the_bound_holds() {
        let mut memory = Memory::new(Remember { key_fields: vec!["image".into()], max: 2 });
        let uploader = Uploader { tenant: "t", agent: "a" };
        let body =
            br#"[{"eid":"1","image":"x"},{"eid":"2","image":"x"},{"eid":"3","image":"x"},{"eid":"4","image":"x"}]"#;
        assert_eq!(memory.acknowledge(uploader, body, &[1]), 1);
        let acknowledged = memory.acknowledged();
        assert_eq!(acknowledged.eids, ["1", "3"]);
        assert_eq!(acknowledged.keys[r#"["t","a","x"]"#], 3);
    }
}
