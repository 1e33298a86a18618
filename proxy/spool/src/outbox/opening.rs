//! Opening an outbox: what a crash has left half done is finished or taken back.

use std::collections::HashSet;
use std::io;
use std::path::Path;

use parking_lot::Mutex;
use weir_batch::{BatchFile, BatchMeta, FileError, Piece};

use super::{Outbox, State, Waiting, file_name, stem};
use crate::files::Files;
use crate::progress::{Fate, Progress, Standing};
use crate::trial::Trial;

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
            let trial = standing.trials.get(&batch);
            match read_meta(&files, &path)? {
                // A copy under another name would wait twice, or under a name at which nothing is found.
                Ok((meta, bytes)) if meta.id.file_stem() == batch && fits(trial, &meta) => {
                    state.add(Waiting { trial: trial.cloned(), ..Waiting::new(meta, bytes) });
                }
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
        let progress = Progress::start(files.clone(), root.to_owned(), &state.sum())?;
        let outbox = Self { files, dir, dead, progress: Mutex::new(progress), state: Mutex::new(state) };
        Ok((outbox, found))
    }
}

/// Removes what has left and what was never announced, and gives the names of the batches that remain.
fn settle_names<F: Files>(files: &F, dir: &Path, dead: &Path, standing: &Standing) -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    for listed in files.list(dir)? {
        let path = dir.join(&listed.name);
        let name = stem(&listed.name);
        match listed.name.strip_prefix(name) {
            Some(".batch") => names.push(name.to_owned()),
            Some(".dead") if standing.fates.get(name) == Some(&Fate::Buried) => {
                files.rename(&path, &dead.join(file_name(name)))?;
            }
            _ => files.remove(&path)?,
        }
    }
    names.sort_unstable();
    let buried: HashSet<String> = files.list(dead)?.into_iter().map(|listed| listed.name).collect();
    let mut remaining = Vec::new();
    for batch in &names {
        let path = dir.join(file_name(batch));
        match standing.fates.get(batch) {
            Some(Fate::Delivered | Fate::Halved) => files.remove(&path)?,
            // The dead letter with the reason is there already.
            Some(Fate::Buried) if buried.contains(&file_name(batch)) => files.remove(&path)?,
            Some(Fate::Buried) => files.rename(&path, &dead.join(file_name(batch)))?,
            None if is_premature(batch, &names, standing) => files.remove(&path)?,
            None => remaining.push(batch.clone()),
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
    let Some((whole, last)) = whole_of(batch) else { return false };
    let stands = || all.contains(&whole);
    match (last, standing.fates.get(&whole), standing.trials.get(&whole)) {
        (Piece::Again(_), _, Some(trial)) => !trial.again.iter().any(|again| again == batch),
        (Piece::Again(_), Some(_), None) => true,
        (_, Some(Fate::Halved), _) => false,
        (_, Some(Fate::Delivered | Fate::Buried), _) => true,
        (_, None, _) => stands(),
    }
}

/// The batch that a part was taken of, and how.
fn whole_of(batch: &str) -> Option<(String, Piece)> {
    let (rest, last) = batch.rsplit_once('.')?;
    let last: Piece = last.parse().ok()?;
    let whole = match last {
        Piece::Again(1) => match rest.rsplit_once('.') {
            Some((whole, piece)) if matches!(piece.parse(), Ok(Piece::Rows(..))) => whole.to_owned(),
            _ => rest.to_owned(),
        },
        Piece::Again(times) => format!("{rest}.{}", Piece::Again(times - 1)),
        Piece::Half(_) | Piece::Rows(..) => rest.to_owned(),
    };
    Some((whole, last))
}

/// Whether the notes speak of this batch.
fn fits(trial: Option<&Trial>, meta: &BatchMeta) -> bool {
    trial.is_none_or(|trial| trial.is_of(meta.counts))
}

fn read_meta<F: Files>(files: &F, path: &Path) -> io::Result<Result<(BatchMeta, u64), FileError>> {
    let prefix = files.read(path, BatchFile::MAX_META_BYTES)?;
    Ok(BatchFile::peek(&prefix))
}
