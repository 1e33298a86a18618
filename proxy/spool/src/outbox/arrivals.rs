//! What has come into the outbox, for whoever keeps the order of its going.

use std::sync::Arc;

use weir_logic::Millis;
use weir_logic::delivery::Arrival;

use super::{Outbox, Waiting};
use crate::files::Files;

impl<F: Files> Outbox<F> {
    /// The batches that have come since the last call, the first of all included: whole ones, halves, and those of rows
    /// that the core wants again. One that has left meanwhile is not among them. For a single caller.
    pub fn take_arrivals(&self) -> Vec<Arrival> {
        let mut state = self.state.lock();
        let names = std::mem::take(&mut state.arrived);
        names.iter().filter_map(|name| state.waiting.get(name).map(Waiting::arrival)).collect()
    }
}

impl Waiting {
    fn arrival(&self) -> Arrival {
        Arrival {
            name: Arc::from(self.name()),
            sealed_at: Millis(self.meta.sealed_at),
            shards: self.meta.shards,
            bytes: self.bytes,
        }
    }
}
