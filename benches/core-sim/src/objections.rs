//! What a script holds against single rows of a batch. Pure: which rows, is a function of their text alone, so that the same
//! row meets the same fate in whatever batch it comes.

use bytes::Bytes;
use serde_json::{Value, json};
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

use crate::rows::lines;

/// What the script holds against rows, until it says otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Objection {
    /// A batch with a bad row in it is refused whole.
    Bad { one_in: u64 },
    /// A batch of more rows is refused whole.
    TooMany { max_rows: u64 },
    /// Some rows are refused and some are wanted again; the others are taken.
    Partly { one_in: u64 },
}

/// A batch of which not every row is taken.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Division {
    rejected: Vec<usize>,
    retry: Vec<usize>,
}

/// The number of the first bad row, counted from 0.
pub(crate) fn bad_row(ndjson: &[u8], one_in: u64) -> Option<usize> {
    lines(ndjson).position(|(_, line)| xxh3_64(line).is_multiple_of(one_in.max(1)))
}

impl Division {
    /// Divides a batch. A row that is wanted again comes under another id, and is drawn for anew there; so none is wanted for
    /// ever. A batch of which every row would be wanted again loses the first of them to the rejected: the contract knows no such
    /// answer.
    pub(crate) fn of(id: &str, ndjson: &[u8], one_in: u64) -> Self {
        let one_in = one_in.max(1);
        let (mut division, mut rows) = (Self::default(), 0);
        for (row, (_, line)) in lines(ndjson).enumerate() {
            rows += 1;
            if xxh3_64(line).is_multiple_of(one_in) {
                division.rejected.push(row);
            } else if xxh3_64_with_seed(line, xxh3_64(id.as_bytes())).is_multiple_of(one_in) {
                division.retry.push(row);
            }
        }
        if !division.retry.is_empty() && division.retry.len() == rows {
            division.rejected.push(division.retry.remove(0));
        }
        division
    }

    pub(crate) fn is_whole(&self) -> bool {
        self.rejected.is_empty() && self.retry.is_empty()
    }

    /// Whether the core takes this row.
    pub(crate) fn takes(&self, row: usize) -> bool {
        self.rejected.binary_search(&row).is_err() && self.retry.binary_search(&row).is_err()
    }

    /// The body of the answer 207.
    pub(crate) fn answer(&self) -> Bytes {
        let reason = |row: &usize| json!({"row": row, "reason": "the script says so"});
        let rejected: Vec<Value> = self.rejected.iter().map(reason).collect();
        json!({"rejected": rejected, "retry": self.retry}).to_string().into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch(rows: std::ops::Range<u32>) -> String {
        rows.map(|row| format!("{{\"row\":{row}}}\n")).collect()
    }

    #[test]
    fn a_bad_row_is_bad_in_every_batch() {
        let whole = batch(0..1000);
        let at = bad_row(whole.as_bytes(), 100).unwrap();
        let line = whole.lines().nth(at).unwrap();
        assert_eq!(bad_row(line.as_bytes(), 100), Some(0));
        assert_eq!(bad_row(batch(0..1000).replace(line, "").as_bytes(), u64::MAX), None);
    }

    #[test]
    fn rows_wanted_again_are_fewer_each_time() {
        let mut rows = batch(0..1000);
        for round in 0..10 {
            let division = Division::of(&format!("e/s/1/0.r{round}"), rows.as_bytes(), 3);
            let kept: String =
                division.retry.iter().map(|row| rows.lines().nth(*row).unwrap().to_owned() + "\n").collect();
            assert!(division.retry.len() < rows.lines().count());
            rows = kept;
            if rows.is_empty() {
                return;
            }
        }
        panic!("{} rows are wanted for ever", rows.lines().count());
    }

    #[test]
    fn a_batch_is_divided_the_same_way_each_time_and_every_row_is_in_one_part() {
        let rows = batch(0..500);
        let division = Division::of("e/s/1/0", rows.as_bytes(), 10);
        assert_eq!(division, Division::of("e/s/1/0", rows.as_bytes(), 10));
        let taken = (0..500).filter(|row| division.takes(*row)).count();
        assert_eq!(taken + division.rejected.len() + division.retry.len(), 500);
        assert!(!division.is_whole());
        assert!(Division::of("e/s/1/0", rows.as_bytes(), u64::MAX).is_whole());
    }

    #[test]
    fn a_lone_row_is_never_wanted_again() {
        let division = Division::of("e/s/1/0", b"{}\n", 1);
        assert!(division.retry.is_empty());
    }
}
