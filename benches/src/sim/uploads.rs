//! A node's uploads: taken at once, a batch a second, sent in the order that the product's queue gives them.
//!
//! Which batch goes when is `weir_logic::delivery`'s to say. Records are not merged one by one here: how many rows and bytes they
//! become is what `ratios` measured.

use std::sync::Arc;
use std::time::Duration;

use rand::Rng;
use weir_config::Stream;
use weir_logic::delivery::{Arrival, DeliveryQueue, DeliveryRules, Lane, Setback};

use super::agents::{Activity, Told};
use super::desk::{Desk, Event};
use super::turnstile::Fault;

/// The stream of one node.
#[derive(Debug)]
pub(super) struct Uploads {
    node: u16,
    queue: DeliveryQueue,
    rules: DeliveryRules,
    /// Rows of the generation that is open.
    rows: f64,
    generations: u64,
    waiting_bytes: u64,
    max_bytes: u64,
    /// When the queue will be looked at.
    looked_at: Option<u64>,
}

/// A batch on its way.
#[derive(Clone, Debug)]
pub(super) struct Parcel {
    pub(super) name: Arc<str>,
    pub(super) is_backlog: bool,
    pub(super) rows: f64,
}

/// Events of an upload, rows for each of them, and bytes of a row before and after compression: the standard mix, as `ratios` prints
/// it for rows and LZ4 (262,777,492 bytes of 576,000 records became 316,948 rows, and 0.0961 of the bytes).
const EVENTS: f64 = 24.0;
const ROWS_PER_EVENT: f64 = 0.55;
const RAW_ROW_BYTES: f64 = 600.0;
const SENT_ROW_BYTES: f64 = 79.7;

impl Uploads {
    pub(super) fn new(node: u16, stream: &Stream) -> Self {
        Self {
            node,
            queue: DeliveryQueue::default(),
            rules: DeliveryRules::from(stream),
            rows: 0.0,
            generations: 0,
            waiting_bytes: 0,
            max_bytes: stream.spool.max_outbox_bytes.bytes(),
            looked_at: None,
        }
    }

    pub(super) fn take(&mut self, stream: &Stream, activity: Activity, desk: &mut Desk) {
        if self.waiting_bytes >= self.max_bytes {
            return desk.turn_away(activity, Duration::ZERO);
        }
        if self.rows == 0.0 {
            desk.calendar.put(desk.now.after(stream.batch.max_age), Event::Seal { node: self.node });
        }
        self.rows += EVENTS * ROWS_PER_EVENT;
        desk.tell(activity, Told::Good);
    }

    /// Closes the generation: its rows become batches that share no agent.
    pub(super) fn seal(&mut self, stream: &Stream, desk: &mut Desk) -> Vec<Parcel> {
        let rows = std::mem::take(&mut self.rows);
        let by_bytes = rows * RAW_ROW_BYTES / stream.batch.max_bytes.bytes() as f64;
        let by_rows = rows / stream.batch.max_records as f64;
        let lanes = stream.max_in_flight.clamp(1, 16);
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "`as` saturates; both are positive"
        )]
        let count = (by_bytes.max(by_rows).ceil() as usize).clamp(1, lanes);
        self.generations += 1;
        for ordinal in 0..count {
            let shards = (0..64).filter(|shard| shard % count == ordinal).fold(0, |bits, shard| bits | 1_u64 << shard);
            let part = rows / count as f64;
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "`as` saturates; it is positive"
            )]
            let bytes = (part * SENT_ROW_BYTES) as u64;
            let name = format!("{:012}/{ordinal:02}/{part:.0}", self.generations);
            self.queue.add(Arrival { name: name.into(), sealed_at: desk.now, shards, bytes }, &self.rules, desk.now);
            self.waiting_bytes += bytes;
        }
        self.departures(desk)
    }

    /// The batches that are to be sent now.
    pub(super) fn departures(&mut self, desk: &mut Desk) -> Vec<Parcel> {
        let mut leaving = Vec::new();
        while let Some((name, lane)) = self.queue.next(&self.rules, desk.now) {
            leaving.push(Parcel { rows: rows(&name), is_backlog: lane == Lane::Backlog, name });
        }
        if let Some(at) = self.queue.next_at(&self.rules, desk.now)
            && self.looked_at.is_none_or(|looked_at| looked_at <= desk.now.0 || looked_at > at.0)
        {
            self.looked_at = Some(at.0);
            desk.calendar.put(at, Event::Send { node: self.node });
        }
        leaving
    }

    /// An attempt to deliver a batch is over.
    pub(super) fn attempted(&mut self, parcel: &Parcel, result: Result<(), Fault>, desk: &mut Desk) -> Vec<Parcel> {
        let setback = match result {
            Ok(()) => {
                self.queue.settle(&parcel.name);
                #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it was made so")]
                let bytes = (parcel.rows * SENT_ROW_BYTES) as u64;
                self.waiting_bytes = self.waiting_bytes.saturating_sub(bytes);
                return self.departures(desk);
            }
            Err(Fault::TurnedAway(rest)) => Setback::Held(rest),
            Err(Fault::Failed) => Setback::Failed(None),
        };
        self.queue.fail(&parcel.name, setback, &self.rules, desk.now, desk.rng.random());
        self.departures(desk)
    }
}

/// A batch's name ends with its rows.
fn rows(name: &str) -> f64 {
    name.rsplit_once('/').and_then(|(_, rows)| rows.parse().ok()).unwrap_or(0.0)
}
