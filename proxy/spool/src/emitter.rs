//! From journal entries to batches in the outbox: the same entries always make the same batches.

use std::collections::VecDeque;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use weir_logic::Millis;
use weir_logic::merge::{Eviction, Load};

use crate::entry::{EndReason, Entry};
use crate::files::Files;
use crate::ledger::{Mark, Meters};
use crate::losses::Loss;
use crate::outbox::{Emission, Outbox, Waiting};
use crate::packing::Packing;
use crate::plan::{Plan, PlanMode};
use crate::segment;
use crate::tables::{Seeds, Tables};
use crate::windows::Windows;

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
    /// What earlier runs have left has been given.
    Replayed {
        /// Records that they had accepted.
        accepted: u64,
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
    windows: Option<Windows>,
    /// The generation that the windows began with.
    since: u64,
    tables: Tables<F>,
    /// What tables give, until a generation starts from it.
    seeds: Option<Seeds>,
    /// Whether all that had been emitted has been replayed.
    replayed: bool,
    generation: Option<Generation>,
    kept: VecDeque<Kept>,
    /// What earlier runs had accepted, once it is replayed and until it is compared with what came of it.
    to_compare: Option<u64>,
}

struct Generation {
    number: u64,
    plan: Arc<Plan>,
    packing: Packing,
    stored: Vec<Waiting>,
    /// Records that waited in windows when the generation began, and accepted in it.
    waited_before: u64,
    accepted: u64,
    /// What the core is told in it.
    told: Vec<Loss>,
    /// Whether a window left early in it.
    flushed: bool,
    /// The time of the last entry.
    last: Millis,
    ended: Option<(EndReason, u64)>,
}

/// A segment that may still be needed to rebuild windows.
struct Kept {
    generation: u64,
    release_at: Millis,
    bytes: u64,
}

impl<F: Files> Emitter<F> {
    pub(crate) fn new(
        files: F,
        journal_dir: PathBuf,
        outbox: Arc<Outbox<F>>,
        meters: Arc<Meters>,
        tables: Tables<F>,
        seeds: Option<Seeds>,
    ) -> Self {
        Self {
            files,
            journal_dir,
            outbox,
            meters,
            windows: None,
            since: 0,
            tables,
            seeds,
            replayed: false,
            generation: None,
            kept: VecDeque::new(),
            to_compare: None,
        }
    }

    /// What is known though no generation has begun: to be called when there is nothing to replay.
    pub(crate) fn seat(&mut self, mode: &PlanMode) {
        if self.windows.is_none() {
            self.take_seeds(u64::MAX, mode);
        }
    }

    /// The time at which a generation ought to be closed though nothing arrives: a window ends, or segments can go.
    pub fn next_due(&self) -> Option<Millis> {
        let window = self.windows.as_ref().and_then(Windows::next_due);
        // A segment that could go but cannot be removed is no reason to hurry.
        let sealed_at = Millis(self.outbox.mark().map_or(0, |mark| mark.sealed_at));
        let release = self.kept.back().map(|kept| kept.release_at).filter(|at| *at > sealed_at);
        window.into_iter().chain(release).min()
    }

    /// What should leave early because more is held than may be; nothing when all is well. It leaves when
    /// [`crate::Journal::push_flush`] has written it down.
    pub fn overfull(&self) -> Vec<Eviction> {
        self.windows.as_ref().map(Windows::overfull).unwrap_or_default()
    }

    pub(crate) fn has_emitted(&self, generation: u64) -> bool {
        self.outbox.mark().is_some_and(|mark| mark.generation >= generation)
    }

    /// Records that wait in open windows.
    pub(crate) fn waiting(&self) -> u64 {
        self.windows.as_ref().map_or(0, Windows::waiting)
    }

    /// What open windows hold.
    pub fn load(&self) -> Load {
        self.windows.as_ref().map(Windows::load).unwrap_or_default()
    }

