//! What a stream's records are to become: the part of the configuration that a journal must remember.

use serde::{Deserialize, Serialize};
use weir_batch::Compression;
use weir_logic::merge::MergePlan;

/// The plan in force for a generation, kept in its segment so that replay under another configuration makes the same
/// batches.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// The edge's name; part of every batch id.
    pub edge: String,
    /// The stream's name; part of every batch id.
    pub stream: String,
    /// The core that takes the batches, by its name in the configuration.
    pub core: String,
    /// The path at the core.
    pub path: String,
    /// What is done with records.
    pub mode: PlanMode,
    /// Bytes of rows in one batch, at most; a longer row has a batch of its own.
    pub max_batch_bytes: u64,
    /// Rows in one batch, at most; at least one.
    pub max_batch_rows: u64,
    /// How batches are packed.
    pub compression: Compression,
}

/// What is done with a stream's records.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PlanMode {
    /// Each leaves at once, as it is.
    Raw,
    /// Repeats of one agent are counted.
    Events(MergePlan),
}

impl Plan {
    /// The longest time for which a record can wait in a window, in milliseconds.
    pub fn window_ms(&self) -> u64 {
        match &self.mode {
            PlanMode::Raw => 0,
            PlanMode::Events(merge) => merge.window_ms,
        }
    }
}
