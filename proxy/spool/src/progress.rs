//! The file `progress`: what has left the journal and the outbox.
//!
//! Lines of text: the CRC-32 of what follows in eight hexadecimal digits, a space, and what follows. The first line is
//! [`FORMAT`], all others are notes in JSON, each durable before what it speaks of is removed. The file is written anew,
//! with one note, on start and whenever it has grown past [`MAX_BYTES`].
//!
//! A line whose checksum is right was meant: one that this program does not understand was written by a later version,
//! and the file is refused and left alone. A line whose checksum is wrong is damage, and counted.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use weir_batch::Counts;

use crate::files::Files;
use crate::ledger::{Ledger, Mark};
use crate::log::{Log, Sync};
use crate::losses::{Book, Loss, Lost, PerReason};
use crate::reserve::Reserve;
use crate::tables::Place;
use crate::trial::Trial;

/// One line of the file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "note", rename_all = "lowercase", deny_unknown_fields)]
pub(crate) enum Note {
    /// All that earlier notes said.
    Sum {
        mark: Option<Mark>,
        ledger: Ledger,
        told: Book,
        /// Damaged files that are still in their places, and how many parts of each have been counted.
        #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
        damage: BTreeMap<String, u64>,
        /// Of the batches that wait.
        #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
        trials: BTreeMap<String, Trial>,
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        tables: Vec<Place>,
        /// Of the batches that wait, those that were dead letters or are parts of such.
        #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
        revived: BTreeSet<String>,
    },
    /// The batches of a generation are in the outbox, and these tables have changed. Before it, so many records were
    /// found to have been counted and forgotten.
    Emitted {
        mark: Mark,
        accepted: u64,
        counts: Counts,
        early: u64,
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        told: Vec<Loss>,
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        tables: Vec<Place>,
    },
    /// The core has a batch.
    Delivered { batch: String, counts: Counts },
    /// A batch went to the dead letters.
    Buried { batch: String, counts: Counts },
    /// Batches were given up for their age, and with them rows that tell of losses.
    Expired { batches: Vec<String>, counts: Counts, untold: PerReason<Lost> },
    /// Files of the dead letters were given up for want of room.
    Dropped { files: Vec<String>, lost: Lost },
    /// So many parts of a file cannot be read, these more than was known.
    Damaged { file: String, parts: u64, lost: Lost },
    /// So many records were accepted in generations that have been emitted, and are nowhere: they waited in windows that
    /// damage keeps from being rebuilt.
    Missing { records: u64 },
    /// A dead letter waits again, as that batch.
    Revived { letter: String, batch: String, counts: Counts },
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
    Expired,
    Halved,
}

/// What the notes say together.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Standing {
    pub(crate) mark: Option<Mark>,
    pub(crate) ledger: Ledger,
    /// What the core is told in generations that have been emitted; `None` where no note says it.
    pub(crate) told: Option<Book>,
    pub(crate) fates: HashMap<String, Fate>,
    /// Files that are dead letters no more.
    pub(crate) dropped: HashSet<String>,
    /// Damaged files, and how many parts of each have been counted.
    pub(crate) damage: BTreeMap<String, u64>,
    pub(crate) trials: BTreeMap<String, Trial>,
    /// By their shards.
    pub(crate) tables: BTreeMap<u8, Place>,
    /// Batches that were dead letters or are parts of such, and that have not left.
    pub(crate) revived: BTreeSet<String>,
    /// Lines that could not be read, but for a torn last one.
    pub(crate) damaged: usize,
    /// Bytes of the file up to the torn last line.
    pub(crate) whole: u64,
}

