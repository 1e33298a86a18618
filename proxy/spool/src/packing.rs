//! Rows of one generation into batches.
//!
//! The rows are kept until the generation ends. Those that fit into one batch become one. More are divided by the
//! shards of their agents into batches of about equal size, so that a sender can have several on their way and an
//! agent's rows still follow one another: they are in one batch or, where one shard alone is larger than a batch may
//! be, in batches that share the shard's bit and follow each other by ordinal. A row is compressed once.
//!
//! A generation that was not announced may be packed anew, and differently: none of its batches has been sent.
//!
//! Memory: the bytes of the rows up to [`Plan::max_kept_bytes`] and one row, twice that while the buffer grows, and 40
//! bytes for each row; past that bound, what is there is packed at once. While a batch is made, that batch once more.
//!
//! Not here: what makes a row, and when a generation ends.

use std::collections::VecDeque;
use std::io;
use std::ops::Range;
use std::sync::Arc;

use weir_batch::{BatchEncoder, BatchId, BatchMeta, Format, Payload};
use weir_logic::Millis;
use weir_logic::merge::SHARDS;

use crate::plan::{Plan, PlanMode};

/// The batches of one generation. Holds the rows that are in none yet, and the finished batches until they are taken.
pub(crate) struct Packing {
    plan: Arc<Plan>,
    generation: u64,
    /// Whether the generation has been emitted before: its rows are then counted and not packed.
    emitted: bool,
    kept: Kept,
    ordinal: u32,
    finished: VecDeque<Finished>,
    records: u64,
    early: u64,
}

/// Rows that are in no batch yet.
#[derive(Default)]
struct Kept {
    text: Vec<u8>,
    rows: Vec<Row>,
}

struct Row {
    /// Where its text ends.
    end: usize,
    /// The shard of the agent that it belongs to, if to any.
    shard: Option<u8>,
    records: u64,
    merged: u64,
}

impl Row {
    /// Where a row of nobody goes, too.
    fn place(&self) -> usize {
        self.shard.map_or(0, usize::from)
    }
}

struct Finished {
    ordinal: u32,
    payload: Payload,
    shards: u64,
}

impl Packing {
    pub(crate) fn new(generation: u64, plan: Arc<Plan>, emitted: bool) -> Self {
        let finished = VecDeque::new();
        Self { plan, generation, emitted, kept: Kept::default(), ordinal: 0, finished, records: 0, early: 0 }
    }

    /// Whether the generation has been emitted before.
    pub(crate) fn is_emitted(&self) -> bool {
        self.emitted
    }

    /// Records that the rows so far stand for.
    pub(crate) fn records(&self) -> u64 {
        self.records
    }

    /// Rows so far that left before their window's end.
    pub(crate) fn early(&self) -> u64 {
        self.early
    }

    /// The next row leaves before its window's end.
    pub(crate) fn note_early(&mut self) {
        self.early += 1;
    }

    /// Adds a row that stands for no record and belongs to no agent.
    pub(crate) fn push_notice(&mut self, row: &[u8]) -> io::Result<()> {
        self.keep(None, &[row], 0, 0)
    }

    /// Adds a row that is one record, of an agent of that shard; it may come in parts.
    pub(crate) fn push(&mut self, shard: usize, parts: &[&[u8]]) -> io::Result<()> {
        self.keep(Some(shard), parts, 1, 0)
    }

    /// Adds a row that stands for so many repeats of an agent of that shard.
    pub(crate) fn push_repeat(&mut self, shard: usize, row: &[u8], count: u64) -> io::Result<()> {
        self.keep(Some(shard), &[row], count, count)
    }

    /// Adds a row that is the last of so many states of an agent of that shard.
    pub(crate) fn push_state(&mut self, shard: usize, row: &[u8], count: u64) -> io::Result<()> {
        self.keep(Some(shard), &[row], count, count.saturating_sub(1))
    }

    /// Passes over a record that is in a row, or in a table, of a generation that has been emitted.
    pub(crate) fn pass(&mut self) {
        self.records += 1;
    }

    /// Keeps a row that stands for so many records, of which so many are merged.
    fn keep(&mut self, shard: Option<usize>, parts: &[&[u8]], records: u64, merged: u64) -> io::Result<()> {
        self.records += records;
        if self.emitted {
            return Ok(());
        }
        let Self { plan, kept, .. } = self;
        let bytes = (kept.text.len() + parts.iter().map(|part| part.len()).sum::<usize>()) as u64;
        if bytes > plan.max_kept_bytes() || kept.rows.len() as u64 >= plan.max_kept_rows() {
            self.finish()?;
        }
        parts.iter().for_each(|part| self.kept.text.extend_from_slice(part));
        let shard = shard.and_then(|shard| u8::try_from(shard % SHARDS).ok());
        self.kept.rows.push(Row { end: self.kept.text.len(), shard, records, merged });
        Ok(())
    }

