//! The search for the rows of a batch that the core refuses: pure, no files.
//!
//! The rows of a batch are settled from the first to the last. A refused request has a bad row in it; its first half is
//! tried next. When that is accepted, the bad row is in the other half, which is cut again without being sent. All
//! that follows the suspects stays together and goes in one request once the bad row is found: one bad row in 10,000
//! costs 14 requests to find and one for the rest.
//!
//! The request that follows a state is a function of the state alone, and its id says which rows it holds. So a request
//! whose answer was lost is made again with the same rows under the same id, also after a crash.

use std::ops::Range;

use serde::{Deserialize, Serialize};
use weir_batch::{Counts, Refused};

/// How far the search in a batch has come.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Trial {
    /// The batch's rows.
    rows: u64,
    /// Rows before this one are settled.
    from: u64,
    /// A bad row is known to be before this one.
    suspects: Option<u64>,
    /// The first row of the last request that was refused; it ended with the last suspect.
    refused_from: u64,
    /// Bad rows found.
    found: u32,
    /// Whether the core has accepted any row.
    accepted: bool,
    /// What is not settled.
    pub(crate) left: Counts,
    /// What the core said to the last request that it refused.
    pub(crate) refusal: Refused,
    /// Batches made of rows that the core wants again.
    pub(crate) again: Vec<String>,
}

/// Bad rows looked for in one batch while the core has accepted none of it: past them, all of it is at fault.
const MAX_FOUND_OF_NOTHING: u32 = 4;

/// Bad rows looked for in one batch.
const MAX_FOUND: u32 = 64;

impl Trial {
    /// Before the first answer.
    pub(crate) fn new(counts: Counts) -> Self {
        Self { rows: counts.rows, left: counts, ..Self::default() }
    }

    /// The rows of the next request.
    pub(crate) fn request(&self) -> Range<u64> {
        let Some(suspects) = self.suspects else { return self.from..self.rows };
        self.from..self.from + (suspects - self.from).div_ceil(2)
    }

    /// All rows that are not settled.
    pub(crate) fn rest(&self) -> Range<u64> {
        self.from..self.rows
    }

    /// Whether this can be a state of a batch that holds that.
    pub(crate) fn is_of(&self, whole: Counts) -> bool {
        let suspects = self.suspects.is_none_or(|suspects| suspects > self.from && suspects <= self.rows);
        self.rows == whole.rows && self.left.records <= whole.records && self.from < self.rows && suspects
    }

    /// Whether every row is settled.
    pub(crate) fn is_over(&self) -> bool {
        self.from >= self.rows
    }

    /// The core has accepted the request. Gives the row that must then be the bad one, settled along with it: the other
    /// of two that were refused together.
    pub(crate) fn accept(&mut self) -> Option<Range<u64>> {
        let request = self.request();
        let of_two = self.suspects.filter(|suspects| {
            let refused = self.refused_from..*suspects;
            refused == (request.start..request.start + 2) && request.end < *suspects
        });
        self.accepted = true;
        let bad = of_two.map(|suspects| request.end..suspects);
        self.found += u32::from(bad.is_some());
        self.settle(bad.as_ref().map_or(request.end, |bad| bad.end));
        bad
    }

    /// The core has refused the request for good. Gives the rows that are to be given up, settled with that.
    pub(crate) fn refuse(&mut self, refusal: Refused) -> Option<Range<u64>> {
        let request = self.request();
        self.refusal = refusal;
        if request.end - request.start > 1 {
            (self.suspects, self.refused_from) = (Some(request.end), request.start);
            return None;
        }
        self.found += 1;
        let limit = if self.accepted { MAX_FOUND } else { MAX_FOUND_OF_NOTHING };
        let bad = if self.found < limit { request } else { self.rest() };
        self.settle(bad.end);
        self.suspects = None;
        Some(bad)
    }

    /// The core has said of each row of the request what becomes of it.
    pub(crate) fn divide(&mut self) {
        self.accepted = true;
        self.settle(self.request().end);
        self.suspects = None;
    }

    /// Settles all rows before this one.
    pub(crate) fn settle(&mut self, end: u64) {
        self.from = end;
        self.suspects = self.suspects.filter(|suspects| *suspects > end);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Plays the core against a batch; gives the requests made after the first one and the rows given up.
    fn play(rows: u64, is_bad: impl Fn(u64) -> bool) -> (u64, Vec<u64>) {
        let mut trial = Trial::new(Counts { rows, ..Counts::default() });
        let (mut requests, mut given_up, mut next) = (0, Vec::new(), 0);
        while !trial.is_over() {
            let request = trial.request();
            assert!(request.start == next && request.end > next && request.end <= rows, "{trial:?}");
            let bad = if request.clone().any(&is_bad) { trial.refuse(Refused::default()) } else { trial.accept() };
            next = trial.rest().start;
            given_up.extend(bad.into_iter().flatten());
            requests += 1;
        }
        (requests - 1, given_up)
    }

    #[test]
    fn one_bad_row_in_ten_thousand_costs_at_most_fifteen_requests_wherever_it_is() {
        for bad in (0..10_000).step_by(7).chain([9_999]) {
            let (extra, given_up) = play(10_000, |row| row == bad);
            assert!(extra <= 15 && given_up == [bad], "row {bad}: {extra} requests, {given_up:?}");
        }
    }

    #[test]
    fn every_bad_row_is_found_and_no_other_given_up() {
        for rows in 1..40 {
            for (a, b, c) in [(0, 1, 2), (0, rows - 1, rows / 2), (3, 7, 31), (rows, rows, rows)] {
                let is_bad = |row| [a, b, c].contains(&row);
                assert_eq!(play(rows, is_bad).1, (0..rows).filter(|row| is_bad(*row)).collect::<Vec<_>>(), "{rows}");
            }
        }
    }

    #[test]
    fn a_core_that_refuses_everything_is_soon_believed() {
        let (extra, given_up) = play(10_000, |_| true);
        assert!(extra < 64 && given_up.len() == 10_000, "{extra}");
    }

    #[test]
    fn a_row_that_was_only_suspected_is_tried_before_it_is_given_up() {
        let mut trial = Trial::new(Counts { rows: 8, ..Counts::default() });
        assert_eq!(trial.refuse(Refused::default()), None);
        // The core was wrong about the whole: it takes every part.
        let mut given_up = Vec::new();
        while !trial.is_over() {
            given_up.extend(trial.accept());
        }
        assert_eq!(given_up, []);
    }
}
