//! The measurement's command line.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueHint};
use weir_fleet::Compression;

use crate::node::NodeArguments;

/// Measures what an upload costs: agents press 24 events at a time into a node that has one processor to itself, as fast as it takes
/// them, and so into a server that only reads and discards. Core and agents share another processor.
#[derive(Debug, Parser)]
#[command(name = "ingest", version, args_conflicts_with_subcommands = true, max_term_width = 100)]
pub(super) struct Arguments {
    #[command(subcommand)]
    pub(super) command: Option<Command>,
    #[command(flatten)]
    pub(super) run: RunArguments,
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    #[command(hide = true)]
    Node(NodeArguments),
    /// Run the server that only reads and discards, for the parent that holds the other end of standard input
    #[command(hide = true)]
    Floor(FloorArguments),
}

/// How a program is started that shall be the floor.
#[derive(Clone, Debug, Args)]
pub(super) struct FloorArguments {
    /// The one processor that it may run on
    #[arg(long)]
    pub(super) processor: Option<usize>,
    /// A directory with `server.pem` and `server.key`; plaintext without
    #[arg(long)]
    pub(super) tls: Option<PathBuf>,
}

/// What a measurement is made of.
#[derive(Clone, Debug, Args)]
pub(super) struct RunArguments {
    /// How long each figure of each round is measured, after a second of warming up
    #[arg(long, default_value = "5s", value_parser = duration)]
    pub(super) time: Duration,
    /// Rounds; the median counts
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub(super) rounds: u32,
    /// Keep-alive connections, each with one upload under way
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub(super) connections: u32,
    /// Uploads a second while bytes are measured
    #[arg(long, default_value_t = 500.0, value_parser = rate)]
    pub(super) bytes_rate: f64,
    /// How agents compress their uploads: gzip, zstd or lz4; not at all without
    #[arg(long)]
    pub(super) compress: Option<Compression>,
    /// Real events to draw from, one JSON object a line; a vocabulary that ships with the fleet without
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(super) events: Option<PathBuf>,
    /// The processor of the node and of the floor
    #[arg(long, default_value_t = 0)]
    pub(super) node_processor: usize,
    /// The processor of agents and core
    #[arg(long, default_value_t = 1)]
    pub(super) load_processor: usize,
    /// Let the system choose processors
    #[arg(long)]
    pub(super) unpinned: bool,
    /// Where the figures go, for machines
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(super) json: Option<PathBuf>,
}

fn duration(text: &str) -> Result<Duration, String> {
    let duration = weir_config::duration_from_text(text).map_err(|error| error.to_string())?;
    let bounds = Duration::from_secs(1)..=Duration::from_secs(60);
    if bounds.contains(&duration) { Ok(duration) } else { Err("from 1s to 1m".to_owned()) }
}

fn rate(text: &str) -> Result<f64, String> {
    let rate: f64 = text.parse().map_err(|_| "a number is wanted")?;
    if (1.0..=100_000.0).contains(&rate) { Ok(rate) } else { Err("from 1 to 100,000".to_owned()) }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_table_is_consistent() {
        Arguments::command().debug_assert();
    }
}
