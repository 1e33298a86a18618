//! Where uploads are written down before they are acknowledged.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use weir_logic::Millis;
use weir_logic::merge::Eviction;

use crate::entry::{self, EndReason, Entry};
use crate::files::Files;
use crate::follower::Committed;
use crate::ledger::Meters;
use crate::log::{Log, Sync};
use crate::losses::{Loss, Losses};
use crate::plan::Plan;
use crate::reserve::Reserve;
use crate::segment;
use crate::spare::Spare;

/// What a commit promises.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Durability {
    /// What is committed is on stable storage.
    #[default]
    Fsync,
    /// What is committed is with the operating system. A generation's end is on stable storage all the same.
    Os,
}

/// The open end of a stream's journal.
///
/// Entries are pushed, then committed together. A commit that fails has written nothing: its entries are gone, and the
/// caller says so to whoever sent them. Once a commit has succeeded, the [`crate::Follower`] finds its entries.
pub struct Journal<F: Files> {
    files: F,
    dir: PathBuf,
    durability: Durability,
    plan: Arc<Plan>,
    meters: Arc<Meters>,
    committed: Arc<Committed>,
    /// Nothing is written while it is gone: notes on batches that leave go first.
    reserve: Arc<Reserve<F>>,
    losses: Arc<Losses>,
    spare: Arc<Spare<F>>,
    next_generation: u64,
    /// The length of the last segment that was closed.
    closed_length: u64,
    time: Time,
    open: Option<Open<F>>,
    pushed: Pushed,
}

/// What the next commit writes.
#[derive(Default)]
struct Pushed {
    /// Its entries as they will stand in the segment. Kept from commit to commit for its memory, up to [`Pushed::SPARE`].
    bytes: Vec<u8>,
    /// The time of the first of them.
    since: Option<Millis>,
    records: u64,
    losses: Vec<Loss>,
}

/// Time that never goes backwards, also when the clock was set back while the node was down. It then runs at half the
/// clock's pace until the clock has caught up: windows take twice as long, but none stands still.
#[derive(Debug)]
pub(crate) struct Time {
    last: Millis,
    started: Millis,
    ahead: Millis,
}

impl Time {
    /// `last` is the latest time on disk, `now` the clock's.
    pub(crate) fn new(last: Millis, now: Millis) -> Self {
        Self { last: last.max(now), started: now, ahead: last }
    }

    fn tick(&mut self, now: Millis) -> Millis {
        let slow = self.ahead.after(now.since(self.started) / 2);
        self.last = self.last.max(now).max(slow);
        self.last
    }
}

/// What a journal has in common with other parts of its spool.
pub(crate) struct Shared<F: Files> {
    pub(crate) meters: Arc<Meters>,
    pub(crate) committed: Arc<Committed>,
    pub(crate) reserve: Arc<Reserve<F>>,
    pub(crate) losses: Arc<Losses>,
}

struct Open<F: Files> {
    generation: u64,
    log: Log<F>,
    since: Millis,
    begun: bool,
    bytes: u64,
    records: u64,
}

impl<F: Files> Journal<F> {
    pub(crate) fn new(
        files: F,
        dir: PathBuf,
        plan: Arc<Plan>,
        shared: Shared<F>,
        next_generation: u64,
        time: Time,
    ) -> Self {
        let (durability, open, pushed) = (Durability::default(), None, Pushed::default());
        let Shared { meters, committed, reserve, losses } = shared;
        let spare = Arc::new(Spare::new(files.clone(), &dir));
        Self {
            files,
            dir,
            durability,
            plan,
            meters,
            committed,
            reserve,
            losses,
            spare,
            next_generation,
            closed_length: 0,
            time,
            open,
            pushed,
        }
    }

    /// Sets what the following commits promise.
    pub fn set_durability(&mut self, durability: Durability) {
        self.durability = durability;
    }

    /// The plan in force.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// The numbers shared with the other parts of the spool.
    pub fn meters(&self) -> &Arc<Meters> {
        &self.meters
    }

    /// When the open generation began; `None` when none is open.
    pub fn open_since(&self) -> Option<Millis> {
        self.open.as_ref().filter(|open| open.begun).map(|open| open.since)
    }

    /// The reason to close the open generation at once, if it has become as large as its batches may.
    pub fn is_full(&self) -> Option<EndReason> {
        let open = self.open.as_ref()?;
        if open.bytes >= self.plan.max_generation_bytes() {
            return Some(EndReason::Bytes);
        }
        (open.records >= self.plan.max_generation_records()).then_some(EndReason::Records)
    }

    /// Adds an upload to the next commit: so many records of that agent, a line feed after each and none inside.
    pub fn push(&mut self, now: Millis, tenant: Option<&str>, agent: Option<&str>, records: u32, lines: &[u8]) {
        let time = self.time(now);
        entry::encode_upload(&mut self.pushed.bytes, time, (tenant, agent), records, lines);
        self.pushed.since.get_or_insert(time);
        self.pushed.records += u64::from(records);
    }

    /// Adds to the next commit that something is to leave early.
    pub fn push_flush(&mut self, now: Millis, which: Eviction) {
        let time = self.time(now);
        self.pushed.add(&Entry::Flush { time, which });
    }

    /// Adds to the next commit what the core is to be told of losses now: see [`Losses`].
    pub fn push_losses(&mut self, now: Millis) {
        let time = self.time(now);
        if self.pushed.losses.is_empty() {
            self.losses.due(time).into_iter().for_each(|loss| self.pushed.add(&Entry::Loss(loss)));
        }
    }

    /// Whether there is something to commit.
    pub fn has_pushed(&self) -> bool {
        !self.pushed.is_empty()
    }

