//! The file `progress`: what has left the journal and the outbox.
//!
//! One note a line: the CRC-32 of the JSON text in eight hexadecimal digits, a space, the JSON text. Every note is
//! durable before what it speaks of is removed. The file is written anew, as one note, on start and whenever it has
//! grown past [`MAX_BYTES`].

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use weir_batch::Counts;

use crate::files::Files;
use crate::ledger::{Ledger, Mark};
use crate::log::{Log, Sync};
use crate::trial::Trial;

/// One line of the file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "note", rename_all = "lowercase")]
pub(crate) enum Note {
    /// All that earlier notes said.
    Sum {
        mark: Option<Mark>,
        ledger: Ledger,
        /// Of the batches that wait.
        #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
        trials: BTreeMap<String, Trial>,
    },
    /// The batches of a generation are in the outbox.
    Emitted { mark: Mark, accepted: u64, counts: Counts },
    /// The core has a batch.
    Delivered { batch: String, counts: Counts },
    /// A batch went to the dead letters.
    Buried { batch: String, counts: Counts },
    /// Two halves stand for a batch.
    Halved { batch: String },
    /// The core has accepted or refused a part of a batch; one that is over has left. `dead` went to the dead letters.
    Tried { batch: String, trial: Trial, delivered: Counts, buried: Counts, dead: Option<String> },
}

/// What became of a batch that may still lie in the outbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    Delivered,
    Buried,
    Halved,
}

/// What the notes say together.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Standing {
    pub(crate) mark: Option<Mark>,
    pub(crate) ledger: Ledger,
    pub(crate) fates: HashMap<String, Fate>,
    pub(crate) trials: BTreeMap<String, Trial>,
    /// Lines that could not be read, but for a torn last one.
    pub(crate) damaged: usize,
}

impl Standing {
    pub(crate) fn note(&mut self, note: &Note) {
        match note {
            Note::Sum { mark, ledger, trials } => {
                (self.mark, self.ledger) = (*mark, *ledger);
                self.trials.clone_from(trials);
            }
            Note::Emitted { mark, accepted, counts } => {
                self.mark = Some(*mark);
                self.ledger.accepted += accepted;
                self.ledger.emitted += *counts;
            }
            Note::Delivered { batch, counts } => {
                self.ledger.delivered += *counts;
                self.fates.insert(batch.clone(), Fate::Delivered);
            }
            Note::Buried { batch, counts } => {
                self.ledger.buried += *counts;
                self.fates.insert(batch.clone(), Fate::Buried);
            }
            Note::Halved { batch } => {
                self.fates.insert(batch.clone(), Fate::Halved);
            }
            Note::Tried { batch, trial, delivered, buried, dead } => {
                self.ledger.delivered += *delivered;
                self.ledger.buried += *buried;
                self.trials.insert(batch.clone(), trial.clone());
                self.fates.extend(dead.iter().map(|dead| (dead.clone(), Fate::Buried)));
                if trial.is_over() && dead.as_ref() != Some(batch) {
                    self.fates.insert(batch.clone(), Fate::Delivered);
                }
            }
        }
    }

    /// Reads a whole file.
    pub(crate) fn read(bytes: &[u8]) -> Self {
        let mut standing = Self::default();
        let mut lines = bytes.split_inclusive(|byte| *byte == b'\n').peekable();
        while let Some(line) = lines.next() {
            match decode(line) {
                Some(note) => standing.note(&note),
                None if lines.peek().is_none() => {}
                None => standing.damaged += 1,
            }
        }
        standing
    }
}

/// The file, open for notes.
pub(crate) struct Progress<F: Files> {
    files: F,
    dir: PathBuf,
    log: Log<F>,
}

/// Bytes past which the file is written anew: some ten thousand notes.
const MAX_BYTES: u64 = 1 << 20;

/// The file's name.
pub(crate) const FILE_NAME: &str = "progress";

impl<F: Files> Progress<F> {
    /// Starts the file anew in a spool's directory, with a note on all that is known so far.
    pub(crate) fn start(files: F, dir: PathBuf, sum: &Note) -> io::Result<Self> {
        let log = rewrite(&files, &dir, sum)?;
        Ok(Self { files, dir, log })
    }

    /// Writes a note; it is durable when this returns.
    pub(crate) fn write(&mut self, note: &Note) -> io::Result<()> {
        self.log.append(&encode(note), Sync::Now)
    }

    /// Whether the file ought to be written anew.
    pub(crate) fn is_long(&self) -> bool {
        self.log.length() > MAX_BYTES
    }

    /// Writes the file anew. The outbox directory must be durable before: the notes on single batches are gone
    /// afterwards.
    pub(crate) fn restart(&mut self, sum: &Note) -> io::Result<()> {
        self.log = rewrite(&self.files, &self.dir, sum)?;
        Ok(())
    }
}

fn rewrite<F: Files>(files: &F, dir: &std::path::Path, sum: &Note) -> io::Result<Log<F>> {
    let temporary = dir.join("progress.tmp");
    let log = Log::create(files, &temporary, &encode(sum))?;
    files.rename(&temporary, &dir.join(FILE_NAME))?;
    files.sync_dir(dir)?;
    Ok(log)
}

fn encode(note: &Note) -> Vec<u8> {
    let text = serde_json::to_string(note).expect("strings and numbers always serialise");
    format!("{:08x} {text}\n", crc32fast::hash(text.as_bytes())).into_bytes()
}

fn decode(line: &[u8]) -> Option<Note> {
    let line = std::str::from_utf8(line).ok()?.strip_suffix('\n')?;
    let (checksum, text) = line.split_once(' ')?;
    (u32::from_str_radix(checksum, 16).ok()? == crc32fast::hash(text.as_bytes())).then_some(())?;
    serde_json::from_str(text).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_torn_last_note_is_as_if_never_written_and_a_damaged_one_is_counted() {
        let counts = Counts { rows: 1, records: 2, merged: 0, raw_bytes: 3 };
        let notes = ["a", "b", "c"].map(|batch| encode(&Note::Delivered { batch: batch.to_owned(), counts }));
        let mut bytes = notes.concat();
        bytes[notes[0].len() + 20] ^= 1;
        bytes.truncate(bytes.len() - 3);
        let standing = Standing::read(&bytes);
        assert_eq!((standing.fates.len(), standing.damaged, standing.ledger.delivered.records), (1, 1, 2));
    }
}
