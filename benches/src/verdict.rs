//! Lines of a verdict: what is judged, what was measured, what it must be. The rules themselves are each program's own.

use serde::{Deserialize, Serialize};

/// One line of a verdict.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Line {
    /// What is judged.
    pub what: String,
    /// What was measured.
    pub measured: String,
    /// What it must be.
    pub threshold: String,
    /// Whether it is.
    pub passed: bool,
}

/// A line judged by the caller.
pub(crate) fn line(what: &str, measured: String, threshold: String, passed: bool) -> Line {
    Line { what: what.to_owned(), measured, threshold, passed }
}

/// A count that must be zero.
pub(crate) fn zero(what: &str, count: u64) -> Line {
    line(what, count.to_string(), "0".to_owned(), count == 0)
}

/// The lines as a table for the terminal, a blank line before it.
pub(crate) fn table(lines: &[Line]) -> String {
    let width = |column: fn(&Line) -> &String| lines.iter().map(|row| column(row).chars().count()).max().unwrap_or(0);
    let (what, measured, threshold) = (width(|row| &row.what), width(|row| &row.measured), width(|row| &row.threshold));
    let mut text = String::from("\n");
    for row in lines {
        let verdict = if row.passed { "pass" } else { "FAIL" };
        let line = format!(
            "  {verdict}  {:<what$}  {:>measured$}  must be {:<threshold$}",
            row.what, row.measured, row.threshold
        );
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}
