//! The measurement's command line.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum, ValueHint};

use super::subject::{Protocol, Subject};
use crate::node::NodeArguments;

/// Measures a node beside nginx and Varnish, and beside servers that do next to nothing. nginx and Varnish are looked for in PATH
/// and in /usr/sbin (Debian: `apt-get install nginx varnish`); `--subjects` leaves them out.
#[derive(Debug, Parser)]
#[command(name = "peers", version, args_conflicts_with_subcommands = true, max_term_width = 100)]
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
    /// Run a server that is no product, for the parent that holds the other end of standard input
    #[command(hide = true)]
    Floor(FloorArguments),
    /// Become another program, on one processor
    #[command(hide = true)]
    Pinned(PinnedArguments),
}

/// What a server does that is no product.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Shape {
    /// A loop over sockets that answers every head with the same bytes.
    Loop,
    /// hyper: `GET` gets the object, a `POST` is read, dropped and answered 202.
    Hyper,
}

/// How a program is started that shall be such a server.
#[derive(Clone, Debug, Args)]
pub(super) struct FloorArguments {
    #[arg(long, value_enum)]
    pub(super) shape: Shape,
    /// The one processor that it may run on
    #[arg(long)]
    pub(super) processor: usize,
    /// A directory with `server.pem` and `server.key`; plaintext without
    #[arg(long)]
    pub(super) tls: Option<PathBuf>,
}

/// Another program on one processor.
#[derive(Clone, Debug, Args)]
pub(super) struct PinnedArguments {
    #[arg(long)]
    pub(super) processor: usize,
    /// The program and its arguments
    #[arg(last = true, required = true)]
    pub(super) command: Vec<OsString>,
}

/// What can be measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Part {
    /// An object of 1 KiB out of the cache.
    Hits,
    /// Uploads of 2 KB, durable before they are answered.
    Uploads,
    /// New connections, each with one request.
    Opened,
    /// Hits at one rate over few connections and over many.
    Breadth,
    /// Memory of idle connections.
    Idle,
}

/// What a measurement is made of.
#[derive(Clone, Debug, Args)]
pub(super) struct RunArguments {
    /// The parts to run
    #[arg(long, value_enum, value_delimiter = ',', default_values = ["hits", "uploads", "opened", "breadth", "idle"])]
    pub(super) only: Vec<Part>,
    /// Who is measured
    #[arg(long, value_enum, value_delimiter = ',', default_values = ["weir", "nginx", "varnish", "hyper", "loop"])]
    pub(super) subjects: Vec<Subject>,
    /// The versions of HTTP over which hits are measured
    #[arg(long, value_enum, value_delimiter = ',', default_values = ["h1", "h2"])]
    pub(super) protocols: Vec<Protocol>,
    /// How long each figure of each round is measured, after a second of warming up
    #[arg(long, default_value = "4s", value_parser = duration)]
    pub(super) time: Duration,
    /// Rounds; the median counts
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub(super) rounds: u32,
    /// Keep-alive connections of HTTP/1.1
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=5_000))]
    pub(super) connections: u32,
    /// New connections of each figure of each round
    #[arg(long, default_value_t = 2_000, value_parser = clap::value_parser!(u32).range(100..=100_000))]
    pub(super) opened: u32,
    /// Idle connections, and the many of `breadth`; a process must be allowed as many open files
    #[arg(long, default_value_t = 15_000, value_parser = clap::value_parser!(u32).range(100..=1_000_000))]
    pub(super) idle: u32,
    /// The processor of the servers
    #[arg(long, default_value_t = 0)]
    pub(super) server_processor: usize,
    /// The processor of the clients
    #[arg(long, default_value_t = 1)]
    pub(super) load_processor: usize,
    /// Where the figures go, for machines
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(super) json: Option<PathBuf>,
}

fn duration(text: &str) -> Result<Duration, String> {
    let duration = weir_config::duration_from_text(text).map_err(|error| error.to_string())?;
    let bounds = Duration::from_secs(1)..=Duration::from_secs(60);
    if bounds.contains(&duration) { Ok(duration) } else { Err("from 1s to 1m".to_owned()) }
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
