//! The sender: delivers a stream's batches, and gives none up that the core might take.
//!
//! One task for each stream. Which batch goes next and when is [`weir_logic::delivery::DeliveryQueue`]'s to say; this is
//! its shell: it feeds the queue with what the outbox holds, has couriers carry what it names, and shows how things are.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use futures::stream::{FuturesUnordered, StreamExt};
use parking_lot::Mutex;
use tokio::sync::Notify;
use weir_logic::Millis;
use weir_logic::delivery::{Delivery, DeliveryQueue, Drain, DrainRate, Lane, LaneContent};
use weir_logic::stall::Stall;
use weir_spool::{Disk, Outbox};

use super::Context;
use super::courier::{Attempt, Courier, End};
use super::merging::MergeState;
use super::plan::Settings;
use crate::metrics::Metrics;
use crate::upstream::Sending;

/// What the sender shows of itself, and the one order it takes.
#[derive(Debug, Default)]
pub(super) struct Report {
    leaving: AtomicBool,
    shown: Mutex<Shown>,
}

#[derive(Debug, Default)]
struct Shown {
    /// What the last attempt gave.
    last: String,
    stall: Stall,
    backlog: LaneContent,
    paused: Option<u16>,
    /// Bytes that the core has taken since the start.
    taken: u64,
    drain: DrainRate,
}

/// How deliveries do, at one moment.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct DeliveryState {
    /// What the last attempt gave; empty before the first.
    pub(super) last: String,
    /// Whether batches wait and the core has accepted none for [`Stall::AFTER`].
    pub(super) stalled: bool,
    /// The status for which deliveries rest until somebody has mended something.
    pub(super) paused: Option<u16>,
    /// What could not be delivered for some time.
    pub(super) backlog: LaneContent,
    pub(super) records_per_second: f64,
    pub(super) bytes_per_second: f64,
    /// The time until nothing waits; `None` when what waits does not get less.
    pub(super) time_left: Option<Duration>,
}

impl Report {
    /// How deliveries from this outbox do.
    pub(super) fn state(&self, outbox: &Outbox<Disk>, now: Millis) -> DeliveryState {
        let mut shown = self.shown.lock();
        let totals = shown.note_totals(outbox, now);
        DeliveryState {
            last: shown.last.clone(),
            stalled: shown.stall.is_stalled(now),
            paused: shown.paused,
            backlog: shown.backlog,
            records_per_second: shown.drain.records_per_second(totals, now),
            bytes_per_second: shown.drain.bytes_per_second(totals, now),
            time_left: shown.drain.time_left(totals, now),
        }
    }

    /// Lets the sender end as soon as nothing waits and nothing more will come.
    pub(super) fn leave_when_empty(&self) {
        self.leaving.store(true, Ordering::Release);
    }
}

impl Shown {
    fn note_totals(&mut self, outbox: &Outbox<Disk>, now: Millis) -> Drain {
        let records = outbox.ledger().delivered.records;
        let totals = Drain { records, bytes: self.taken, waiting: outbox.bytes() };
        self.drain.note(totals, now);
        totals
    }
}

/// Delivers the batches of one stream.
pub(super) struct Sender {
    courier: Arc<Courier>,
    metrics: Metrics,
    merge: Arc<MergeState>,
    arrived: Arc<Notify>,
    report: Arc<Report>,
    queue: DeliveryQueue,
    /// Whether operators were told that deliveries stand still.
    told_of_stall: bool,
}

impl Sender {
    /// The sender of a stream, and what it will show.
    pub(super) fn new(
        context: &Context,
        stream: &str,
        settings: &Arc<ArcSwap<Settings>>,
        outbox: &Arc<Outbox<Disk>>,
        merge: &Arc<MergeState>,
        arrived: &Arc<Notify>,
    ) -> (Self, Arc<Report>) {
        let courier = Courier {
            stream: Arc::from(stream),
            outbox: Arc::clone(outbox),
            origin: Arc::clone(&context.origin),
            settings: Arc::clone(settings),
            clock: context.clock,
        };
        let report = Arc::new(Report::default());
        let sender = Self {
            courier: Arc::new(courier),
            metrics: context.metrics.clone(),
            merge: Arc::clone(merge),
            arrived: Arc::clone(arrived),
            report: Arc::clone(&report),
            queue: DeliveryQueue::default(),
            told_of_stall: false,
        };
        (sender, report)
    }

