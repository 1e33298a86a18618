//! Opening a spool, whatever the last run has left.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use weir_logic::Millis;

use crate::emitter::{Emitter, Step};
use crate::entry::{EndReason, Entry};
use crate::files::Files;
use crate::journal::{Journal, Time};
use crate::ledger::Meters;
use crate::log::{Log, Sync};
use crate::outbox::Outbox;
use crate::plan::Plan;
use crate::progress::{self, Standing};
use crate::segment::{self, Segment, Unreadable};
use crate::tables::{Place, Seeds, Tables};

/// An opened spool.
pub struct Recovered<F: Files> {
    /// Takes uploads. In force is the plan of the last generation on disk, if there is one: see [`Journal::replan`].
    pub journal: Journal<F>,
    /// Turns them into batches.
    pub emitter: Emitter<F>,
    /// Holds the batches.
    pub outbox: Arc<Outbox<F>>,
    /// What was found.
    pub report: RecoveryReport,
}

/// What was found when a spool was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RecoveryReport {
    /// Segments read.
    pub segments: usize,
    /// Records in generations that had not been emitted.
    pub replayed: u64,
    /// Bytes cut off an unfinished write.
    pub torn_bytes: u64,
    /// Entries that could not be read.
    pub damaged_entries: usize,
    /// Segments, notes and batches that could not be read; files are put aside as `.damaged`.
    pub damaged_files: usize,
}

/// Why a spool cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum SpoolError {
    /// A file or directory cannot be used.
    #[error("{path}: {error}")]
    Io {
        /// Where.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// A later version of this program has written a segment: it is left alone.
    #[error("{path} was written by a later version ({version}, features {features:#06x})")]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its version.
        version: u16,
        /// Its features.
        features: u16,
    },
    /// A later version of this program has written notes: they are left alone.
    #[error("{path}: {later}")]
    Later {
        /// The file.
        path: PathBuf,
        /// Which line, and how it begins.
        later: String,
    },
    /// There is nothing on disk that says how the stream's records merge, and no plan was given.
    #[error("{path} holds no segment and the configuration no such stream")]
    NoPlan {
        /// The spool's directory.
        path: PathBuf,
    },
}

/// Opens the spool in `root`, or makes it. Replays the journal, closes the generation that the last run left open, and
/// emits what had not been emitted. `plan` is in force when there is nothing on disk; without one, an empty spool is an
/// error. Time: one pass over the journal. Memory: one segment, which is at most as long as its batches and an upload, and the
/// open windows.
///
/// # Errors
/// When a file cannot be read or written, or was written by a later version.
pub fn recover<F: Files>(files: F, root: &Path, plan: Option<Plan>, now: Millis) -> Result<Recovered<F>, SpoolError> {
    let at = |path: &Path| {
        let path = path.to_owned();
        move |error| SpoolError::Io { path, error }
    };
    let journal_dir = root.join("journal");
    files.create_dir(&journal_dir).map_err(at(&journal_dir))?;
    let notes_path = root.join(progress::FILE_NAME);
    let notes = match files.read(&notes_path, usize::MAX) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
        notes => notes.map_err(at(&notes_path))?,
    };
    let later = |later: progress::Later| SpoolError::Later { path: notes_path.clone(), later: later.to_string() };
    let standing = Standing::read(&notes).map_err(later)?;
    let (outbox, found) = Outbox::open(files.clone(), root, &standing, now).map_err(at(&root.join("outbox")))?;
    files.sync_dir(root).map_err(at(root))?;
    let outbox = Arc::new(outbox);
    let meters = Arc::new(Meters::default());
    meters.accept(standing.ledger.accepted);
    let places: Vec<Place> = standing.tables.values().copied().collect();
    let (tables, seeds) = Tables::open(files.clone(), root, &places, standing.mark)?;
    let damaged_tables = seeds.as_ref().map_or(0, Seeds::damaged);
    let seeds_plan = seeds.as_ref().and_then(Seeds::plan).cloned();
    let (ours, theirs) = (Arc::clone(&outbox), Arc::clone(&meters));
    let emitter = Emitter::new(files.clone(), journal_dir.clone(), ours, theirs, tables, seeds);
    let damaged_files = found.damaged + standing.damaged + damaged_tables;
    let report = RecoveryReport { damaged_files, ..RecoveryReport::default() };
    let last = Millis(standing.mark.map_or(0, |mark| mark.sealed_at));
    let mut replay = Replay {
        files: files.clone(),
        outbox: Arc::clone(&outbox),
        journal_dir: journal_dir.clone(),
        emitter,
        meters,
        report,
        last,
        plan: None,
    };
    let newest = replay.run(now)?;
    let Replay { mut emitter, meters, report, last, plan: recorded, .. } = replay;
    let Some(plan) = recorded.or(seeds_plan).or(plan.map(Arc::new)) else {
        return Err(SpoolError::NoPlan { path: root.to_owned() });
    };
    emitter.seat(&plan.mode);
    // A new spool counts its generations from the time on: should an edge lose its disk and keep its name, its ids are
    // still new to the core.
    let newest = newest.max(standing.mark.map(|mark| mark.generation));
    let next = newest.map_or(now.0, |newest| newest + 1);
    outbox.note_missing(meters.accepted(), emitter.waiting()).map_err(at(&notes_path))?;
    let losses = Arc::clone(outbox.losses());
    losses.complete();
    let journal = Journal::new(files, journal_dir, plan, meters, losses, next, Time::new(last, now));
    Ok(Recovered { journal, emitter, outbox, report })
}

