//! From journal entries to batches in the outbox: the same entries always make the same batches.

use std::collections::VecDeque;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use memchr::memchr;
use weir_batch::row::{self, write_event, write_repeat};
use weir_batch::{BatchEncoder, BatchId, BatchMeta, Payload};
use weir_logic::Millis;
use weir_logic::merge::{Applied, Merger, Origin, Repeat, ShardWindow};

use crate::entry::{EndReason, Entry, Upload};
use crate::files::Files;
use crate::ledger::{Mark, Meters};
use crate::outbox::{Outbox, Waiting};
use crate::plan::Plan;
use crate::segment;

/// What the journal has committed, in order.
#[derive(Clone, Debug)]
pub enum Step {
    /// A generation begins under this plan.
    Begin {
        /// Its number.
        generation: u64,
        /// The plan in force for it.
        plan: Arc<Plan>,
    },
    /// An entry, but for the end.
    Entry(Entry),
    /// The generation is closed.
    End {
        /// When it was closed.
        time: Millis,
        /// Why.
        reason: EndReason,
        /// The bytes of its segment.
        bytes: u64,
    },
}

/// A generation whose batches are in the outbox.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settled {
    /// Its batches, in order.
    pub batches: Vec<Waiting>,
    /// Why it was closed.
    pub reason: EndReason,
}

/// Merges entries and packs rows. Each step is applied, then settled; only settling touches files, and it may be tried
/// again until it succeeds. Holds one batch in the making, the finished ones of the last step, and the open windows.
pub struct Emitter<F: Files> {
    files: F,
    journal_dir: PathBuf,
    outbox: Arc<Outbox<F>>,
    meters: Arc<Meters>,
    merger: Option<Merger>,
    generation: Option<Generation>,
    kept: VecDeque<Kept>,
}

struct Generation {
    number: u64,
    plan: Arc<Plan>,
    /// Whether it has been emitted before: it then only rebuilds the windows.
    emitted: bool,
    encoder: Option<BatchEncoder>,
    ordinal: u32,
    finished: VecDeque<(u32, Payload)>,
    stored: Vec<Waiting>,
    /// Records counted in windows when the generation began, and accepted in it.
    counted_before: u64,
    accepted: u64,
    packed: u64,
    /// The time of the last entry.
    last: Millis,
    ended: Option<(Millis, EndReason, u64)>,
}

/// A segment that may still be needed to rebuild windows.
struct Kept {
    generation: u64,
    release_at: Millis,
    bytes: u64,
}

impl<F: Files> Emitter<F> {
    pub(crate) fn new(files: F, journal_dir: PathBuf, outbox: Arc<Outbox<F>>, meters: Arc<Meters>) -> Self {
        Self { files, journal_dir, outbox, meters, merger: None, generation: None, kept: VecDeque::new() }
    }

    /// The time at which a generation ought to be closed though nothing arrives: a window ends, or segments can go.
    pub fn next_due(&self) -> Option<Millis> {
        let window = self.merger.as_ref().and_then(Merger::next_due);
        // A segment that could go but cannot be removed is no reason to hurry.
        let sealed_at = Millis(self.outbox.mark().map_or(0, |mark| mark.sealed_at));
        let release = self.kept.back().map(|kept| kept.release_at).filter(|at| *at > sealed_at);
        window.into_iter().chain(release).min()
    }

    /// The shard to flush early, when more keys are held than may be.
    pub fn overfull(&self) -> Option<ShardWindow> {
        self.merger.as_ref().and_then(Merger::overfull)
    }

    pub(crate) fn has_emitted(&self, generation: u64) -> bool {
        self.outbox.mark().is_some_and(|mark| mark.generation >= generation)
    }

    /// Keys held in open windows.
    pub fn keys(&self) -> usize {
        self.merger.as_ref().map_or(0, Merger::keys)
    }

