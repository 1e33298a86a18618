//! One stream's four stages, put together.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::thread::Builder;

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use tokio::sync::{Notify, oneshot};
use tokio::task::AbortHandle;
use weir_config::Config;
use weir_logic::{Identity, Millis};
use weir_spool::{Disk, Meters, Outbox, Recovered, RecoveryReport, Revived, recover};

use super::calls::Calls;
use super::health::DiskHealth;
use super::journaling::{Command, Groups, Journaling, Kept, Wishes};
use super::ledger::{LedgerStatus, LossStatus, StreamStatus};
use super::merging::{MergeState, Merging};
use super::plan::{Acknowledged, Settings};
use super::sender::{self, Sender};
use super::shut::{ShutReason, ShutStream};
use super::tidying::Tidying;
use super::{AggregateError, Context, StartError};
use crate::budget::Hold;
use crate::metrics::Metrics;
use crate::task;

/// One stream. Its threads and its sender live until [`Pipeline::stop`] or [`Pipeline::abort`].
pub(super) struct Pipeline {
    name: String,
    settings: Arc<ArcSwap<Settings>>,
    commands: SyncSender<Command>,
    outbox: Arc<Outbox<Disk>>,
    meters: Arc<Meters>,
    merge: Arc<MergeState>,
    delivery: Arc<sender::Report>,
    calls: Arc<Calls>,
    health: Arc<DiskHealth>,
    arrived: Arc<Notify>,
    stopping: AtomicBool,
    stopped: Mutex<Option<oneshot::Receiver<bool>>>,
    sending: AbortHandle,
    tidying: AbortHandle,
    context: Context,
}

/// Why an upload could not be kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unkept {
    /// The node is about to stop.
    Stopping,
    /// Too many uploads wait for the journal.
    Queue,
    /// The journal is at its bound.
    Journal,
    /// The outbox is at its bound.
    Outbox,
    /// The journal could not be written.
    Disk,
}

impl Unkept {
    /// The same for people.
    pub(super) fn detail(self) -> &'static str {
        match self {
            Self::Stopping => "the node is about to stop",
            Self::Queue => "too many uploads are waiting",
            Self::Journal => "the journal is full",
            Self::Outbox => "the outbox is full",
            Self::Disk => "the upload could not be written",
        }
    }
}

impl Pipeline {
    /// Opens the spool of that name and starts its stages: of a stream, of presence, or of what is configured no longer, to
    /// empty it.
    pub(super) fn start(context: &Context, config: &Config, name: &str) -> Result<Arc<Self>, AggregateError> {
        Self::launch(context, name, Settings::of(config, name, &context.edge))
    }

    /// Opens a spool to empty it at once.
    pub(super) fn start_emptying(context: &Context, config: &Config, name: &str) -> Result<Arc<Self>, AggregateError> {
        Self::launch(context, name, Settings::emptying(config, name, &context.edge))
    }

    fn launch(context: &Context, name: &str, settings: Settings) -> Result<Arc<Self>, AggregateError> {
        Self::assemble(context, name, settings).map_err(|cause| AggregateError { stream: name.to_owned(), cause })
    }

    fn assemble(context: &Context, name: &str, settings: Settings) -> Result<Arc<Self>, StartError> {
        let spool = recover(Disk, &context.root.join(name), settings.plan.clone(), context.clock.now())?;
        let Recovered { journal, follower, emitter, outbox } = spool;
        let meters = Arc::clone(journal.meters());
        let (commands, received) = sync_channel(settings.max_queued);
        let (wishes, merge) = (Arc::new(Wishes::default()), Arc::new(MergeState::default()));
        let (calls, health, arrived): (Arc<Calls>, Arc<DiskHealth>, Arc<Notify>) = Default::default();
        merge.replaying.store(follower.is_replaying(), Ordering::Release);
        let settings = Arc::new(ArcSwap::from_pointee(settings));
        let journaling = Journaling {
            journal,
            commands: received,
            merging: Arc::clone(&calls),
            health: Arc::clone(&health),
            wishes: Arc::clone(&wishes),
            settings: Arc::clone(&settings),
            adopted: None,
            clock: context.clock,
            runtime: context.runtime.clone(),
            commit_seconds: context.metrics.journal_commit.with_label_values(&[name]),
            waiting: VecDeque::new(),
            sealed_at: Millis::default(),
            rest_until: Millis::default(),
            groups: Groups::default(),
            stream: name.to_owned(),
        };
        let merging = Merging {
            emitter,
            follower,
            calls: Arc::clone(&calls),
            journaling: commands.clone(),
            wishes,
            state: Arc::clone(&merge),
            arrived: Arc::clone(&arrived),
            metrics: context.metrics.clone(),
            stream: name.to_owned(),
            evicting: Vec::new(),
            reported: RecoveryReport::default(),
        };
        start_threads(name, journaling, merging)?;
        let (sender, delivery) = Sender::new(context, name, &settings, &outbox, &merge, &arrived);
        let (sending, stopped) = start_sender(context, sender);
        let tidying = Tidying::new(context, name, &settings, &outbox, &commands, &arrived);
        let tidying = start_tidying(context, tidying);
        Ok(Arc::new(Self {
            name: name.to_owned(),
            settings,
            commands,
            outbox,
            meters,
            merge,
            delivery,
            calls,
            health,
            arrived,
            stopping: AtomicBool::new(false),
            stopped: Mutex::new(Some(stopped)),
            sending,
            tidying,
            context: context.clone(),
        }))
    }

