//! Batches that the core takes in part.
//!
//! The file stays whole until its last row is settled; the notes say how far that is. A part that goes elsewhere (to the
//! dead letters, or into a batch of rows that the core wants again) is written before the one note that makes it count
//! and that moves the batch on.

use std::io;
use std::ops::Range;

use weir_batch::{BatchFile, Counts, Part, PartialAnswer, Refused};

use super::{DEAD, Leftover, Outbox, Waiting, file_name, invalid};
use crate::files::Files;
use crate::progress::Note;
use crate::trial::Trial;

impl<F: Files> Outbox<F> {
    /// Notes that the core refuses what [`Self::parcel`] gave for a row in it. The row is looked for by further requests,
    /// and goes to the dead letters once it is alone. Gives how many records went there now. Only for what the core has
    /// refused under its id: rows that it may have accepted would count twice.
    ///
    /// # Errors
    /// When the batch cannot be read, or the dead letter or the note not written.
    pub fn isolate(&self, waiting: &Waiting, refusal: Refused) -> io::Result<u64> {
        let mut trial = trial_of(waiting);
        let bad = trial.refuse(refusal);
        self.advance(waiting, trial, None, bad)
    }

    /// Notes what the core has said of the rows of what [`Self::parcel`] gave: those it rejects go to the dead letters,
    /// those it wants again become a batch of their own, all others are delivered. Gives that batch.
    ///
    /// # Errors
    /// When the batch cannot be read, or a part or the note not written.
    pub fn divide(&self, waiting: &Waiting, status: u16, answer: &PartialAnswer) -> io::Result<Option<Waiting>> {
        let request = waiting.request();
        let mut trial = trial_of(waiting);
        trial.divide();
        trial.refusal = Refused::of_rows(status, answer.rejected.values().map(String::as_str));
        let file = self.load(waiting)?;
        let file = BatchFile::decode(&file).map_err(invalid)?;
        let number = |row: u64| row.checked_sub(request.start).filter(|row| *row < request.end - request.start);
        let rejected = |row| number(row).is_some_and(|row| answer.rejected.contains_key(&row));
        let retried = |row| number(row).is_some_and(|row| answer.retry.contains(&row));
        let accepted = |row| number(row).is_some() && !rejected(row) && !retried(row);
        let id = waiting.id_of(&request);
        let delivered = file.pick(id.clone(), accepted).map_err(invalid)?.meta.counts;
        let dead =
            (!answer.rejected.is_empty()).then(|| file.pick(id.clone(), rejected)).transpose().map_err(invalid)?;
        let again = (!answer.retry.is_empty()).then(|| file.pick(id.again(), retried)).transpose().map_err(invalid)?;
        self.note_parts(waiting, trial, delivered, dead, again.as_ref())
    }

    /// The request was accepted; with it, the other one of two rows may be known to be bad.
    pub(super) fn deliver_part(&self, waiting: &Waiting) -> io::Result<()> {
        let accepted = waiting.request();
        let mut trial = trial_of(waiting);
        let bad = trial.accept();
        self.advance(waiting, trial, Some(accepted), bad).map(drop)
    }

    /// Moves a batch on to the state `trial`, with which these rows are settled. Gives how many records are dead letters
    /// now.
    pub(super) fn advance(
        &self,
        waiting: &Waiting,
        trial: Trial,
        accepted: Option<Range<u64>>,
        bad: Option<Range<u64>>,
    ) -> io::Result<u64> {
        let mut delivered = Counts::default();
        let mut dead = None;
        if !self.is_as_known(waiting) {
            return Ok(0);
        }
        if accepted.is_some() || bad.is_some() {
            let file = self.load(waiting)?;
            let file = BatchFile::decode(&file).map_err(invalid)?;
            let pick = |rows: Range<u64>| file.pick(waiting.id_of(&rows), |row| rows.contains(&row)).map_err(invalid);
            delivered = accepted.map(pick).transpose()?.map_or(delivered, |part| part.meta.counts);
            dead = bad.map(pick).transpose()?;
        }
        let buried = dead.as_ref().map_or(0, |dead| dead.meta.counts.records);
        self.note_parts(waiting, trial, delivered, dead, None)?;
        Ok(buried)
    }

