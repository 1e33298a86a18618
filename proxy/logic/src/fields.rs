//! The headers of a prepared answer: those that a stored answer lends to everyone who is given it, and the answer's own.
//!
//! A copy of a header counts in the header's memory, and a crowd that is given one stored answer would fight over these counts from
//! every processor. What is lent counts once, whatever the number of headers.

use std::fmt;
use std::iter::Chain;
use std::slice::Iter;
use std::sync::Arc;

use http::header::{HeaderName, HeaderValue};

use crate::cache::purge::Marks;

/// A header.
pub type Field = (HeaderName, HeaderValue);

/// A stored answer, which lends its headers.
pub trait Lender: fmt::Debug + Send + Sync {
    /// All that it has to lend. Always the same.
    fn fields(&self) -> &[Field];

    /// What it can be purged by.
    fn marks(&self) -> &Marks;
}

/// Headers in order, lent ones first. Memory: the own ones, and the lender for as long as this lives.
#[derive(Clone, Default)]
pub struct Fields {
    lent: Option<Lent>,
    own: Vec<Field>,
}

#[derive(Clone)]
struct Lent {
    lender: Arc<dyn Lender>,
    /// How many of the lender's, from the first on.
    count: usize,
}

impl Fields {
    /// The first `count` of a lender's, and room for `own` others.
    pub fn lent(lender: Arc<dyn Lender>, count: usize, own: usize) -> Self {
        Self { lent: Some(Lent { lender, count }), own: Vec::with_capacity(own) }
    }

    /// Adds one at the end.
    pub fn push(&mut self, field: Field) {
        self.own.push(field);
    }

    /// Keeps those of which `stays` says so.
    pub fn retain(&mut self, stays: impl FnMut(&Field) -> bool) {
        if let Some(lent) = self.lent.take() {
            self.own.splice(..0, lent.fields().iter().cloned());
        }
        self.own.retain(stays);
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.borrowed().len() + self.own.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// All of them in order.
    pub fn iter(&self) -> Chain<Iter<'_, Field>, Iter<'_, Field>> {
        self.borrowed().iter().chain(&self.own)
    }

    /// What the stored answer can be purged by that lends; `None` where nobody does.
    pub fn marks(&self) -> Option<&Marks> {
        self.lent.as_ref().map(|lent| lent.lender.marks())
    }

    fn borrowed(&self) -> &[Field] {
        self.lent.as_ref().map_or(&[], Lent::fields)
    }
}

impl Lent {
    fn fields(&self) -> &[Field] {
        let all = self.lender.fields();
        &all[..self.count.min(all.len())]
    }
}

impl<'a> IntoIterator for &'a Fields {
    type Item = &'a Field;
    type IntoIter = Chain<Iter<'a, Field>, Iter<'a, Field>>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl Extend<Field> for Fields {
    fn extend<I: IntoIterator<Item = Field>>(&mut self, fields: I) {
        self.own.extend(fields);
    }
}

impl From<Vec<Field>> for Fields {
    fn from(own: Vec<Field>) -> Self {
        Self { lent: None, own }
    }
}

impl fmt::Debug for Fields {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_list().entries(self).finish()
    }
}

#[cfg(test)]
mod tests {
    use http::header::{AGE, ETAG, VARY};

    use super::*;
    use crate::cache::purge::Mark;

    #[derive(Debug)]
    struct Stored(Vec<Field>, Marks);

    impl Lender for Stored {
        fn fields(&self) -> &[Field] {
            &self.0
        }

        fn marks(&self) -> &Marks {
            &self.1
        }
    }

    const ONE: HeaderValue = HeaderValue::from_static("1");

    fn names(fields: &Fields) -> Vec<&str> {
        fields.iter().map(|(name, _)| name.as_str()).collect()
    }

    #[test]
    fn lent_fields_come_first_and_taking_one_out_leaves_the_lender_alone() {
        let stored = Arc::new(Stored(vec![(ETAG, ONE), (VARY, ONE)], Marks::new([Mark::tag("a")], "/")));
        let mut fields = Fields::lent(Arc::clone(&stored) as Arc<dyn Lender>, 1, 1);
        fields.push((AGE, ONE));
        assert_eq!((names(&fields), fields.len()), (vec!["etag", "age"], 2));
        let mut all = Fields::lent(Arc::clone(&stored) as Arc<dyn Lender>, 9, 0);
        all.extend([(AGE, ONE)]);
        all.retain(|(name, _)| *name != ETAG);
        assert_eq!(names(&all), ["vary", "age"]);
        assert_eq!(stored.0.len(), 2);
        assert!(Fields::default().is_empty() && Fields::default().marks().is_none());
        let marks = Fields::lent(stored, 0, 0).marks().map(|marks| marks.iter().collect::<Vec<_>>());
        assert_eq!(marks, Some(vec![Mark::tag("a")]), "also where it lends no field");
    }
}
