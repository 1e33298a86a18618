//! The courier: takes one batch to the core and does to it what the answer asks for.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use http::header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderName, HeaderValue, RETRY_AFTER};
use weir_batch::{BatchMeta, PartialAnswer, Refused};
use weir_logic::delivery::{Delivery, Lane, Setback};
use weir_logic::retry::asked_wait;
use weir_spool::{Disk, Lent, Outbox, Parcel, Waiting};

use super::plan::Settings;
use crate::clock::Clock;
use crate::upstream::{Origin, OriginAnswer, OriginError, OriginRequest, Patience, Rank, Sending};

/// What it takes to deliver the batches of one stream.
pub(super) struct Courier {
    pub(super) stream: Arc<str>,
    pub(super) outbox: Arc<Outbox<Disk>>,
    pub(super) origin: Arc<dyn Origin>,
    pub(super) settings: Arc<ArcSwap<Settings>>,
    pub(super) clock: Clock,
}

/// How one attempt ended.
#[must_use]
pub(super) struct Attempt {
    pub(super) batch: Arc<str>,
    /// What the core said; `None` when it said nothing usable or the batch is not to be told.
    pub(super) delivery: Option<Delivery>,
    /// For operators.
    pub(super) label: String,
    pub(super) end: End,
    /// What the core may have taken is not given up for its age before its answer is settled.
    pub(super) _lent: Lent<Disk>,
}

/// What became of the batch.
pub(super) enum End {
    /// The core has said what it is to become, and it has become that.
    Done {
        /// Bytes that the core has taken, as they travelled.
        taken: u64,
        /// The batch of the rows that the core wants again, and after which time at the earliest.
        again: Option<(String, Option<Duration>)>,
    },
    /// It waits as before.
    NotTaken(Setback),
}

impl Courier {
    /// Makes one attempt, the first or another.
    pub(super) async fn attempt(self: Arc<Self>, lent: Lent<Disk>, lane: Lane, sending: Sending) -> Attempt {
        let batch = Arc::from(lent.waiting().name());
        let (delivery, label, end) = match self.deliver(lent.waiting().clone(), lane, sending).await {
            Ok(Told { delivery, status, end }) => (Some(delivery), status.to_string(), end),
            Err(Failure { label, setback }) => (None, label, End::NotTaken(setback)),
        };
        Attempt { batch, delivery, label, end, _lent: lent }
    }

    async fn deliver(self: Arc<Self>, waiting: Waiting, lane: Lane, sending: Sending) -> Result<Told, Failure> {
        let (request, rows) = Arc::clone(&self).prepare(waiting.clone(), lane, sending).await?;
        let bytes = request.body.len() as u64;
        let answer = self.origin.send(request).await.map_err(Failure::from)?;
        let courier = Arc::clone(&self);
        blocking(move || courier.settle(&waiting, &answer, rows, bytes)).await
    }