    /// Packs the rows that are in no batch yet.
    pub(crate) fn finish(&mut self) -> io::Result<()> {
        let kept = std::mem::take(&mut self.kept);
        let groups = kept.groups(&self.plan);
        for group in 0..=groups.iter().copied().max().unwrap_or_default() {
            let mut batch = None;
            for (row, text) in kept.texts() {
                if groups[row.place()] == group {
                    self.pack(&mut batch, row, &kept.text[text])?;
                }
            }
            self.close(batch)?;
        }
        Ok(())
    }

    /// Adds a row to a batch, after closing one that has no room.
    fn pack(&mut self, batch: &mut Option<(BatchEncoder, u64)>, row: &Row, text: &[u8]) -> io::Result<()> {
        let counts = batch.as_ref().map(|(encoder, _)| encoder.counts()).unwrap_or_default();
        let full = counts.raw_bytes + text.len() as u64 > self.plan.max_batch_bytes;
        if counts.rows > 0 && (full || counts.rows >= self.plan.max_batch_rows) {
            self.close(batch.take())?;
        }
        let (encoder, shards) = match batch {
            Some(batch) => batch,
            none => none.insert((encoder(&self.plan)?, 0)),
        };
        *shards |= row.shard.map_or(0, |shard| 1 << shard);
        encoder.push_counted(text, row.records, row.merged)
    }

