//! Batches that the core has not acknowledged, and the notes on those that it has.

mod arrivals;
mod giving_up;
mod opening;
mod reviving;
mod trying;

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::{Mutex, MutexGuard};
use weir_batch::{BatchFile, BatchId, BatchMeta, Counts, FileError, Part, Refused};

use crate::files::{Append, Files};
use crate::ledger::{Ledger, Mark};
use crate::losses::{Book, Loss, Losses};
use crate::progress::{Note, Progress, Standing};
use crate::tables::Place;
use crate::trial::Trial;

pub use giving_up::Lent;
pub(crate) use opening::remaining;
pub use reviving::Revived;

/// The outbox of one stream. Calls that return an [`io::Result`] read or write files.
///
/// A batch leaves it by [`Self::deliver`], [`Self::bury`], [`Self::halve`] or [`Self::expire`], or part by part by the first
/// three and [`Self::isolate`] and [`Self::divide`]. [`Self::revive`] puts dead letters back. Each is noted durably before a file goes. A call that fails has changed nothing
/// that counts and may be made again.
pub struct Outbox<F: Files> {
    files: F,
    dir: PathBuf,
    dead: PathBuf,
    progress: Mutex<Progress<F>>,
    state: Mutex<State>,
    losses: Arc<Losses>,
}

#[derive(Debug, Default)]
struct State {
    mark: Option<Mark>,
    ledger: Ledger,
    waiting: BTreeMap<String, Waiting>,
    tables: BTreeMap<u8, Place>,
    bytes: u64,
    /// The names of those that came since the last call of [`Outbox::take_arrivals`].
    arrived: Vec<String>,
    /// The names of those that expired since the last call of [`Outbox::take_expired`].
    expired: Vec<String>,
    /// By the name of the file.
    leftovers: BTreeMap<String, Leftover>,
    /// The files of the dead letters, and their bytes.
    dead: BTreeMap<String, u64>,
    /// Batches that somebody works on.
    lent: HashSet<String>,
    /// Batches that were dead letters or are parts of such.
    revived: BTreeSet<String>,
    /// What the core is told in generations that have been emitted.
    told: Book,
    /// Damaged files that are still in their places, and how many parts of each have been counted.
    damage: BTreeMap<String, u64>,
}

/// What is still to be done with a file of the outbox that no longer counts there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Leftover {
    Remove,
    /// Move it to the dead letters; so many bytes.
    Bury(u64),
    /// Remove it from the dead letters.
    Drop,
}

/// A batch in the outbox.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Waiting {
    /// All but its rows.
    pub meta: BatchMeta,
    /// The bytes of its file.
    pub bytes: u64,
    /// What the core has said of parts of it; `None` as long as it has said nothing.
    pub(crate) trial: Option<Trial>,
}

impl Waiting {
    /// Its name in the outbox.
    pub fn name(&self) -> String {
        self.meta.id.file_stem()
    }

    /// What in it the core has neither accepted nor refused.
    pub fn counts(&self) -> Counts {
        self.trial.as_ref().map_or(self.meta.counts, |trial| trial.left)
    }

    fn new(meta: BatchMeta, bytes: u64) -> Self {
        Self { meta, bytes, trial: None }
    }

    /// The rows of the next request.
    fn request(&self) -> Range<u64> {
        self.trial.as_ref().map_or(0..self.meta.counts.rows, Trial::request)
    }

    /// The id under which these rows travel.
    fn id_of(&self, rows: &Range<u64>) -> BatchId {
        if *rows == (0..self.meta.counts.rows) { self.meta.id.clone() } else { self.meta.id.rows(rows.start, rows.end) }
    }
}

/// What goes to the core in one request: a batch, or a part of one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parcel {
    /// All but the rows.
    pub meta: BatchMeta,
    /// The compressed rows.
    pub payload: Bytes,
}

/// What waits in an outbox.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Content {
    /// Batches.
    pub batches: usize,
    /// Bytes of their files.
    pub bytes: u64,
    /// What is in them.
    pub counts: Counts,
    /// When the oldest was sealed: milliseconds since 1970.
    pub oldest: Option<u64>,
    /// Files of the dead letters, those put aside as damaged among them.
    pub dead_files: usize,
    /// Their bytes.
    pub dead_bytes: u64,
}

