//! Who is alive, reported to the core: the edge answers the polls that used to say so.
//!
//! A table remembers when each agent was last seen, and its version. Once an interval, or when the table is half full,
//! what it holds becomes one report: a batch of the stream `presence`, with a journal, an outbox and a sender like those of
//! any other stream.
//!
//! While one report waits for the core the table goes on collecting instead of making the next: reports do not pile up, and
//! an outage costs no sign of life, as an agent's later one replaces its earlier. What a crash takes with it is at most an
//! interval old, and the agents themselves repeat it by coming back.
//!
//! Not here: who counts as gone. That is for the core to say.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use parking_lot::Mutex;
use tokio::sync::{Notify, watch};
use weir_batch::row::{Origin, write_presence};
use weir_logic::{Identity, Millis};

use crate::aggregate::{Aggregate, MAX_REPORT_BYTES};
use crate::metrics::Metrics;

/// The presence table and its reporter.
///
/// Memory: `max_agents` agents of some 200 bytes, their names included. While a report is made, its rows up to
/// 64 MiB three times: on their way to the journal, to be packed, and in the batch.
pub struct Presence {
    settings: ArcSwapOption<weir_config::Presence>,
    shards: Vec<Mutex<HashMap<Identity, Seen>>>,
    agents: AtomicUsize,
    stopping: AtomicBool,
    /// Whether there is a reporter.
    reporting: watch::Sender<bool>,
    /// Wakes the reporter: the table is half full, the settings have changed, or the node stops.
    wake: Notify,
    metrics: Metrics,
}

/// What is known of an agent.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Seen {
    last: Millis,
    version: Option<Box<str>>,
}

/// Locks over which agents are spread.
const SHARDS: usize = 64;

/// Bytes of an agent's version that are reported, at most.
const MAX_VERSION_BYTES: usize = 64;

/// Bytes of rows at which a report is cut: one more row fits.
const PART_BYTES: usize = MAX_REPORT_BYTES - 4096;

/// The time between two looks whether an earlier report has reached the core.
const LOOK: Duration = Duration::from_secs(1);

impl Presence {
    /// An empty table. Without settings nothing is remembered.
    pub fn new(settings: Option<weir_config::Presence>, metrics: Metrics) -> Arc<Self> {
        Arc::new(Self {
            settings: ArcSwapOption::from_pointee(settings),
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
            agents: AtomicUsize::new(0),
            stopping: AtomicBool::new(false),
            reporting: watch::Sender::new(false),
            wake: Notify::new(),
            metrics,
        })
    }

    /// The request header that names an agent's version; `None` while presence is switched off.
    pub fn version_header(&self) -> Option<String> {
        self.settings.load().as_ref().map(|settings| settings.version_header.clone())
    }

    /// Notes a sign of life. One without an agent's name is none. Past `max_agents`, agents that are not in the table
    /// are counted as refused until the next report.
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
                    return self.metrics.records_refused.with_label_values(&["presence", "table_full"]).inc();
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

    /// Lets the reporter hand over what the table holds, once, and end; waits for that for at most `within`. To be called
    /// before the spool is stopped.
    pub async fn stop(&self, within: Duration) {
        self.stopping.store(true, Ordering::Release);
        self.wake.notify_one();
        let mut reporting = self.reporting.subscribe();
        let ended = tokio::time::timeout(within, reporting.wait_for(|reporting| !reporting)).await;
        let agents = self.agents.load(Ordering::Relaxed);
        if ended.is_err() || agents > 0 {
            tracing::warn!(agents, "the last presence report was given up");
        }
    }

    /// Brings the gauge up to date: to be called before metrics are rendered.
    pub fn refresh_metrics(&self) {
        let agents = self.agents.load(Ordering::Relaxed);
        self.metrics.presence_agents.set(i64::try_from(agents).unwrap_or(i64::MAX));
    }

    /// Reports until [`Self::stop`], and then once more. To be spawned by whoever starts the node.
    pub async fn report(self: Arc<Self>, spool: Arc<Aggregate>) {
        self.reporting.send_replace(true);
        loop {
            let interval = self.settings.load().as_ref().map(|settings| settings.interval);
            self.pause(interval).await;
            while !self.is_stopping() && spool.presence_waits() {
                self.pause(Some(LOOK)).await;
            }
            let is_last = self.is_stopping();
            if self.settings.load().is_some() {
                self.hand_over(&spool).await;
            }
            if is_last {
                break;
            }
        }
        self.reporting.send_replace(false);
    }

    fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Acquire)
    }

    /// Waits for the time to pass, if there is one, or to be woken.
    async fn pause(&self, time: Option<Duration>) {
        tokio::select! {
            () = tokio::time::sleep(time.unwrap_or_default()), if time.is_some() => {}
            () = self.wake.notified() => {}
        }
    }

    /// Moves what the table holds into the spool as one report, or several where it is longer than one may be.
    async fn hand_over(&self, spool: &Aggregate) {
        let mut report = Report::default();
        for shard in &self.shards {
            let agents = std::mem::take(&mut *shard.lock());
            for (identity, seen) in agents {
                report.push(identity, seen);
                if report.rows.len() >= PART_BYTES {
                    self.keep(spool, std::mem::take(&mut report)).await;
                }
            }
        }
        self.keep(spool, report).await;
    }

    /// Hands over one report; what the spool does not take goes back into the table.
    async fn keep(&self, spool: &Aggregate, report: Report) {
        let Report { agents, rows } = report;
        if agents.is_empty() {
            return;
        }
        if let Err(reason) = spool.keep_presence(agents.len(), rows).await {
            tracing::warn!(agents = agents.len(), reason, "a presence report cannot be kept: it joins the next one");
            return agents.into_iter().for_each(|(identity, seen)| self.put_back(identity, seen));
        }
        self.agents.fetch_sub(agents.len(), Ordering::Relaxed);
    }

    fn put_back(&self, identity: Identity, seen: Seen) {
        match self.shards[shard_of(&identity)].lock().entry(identity) {
            Entry::Occupied(mut later) => {
                let later = later.get_mut();
                later.last = later.last.max(seen.last);
                later.version = later.version.take().or(seen.version);
                self.agents.fetch_sub(1, Ordering::Relaxed);
            }
            Entry::Vacant(gone) => drop(gone.insert(seen)),
        }
    }
}

/// Agents and their rows.
#[derive(Default)]
struct Report {
    agents: Vec<(Identity, Seen)>,
    rows: Vec<u8>,
}

impl Report {
    fn push(&mut self, identity: Identity, seen: Seen) {
        let tenant = identity.tenant.as_ref().map(|tenant| tenant.as_str());
        let agent = identity.agent.as_ref().map(|agent| agent.as_str());
        write_presence(&mut self.rows, Origin { tenant, agent }, seen.last.0, seen.version.as_deref());
        self.agents.push((identity, seen));
    }
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

#[cfg(test)]
mod tests;
