//! Reading the journal behind its writer: the segments of earlier runs first, then what is committed in this one.
//!
//! The journal is the only way from an upload to the emitter. What the emitter is given is always read back from the
//! segments, so that there is one order, nothing comes twice or is left out, and a merge that falls behind costs no
//! memory and holds up no upload: the two share no queue, only how far each segment is committed.
//!
//! A segment without an end, which a crash leaves behind, ends with its last whole entry. That follows from the file
//! alone and is the same at every reading, so nothing needs to be written to close it: a full disk keeps no spool from
//! starting.
//!
//! Memory: 256 KiB or one entry, and 24 bytes for each segment not yet read.

use std::collections::VecDeque;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use parking_lot::Mutex;
use weir_logic::Millis;

use crate::emitter::Step;
use crate::entry::{EndReason, Entry};
use crate::files::{Append, Files};
use crate::ledger::Meters;
use crate::outbox::Outbox;
use crate::recovery::RecoveryReport;
use crate::segment;
use crate::tape::{Found, Tape};

/// How far each segment may be read: shared by the journal, which writes them, and the follower.
#[derive(Debug, Default)]
pub(crate) struct Committed(Mutex<VecDeque<Extent>>);

/// A segment that the follower has not read to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Extent {
    pub(crate) generation: u64,
    /// Its bytes that count.
    pub(crate) length: u64,
    /// Whether no more will come.
    pub(crate) closed: bool,
}

impl Committed {
    /// The segments of earlier runs.
    pub(crate) fn new(old: impl IntoIterator<Item = Extent>) -> Self {
        Self(Mutex::new(old.into_iter().collect()))
    }

    /// The journal has committed its newest segment up to there.
    pub(crate) fn extend(&self, generation: u64, length: u64) {
        let mut extents = self.0.lock();
        match extents.back_mut().filter(|extent| extent.generation == generation) {
            Some(extent) => extent.length = length,
            None => extents.push_back(Extent { generation, length, closed: false }),
        }
    }

    /// The journal has closed its newest segment. The follower may have seen as much already.
    pub(crate) fn close(&self, generation: u64) {
        let mut extents = self.0.lock();
        extents.iter_mut().filter(|extent| extent.generation == generation).for_each(|extent| extent.closed = true);
    }

    fn front(&self) -> Option<Extent> {
        self.0.lock().front().copied()
    }

    fn pop(&self) {
        self.0.lock().pop_front();
    }
}

/// Gives the journal's steps, in order. A call that fails has given nothing and may be made again.
pub struct Follower<F: Files> {
    files: F,
    dir: PathBuf,
    committed: Arc<Committed>,
    outbox: Arc<Outbox<F>>,
    meters: Arc<Meters>,
    /// The last generation of earlier runs.
    newest_old: Option<u64>,
    reading: Option<Reading<F>>,
    /// Whether the emitter has been told that nothing of earlier runs is left.
    replayed: bool,
    /// Records that earlier runs had accepted, as far as is known.
    accepted: u64,
    /// The time of the last entry read.
    last: Millis,
    report: RecoveryReport,
}

struct Reading<F: Files> {
    tape: Tape<F>,
    /// Whether its records are in no count yet: they were accepted by an earlier run, which has not emitted them.
    uncounted: bool,
    /// Damage since the last whole entry.
    damaged: usize,
    /// All damage so far, but for what may be the end of a write that was never finished.
    parts: u64,
    /// The last step, until what goes with it is noted.
    end: Option<Step>,
}

impl<F: Files> Follower<F> {
    pub(crate) fn new(
        files: F,
        dir: PathBuf,
        committed: Arc<Committed>,
        outbox: Arc<Outbox<F>>,
        meters: Arc<Meters>,
        report: RecoveryReport,
    ) -> Self {
        let newest_old = committed.0.lock().back().map(|extent| extent.generation);
        let (accepted, last, replayed) = (meters.accepted(), Millis::default(), false);
        Self { files, dir, committed, outbox, meters, newest_old, reading: None, replayed, accepted, last, report }
    }

    /// Whether something of earlier runs is still to be read or emitted.
    pub fn is_replaying(&self) -> bool {
        !self.replayed
    }

    /// Bytes of journal that have not been read yet.
    pub fn unread_bytes(&self) -> u64 {
        self.meters.unread_bytes()
    }

    /// What was found so far in what earlier runs have left, and damage found since.
    pub fn report(&self) -> RecoveryReport {
        self.report
    }

    /// The next step; `None` when all that is committed has been given.
    ///
    /// # Errors
    /// When a segment cannot be read.
    pub fn next_step(&mut self) -> io::Result<Option<Step>> {
        loop {
            let Some(extent) = self.committed.front() else { return Ok(self.replayed()) };
            if !self.is_old(extent.generation)
                && let Some(step) = self.replayed()
            {
                return Ok(Some(step));
            }
            let step = match self.reading.take() {
                None => self.begin(extent)?,
                Some(mut reading) => {
                    let read = self.read(&mut reading, extent);
                    // Kept when reading fails: the next call goes on from there.
                    if !matches!(read, Ok(Read::Ended(_))) {
                        self.reading = Some(reading);
                    }
                    match read? {
                        Read::Step(step) | Read::Ended(step) => Some(step),
                        Read::Nothing => return Ok(None),
                    }
                }
            };
            if step.is_some() {
                return Ok(step);
            }
        }
    }