    fn close(&mut self, batch: Option<(BatchEncoder, u64)>) -> io::Result<()> {
        if let Some((encoder, shards)) = batch {
            self.finished.push_back(Finished { ordinal: self.ordinal, payload: encoder.finish()?, shards });
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
            format: payload.format,
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
}

fn encoder(plan: &Plan) -> io::Result<BatchEncoder> {
    match (plan.format, &plan.mode) {
        (Format::Shapes, PlanMode::Events(merge)) => Ok(BatchEncoder::shapes(plan.compression, merge.same.clone())),
        _ => BatchEncoder::new(plan.compression),
    }
}

impl Kept {
    /// The rows, and where their texts are.
    fn texts(&self) -> impl Iterator<Item = (&Row, Range<usize>)> {
        let mut start = 0;
        self.rows.iter().map(move |row| (row, std::mem::replace(&mut start, row.end)..row.end))
    }

    /// For each shard, the number of the group of batches that its rows go to: one group where all rows fit into a batch,
    /// else as many as fill their batches to seven eighths. The largest shard goes first, each to the group that has
    /// least.
    fn groups(&self, plan: &Plan) -> [usize; SHARDS] {
        let mut groups = [0; SHARDS];
        let (max_bytes, max_rows) = (u128::from(plan.max_batch_bytes.max(1)), u128::from(plan.max_batch_rows.max(1)));
        let (bytes, rows) = (self.text.len() as u128, self.rows.len() as u128);
        if bytes <= max_bytes && rows <= max_rows {
            return groups;
        }
        let batches = (bytes * 8).div_ceil(max_bytes * 7).max((rows * 8).div_ceil(max_rows * 7));
        let mut loads = vec![0; usize::try_from(batches).unwrap_or(SHARDS).clamp(1, SHARDS)];
        // What a row takes of a batch's bytes and of its rows, in parts of both bounds.
        let mut sizes: [(u128, usize); SHARDS] = std::array::from_fn(|shard| (0, shard));
        for (row, text) in self.texts() {
            sizes[row.place()].0 += text.len() as u128 * max_rows + max_bytes;
        }
        sizes.sort_unstable_by(|one, other| other.cmp(one));
        for (size, shard) in sizes {
            let least = (0..loads.len()).min_by_key(|group| loads[*group]).unwrap_or_default();
            loads[least] += size;
            groups[shard] = least;
        }
        groups
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;
    use weir_batch::{Batch, Compression};

    use super::*;

    fn plan(max_batch_bytes: u64, max_batch_rows: u64, lanes: u32) -> Plan {
        Plan {
            edge: "e".to_owned(),
            stream: "s".to_owned(),
            core: "c".to_owned(),
            path: "/".to_owned(),
            mode: PlanMode::Raw,
            max_batch_bytes,
            max_batch_rows,
            lanes,
            compression: Compression::Lz4,
            format: Format::Rows,
        }
    }

    /// Packs rows that name their shard and place; gives each batch's rows and shards.
    fn pack(plan: Plan, shards: &[usize], width: usize) -> Vec<(Vec<(usize, usize)>, u64)> {
        let mut packing = Packing::new(7, Arc::new(plan), false);
        for (place, shard) in shards.iter().enumerate() {
            let row = format!("[{shard},{place},\"{}\"]\n", "x".repeat(width));
            packing.push(*shard, &[row.as_bytes()]).unwrap();
        }
        packing.finish().unwrap();
        assert_eq!(packing.records(), shards.len() as u64);
        let mut batches = Vec::new();
        while let Some((meta, payload)) = packing.front(Millis(1)) {
            assert_eq!(meta.id.ordinal as usize, batches.len());
            let rows = Batch::open(payload).unwrap().rows(1 << 20).unwrap().into_owned();
            let rows = rows.split(|byte| *byte == b'\n').filter(|row| !row.is_empty());
            let rows = rows.map(|row| serde_json::from_slice::<(usize, usize, String)>(row).unwrap());
            let rows: Vec<(usize, usize)> = rows.map(|(shard, place, _)| (shard, place)).collect();
            assert!(meta.counts.rows == 1 || meta.counts.raw_bytes <= packing.plan.max_batch_bytes);
            assert!(meta.counts.rows == rows.len() as u64 && meta.counts.rows <= packing.plan.max_batch_rows);
            batches.push((rows, meta.shards));
            packing.pop();
        }
        batches
    }

    #[test]
    fn a_small_generation_is_one_batch_in_the_order_of_its_rows() {
        let shards: Vec<usize> = (0..40).map(|place| place * 7 % SHARDS).collect();
        let batches = pack(plan(10_000, 1000, 4), &shards, 10);
        let expected: Vec<(usize, usize)> = (0..40).map(|place| (shards[place], place)).collect();
        assert_eq!(batches.len(), 1);
        assert_eq!(batches[0].0, expected);
    }

    #[test]
    fn a_large_generation_becomes_batches_that_share_no_agent() {
        let shards: Vec<usize> = (0..600).map(|place| place * 31 % SHARDS).collect();
        let batches = pack(plan(10_000, 1000, 4), &shards, 40);
        assert_eq!(batches.len(), 4, "{batches:?}");
        for (at, (_, one)) in batches.iter().enumerate() {
            assert!(batches[at + 1..].iter().all(|(_, other)| one & other == 0));
        }
    }

    #[test]
    fn an_agent_with_more_than_a_batch_has_batches_in_a_row() {
        let batches = pack(plan(1000, 1000, 4), &[9; 100], 30);
        assert!(batches.len() > 3);
        assert!(batches.iter().all(|(_, shards)| *shards == 1 << 9));
    }

    #[test]
    fn what_was_emitted_before_is_counted_and_not_packed() {
        let mut packing = Packing::new(7, Arc::new(plan(100, 10, 1)), true);
        packing.push_repeat(3, b"{}\n", 5).unwrap();
        packing.finish().unwrap();
        assert!(packing.front(Millis(1)).is_none());
        assert_eq!(packing.records(), 5);
    }

    proptest! {
        // Each case sets up a compressor for every batch, which takes its time.
        #![proptest_config(ProptestConfig::with_cases(48))]

        #[test]
        fn every_row_is_packed_once_and_in_its_agents_order(
            shards in proptest::collection::vec((0..SHARDS, 1..4usize), 0..80),
            bytes in 100..3000u64,
            rows in 2..40u64,
            lanes in 1..5u32,
            width in 0..60usize,
        ) {
            let shards: Vec<usize> = shards.iter().flat_map(|(shard, times)| vec![*shard; *times]).collect();
            let mut seen: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
            for (rows, mask) in pack(plan(bytes, rows, lanes), &shards, width) {
                prop_assert_eq!(mask, rows.iter().fold(0, |mask, (shard, _)| mask | 1 << shard));
                rows.iter().for_each(|(shard, place)| seen.entry(*shard).or_default().push(*place));
            }
            for (shard, places) in &seen {
                let expected: Vec<usize> = (0..shards.len()).filter(|place| shards[*place] == *shard).collect();
                prop_assert_eq!(places, &expected);
            }
            prop_assert_eq!(seen.values().map(Vec::len).sum::<usize>(), shards.len());
        }
    }
}