impl Standing {
    pub(crate) fn note(&mut self, note: &Note) {
        let ledger = &mut self.ledger;
        match note {
            Note::Sum { mark, ledger, told, damage, trials, tables, revived } => {
                (self.mark, self.ledger, self.told) = (*mark, *ledger, Some(*told));
                self.trials.clone_from(trials);
                self.damage.clone_from(damage);
                self.tables = tables.iter().map(|place| (place.shard, *place)).collect();
                self.revived.clone_from(revived);
            }
            Note::Emitted { mark, accepted, counts, early, told, tables } => {
                self.mark = Some(*mark);
                ledger.accepted = ledger.accepted.saturating_add(*accepted);
                ledger.emitted += *counts;
                ledger.early = ledger.early.saturating_add(*early);
                let book = self.told.get_or_insert_default();
                told.iter().for_each(|loss| book.tell(loss));
                tables.iter().for_each(|place| self.move_table(place));
            }
            Note::Delivered { batch, counts } => {
                ledger.delivered += *counts;
                self.settle(batch, Fate::Delivered);
            }
            Note::Buried { batch, counts } => {
                ledger.buried += *counts;
                self.settle(batch, Fate::Buried);
            }
            Note::Expired { batches, counts, untold } => {
                ledger.expired += *counts;
                self.told.get_or_insert_default().take_back(untold);
                batches.iter().for_each(|batch| self.settle(batch, Fate::Expired));
            }
            Note::Dropped { files, lost } => {
                ledger.dropped = ledger.dropped.saturating_add(*lost);
                self.dropped.extend(files.iter().cloned());
            }
            Note::Damaged { file, parts, lost } => {
                ledger.damaged = ledger.damaged.saturating_add(*lost);
                self.damage.insert(file.clone(), *parts);
            }
            Note::Missing { records } => {
                // As if they had left in rows that nobody can read.
                ledger.emitted.records = ledger.emitted.records.saturating_add(*records);
                ledger.damaged = ledger.damaged.saturating_add(Lost::records(*records));
            }
            Note::Revived { letter, batch, counts } => self.revive(letter, batch, *counts),
            Note::Halved { batch } => {
                if self.revived.contains(batch) {
                    self.revived.extend([0, 1].map(|half| format!("{batch}.{half}")));
                }
                self.settle(batch, Fate::Halved);
            }
            Note::Tried { batch, trial, delivered, buried, dead } => {
                ledger.delivered += *delivered;
                ledger.buried += *buried;
                self.try_batch(batch, trial, dead.as_deref());
            }
        }
    }

    fn move_table(&mut self, place: &Place) {
        match place.length {
            0 => self.tables.remove(&place.shard),
            _ => self.tables.insert(place.shard, *place),
        };
    }

    fn try_batch(&mut self, batch: &str, trial: &Trial, dead: Option<&str>) {
        self.trials.insert(batch.to_owned(), trial.clone());
        if self.revived.contains(batch) {
            self.revived.extend(trial.again.iter().cloned());
        }
        dead.into_iter().for_each(|dead| self.settle(dead, Fate::Buried));
        if trial.is_over() && dead != Some(batch) {
            self.settle(batch, Fate::Delivered);
        }
    }

    fn revive(&mut self, letter: &str, batch: &str, counts: Counts) {
        self.ledger.buried -= counts;
        self.ledger.revived += counts;
        self.dropped.insert(format!("{letter}.batch"));
        self.fates.remove(batch);
        // The search in it is over; the next one begins anew.
        self.trials.remove(batch);
        self.revived.insert(batch.to_owned());
    }

    fn settle(&mut self, batch: &str, fate: Fate) {
        self.revived.remove(batch);
        if fate == Fate::Buried {
            // An earlier dead letter of that name was put back.
            self.dropped.remove(&format!("{batch}.batch"));
        }
        self.fates.insert(batch.to_owned(), fate);
    }

    /// Reads a whole file.
    ///
    /// # Errors
    /// When a later version has written it.
    pub(crate) fn read(bytes: &[u8]) -> Result<Self, Later> {
        let mut standing = Self::default();
        let mut lines = (1..).zip(bytes.split_inclusive(|byte| *byte == b'\n')).peekable();
        while let Some((number, line)) = lines.next() {
            let Some(text) = checked(line) else {
                // A torn last line was never finished.
                if lines.peek().is_some() {
                    standing.damaged += 1;
                    standing.whole += line.len() as u64;
                }
                continue;
            };
            standing.whole += line.len() as u64;
            if number == 1 && text == FORMAT {
                continue;
            }
            let later = |_| Later { line: number, text: text.chars().take(Later::MAX_CHARS).collect() };
            standing.note(&serde_json::from_str(text).map_err(later)?);
        }
        Ok(standing)
    }
}

/// A line that is whole and says what this program does not understand.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line} was written by a later version: {text}")]
pub(crate) struct Later {
    pub(crate) line: usize,
    pub(crate) text: String,
}

impl Later {
    /// Characters of the line that are shown.
    const MAX_CHARS: usize = 80;
}

/// The first line: what the file is, its version, and the features that a reader must know.
const FORMAT: &str = "weir-progress version 1 features 0x0000";

/// The file, open for notes.
pub(crate) struct Progress<F: Files> {
    files: F,
    dir: PathBuf,
    log: Log<F>,
    reserve: Arc<Reserve<F>>,
    /// Whether a new file may have the name already, and is not yet known to keep it.
    renaming: bool,
}

/// Bytes past which the file is written anew: some ten thousand notes.
const MAX_BYTES: u64 = 1 << 20;

/// The file's name.
pub(crate) const FILE_NAME: &str = "progress";

impl<F: Files> Progress<F> {
    /// Starts the file anew in a spool's directory, with a note on all that is known so far. Where there is no room for
    /// that, the old file goes on, of which `whole` bytes are whole notes.
    pub(crate) fn start(files: F, dir: PathBuf, sum: &Note, whole: u64, reserve: Arc<Reserve<F>>) -> io::Result<Self> {
        let log = match draft(&files, &dir, sum) {
            Ok(log) => {
                publish(&files, &dir)?;
                log
            }
            Err(_) if whole > 0 => Log::open(&files, &dir.join(FILE_NAME), whole)?,
            Err(error) => return Err(error),
        };
        Ok(Self { files, dir, log, reserve, renaming: false })
    }

