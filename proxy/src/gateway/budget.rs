//! The memory that request bodies may take, all of them together.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use prometheus::IntGauge;

/// Counts the bytes of bodies in memory.
#[derive(Clone, Debug)]
pub(super) struct Budget {
    used: Arc<AtomicUsize>,
    gauge: IntGauge,
}

/// Bytes taken out of the budget; they return when this is dropped.
#[derive(Debug)]
pub(super) struct Hold {
    budget: Budget,
    bytes: usize,
}

impl Budget {
    /// A budget of which nothing is taken. `gauge` shows what is.
    pub(super) fn new(gauge: IntGauge) -> Self {
        Self { used: Arc::default(), gauge }
    }

    /// A hold of nothing yet.
    pub(super) fn hold(&self) -> Hold {
        Hold { budget: self.clone(), bytes: 0 }
    }
}

impl Hold {
    /// Takes `bytes` more, unless all holds together would then pass `bound`. Says whether it took them.
    #[must_use]
    pub(super) fn grow(&mut self, bytes: usize, bound: usize) -> bool {
        let grown = self.budget.used.fetch_update(Ordering::AcqRel, Ordering::Acquire, |used| {
            used.checked_add(bytes).filter(|sum| *sum <= bound)
        });
        if grown.is_ok() {
            self.bytes += bytes;
            self.budget.gauge.add(signed(bytes));
        }
        grown.is_ok()
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.budget.used.fetch_sub(self.bytes, Ordering::AcqRel);
        self.budget.gauge.sub(signed(self.bytes));
    }
}

fn signed(bytes: usize) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn holds_never_pass_the_bound_together() {
        let gauge = IntGauge::new("held", "Held.").unwrap();
        let budget = Budget::new(gauge.clone());
        let (mut first, mut second) = (budget.hold(), budget.hold());
        assert!(first.grow(60, 100));
        assert!(!second.grow(41, 100));
        assert!(second.grow(40, 100));
        assert_eq!(gauge.get(), 100);
        drop(first);
        assert!(second.grow(60, 100));
        drop(second);
        assert_eq!(gauge.get(), 0);
    }
}
