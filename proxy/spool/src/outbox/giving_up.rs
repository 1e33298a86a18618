//! What is given up: batches for their age, dead letters for want of room, what cannot be read.
//!
//! All are noted, with how much is lost, before a file goes. Not here: how old is too old, and how much is too much.

use std::borrow::Cow;
use std::io;
use std::sync::Arc;

use weir_batch::{Batch, BatchFile, Counts};
use weir_logic::Millis;

use super::{Leftover, Outbox, State, Waiting, file_name};
use crate::files::Files;
use crate::losses::{LossReason, Lost, PerReason};
use crate::progress::Note;

/// Files given up with one note, at most.
const MAX_AT_ONCE: usize = 64;

/// Of a file that is to be removed from the dead letters, where leftovers are named.
const DEAD_DIR: &str = "dead/";

/// A batch that somebody works on, and that nobody gives up meanwhile. Given back when dropped.
pub struct Lent<F: Files> {
    outbox: Arc<Outbox<F>>,
    waiting: Waiting,
}

impl<F: Files> Lent<F> {
    /// The batch.
    pub fn waiting(&self) -> &Waiting {
        &self.waiting
    }
}

impl<F: Files> Drop for Lent<F> {
    fn drop(&mut self) {
        self.outbox.state.lock().lent.remove(&self.waiting.name());
    }
}

impl<F: Files> Outbox<F> {
    /// Keeps a batch from being given up; `None` when it no longer waits, or is being given up or lent already.
    pub fn lend(self: &Arc<Self>, batch: &str) -> Option<Lent<F>> {
        let mut state = self.state.lock();
        let waiting = state.waiting.get(batch)?.clone();
        state.lent.insert(batch.to_owned()).then(|| Lent { outbox: Arc::clone(self), waiting })
    }

    /// The batches given up for their age since the last call. For a single caller.
    pub fn take_expired(&self) -> Vec<String> {
        std::mem::take(&mut self.state.lock().expired)
    }

    /// Gives up batches that were sealed before that time and are not lent, the oldest first, some at once: to be called
    /// until it gives nothing. Gives what was given up.
    ///
    /// # Errors
    /// When the note cannot be written; nothing is given up then.
    pub fn expire(&self, before: Millis) -> io::Result<Counts> {
        let old = self.state.lock().lend_old(before);
        let expired = self.expire_lent(&old);
        let mut state = self.state.lock();
        for name in old.iter().map(Waiting::name) {
            state.lent.remove(&name);
            if expired.is_ok() {
                state.expired.push(name);
            } else {
                // Whoever wanted to borrow it meanwhile has taken it for gone.
                state.arrived.push(name);
            }
        }
        expired
    }

    fn expire_lent(&self, old: &[Waiting]) -> io::Result<Counts> {
        let mut counts = Counts::default();
        if old.is_empty() {
            return Ok(counts);
        }
        let mut untold = PerReason::default();
        for waiting in old {
            counts += waiting.counts();
            self.add_untold(waiting, &mut untold)?;
        }
        let names: Vec<String> = old.iter().map(Waiting::name).collect();
        let mut progress = self.progress.lock();
        let mut state = self.write(&mut progress, &Note::Expired { batches: names.clone(), counts, untold })?;
        self.losses.take_back(&untold);
        for name in names {
            state.take(&name);
            state.leftovers.insert(file_name(&name), Leftover::Remove);
        }
        drop(state);
        self.sweep();
        Ok(counts)
    }

