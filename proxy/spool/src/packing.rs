//! Rows of one generation into batches.
//!
//! Not here: what makes a row, and when a generation ends.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;

use weir_batch::{BatchEncoder, BatchId, BatchMeta, Payload};
use weir_logic::Millis;
use weir_logic::merge::SHARDS;

use crate::plan::Plan;

/// The batches of one generation. Holds one in the making, and the finished ones until they are taken.
pub(crate) struct Packing {
    plan: Arc<Plan>,
    generation: u64,
    /// Whether the generation has been emitted before: its rows are then counted and not packed.
    emitted: bool,
    encoder: Option<BatchEncoder>,
    /// The shards of the agents whose rows are in it.
    shards: u64,
    ordinal: u32,
    finished: VecDeque<Finished>,
    records: u64,
}

struct Finished {
    ordinal: u32,
    payload: Payload,
    shards: u64,
}

impl Packing {
    pub(crate) fn new(generation: u64, plan: Arc<Plan>, emitted: bool) -> Self {
        let finished = VecDeque::new();
        Self { plan, generation, emitted, encoder: None, shards: 0, ordinal: 0, finished, records: 0 }
    }

    /// Whether the generation has been emitted before.
    pub(crate) fn is_emitted(&self) -> bool {
        self.emitted
    }

    /// Records that the rows so far stand for.
    pub(crate) fn records(&self) -> u64 {
        self.records
    }

    /// Adds a row that is one record, of an agent of that shard.
    pub(crate) fn push(&mut self, shard: usize, row: &[u8]) -> io::Result<()> {
        self.records += 1;
        match self.encoder_for(shard, row)? {
            Some(encoder) => encoder.push(row),
            None => Ok(()),
        }
    }

    /// Adds a row that stands for so many repeats of an agent of that shard.
    pub(crate) fn push_repeat(&mut self, shard: usize, row: &[u8], count: u64) -> io::Result<()> {
        self.records += count;
        match self.encoder_for(shard, row)? {
            Some(encoder) => encoder.push_repeat(row, count),
            None => Ok(()),
        }
    }

    /// Closes the batch in the making.
    pub(crate) fn finish(&mut self) -> io::Result<()> {
        if let Some(encoder) = self.encoder.take() {
            let (payload, shards) = (encoder.finish()?, std::mem::take(&mut self.shards));
            self.finished.push_back(Finished { ordinal: self.ordinal, payload, shards });
            self.ordinal += 1;
        }
        Ok(())
    }

    /// The oldest finished batch, sealed then.
    pub(crate) fn front(&self, sealed_at: Millis) -> Option<(BatchMeta, &[u8])> {
        let Finished { ordinal, payload, shards } = self.finished.front()?;
        let meta = BatchMeta {
            id: BatchId::new(&self.plan.edge, &self.plan.stream, self.generation, *ordinal),
            core: self.plan.core.clone(),
            path: self.plan.path.clone(),
            compression: payload.compression,
            counts: payload.counts,
            sealed_at: sealed_at.0,
            shards: *shards,
            refusal: None,
        };
        Some((meta, &payload.bytes))
    }

    /// Forgets the oldest finished batch: it is in the outbox.
    pub(crate) fn pop(&mut self) {
        self.finished.pop_front();
    }

    /// The batch in the making with room for the row, after closing one that has none; `None` when nothing is packed.
    fn encoder_for(&mut self, shard: usize, row: &[u8]) -> io::Result<Option<&mut BatchEncoder>> {
        if self.emitted {
            return Ok(None);
        }
        let counts = self.encoder.as_ref().map(BatchEncoder::counts).unwrap_or_default();
        let full = counts.raw_bytes + row.len() as u64 > self.plan.max_batch_bytes;
        if counts.rows > 0 && (full || counts.rows >= self.plan.max_batch_rows) {
            self.finish()?;
        }
        self.shards |= 1 << (shard % SHARDS);
        let encoder = match &mut self.encoder {
            Some(encoder) => encoder,
            none => none.insert(BatchEncoder::new(self.plan.compression)?),
        };
        Ok(Some(encoder))
    }
}
