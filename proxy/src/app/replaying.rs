//! A spool without its node: what a dead node's data directory holds goes to the core, by the same pipelines, gate and ids
//! as if the node had come back, but without listeners.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use weir_config::Config;
use weir_spool::inspect::{self, Content};

use super::compose::{self, Ground};
use super::data_dir::DataDir;
use super::{background, data_dir_failure, unavailable};
use crate::aggregate::{Aggregate, Emptying, LedgerStatus, StreamStatus};
use crate::clock::Clock;
use crate::exit::{Code, Failure};
use crate::logging;
use crate::metrics::Metrics;

/// What is to be replayed.
#[derive(Clone, Debug)]
pub struct ReplayOrder<'a> {
    /// A data directory that no node uses.
    pub data_dir: &'a Path,
    /// One stream, instead of all.
    pub stream: Option<&'a str>,
    /// Whether dead letters are put back first.
    pub dead: bool,
    /// The time without progress after which the core is taken to have failed.
    pub patience: Duration,
}

/// What became of a stream.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Replayed {
    /// The stream.
    pub stream: String,
    /// Records that the core has accepted.
    pub delivered: u64,
    /// Records that were put back from the dead letters.
    pub revived: u64,
    /// Records that went to the dead letters.
    pub refused: u64,
    /// Records that are still in the journal or the outbox.
    pub left: u64,
    /// Whether more may be left than is known: the journal was not read to its end.
    pub unread: bool,
    /// What the last attempt to deliver gave.
    pub last_delivery: String,
}

/// Delivers what is in a data directory until it is empty or the core fails.
///
/// # Errors
///
/// When a node uses the directory, a spool cannot be opened, or dead letters cannot be put back.
pub fn replay(mut config: Config, order: &ReplayOrder<'_>) -> Result<Vec<Replayed>, Failure> {
    let spool =
        order.stream.map_or_else(|| order.data_dir.join("spool"), |name| order.data_dir.join("spool").join(name));
    if !spool.is_dir() {
        return Err(Failure::new(Code::NoInput, format!("{} is no directory", spool.display())));
    }
    let clock = Clock::start();
    let metrics = Metrics::new();
    logging::start(config.edge.log_format, clock, metrics.log_suppressed.clone());
    let data_dir = DataDir::open(order.data_dir).map_err(data_dir_failure)?;
    let edge = data_dir.edge_name(config.edge.name.as_deref()).map_err(data_dir_failure)?;
    config.edge.data_dir = order.data_dir.to_owned();
    let background = background().map_err(|error| unavailable("the system gives no threads", &error))?;
    let inside = background.enter();
    let before = ledgers(order.data_dir);
    let origin = compose::upstream(&Ground { config: &config, edge: &edge, metrics: &metrics, clock })?;
    let what = Emptying { config: &config, edge: &edge, only: order.stream, origin };
    let aggregate =
        Aggregate::start_emptying(what, metrics, clock).map_err(|error| compose::aggregate_failure(&error))?;
    if order.dead {
        let unwritten = |error| Failure::new(Code::CannotCreate, format!("dead letters cannot be put back: {error}"));
        aggregate.revive(None).map_err(unwritten)?;
    }
    drop(inside);
    let after = background.block_on(async {
        empty(&aggregate, order.patience, clock).await;
        aggregate.stop(LAST_ANSWERS).await;
        aggregate.status()
    });
    background.shutdown_timeout(Duration::from_secs(1));
    drop(data_dir);
    Ok(after.into_iter().map(|status| outcome(status, &before)).collect())
}

/// The time that attempts under way have left once the core is taken to have failed.
const LAST_ANSWERS: Duration = Duration::from_secs(30);

/// The time between two looks at how far it is.
const TICK: Duration = Duration::from_millis(100);

/// Waits until nothing is left, or nothing has moved for as long as `patience`.
async fn empty(aggregate: &Aggregate, patience: Duration, clock: Clock) {
    let mut moved = (Vec::new(), clock.elapsed());
    loop {
        let status = aggregate.status();
        if status.iter().all(is_empty) {
            return;
        }
        let ledgers: Vec<(LedgerStatus, u64)> =
            status.into_iter().map(|status| (status.ledger, status.unread_bytes)).collect();
        let now = clock.elapsed();
        if moved.0 != ledgers {
            moved = (ledgers, now);
        }
        if now.saturating_sub(moved.1) >= patience {
            return;
        }
        tokio::time::sleep(TICK).await;
    }
}

/// Whether nothing is left, in what has not been read yet either.
fn is_empty(status: &StreamStatus) -> bool {
    !is_unread(status) && left(status) == 0 && status.outbox_batches == 0
}

fn is_unread(status: &StreamStatus) -> bool {
    status.replaying || status.unread_bytes > 0
}

fn left(status: &StreamStatus) -> u64 {
    status.ledger.in_journal + status.ledger.in_outbox
}

fn outcome(status: StreamStatus, before: &BTreeMap<String, weir_spool::Ledger>) -> Replayed {
    let was = before.get(&status.stream).copied().unwrap_or_default();
    let now = status.ledger;
    let (left, unread) = (left(&status), is_unread(&status));
    Replayed {
        stream: status.stream,
        delivered: (now.forwarded + now.merged).saturating_sub(was.delivered.records),
        revived: now.revived.saturating_sub(was.revived.records),
        refused: (now.dead_lettered + now.revived).saturating_sub(was.buried.records + was.revived.records),
        left,
        unread,
        last_delivery: status.last_delivery,
    }
}

/// The ledgers as the node has left them, by stream. Where there is none, nothing was delivered.
fn ledgers(data_dir: &Path) -> BTreeMap<String, weir_spool::Ledger> {
    let Ok(streams) = std::fs::read_dir(data_dir.join("spool")) else { return BTreeMap::new() };
    let ledger = |stream: std::fs::DirEntry| {
        let Ok(Content::Progress(notes)) = inspect::inspect(&stream.path().join("progress")) else { return None };
        Some((stream.file_name().into_string().ok()?, notes.ledger))
    };
    streams.filter_map(|stream| ledger(stream.ok()?)).collect()
}