    /// Writes a note; it is durable when this returns.
    pub(crate) fn write(&mut self, note: &Note) -> io::Result<()> {
        if self.renaming {
            return Err(io::Error::other("the notes are being written anew"));
        }
        let line = encode(note);
        match self.log.append(&line, Sync::Now) {
            Err(_) if self.reserve.release() => self.log.append(&line, Sync::Now),
            written => written,
        }
    }

    /// Whether the file ought to be written anew.
    pub(crate) fn is_long(&self) -> bool {
        self.log.length() > MAX_BYTES || self.renaming
    }

    /// Writes the file anew; where there is no room for that, the old one goes on. The outbox directory must be durable
    /// before: the notes on single batches are gone afterwards.
    pub(crate) fn restart(&mut self, sum: &Note) -> io::Result<()> {
        let log = match draft(&self.files, &self.dir, sum) {
            Err(_) if !self.renaming => return Ok(()),
            log => log?,
        };
        self.renaming = true;
        publish(&self.files, &self.dir)?;
        self.log = log;
        self.renaming = false;
        Ok(())
    }
}

const DRAFT: &str = "progress.tmp";

fn draft<F: Files>(files: &F, dir: &Path, sum: &Note) -> io::Result<Log<F>> {
    let path = dir.join(DRAFT);
    let log = Log::create(files, &path, &[line(FORMAT), encode(sum)].concat());
    if log.is_err() {
        // It must not take the last room there is.
        files.remove(&path).unwrap_or(());
    }
    log
}

fn publish<F: Files>(files: &F, dir: &Path) -> io::Result<()> {
    files.rename(&dir.join(DRAFT), &dir.join(FILE_NAME))?;
    files.sync_dir(dir)
}

fn encode(note: &Note) -> Vec<u8> {
    let text = serde_json::to_string(note).expect("strings and numbers always serialise");
    line(&text)
}

fn line(text: &str) -> Vec<u8> {
    format!("{:08x} {text}\n", crc32fast::hash(text.as_bytes())).into_bytes()
}

/// A file of these notes.
#[cfg(test)]
pub(crate) fn encode_all(notes: &[Note]) -> Vec<u8> {
    notes.iter().fold(line(FORMAT), |file, note| [file, encode(note)].concat())
}

/// What a line says, if it is whole.
fn checked(line: &[u8]) -> Option<&str> {
    let line = std::str::from_utf8(line).ok()?.strip_suffix('\n')?;
    let (checksum, text) = line.split_once(' ')?;
    (u32::from_str_radix(checksum, 16).ok()? == crc32fast::hash(text.as_bytes())).then_some(text)
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
        let standing = Standing::read(&bytes).unwrap();
        assert_eq!((standing.fates.len(), standing.damaged, standing.ledger.delivered.records), (1, 1, 2));
    }

    #[test]
    fn what_a_later_version_wrote_is_refused_and_not_passed_over() {
        let halved = encode(&Note::Halved { batch: "a".to_owned() });
        let file = |text: &str| [line(FORMAT), halved.clone(), line(text), halved.clone()].concat();
        assert!(Standing::read(&file(r#"{"note":"halved","batch":"b"}"#)).is_ok());
        let unknown = [r#"{"note":"moved","batch":"a"}"#, r#"{"note":"halved","batch":"a","into":3}"#, FORMAT];
        for text in unknown {
            let refused = Standing::read(&file(text));
            assert_eq!(refused.unwrap_err(), Later { line: 3, text: text.to_owned() });
        }
        let version = FORMAT.replace("version 1", "version 2");
        assert_eq!(Standing::read(&line(&version)).unwrap_err().line, 1);
    }

    #[test]
    fn absurd_numbers_with_right_checksums_do_not_overflow() {
        let counts = Counts { rows: u64::MAX, records: u64::MAX, merged: u64::MAX, raw_bytes: u64::MAX };
        let lost = Lost { records: u64::MAX, parts: u64::MAX };
        let mark = Mark { generation: u64::MAX, sealed_at: u64::MAX };
        let mut notes = Vec::new();
        for _ in 0..2 {
            notes.extend(encode(&Note::Emitted {
                mark,
                accepted: u64::MAX,
                counts,
                early: u64::MAX,
                told: Vec::new(),
                tables: Vec::new(),
            }));
            notes.extend(encode(&Note::Delivered { batch: "a".to_owned(), counts }));
            notes.extend(encode(&Note::Damaged { file: "a".to_owned(), parts: u64::MAX, lost }));
        }
        assert_eq!(Standing::read(&notes).unwrap().ledger.damaged, lost);
    }
}
