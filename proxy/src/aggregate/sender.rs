//! The sender: delivers batches, newest first, and gives none up that the core might take.
//!
//! One task for each stream with up to `max_in_flight` batches on their way. The newest go first, so that after an
//! outage live data is not held up by the backlog, which takes the room that is left. A batch that failed goes behind
//! those that have not been tried. While the core fails, one batch at a time is its probe, after a pause with full
//! jitter; the first success opens all places again.

use std::collections::{BTreeSet, HashMap};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use futures::stream::{FuturesUnordered, StreamExt};
use http::header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderName, HeaderValue, RETRY_AFTER};
use parking_lot::Mutex;
use tokio::sync::Notify;
use weir_batch::{BatchMeta, PartialAnswer, Refused};
use weir_config::Class;
use weir_logic::Millis;
use weir_logic::delivery::Delivery;
use weir_logic::retry::asked_wait;
use weir_logic::stall::Stall;
use weir_spool::{Disk, Outbox, Parcel, Waiting};

use super::Context;
use super::merging::MergeState;
use super::plan::Settings;
use crate::clock::Clock;
use crate::metrics::Metrics;
use crate::upstream::{Origin, OriginAnswer, OriginRequest};

/// What the sender shows of itself, and the one order it takes.
#[derive(Debug, Default)]
pub(super) struct Report {
    last: Mutex<String>,
    leaving: AtomicBool,
    stall: Mutex<Stall>,
}

impl Report {
    /// What the last attempt gave.
    pub(super) fn last(&self) -> String {
        self.last.lock().clone()
    }

    /// Whether batches wait and the core has accepted none for [`Stall::AFTER`].
    pub(super) fn is_stalled(&self, now: Millis) -> bool {
        self.stall.lock().is_stalled(now)
    }

    /// Lets the sender end as soon as nothing waits and nothing more will come.
    pub(super) fn leave_when_empty(&self) {
        self.leaving.store(true, Ordering::Release);
    }
}

/// Delivers the batches of one stream.
pub(super) struct Sender {
    courier: Arc<Courier>,
    settings: Arc<ArcSwap<Settings>>,
    merge: Arc<MergeState>,
    arrived: Arc<Notify>,
    report: Arc<Report>,
    clock: Clock,
    queue: Queue,
    /// Whether operators were told that deliveries stand still.
    told_of_stall: bool,
}

/// Takes one batch to the core and does what the answer asks for.
struct Courier {
    stream: Arc<str>,
    outbox: Arc<Outbox<Disk>>,
    origin: Arc<dyn Origin>,
    settings: Arc<ArcSwap<Settings>>,
    metrics: Metrics,
    clock: Clock,
}

/// Which batch is tried next, and when.
#[derive(Debug, Default)]
struct Queue {
    in_flight: BTreeSet<String>,
    /// Batches that have failed, and how many attempts of the stream had been made by then.
    failed: HashMap<String, u64>,
    attempts: u64,
    failures: u32,
    pause_until: Millis,
}

