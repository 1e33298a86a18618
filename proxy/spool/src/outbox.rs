//! Batches that the core has not acknowledged, and the notes on those that it has.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use parking_lot::Mutex;
use weir_batch::{BatchFile, BatchMeta, Counts, FileError, Half};

use crate::files::{Append, Files};
use crate::ledger::{Ledger, Mark};
use crate::progress::{Fate, Note, Progress, Standing};

/// The outbox of one stream. Calls that return an [`io::Result`] read or write files.
///
/// A batch leaves it by exactly one of [`Self::deliver`], [`Self::bury`] and [`Self::halve`], each of which is noted
/// durably before the file goes. A call that fails has changed nothing that counts and may be made again.
pub struct Outbox<F: Files> {
    files: F,
    dir: PathBuf,
    dead: PathBuf,
    progress: Mutex<Progress<F>>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    mark: Option<Mark>,
    ledger: Ledger,
    waiting: BTreeMap<String, Waiting>,
    bytes: u64,
    leftovers: BTreeMap<String, Leftover>,
}

/// What is still to be done with a file that no longer counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Leftover {
    Remove,
    Bury,
}

/// A batch in the outbox.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Waiting {
    /// All but its rows.
    pub meta: BatchMeta,
    /// The bytes of its file.
    pub bytes: u64,
}

impl Waiting {
    /// Its name in the outbox.
    pub fn name(&self) -> String {
        self.meta.id.file_stem()
    }
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
}

const EXTENSION: &str = "batch";

impl<F: Files> Outbox<F> {
    /// The batches that wait, oldest first.
    pub fn waiting(&self) -> Vec<Waiting> {
        self.state.lock().waiting.values().cloned().collect()
    }

    /// The newest batch that waits and is not among those to skip.
    pub fn newest(&self, skip: impl Fn(&str) -> bool) -> Option<Waiting> {
        let state = self.state.lock();
        state.waiting.iter().rev().find(|(name, _)| !skip(name)).map(|(_, waiting)| waiting.clone())
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
        let mut content = Content { batches: state.waiting.len(), bytes: state.bytes, ..Content::default() };
        for waiting in state.waiting.values() {
            content.counts += waiting.meta.counts;
            content.oldest = content.oldest.into_iter().chain([waiting.meta.sealed_at]).min();
        }
        (content, state.ledger)
    }

