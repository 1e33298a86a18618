//! Who is alive, reported to the core: the edge answers the polls that used to say so.
//!
//! A table remembers when each agent was last seen, and its version. Once an interval, or when the table is half full,
//! what it holds becomes one report: a batch of the stream `presence`, tried until the core has it, under the same id
//! each time. While one report is on its way the table goes on collecting, so an outage costs no sign of life: an
//! agent's later one replaces its earlier.
//!
//! A report is not kept on disk. What a crash takes with it is at most an interval old, and the agents themselves
//! repeat it by coming back.
//!
//! Not here: who counts as gone. That is for the core to say.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::{Notify, watch};
use weir_batch::row::{Origin as RowOrigin, write_presence};
use weir_batch::{BatchEncoder, BatchId, BatchMeta, Compression};
use weir_logic::delivery::{Delivery, DeliveryTable, Lane};
use weir_logic::retry::{RetrySchedule, asked_wait};
use weir_logic::{Identity, Millis};

use crate::aggregate::batch_headers;
use crate::clock::Clock;
use crate::metrics::Metrics;
use crate::upstream::{Origin, OriginRequest, Rank};

/// The presence table and its reporter.
///
/// Memory: `max_agents` agents of some 200 bytes, their names included, and as many once more in the report on its way.
pub struct Presence {
    edge: Arc<str>,
    settings: ArcSwapOption<weir_config::Presence>,
    shards: Vec<Mutex<HashMap<Identity, Seen>>>,
    agents: AtomicUsize,
    stopping: AtomicBool,
    /// Whether there is a reporter.
    reporting: watch::Sender<bool>,
    /// Wakes the reporter: the table is half full, the settings have changed, or the node stops.
    wake: Notify,
    metrics: Metrics,
    clock: Clock,
}

/// What is known of an agent.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Seen {
    last: Millis,
    version: Option<Box<str>>,
}

/// The stream's name, in ids, headers and metrics. No configured stream has it.
pub const STREAM: &str = "presence";

/// Locks over which agents are spread.
const SHARDS: usize = 64;

/// Bytes of an agent's version that are reported, at most.
const MAX_VERSION_BYTES: usize = 64;

/// Bytes of the core's answer, at most; nothing in it is read.
const MAX_ANSWER_BYTES: usize = 64 * 1024;

impl Presence {
    /// An empty table. Without settings nothing is remembered.
    pub fn new(edge: &str, settings: Option<weir_config::Presence>, metrics: Metrics, clock: Clock) -> Arc<Self> {
        Arc::new(Self {
            edge: Arc::from(edge),
            settings: ArcSwapOption::from_pointee(settings),
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
            agents: AtomicUsize::new(0),
            stopping: AtomicBool::new(false),
            reporting: watch::Sender::new(false),
            wake: Notify::new(),
            metrics,
            clock,
        })
    }

    /// The request header that names an agent's version; `None` while presence is switched off.
    pub fn version_header(&self) -> Option<String> {
        self.settings.load().as_ref().map(|settings| settings.version_header.clone())
    }

    /// Notes a sign of life. One without an agent's name is none. Past `max_agents`, agents that are not in the table
    /// are counted as discarded until the next report.
    pub fn seen(&self, identity: &Identity, version: Option<&str>, now: Millis) {
        let settings = self.settings.load();
        let (Some(settings), Some(_)) = (settings.as_ref(), &identity.agent) else { return };
        let mut shard = self.shards[shard_of(identity)].lock();
        match shard.entry(identity.clone()) {
            Entry::Occupied(mut known) => known.get_mut().refresh(version, now),
            Entry::Vacant(new) => {
                let before = self.agents.fetch_add(1, Ordering::Relaxed);
                if before >= settings.max_agents {
                    self.agents.fetch_sub(1, Ordering::Relaxed);
                    self.metrics.records_accepted.with_label_values(&[STREAM]).inc();
                    return self.discard("table_full", 1);
                }
                new.insert(Seen { last: now, version: version.map(|version| shortened(version).into()) });
                if before + 1 == settings.max_agents.div_ceil(2) {
                    self.wake.notify_one();
                }
            }
        }
    }

    /// Puts other settings in force.
    pub fn reconfigure(&self, settings: Option<weir_config::Presence>) {
        self.settings.store(settings.map(Arc::new));
        self.wake.notify_one();
    }

