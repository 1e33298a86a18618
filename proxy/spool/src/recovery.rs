//! Opening a spool, whatever the last run has left.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use weir_logic::Millis;

use crate::emitter::Emitter;
use crate::files::Files;
use crate::follower::{Committed, Extent, Follower};
use crate::journal::{Journal, Shared, Time};
use crate::ledger::Meters;
use crate::outbox::Outbox;
use crate::plan::Plan;
use crate::progress::{self, Standing};
use crate::reserve::Reserve;
use crate::segment::{self, Unreadable};
use crate::tables::{Place, Seeds, Tables};
use crate::tape::{self, Found, Tape};

/// An opened spool.
pub struct Recovered<F: Files> {
    /// Takes uploads. In force is the plan of the last generation on disk, if there is one: see [`Journal::replan`].
    pub journal: Journal<F>,
    /// Reads back what the journal holds, that of earlier runs first.
    pub follower: Follower<F>,
    /// Turns it into batches.
    pub emitter: Emitter<F>,
    /// Holds the batches.
    pub outbox: Arc<Outbox<F>>,
}

impl<F: Files> Recovered<F> {
    /// Emits all that is committed.
    ///
    /// # Errors
    /// When a segment cannot be read or the outbox not written; to be tried again.
    pub fn catch_up(&mut self) -> io::Result<()> {
        self.emitter.settle()?;
        while let Some(step) = self.follower.next_step()? {
            self.emitter.apply(step)?;
            self.emitter.settle()?;
        }
        Ok(())
    }
}

/// What earlier runs have left. Complete once [`Follower::is_replaying`] is over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RecoveryReport {
    /// Segments found.
    pub segments: usize,
    /// Records replayed of generations that had not been emitted.
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
    /// There is nothing on disk that says how the stream's records merge or where they go, and no plan was given.
    #[error("{path} holds no segment and no batch, and the configuration no such stream")]
    NoPlan {
        /// The spool's directory.
        path: PathBuf,
    },
}

/// Opens the spool in `root`, or makes it. Uploads can be taken at once; what earlier runs have left in the journal is
/// read by the [`Follower`]. `plan` is in force when there is nothing on disk; without one, an empty spool is an error.
///
/// Time: a listing, the head of each segment and batch, and one pass over the newest segment. Memory: what is known of
/// each batch that waits.
///
/// # Errors
/// When a directory or file cannot be read, or was written by a later version.
pub fn recover<F: Files>(files: F, root: &Path, plan: Option<Plan>, now: Millis) -> Result<Recovered<F>, SpoolError> {
    let at = |path: &Path| {
        let path = path.to_owned();
        move |error| SpoolError::Io { path, error }
    };
    let dir = root.join("journal");
    files.create_dir(&dir).map_err(at(&dir))?;
    let standing = read_notes(&files, root)?;
    let reserve = Arc::new(Reserve::open(files.clone(), root).map_err(at(root))?);
    let opened = Outbox::open(files.clone(), root, &standing, Arc::clone(&reserve), now);
    let (outbox, found) = opened.map_err(at(&root.join("outbox")))?;
    files.sync_dir(root).map_err(at(root))?;
    let outbox = Arc::new(outbox);
    let places: Vec<Place> = standing.tables.values().copied().collect();
    let (tables, seeds) = Tables::open(files.clone(), root, &places, standing.mark)?;
    let damaged_tables = seeds.as_ref().map_or(0, Seeds::damaged);
    let damaged_files = found.damaged + standing.damaged + damaged_tables;
    let report = RecoveryReport { damaged_files, ..RecoveryReport::default() };
    let shelf = Shelf::look(&files, &dir, &outbox, report)?;
    let last = shelf.last_time()?.max(Millis(standing.mark.map_or(0, |mark| mark.sealed_at)));
    let Shelf { report, newest, plan: recorded, extents, .. } = shelf;
    let seeds_plan = seeds.as_ref().and_then(Seeds::plan).cloned();
    let of_batches = || outbox.waiting().first().map(|waiting| Arc::new(Plan::of(&waiting.meta)));
    let Some(plan) = recorded.or(seeds_plan).or(plan.map(Arc::new)).or_else(of_batches) else {
        return Err(SpoolError::NoPlan { path: root.to_owned() });
    };
    let meters = Arc::new(Meters::default());
    meters.accept(standing.ledger.accepted);
    extents.iter().for_each(|extent| meters.grow(extent.length));
    let (ours, theirs) = (Arc::clone(&outbox), Arc::clone(&meters));
    let mut emitter = Emitter::new(files.clone(), dir.clone(), ours, theirs, tables, seeds);
    if extents.is_empty() {
        emitter.seat(&plan.mode);
    }
    let committed = Arc::new(Committed::new(extents));
    let (ours, theirs) = (Arc::clone(&outbox), Arc::clone(&meters));
    let follower = Follower::new(files.clone(), dir.clone(), Arc::clone(&committed), ours, theirs, report);
    // A new spool counts its generations from the time on: should an edge lose its disk and keep its name, its ids are
    // still new to the core.
    let newest = newest.max(standing.mark.map(|mark| mark.generation));
    let next = newest.map_or(now.0, |newest| newest + 1);
    let losses = Arc::clone(outbox.losses());
    let shared = Shared { meters, committed, reserve, losses };
    let journal = Journal::new(files, dir, plan, shared, next, Time::new(last, now));
    Ok(Recovered { journal, follower, emitter, outbox })
}

