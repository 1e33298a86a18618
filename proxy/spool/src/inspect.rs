//! Looking into a spool that another process may be writing: reads only, takes no lock, changes nothing.
//!
//! What is seen is from no single moment: a file that goes away between the listing and the reading is passed over, and
//! the torn end of a segment that is still being written is not damage. Memory: one file at a time.

use std::collections::HashSet;
use std::io;
use std::path::{Path, PathBuf};

use serde::Serialize;
use weir_batch::{Batch, BatchFile, BatchMeta, FileError};

use crate::entry::{Entry, Upload};
use crate::files::{Disk, Files, Listed};
use crate::outbox::remaining;
use crate::plan::Plan;
use crate::progress::{self, Standing};
use crate::segment::{self, Unreadable};
use crate::tables;
use crate::tape::{Found, Tape};

/// What a spool's directory holds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Inventory {
    /// Segments of the journal.
    pub journal: Shelf,
    /// Batches that the core has not acknowledged.
    pub outbox: Shelf,
    /// Batches and rows that the core refuses for good.
    pub dead: Shelf,
    /// Tables of a stream of states.
    pub tables: Shelf,
    /// Segments whose records are not all in the outbox or beyond: a start merges them.
    pub unmerged: usize,
    /// What came in and what became of it.
    pub ledger: crate::Ledger,
}

/// One directory of a spool.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Shelf {
    /// Files of the kind that belongs there.
    pub files: usize,
    /// Their bytes.
    pub bytes: u64,
    /// Records in the batches; `None` for segments, which are not read for it.
    pub records: Option<u64>,
    /// When the oldest batch was sealed: milliseconds since 1970.
    pub oldest: Option<u64>,
    /// Files put aside as damaged.
    pub damaged: usize,
    /// Their bytes.
    pub damaged_bytes: u64,
}

/// What is in one file of a spool.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "file", rename_all = "lowercase")]
pub enum Content {
    /// A segment.
    Segment(SegmentSummary),
    /// A batch or dead letter.
    Batch(Box<BatchMeta>),
    /// The file of notes.
    Progress(ProgressSummary),
    /// A table of states.
    Table(TableSummary),
}

/// A segment in figures.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct SegmentSummary {
    /// Its generation.
    pub generation: u64,
    /// The plan in force for it.
    pub plan: Plan,
    /// Entries that can be read.
    pub entries: usize,
    /// Those among them that have windows leave early.
    pub flushes: usize,
    /// Those among them that tell of losses.
    pub losses: usize,
    /// Records in them.
    pub records: u64,
    /// The times of the first and last entry: milliseconds since 1970.
    pub times: Option<(u64, u64)>,
    /// Whether it was closed.
    pub sealed: bool,
    /// Whether it ends in a write that was never finished, as it may while the node writes to it.
    pub torn: bool,
    /// The bytes that have been written, whole or not: zeros may follow, which were made ready for more.
    pub written: u64,
    /// Entries inside that cannot be read.
    pub damaged: usize,
}

/// The notes in figures.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ProgressSummary {
    /// The last generation whose batches are all in the outbox.
    pub generation: Option<u64>,
    /// What came in and what became of it.
    pub ledger: crate::Ledger,
    /// Batches of which the core has settled a part.
    pub partly_settled: usize,
    /// Batches that were dead letters and have not left.
    pub revived: usize,
    /// Tables of states that count.
    pub tables: usize,
    /// Notes that cannot be read.
    pub damaged: usize,
}

/// A table of states in figures.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct TableSummary {
    /// The first generation under its plan.
    pub since: u64,
    /// The plan.
    pub plan: Plan,
    /// What was written to it: all of it once, and then what had changed.
    pub contents: usize,
}

/// Why a file cannot be inspected.
#[derive(Debug, thiserror::Error)]
pub enum InspectError {
    /// It cannot be read.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// It is a batch file, but damaged.
    #[error(transparent)]
    Batch(#[from] FileError),
    /// It is a segment whose head is damaged, or none.
    #[error("the segment's head is damaged")]
    Segment,
    /// It is a table, but damaged, or its last part was never finished.
    #[error("the table is damaged or not finished")]
    Table,
    /// They are notes, and a later version wrote them.
    #[error("{0}")]
    Later(String),
    /// A later version wrote it.
    #[error(
        "written by a later version ({version}, features {features:#06x}); this program reads version 1 without features"
    )]
    Newer {
        /// The version found.
        version: u16,
        /// The features found.
        features: u16,
    },
}