/// How one attempt ended.
struct Attempt {
    batch: String,
    /// What the core said; `None` when it said nothing usable or the batch is not to be told.
    delivery: Option<Delivery>,
    /// For operators.
    label: String,
    /// How long the core asked to be left alone.
    rest: Option<Duration>,
    /// The batch of the rows that the core wants again.
    again: Option<String>,
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
        let courier = Arc::new(Courier {
            stream: Arc::from(stream),
            outbox: Arc::clone(outbox),
            origin: Arc::clone(&context.origin),
            settings: Arc::clone(settings),
            metrics: context.metrics.clone(),
            clock: context.clock,
        });
        let report = Arc::new(Report::default());
        let sender = Self {
            courier,
            settings: Arc::clone(settings),
            merge: Arc::clone(merge),
            arrived: Arc::clone(arrived),
            report: Arc::clone(&report),
            clock: context.clock,
            queue: Queue::default(),
            told_of_stall: false,
        };
        (sender, report)
    }

    /// Runs until it may leave and nothing waits, or what waits has no prospect now. Gives whether nothing waits.
    pub(super) async fn run(mut self) -> bool {
        let mut attempts = FuturesUnordered::new();
        loop {
            if attempts.is_empty() && self.may_leave() {
                return self.courier.outbox.newest(|_| false).is_none();
            }
            let now = self.clock.now();
            self.watch(now);
            let places = self.settings.load().max_in_flight;
            while let Some(waiting) = self.queue.next(&self.courier.outbox, places, now) {
                attempts.push(Arc::clone(&self.courier).attempt(waiting));
            }
            let pause = self.queue.pause(now);
            tokio::select! {
                Some(attempt) = attempts.next(), if !attempts.is_empty() => self.finish(attempt),
                () = self.arrived.notified() => {}
                () = tokio::time::sleep(pause.unwrap_or_default()), if pause.is_some() => {}
            }
        }
    }

    /// Tells operators when deliveries stand still, and when they go on. Looked at after every attempt and pause.
    fn watch(&mut self, now: Millis) {
        let stream = &self.courier.stream;
        let mut stall = self.report.stall.lock();
        stall.note_waiting(self.courier.outbox.newest(|_| false).is_some(), now);
        let stalled = stall.is_stalled(now);
        if stalled && !self.told_of_stall {
            let cause = self.report.last();
            tracing::error!(stream = %stream, cause, "batches wait and the core accepts none");
        } else if self.told_of_stall && !stalled {
            tracing::info!(stream = %stream, "the core accepts batches again");
        }
        self.told_of_stall = stalled;
    }

    fn may_leave(&self) -> bool {
        let over = self.merge.ended.load(Ordering::Acquire) || self.merge.broken.load(Ordering::Acquire);
        // A core that fails is not waited for: what it has not taken is on disk.
        let hopeless = self.queue.failures > 0 || self.courier.outbox.newest(|_| false).is_none();
        over && hopeless && self.report.leaving.load(Ordering::Acquire)
    }

    fn finish(&mut self, attempt: Attempt) {
        self.courier.metrics.batches.with_label_values(&[&*self.courier.stream, result_of(&attempt)]).inc();
        let now = self.clock.now();
        if matches!(attempt.delivery, Some(Delivery::Accepted | Delivery::Partial)) {
            self.report.stall.lock().note_accepted(now);
        }
        let schedule = self.settings.load().schedule;
        let failed = matches!(attempt.delivery, None | Some(Delivery::Retry));
        let until = |failures| now.after(schedule.delay_after(failures, attempt.rest, rand::random()));
        let mut pause = self.queue.finish(&attempt.batch, failed, until);
        if let Some(again) = &attempt.again {
            // The core wants its rows later, not at once.
            pause = self.queue.finish(again, true, until);
        }
        if let (Some(until), 1) = (pause, self.queue.failures) {
            let wait = until.since(now);
            tracing::warn!(stream = %self.courier.stream, batch = attempt.batch, cause = attempt.label, ?wait, "not delivered");
        }
        *self.report.last.lock() = attempt.label;
    }
}

fn result_of(attempt: &Attempt) -> &'static str {
    attempt.delivery.map_or("failed", Delivery::label)
}

impl Queue {
    /// The batch to try now, from then on in flight: the newest that has not failed, else the one whose failure is
    /// longest ago.
    fn next(&mut self, outbox: &Outbox<Disk>, places: usize, now: Millis) -> Option<Waiting> {
        let places = if self.failures > 0 { 1 } else { places };
        if self.in_flight.len() >= places || now < self.pause_until {
            return None;
        }
        let untried = outbox.newest(|name| self.in_flight.contains(name) || self.failed.contains_key(name));
        let waiting = untried.or_else(|| self.longest_failed().and_then(|name| outbox.find(&name)))?;
        self.in_flight.insert(waiting.name());
        self.attempts += 1;
        Some(waiting)
    }

