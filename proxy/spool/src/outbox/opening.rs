//! Opening an outbox: what a crash has left half done is finished or taken back.

use std::collections::{HashMap, HashSet};
use std::io;
use std::path::Path;
use std::sync::Arc;

use parking_lot::Mutex;
use weir_batch::{BatchFile, BatchMeta, FileError, Piece};
use weir_logic::Millis;

use super::{Outbox, State, Waiting, file_name, stem};
use crate::files::Files;
use crate::ledger::Ledger;
use crate::losses::{Book, Losses, Lost};
use crate::progress::{Fate, Progress, Standing};
use crate::reserve::Reserve;
use crate::trial::Trial;

/// What was found in an outbox on start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Found {
    /// Files put aside because they could not be read.
    pub(crate) damaged: usize,
}

impl<F: Files> Outbox<F> {
    /// Opens the outbox of a spool: finishes what a crash has left half done, counts what is lost, and lists what waits.
    pub(crate) fn open(
        files: F,
        root: &Path,
        standing: &Standing,
        reserve: Arc<Reserve<F>>,
        now: Millis,
    ) -> io::Result<(Self, Found)> {
        let (dir, dead) = (root.join("outbox"), root.join("dead"));
        files.create_dir(&dir)?;
        files.create_dir(&dead)?;
        let told = standing.told.unwrap_or_else(|| Book::new(now));
        let (mark, ledger) = (standing.mark, standing.ledger);
        let (tables, revived) = (standing.tables.clone(), standing.revived.clone());
        let mut state = State { mark, ledger, told, tables, revived, ..State::default() };
        let mut damaged = Vec::new();
        for (batch, length) in settle_names(&files, &dir, &dead, standing)? {
            let path = dir.join(file_name(&batch));
            let trial = standing.trials.get(&batch);
            match read_meta(&files, &path)? {
                // A copy under another name would wait twice, or under a name at which nothing is found.
                Ok((meta, bytes)) if meta.id.file_stem() == batch && bytes == length && fits(trial, &meta) => {
                    state.add(Waiting { trial: trial.cloned(), ..Waiting::new(meta, bytes) });
                }
                Err(FileError::Newer { version, .. }) => {
                    let text = format!("{} was written by a later version ({version})", path.display());
                    return Err(io::Error::other(text));
                }
                Ok(_) | Err(_) => damaged.push(batch),
            }
        }
        files.sync_dir(&dead)?;
        files.sync_dir(&dir)?;
        let segments = files.list(&root.join("journal"))?.into_iter().map(|listed| listed.name).collect();
        state.count_damage(standing, &damaged, &segments);
        // Counted first: a file that is put aside before would not be found again.
        let progress = Progress::start(files.clone(), root.to_owned(), &state.sum(), standing.whole, reserve)?;
        for batch in &damaged {
            files.rename(&dir.join(file_name(batch)), &dead.join(format!("{batch}.damaged")))?;
        }
        if !damaged.is_empty() {
            files.sync_dir(&dead)?;
            files.sync_dir(&dir)?;
        }
        state.dead = files.list(&dead)?.into_iter().map(|listed| (listed.name, listed.bytes)).collect();
        let losses = Arc::new(Losses::new(state.ledger.lost(), state.told));
        let (progress, state) = (Mutex::new(progress), Mutex::new(state));
        Ok((Self { files, dir, dead, progress, state, losses }, Found { damaged: damaged.len() }))
    }
}

impl State {
    /// Adds to the ledger what cannot be read and was not counted before: notes, batches, and the records of batches that
    /// were emitted and are nowhere.
    fn count_damage(&mut self, standing: &Standing, damaged: &[String], segments: &HashSet<String>) {
        let known = |name: &&String| standing.damage.contains_key(*name);
        let names: Vec<String> = damaged.iter().map(|batch| file_name(batch)).collect();
        let fresh = names.iter().filter(|name| !known(name)).count() + standing.damaged;
        let still_there = |name: &String| segments.contains(name);
        self.damage = standing.damage.clone().into_iter().filter(|(name, _)| still_there(name)).collect();
        self.damage.extend(names.into_iter().map(|name| (name, 1)));
        let waiting: u64 = self.waiting.values().map(|waiting| waiting.counts().records).sum();
        let Ledger { emitted, delivered, buried, expired, damaged, .. } = self.ledger;
        let gone = [delivered.records, buried.records, expired.records, damaged.records, waiting];
        let gone = gone.into_iter().fold(0, u64::saturating_add);
        let lost = Lost { records: emitted.records.saturating_sub(gone), parts: fresh as u64 };
        self.ledger.damaged = damaged.saturating_add(lost);
        if standing.damaged > 0 {
            // Notes on what was emitted may be among those that cannot be read: what came of it tells how much it was.
            let unsaid = gone.saturating_sub(emitted.records);
            self.ledger.emitted.records += unsaid;
            self.ledger.accepted = self.ledger.accepted.saturating_add(unsaid);
        }
    }
}

/// What is to become of a file of the outbox.
enum Rest {
    /// It waits.
    Waits,
    /// It has left, or was never announced.
    Remove,
    /// It is a dead letter of that name.
    Bury(String),
}

/// The batches that wait among the files of an outbox, in order, by what the notes say. `dead` are the files of the dead
/// letters.
pub(crate) fn remaining(outbox: &[String], dead: &HashSet<String>, standing: &Standing) -> Vec<String> {
    let waits = |(name, rest): (&String, Rest)| matches!(rest, Rest::Waits).then(|| stem(name).to_owned());
    let mut remaining: Vec<String> = judge(outbox, dead, standing).filter_map(waits).collect();
    remaining.sort_unstable();
    remaining
}

