//! The journal thread: commits uploads in groups and decides when a generation is closed.
//!
//! While one group is written, the next one queues, and an idle node answers after one `fsync`. A busy one that has a quick disk
//! would write groups of two or three, each of which costs as much processor time as one of a hundred; so there a group begins
//! [`PACE`] after the one before, and [`RETURN`] after its end. Where uploads are acknowledged from memory, one that cannot be written is tried again until it can be.
//! The thread waits for nothing but its disk: the merge thread reads what is committed at its own pace.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use prometheus::Histogram;
use tokio::runtime::Handle;
use tokio::sync::oneshot;
use weir_logic::merge::Eviction;
use weir_logic::{AgentId, Identity, Millis, TenantId};
use weir_spool::{Disk, EndReason, Journal};

use super::acknowledging::{Acknowledgement, acknowledge};
use super::calls::Calls;
use super::health::DiskHealth;
use super::plan::Settings;
use crate::budget::Hold;
use crate::clock::Clock;

/// What the journal thread is told.
pub(super) enum Command {
    /// Keep these records and say when they are kept.
    Keep(Kept),
    /// Look at [`Wishes`], the settings and the losses again.
    Wake,
    /// Close what is open and end.
    Stop,
}

/// An upload to keep.
pub(super) struct Kept {
    /// Who sent it.
    pub(super) identity: Identity,
    pub(super) records: u32,
    pub(super) lines: Vec<u8>,
    /// The memory of an upload, held until its records are written.
    pub(super) _hold: Option<Hold>,
    /// Told once the records are kept; dropped when they cannot be. `None` where the agent has been told already: then
    /// they must be.
    pub(super) done: Option<oneshot::Sender<Acknowledgement>>,
}

/// What the merge thread wants of the journal thread.
#[derive(Debug, Default)]
pub(super) struct Wishes {
    /// When a generation ought to be closed though nothing arrives: milliseconds since 1970, 0 for never.
    due: AtomicU64,
    /// What is to leave early.
    early: Mutex<Vec<Eviction>>,
}

impl Wishes {
    /// Sets when a generation ought to be closed; gives whether the journal thread must hear of it. A later time than
    /// before is news too: the thread that has granted the earlier one waits without a deadline.
    pub(super) fn wish_end(&self, due: Option<Millis>) -> bool {
        let due = due.map_or(0, |due| due.0.max(1));
        let before = self.due.swap(due, Ordering::AcqRel);
        due != 0 && due != before
    }

    pub(super) fn wish_early(&self, evictions: &[Eviction]) {
        self.early.lock().extend_from_slice(evictions);
    }

    fn due(&self) -> Option<Millis> {
        Some(self.due.load(Ordering::Acquire)).filter(|due| *due != 0).map(Millis)
    }

    fn take_early(&self) -> Vec<Eviction> {
        std::mem::take(&mut *self.early.lock())
    }
}

/// The journal thread's state.
pub(super) struct Journaling {
    pub(super) journal: Journal<Disk>,
    pub(super) commands: Receiver<Command>,
    pub(super) merging: Arc<Calls>,
    pub(super) health: Arc<DiskHealth>,
    pub(super) wishes: Arc<Wishes>,
    /// What a reload replaces.
    pub(super) settings: Arc<ArcSwap<Settings>>,
    /// What is in force here.
    pub(super) adopted: Option<Arc<Settings>>,
    pub(super) clock: Clock,
    /// Makes files ready.
    pub(super) runtime: Handle,
    pub(super) commit_seconds: Histogram,
    /// What is to be written next. Between turns only what was acknowledged and could not be written: memory that the
    /// budget bounds.
    pub(super) waiting: VecDeque<Kept>,
    /// When the last generation was closed: windows that had ended by then leave with it, whether the merge thread
    /// knows yet or not.
    pub(super) sealed_at: Millis,
    /// Not before this time is written again what could not be written just now.
    pub(super) rest_until: Millis,
    pub(super) groups: Groups,
    pub(super) stream: String,
}

/// The last two groups that were written.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Groups {
    /// The uploads of each, the later one first.
    uploads: [usize; 2],
    /// When the writing of the last one began and ended, by the clock's elapsed time.
    began: Duration,
    ended: Duration,
}

impl Groups {
    /// The next one was written.
    fn push(&mut self, uploads: usize, began: Duration, ended: Duration) {
        *self = Self { uploads: [uploads, self.uploads[0]], began, ended };
    }

    /// How long uploads may queue before the next group is written: not after one that took an eighth of what may queue. Two
    /// groups are asked, as the first upload after a group of many would be the next group, of one.
    fn pause(self, now: Duration, max_queued: usize) -> Duration {
        let many = self.uploads[0].max(self.uploads[1]);
        if many <= FEW || many > max_queued / 8 {
            return Duration::ZERO;
        }
        (self.began + PACE).max(self.ended + RETURN).saturating_sub(now)
    }
}

/// Bytes of records in one group commit, at most, but for the last upload in it.
const GROUP_BYTES: usize = 4 << 20;