/// A file that is not whole.
#[derive(Debug)]
pub struct Damage {
    /// The file.
    pub path: PathBuf,
    /// What is wrong with it.
    pub problem: String,
}

impl Inventory {
    /// Counts what is in the spool at `root`.
    ///
    /// # Errors
    /// When a directory or file cannot be read, or was written by a later version. A directory that is not there is empty.
    pub fn of(root: &Path) -> io::Result<Self> {
        Self::walk(&Disk, root)
    }

    /// The same on any file system. What lies in a directory only because nobody has removed it yet does not count.
    pub(crate) fn walk<F: Files>(files: &F, root: &Path) -> io::Result<Self> {
        let standing = standing(files, root)?;
        let mut journal = Shelf::default();
        let mut unmerged = 0;
        for listed in list(files, &root.join("journal"))? {
            journal.count(&listed.name, ".segment", listed.bytes);
            let generation = segment::generation_of(&listed.name);
            unmerged += usize::from(generation > standing.mark.map(|mark| mark.generation));
        }
        let (outbox, dead) = (root.join("outbox"), root.join("dead"));
        let mut buried = list(files, &dead)?;
        buried.retain(|listed| !standing.dropped.contains(&listed.name));
        let names: HashSet<String> = buried.iter().map(|listed| listed.name.clone()).collect();
        let mut waiting = list(files, &outbox)?;
        let all: Vec<String> = waiting.iter().map(|listed| listed.name.clone()).collect();
        let remaining: HashSet<String> = remaining(&all, &names, &standing).into_iter().collect();
        waiting.retain(|listed| listed.name.strip_suffix(".batch").is_none_or(|batch| remaining.contains(batch)));
        let outbox = batches(files, &outbox, waiting, &standing)?;
        let mut tables = Shelf::default();
        for listed in list(files, &root.join("tables"))? {
            tables.count(&listed.name, ".table", listed.bytes);
        }
        let dead = batches(files, &dead, buried, &Standing::default())?;
        Ok(Self { journal, outbox, dead, tables, unmerged, ledger: standing.ledger })
    }
}

fn batches<F: Files>(files: &F, dir: &Path, listed: Vec<Listed>, standing: &Standing) -> io::Result<Shelf> {
    let mut shelf = Shelf::default();
    let mut records = 0;
    for listed in listed {
        let Some(batch) = listed.name.strip_suffix(".batch") else {
            shelf.count(&listed.name, ".batch", listed.bytes);
            continue;
        };
        let Some(prefix) = read(files, &dir.join(&listed.name), BatchFile::MAX_META_BYTES)? else { continue };
        shelf.count(&listed.name, ".batch", listed.bytes);
        if let Ok((meta, _)) = BatchFile::peek(&prefix) {
            let left = standing.trials.get(batch).map_or(meta.counts, |trial| trial.left);
            records += left.records;
            shelf.oldest = shelf.oldest.into_iter().chain([meta.sealed_at]).min();
        }
    }
    shelf.records = Some(records);
    Ok(shelf)
}

impl Shelf {
    fn count(&mut self, name: &str, extension: &str, bytes: u64) {
        if name.ends_with(extension) {
            self.files += 1;
            self.bytes += bytes;
        } else if name.ends_with(".damaged") {
            self.damaged += 1;
            self.damaged_bytes += bytes;
        }
    }
}

/// What the notes of a spool say.
fn standing<F: Files>(files: &F, root: &Path) -> io::Result<Standing> {
    let path = root.join(progress::FILE_NAME);
    let notes = read(files, &path, usize::MAX)?.unwrap_or_default();
    let later = |later| io::Error::new(io::ErrorKind::InvalidData, format!("{}: {later}", path.display()));
    Standing::read(&notes).map_err(later)
}

/// Where batches lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// Those that the core has not acknowledged.
    Outbox,
    /// Those that it refuses for good.
    Dead,
}