    /// The stream's name.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// The node's metrics.
    pub(super) fn metrics(&self) -> &Metrics {
        &self.context.metrics
    }

    /// Whether an upload could be kept now.
    pub(super) fn has_room(&self) -> Result<(), Unkept> {
        let settings = self.settings.load();
        if self.stopping.load(Ordering::Acquire) {
            return Err(Unkept::Stopping);
        }
        // What is acknowledged from memory may wait for the disk.
        let shut = self.health.is_shut() && settings.acknowledged == Acknowledged::Written;
        if self.is_broken() || shut {
            return Err(Unkept::Disk);
        }
        if self.meters.journal_bytes() >= settings.max_journal_bytes {
            return Err(Unkept::Journal);
        }
        if self.outbox.bytes() >= settings.max_outbox_bytes {
            return Err(Unkept::Outbox);
        }
        Ok(())
    }

    /// Keeps the records of one upload; returns once they are as durable as the stream promises. Should the caller go
    /// away meanwhile, they are kept all the same.
    pub(super) async fn keep(
        &self,
        identity: &Identity,
        records: usize,
        lines: Vec<u8>,
        hold: Option<Hold>,
    ) -> Result<(), Unkept> {
        self.has_room()?;
        let acknowledged = self.settings.load().acknowledged;
        let (done, kept) = oneshot::channel();
        let command = Command::Keep(Kept {
            identity: identity.clone(),
            records: u32::try_from(records).unwrap_or(u32::MAX),
            lines,
            _hold: hold,
            done: (acknowledged == Acknowledged::Written).then_some(done),
        });
        match self.commands.try_send(command) {
            Ok(()) if acknowledged == Acknowledged::Queued => Ok(()),
            Ok(()) => kept.await.map(drop).map_err(|_| Unkept::Disk),
            Err(TrySendError::Full(_)) => Err(Unkept::Queue),
            Err(TrySendError::Disconnected(_)) => Err(Unkept::Disk),
        }
    }

    /// Goes on under another configuration.
    pub(super) fn reconfigure(&self, config: &Config) {
        let settings = Settings::of(config, &self.name, &self.context.edge);
        self.settings.store(Arc::new(settings));
        // A full queue needs no waking: the journal thread looks after each commit.
        self.commands.try_send(Command::Wake).unwrap_or(());
        self.arrived.notify_one();
    }

    /// Whether batches wait for the core.
    pub(super) fn has_batches(&self) -> bool {
        self.outbox.bytes() > 0
    }

    /// Puts the dead letters back into the outbox as far as that has room. Reads and writes files.
    pub(super) fn revive(&self) -> io::Result<Revived> {
        let settings = self.settings.load();
        let max_bytes = settings.plan.as_ref().map_or(u64::MAX, |_| settings.max_outbox_bytes);
        let revived = self.outbox.revive(max_bytes);
        self.arrived.notify_one();
        revived
    }

    /// Takes no more uploads, closes what is open and waits until the outbox is empty or the core fails. What earlier
    /// runs have left and is not yet replayed waits for the next start. Gives whether nothing waits.
    pub(super) async fn stop(&self) -> bool {
        self.stopping.store(true, Ordering::Release);
        let commands = self.commands.clone();
        // The queue may be full, and the journal thread may wait for a disk: not on this thread.
        let told = tokio::task::spawn_blocking(move || commands.send(Command::Stop).is_ok());
        let stopped = self.stopped.lock().take();
        let Some(stopped) = stopped else { return false };
        self.delivery.leave_when_empty();
        self.arrived.notify_one();
        told.await.unwrap_or(false) && stopped.await.unwrap_or(false) && !self.is_broken()
    }

