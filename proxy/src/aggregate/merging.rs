//! The merge thread: turns what the journal has committed into batches in the outbox.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender};
use std::time::Duration;

use parking_lot::{Condvar, Mutex};
use tokio::sync::Notify;
use weir_logic::merge::Eviction;
use weir_spool::{Disk, Emitter, Entry, Settled, Step};

use super::journaling::{Command, Wishes};
use crate::metrics::Metrics;

/// What the merge thread shows of itself.
#[derive(Debug, Default)]
pub(super) struct MergeState {
    /// Keys held in open windows.
    pub(super) keys: AtomicUsize,
    /// Bytes that they take.
    pub(super) bytes: AtomicU64,
    /// Whether the thread has ended before its time.
    pub(super) broken: AtomicBool,
    /// Whether everything that was committed is in the outbox, and nothing more will come.
    pub(super) ended: AtomicBool,
}

/// Lets a thread that waits be called away.
#[derive(Debug, Default)]
pub(super) struct Recall {
    called: Mutex<bool>,
    signal: Condvar,
}

impl Recall {
    pub(super) fn call(&self) {
        *self.called.lock() = true;
        self.signal.notify_all();
    }

    /// Waits for `time`; gives whether it was called away.
    fn wait(&self, time: Duration) -> bool {
        let mut called = self.called.lock();
        if !*called {
            self.signal.wait_for(&mut called, time);
        }
        *called
    }
}

/// The merge thread's state.
pub(super) struct Merging {
    pub(super) emitter: Emitter<Disk>,
    pub(super) steps: Receiver<Vec<Step>>,
    pub(super) journaling: SyncSender<Command>,
    pub(super) wishes: Arc<Wishes>,
    pub(super) state: Arc<MergeState>,
    /// Tells the sender that batches have arrived, or that none will any more.
    pub(super) arrived: Arc<Notify>,
    pub(super) recall: Arc<Recall>,
    pub(super) metrics: Metrics,
    pub(super) stream: String,
    /// What the journal thread has been asked to write down, and has not yet.
    pub(super) evicting: Vec<Eviction>,
}

/// The wait after the outbox could not be written.
const REST: Duration = Duration::from_secs(1);

impl Merging {
    /// Runs until the journal thread has ended and all that it committed is in the outbox.
    pub(super) fn run(mut self) {
        self.publish();
        while let Ok(steps) = self.steps.recv() {
            for step in steps {
                if !self.take(step) {
                    self.state.broken.store(true, Ordering::Release);
                    self.arrived.notify_one();
                    return;
                }
            }
            self.publish();
        }
        self.state.ended.store(true, Ordering::Release);
        self.arrived.notify_one();
    }

    /// Gives whether to go on.
    fn take(&mut self, step: Step) -> bool {
        if let Step::Entry(Entry::Flush { which, .. }) = &step {
            self.metrics.merge_early.with_label_values(&[self.stream.as_str()]).inc();
            self.evicting.retain(|asked| asked != which);
        }
        if let Err(error) = self.emitter.apply(step) {
            tracing::error!(stream = self.stream, %error, "records cannot be packed: the stream is closed until a restart");
            return false;
        }
        loop {
            match self.emitter.settle() {
                Ok(settled) => {
                    settled.iter().for_each(|settled| self.announce(settled));
                    return true;
                }
                Err(error) => tracing::error!(stream = self.stream, %error, "the outbox cannot be written"),
            }
            // The journal holds all of it: called away, the next start goes on from there.
            if self.recall.wait(REST) {
                return false;
            }
        }
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

    /// Tells the journal thread what is wished for. A full queue needs no waking: the thread looks before it commits.
    fn publish(&mut self) {
        let load = self.emitter.load();
        self.state.keys.store(load.keys, Ordering::Relaxed);
        self.state.bytes.store(load.bytes, Ordering::Relaxed);
        let mut wake = self.wishes.wish_end(self.emitter.next_due());
        if self.evicting.is_empty() {
            self.evicting = self.emitter.overfull();
            self.wishes.wish_early(&self.evicting);
            wake |= !self.evicting.is_empty();
        }
        if wake {
            self.journaling.try_send(Command::Wake).unwrap_or(());
        }
    }
}