    /// Applies one step; [`Self::settle`] must have succeeded since the step before.
    ///
    /// # Errors
    /// When a compressor fails, for want of memory: the spool must then be recovered anew.
    pub fn apply(&mut self, step: Step) -> io::Result<()> {
        match step {
            Step::Begin { generation, plan } => {
                self.begin(generation, plan);
                Ok(())
            }
            Step::Entry(entry) => self.apply_entry(&entry),
            Step::End { time, reason, bytes } => {
                let ended = self.merger.as_mut().map(|merger| merger.advance(time)).unwrap_or_default();
                self.pack_repeats(&ended)?;
                let Some(generation) = &mut self.generation else { return Ok(()) };
                generation.ended = Some((time, reason, bytes));
                generation.finish_batch()
            }
        }
    }

    /// Writes finished batches to the outbox and, at the end of a generation, announces them and drops segments that
    /// nobody needs any more. Gives the generation when there was one to announce.
    ///
    /// # Errors
    /// When a file cannot be written; to be tried again.
    pub fn settle(&mut self) -> io::Result<Option<Settled>> {
        let Some(generation) = &mut self.generation else { return Ok(None) };
        while let Some((ordinal, payload)) = generation.finished.front() {
            let meta = generation.meta(*ordinal, payload);
            generation.stored.push(self.outbox.store(&meta, &payload.bytes)?);
            generation.finished.pop_front();
        }
        let Some((time, reason, bytes)) = generation.ended else { return Ok(None) };
        if !generation.emitted {
            let mark = Mark { generation: generation.number, sealed_at: time.0 };
            self.outbox.announce(mark, generation.accepted, &generation.stored)?;
        }
        let Some(generation) = self.generation.take() else { return Ok(None) };
        self.balance(&generation);
        let window = if generation.accepted > 0 { generation.plan.window_ms() } else { 0 };
        let release_at = Millis(time.0.saturating_add(window));
        self.kept.push_back(Kept { generation: generation.number, release_at, bytes });
        self.release();
        Ok((!generation.emitted).then_some(Settled { batches: generation.stored, reason }))
    }

    fn begin(&mut self, number: u64, plan: Arc<Plan>) {
        if self.merger.as_ref().map(Merger::plan) != plan.merge.as_ref() {
            self.merger = plan.merge.clone().map(Merger::new);
        }
        self.generation = Some(Generation {
            number,
            plan,
            emitted: self.has_emitted(number),
            encoder: None,
            ordinal: 0,
            finished: VecDeque::new(),
            stored: Vec::new(),
            counted_before: self.merger.as_ref().map_or(0, Merger::counted),
            accepted: 0,
            packed: 0,
            last: Millis::default(),
            ended: None,
        });
    }

    fn apply_entry(&mut self, entry: &Entry) -> io::Result<()> {
        self.generation.iter_mut().for_each(|generation| generation.last = entry.time());
        let Some(merger) = &mut self.merger else { return self.apply_to_window(entry) };
        let repeats = merger.advance(entry.time());
        self.pack_repeats(&repeats)?;
        self.apply_to_window(entry)
    }

    fn apply_to_window(&mut self, entry: &Entry) -> io::Result<()> {
        match (entry, &mut self.merger) {
            (Entry::Upload(upload), _) => self.apply_upload(upload),
            (Entry::Flush { which, .. }, Some(merger)) => {
                let repeats = merger.flush(*which);
                self.pack_repeats(&repeats)
            }
            (Entry::FlushAll { .. }, Some(merger)) => {
                let repeats = merger.flush_all();
                self.pack_repeats(&repeats)
            }
            (Entry::Flush { .. } | Entry::FlushAll { .. } | Entry::End { .. }, _) => Ok(()),
        }
    }

    fn apply_upload(&mut self, upload: &Upload) -> io::Result<()> {
        let Some(generation) = &mut self.generation else { return Ok(()) };
        let (tenant, agent) = (upload.tenant.as_deref(), upload.agent.as_deref());
        let origin = Origin::new(tenant, agent);
        let mut lines: &[u8] = &upload.lines;
        let mut row = Vec::new();
        while let Some(end) = memchr(b'\n', lines) {
            let record = &lines[..end];
            lines = &lines[end + 1..];
            generation.accepted += 1;
            let applied = self.merger.as_mut().map_or(Applied::First, |merger| merger.apply(&origin, record));
            if applied == Applied::First {
                generation.packed += 1;
                row.clear();
                write_event(&mut row, row::Origin { tenant, agent }, upload.time.0, record);
                generation.pack(&row, None)?;
            }
        }
        Ok(())
    }