/// The time from the beginning of one group to that of the next while they are of more than [`FEW`] uploads.
const PACE: Duration = Duration::from_millis(1);

/// The time from the end of such a group to the beginning of the next, however long it took: who has just been answered may
/// have more to say.
const RETURN: Duration = Duration::from_micros(200);

/// Uploads that are too few for others to be waited for: agents one after the other are answered as fast as the disk can.
const FEW: usize = 3;

/// Bytes of journal that are worth waking the merge thread before the generation is closed.
const LOT_BYTES: u64 = 256 << 10;

/// The wait after the disk has refused a write.
const REST: Duration = Duration::from_secs(1);

impl Journaling {
    /// Runs until it is told to stop.
    pub(super) fn run(mut self) {
        self.adopt();
        while self.turn() {}
    }

    /// One turn: wait for work or for a deadline, then do all of it. Gives whether to go on.
    fn turn(&mut self) -> bool {
        let first = match self.wait() {
            Ok(command) => Some(command),
            Err(RecvTimeoutError::Timeout) => None,
            Err(RecvTimeoutError::Disconnected) => Some(Command::Stop),
        };
        if matches!(first, Some(Command::Keep(_))) {
            self.gather();
        }
        let mut group = Vec::new();
        let mut bytes = 0;
        let mut next = first;
        let mut stop = false;
        while let Some(command) = next.take() {
            match command {
                Command::Keep(kept) => {
                    bytes += kept.lines.len();
                    group.push(kept);
                }
                Command::Wake => {}
                Command::Stop => stop = true,
            }
            if stop || bytes >= GROUP_BYTES {
                break;
            }
            next = self.commands.try_recv().ok();
        }
        // First: an upload that came after a reload goes by it.
        self.adopt();
        self.waiting.extend(group);
        self.commit_waiting();
        if stop {
            self.give_up_waiting();
            if self.journal.open_since().is_some() {
                self.seal(EndReason::Stop);
            }
            return false;
        }
        self.seal_if_due();
        true
    }

    fn wait(&mut self) -> Result<Command, RecvTimeoutError> {
        let now = self.now();
        match self.deadline() {
            Some(deadline) => self.commands.recv_timeout(deadline.since(now)),
            None => self.commands.recv().map_err(|_| RecvTimeoutError::Disconnected),
        }
    }

    /// Lets uploads queue for as long as the pace asks for.
    fn gather(&self) {
        let max_queued = self.adopted.as_ref().map_or(0, |settings| settings.max_queued);
        let pause = self.groups.pause(self.clock.elapsed(), max_queued);
        if !pause.is_zero() {
            // Those who send to this thread wake it only while it waits for them.
            thread::park_timeout(pause);
        }
    }

    /// The journal's time.
    fn now(&mut self) -> Millis {
        self.journal.time(self.clock.now())
    }

    /// When the open generation must be closed, or one with nothing in it.
    fn deadline(&self) -> Option<Millis> {
        let age = self.journal.open_since().map(|since| since.after(self.max_age()));
        let earliest = age.into_iter().chain(self.due()).min().map(|deadline| deadline.max(self.rest_until));
        let unwritten = !self.is_adopted() || !self.waiting.is_empty() || self.health.is_shut();
        let again = unwritten.then_some(self.rest_until);
        earliest.into_iter().chain(again).min()
    }

    /// When a generation must be closed for the merge thread's sake; a wish that the last one has granted does not count. A repeat
    /// waits for its batch as long as a record may: windows that end shortly after one another share one, and under traffic
    /// that is the one which its age closes.
    fn due(&self) -> Option<Millis> {
        self.wishes.due().filter(|due| *due > self.sealed_at).map(|due| due.after(self.max_age()))
    }

    /// The age at which a batch leaves.
    fn max_age(&self) -> Duration {
        self.adopted.as_ref().map_or(Duration::ZERO, |settings| settings.max_age)
    }

    /// Writes what waits, in groups. When that fails, what was acknowledged goes on waiting, and the agents of the others
    /// are told to come back.
    fn commit_waiting(&mut self) {
        loop {
            if !self.commit() {
                return self.waiting.retain(|kept| kept.done.is_none());
            }
            if self.waiting.is_empty() {
                return;
            }
        }
    }

    /// Writes one group of what waits. Gives whether that worked.
    fn commit(&mut self) -> bool {
        let now = self.now();
        let early = self.wishes.take_early();
        for eviction in &early {
            self.journal.push_flush(now, eviction.clone());
        }
        if now >= self.rest_until {
            self.journal.push_losses(now);
        }
        let (mut group, mut bytes) = (0, 0);
        for Kept { identity, records, lines, .. } in &self.waiting {
            if bytes >= GROUP_BYTES {
                break;
            }
            let tenant = identity.tenant.as_ref().map(TenantId::as_str);
            let agent = identity.agent.as_ref().map(AgentId::as_str);
            self.journal.push(now, tenant, agent, *records, lines);
            (group, bytes) = (group + 1, bytes + lines.len());
        }
        if !self.journal.has_pushed() {
            return true;
        }
        let began = self.clock.elapsed();
        match self.journal.commit() {
            Ok(()) => {
                let ended = self.clock.elapsed();
                self.commit_seconds.observe((ended - began).as_secs_f64());
                self.groups.push(group, began, ended);
                // An agent that has gone does not hear that its records are kept; they are.
                acknowledge(self.waiting.drain(..group).filter_map(|kept| kept.done));
                self.written();
                true
            }
            Err(error) => {
                self.wishes.wish_early(&early);
                self.refused("the journal cannot be written", &error);
                false
            }
        }
    }

