//! The rows of a batch and the records of an upload, read and checked against the contract.
//!
//! Not here: what is kept of them (`balance`).

use serde::Deserialize;
use serde_json::Value;

/// One row of a batch.
#[derive(Debug, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub(crate) enum Row {
    /// One record as an agent sent it.
    Event {
        tenant: Option<String>,
        agent: Option<String>,
        #[serde(rename = "received")]
        _received: u64,
        record: Value,
    },
    /// What became of repeats of a record sent before.
    Repeat {
        tenant: Option<String>,
        agent: Option<String>,
        first_seen: u64,
        last_seen: u64,
        count: u64,
        key: Value,
        #[serde(default)]
        exemplars: Vec<Value>,
        #[serde(default)]
        early: bool,
    },
    /// An agent was there.
    Presence {
        #[serde(rename = "tenant")]
        _tenant: Option<String>,
        agent: String,
        last_seen: u64,
        #[serde(default, rename = "version")]
        _version: Option<String>,
    },
}

impl Row {
    /// The records this row stands for.
    pub(crate) fn records(&self) -> u64 {
        match self {
            Self::Event { .. } | Self::Presence { .. } => 1,
            Self::Repeat { count, .. } => *count,
        }
    }

    fn check(&self) -> Result<(), &'static str> {
        match self {
            Self::Event { record, .. } if !record.is_object() => Err("the record is not an object"),
            Self::Repeat { count: 0, .. } => Err("a repeat of nothing"),
            Self::Repeat { key, .. } if !key.is_object() => Err("the key is not an object"),
            Self::Repeat { first_seen, last_seen, .. } if first_seen > last_seen => {
                Err("first_seen is after last_seen")
            }
            _ => Ok(()),
        }
    }
}

/// Reads the rows of a batch; the error names the first bad line, counted from 1.
pub(crate) fn parse_rows(ndjson: &[u8]) -> Result<Vec<Row>, String> {
    let mut rows = Vec::new();
    for (at, line) in lines(ndjson) {
        let row: Row = serde_json::from_slice(line).map_err(|error| format!("row {at}: {error}"))?;
        row.check().map_err(|reason| format!("row {at}: {reason}"))?;
        rows.push(row);
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

fn lines(text: &[u8]) -> impl Iterator<Item = (usize, &[u8])> {
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
"#,
        )
        .unwrap();
        assert_eq!(rows.iter().map(Row::records).collect::<Vec<_>>(), [1, 3, 1]);
    }

    #[test]
    fn a_row_against_the_contract_is_named_by_its_line() {
        let bad =
            b"{\"kind\":\"event\",\"received\":1,\"record\":{}}\n{\"kind\":\"event\",\"received\":1,\"record\":7}\n";
        assert_eq!(parse_rows(bad).unwrap_err(), "row 2: the record is not an object");
        assert!(parse_rows(b"{\"kind\":\"other\"}").unwrap_err().starts_with("row 1: unknown variant"));
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