    fn pack_repeats(&mut self, repeats: &[Repeat]) -> io::Result<()> {
        let (Some(generation), Some(merger)) = (&mut self.generation, &self.merger) else { return Ok(()) };
        let mut row = Vec::new();
        for repeat in repeats {
            let names = merger.plan().same.iter().map(String::as_str);
            let key: Vec<(&str, &[u8])> =
                names.zip(repeat.fields()).filter_map(|(name, value)| Some((name, value?))).collect();
            generation.packed += repeat.count;
            row.clear();
            write_repeat(&mut row, &as_row(repeat, &key));
            generation.pack(&row, Some(repeat.count))?;
        }
        Ok(())
    }

    /// Records of a generation that neither left nor wait in a window: there must be none.
    fn balance(&self, generation: &Generation) {
        let counted = self.merger.as_ref().map_or(0, Merger::counted);
        let [in_, out] = [generation.counted_before + generation.accepted, generation.packed + counted];
        self.meters.misbalance(in_.cast_signed().wrapping_sub(out.cast_signed()));
    }

    /// Removes segments all of whose windows have been emitted. One that cannot be removed now is tried again after the
    /// next generation; it still counts as journal.
    fn release(&mut self) {
        let Some(mark) = self.outbox.mark() else { return };
        while let Some(kept) = self.kept.front() {
            let path = self.journal_dir.join(segment::file_name(kept.generation));
            if kept.release_at.0 > mark.sealed_at || self.files.remove(&path).is_err() {
                break;
            }
            self.meters.shrink(kept.bytes);
            self.kept.pop_front();
        }
    }
}

fn as_row<'a>(repeat: &'a Repeat, key: &'a [(&'a str, &'a [u8])]) -> row::Repeat<'a> {
    row::Repeat {
        origin: row::Origin { tenant: repeat.tenant(), agent: repeat.agent() },
        first_seen: repeat.first_seen.0,
        last_seen: repeat.last_seen.0,
        count: repeat.count,
        key,
        exemplars: &repeat.exemplars,
        early: repeat.early,
    }
}

impl Generation {
    /// Adds a row to the batch in the making, closing it first when it has no room. `count` is a repeat's.
    fn pack(&mut self, row: &[u8], count: Option<u64>) -> io::Result<()> {
        if self.emitted {
            return Ok(());
        }
        let counts = self.encoder.as_ref().map(BatchEncoder::counts).unwrap_or_default();
        let full = counts.raw_bytes + row.len() as u64 > self.plan.max_batch_bytes;
        if counts.rows > 0 && (full || counts.rows >= self.plan.max_batch_rows) {
            self.finish_batch()?;
        }
        let encoder = match &mut self.encoder {
            Some(encoder) => encoder,
            none => none.insert(BatchEncoder::new(self.plan.compression)?),
        };
        match count {
            Some(count) => encoder.push_repeat(row, count),
            None => encoder.push(row),
        }
    }

    fn finish_batch(&mut self) -> io::Result<()> {
        if let Some(encoder) = self.encoder.take() {
            self.finished.push_back((self.ordinal, encoder.finish()?));
            self.ordinal += 1;
        }
        Ok(())
    }

    fn meta(&self, ordinal: u32, payload: &Payload) -> BatchMeta {
        BatchMeta {
            id: BatchId::new(&self.plan.edge, &self.plan.stream, self.number, ordinal),
            core: self.plan.core.clone(),
            path: self.plan.path.clone(),
            compression: payload.compression,
            counts: payload.counts,
            // A batch that is full before the generation ends is as old as the last entry in it.
            sealed_at: self.ended.map_or(self.last, |(time, ..)| time).0,
            refusal: None,
        }
    }
}