/// A generation all of whose batches are written.
pub(crate) struct Emission<'a> {
    pub(crate) mark: Mark,
    /// Records accepted in it.
    pub(crate) accepted: u64,
    /// Rows in it that left before their window's end.
    pub(crate) early: u64,
    /// What the core is told in it.
    pub(crate) told: &'a [Loss],
    /// Tables that have changed.
    pub(crate) tables: Vec<Place>,
    pub(crate) batches: &'a [Waiting],
}

const EXTENSION: &str = "batch";

/// Of a dead letter that waits in the outbox until a note says that it is one.
const DEAD: &str = "dead";

impl<F: Files> Outbox<F> {
    /// The batches that wait, oldest first.
    pub fn waiting(&self) -> Vec<Waiting> {
        self.state.lock().waiting.values().cloned().collect()
    }

    /// The batch of that name, if it waits.
    pub fn find(&self, name: &str) -> Option<Waiting> {
        self.state.lock().waiting.get(name).cloned()
    }

    /// Bytes of the files of all batches that wait.
    pub fn bytes(&self) -> u64 {
        self.state.lock().bytes
    }

    /// What waits, and what came in and what became of it, at one moment.
    pub fn balance(&self) -> (Content, Ledger) {
        let state = self.state.lock();
        let (dead_files, dead_bytes) = (state.dead.len(), state.dead.values().sum());
        let mut content =
            Content { batches: state.waiting.len(), bytes: state.bytes, dead_files, dead_bytes, ..Content::default() };
        for waiting in state.waiting.values() {
            content.counts += waiting.counts();
            content.oldest = content.oldest.into_iter().chain([waiting.meta.sealed_at]).min();
        }
        (content, state.ledger)
    }

    /// What came in and what became of it.
    pub fn ledger(&self) -> Ledger {
        self.state.lock().ledger
    }

    /// What was lost, and what of it the core has been told.
    pub fn losses(&self) -> &Arc<Losses> {
        &self.losses
    }

    /// How far the spool has emitted.
    pub fn mark(&self) -> Option<Mark> {
        self.state.lock().mark
    }

