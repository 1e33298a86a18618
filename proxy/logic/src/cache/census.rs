//! How many kept answers carry each mark, so that whoever purges them is told without a look at each.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use super::purge::{Mark, Marks};
use crate::heap::table_place;

/// Counts by mark. Memory: [`Census::PLACE_BYTES`] for each different mark.
#[derive(Clone, Debug, Default)]
pub struct Census(HashMap<Mark, usize>);

impl Census {
    /// The memory of one mark, however many carry it.
    pub const PLACE_BYTES: usize = table_place(size_of::<(Mark, usize)>());

    /// One more answer is kept.
    pub fn enter(&mut self, marks: &Marks) {
        for mark in marks.iter() {
            *self.0.entry(mark).or_default() += 1;
        }
    }

    /// One that had entered is kept no more.
    pub fn leave(&mut self, marks: &Marks) {
        for mark in marks.iter() {
            if let Entry::Occupied(mut count) = self.0.entry(mark) {
                *count.get_mut() -= 1;
                if *count.get() == 0 {
                    count.remove();
                }
            }
        }
    }

    /// How many carry the mark.
    pub fn count(&self, mark: Mark) -> usize {
        self.0.get(&mark).copied().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_left_is_forgotten() {
        let marks = |tags: &[&str]| Marks::new(tags.iter().map(|tag| Mark::tag(tag)), "/");
        let mut census = Census::default();
        census.enter(&marks(&["a", "b"]));
        census.enter(&marks(&["b"]));
        assert_eq!(["a", "b", "c"].map(|tag| census.count(Mark::tag(tag))), [1, 2, 0]);
        census.leave(&marks(&["a", "b"]));
        assert_eq!((census.count(Mark::tag("b")), census.0.len()), (1, 1));
    }
}