    /// Applies one step; [`Self::settle`] must have succeeded since the step before.
    ///
    /// # Errors
    /// When a compressor fails, for want of memory: the spool must then be recovered anew.
    pub fn apply(&mut self, step: Step) -> io::Result<()> {
        if let Step::Begin { generation, plan } = step {
            self.begin(generation, plan);
            return Ok(());
        }
        if let Step::Replayed { accepted } = step {
            self.to_compare = Some(accepted);
            return Ok(());
        }
        let (Some(generation), Some(windows)) = (&mut self.generation, &mut self.windows) else { return Ok(()) };
        match step {
            Step::Begin { .. } | Step::Replayed { .. } => {}
            Step::Entry(entry) => {
                generation.last = entry.time();
                if let Entry::Loss(loss) = &entry {
                    generation.told.push(*loss);
                }
                generation.flushed |= matches!(entry, Entry::Flush { .. });
                generation.accepted += windows.apply(&entry, &mut generation.packing)?;
            }
            Step::End { time, reason, bytes } => {
                windows.advance(time, &mut generation.packing)?;
                let changes = windows.take_changes();
                if !generation.packing.is_emitted() {
                    self.tables.push(changes);
                }
                generation.last = time;
                generation.ended = Some((reason, bytes));
                generation.packing.finish()?;
            }
        }
        Ok(())
    }

    /// Writes finished batches to the outbox and, at the end of a generation, announces them and drops segments that
    /// nobody needs any more. Gives the generation when there was one to announce.
    ///
    /// # Errors
    /// When a file cannot be written; to be tried again.
    pub fn settle(&mut self) -> io::Result<Option<Settled>> {
        if let Some(accepted) = self.to_compare {
            self.outbox.note_missing(accepted, self.waiting())?;
            self.outbox.losses().complete();
            self.to_compare = None;
        }
        let Some(generation) = &mut self.generation else { return Ok(None) };
        // A batch that is full before the generation ends is as old as the last entry in it.
        while let Some((meta, payload)) = generation.packing.front(generation.last) {
            generation.stored.push(self.outbox.store(&meta, payload)?);
            generation.packing.pop();
        }
        let Some((reason, bytes)) = generation.ended else { return Ok(None) };
        let fresh = !generation.packing.is_emitted();
        if fresh {
            // Before the note, as the segments that a table stands for go after it.
            self.tables.write(generation.number, &generation.plan, self.since)?;
            self.outbox.announce(Emission {
                mark: Mark { generation: generation.number, sealed_at: generation.last.0 },
                accepted: generation.accepted,
                early: generation.packing.early(),
                told: &generation.told,
                tables: self.tables.written(),
                batches: &generation.stored,
            })?;
            self.tables.noted();
        }
        let Some(generation) = self.generation.take() else { return Ok(None) };
        self.balance(&generation);
        // What an early flush did to a table is written when the window ends.
        let changed = generation.accepted > 0 || generation.flushed;
        let window = if changed { generation.plan.window_ms() } else { 0 };
        // Segments go in their order.
        let before = self.kept.back().map_or(Millis::default(), |kept| kept.release_at);
        let release_at = Millis(generation.last.0.saturating_add(window)).max(before);
        self.kept.push_back(Kept { generation: generation.number, release_at, bytes });
        self.release();
        Ok(fresh.then_some(Settled { batches: generation.stored, reason }))
    }

    fn begin(&mut self, number: u64, plan: Arc<Plan>) {
        self.change_windows(number, &plan.mode);
        if !self.has_emitted(number) {
            self.end_replay();
        }
        self.generation = Some(Generation {
            number,
            packing: Packing::new(number, Arc::clone(&plan), self.has_emitted(number)),
            plan,
            stored: Vec::new(),
            waited_before: self.windows.as_ref().map_or(0, Windows::waiting),
            accepted: 0,
            told: Vec::new(),
            flushed: false,
            last: Millis::default(),
            ended: None,
        });
    }

    fn change_windows(&mut self, generation: u64, mode: &PlanMode) {
        let seated = self.take_seeds(generation, mode);
        if !seated && self.windows.as_ref().map(Windows::mode) != Some(mode) {
            (self.windows, self.since) = (Some(Windows::new(mode.clone())), generation);
        }
    }

    /// Starts from the tables, if there are any and the generation is not older; gives whether it did.
    fn take_seeds(&mut self, generation: u64, mode: &PlanMode) -> bool {
        let seeds = self.seeds.take_if(|seeds| seeds.reach(generation));
        let Some((states, since)) = seeds.and_then(|seeds| seeds.into_states(mode)) else { return false };
        (self.windows, self.since) = (Some(Windows::with(states)), since);
        true
    }

    /// All that was emitted has been replayed.
    fn end_replay(&mut self) {
        if !std::mem::replace(&mut self.replayed, true) {
            self.windows.iter_mut().for_each(Windows::replayed);
        }
    }

    /// Records of a generation that neither left nor wait in a window: there must be none.
    fn balance(&self, generation: &Generation) {
        let waiting = self.windows.as_ref().map_or(0, Windows::waiting);
        let [in_, out] = [generation.waited_before + generation.accepted, generation.packing.records() + waiting];
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