    /// What was acknowledged from memory and still waits when the node stops is lost.
    fn give_up_waiting(&mut self) {
        let records: u64 = self.waiting.drain(..).map(|kept| u64::from(kept.records)).sum();
        if records > 0 {
            tracing::error!(
                stream = self.stream,
                records,
                "records acknowledged from memory are lost: they could not be written"
            );
        }
    }

    fn seal_if_due(&mut self) {
        if let Some(reason) = self.journal.is_full() {
            return self.seal(reason);
        }
        let now = self.now();
        if self.deadline().is_none_or(|deadline| deadline > now) {
            return;
        }
        let due = self.due().is_some_and(|due| due <= now);
        let reason = match self.health.is_shut() {
            true => EndReason::Probe,
            false if due => EndReason::Due,
            false => EndReason::Age,
        };
        self.seal(reason);
    }

    fn seal(&mut self, reason: EndReason) {
        let now = self.now();
        match self.journal.seal(now, reason) {
            Ok(()) => {
                self.sealed_at = now;
                self.merging.committed();
                self.written();
                if reason != EndReason::Stop {
                    self.prepare();
                }
            }
            Err(error) => self.refused("a generation cannot be closed", &error),
        }
    }

    /// Has a file made for the next generation while this one is written, so that its groups are durable sooner.
    fn prepare(&self) {
        let Some(spare) = self.journal.wanted_spare() else { return };
        self.runtime.spawn_blocking(move || {
            // The journal does without it.
            spare.make().unwrap_or_else(|error| tracing::debug!(%error, "no file can be made ready for the journal"));
        });
    }

    /// Something was written. The merge thread hears of it once there is a lot: what is committed leaves with the end of its
    /// generation and not before, and then it hears of it anyway.
    fn written(&self) {
        if self.journal.meters().unread_bytes() >= LOT_BYTES {
            self.merging.committed();
        }
        if self.health.worked() {
            tracing::info!(stream = self.stream, "the journal can be written again");
        }
    }

    fn refused(&mut self, what: &str, error: &io::Error) {
        self.rest_until = self.now().after(REST);
        self.health.failed(self.clock.now());
        tracing::error!(stream = self.stream, %error, "{what}: uploads are turned away until it can");
    }

    /// Goes on under the settings in force, if they are others than before. A plan that cannot be written down is tried
    /// again with the next turn; the other settings take effect at once.
    fn adopt(&mut self) {
        let settings = self.settings.load_full();
        if self.is_adopted() {
            return;
        }
        self.journal.set_durability(settings.durability);
        let now = self.now();
        let replanned = match &settings.plan {
            _ if settings.flush => self.journal.flush_all(now),
            Some(plan) => self.journal.replan(now, plan.clone()),
            None => Ok(()),
        };
        match replanned {
            Ok(()) => {
                self.adopted = Some(settings);
                self.merging.committed();
                self.written();
            }
            Err(error) => self.refused("the new plan cannot be written down", &error),
        }
    }

    fn is_adopted(&self) -> bool {
        self.adopted.as_ref().is_some_and(|adopted| Arc::ptr_eq(adopted, &self.settings.load()))
    }
}

impl Drop for Journaling {
    /// However the thread ends, nothing more will be committed, and what has been is to be merged.
    fn drop(&mut self) {
        self.merging.committed();
        self.merging.ending();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_waits_for_company_where_there_was_some_and_the_queue_has_room() {
        let micros = Duration::from_micros;
        let pause = |uploads: [usize; 2], took: u64, since: u64| {
            let mut groups = Groups::default();
            groups.push(uploads[1], micros(0), micros(0));
            groups.push(uploads[0], micros(7), micros(7 + took));
            groups.pause(micros(7 + since), 4096).as_micros()
        };
        assert_eq!([pause([0, 0], 50, 100), pause([FEW, 1], 50, 100)], [0, 0], "an agent alone is answered at once");
        assert_eq!([pause([FEW + 1, 0], 50, 100), pause([512, 1], 50, 999), pause([64, 64], 50, 1000)], [900, 1, 0]);
        assert_eq!(pause([1, 64], 50, 100), 900, "one that came back before the others is not alone");
        assert_eq!([pause([64, 64], 5000, 5000), pause([64, 64], 5000, 5150)], [200, 50], "a slow disk waits too");
        assert_eq!(pause([513, 1], 50, 100), 0, "the queue would fill");
    }
}