    /// Lets the reporter send what the table holds, once, and end; waits for that for at most `within`.
    pub async fn stop(&self, within: Duration) {
        self.stopping.store(true, Ordering::Release);
        self.wake.notify_one();
        let mut reporting = self.reporting.subscribe();
        let ended = tokio::time::timeout(within, reporting.wait_for(|reporting| !reporting)).await;
        if ended.is_err() {
            tracing::warn!("the last presence report was given up");
        }
    }

    /// Brings the gauge up to date: to be called before metrics are rendered.
    pub fn refresh_metrics(&self) {
        let agents = self.agents.load(Ordering::Relaxed);
        self.metrics.presence_agents.set(i64::try_from(agents).unwrap_or(i64::MAX));
    }

    /// Reports until [`Self::stop`], and then once more. To be spawned by whoever starts the node.
    pub async fn report(self: Arc<Self>, origin: Arc<dyn Origin>) {
        self.reporting.send_replace(true);
        self.report_until_stopped(&*origin).await;
        self.reporting.send_replace(false);
    }

    async fn report_until_stopped(&self, origin: &dyn Origin) {
        let mut generation = 0;
        loop {
            let interval = self.settings.load().as_ref().map(|settings| settings.interval);
            tokio::select! {
                () = tokio::time::sleep(interval.unwrap_or_default()), if interval.is_some() => {}
                () = self.wake.notified() => {}
            }
            let stopping = self.stopping.load(Ordering::Acquire);
            let settings = self.settings.load_full();
            if let Some(settings) = settings {
                // Never twice the same, also across restarts.
                generation = self.clock.now().0.max(generation + 1);
                let batches = self.pack(&settings, generation);
                self.hold(&batches);
                for (meta, payload) in batches {
                    self.deliver(origin, &meta, payload).await;
                }
            }
            if stopping {
                return;
            }
        }
    }

    /// Empties the table into batches.
    fn pack(&self, settings: &weir_config::Presence, generation: u64) -> Vec<(BatchMeta, Bytes)> {
        let mut batches = Vec::new();
        let mut packer = Packer { encoder: None, row: Vec::new() };
        for shard in &self.shards {
            let agents = std::mem::take(&mut *shard.lock());
            self.agents.fetch_sub(agents.len(), Ordering::Relaxed);
            for (identity, seen) in agents {
                batches.extend(packer.push(&identity, &seen));
            }
        }
        batches.extend(packer.finish());
        let sealed_at = self.clock.now().0;
        let name = |(ordinal, payload): (u32, weir_batch::Payload)| {
            let id = BatchId::new(&self.edge, STREAM, generation, ordinal);
            let (core, path, compression) = (String::new(), settings.path.clone(), payload.compression);
            let (format, counts, shards) = (payload.format, payload.counts, u64::MAX);
            let meta = BatchMeta { id, core, path, compression, format, counts, sealed_at, shards, refusal: None };
            (meta, Bytes::from(payload.bytes))
        };
        (0..).zip(batches).map(name).collect()
    }

    /// Tries until the core has the batch or will never take it; when the node stops, once.
    async fn deliver(&self, origin: &dyn Origin, meta: &BatchMeta, payload: Bytes) {
        let records = meta.counts.records;
        let Some(headers) = batch_headers(meta, Lane::Live) else { return self.let_go("unsendable", records) };
        let mut failures = 0;
        loop {
            let Some(settings) = self.settings.load_full() else { return self.let_go("switched_off", records) };
            let request = OriginRequest {
                core: settings.core,
                label: Arc::from(STREAM),
                rank: Rank::BATCH,
                method: http::Method::POST,
                target: settings.path.clone(),
                headers: headers.clone(),
                body: payload.clone(),
                max_answer_bytes: MAX_ANSWER_BYTES,
                // The core drops a batch whose id it has accepted before.
                repeatable: true,
            };
            let (delivery, rest) = match origin.send(request).await {
                Ok(answer) => {
                    let asked = answer.headers.get(http::header::RETRY_AFTER);
                    let rest = asked.and_then(|value| asked_wait(value.as_bytes(), self.clock.now()));
                    (DeliveryTable::default().of(answer.status.as_u16()), rest)
                }
                Err(error) => (Delivery::Retry, error.rest()),
            };
            self.metrics.batches.with_label_values(&[STREAM, delivery.label()]).inc();
            match delivery {
                // Rows that the core wants again are replaced by the agents' next signs of life.
                Delivery::Accepted | Delivery::Partial => {
                    self.metrics.records_forwarded.with_label_values(&[STREAM]).inc_by(records);
                    return self.release(records);
                }
                // A report is small and its rows are ours: a core that refuses it will refuse its halves.
                Delivery::Halve | Delivery::Isolate | Delivery::Bury => {
                    tracing::error!(batch = %meta.id, "the core refuses a presence report for good");
                    return self.let_go("refused", records);
                }
                Delivery::Retry | Delivery::Pause => failures += 1,
            }
            if self.stopping.load(Ordering::Acquire) {
                return self.let_go("stopped", records);
            }
            let wait = schedule(&settings).delay_after(failures, rest, rand::random());
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = self.wake.notified() => {}
            }
        }
    }
}

