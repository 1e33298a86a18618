//! The rows of a batch and the records of an upload, read and checked against the contract.
//!
//! Not here: what is kept of them (`balance`).

use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

/// One row of a batch. Records stay the text they came as: what agents send is passed on byte for byte, and reading it
/// would cost more than everything else.
#[derive(Debug)]
pub(crate) enum Row<'a> {
    /// One record as an agent sent it.
    Event { origin: Origin, record: &'a RawValue },
    /// What became of repeats of a record sent before.
    Repeat { origin: Origin, count: u64, key: &'a RawValue, exemplars: Vec<&'a RawValue>, early: bool },
    /// The last of several states of an agent.
    State { origin: Origin, count: u64, record: &'a RawValue },
    /// States that are not sent.
    Unchanged { origin: Origin, count: u64, key: &'a RawValue },
    /// An agent was there.
    Presence { agent: String, last_seen: u64 },
    /// Something was lost on the way.
    Loss { reason: String, records: u64, total: u64 },
}

/// Whose row it is, as far as that is known.
#[derive(Debug, Default)]
pub(crate) struct Origin {
    pub(crate) tenant: Option<String>,
    pub(crate) agent: Option<String>,
}

/// The members that rows of any kind have. Those of other kinds are passed over, for later versions may add to a row.
#[derive(Debug, Deserialize)]
struct Line<'a> {
    kind: Kind,
    tenant: Option<String>,
    agent: Option<String>,
    received: Option<u64>,
    #[serde(borrow)]
    record: Option<&'a RawValue>,
    first_seen: Option<u64>,
    last_seen: Option<u64>,
    count: Option<u64>,
    #[serde(borrow)]
    key: Option<&'a RawValue>,
    #[serde(borrow, default)]
    exemplars: Vec<&'a RawValue>,
    #[serde(default)]
    early: bool,
    reason: Option<String>,
    records: Option<u64>,
    total: Option<u64>,
    since: Option<u64>,
    until: Option<u64>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Kind {
    Event,
    Repeat,
    State,
    Unchanged,
    Presence,
    Loss,
}

impl Row<'_> {
    /// The records this row stands for.
    pub(crate) fn records(&self) -> u64 {
        match self {
            Self::Event { .. } | Self::Presence { .. } => 1,
            Self::Repeat { count, .. } | Self::State { count, .. } | Self::Unchanged { count, .. } => *count,
            Self::Loss { .. } => 0,
        }
    }
}

impl<'a> Line<'a> {
    fn into_row(self) -> Result<Row<'a>, &'static str> {
        let origin = Origin { tenant: self.tenant, agent: self.agent };
        match self.kind {
            Kind::Event => {
                self.received.ok_or("received is missing")?;
                Ok(Row::Event { origin, record: object(self.record).ok_or("the record is not an object")? })
            }
            Kind::State => {
                if self.first_seen.ok_or("first_seen is missing")? > self.received.ok_or("received is missing")? {
                    return Err("first_seen is after received");
                }
                let record = object(self.record).ok_or("the record is not an object")?;
                // A state that was sent before stands for none.
                Ok(Row::State { origin, count: self.count.ok_or("count is missing")?, record })
            }
            Kind::Repeat | Kind::Unchanged => {
                let first_seen = self.first_seen.ok_or("first_seen is missing")?;
                if first_seen > self.last_seen.ok_or("last_seen is missing")? {
                    return Err("first_seen is after last_seen");
                }
                let count = self.count.filter(|count| *count > 0).ok_or("a repeat of nothing")?;
                let key = object(self.key).ok_or("the key is not an object")?;
                if let Kind::Unchanged = self.kind {
                    return Ok(Row::Unchanged { origin, count, key });
                }
                Ok(Row::Repeat { origin, count, key, exemplars: self.exemplars, early: self.early })
            }
            Kind::Presence => {
                let agent = origin.agent.ok_or("the agent is not named")?;
                Ok(Row::Presence { agent, last_seen: self.last_seen.ok_or("last_seen is missing")? })
            }
            Kind::Loss => {
                let since = self.since.ok_or("since is missing")?;
                if since > self.until.ok_or("until is missing")? {
                    return Err("since is after until");
                }
                let reason = self.reason.ok_or("the reason is missing")?;
                let records = self.records.ok_or("records is missing")?;
                let total = self.total.filter(|total| *total >= records).ok_or("the total is less than the records")?;
                Ok(Row::Loss { reason, records, total })
            }
        }
    }
}

fn object(value: Option<&RawValue>) -> Option<&RawValue> {
    value.filter(|value| value.get().starts_with('{'))
}

/// Reads the rows of a batch; the error names the first bad line, counted from 1.
pub(crate) fn parse_rows(ndjson: &[u8]) -> Result<Vec<Row<'_>>, String> {
    let mut rows = Vec::new();
    for (at, line) in lines(ndjson) {
        let line: Line<'_> = serde_json::from_slice(line).map_err(|error| format!("row {at}: {error}"))?;
        rows.push(line.into_row().map_err(|reason| format!("row {at}: {reason}"))?);
    }
    Ok(rows)
}

