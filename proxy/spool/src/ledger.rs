//! What came in and what became of it.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use serde::{Deserialize, Serialize};
use weir_batch::Counts;

use crate::losses::{LossReason, Lost, PerReason};

/// The balance of a stream since its spool was made, across restarts.
///
/// Records accepted = delivered + buried + expired + damaged + waiting in the outbox + waiting in the journal and
/// the tables. All but the last two are kept in `progress`; the outbox is counted by its files.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ledger {
    /// Records accepted in generations that have been emitted.
    pub accepted: u64,
    /// What went to the outbox.
    pub emitted: Counts,
    /// What the core has acknowledged.
    pub delivered: Counts,
    /// What went to the dead letters, less what came back.
    pub buried: Counts,
    /// What came back from the dead letters into the outbox.
    pub revived: Counts,
    /// What was given up for its age.
    pub expired: Counts,
    /// What could not be read. Records are those of generations that have been emitted; of entries and files of the journal
    /// nobody can say how many they held.
    pub damaged: Lost,
    /// Of what went to the dead letters: what is no longer there.
    pub dropped: Lost,
    /// Rows that left before their window's end.
    pub early: u64,
}

impl Ledger {
    /// What the core is to be told of.
    pub fn lost(&self) -> PerReason<Lost> {
        let mut lost = PerReason::default();
        for reason in LossReason::ALL {
            *lost.of_mut(reason) = match reason {
                LossReason::Expired => Lost::records(self.expired.records),
                // That it came back is not told: the core sees it come.
                LossReason::DeadLetter => Lost::records(self.buried.records.saturating_add(self.revived.records)),
                LossReason::Dropped => self.dropped,
                LossReason::Damaged => self.damaged,
                LossReason::EarlyFlush => Lost::records(self.early),
            };
        }
        lost
    }
}

/// How far a spool has emitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mark {
    /// The last generation whose batches are all in the outbox.
    pub generation: u64,
    /// When it was sealed: milliseconds since 1970. Windows that ended by then have left.
    pub sealed_at: u64,
}

/// Numbers that the parts of a spool share while it runs.
#[derive(Debug, Default)]
pub struct Meters {
    journal_bytes: AtomicU64,
    unread: AtomicU64,
    accepted: AtomicU64,
    imbalance: AtomicI64,
}

impl Meters {
    /// Bytes of all segments on disk, but for zeros that the open one is to be written over.
    pub fn journal_bytes(&self) -> u64 {
        self.journal_bytes.load(Ordering::Relaxed)
    }

    /// Bytes of journal that have not been merged yet.
    pub fn unread_bytes(&self) -> u64 {
        self.unread.load(Ordering::Relaxed)
    }

    /// Records accepted since the spool was made, but for those of earlier runs that have been neither emitted nor
    /// replayed.
    pub fn accepted(&self) -> u64 {
        self.accepted.load(Ordering::Relaxed)
    }

    /// Records that went into generations less those that came out or wait in windows. Anything but zero is a defect.
    pub fn imbalance(&self) -> i64 {
        self.imbalance.load(Ordering::Relaxed)
    }

    pub(crate) fn grow(&self, bytes: u64) {
        self.journal_bytes.fetch_add(bytes, Ordering::Relaxed);
        self.unread.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(crate) fn read(&self, bytes: u64) {
        self.unread.fetch_sub(bytes, Ordering::Relaxed);
    }

    pub(crate) fn shrink(&self, bytes: u64) {
        self.journal_bytes.fetch_sub(bytes, Ordering::Relaxed);
    }

    pub(crate) fn accept(&self, records: u64) {
        self.accepted.fetch_add(records, Ordering::Relaxed);
    }

    pub(crate) fn misbalance(&self, records: i64) {
        self.imbalance.fetch_add(records, Ordering::Relaxed);
    }
}