/// Hands over the batches of the spool at `root` in the order of their names: the meta, the rows unpacked, and the number
/// of the first row that the core has not settled. Memory: one batch unpacked.
///
/// # Errors
/// When a file cannot be read or is damaged, or `take` fails.
pub fn export(
    root: &Path,
    place: Place,
    mut take: impl FnMut(&BatchMeta, &[u8], u64) -> io::Result<()>,
) -> io::Result<()> {
    let dir = root.join(if place == Place::Outbox { "outbox" } else { "dead" });
    let standing = standing(&Disk, root)?;
    let mut names: Vec<String> = list(&Disk, &dir)?.into_iter().map(|listed| listed.name).collect();
    names.sort_unstable();
    for name in names.iter().filter_map(|name| name.strip_suffix(".batch")) {
        if place == Place::Outbox && standing.fates.contains_key(name) {
            continue;
        }
        let path = dir.join(format!("{name}.batch"));
        let Some(bytes) = read(&Disk, &path, usize::MAX)? else { continue };
        let damaged =
            |error: FileError| io::Error::new(io::ErrorKind::InvalidData, format!("{}: {error}", path.display()));
        let batch = Batch::open(&bytes).map_err(damaged)?;
        let Some(meta) = &batch.meta else { return Err(damaged(FileError::Unknown)) };
        let max_bytes = usize::try_from(meta.counts.raw_bytes).unwrap_or(usize::MAX);
        let rows = batch.rows(max_bytes).map_err(damaged)?;
        let trial = standing.trials.get(name).filter(|_| place == Place::Outbox);
        take(meta, &rows, trial.map_or(0, |trial| trial.rest().start))?;
    }
    Ok(())
}

/// Reads one file of a spool and says what is in it. The name tells the kind.
///
/// # Errors
/// When the file cannot be read or is damaged.
pub fn inspect(path: &Path) -> Result<Content, InspectError> {
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    if name.contains(".segment") {
        return inspect_segment(path).map(Content::Segment);
    }
    let bytes = Disk.read(path, usize::MAX)?;
    if name == progress::FILE_NAME {
        let standing = Standing::read(&bytes).map_err(|later| InspectError::Later(later.to_string()))?;
        return Ok(Content::Progress(ProgressSummary {
            generation: standing.mark.map(|mark| mark.generation),
            ledger: standing.ledger,
            partly_settled: standing.trials.values().filter(|trial| !trial.is_over()).count(),
            revived: standing.revived.len(),
            tables: standing.tables.len(),
            damaged: standing.damaged,
        }));
    }
    if name.contains(".table") {
        return tables::inspect(bytes).map(Content::Table);
    }
    Ok(Content::Batch(Box::new(BatchFile::decode(&bytes)?.meta)))
}

/// Reads the uploads of a segment that are whole, in their order.
///
/// # Errors
/// When the file cannot be read or is no segment.
pub fn uploads(path: &Path) -> Result<Vec<Upload>, InspectError> {
    let length = std::fs::metadata(path)?.len();
    let mut tape = open_segment(path)?;
    let mut uploads = Vec::new();
    loop {
        match tape.read(length)? {
            Found::Entry(Entry::Upload(upload)) => uploads.push(upload),
            Found::Entry(_) | Found::Damage => {}
            Found::Nothing => return Ok(uploads),
        }
    }
}

fn inspect_segment(path: &Path) -> Result<SegmentSummary, InspectError> {
    let length = std::fs::metadata(path)?.len();
    let mut tape = open_segment(path)?;
    let (generation, plan) = (tape.generation(), Plan::clone(tape.plan()));
    let (times, sealed, torn) = (None, false, false);
    let mut summary = SegmentSummary {
        generation,
        plan,
        entries: 0,
        records: 0,
        times,
        sealed,
        torn,
        written: 0,
        damaged: 0,
        flushes: 0,
        losses: 0,
    };
    let mut damaged_at_end = 0;
    loop {
        match tape.read(length)? {
            Found::Entry(entry) => {
                let time = entry.time().0;
                summary.entries += 1;
                summary.records += entry.records();
                summary.flushes += usize::from(matches!(entry, Entry::Flush { .. } | Entry::FlushAll { .. }));
                summary.losses += usize::from(matches!(entry, Entry::Loss(_)));
                summary.times = Some((summary.times.map_or(time, |(first, _)| first), time));
                summary.sealed = matches!(entry, Entry::End { .. });
                summary.damaged += std::mem::take(&mut damaged_at_end);
            }
            Found::Damage => damaged_at_end += 1,
            Found::Nothing => break,
        }
    }
    // Damage at the very end is what a torn write looks like.
    summary.torn = damaged_at_end > 0;
    summary.written = tape.written();
    Ok(summary)
}