/// The ledger of signs of life: those that made it into a report are accepted, then held, and end as forwarded or
/// discarded.
impl Presence {
    fn hold(&self, batches: &[(BatchMeta, Bytes)]) {
        let records = batches.iter().map(|(meta, _)| meta.counts.records).sum();
        self.metrics.records_accepted.with_label_values(&[STREAM]).inc_by(records);
        self.metrics.records_held.with_label_values(&[STREAM]).add(signed(records));
    }

    fn release(&self, records: u64) {
        self.metrics.records_held.with_label_values(&[STREAM]).sub(signed(records));
    }

    fn let_go(&self, reason: &str, records: u64) {
        self.release(records);
        self.discard(reason, records);
    }

    fn discard(&self, reason: &str, records: u64) {
        self.metrics.records_discarded.with_label_values(&[STREAM, reason]).inc_by(records);
    }
}

fn signed(records: u64) -> i64 {
    i64::try_from(records).unwrap_or(i64::MAX)
}

/// A report is worth trying again for as long as it takes, but no more often than reports are due.
fn schedule(settings: &weir_config::Presence) -> RetrySchedule {
    RetrySchedule::new(Duration::from_millis(500), settings.interval)
}

impl Seen {
    fn refresh(&mut self, version: Option<&str>, now: Millis) {
        self.last = self.last.max(now);
        if let Some(version) = version.map(shortened)
            && self.version.as_deref() != Some(version)
        {
            self.version = Some(version.into());
        }
    }
}

fn shortened(version: &str) -> &str {
    let mut end = version.len().min(MAX_VERSION_BYTES);
    while !version.is_char_boundary(end) {
        end -= 1;
    }
    &version[..end]
}

fn shard_of(identity: &Identity) -> usize {
    let name = identity.agent.as_ref().map_or("", |agent| agent.as_str());
    usize::try_from(xxhash_rust::xxh3::xxh3_64(name.as_bytes()) % SHARDS as u64).unwrap_or_default()
}

/// Packs rows into batches of bounded size. Compression fails only for want of memory; the rows are then gone, and the
/// agents' next signs of life take their place.
struct Packer {
    encoder: Option<BatchEncoder>,
    row: Vec<u8>,
}

/// Rows in one batch, at most: some 8 MiB before compression.
const MAX_ROWS: u64 = 50_000;

impl Packer {
    fn push(&mut self, identity: &Identity, seen: &Seen) -> Option<weir_batch::Payload> {
        self.row.clear();
        let tenant = identity.tenant.as_ref().map(|tenant| tenant.as_str());
        let agent = identity.agent.as_ref().map(|agent| agent.as_str());
        write_presence(&mut self.row, RowOrigin { tenant, agent }, seen.last.0, seen.version.as_deref());
        let full = self.encoder.as_ref().is_some_and(|encoder| encoder.counts().rows >= MAX_ROWS);
        let finished = if full { self.finish() } else { None };
        if self.encoder.is_none() {
            self.encoder = BatchEncoder::new(Compression::Lz4).ok();
        }
        if let Some(encoder) = &mut self.encoder
            && encoder.push(&self.row).is_err()
        {
            self.encoder = None;
        }
        finished
    }

    fn finish(&mut self) -> Option<weir_batch::Payload> {
        self.encoder.take().and_then(|encoder| encoder.finish().ok())
    }
}

#[cfg(test)]
mod tests;