    /// A batch's file.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn load(&self, waiting: &Waiting) -> io::Result<Vec<u8>> {
        self.files.read(&self.path(&waiting.name()), usize::MAX)
    }

    /// What is to be sent of the batch next. The same id always has the same rows.
    ///
    /// # Errors
    /// When the file cannot be read; of kind [`io::ErrorKind::InvalidData`] when it is no batch or damaged.
    pub fn parcel(&self, waiting: &Waiting) -> io::Result<Parcel> {
        let bytes = Bytes::from(self.load(waiting)?);
        let file = BatchFile::decode(&bytes).map_err(invalid)?;
        let rows = waiting.request();
        if rows == (0..file.meta.counts.rows) {
            let payload = bytes.slice_ref(file.payload);
            return Ok(Parcel { meta: file.meta, payload });
        }
        let part = file.pick(waiting.id_of(&rows), |row| rows.contains(&row)).map_err(invalid)?;
        Ok(Parcel { meta: part.meta, payload: Bytes::from(part.payload) })
    }

    /// Notes that the core has what [`Self::parcel`] gave; a batch that is settled with it leaves.
    ///
    /// # Errors
    /// When the note cannot be written.
    pub fn deliver(&self, waiting: &Waiting) -> io::Result<()> {
        if waiting.trial.is_some() {
            return self.deliver_part(waiting);
        }
        let batch = waiting.name();
        let note = Note::Delivered { batch: batch.clone(), counts: waiting.meta.counts };
        self.leave(&batch, &note, &[], &[(file_name(&batch), Leftover::Remove)])
    }

    /// Notes that the core will never take what is left of the batch, and moves it to the dead letters with the reason.
    ///
    /// # Errors
    /// When the dead letter or the note cannot be written.
    pub fn bury(&self, waiting: &Waiting, refusal: Refused) -> io::Result<()> {
        let mut trial = waiting.trial.clone().unwrap_or_else(|| Trial::new(waiting.meta.counts));
        let rest = trial.rest();
        trial.settle(rest.end);
        trial.refusal = refusal;
        self.advance(waiting, trial, None, Some(rest)).map(drop)
    }

    /// Moves the batch to the dead letters as it is, because it cannot be read.
    ///
    /// # Errors
    /// When the note cannot be written.
    pub fn bury_damaged(&self, waiting: &Waiting) -> io::Result<()> {
        let batch = waiting.name();
        let note = Note::Buried { batch: batch.clone(), counts: waiting.counts() };
        self.leave(&batch, &note, &[], &[(file_name(&batch), Leftover::Bury(waiting.bytes))])
    }

    /// Puts a batch's two halves in its place; `None` for a batch of one row, or of which a part is settled. Only for a
    /// batch that the core has refused under its id: one that it may have accepted would count twice.
    ///
    /// # Errors
    /// When the batch cannot be read, or the halves or the note not written.
    pub fn halve(&self, waiting: &Waiting) -> io::Result<Option<[Waiting; 2]>> {
        if waiting.trial.is_some() {
            return Ok(None);
        }
        let bytes = self.load(waiting)?;
        let Some(halves) = BatchFile::decode(&bytes).and_then(|file| file.halve()).map_err(io::Error::other)? else {
            return Ok(None);
        };
        let names = halves.each_ref().map(|half| file_name(&half.meta.id.file_stem()));
        self.state.lock().leftovers.retain(|name, _| !names.contains(name));
        let replaced = self.replace(waiting, &halves);
        if replaced.is_err() {
            // The whole still stands: its halves must not outlive it.
            self.state.lock().leftovers.extend(names.map(|name| (name, Leftover::Remove)));
        }
        replaced.map(Some)
    }

    fn replace(&self, waiting: &Waiting, [first, second]: &[Part; 2]) -> io::Result<[Waiting; 2]> {
        let halves = [self.store(&first.meta, &first.payload)?, self.store(&second.meta, &second.payload)?];
        self.sync_names()?;
        let batch = waiting.name();
        self.leave(&batch, &Note::Halved { batch: batch.clone() }, &halves, &[(file_name(&batch), Leftover::Remove)])?;
        Ok(halves)
    }

    /// Writes a batch's file. It counts for nothing until [`Self::announce`] names it.
    pub(crate) fn store(&self, meta: &BatchMeta, payload: &[u8]) -> io::Result<Waiting> {
        let bytes = BatchFile::encode(meta, payload);
        self.put(&file_name(&meta.id.file_stem()), &bytes)?;
        Ok(Waiting::new(meta.clone(), bytes.len() as u64))
    }

    fn put(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        let temporary = self.dir.join(format!("{name}.tmp"));
        let written = self.files.create(&temporary).and_then(|mut file| {
            file.append(bytes)?;
            file.sync()
        });
        if let Err(error) = written {
            // What is there of it must not take the last room on the disk.
            self.files.remove(&temporary).unwrap_or(());
            return Err(error);
        }
        self.files.rename(&temporary, &self.dir.join(name))
    }

    /// Notes that a generation is emitted; its batches wait from now on. Nothing when the mark is there already.
    pub(crate) fn announce(&self, emission: Emission<'_>) -> io::Result<()> {
        let Emission { mark, accepted, early, told, tables, batches } = emission;
        if self.mark().is_some_and(|known| known.generation >= mark.generation) {
            return Ok(());
        }
        if !batches.is_empty() {
            self.sync_names()?;
        }
        let mut counts = Counts::default();
        batches.iter().for_each(|batch| counts += batch.meta.counts);
        let note = Note::Emitted { mark, accepted, counts, early, told: told.to_vec(), tables };
        let mut progress = self.progress.lock();
        let mut state = self.write(&mut progress, &note)?;
        batches.iter().for_each(|batch| state.add(batch.clone()));
        Ok(())
    }

    /// Notes that a batch leaves and others take its place, unless that has been noted, and does away with its file.
    fn leave(&self, batch: &str, note: &Note, instead: &[Waiting], leftovers: &[(String, Leftover)]) -> io::Result<()> {
        let mut progress = self.progress.lock();
        if !self.state.lock().waiting.contains_key(batch) {
            return Ok(());
        }
        let mut state = self.write(&mut progress, note)?;
        state.take(batch);
        instead.iter().for_each(|waiting| state.add(waiting.clone()));
        leftovers.iter().cloned().for_each(|(name, leftover)| state.leave_over(name, leftover));
        drop(state);
        self.sweep();
        Ok(())
    }

    /// Writes a note and gives the state to which it has been applied. What the note says of the batches that wait is done
    /// to them before the state is let go: between the two the books would not balance.
    fn write(&self, progress: &mut Progress<F>, note: &Note) -> io::Result<MutexGuard<'_, State>> {
        if progress.is_long() && self.sweep() {
            // Names first: once the notes on single batches are gone, a removed file must not come back.
            self.files.sync_dir(&self.dead)?;
            self.files.sync_dir(&self.dir)?;
            let sum = self.state.lock().sum();
            progress.restart(&sum)?;
        }
        progress.write(note)?;
        let mut state = self.state.lock();
        state.apply(note);
        self.losses.set_lost(state.ledger.lost());
        Ok(state)
    }

    /// Does away with files that no longer count; what fails is tried again with the next note. Called with the
    /// progress locked.
    fn sweep(&self) -> bool {
        let leftovers: Vec<(String, Leftover)> = self.state.lock().leftovers.clone().into_iter().collect();
        for (name, leftover) in leftovers {
            let path = self.dir.join(&name);
            let swept = match leftover {
                Leftover::Remove => self.files.remove(&path),
                Leftover::Bury(bytes) => self.bury_file(&path, &name, bytes),
                Leftover::Drop => self.drop_file(&name),
            };
            if swept.is_ok() {
                self.state.lock().leftovers.remove(&name);
            }
        }
        self.state.lock().leftovers.is_empty()
    }

    /// Makes the outbox's names durable. A file whose move to the dead letters is in doubt must be durable there first.
    fn sync_names(&self) -> io::Result<()> {
        if self.state.lock().leftovers.values().any(|leftover| matches!(leftover, Leftover::Bury(_))) {
            self.files.sync_dir(&self.dead)?;
        }
        self.files.sync_dir(&self.dir)
    }

    /// Moves a file to the dead letters, where its name is durable before the outbox can forget it.
    fn bury_file(&self, path: &Path, name: &str, bytes: u64) -> io::Result<()> {
        let letter = file_name(stem(name));
        match self.files.rename(path, &self.dead.join(&letter)) {
            // An earlier call was told that it failed, and had not.
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        self.state.lock().dead.insert(letter, bytes);
        self.files.sync_dir(&self.dead)
    }

    fn path(&self, batch: &str) -> PathBuf {
        self.dir.join(file_name(batch))
    }
}

