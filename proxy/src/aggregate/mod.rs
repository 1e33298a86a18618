//! Uploads: taken in, kept, merged, packed, delivered.
//!
//! One pipeline for each stream, and nothing shared between them but the machine: a stream whose disk or core fails
//! leaves the others alone.
//! ```text
//!  handle ── bounded queue ──> journal thread ──> journal ──> merge thread ──> outbox ──> sender task ──> core
//!    ^                            | write, one fsync for all
//!    └──── 202 once it is kept ───┘ that has queued meanwhile
//! ```
//! - `intake` reads an agent's request and answers it, `unpacking` is the work and the memory that this takes;
//! - `journaling` commits in groups and decides when a generation is closed, `acknowledging` tells the agents of a group;
//! - `merging` reads the journal back and turns it into batches in the outbox; `calls` is how it hears of work;
//! - `health` is what the journal thread has seen of its disk;
//! - `sender` delivers batches and gives none up that the core might take, `courier` carries one and settles it;
//! - `tidying` gives up what is too old or too much, and has the core told;
//! - `emptying` opens spools that are only emptied, and puts dead letters back; `orders` takes an operator's word for it;
//! - `shut` says why a stream keeps no uploads;
//! - `reports` takes what the node itself has to say;
//! - `pipeline` puts them together for one stream, `plan` reads the configuration for them, `ledger` adds up.
//!
//! What is on disk and why it survives a crash is told in [`weir_spool`]. A stage that cannot go on makes the one
//! before it wait, until the first queue is full and agents are told to come back: nothing is dropped on the way.
//!
//! Not here: who the agent is, admission, the core's gate.

mod acknowledging;
mod calls;
mod courier;
mod emptying;
mod health;
mod intake;
mod journaling;
mod ledger;
mod merging;
mod orders;
mod pipeline;
mod plan;
mod reports;
mod sender;
mod shut;
#[cfg(test)]
mod tests;
mod tidying;
mod unpacking;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use tokio::runtime::Handle;
use weir_batch::UploadLimits;
use weir_config::Config;
use weir_spool::SpoolError;

pub use self::emptying::Emptying;
pub use self::ledger::{LedgerStatus, LossStatus, StreamStatus};
pub(crate) use self::orders::PATH as REPLAY_PATH;
pub use self::orders::ReplayOrders;
use self::pipeline::Pipeline;
use self::plan::PRESENCE;
pub(crate) use self::plan::{MAX_REPORT_BYTES, upload_limits};
pub use self::shut::{ShutReason, ShutStream};
use self::unpacking::Unpacker;
use crate::budget::{Bounds, Budget};
use crate::clock::Clock;
use crate::metrics::Metrics;
use crate::upstream::Origin;

/// All streams of the node.
///
/// Memory: for each stream its open windows (`max_merge_bytes`, and what a few groups bring until something has left
/// early), a few groups of uploads between the threads, and `max_in_flight` batches; for all together what the [`Budget`]
/// bounds: uploads from their first byte until the merge thread has them.
pub struct Aggregate {
    context: Context,
    streams: ArcSwap<Streams>,
    budget: Budget,
    unpacker: Unpacker,
    /// Reloads are one at a time.
    reloading: Mutex<()>,
}

/// What every pipeline needs of the node.
#[derive(Clone)]
pub(crate) struct Context {
    root: PathBuf,
    edge: Arc<str>,
    origin: Arc<dyn Origin>,
    metrics: Metrics,
    clock: Clock,
    runtime: Handle,
}

struct Streams {
    by_name: BTreeMap<String, Arc<Pipeline>>,
    limits: UploadLimits,
    bounds: Bounds,
}

impl Streams {
    fn new(by_name: BTreeMap<String, Arc<Pipeline>>, config: &Config) -> Self {
        Self { by_name, limits: plan::upload_limits(config), bounds: (&config.limits).into() }
    }
}

/// Why a stream cannot be started.
#[derive(Debug, thiserror::Error)]
#[error("the stream {stream:?} cannot be started: {cause}")]
pub struct AggregateError {
    /// The stream.
    pub stream: String,
    /// Why.
    pub cause: StartError,
}

/// What keeps a stream from starting.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Its spool cannot be opened.
    #[error(transparent)]
    Spool(#[from] SpoolError),
    /// A thread cannot be started.
    #[error("no thread can be started: {0}")]
    Thread(std::io::Error),
}