    fn longest_failed(&self) -> Option<String> {
        let idle = self.failed.iter().filter(|(name, _)| !self.in_flight.contains(*name));
        idle.min_by_key(|(_, attempt)| **attempt).map(|(name, _)| name.clone())
    }

    /// Notes how an attempt ended; gives the end of the pause that follows a failure.
    fn finish(&mut self, batch: &str, failed: bool, pause: impl FnOnce(u32) -> Millis) -> Option<Millis> {
        self.in_flight.remove(batch);
        if !failed {
            self.failed.remove(batch);
            self.failures = 0;
            self.pause_until = Millis::default();
            return None;
        }
        self.failed.insert(batch.to_owned(), self.attempts);
        self.failures = self.failures.saturating_add(1);
        self.pause_until = pause(self.failures);
        Some(self.pause_until)
    }

    /// The time for which nothing is to be tried.
    fn pause(&self, now: Millis) -> Option<Duration> {
        (self.pause_until > now).then(|| self.pause_until.since(now))
    }
}

impl Courier {
    async fn attempt(self: Arc<Self>, waiting: Waiting) -> Attempt {
        let batch = waiting.name();
        match Arc::clone(&self).deliver(waiting).await {
            Ok(Told { delivery, status, rest, again }) => {
                Attempt { batch, delivery: Some(delivery), label: status.to_string(), rest, again }
            }
            Err(failure) => Attempt { batch, delivery: None, label: failure.label, rest: failure.rest, again: None },
        }
    }

    async fn deliver(self: Arc<Self>, waiting: Waiting) -> Result<Told, Failure> {
        let (request, rows) = Arc::clone(&self).prepare(waiting.clone()).await?;
        let answer = self
            .origin
            .send(request)
            .await
            .map_err(|error| Failure { label: error.label().to_owned(), rest: error.rest() })?;
        let courier = Arc::clone(&self);
        blocking(move || courier.settle(&waiting, &answer, rows)).await
    }

    /// Reads what is to be sent, addresses it, and says how many rows it has. A file that cannot be read as a batch goes to
    /// the dead letters.
    async fn prepare(self: Arc<Self>, waiting: Waiting) -> Result<(OriginRequest, u64), Failure> {
        let settings = self.settings.load();
        let Some((core, path)) = settings.destination(&waiting.meta.core, &waiting.meta.path) else {
            return Err(Failure::named("no such core"));
        };
        drop(settings);
        let courier = Arc::clone(&self);
        let Parcel { meta, payload } = blocking(move || courier.read(&waiting)).await?;
        let headers = headers(&meta).ok_or_else(|| Failure::named("a name that no header can carry"))?;
        let request = OriginRequest {
            core,
            label: Arc::clone(&self.stream),
            class: Class::Telemetry,
            method: http::Method::POST,
            target: path,
            headers,
            body: payload,
            max_answer_bytes: MAX_ANSWER_BYTES,
            // The core drops a batch whose id it has accepted before.
            repeatable: true,
        };
        Ok((request, meta.counts.rows))
    }

    fn read(&self, waiting: &Waiting) -> io::Result<Parcel> {
        let parcel = self.outbox.parcel(waiting);
        if let Err(error) = &parcel
            && error.kind() == io::ErrorKind::InvalidData
        {
            tracing::error!(stream = %self.stream, batch = %waiting.meta.id, %error, "a batch on disk is damaged");
            self.outbox.bury_damaged(waiting)?;
        }
        parcel
    }

