//! Streams that keep no uploads at the moment, and why.

use std::time::Duration;

/// A stream that turns uploads away.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShutStream {
    /// The stream's name.
    pub stream: String,
    /// Why.
    pub reason: ShutReason,
    /// For how long, where it is the disk's fault.
    pub since: Option<Duration>,
}

/// Why a stream turns uploads away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ShutReason {
    /// The journal cannot be written: the disk fails or is full. Ends by itself.
    Disk,
    /// The journal is at its bound: merging does not keep up, or the outbox cannot be written. Ends by itself.
    Journal,
    /// The outbox is at its bound: the core has not taken batches for long. Ends by itself.
    Outbox,
    /// A defect has ended the stream's merge thread. Ends with a restart.
    Broken,
}

impl ShutReason {
    /// All reasons.
    pub const ALL: [Self; 4] = [Self::Disk, Self::Journal, Self::Outbox, Self::Broken];

    /// The name in metrics and documents.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Disk => "disk",
            Self::Journal => "journal",
            Self::Outbox => "outbox",
            Self::Broken => "broken",
        }
    }
}

impl ShutStream {
    /// A disk that has failed for less time than this may be busy with something that passes.
    const PATIENCE: Duration = Duration::from_secs(10);

    /// Whether agents had better go to another node. A bound that is reached is no reason: the core is behind it, so
    /// that other nodes are about to reach theirs, and all of them would leave at once.
    pub fn is_better_elsewhere(&self) -> bool {
        match self.reason {
            ShutReason::Disk => self.since >= Some(Self::PATIENCE),
            ShutReason::Broken => true,
            ShutReason::Journal | ShutReason::Outbox => false,
        }
    }
}