impl Aggregate {
    /// Opens every stream's spool below `config.edge.data_dir` and starts delivering what waits; what is in the journals
    /// is replayed behind. A spool whose stream is no longer configured is emptied under the plan it was written with.
    /// Must be called on a runtime, which carries the senders. Takes as long as listing the spools does.
    ///
    /// # Errors
    /// When a spool cannot be opened.
    pub fn start(
        config: &Config,
        edge: &str,
        origin: Arc<dyn Origin>,
        budget: Budget,
        metrics: Metrics,
        clock: Clock,
    ) -> Result<Self, AggregateError> {
        let root = config.edge.data_dir.join("spool");
        let context = Context { root, edge: Arc::from(edge), origin, metrics, clock, runtime: Handle::current() };
        let mut by_name = BTreeMap::new();
        for name in configured(config) {
            by_name.insert(name.to_owned(), Pipeline::start(&context, config, name)?);
        }
        for name in abandoned(&context.root, &by_name) {
            match Pipeline::start(&context, config, &name) {
                Ok(pipeline) => {
                    tracing::info!(stream = name, "emptying the spool of a stream that is not configured");
                    by_name.insert(name, pipeline);
                }
                Err(error) => tracing::warn!(stream = name, %error, "a spool without a stream is left alone"),
            }
        }
        Ok(Self::of(context, Streams::new(by_name, config), budget))
    }

    fn of(context: Context, streams: Streams, budget: Budget) -> Self {
        let streams = ArcSwap::from_pointee(streams);
        Self { context, streams, budget, unpacker: Unpacker::default(), reloading: Mutex::new(()) }
    }

    /// Puts another configuration in force: new streams start, changed ones close what they have open and go on under
    /// the new plan, streams that are gone go on delivering what they hold. Fails whole, before anything has changed.
    /// Blocks while spools are opened.
    ///
    /// # Errors
    /// When the spool of a new stream cannot be opened.
    pub fn reconfigure(&self, config: &Config) -> Result<(), AggregateError> {
        let _one_at_a_time = self.reloading.lock();
        let current = self.streams.load_full();
        let mut by_name = current.by_name.clone();
        for name in configured(config).filter(|name| !current.by_name.contains_key(*name)) {
            by_name.insert(name.to_owned(), Pipeline::start(&self.context, config, name)?);
        }
        for pipeline in current.by_name.values() {
            pipeline.reconfigure(config);
        }
        self.streams.store(Arc::new(Streams::new(by_name, config)));
        Ok(())
    }

    /// Takes no more uploads, closes what is open, and delivers for at most `within`, or until the core fails; what it
    /// has not taken by then waits in the outboxes for the next start. Open windows wait in the journal. Gives whether
    /// everything was closed in time and the outboxes are empty.
    pub async fn stop(&self, within: Duration) -> bool {
        let streams = self.streams.load_full();
        let all = streams.by_name.values().map(|pipeline| pipeline.stop());
        let stopped = tokio::time::timeout(within, futures::future::join_all(all)).await;
        streams.by_name.values().for_each(|pipeline| pipeline.abort());
        stopped.is_ok_and(|clean| clean.into_iter().all(|clean| clean))
    }

    /// The state of every stream, for `/status`.
    pub fn status(&self) -> Vec<StreamStatus> {
        self.streams.load().by_name.values().map(|pipeline| pipeline.status()).collect()
    }

    /// Brings the streams' gauges and ledger counters up to date: to be called before metrics are rendered. All ledger
    /// metrics of a stream are from one moment, so that they add up in every scrape.
    pub fn refresh_metrics(&self) {
        for status in self.status() {
            status.export(&self.context.metrics);
        }
        for pipeline in self.streams.load().by_name.values() {
            let now = pipeline.shut().map(|shut| shut.reason);
            for reason in ShutReason::ALL {
                let gauge = self.context.metrics.stream_shut.with_label_values(&[pipeline.name(), reason.label()]);
                gauge.set(i64::from(now == Some(reason)));
            }
        }
    }

    /// The streams that keep no uploads at the moment.
    pub fn shut(&self) -> Vec<ShutStream> {
        self.streams.load().by_name.values().filter_map(|pipeline| pipeline.shut()).collect()
    }
}

/// What has a spool by the configuration: streams, and presence.
fn configured(config: &Config) -> impl Iterator<Item = &str> {
    let streams = config.streams.iter().map(|stream| stream.name.as_str());
    streams.chain(config.presence.as_ref().map(|_| PRESENCE))
}

/// The spools on disk that nothing owns.
fn abandoned(root: &std::path::Path, owned: &BTreeMap<String, Arc<Pipeline>>) -> Vec<String> {
    let Ok(entries) = std::fs::read_dir(root) else { return Vec::new() };
    let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    names.filter(|name| !owned.contains_key(name)).collect()
}
