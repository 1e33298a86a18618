//! The merge thread: turns what the journal has committed into batches in the outbox.
//!
//! It reads the journal back, behind the journal thread and at its own pace: first what earlier runs have left, then what
//! is committed now. However far behind it is, no upload waits for it until the journal is at its bound.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::SyncSender;
use std::time::Duration;

use tokio::sync::Notify;
use weir_logic::merge::Eviction;
use weir_spool::{Disk, Emitter, Entry, Follower, RecoveryReport, Settled, Step};

use super::calls::{Call, Calls};
use super::journaling::{Command, Wishes};
use crate::metrics::Metrics;

/// What the merge thread shows of itself.
#[derive(Debug, Default)]
pub(super) struct MergeState {
    /// Keys held in open windows.
    pub(super) keys: AtomicUsize,
    /// Bytes that they take.
    pub(super) bytes: AtomicU64,
    /// Whether what earlier runs have left is still being read.
    pub(super) replaying: AtomicBool,
    /// Whether the thread has ended before its time.
    pub(super) broken: AtomicBool,
    /// Whether everything that was committed is in the outbox, and nothing more will come.
    pub(super) ended: AtomicBool,
}

/// The merge thread's state.
pub(super) struct Merging {
    pub(super) emitter: Emitter<Disk>,
    pub(super) follower: Follower<Disk>,
    pub(super) calls: Arc<Calls>,
    pub(super) journaling: SyncSender<Command>,
    pub(super) wishes: Arc<Wishes>,
    pub(super) state: Arc<MergeState>,
    /// Tells the sender that batches have arrived, or that none will any more.
    pub(super) arrived: Arc<Notify>,
    pub(super) metrics: Metrics,
    pub(super) stream: String,
    /// What the journal thread has been asked to write down, and has not yet.
    pub(super) evicting: Vec<Eviction>,
    /// What operators have been told of what earlier runs have left.
    pub(super) reported: RecoveryReport,
}

/// Bytes of journal that take no time to speak of.
const QUICK_BYTES: u64 = 32 << 20;

/// The wait after a file could not be read or written.
const REST: Duration = Duration::from_secs(1);

impl Merging {
    /// Runs until the journal thread has ended and all that it committed is in the outbox, or until it is called away.
    pub(super) fn run(mut self) {
        let mut leaving = Leaving { state: Arc::clone(&self.state), arrived: Arc::clone(&self.arrived), done: false };
        self.report();
        while self.follow() {
            self.publish();
            if self.calls.wait() == Call::End {
                leaving.done = true;
                return;
            }
        }
    }

    /// Takes what is committed. Gives whether to go on.
    fn follow(&mut self) -> bool {
        while !self.calls.is_away() {
            if self.is_called_from_replay() && self.follower.unread_bytes() > QUICK_BYTES {
                return false;
            }
            match self.follower.next_step() {
                Ok(Some(step)) => {
                    if !self.take(step) {
                        return false;
                    }
                }
                Ok(None) => return true,
                Err(error) => {
                    tracing::error!(stream = self.stream, %error, "the journal cannot be read");
                    self.calls.rest(REST);
                }
            }
        }
        false
    }

    /// Whether the node stops before what earlier runs have left is replayed. That waits for the next start: a stop is
    /// quick.
    fn is_called_from_replay(&self) -> bool {
        self.follower.is_replaying() && self.calls.is_ending()
    }

    /// Gives whether to go on.
    fn take(&mut self, step: Step) -> bool {
        if let Step::Entry(Entry::Flush { which, .. }) = &step {
            self.metrics.merge_early.with_label_values(&[self.stream.as_str()]).inc();
            self.evicting.retain(|asked| asked != which);
        }
        let ends = matches!(step, Step::End { .. });
        if let Err(error) = self.emitter.apply(step) {
            tracing::error!(stream = self.stream, %error, "records cannot be packed: the stream is closed until a restart");
            return false;
        }
        loop {
            match self.emitter.settle() {
                Ok(settled) => {
                    settled.iter().for_each(|settled| self.announce(settled));
                    break;
                }
                Err(error) => tracing::error!(stream = self.stream, %error, "the outbox cannot be written"),
            }
            // The journal holds all of it: when the node stops, the next start goes on from there.
            self.calls.rest(REST);
            if self.calls.is_away() || self.calls.is_ending() {
                return false;
            }
        }
        if ends {
            self.report();
            self.relieve();
        }
        true
    }

    fn announce(&self, settled: &Settled) {
        let stream = self.stream.as_str();
        for waiting in &settled.batches {
            let counts = waiting.meta.counts;
            self.metrics.batch_bytes.with_label_values(&[stream, "raw"]).inc_by(counts.raw_bytes);
            self.metrics.batch_bytes.with_label_values(&[stream, "compressed"]).inc_by(waiting.bytes);
        }
        if !settled.batches.is_empty() {
            self.arrived.notify_one();
        }
    }

    /// All that is committed has been merged: tells the journal thread when the next window ends.
    fn publish(&mut self) {
        if self.wishes.wish_end(self.emitter.next_due()) {
            self.wake();
        }
        self.report();
        self.relieve();
    }

    /// Wishes for early flushes when windows hold too much. Those of earlier runs were flushed by them: the journal says
    /// where.
    fn relieve(&mut self) {
        let load = self.emitter.load();
        self.state.keys.store(load.keys, Ordering::Relaxed);
        self.state.bytes.store(load.bytes, Ordering::Relaxed);
        if !self.evicting.is_empty() || self.follower.is_replaying() {
            return;
        }
        self.evicting = self.emitter.overfull();
        if !self.evicting.is_empty() {
            self.wishes.wish_early(&self.evicting);
            self.wake();
        }
    }

    /// A full queue needs no waking: the journal thread looks before it commits.
    fn wake(&self) {
        self.journaling.try_send(Command::Wake).unwrap_or(());
    }

    /// Tells operators what was found in what earlier runs have left.
    fn report(&mut self) {
        let (report, before) = (self.follower.report(), self.reported);
        let replaying = self.follower.is_replaying();
        let was_replaying = self.state.replaying.swap(replaying, Ordering::AcqRel);
        for (kind, count) in [
            ("torn_bytes", report.torn_bytes - before.torn_bytes),
            ("entries", (report.damaged_entries - before.damaged_entries) as u64),
            ("files", (report.damaged_files - before.damaged_files) as u64),
        ] {
            self.metrics.spool_damage.with_label_values(&[self.stream.as_str(), kind]).inc_by(count);
        }
        self.reported = report;
        let damaged = |report: &RecoveryReport| report.damaged_entries + report.damaged_files;
        if damaged(&report) > damaged(&before) {
            tracing::error!(stream = self.stream, ?report, "the spool is damaged; what could be read goes on");
        }
        if was_replaying && !replaying && report.segments > 0 {
            let RecoveryReport { segments, replayed, .. } = report;
            tracing::info!(stream = self.stream, segments, replayed, "the journal was replayed");
        }
    }
}

/// Tells the others that the thread has ended, however it does: a panic is no reason to take uploads for nobody.
struct Leaving {
    state: Arc<MergeState>,
    arrived: Arc<Notify>,
    done: bool,
}

impl Drop for Leaving {
    fn drop(&mut self) {
        let flag = if self.done { &self.state.ended } else { &self.state.broken };
        flag.store(true, Ordering::Release);
        self.arrived.notify_one();
    }
}
