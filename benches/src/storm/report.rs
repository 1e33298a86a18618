//! What a scenario gives: a verdict, what else was seen, and curves.

use serde::{Deserialize, Serialize};

use crate::verdict::Line;

/// The result of one scenario.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// Its name.
    pub scenario: String,
    /// The protection that was off, if one was.
    pub without: Option<String>,
    /// The verdict.
    pub lines: Vec<Line>,
    /// What was seen and is not judged.
    pub notes: Vec<String>,
    /// Curves over the seconds of the run.
    pub panels: Vec<Panel>,
    /// Moments of the run: the second and what happened.
    pub moments: Vec<(u32, String)>,
}

/// Curves on one pair of axes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Panel {
    /// What is shown, with its unit.
    pub title: String,
    /// The curves.
    pub curves: Vec<Curve>,
}

/// A value for each second.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Curve {
    /// Whose.
    pub name: String,
    /// From second 0 on.
    pub values: Vec<f64>,
}

impl Report {
    /// Whether every line passed; a verdict without lines has not.
    pub fn passed(&self) -> bool {
        !self.lines.is_empty() && self.lines.iter().all(|line| line.passed)
    }
}

impl Report {
    /// This report and what another run of the same scenario gave; the moments are this one's.
    pub(super) fn and(mut self, other: Self) -> Self {
        self.lines.extend(other.lines);
        self.notes.extend(other.notes);
        self.panels.extend(other.panels);
        self
    }
}

impl Curve {
    pub(super) fn new(name: &str, values: impl IntoIterator<Item = f64>) -> Self {
        Self { name: name.to_owned(), values: values.into_iter().collect() }
    }
}