fn judge<'a>(
    outbox: &'a [String],
    dead: &'a HashSet<String>,
    standing: &'a Standing,
) -> impl Iterator<Item = (&'a String, Rest)> {
    let named = |extension| outbox.iter().filter_map(move |name| name.strip_suffix(extension));
    let batches: HashSet<&str> = named(".batch").collect();
    let burying: HashSet<&str> = named(".dead").collect();
    outbox.iter().map(move |name| {
        let batch = stem(name);
        let letter = file_name(batch);
        let dropped = standing.dropped.contains(&letter);
        let rest = match (name.strip_prefix(batch), standing.fates.get(batch)) {
            (Some(".dead"), Some(Fate::Buried)) if !dropped => Rest::Bury(letter),
            // The dead letter with the reason is there already, or was.
            (Some(".batch"), Some(Fate::Buried)) if !dropped && !dead.contains(&letter) => Rest::Bury(letter),
            // Written to be put back, and not noted: the dead letter still stands.
            (Some(".batch"), None)
                if dead.contains(&letter) && !burying.contains(batch) && !standing.revived.contains(batch) =>
            {
                Rest::Remove
            }
            (Some(".batch"), None) if !is_premature(batch, &batches, standing) => Rest::Waits,
            _ => Rest::Remove,
        };
        (name, rest)
    })
}

/// Removes what has left and what was never announced, and gives the names of the batches that remain and
/// the lengths of their files.
fn settle_names<F: Files>(files: &F, dir: &Path, dead: &Path, standing: &Standing) -> io::Result<Vec<(String, u64)>> {
    for name in &standing.dropped {
        files.remove(&dead.join(name))?;
    }
    let lengths: HashMap<String, u64> =
        files.list(dir)?.into_iter().map(|listed| (listed.name, listed.bytes)).collect();
    let mut names: Vec<String> = lengths.keys().cloned().collect();
    // A dead letter with its reason comes before the whole batch of that name.
    names.sort_unstable_by_key(|name| (name.ends_with(".batch"), name.clone()));
    let mut buried: HashSet<String> = files.list(dead)?.into_iter().map(|listed| listed.name).collect();
    buried.extend(names.iter().filter_map(|name| name.strip_suffix(".dead")).map(file_name));
    for (name, rest) in judge(&names, &buried, standing) {
        match rest {
            Rest::Waits => {}
            Rest::Remove => files.remove(&dir.join(name))?,
            Rest::Bury(letter) => files.rename(&dir.join(name), &dead.join(letter))?,
        }
    }
    let remaining = remaining(&names, &buried, standing).into_iter();
    let with_length = |batch: String| {
        let length = lengths.get(&file_name(&batch)).copied().unwrap_or_default();
        (batch, length)
    };
    Ok(remaining.map(with_length).collect())
}

/// Whether a batch was written but not announced: its generation will be emitted again, or its whole still stands.
fn is_premature(batch: &str, all: &HashSet<&str>, standing: &Standing) -> bool {
    if standing.revived.contains(batch) {
        return false;
    }
    let generation = batch.split('-').next().and_then(|digits| digits.parse::<u64>().ok());
    if generation > standing.mark.map(|mark| mark.generation) {
        return true;
    }
    let Some((whole, last)) = whole_of(batch, all, standing) else { return false };
    let stands = || all.contains(whole.as_str());
    match (last, standing.fates.get(&whole), standing.trials.get(&whole)) {
        (Piece::Revived(_), ..) => true,
        (Piece::Again(_), _, Some(trial)) => !trial.again.iter().any(|again| again == batch),
        (Piece::Again(_), Some(_), None) => true,
        (_, Some(Fate::Halved), _) => false,
        (_, Some(Fate::Delivered | Fate::Buried | Fate::Expired), _) => true,
        (_, None, _) => stands(),
    }
}

/// The batch that a part was taken of, and how.
fn whole_of(batch: &str, all: &HashSet<&str>, standing: &Standing) -> Option<(String, Piece)> {
    let (rest, last) = batch.rsplit_once('.')?;
    let last: Piece = last.parse().ok()?;
    let whole = match last {
        Piece::Again(1) => match rest.rsplit_once('.') {
            Some((whole, piece)) if matches!(piece.parse(), Ok(Piece::Rows(..))) => {
                // These rows may have been a batch by themselves, put back from the dead letters.
                let had_left = standing.fates.contains_key(rest) && !standing.trials.contains_key(whole);
                if all.contains(rest) || had_left { rest } else { whole }.to_owned()
            }
            _ => rest.to_owned(),
        },
        Piece::Again(times) => format!("{rest}.{}", Piece::Again(times - 1)),
        Piece::Half(_) | Piece::Rows(..) | Piece::Revived(_) => rest.to_owned(),
    };
    Some((whole, last))
}

/// Whether the notes speak of this batch.
fn fits(trial: Option<&Trial>, meta: &BatchMeta) -> bool {
    trial.is_none_or(|trial| trial.is_of(meta.counts))
}

fn read_meta<F: Files>(files: &F, path: &Path) -> io::Result<Result<(BatchMeta, u64), FileError>> {
    let prefix = files.read(path, TYPICAL_META_BYTES)?;
    match BatchFile::peek(&prefix) {
        Err(FileError::Short) if prefix.len() == TYPICAL_META_BYTES => {
            Ok(BatchFile::peek(&files.read(path, BatchFile::MAX_META_BYTES)?))
        }
        peeked => Ok(peeked),
    }
}

/// Bytes within which nearly every meta ends: all that is read of a batch on start.
const TYPICAL_META_BYTES: usize = 2 * 1024;
