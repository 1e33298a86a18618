//! Spools that are only emptied, and dead letters that are put back. Not here: when that has taken long enough.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use tokio::runtime::Handle;
use weir_config::Config;
use weir_spool::{Revived, SpoolError};

use super::{Aggregate, AggregateError, Context, Pipeline, StartError, Streams, abandoned};
use crate::budget::Budget;
use crate::clock::Clock;
use crate::metrics::Metrics;
use crate::upstream::Origin;

/// What is to be emptied, and by what.
pub struct Emptying<'a> {
    /// Names the data directory; its streams say where batches go, where it has a stream of that name.
    pub config: &'a Config,
    /// The node's name.
    pub edge: &'a str,
    /// One stream, instead of all.
    pub only: Option<&'a str>,
    /// The cores.
    pub origin: Arc<dyn Origin>,
}

impl Aggregate {
    /// Opens spools below `config.edge.data_dir` and delivers all that they hold, windows that are still open included. No
    /// upload is taken, and nothing is given up for its age. Must be called on a runtime, which carries the senders.
    ///
    /// # Errors
    /// When a spool cannot be opened.
    pub fn start_emptying(what: Emptying<'_>, metrics: Metrics, clock: Clock) -> Result<Self, AggregateError> {
        let Emptying { config, edge, only, origin } = what;
        let root = config.edge.data_dir.join("spool");
        let budget = Budget::new(metrics.clone());
        let context = Context { root, edge: Arc::from(edge), origin, metrics, clock, runtime: Handle::current() };
        let mut by_name = BTreeMap::new();
        let names = abandoned(&context.root, &by_name);
        for name in names.into_iter().filter(|name| only.is_none_or(|only| only == name)) {
            match Pipeline::start_emptying(&context, config, &name) {
                Ok(pipeline) => drop(by_name.insert(name, pipeline)),
                // There is nothing in it, but for dead letters of which nobody says where they go.
                Err(AggregateError { cause: StartError::Spool(SpoolError::NoPlan { path }), .. }) => {
                    tracing::warn!(stream = name, path = %path.display(), "nothing waits in this spool");
                }
                Err(error) => return Err(error),
            }
        }
        Ok(Self::of(context, Streams::new(by_name, config), budget))
    }

    /// Puts the dead letters of one stream or of all back into the outboxes, from which they are sent once more. Gives what
    /// became of them, by stream; `None` when there is no such stream. Reads and writes files.
    ///
    /// # Errors
    /// When a file cannot be read or written; what was put back before stays so.
    pub fn revive(&self, only: Option<&str>) -> io::Result<Option<BTreeMap<String, Revived>>> {
        let streams = self.streams.load_full();
        if only.is_some_and(|only| !streams.by_name.contains_key(only)) {
            return Ok(None);
        }
        let mut revived = BTreeMap::new();
        for (name, pipeline) in &streams.by_name {
            if only.is_none_or(|only| only == name) {
                revived.insert(name.clone(), pipeline.revive()?);
            }
        }
        Ok(Some(revived))
    }
}