    /// Writes the parts that go elsewhere, notes the step, and moves the batch on. Nothing when the batch is not in the
    /// state that the step begins with: it has been made.
    fn note_parts(
        &self,
        waiting: &Waiting,
        mut trial: Trial,
        delivered: Counts,
        dead: Option<Part>,
        again: Option<&Part>,
    ) -> io::Result<Option<Waiting>> {
        let mut progress = self.progress.lock();
        let batch = waiting.name();
        if !self.is_as_known(waiting) {
            return Ok(None);
        }
        let buried = dead.as_ref().map_or_else(Counts::default, |dead| dead.meta.counts);
        trial.left -= delivered;
        trial.left -= buried;
        if let Some(again) = again {
            trial.left -= again.meta.counts;
            trial.again.push(again.meta.id.file_stem());
        }
        let dead_name = dead.as_ref().map(|dead| dead.meta.id.file_stem());
        let dead_file = dead_name.as_ref().map(|name| format!("{name}.{DEAD}"));
        let written: Vec<String> = dead_file.iter().cloned().chain(again.map(part_file)).collect();
        self.state.lock().leftovers.retain(|name, _| !written.contains(name));
        let note = Note::Tried { batch: batch.clone(), trial: trial.clone(), delivered, buried, dead: dead_name };
        let noted = self
            .write_parts(dead, again, &trial.refusal)
            .and_then(|written| Ok((self.write(&mut progress, &note)?, written)));
        let (mut state, (dead_bytes, again)) = match noted {
            Ok(noted) => noted,
            Err(error) => {
                // Nothing has become of them: they must not outlive the whole.
                self.state.lock().leftovers.extend(written.into_iter().map(|name| (name, Leftover::Remove)));
                return Err(error);
            }
        };
        dead_file.into_iter().for_each(|name| state.leave_over(name, Leftover::Bury(dead_bytes)));
        if trial.is_over() {
            state.take(&batch);
            state.leftovers.insert(file_name(&batch), Leftover::Remove);
        } else if let Some(known) = state.waiting.get_mut(&batch) {
            known.trial = Some(trial);
        }
        again.iter().for_each(|again| state.add(again.clone()));
        drop(state);
        self.sweep();
        Ok(again)
    }

    fn is_as_known(&self, waiting: &Waiting) -> bool {
        self.find(&waiting.name()).is_some_and(|known| known.trial == waiting.trial)
    }

    /// Gives the bytes of the dead letter, and the batch of the rows that the core wants again.
    fn write_parts(
        &self,
        dead: Option<Part>,
        again: Option<&Part>,
        refusal: &Refused,
    ) -> io::Result<(u64, Option<Waiting>)> {
        let nothing = dead.is_none() && again.is_none();
        let mut dead_bytes = 0;
        if let Some(Part { mut meta, payload }) = dead {
            meta.refusal = Some(refusal.clone());
            let name = format!("{}.{DEAD}", meta.id.file_stem());
            let file = BatchFile::encode(&meta, &payload);
            dead_bytes = file.len() as u64;
            self.put(&name, &file)?;
        }
        let again = again.map(|again| self.store(&again.meta, &again.payload)).transpose()?;
        if !nothing {
            self.sync_names()?;
        }
        Ok((dead_bytes, again))
    }
}

fn part_file(part: &Part) -> String {
    file_name(&part.meta.id.file_stem())
}

fn trial_of(waiting: &Waiting) -> Trial {
    waiting.trial.clone().unwrap_or_else(|| Trial::new(waiting.meta.counts))
}
