//! Reading a segment piece by piece: its head, then one entry after another, in bounded memory.
//!
//! Memory: one piece of [`PIECE`] bytes, or one entry where that is longer.
//!
//! Not here: which segments there are, and what their entries mean.

use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;

use crate::entry::{self, Entry, Scanned};
use crate::files::Files;
use crate::plan::Plan;
use crate::segment::{self, Head, Unreadable};

/// A segment being read. A call that fails has read nothing and may be made again.
pub(crate) struct Tape<F: Files> {
    pieces: Pieces<F>,
    generation: u64,
    plan: Arc<Plan>,
    at: u64,
    whole: u64,
    /// The end of the last byte, of those passed over, that is no zero.
    soiled: u64,
}

/// What was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// An entry.
    Entry(Entry),
    /// Bytes that are no whole entry; reading goes on after them.
    Damage,
    /// The end of what is to be read.
    Nothing,
}

/// Bytes read at once.
const PIECE: usize = 256 * 1024;

impl<F: Files> Tape<F> {
    /// Reads the head of a generation's segment.
    pub(crate) fn of(files: F, dir: &Path, generation: u64) -> io::Result<Result<Self, Unreadable>> {
        let tape = Self::open(files, dir.join(segment::file_name(generation)))?;
        // A copy under another name: its batches would go out twice.
        Ok(tape.and_then(|tape| if tape.generation == generation { Ok(tape) } else { Err(Unreadable::Damaged) }))
    }

    /// Reads the head of a segment under whatever name.
    pub(crate) fn open(files: F, path: PathBuf) -> io::Result<Result<Self, Unreadable>> {
        let head = segment::read_head(&files, &path)?;
        Ok(head.map(|Head { generation, plan, length }| {
            let (pieces, plan) = (Pieces::new(files, path), Arc::new(plan));
            Self { pieces, generation, plan, at: length, whole: length, soiled: length }
        }))
    }

    /// The generation that its head says.
    pub(crate) fn generation(&self) -> u64 {
        self.generation
    }

    /// The plan in force for the generation.
    pub(crate) fn plan(&self) -> &Arc<Plan> {
        &self.plan
    }

    /// How far has been read.
    pub(crate) fn at(&self) -> u64 {
        self.at
    }

    /// The end of the last whole entry.
    pub(crate) fn whole(&self) -> u64 {
        self.whole
    }

    /// The end of what has been written, whole or not: zeros may follow, which were made ready for what was not written any more.
    pub(crate) fn written(&self) -> u64 {
        self.whole.max(self.soiled)
    }

    /// Reads what comes next in the file's first `limit` bytes. Zeros up to there are nothing.
    pub(crate) fn read(&mut self, limit: u64) -> io::Result<Found> {
        match self.pieces.look(self.at, limit)? {
            Scanned::Entry { entry, length } => {
                self.at += length as u64;
                self.whole = self.at;
                Ok(Found::Entry(entry))
            }
            Scanned::Damaged { length } => {
                self.at += length as u64;
                self.soiled = self.at;
                Ok(Found::Damage)
            }
            Scanned::Broken => {
                let Resumed { entry, soiled } = self.pieces.resume(self.at, limit)?;
                self.at = entry.unwrap_or(limit);
                self.soiled = self.soiled.max(soiled);
                Ok(if entry.is_none() && soiled == 0 { Found::Nothing } else { Found::Damage })
            }
            Scanned::Nothing => Ok(Found::Nothing),
        }
    }
}

/// Whether any entry stands anywhere in a file of so many bytes whose head cannot be read.
pub(crate) fn holds_entries<F: Files>(files: F, path: PathBuf, length: u64) -> io::Result<bool> {
    Ok(Pieces::new(files, path).resume(0, length)?.entry.is_some())
}

/// Where reading goes on.
struct Resumed {
    /// The place of the next whole entry, if there is any.
    entry: Option<u64>,
    /// The end of the last byte before it, or before the end, that is no zero; 0 where all are.
    soiled: u64,
}

/// A file, a piece of it at a time.
struct Pieces<F: Files> {
    files: F,
    path: PathBuf,
    piece: Bytes,
    /// Where in the file the piece begins.
    start: u64,
}

impl<F: Files> Pieces<F> {
    fn new(files: F, path: PathBuf) -> Self {
        Self { files, path, piece: Bytes::new(), start: 0 }
    }

    /// The next place from `from` on where a whole entry stands. A record cannot pretend to be one: a head has zero bytes
    /// in it, and JSON has none.
    fn resume(&mut self, from: u64, limit: u64) -> io::Result<Resumed> {
        let (mut at, mut soiled) = (from, 0);
        while at < limit {
            let zeros = self.zeros(at, limit)?;
            if zeros > 3 {
                // No entry is so short that its length begins with four of them.
                at += zeros - 3;
                continue;
            }
            match self.look(at, limit)? {
                Scanned::Entry { .. } => return Ok(Resumed { entry: Some(at), soiled }),
                Scanned::Nothing => break,
                Scanned::Damaged { .. } | Scanned::Broken => {}
            }
            if zeros == 0 {
                soiled = at + 1;
            }
            at += 1;
        }
        Ok(Resumed { entry: None, soiled })
    }

    /// How many zeros stand from a place on, as far as they are held.
    fn zeros(&mut self, at: u64, limit: u64) -> io::Result<u64> {
        let held = self.fill(at, entry::HEAD, limit)?;
        Ok(self.piece[held].iter().take_while(|byte| **byte == 0).count() as u64)
    }

    /// What stands at a place.
    fn look(&mut self, at: u64, limit: u64) -> io::Result<Scanned> {
        let room = usize::try_from(limit.saturating_sub(at)).unwrap_or(usize::MAX);
        let head = self.fill(at, entry::HEAD, limit)?;
        if head.is_empty() {
            return Ok(Scanned::Nothing);
        }
        // A head that promises more than there is: nothing is read for it.
        let Some(length) = entry::length(&self.piece[head]).filter(|length| *length <= room) else {
            return Ok(Scanned::Broken);
        };
        let held = self.fill(at, length, limit)?;
        if held.len() < length {
            return Ok(Scanned::Broken);
        }
        Ok(entry::read(&self.piece.slice(held.start..held.start + length)))
    }

    /// The place in the piece of what there is from a place to the limit, at least `wanted` bytes of it unless it ends before.
    fn fill(&mut self, at: u64, wanted: usize, limit: u64) -> io::Result<Range<usize>> {
        let room = usize::try_from(limit.saturating_sub(at)).unwrap_or(usize::MAX);
        let held = at.checked_sub(self.start).and_then(|skipped| usize::try_from(skipped).ok());
        if let Some(skipped) = held.filter(|skipped| *skipped <= self.piece.len())
            && self.piece.len() - skipped >= wanted.min(room)
        {
            return Ok(skipped..self.piece.len().min(skipped.saturating_add(room)));
        }
        self.piece = Bytes::from(self.files.read_at(&self.path, at, wanted.max(PIECE).min(room))?);
        self.start = at;
        Ok(0..self.piece.len())
    }
}
