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
            Self { pieces, generation, plan, at: length, whole: length }
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

    /// Reads what comes next in the file's first `limit` bytes.
    pub(crate) fn read(&mut self, limit: u64) -> io::Result<Found> {
        match self.pieces.look(self.at, limit)? {
            Scanned::Entry { entry, length } => {
                self.at += length as u64;
                self.whole = self.at;
                Ok(Found::Entry(entry))
            }
            Scanned::Damaged { length } => {
                self.at += length as u64;
                Ok(Found::Damage)
            }
            Scanned::Broken => {
                self.at = self.pieces.resume(self.at + 1, limit)?.unwrap_or(limit);
                Ok(Found::Damage)
            }
            Scanned::Nothing => Ok(Found::Nothing),
        }
    }
}

/// Whether any entry stands anywhere in a file of so many bytes whose head cannot be read.
pub(crate) fn holds_entries<F: Files>(files: F, path: PathBuf, length: u64) -> io::Result<bool> {
    Ok(Pieces::new(files, path).resume(0, length)?.is_some())
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
    fn resume(&mut self, from: u64, limit: u64) -> io::Result<Option<u64>> {
        for at in from..limit {
            match self.look(at, limit)? {
                Scanned::Entry { .. } => return Ok(Some(at)),
                Scanned::Nothing => break,
                Scanned::Damaged { .. } | Scanned::Broken => {}
            }
        }
        Ok(None)
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