    /// Runs until it may leave and nothing waits, or what waits has no prospect now. Gives whether nothing waits.
    pub(super) async fn run(mut self) -> bool {
        let mut attempts = FuturesUnordered::new();
        loop {
            // Asked before the outbox is: what is there last was announced before.
            let may_leave = self.may_leave();
            let now = self.courier.clock.now();
            let rules = self.courier.settings.load().rules;
            self.courier.outbox.take_expired().iter().for_each(|batch| self.queue.forget(batch));
            for arrival in self.courier.outbox.take_arrivals() {
                self.queue.add(arrival, &rules, now);
            }
            while let Some((batch, lane)) = self.queue.next(&rules, now) {
                let sending = if self.queue.has_failed(&batch) { Sending::Again } else { Sending::First };
                match self.courier.outbox.lend(&batch) {
                    Some(lent) => attempts.push(Arc::clone(&self.courier).attempt(lent, lane, sending)),
                    None => self.queue.forget(&batch),
                }
            }
            self.show(now);
            // A core that fails is not waited for, nor are batches that rest: what it has not taken is on disk.
            if may_leave && attempts.is_empty() {
                return self.queue.is_empty();
            }
            let pause = self.queue.next_at(&rules, now).map(|at| at.since(now));
            tokio::select! {
                Some(attempt) = attempts.next(), if !attempts.is_empty() => self.finish(attempt),
                () = self.arrived.notified() => {}
                () = tokio::time::sleep(pause.unwrap_or_default()), if pause.is_some() => {}
            }
        }
    }

    fn may_leave(&self) -> bool {
        let over = self.merge.ended.load(Ordering::Acquire) || self.merge.broken.load(Ordering::Acquire);
        over && self.report.leaving.load(Ordering::Acquire)
    }

    /// Shows how things are, and tells operators when deliveries stand still and when they go on. Called after every attempt
    /// and pause.
    fn show(&mut self, now: Millis) {
        let stream = &self.courier.stream;
        let mut shown = self.report.shown.lock();
        shown.backlog = self.queue.content(Lane::Backlog);
        shown.paused = self.queue.paused();
        shown.note_totals(&self.courier.outbox, now);
        shown.stall.note_waiting(!self.queue.is_empty(), now);
        let stalled = shown.stall.is_stalled(now);
        if stalled && !self.told_of_stall {
            tracing::error!(stream = %stream, cause = shown.last, "batches wait and the core accepts none");
        } else if self.told_of_stall && !stalled {
            tracing::info!(stream = %stream, "the core accepts batches again");
        }
        self.told_of_stall = stalled;
    }

    fn finish(&mut self, attempt: Attempt) {
        let Attempt { batch, delivery, label, end, _lent } = attempt;
        let result = delivery.map_or("failed", Delivery::label);
        self.metrics.batches.with_label_values(&[&*self.courier.stream, result]).inc();
        let now = self.courier.clock.now();
        let rules = self.courier.settings.load().rules;
        match end {
            End::Done { taken, again } => {
                if matches!(delivery, Some(Delivery::Accepted | Delivery::Partial)) {
                    let mut shown = self.report.shown.lock();
                    shown.stall.note_accepted(now);
                    shown.taken += taken;
                }
                // What was cut from it stands behind it before it goes.
                for arrival in self.courier.outbox.take_arrivals() {
                    self.queue.add(arrival, &rules, now);
                }
                if let Some((again, asked)) = again {
                    self.queue.defer(&again, asked, &rules, now, rand::random());
                }
                match self.courier.outbox.find(&batch) {
                    Some(_) => self.queue.go_on(&batch),
                    None => self.queue.settle(&batch),
                }
            }
            End::NotTaken(setback) => {
                let (was_failing, was_paused) = (self.queue.is_failing(), self.queue.paused());
                let wait = self.queue.fail(&batch, setback, &rules, now, rand::random());
                let stream = &self.courier.stream;
                if self.queue.paused().is_some() && was_paused.is_none() {
                    tracing::error!(stream = %stream, batch = %batch, status = label, ?wait, "the core blames the configuration: deliveries rest");
                } else if !was_failing {
                    tracing::warn!(stream = %stream, batch = %batch, cause = label, ?wait, "not delivered");
                }
            }
        }
        self.report.shown.lock().last = label;
    }
}
