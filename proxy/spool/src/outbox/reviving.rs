//! Dead letters that are put back, because the core has been mended and may take them now.
//!
//! What the core has refused as a whole goes back under its own id: it has accepted nothing under that. Rows that it
//! rejected of a batch whose others it took share the batch's id, under which it would drop them: they go back under an id
//! of their own.
//!
//! The batch is written first; one note makes it count and takes it from the dead letters; the letter goes after that.

use std::io;

use weir_batch::BatchFile;

use super::giving_up::dead_name;
use super::{EXTENSION, Leftover, Outbox, file_name, stem};
use crate::files::Files;
use crate::progress::Note;

/// What became of dead letters that were to be put back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Revived {
    /// Batches that wait again.
    pub batches: usize,
    /// Records in them.
    pub records: u64,
    /// Dead letters that stay for want of room in the outbox.
    pub no_room: usize,
    /// Dead letters that stay because they cannot be read.
    pub unreadable: usize,
}

/// What became of one.
enum Letter {
    Revived { records: u64 },
    Gone,
    NoRoom,
    Unreadable,
}

impl<F: Files> Outbox<F> {
    /// Puts all dead letters back that can be read, as long as the outbox takes no more than `max_bytes`. None of them
    /// is given up for its age. Memory: one at a time.
    ///
    /// # Errors
    /// When a file or the note cannot be written; the dead letters before it are put back.
    pub fn revive(&self, max_bytes: u64) -> io::Result<Revived> {
        let listed = self.files.list(&self.dead)?;
        let mut letters: Vec<String> = listed.into_iter().map(|listed| listed.name).collect();
        letters.retain(|name| name.strip_suffix(EXTENSION).is_some_and(|stem| stem.ends_with('.')));
        letters.sort_unstable();
        let mut revived = Revived::default();
        for letter in letters {
            match self.revive_letter(&letter, max_bytes)? {
                Letter::Revived { records } => {
                    revived.batches += 1;
                    revived.records += records;
                }
                Letter::Gone => {}
                Letter::NoRoom => revived.no_room += 1,
                Letter::Unreadable => revived.unreadable += 1,
            }
        }
        Ok(revived)
    }

    fn revive_letter(&self, name: &str, max_bytes: u64) -> io::Result<Letter> {
        let mut progress = self.progress.lock();
        if self.state.lock().leftovers.contains_key(&dead_name(name)) {
            return Ok(Letter::Gone);
        }
        let bytes = match self.files.read(&self.dead.join(name), usize::MAX) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Letter::Gone),
            bytes => bytes?,
        };
        let Ok(file) = BatchFile::decode(&bytes) else { return Ok(Letter::Unreadable) };
        let letter = stem(name);
        if file.meta.id.file_stem() != letter {
            return Ok(Letter::Unreadable);
        }
        let mut meta = file.meta;
        if meta.refusal.take().is_some_and(|refusal| !refusal.rows.is_empty()) {
            meta.id = meta.id.revived();
        }
        let batch = meta.id.file_stem();
        let batch_file = file_name(&batch);
        let mut state = self.state.lock();
        // Whoever has just buried it still holds it: it can be put back in a moment.
        if state.bytes.saturating_add(bytes.len() as u64) > max_bytes || state.lent.contains(&batch) {
            return Ok(Letter::NoRoom);
        }
        state.leftovers.remove(&batch_file);
        drop(state);
        let (counts, letter) = (meta.counts, letter.to_owned());
        let noted = self.store(&meta, file.payload).and_then(|waiting| {
            self.sync_names()?;
            Ok((self.write(&mut progress, &Note::Revived { letter, batch, counts })?, waiting))
        });
        let (mut state, waiting) = match noted {
            Ok(noted) => noted,
            Err(error) => {
                // The dead letter still stands: the batch must not outlive it.
                self.state.lock().leftovers.insert(batch_file, Leftover::Remove);
                return Err(error);
            }
        };
        state.add(waiting);
        state.leftovers.insert(dead_name(name), Leftover::Drop);
        drop(state);
        self.sweep();
        Ok(Letter::Revived { records: counts.records })
    }
}