    /// What came in and what became of it.
    pub fn ledger(&self) -> Ledger {
        self.state.lock().ledger
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

    /// Notes that the core has the batch and removes it.
    ///
    /// # Errors
    /// When the note cannot be written.
    pub fn deliver(&self, waiting: &Waiting) -> io::Result<()> {
        let batch = waiting.name();
        let note = Note::Delivered { batch: batch.clone(), counts: waiting.meta.counts };
        self.leave(&batch, &note, &[], Leftover::Remove)
    }

    /// Notes that the core will never take the batch and moves it to the dead letters.
    ///
    /// # Errors
    /// When the note cannot be written.
    pub fn bury(&self, waiting: &Waiting) -> io::Result<()> {
        let batch = waiting.name();
        let note = Note::Buried { batch: batch.clone(), counts: waiting.meta.counts };
        self.leave(&batch, &note, &[], Leftover::Bury)
    }

    /// Puts a batch's two halves in its place; `None` for a batch of one row. Only for a batch that the core has
    /// refused under its id: one that it may have accepted would count twice.
    ///
    /// # Errors
    /// When the batch cannot be read, or the halves or the note not written.
    pub fn halve(&self, waiting: &Waiting) -> io::Result<Option<[Waiting; 2]>> {
        let bytes = self.load(waiting)?;
        let Some(halves) = BatchFile::decode(&bytes).and_then(|file| file.halve()).map_err(io::Error::other)? else {
            return Ok(None);
        };
        let names = halves.each_ref().map(|half| half.meta.id.file_stem());
        self.state.lock().leftovers.retain(|name, _| !names.contains(name));
        let replaced = self.replace(waiting, &halves);
        if replaced.is_err() {
            // The whole still stands: its halves must not outlive it.
            self.state.lock().leftovers.extend(names.map(|name| (name, Leftover::Remove)));
        }
        replaced.map(Some)
    }

    fn replace(&self, waiting: &Waiting, [first, second]: &[Half; 2]) -> io::Result<[Waiting; 2]> {
        let halves = [self.store(&first.meta, &first.payload)?, self.store(&second.meta, &second.payload)?];
        self.files.sync_dir(&self.dir)?;
        let batch = waiting.name();
        self.leave(&batch, &Note::Halved { batch: batch.clone() }, &halves, Leftover::Remove)?;
        Ok(halves)
    }

    /// Writes a batch's file. It counts for nothing until [`Self::announce`] names it.
    pub(crate) fn store(&self, meta: &BatchMeta, payload: &[u8]) -> io::Result<Waiting> {
        let bytes = BatchFile::encode(meta, payload);
        let name = meta.id.file_stem();
        let temporary = self.dir.join(format!("{name}.tmp"));
        let mut file = self.files.create(&temporary)?;
        file.append(&bytes)?;
        file.sync()?;
        self.files.rename(&temporary, &self.path(&name))?;
        Ok(Waiting { meta: meta.clone(), bytes: bytes.len() as u64 })
    }

    /// Notes that a generation is emitted; its batches wait from now on. Nothing when the mark is there already.
    pub(crate) fn announce(&self, mark: Mark, accepted: u64, batches: &[Waiting]) -> io::Result<()> {
        if self.mark().is_some_and(|known| known.generation >= mark.generation) {
            return Ok(());
        }
        if !batches.is_empty() {
            self.files.sync_dir(&self.dir)?;
        }
        let mut counts = Counts::default();
        batches.iter().for_each(|batch| counts += batch.meta.counts);
        let note = Note::Emitted { mark, accepted, counts };
        let mut progress = self.progress.lock();
        self.write(&mut progress, &note)?;
        let mut state = self.state.lock();
        batches.iter().for_each(|batch| state.add(batch.clone()));
        Ok(())
    }

    /// Notes that a batch leaves and others take its place, unless that has been noted, and does away with its file.
    fn leave(&self, batch: &str, note: &Note, instead: &[Waiting], leftover: Leftover) -> io::Result<()> {
        let mut progress = self.progress.lock();
        if !self.state.lock().waiting.contains_key(batch) {
            return Ok(());
        }
        self.write(&mut progress, note)?;
        let mut state = self.state.lock();
        state.take(batch);
        instead.iter().for_each(|waiting| state.add(waiting.clone()));
        state.leftovers.insert(batch.to_owned(), leftover);
        drop(state);
        self.sweep();
        Ok(())
    }

    fn write(&self, progress: &mut Progress<F>, note: &Note) -> io::Result<()> {
        if progress.is_long() && self.sweep() {
            // Names first: once the notes on single batches are gone, a removed file must not come back.
            self.files.sync_dir(&self.dead)?;
            self.files.sync_dir(&self.dir)?;
            progress.restart(self.mark(), self.ledger())?;
        }
        progress.write(note)?;
        self.state.lock().apply(note);
        Ok(())
    }

    /// Does away with files that no longer count; what fails is tried again with the next note. Called with the
    /// progress locked.
    fn sweep(&self) -> bool {
        let leftovers: Vec<(String, Leftover)> = self.state.lock().leftovers.clone().into_iter().collect();
        for (batch, leftover) in leftovers {
            let swept = match leftover {
                Leftover::Remove => self.files.remove(&self.path(&batch)),
                Leftover::Bury => self.files.rename(&self.path(&batch), &self.dead.join(file_name(&batch))),
            };
            if swept.is_ok() {
                self.state.lock().leftovers.remove(&batch);
            }
        }
        self.state.lock().leftovers.is_empty()
    }

    fn path(&self, batch: &str) -> PathBuf {
        self.dir.join(file_name(batch))
    }
}

impl State {
    fn apply(&mut self, note: &Note) {
        let mut standing = Standing { mark: self.mark, ledger: self.ledger, ..Standing::default() };
        standing.note(note);
        (self.mark, self.ledger) = (standing.mark, standing.ledger);
    }