    /// Nothing of earlier runs is left: says so once.
    fn replayed(&mut self) -> Option<Step> {
        (!std::mem::replace(&mut self.replayed, true)).then_some(Step::Replayed { accepted: self.accepted })
    }

    fn is_old(&self, generation: u64) -> bool {
        self.newest_old.is_some_and(|newest| generation <= newest)
    }

    /// Opens a segment; `None` when it cannot be read and was put aside.
    fn begin(&mut self, extent: Extent) -> io::Result<Option<Step>> {
        let Extent { generation, length, .. } = extent;
        let path = self.dir.join(segment::file_name(generation));
        match Tape::of(self.files.clone(), &self.dir, generation) {
            Ok(Ok(tape)) => {
                if self.newest_old == Some(generation) {
                    // A run that was killed may have left entries that are not durable yet. What goes to the core
                    // must not be forgotten by the journal afterwards.
                    self.files.open(&path)?.sync()?;
                }
                let emitted = self.outbox.mark().is_some_and(|mark| mark.generation >= generation);
                let uncounted = self.is_old(generation) && !emitted;
                self.meters.read(tape.at());
                let plan = Arc::clone(tape.plan());
                self.reading = Some(Reading { tape, uncounted, damaged: 0, parts: 0, end: None });
                Ok(Some(Step::Begin { generation, plan }))
            }
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            // Damaged since the start, or taken away under our hands.
            Ok(Err(_)) | Err(_) => {
                self.outbox.note_damage(&segment::file_name(generation), 1)?;
                match self.files.rename(&path, &path.with_extension("segment.damaged")) {
                    Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                    _ => {}
                }
                self.report.damaged_files += 1;
                self.meters.read(length);
                self.meters.shrink(length);
                self.committed.pop();
                Ok(None)
            }
        }
    }

    fn read(&mut self, reading: &mut Reading<F>, extent: Extent) -> io::Result<Read> {
        while reading.end.is_none() {
            let before = reading.tape.at();
            let found = reading.tape.read(extent.length)?;
            self.meters.read(reading.tape.at() - before);
            match found {
                Found::Entry(Entry::End { time, reason }) => {
                    self.count_damage(reading);
                    self.last = self.last.max(time);
                    self.meters.read(extent.length - reading.tape.at());
                    reading.end = Some(Step::End { time, reason, bytes: extent.length });
                }
                Found::Entry(entry) => {
                    self.count_damage(reading);
                    self.last = self.last.max(entry.time());
                    if reading.uncounted {
                        self.count(&entry);
                    }
                    return Ok(Read::Step(Step::Entry(entry)));
                }
                Found::Damage => reading.damaged += 1,
                Found::Nothing if !extent.closed => return Ok(Read::Nothing),
                Found::Nothing => reading.end = Some(self.end(reading, extent)),
            }
        }
        if reading.parts > 0 {
            self.outbox.note_damage(&segment::file_name(extent.generation), reading.parts)?;
        }
        self.committed.pop();
        Ok(reading.end.take().map_or(Read::Nothing, Read::Ended))
    }

    fn count(&mut self, entry: &Entry) {
        self.report.replayed += entry.records();
        self.accepted += entry.records();
        self.meters.accept(entry.records());
        if let Entry::Loss(loss) = entry {
            self.outbox.losses().tell([loss]);
        }
    }

    fn count_damage(&mut self, reading: &mut Reading<F>) {
        let damaged = std::mem::take(&mut reading.damaged);
        self.report.damaged_entries += damaged;
        reading.parts += damaged as u64;
    }

    /// Ends a segment that has no end.
    fn end(&mut self, reading: &mut Reading<F>, extent: Extent) -> Step {
        let (mut bytes, whole) = (extent.length, reading.tape.whole());
        if !self.is_old(extent.generation) {
            self.count_damage(reading);
        } else if whole < bytes {
            // The end of a write that was never finished. Where it cannot be cut off, the next start finds it again.
            self.report.torn_bytes += reading.tape.written() - whole;
            if self.cut(extent.generation, whole).is_ok() {
                self.meters.shrink(bytes - whole);
                bytes = whole;
            }
        }
        // The mark knows the end that was lost to damage; and nothing that was not emitted is older than the mark.
        let marked = self.outbox.mark().filter(|mark| mark.generation <= extent.generation);
        let time = self.last.max(Millis(marked.map_or(0, |mark| mark.sealed_at)));
        Step::End { time, reason: EndReason::Recovered, bytes }
    }

    fn cut(&self, generation: u64, length: u64) -> io::Result<()> {
        self.files.open(&self.dir.join(segment::file_name(generation)))?.truncate(length)
    }
}

enum Read {
    Step(Step),
    /// The segment's last step.
    Ended(Step),
    Nothing,
}
