//! Kinds of record, how they merge, and how their batches travel.

use std::time::Duration;

use super::{CoreId, DeliveryPlan};
use crate::{ByteSize, Ratio};

/// `[[stream]]`: a named kind of record with its own merge rules.
#[derive(Clone, Debug, PartialEq)]
pub struct Stream {
    /// The name, `[a-z0-9-]`, 1 to 32 characters: it names a directory.
    pub name: String,
    /// How records merge.
    pub mode: Mode,
    /// The core that takes the batches.
    pub core: CoreId,
    /// The path at the core that takes the batches.
    pub path: String,
    /// What an acknowledgement promises.
    pub durability: Durability,
    /// When a batch closes and how it is packed.
    pub batch: BatchPlan,
    /// The bounds of what is kept on disk.
    pub spool: SpoolLimits,
    /// How a batch is tried again.
    pub retry: Retry,
    /// What the core's answers mean.
    pub delivery: DeliveryPlan,
    /// Batches on their way at once, at most.
    pub max_in_flight: usize,
}

/// `stream.mode`: how records merge.
#[derive(Clone, Debug, PartialEq)]
pub enum Mode {
    /// Batch only.
    Raw,
    /// Merge repeats of one agent.
    Events {
        /// The fields that make two records the same; each a top-level name or a JSON pointer. At least one.
        same: Vec<String>,
        /// The fields of which a repeat keeps examples.
        exemplars: Vec<String>,
        /// Examples kept for each repeat, at most.
        max_exemplars: usize,
        /// The time over which repeats are counted.
        window: Duration,
        /// Keys held at once, at most; past it the windows that end soonest leave early, marked.
        max_keys: usize,
        /// Bytes of memory that they take, at most, counted from above.
        max_merge_bytes: ByteSize,
        /// The part of both that one tenant may hold; past it that tenant's windows leave early, and no other's. More
        /// than none.
        max_tenant_share: Ratio,
    },
    /// The last state of an agent wins, and one that has not changed is counted.
    State {
        /// The fields that tell the states of one agent apart; each a top-level name or a JSON pointer. Without any, an
        /// agent has one state.
        key: Vec<String>,
        /// The time within which the last state wins.
        window: Duration,
        /// The time after which a state is sent though it has not changed, and after which a silent one is forgotten.
        refresh: Duration,
        /// Keys held at once, at most; over it those not seen for longest are forgotten.
        max_keys: usize,
        /// Bytes of keys and waiting states, at most.
        max_bytes: ByteSize,
    },
}

/// `stream.durability`: what an acknowledgement promises.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Durability {
    /// On stable storage: survives power loss.
    #[default]
    Fsync,
    /// With the operating system: survives a crash of the node, not of the machine.
    Os,
    /// In the node's memory, written a moment later: survives neither.
    Memory,
}

/// `stream.batch`: when a batch closes and how it is packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchPlan {
    /// Bytes of rows before compression, at most.
    pub max_bytes: ByteSize,
    /// Rows, at most.
    pub max_records: usize,
    /// The age of its first record at which a batch leaves.
    pub max_age: Duration,
    /// How it is packed.
    pub compression: Compression,
    /// How its rows are written; shapes in mode `events` alone.
    pub encoding: BatchEncoding,
}

/// `stream.batch.encoding`: how the rows of a batch are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum BatchEncoding {
    /// Each row is a line.
    #[default]
    Rows,
    /// Rows are tables in columns; what many have in common stands once.
    Shapes,
}

/// `stream.batch.compression`: how a batch is packed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Compression {
    /// LZ4 frame.
    #[default]
    Lz4,
    /// Zstandard.
    Zstd,
    /// gzip.
    Gzip,
}

/// `stream.spool`: the bounds of what is kept on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SpoolLimits {
    /// Bytes of journal, at most; past it uploads are answered 503.
    pub max_journal_bytes: ByteSize,
    /// Bytes of batches not yet acknowledged, at most; past it uploads are answered 503.
    pub max_outbox_bytes: ByteSize,
    /// The age at which a batch is given up that the core has not acknowledged; zero for never.
    pub max_age: Duration,
    /// Bytes of dead letters, at most; past it the oldest are removed.
    pub max_dead_bytes: ByteSize,
    /// Files of dead letters, at most; past it the oldest are removed.
    pub max_dead_files: usize,
    /// Uploads waiting for the journal at once, at most; past it uploads are answered 503.
    pub max_queued_uploads: usize,
}

/// `stream.retry`: how a batch is tried again: exponential with full jitter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retry {
    /// The first delay's upper bound.
    pub initial: Duration,
    /// The upper bound of every delay; a `Retry-After` is obeyed up to ten times of it.
    pub max: Duration,
}