    fn add(&mut self, waiting: Waiting) {
        self.bytes += waiting.bytes;
        self.waiting.insert(waiting.name(), waiting);
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

/// What was found in an outbox on start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Found {
    /// Files put aside because they could not be read.
    pub(crate) damaged: usize,
}

impl<F: Files> Outbox<F> {
    /// Opens the outbox of a spool: finishes what a crash has left half done, and lists what waits.
    pub(crate) fn open(files: F, root: &Path, standing: &Standing) -> io::Result<(Self, Found)> {
        let (dir, dead) = (root.join("outbox"), root.join("dead"));
        files.create_dir(&dir)?;
        files.create_dir(&dead)?;
        let mut state = State { mark: standing.mark, ledger: standing.ledger, ..State::default() };
        let mut found = Found::default();
        for batch in settle_names(&files, &dir, &dead, standing)? {
            let path = dir.join(file_name(&batch));
            match read_meta(&files, &path)? {
                // A copy under another name would wait twice, or under a name at which nothing is found.
                Ok((meta, bytes)) if meta.id.file_stem() == batch => state.add(Waiting { meta, bytes }),
                Err(FileError::Newer { version, .. }) => {
                    let text = format!("{} was written by a later version ({version})", path.display());
                    return Err(io::Error::other(text));
                }
                Ok(_) | Err(_) => {
                    found.damaged += 1;
                    files.rename(&path, &dead.join(format!("{batch}.damaged")))?;
                }
            }
        }
        files.sync_dir(&dead)?;
        files.sync_dir(&dir)?;
        let progress = Progress::start(files.clone(), root.to_owned(), standing.mark, standing.ledger)?;
        let outbox = Self { files, dir, dead, progress: Mutex::new(progress), state: Mutex::new(state) };
        Ok((outbox, found))
    }
}

/// Removes what has left and what was never announced, and gives the names of the batches that remain.
fn settle_names<F: Files>(files: &F, dir: &Path, dead: &Path, standing: &Standing) -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    for listed in files.list(dir)? {
        match listed.name.strip_suffix(&format!(".{EXTENSION}")) {
            Some(batch) => names.push(batch.to_owned()),
            None => files.remove(&dir.join(&listed.name))?,
        }
    }
    names.sort_unstable();
    let all = names.clone();
    let mut remaining = Vec::new();
    for batch in names {
        let path = dir.join(file_name(&batch));
        match standing.fates.get(&batch) {
            Some(Fate::Delivered | Fate::Halved) => files.remove(&path)?,
            Some(Fate::Buried) => files.rename(&path, &dead.join(file_name(&batch)))?,
            None if is_premature(&batch, &all, standing) => files.remove(&path)?,
            None => remaining.push(batch),
        }
    }
    Ok(remaining)
}

/// Whether a batch was written but not announced: its generation will be emitted again, or its whole still stands.
fn is_premature(batch: &str, all: &[String], standing: &Standing) -> bool {
    let generation = batch.split('-').next().and_then(|digits| digits.parse::<u64>().ok());
    if generation > standing.mark.map(|mark| mark.generation) {
        return true;
    }
    batch.rsplit_once('.').is_some_and(|(whole, _)| match standing.fates.get(whole) {
        Some(Fate::Halved) => false,
        Some(Fate::Delivered | Fate::Buried) => true,
        None => all.iter().any(|other| other == whole),
    })
}

fn read_meta<F: Files>(files: &F, path: &Path) -> io::Result<Result<(BatchMeta, u64), FileError>> {
    let prefix = files.read(path, BatchFile::MAX_META_BYTES)?;
    Ok(BatchFile::peek(&prefix))
}
