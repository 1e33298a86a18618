//! What the node itself reports, by the same journal, outbox and sender as uploads: who is alive.
//!
//! Not here: what a report says, and when one is due.

use weir_logic::Identity;

use super::pipeline::Unkept;
use super::{Aggregate, PRESENCE};

impl Aggregate {
    /// Whether an earlier presence report waits for the core.
    pub(crate) fn presence_waits(&self) -> bool {
        self.streams.load().by_name.get(PRESENCE).is_some_and(|pipeline| pipeline.has_batches())
    }

    /// Keeps a presence report of that many rows, [`super::MAX_REPORT_BYTES`] at most; returns once the operating system
    /// has it. Its memory is not in the budget of uploads.
    ///
    /// # Errors
    /// Why the report is not kept: the spool has no room or cannot be written, or presence is switched off.
    pub(crate) async fn keep_presence(&self, agents: usize, rows: Vec<u8>) -> Result<(), &'static str> {
        let streams = self.streams.load_full();
        let Some(pipeline) = streams.by_name.get(PRESENCE) else { return Err("presence is switched off") };
        let kept = pipeline.keep(&Identity::default(), agents, rows, None).await;
        kept.map_err(Unkept::detail)
    }
}