struct Replay<F: Files> {
    files: F,
    outbox: Arc<Outbox<F>>,
    journal_dir: PathBuf,
    emitter: Emitter<F>,
    meters: Arc<Meters>,
    report: RecoveryReport,
    last: Millis,
    plan: Option<Arc<Plan>>,
}

impl<F: Files> Replay<F> {
    /// Replays every segment in order and gives the newest generation.
    fn run(&mut self, now: Millis) -> Result<Option<u64>, SpoolError> {
        let listed = self.files.list(&self.journal_dir).map_err(|error| self.failure("", error))?;
        let mut generations: Vec<u64> =
            listed.iter().filter_map(|listed| segment::generation_of(&listed.name)).collect();
        generations.sort_unstable();
        for generation in &generations {
            let name = segment::file_name(*generation);
            let path = self.journal_dir.join(&name);
            let bytes = self.files.read(&path, usize::MAX).map_err(|error| self.failure(&name, error))?;
            let bytes = Bytes::from(bytes);
            match Segment::read(&bytes) {
                Ok(found) => self.replay(&name, found, &bytes, now).map_err(|error| self.failure(&name, error))?,
                Err(Unreadable::Newer { version, features }) => {
                    return Err(SpoolError::Newer { path, version, features });
                }
                Err(Unreadable::Damaged) if !segment::holds_entries(&bytes) => {
                    // The last run died while it made the file.
                    self.report.torn_bytes += bytes.len() as u64;
                    self.files.remove(&path).map_err(|error| self.failure(&name, error))?;
                }
                Err(Unreadable::Damaged) => {
                    self.report.damaged_files += 1;
                    self.note_damage(&name, 1).map_err(|error| self.failure(&name, error))?;
                    let aside = self.journal_dir.join(format!("{name}.damaged"));
                    self.files.rename(&path, &aside).map_err(|error| self.failure(&name, error))?;
                }
            }
        }
        Ok(generations.last().copied())
    }

    fn replay(&mut self, name: &str, mut segment: Segment, bytes: &Bytes, now: Millis) -> io::Result<()> {
        self.report.segments += 1;
        self.report.damaged_entries += segment.damaged;
        self.note_damage(name, segment.damaged)?;
        let length = self.close(name, &mut segment, bytes, now)?;
        self.meters.grow(length);
        let fresh = !self.emitter.has_emitted(segment.generation);
        if fresh {
            self.outbox.losses().tell(&segment.entries);
        }
        let plan = Arc::new(segment.plan);
        self.plan = Some(Arc::clone(&plan));
        self.step(Step::Begin { generation: segment.generation, plan })?;
        for entry in segment.entries {
            self.last = self.last.max(entry.time());
            if fresh {
                self.report.replayed += entry.records();
                self.meters.accept(entry.records());
            }
            match entry {
                Entry::End { time, reason } => self.step(Step::End { time, reason, bytes: length })?,
                entry => self.step(Step::Entry(entry))?,
            }
        }
        Ok(())
    }

    /// Closes a segment that the last run left open and gives the length of its file.
    fn close(&mut self, name: &str, segment: &mut Segment, bytes: &Bytes, now: Millis) -> io::Result<u64> {
        let whole = segment.length as u64;
        if segment.is_sealed() {
            return Ok(bytes.len() as u64);
        }
        if segment.torn {
            self.report.torn_bytes += bytes.len() as u64 - whole;
        }
        let last = segment.entries.last().map_or(self.last, Entry::time).max(self.last);
        let end = Entry::End { time: last.max(now), reason: EndReason::Recovered };
        let mut encoded = Vec::new();
        end.encode(&mut encoded);
        let mut log = Log::open(&self.files, &self.journal_dir.join(name), whole)?;
        log.append(&encoded, Sync::Now)?;
        segment.entries.push(end);
        Ok(log.length())
    }

    fn note_damage(&self, name: &str, parts: usize) -> io::Result<()> {
        self.outbox.note_damage(name, parts as u64)
    }

    fn step(&mut self, step: Step) -> io::Result<()> {
        self.emitter.apply(step)?;
        self.emitter.settle().map(drop)
    }

    fn failure(&self, name: &str, error: io::Error) -> SpoolError {
        SpoolError::Io { path: self.journal_dir.join(name), error }
    }
}
