//! The core's answer 207 to a batch: which rows it refuses, and which it wants again.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;

/// What a 207 says. Rows are numbered from 0 in the request it answers; those that are not named are accepted for good.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PartialAnswer {
    /// Rows that the core will never take, and why.
    pub rejected: BTreeMap<u64, String>,
    /// Rows that it may take later.
    pub retry: BTreeSet<u64>,
}

/// At least one member must be there: a 207 of some other protocol accepts nothing.
#[derive(Deserialize)]
struct Body {
    rejected: Option<Vec<Rejected>>,
    retry: Option<Vec<u64>>,
}

#[derive(Deserialize)]
struct Rejected {
    row: u64,
    #[serde(default)]
    reason: String,
}

impl PartialAnswer {
    /// Reads the answer to a batch of `rows` rows. `None` when it is not this JSON, names a row that was not sent, or
    /// names one twice: nothing of the batch is then accepted. Members that are not known are passed over.
    pub fn parse(body: &[u8], rows: u64) -> Option<Self> {
        // An array of two lists would otherwise pass for an object with its members in order.
        body.trim_ascii_start().starts_with(b"{").then_some(())?;
        let body: Body = serde_json::from_slice(body).ok()?;
        if body.rejected.is_none() && body.retry.is_none() {
            return None;
        }
        let mut answer = Self::default();
        for Rejected { row, reason } in body.rejected.unwrap_or_default() {
            let known = answer.rejected.insert(row, reason);
            (row < rows && known.is_none()).then_some(())?;
        }
        for row in body.retry.unwrap_or_default() {
            let known = answer.rejected.contains_key(&row) || !answer.retry.insert(row);
            (row < rows && !known).then_some(())?;
        }
        Some(answer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_rejected_wanted_again_or_accepted() {
        let answer = br#"{"rejected":[{"row":1,"reason":"no pid"},{"row":0}],"retry":[3,2],"trace":7}"#;
        let answer = PartialAnswer::parse(answer, 5).unwrap();
        assert_eq!(answer.rejected, BTreeMap::from([(0, String::new()), (1, "no pid".to_owned())]));
        assert_eq!(answer.retry, BTreeSet::from([2, 3]));
        assert_eq!(PartialAnswer::parse(br#"{"retry":[]}"#, 1), Some(PartialAnswer::default()));
    }

    #[test]
    fn an_answer_that_cannot_be_believed_is_none() {
        for body in [
            "",
            "{}",
            "[]",
            "[[],[]]",
            "<multistatus/>",
            r#"{"retry":[5]}"#,
            r#"{"retry":[-1]}"#,
            r#"{"retry":[1,1]}"#,
            r#"{"rejected":[{"row":1},{"row":1}]}"#,
            r#"{"rejected":[{"row":1}],"retry":[1]}"#,
            r#"{"rejected":[{"reason":"x"}]}"#,
        ] {
            assert_eq!(PartialAnswer::parse(body.as_bytes(), 5), None, "{body}");
        }
    }
}