/// Reads the records of an upload: a JSON array, newline-delimited JSON, or one object.
pub(crate) fn parse_upload(body: &[u8]) -> Result<Vec<Value>, String> {
    let text = body.trim_ascii();
    if text.first() == Some(&b'[') {
        return serde_json::from_slice(text).map_err(|error| error.to_string());
    }
    serde_json::Deserializer::from_slice(text).into_iter().collect::<Result<_, _>>().map_err(|error| error.to_string())
}

/// The lines that are not blank, by their numbers counted from 1.
pub(crate) fn lines(text: &[u8]) -> impl Iterator<Item = (usize, &[u8])> {
    text.split(|byte| *byte == b'\n')
        .enumerate()
        .map(|(at, line)| (at + 1, line.trim_ascii()))
        .filter(|(_, line)| !line.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_of_every_kind_are_read_and_counted() {
        let rows = parse_rows(
            br#"{"kind":"event","tenant":"t-1","agent":"a-1","received":1,"record":{"a":1}}
{"kind":"repeat","tenant":null,"agent":"a-1","first_seen":1,"last_seen":2,"count":3,"key":{"a":"1"},"exemplars":[{"pid":1}],"early":true}
{"kind":"presence","tenant":"t-1","agent":"a-1","last_seen":1,"version":null}
{"kind":"loss","tenant":null,"agent":null,"reason":"expired","records":3,"total":7,"since":1,"until":2}
"#,
        )
        .unwrap();
        assert_eq!(rows.iter().map(Row::records).collect::<Vec<_>>(), [1, 3, 1, 0]);
    }

    #[test]
    fn a_row_against_the_contract_is_named_by_its_line() {
        let bad =
            b"{\"kind\":\"event\",\"received\":1,\"record\":{}}\n{\"kind\":\"event\",\"received\":1,\"record\":7}\n";
        assert_eq!(parse_rows(bad).unwrap_err(), "row 2: the record is not an object");
        let empty = b"{\"kind\":\"repeat\",\"first_seen\":1,\"last_seen\":1,\"count\":0,\"key\":{}}";
        assert_eq!(parse_rows(empty).unwrap_err(), "row 1: a repeat of nothing");
        assert!(parse_rows(b"{\"kind\":\"other\"}").unwrap_err().starts_with("row 1: unknown variant"));
    }

    #[test]
    fn a_record_is_taken_however_odd_its_json() {
        let deep = format!("{}1{}", "[".repeat(500), "]".repeat(500));
        for odd in [r#"{"a":1e400}"#, r#"{"a":"\ud800"}"#, r#"{"a":1,"a":2}"#, &format!("{{\"a\":{deep}}}")] {
            let line = format!(r#"{{"kind":"event","tenant":null,"agent":null,"received":1,"record":{odd}}}"#);
            assert!(parse_rows(line.as_bytes()).is_ok(), "{odd:.80}");
        }
    }

    #[test]
    fn an_upload_is_an_array_or_lines_or_one_object() {
        for body in [&b"[{\"a\":1},{\"a\":2}]"[..], b"{\"a\":1}\n{\"a\":2}\n"] {
            assert_eq!(parse_upload(body).unwrap().len(), 2);
        }
        assert_eq!(parse_upload(b" {\n\"a\":1}").unwrap().len(), 1);
        assert!(parse_upload(b"{\"a\":1").is_err());
    }
}