    /// Writes what was pushed; nothing when nothing was.
    ///
    /// # Errors
    /// When it cannot be written; what was pushed is then gone.
    pub fn commit(&mut self) -> io::Result<()> {
        let sync = match self.durability {
            Durability::Fsync => Sync::Now,
            Durability::Os => Sync::Later,
        };
        self.write(sync)
    }

    /// Closes the open generation, or a new and empty one, so that the windows ended by now leave. Commits what was
    /// pushed as well.
    ///
    /// # Errors
    /// When it cannot be written; what was pushed is then gone and the generation still open.
    pub fn seal(&mut self, now: Millis, reason: EndReason) -> io::Result<()> {
        let time = self.time(now);
        self.pushed.add(&Entry::End { time, reason });
        self.write(Sync::Now)?;
        if let Some(mut open) = self.open.take() {
            open.log.close();
            self.committed.close(open.generation);
            self.closed_length = open.log.length();
        }
        Ok(())
    }

    /// A file to be made for the next generation, if that is worth it: to be asked when one was closed, and made by another thread
    /// than this one.
    pub fn wanted_spare(&self) -> Option<Arc<Spare<F>>> {
        let wanted = self.durability == Durability::Fsync && self.spare.expect(self.closed_length);
        wanted.then(|| Arc::clone(&self.spare))
    }

    /// Puts another plan in force: all windows leave early under the old one, if the mode changes. Nothing when it is
    /// the same plan.
    ///
    /// # Errors
    /// When it cannot be written; the old plan is then still in force.
    pub fn replan(&mut self, now: Millis, plan: Plan) -> io::Result<()> {
        if plan == *self.plan {
            return Ok(());
        }
        if plan.mode != self.plan.mode || self.open.is_some() {
            let time = self.time(now);
            if plan.mode != self.plan.mode {
                self.pushed.add(&Entry::FlushAll { time });
            }
            self.seal(now, EndReason::Plan)?;
        }
        self.plan = Arc::new(plan);
        Ok(())
    }

    /// Has all windows leave at once, and closes the generation.
    ///
    /// # Errors
    /// When it cannot be written; what was pushed is then gone and the generation still open.
    pub fn flush_all(&mut self, now: Millis) -> io::Result<()> {
        let time = self.time(now);
        self.pushed.add(&Entry::FlushAll { time });
        self.seal(now, EndReason::Stop)
    }

    /// The journal's time, which is what entries and windows go by: the clock's, unless the last run has written times
    /// that are still to come. It never goes backwards.
    pub fn time(&mut self, now: Millis) -> Millis {
        self.time.tick(now)
    }

    fn write(&mut self, sync: Sync) -> io::Result<()> {
        let mut pushed = std::mem::take(&mut self.pushed);
        let written = pushed.since.map_or(Ok(()), |since| self.append(&pushed, since, sync));
        pushed.clear();
        self.pushed = pushed;
        written
    }

    fn append(&mut self, pushed: &Pushed, since: Millis, sync: Sync) -> io::Result<()> {
        self.reserve.hold()?;
        let open = match &mut self.open {
            Some(open) => open,
            closed => {
                let open = begin(&self.files, &self.dir, self.next_generation, &self.plan, &self.spare)?;
                self.meters.grow(open.log.length());
                closed.insert(open)
            }
        };
        let Pushed { bytes, records, losses, .. } = pushed;
        open.log.append(bytes, sync)?;
        if !open.begun {
            (open.begun, open.since) = (true, since);
            self.next_generation = open.generation + 1;
        }
        self.losses.tell(losses);
        open.bytes += bytes.len() as u64;
        open.records += records;
        self.meters.grow(bytes.len() as u64);
        self.meters.accept(*records);
        self.committed.extend(open.generation, open.log.length());
        Ok(())
    }
}

impl Pushed {
    /// Bytes of memory that are kept while nothing is pushed, at most.
    const SPARE: usize = 1 << 20;

    fn is_empty(&self) -> bool {
        self.since.is_none()
    }

    fn add(&mut self, entry: &Entry) {
        entry.encode(&mut self.bytes);
        self.since.get_or_insert(entry.time());
        self.records += entry.records();
        if let Entry::Loss(loss) = entry {
            self.losses.push(*loss);
        }
    }

    fn clear(&mut self) {
        if self.bytes.capacity() > Self::SPARE {
            self.bytes = Vec::new();
        }
        self.bytes.clear();
        self.losses.clear();
        (self.since, self.records) = (None, 0);
    }
}

fn begin<F: Files>(
    files: &F,
    dir: &std::path::Path,
    generation: u64,
    plan: &Plan,
    spare: &Spare<F>,
) -> io::Result<Open<F>> {
    let (path, head) = (dir.join(segment::file_name(generation)), segment::encode_head(generation, plan));
    let log = match spare.take() {
        Some(file) => Log::fill(files, file, &path, &head)?,
        None => Log::create(files, &path, &head)?,
    };
    files.sync_dir(dir)?;
    Ok(Open { generation, log, since: Millis::default(), begun: false, bytes: 0, records: 0 })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_was_set_back_slows_the_journal_down_and_stops_nothing() {
        let mut time = Time::new(Millis(10_000), Millis(4_000));
        let ticks = [4_000, 5_000, 3_000, 8_000, 16_000, 17_000].map(|now| time.tick(Millis(now)).0);
        assert_eq!(ticks, [10_000, 10_500, 10_500, 12_000, 16_000, 17_000]);
    }

    #[test]
    fn a_clock_that_is_right_is_followed() {
        let mut time = Time::new(Millis(1_000), Millis(4_000));
        assert_eq!([4_000, 4_100, 4_050].map(|now| time.tick(Millis(now)).0), [4_000, 4_100, 4_100]);
    }
}