impl State {
    fn apply(&mut self, note: &Note) {
        let (mark, ledger, told) = (self.mark, self.ledger, Some(self.told));
        let (tables, revived) = (std::mem::take(&mut self.tables), std::mem::take(&mut self.revived));
        let mut standing = Standing { mark, ledger, told, tables, revived, ..Standing::default() };
        standing.note(note);
        (self.mark, self.ledger) = (standing.mark, standing.ledger);
        self.told = standing.told.unwrap_or_default();
        self.tables = standing.tables;
        self.damage.append(&mut standing.damage);
        self.revived = standing.revived;
    }

    /// All that is known, as one note.
    fn sum(&self) -> Note {
        let trials = self.waiting.iter().filter_map(|(name, waiting)| Some((name.clone(), waiting.trial.clone()?)));
        let revived = self.revived.iter().filter(|batch| self.waiting.contains_key(*batch)).cloned().collect();
        let Self { mark, ledger, told, damage, .. } = self;
        let (damage, trials) = (damage.clone(), trials.collect());
        let tables = self.tables.values().copied().collect();
        Note::Sum { mark: *mark, ledger: *ledger, told: *told, damage, trials, tables, revived }
    }

    /// Notes what is still to be done with a file. An earlier dead letter of that name that is to go must not take the new one
    /// with it.
    fn leave_over(&mut self, name: String, leftover: Leftover) {
        if matches!(leftover, Leftover::Bury(_)) {
            self.leftovers.remove(&giving_up::dead_name(&file_name(stem(&name))));
        }
        self.leftovers.insert(name, leftover);
    }

    fn add(&mut self, waiting: Waiting) {
        self.bytes += waiting.bytes;
        let name = waiting.name();
        self.arrived.push(name.clone());
        self.waiting.insert(name, waiting);
    }

    fn take(&mut self, batch: &str) {
        if let Some(waiting) = self.waiting.remove(batch) {
            self.bytes -= waiting.bytes;
        }
    }
}

fn file_name(batch: &str) -> String {
    format!("{batch}.{EXTENSION}")
}

/// A file's name without its extension, which is what follows the last full stop.
fn stem(name: &str) -> &str {
    name.rsplit_once('.').map_or(name, |(stem, _)| stem)
}

fn invalid(error: FileError) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}