    /// Adds up the loss rows among those of a batch that the core has not settled. A file that cannot be read tells of
    /// nothing.
    fn add_untold(&self, waiting: &Waiting, untold: &mut PerReason<Lost>) -> io::Result<()> {
        let bytes = match self.load(waiting) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            bytes => bytes?,
        };
        let settled = waiting.trial.as_ref().map_or(0, |trial| trial.rest().start);
        let Some(rows) = rows_of(&bytes) else { return Ok(()) };
        let rows = rows.split(|byte| *byte == b'\n').zip(0..).filter(|(_, number)| *number >= settled);
        for (reason, lost) in rows.filter_map(|(row, _)| told_in(row)) {
            let sum = untold.of_mut(reason);
            *sum = sum.saturating_add(lost);
        }
        Ok(())
    }

    /// Whether the dead letters take more room than that.
    pub fn has_too_many_dead(&self, max_files: usize, max_bytes: u64) -> bool {
        let state = self.state.lock();
        state.dead.len() > max_files || state.dead.values().sum::<u64>() > max_bytes
    }

    /// Looks at what is in the dead letters, where people may have tidied up, and gives up the oldest of them until the
    /// rest fits. Gives what is lost with them; those put aside as damaged count as parts.
    ///
    /// # Errors
    /// When the directory cannot be read or the note not written.
    pub fn drop_dead(&self, max_files: usize, max_bytes: u64) -> io::Result<Lost> {
        let mut progress = self.progress.lock();
        let listed = self.files.list(&self.dead)?;
        let mut state = self.state.lock();
        state.dead = listed.into_iter().map(|listed| (listed.name, listed.bytes)).collect();
        let excess = state.excess(max_files, max_bytes);
        drop(state);
        let mut all = Lost::default();
        for names in excess.chunks(MAX_AT_ONCE) {
            let mut lost = Lost::default();
            for name in names {
                lost = lost.saturating_add(self.count_dead(name)?);
            }
            let mut state = self.write(&mut progress, &Note::Dropped { files: names.to_vec(), lost })?;
            state.leftovers.extend(names.iter().map(|name| (dead_name(name), Leftover::Drop)));
            drop(state);
            self.sweep();
            all = all.saturating_add(lost);
        }
        Ok(all)
    }

    /// Counts damage in a file of the journal, unless it has been counted.
    ///
    /// # Errors
    /// When the note cannot be written.
    pub(crate) fn note_damage(&self, file: &str, parts: u64) -> io::Result<()> {
        let mut progress = self.progress.lock();
        let known = self.state.lock().damage.get(file).copied().unwrap_or_default();
        let Some(more) = parts.checked_sub(known).filter(|more| *more > 0) else { return Ok(()) };
        let lost = Lost { records: 0, parts: more };
        self.write(&mut progress, &Note::Damaged { file: file.to_owned(), parts, lost }).map(drop)
    }

    /// Counts the records that were accepted and neither left nor wait in windows, once the journal has been read.
    ///
    /// # Errors
    /// When the note cannot be written.
    pub(crate) fn note_missing(&self, accepted: u64, in_windows: u64) -> io::Result<()> {
        let mut progress = self.progress.lock();
        let records = accepted.saturating_sub(self.ledger().emitted.records).saturating_sub(in_windows);
        if records == 0 { Ok(()) } else { self.write(&mut progress, &Note::Missing { records }).map(drop) }
    }

    fn count_dead(&self, name: &str) -> io::Result<Lost> {
        let prefix = match self.files.read(&self.dead.join(name), BatchFile::MAX_META_BYTES) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            prefix => prefix?,
        };
        let whole = name.ends_with(".batch").then(|| BatchFile::peek(&prefix).ok()).flatten();
        Ok(whole.map_or(Lost { records: 0, parts: 1 }, |(meta, _)| Lost::records(meta.counts.records)))
    }

    pub(super) fn drop_file(&self, leftover: &str) -> io::Result<()> {
        let name = leftover.strip_prefix(DEAD_DIR).unwrap_or(leftover);
        self.files.remove(&self.dead.join(name))?;
        self.state.lock().dead.remove(name);
        Ok(())
    }
}

impl State {
    fn lend_old(&mut self, before: Millis) -> Vec<Waiting> {
        let Self { waiting, lent, revived, .. } = self;
        let old = waiting.iter().filter(|(_, waiting)| waiting.meta.sealed_at < before.0);
        // What somebody has put back is as old as when it was first refused.
        let old = old.filter(|(name, _)| !revived.contains(*name));
        old.filter(|(name, _)| lent.insert((*name).clone())).map(|(_, old)| old.clone()).take(MAX_AT_ONCE).collect()
    }

    /// The oldest dead letters, without which the others fit; those that have been given up already are not counted.
    fn excess(&self, max_files: usize, max_bytes: u64) -> Vec<String> {
        let is_going = |name: &String| self.leftovers.contains_key(&dead_name(name));
        let there: Vec<(&String, u64)> =
            self.dead.iter().filter(|(name, _)| !is_going(name)).map(|(name, bytes)| (name, *bytes)).collect();
        let (mut files, mut bytes) = (there.len(), there.iter().map(|(_, bytes)| bytes).sum::<u64>());
        let mut excess = Vec::new();
        for (name, size) in there {
            if files <= max_files && bytes <= max_bytes {
                break;
            }
            (files, bytes) = (files - 1, bytes - size);
            excess.push(name.clone());
        }
        excess
    }
}

/// How a file of the dead letters is named among the leftovers.
pub(super) fn dead_name(file: &str) -> String {
    format!("{DEAD_DIR}{file}")
}

fn rows_of(file: &[u8]) -> Option<Cow<'_, [u8]>> {
    let batch = Batch::open(file).ok()?;
    let max_bytes = usize::try_from(batch.meta.as_ref()?.counts.raw_bytes).unwrap_or(usize::MAX);
    batch.rows(max_bytes).ok()
}

/// What a row tells of losses; `None` for rows of other kinds.
fn told_in(row: &[u8]) -> Option<(LossReason, Lost)> {
    #[derive(serde::Deserialize)]
    struct Row {
        reason: LossReason,
        records: u64,
        #[serde(default)]
        parts: u64,
    }
    row.starts_with(br#"{"kind":"loss","#).then_some(())?;
    let Row { reason, records, parts } = serde_json::from_slice(row).ok()?;
    Some((reason, Lost { records, parts }))
}