    /// Ends the sender and the tidying, and calls the merge thread away from a disk that fails.
    pub(super) fn abort(&self) {
        self.calls.away();
        self.sending.abort();
        self.tidying.abort();
    }

    /// Whether no upload will be taken until a restart.
    pub(super) fn is_broken(&self) -> bool {
        self.merge.broken.load(Ordering::Acquire)
    }

    /// Why uploads are turned away, if they are; `None` for a stream that is not configured or about to stop.
    pub(super) fn shut(&self) -> Option<ShutStream> {
        self.settings.load().plan.as_ref()?;
        let trouble = self.health.trouble(self.context.clock.now());
        let reason = match self.has_room() {
            _ if self.is_broken() => ShutReason::Broken,
            _ if trouble.is_some() => ShutReason::Disk,
            Err(Unkept::Journal) => ShutReason::Journal,
            Err(Unkept::Outbox) => ShutReason::Outbox,
            _ => return None,
        };
        let since = trouble.filter(|_| reason == ShutReason::Disk);
        Some(ShutStream { stream: self.name.clone(), reason, since })
    }

    /// The state for operators.
    pub(super) fn status(&self) -> StreamStatus {
        let (content, ledger) = self.outbox.balance();
        let now = self.context.clock.now();
        let delivery = self.delivery.state(&self.outbox, now);
        StreamStatus {
            stream: self.name.clone(),
            broken: self.is_broken(),
            ledger: LedgerStatus::of(&content, &ledger, &self.meters),
            journal_bytes: self.meters.journal_bytes(),
            unread_bytes: self.meters.unread_bytes(),
            replaying: self.merge.replaying.load(Ordering::Acquire),
            merge_keys: self.merge.keys.load(Ordering::Relaxed) as u64,
            merge_bytes: self.merge.bytes.load(Ordering::Relaxed),
            outbox_batches: content.batches as u64,
            outbox_bytes: content.bytes,
            outbox_oldest_seconds: StreamStatus::age(content.oldest, now),
            backlog_batches: delivery.backlog.batches,
            backlog_bytes: delivery.backlog.bytes,
            drain_records_per_second: delivery.records_per_second,
            drain_bytes_per_second: delivery.bytes_per_second,
            empty_in_seconds: delivery.time_left.map(|left| left.as_secs()),
            dead_letter_files: content.dead_files as u64,
            dead_letter_bytes: content.dead_bytes,
            losses: LossStatus::read(&self.outbox),
            stalled: delivery.stalled,
            paused: delivery.paused,
            last_delivery: delivery.last,
        }
    }
}

/// Steps of priority by which merging gives way. No agent waits for it, and its bursts, as when a window ends, are longer than an agent
/// should wait. Beside threads that want a whole processor it still has a quarter of it.
const WAY_GIVEN: i32 = 5;

fn start_threads(stream: &str, journaling: Journaling, merging: Merging) -> Result<(), StartError> {
    let thread = |role: &str| Builder::new().name(format!("{role}-{stream}"));
    let merging = || {
        // A kernel that refuses leaves the thread as it was.
        rustix::process::nice(WAY_GIVEN).ok();
        merging.run();
    };
    thread("merge").spawn(merging).map_err(StartError::Thread)?;
    thread("journal").spawn(|| journaling.run()).map_err(StartError::Thread)?;
    Ok(())
}

/// Starts the sender; the receiver hears when it has ended, and whether nothing was left.
fn start_sender(context: &Context, sender: Sender) -> (AbortHandle, oneshot::Receiver<bool>) {
    let (stopped, has_stopped) = oneshot::channel();
    let _runtime = context.runtime.enter();
    let sending = task::spawn("batch-sender", async move {
        let emptied = sender.run().await;
        // Nobody waits for it when the node does not stop.
        stopped.send(emptied).unwrap_or(());
    });
    (sending.abort_handle(), has_stopped)
}

fn start_tidying(context: &Context, tidying: Tidying) -> AbortHandle {
    let _runtime = context.runtime.enter();
    task::spawn("spool-tidying", tidying.run()).abort_handle()
}
