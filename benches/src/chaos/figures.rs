//! What a run came to: the document that `--json` writes and the verdict is read from.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use weir_core_sim::BatchCounts;

use super::fault::Fault;
use crate::verdict::Line;

/// The version of the document.
pub(super) const FORMAT: u32 = 1;

/// Everything that a run came to.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Figures {
    /// The version of this document.
    pub format: u32,
    /// The seed of the faults.
    pub seed: u64,
    /// How many faults were asked for.
    pub wanted: u32,
    /// Those that were brought about.
    pub faults: Vec<Inflicted>,
    /// Lives of the node.
    pub lives: u32,
    /// Faults after which the node took no upload until it was started anew, by their numbers.
    pub stuck_after: Vec<u32>,
    /// Times that SIGTERM did not end the node with exit code 0, the last time included.
    pub unclean_stops: u32,
    /// Times that records were destroyed and the node cannot but have noticed: uploads, and batches that are missed.
    pub damages: u64,
    /// Times that the node's log told of damage.
    pub damage_reports: u64,
    /// Records by key.
    pub records: RecordFigures,
    /// Records by id.
    pub ids: IdFigures,
    /// Batches at the core.
    pub batches: BatchCounts,
    /// The node's ledger and what the core and the files say to it, by stream.
    pub streams: BTreeMap<String, StreamFigures>,
    /// The judgement.
    pub verdict: Vec<Line>,
}

/// A fault, brought about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Inflicted {
    /// Milliseconds since the first upload.
    pub at_ms: u64,
    /// Which.
    #[serde(flatten)]
    pub fault: Fault,
    /// What was done to a file, where that is chosen on the spot; empty for other faults, and where there was no such file.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub done: String,
}

/// Records over all keys (tenant, agent, and the fields that make them the same).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecordFigures {
    /// Records that agents were told are safe.
    pub acknowledged: u64,
    /// Records in uploads without an answer: they may have been taken.
    pub in_doubt: u64,
    /// Records at the core, each batch id once.
    pub at_core: u64,
    /// Records in dead letters.
    pub dead: u64,
    /// Records destroyed by bits turned over.
    pub destroyed: u64,
    /// Records acknowledged, not destroyed, and nowhere.
    pub missing: u64,
    /// Records that are somewhere more often than they were sent.
    pub surplus: u64,
    /// Keys with either.
    pub differing_keys: u64,
    /// Some of them, with what they have too much or too little.
    pub examples: BTreeMap<String, i64>,
    /// Records that did not fit into the bounds of what is remembered; the comparison is void unless 0.
    pub forgotten: u64,
}

/// Records that go by an id of their own.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdFigures {
    /// Acknowledged on the stream whose records leave as they came.
    pub acknowledged: u64,
    /// Of those, neither at the core nor in the dead letters nor destroyed.
    pub missing: u64,
    /// Ids that are in more than one place, or twice in one.
    pub repeated: u64,
}

/// A stream as the node, the core and the files have it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StreamFigures {
    /// The node: records accepted.
    pub accepted: u64,
    /// The node: records given up.
    pub discarded: u64,
    /// The node: records that it still holds.
    pub held: u64,
    /// The node: what its ledger cannot account for.
    pub difference: i64,
    /// The core: records.
    pub at_core: u64,
    /// The files: records in dead letters.
    pub dead: u64,
    /// The scenario: records destroyed.
    pub destroyed: u64,
}