fn open_segment(path: &Path) -> Result<Tape<Disk>, InspectError> {
    Tape::open(Disk, path.to_owned())?.map_err(|unreadable| match unreadable {
        Unreadable::Damaged => InspectError::Segment,
        Unreadable::Newer { version, features } => InspectError::Newer { version, features },
    })
}

/// Checks every checksum of every file of the spool at `root`, and gives the files that are not whole, those put aside
/// earlier among them, and how many were read.
///
/// # Errors
/// When a directory cannot be listed.
pub fn verify(root: &Path) -> io::Result<(usize, Vec<Damage>)> {
    let (mut read, mut damaged) = (0, Vec::new());
    let newest = newest_segment(&root.join("journal"))?;
    for dir in [root.to_owned(), root.join("journal"), root.join("outbox"), root.join("dead")] {
        let mut names: Vec<String> = list(&Disk, &dir)?.into_iter().map(|listed| listed.name).collect();
        names.sort_unstable();
        for name in names {
            let path = dir.join(&name);
            let ours = [".segment", ".batch", ".damaged"].iter().any(|kind| name.ends_with(kind));
            if !ours && name != progress::FILE_NAME {
                continue;
            }
            let problem = match inspect(&path) {
                Err(InspectError::Io(error)) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => Some(error.to_string()),
                Ok(content) => content.problem(newest.as_deref() == Some(&*name)),
            };
            read += 1;
            let aside = name.ends_with(".damaged").then(|| "put aside as damaged".to_owned());
            damaged.extend(problem.or(aside).map(|problem| Damage { path, problem }));
        }
    }
    verify_tables(root, &mut read, &mut damaged)?;
    Ok((read, damaged))
}

/// Checks the tables that the notes name, as far as they say that each counts.
fn verify_tables(root: &Path, verified: &mut usize, damaged: &mut Vec<Damage>) -> io::Result<()> {
    let notes = read(&Disk, &root.join(progress::FILE_NAME), usize::MAX)?.unwrap_or_default();
    // Notes of a later version are a problem of their own.
    let standing = Standing::read(&notes).unwrap_or_default();
    for place in standing.tables.values() {
        let path = tables::path_of(root, place);
        let Some(bytes) = read(&Disk, &path, usize::MAX)? else { continue };
        *verified += 1;
        if !tables::is_whole(&bytes, place) {
            damaged.push(Damage { path, problem: "the table is damaged".to_owned() });
        }
    }
    for listed in list(&Disk, &root.join("tables"))?.into_iter().filter(|listed| listed.name.ends_with(".damaged")) {
        let path = root.join("tables").join(listed.name);
        damaged.push(Damage { path, problem: "put aside as damaged".to_owned() });
    }
    Ok(())
}

impl Content {
    /// What is wrong with it. The newest segment may be in the middle of a write.
    fn problem(&self, is_newest: bool) -> Option<String> {
        match self {
            Self::Segment(segment) if segment.damaged > 0 => Some(format!("{} entries are damaged", segment.damaged)),
            Self::Segment(segment) if segment.torn && !is_newest => Some("it ends in a torn write".to_owned()),
            Self::Progress(notes) if notes.damaged > 0 => Some(format!("{} notes are damaged", notes.damaged)),
            _ => None,
        }
    }
}

fn newest_segment(dir: &Path) -> io::Result<Option<String>> {
    Ok(list(&Disk, dir)?
        .into_iter()
        .filter_map(|listed| segment::generation_of(&listed.name))
        .max()
        .map(segment::file_name))
}

fn list<F: Files>(files: &F, dir: &Path) -> io::Result<Vec<Listed>> {
    match files.list(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        listed => listed,
    }
}

/// A file that is gone by now is `None`.
fn read<F: Files>(files: &F, path: &Path, max_bytes: usize) -> io::Result<Option<Vec<u8>>> {
    match files.read(path, max_bytes) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        bytes => bytes.map(Some),
    }
}