/// What the notes of a spool say; nothing where there are none.
pub(crate) fn read_notes<F: Files>(files: &F, root: &Path) -> Result<Standing, SpoolError> {
    let path = root.join(progress::FILE_NAME);
    let notes = match files.read(&path, usize::MAX) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
        Err(error) => return Err(SpoolError::Io { path, error }),
        Ok(notes) => notes,
    };
    Standing::read(&notes).map_err(|later| SpoolError::Later { path, later: later.to_string() })
}

/// The segments that earlier runs have left.
pub(crate) struct Shelf<'a, F: Files> {
    files: &'a F,
    dir: &'a Path,
    outbox: &'a Outbox<F>,
    report: RecoveryReport,
    newest: Option<u64>,
    /// Of the newest segment that can be read.
    plan: Option<Arc<Plan>>,
    /// Of those that can be read, oldest first.
    pub(crate) extents: Vec<Extent>,
}

impl<'a, F: Files> Shelf<'a, F> {
    /// Lists the segments and reads their heads; what is no segment is put aside.
    pub(crate) fn look(
        files: &'a F,
        dir: &'a Path,
        outbox: &'a Outbox<F>,
        report: RecoveryReport,
    ) -> Result<Self, SpoolError> {
        let mut shelf = Self { files, dir, outbox, report, newest: None, plan: None, extents: Vec::new() };
        shelf.list()?;
        Ok(shelf)
    }

    fn list(&mut self) -> Result<(), SpoolError> {
        let listed = self.files.list(self.dir).map_err(|error| self.failure("", error))?;
        let mut segments: Vec<(u64, u64)> =
            listed.iter().filter_map(|file| Some((segment::generation_of(&file.name)?, file.bytes))).collect();
        segments.sort_unstable();
        for (generation, length) in segments {
            self.newest = Some(generation);
            let name = segment::file_name(generation);
            match Tape::of(self.files.clone(), self.dir, generation).map_err(|error| self.failure(&name, error))? {
                Ok(tape) => {
                    self.report.segments += 1;
                    self.plan = Some(Arc::clone(tape.plan()));
                    self.extents.push(Extent { generation, length, closed: true });
                }
                Err(Unreadable::Newer { version, features }) => {
                    return Err(SpoolError::Newer { path: self.dir.join(name), version, features });
                }
                Err(Unreadable::Damaged) => {
                    self.put_aside(&name, length).map_err(|error| self.failure(&name, error))?;
                }
            }
        }
        Ok(())
    }

    fn put_aside(&mut self, name: &str, length: u64) -> io::Result<()> {
        let path = self.dir.join(name);
        if tape::holds_entries(self.files.clone(), path.clone(), length)? {
            self.report.damaged_files += 1;
            if self.outbox.note_damage(name, 1).is_err() {
                // It must be counted first: the next start finds it again.
                return Ok(());
            }
            return self.files.rename(&path, &self.dir.join(format!("{name}.damaged")));
        }
        // The last run died while it made the file.
        self.report.torn_bytes += length;
        self.files.remove(&path)
    }

    /// The time of the last entry that can be read.
    fn last_time(&self) -> Result<Millis, SpoolError> {
        for extent in self.extents.iter().rev() {
            let read = self.last_time_of(extent);
            let time = read.map_err(|error| self.failure(&segment::file_name(extent.generation), error))?;
            if let Some(time) = time {
                return Ok(time);
            }
        }
        Ok(Millis::default())
    }

    fn last_time_of(&self, extent: &Extent) -> io::Result<Option<Millis>> {
        let Ok(mut tape) = Tape::of(self.files.clone(), self.dir, extent.generation)? else { return Ok(None) };
        let mut last = None;
        loop {
            match tape.read(extent.length)? {
                Found::Entry(entry) => last = last.max(Some(entry.time())),
                Found::Damage => {}
                Found::Nothing => return Ok(last),
            }
        }
    }

    fn failure(&self, name: &str, error: io::Error) -> SpoolError {
        SpoolError::Io { path: self.dir.join(name), error }
    }
}
