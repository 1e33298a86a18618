//! What a stream's records are to become: the part of the configuration that a journal must remember.

use serde::{Deserialize, Serialize};
use weir_batch::{BatchMeta, Compression, Format};
use weir_logic::merge::MergePlan;
use weir_logic::state::StatePlan;

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
    /// Batches of one generation at most, as long as they are not too large: how many a sender can have on their way.
    pub lanes: u32,
    /// How batches are packed.
    pub compression: Compression,
    /// How rows are written; [`Format::Shapes`] for [`PlanMode::Events`] alone.
    #[serde(default)]
    pub format: Format,
}

/// What is done with a stream's records.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PlanMode {
    /// Each leaves at once, as it is.
    Raw,
    /// Each is a row already, and leaves at once.
    Rows,
    /// Repeats of one agent are counted.
    Events(MergePlan),
    /// The last state of each agent wins, and unchanged ones are counted.
    State(StatePlan),
}

impl Plan {
    /// A plan for a stream of which nothing is left but batches like this one: it says where they go.
    pub(crate) fn of(meta: &BatchMeta) -> Self {
        Self {
            edge: meta.id.edge.clone(),
            stream: meta.id.stream.clone(),
            core: meta.core.clone(),
            path: meta.path.clone(),
            mode: PlanMode::Raw,
            max_batch_bytes: meta.counts.raw_bytes.max(1),
            max_batch_rows: meta.counts.rows.max(1),
            lanes: 1,
            compression: meta.compression,
            format: Format::Rows,
        }
    }

    /// Bytes of journal at which a generation is closed: as much as its batches hold if nothing merges.
    pub fn max_generation_bytes(&self) -> u64 {
        self.max_batch_bytes.saturating_mul(self.lanes.max(1).into())
    }

    /// Records at which a generation is closed.
    pub fn max_generation_records(&self) -> u64 {
        self.max_batch_rows.saturating_mul(self.lanes.max(1).into())
    }

    /// Bytes of rows of one generation that are kept at once, at most: a half more than is journaled, because rows that
    /// do not merge are longer than their records.
    pub fn max_kept_bytes(&self) -> u64 {
        self.max_generation_bytes().saturating_mul(3) / 2
    }

    /// Rows of one generation that are kept at once, at most.
    pub fn max_kept_rows(&self) -> u64 {
        self.max_generation_records().saturating_mul(3) / 2
    }

    /// The longest time for which a record can wait in a window, in milliseconds.
    pub fn window_ms(&self) -> u64 {
        match &self.mode {
            PlanMode::Raw | PlanMode::Rows => 0,
            PlanMode::Events(merge) => merge.window_ms.get(),
            PlanMode::State(state) => state.window_ms,
        }
    }
}