    /// Does to the batch what the answer to a request of `rows` rows asks for.
    fn settle(&self, waiting: &Waiting, answer: &OriginAnswer, rows: u64) -> io::Result<Told> {
        let status = answer.status.as_u16();
        let mut told = Told { delivery: Delivery::of(status), status, rest: self.asked_rest(answer), again: None };
        match told.delivery {
            Delivery::Accepted => self.outbox.deliver(waiting)?,
            Delivery::Retry => {}
            Delivery::Halve if self.outbox.halve(waiting)?.is_some() => {}
            // What cannot be halved on disk is cut as if a row were bad, down to the one that is too large by itself.
            Delivery::Halve | Delivery::Isolate => {
                let records = self.outbox.isolate(waiting, refusal(answer))?;
                self.note_buried(waiting, status, records);
            }
            Delivery::Bury => {
                self.outbox.bury(waiting, refusal(answer))?;
                self.note_buried(waiting, status, waiting.counts().records);
            }
            Delivery::Partial => match PartialAnswer::parse(&answer.body, rows) {
                // All of it again is the same batch again.
                Some(partial) if (partial.retry.len() as u64) < rows => {
                    let again = self.outbox.divide(waiting, status, &partial)?;
                    self.note_buried(waiting, status, partial.rejected.len() as u64);
                    told.again = again.map(|again| again.name());
                }
                _ => told.delivery = Delivery::Retry,
            },
        }
        Ok(told)
    }

    fn note_buried(&self, waiting: &Waiting, status: u16, lost: u64) {
        if lost > 0 {
            tracing::error!(stream = %self.stream, batch = %waiting.meta.id, status, lost, "the core refuses records for good");
        }
    }

    fn asked_rest(&self, answer: &OriginAnswer) -> Option<Duration> {
        asked_wait(answer.headers.get(RETRY_AFTER)?.as_bytes(), self.clock.now())
    }
}

/// What the core said, and what was done about it.
struct Told {
    delivery: Delivery,
    status: u16,
    rest: Option<Duration>,
    again: Option<String>,
}

/// What the core said of a batch that it refuses.
fn refusal(answer: &OriginAnswer) -> Refused {
    let said = &answer.body[..answer.body.len().min(Refused::MAX_REASON_BYTES)];
    Refused::whole(answer.status.as_u16(), &String::from_utf8_lossy(said))
}

/// Why a batch was not even answered.
struct Failure {
    label: String,
    rest: Option<Duration>,
}

impl Failure {
    fn named(label: &str) -> Self {
        Self { label: label.to_owned(), rest: None }
    }
}

/// Bytes of the core's answer to a batch, at most: a 207 may name every row.
const MAX_ANSWER_BYTES: usize = 1024 * 1024;

/// Files are read and written apart from the tasks that serve agents.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> Result<T, Failure> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done.map_err(|error| Failure::named(&error.to_string())),
        Err(_) => Err(Failure::named("the work on its file was given up")),
    }
}

/// The headers of a batch; `None` when a name in its id cannot stand in a header.
pub(crate) fn headers(meta: &BatchMeta) -> Option<Vec<(HeaderName, HeaderValue)>> {
    let id = meta.id.to_string();
    Some(vec![
        (CONTENT_TYPE, HeaderValue::from_static("application/x-ndjson")),
        (CONTENT_ENCODING, HeaderValue::from_static(meta.compression.name())),
        (IDEMPOTENCY_KEY, HeaderValue::from_str(&id).ok()?),
        (EDGE, HeaderValue::from_str(&meta.id.edge).ok()?),
        (STREAM, HeaderValue::from_str(&meta.id.stream).ok()?),
        (FORMAT, HeaderValue::from_static("rows/1")),
        (ROWS, HeaderValue::from(meta.counts.rows)),
        (RECORDS, HeaderValue::from(meta.counts.records)),
    ])
}

const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
const EDGE: HeaderName = HeaderName::from_static("weir-edge");
const STREAM: HeaderName = HeaderName::from_static("weir-stream");
const FORMAT: HeaderName = HeaderName::from_static("weir-format");
const ROWS: HeaderName = HeaderName::from_static("weir-rows");
const RECORDS: HeaderName = HeaderName::from_static("weir-records");