    /// Reads what is to be sent, addresses it, and says how many rows it has. A file that cannot be read as a batch goes to
    /// the dead letters.
    async fn prepare(
        self: Arc<Self>,
        waiting: Waiting,
        lane: Lane,
        sending: Sending,
    ) -> Result<(OriginRequest, u64), Failure> {
        let settings = self.settings.load();
        let Some((core, path)) = settings.destination(&waiting.meta.core, &waiting.meta.path) else {
            return Err(Failure::named("no such core"));
        };
        drop(settings);
        let courier = Arc::clone(&self);
        let Parcel { meta, payload } = blocking(move || courier.read(&waiting)).await?;
        let headers = headers(&meta, lane).ok_or_else(|| Failure::named("a name that no header can carry"))?;
        let request = OriginRequest {
            core,
            label: Arc::clone(&self.stream),
            rank: match lane {
                Lane::Live => Rank::BATCH,
                Lane::Backlog => Rank::Backlog,
            },
            method: http::Method::POST,
            target: path,
            headers,
            body: payload,
            max_answer_bytes: MAX_ANSWER_BYTES,
            patience: Patience::Whole,
            // The core drops a batch whose id it has accepted before.
            repeatable: true,
            sending,
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

    /// Does to the batch what the answer to a request of so many rows and bytes asks for.
    fn settle(&self, waiting: &Waiting, answer: &OriginAnswer, rows: u64, bytes: u64) -> io::Result<Told> {
        let status = answer.status.as_u16();
        let rest = self.asked_rest(answer);
        let delivery = self.settings.load().table.of(status);
        let done = |taken, again| Ok(Told { delivery, status, end: End::Done { taken, again } });
        match delivery {
            Delivery::Accepted => {
                self.outbox.deliver(waiting)?;
                return done(bytes, None);
            }
            Delivery::Retry => return Ok(Told::not_taken(Delivery::Retry, status, Setback::Failed(rest))),
            Delivery::Pause => return Ok(Told::not_taken(Delivery::Pause, status, Setback::Blamed(status, rest))),
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
            Delivery::Partial => {
                let partial = PartialAnswer::parse(&answer.body, rows);
                // All of it again is the same batch again.
                let Some(partial) = partial.filter(|partial| (partial.retry.len() as u64) < rows) else {
                    return Ok(Told::not_taken(Delivery::Retry, status, Setback::Failed(rest)));
                };
                let again = self.outbox.divide(waiting, status, &partial)?;
                self.note_buried(waiting, status, partial.rejected.len() as u64);
                return done(bytes, again.map(|again| (again.name(), rest)));
            }
        }
        done(0, None)
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
    end: End,
}

impl Told {
    fn not_taken(delivery: Delivery, status: u16, setback: Setback) -> Self {
        Self { delivery, status, end: End::NotTaken(setback) }
    }
}

/// What the core said of a batch that it refuses.
fn refusal(answer: &OriginAnswer) -> Refused {
    let said = &answer.body[..answer.body.len().min(Refused::MAX_REASON_BYTES)];
    Refused::whole(answer.status.as_u16(), &String::from_utf8_lossy(said))
}

/// Why a batch was not even answered.
struct Failure {
    label: String,
    setback: Setback,
}

impl Failure {
    fn named(label: &str) -> Self {
        Self { label: label.to_owned(), setback: Setback::Failed(None) }
    }
}

impl From<OriginError> for Failure {
    fn from(error: OriginError) -> Self {
        let setback = match error {
            OriginError::Resting(rest) => Setback::Held(Some(rest)),
            OriginError::Full => Setback::Held(None),
            // An answer that is too long accepts nothing: it cannot be read.
            OriginError::Connect | OriginError::Timeout | OriginError::Broken | OriginError::TooLarge(_) => {
                Setback::Failed(None)
            }
        };
        Self { label: error.label().to_owned(), setback }
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
fn headers(meta: &BatchMeta, lane: Lane) -> Option<Vec<(HeaderName, HeaderValue)>> {
    let id = meta.id.to_string();
    Some(vec![
        (CONTENT_TYPE, HeaderValue::from_static("application/x-ndjson")),
        (CONTENT_ENCODING, HeaderValue::from_static(meta.compression.name())),
        (IDEMPOTENCY_KEY, HeaderValue::from_str(&id).ok()?),
        (EDGE, HeaderValue::from_str(&meta.id.edge).ok()?),
        (STREAM, HeaderValue::from_str(&meta.id.stream).ok()?),
        (FORMAT, HeaderValue::from_static(meta.format.name())),
        (DELIVERY, HeaderValue::from_static(lane.label())),
        (ROWS, HeaderValue::from(meta.counts.rows)),
        (RECORDS, HeaderValue::from(meta.counts.records)),
    ])
}

const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
const EDGE: HeaderName = HeaderName::from_static("weir-edge");
const STREAM: HeaderName = HeaderName::from_static("weir-stream");
const FORMAT: HeaderName = HeaderName::from_static("weir-format");
const DELIVERY: HeaderName = HeaderName::from_static("weir-delivery");
const ROWS: HeaderName = HeaderName::from_static("weir-rows");
const RECORDS: HeaderName = HeaderName::from_static("weir-records");
