//! Counts that are stored, and what has become of them.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::Failure;

/// Instructions by operation.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub(super) struct Baseline(BTreeMap<String, u64>);

/// A count may change by one of so many parts without a word: compilers and allocators are not that exact.
const PARTS: u64 = 20;

impl Baseline {
    pub(super) fn read(path: &Path) -> Result<Self, Failure> {
        let text = std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
        Ok(serde_json::from_str(&text).map_err(|error| format!("{}: {error}", path.display()))?)
    }

    pub(super) fn write(&self, path: &Path) -> Result<(), Failure> {
        std::fs::write(path, serde_json::to_string_pretty(self)? + "\n")?;
        Ok(())
    }

    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a count of instructions")]
    pub(super) fn set(&mut self, name: &str, instructions: f64) {
        self.0.insert(name.to_owned(), instructions.round() as u64);
    }

    /// What differs by more than the tolerance, dearer or cheaper; with `all`, also what only one of them has.
    pub(super) fn changes(&self, counted: &Self, all: bool) -> Vec<String> {
        let mut changes = Vec::new();
        for (name, now) in &counted.0 {
            match self.0.get(name) {
                None => changes.push(format!("{name} is not in the baseline: it takes {now} instructions")),
                Some(then) => {
                    if now.abs_diff(*then) * PARTS > *then {
                        let ratio = *now as f64 / (*then).max(1) as f64;
                        changes.push(format!(
                            "{name} takes {now} instructions, {:+.1} % of the {then} in the baseline: say why in the commit and \
                             write the baseline anew",
                            (ratio - 1.0) * 100.0
                        ));
                    }
                }
            }
        }
        let gone = self.0.keys().filter(|name| all && !counted.0.contains_key(*name));
        changes.extend(gone.map(|name| format!("{name} is in the baseline and was not counted")));
        changes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn baseline(counts: &[(&str, f64)]) -> Baseline {
        let mut baseline = Baseline::default();
        counts.iter().for_each(|(name, count)| baseline.set(name, *count));
        baseline
    }

    #[test]
    fn a_twentieth_is_not_a_change_and_more_is_either_way() {
        let stored = baseline(&[("merge", 1000.0)]);
        for (count, changes) in [(1050.0, 0), (950.0, 0), (1051.0, 1), (949.0, 1)] {
            assert_eq!(stored.changes(&baseline(&[("merge", count)]), true).len(), changes, "{count}");
        }
    }

    #[test]
    fn what_only_one_of_them_has_is_a_change() {
        let (stored, counted) = (baseline(&[("a", 1.0)]), baseline(&[("b", 1.0)]));
        assert_eq!(stored.changes(&counted, true).len(), 2);
        assert_eq!(stored.changes(&counted, false).len(), 1);
    }
}
