//! Room for uploads in memory: those being unpacked, and those waiting for a journal.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::{Semaphore, SemaphorePermit};

/// The bytes that unpacked uploads of all streams may take together, and how many large ones are unpacked at once.
#[derive(Debug)]
pub(super) struct Room {
    taken: Arc<AtomicUsize>,
    unpacking: Semaphore,
}

/// A place in memory for one upload's records, until it is dropped.
#[derive(Debug)]
#[must_use]
pub(super) struct Place {
    taken: Arc<AtomicUsize>,
    bytes: usize,
}

/// Large uploads unpacked at once. Each takes at most twice `limits.max_inflated_bytes` while it is; the rest wait with
/// what they brought along.
const UNPACKING: usize = 4;

impl Room {
    pub(super) fn new() -> Self {
        Self { taken: Arc::default(), unpacking: Semaphore::new(UNPACKING) }
    }

    /// A place for `bytes` bytes; `None` when fewer than that are left of `max_bytes`.
    pub(super) fn take(&self, bytes: usize, max_bytes: usize) -> Option<Place> {
        let before = self.taken.fetch_add(bytes, Ordering::AcqRel);
        let place = Place { taken: Arc::clone(&self.taken), bytes };
        (before.saturating_add(bytes) <= max_bytes).then_some(place)
    }

    /// Waits until one more large upload may be unpacked.
    pub(super) async fn unpack(&self) -> Option<SemaphorePermit<'_>> {
        self.unpacking.acquire().await.ok()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.taken.fetch_sub(self.bytes, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_fit_leaves_no_trace() {
        let room = Room::new();
        let first = room.take(6, 10).unwrap();
        assert!(room.take(5, 10).is_none());
        let second = room.take(4, 10).unwrap();
        drop((first, second));
        assert!(room.take(10, 10).is_some());
    }
}
