//! The scenario's command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueHint};

use crate::node::NodeArguments;

/// Agents upload through a node to a core while one fault after another is brought about: the node is killed, its files are
/// damaged, its disk is full, the core misbehaves in every way the contract speaks of. When it is over, every record that an agent
/// was told is safe must be at the core exactly once, or in the dead letters.
#[derive(Debug, Parser)]
#[command(name = "chaos", version, args_conflicts_with_subcommands = true, max_term_width = 100, after_help = AFTER_HELP)]
pub(super) struct Arguments {
    #[command(subcommand)]
    pub(super) command: Option<Command>,
    #[command(flatten)]
    pub(super) run: RunArguments,
}

const AFTER_HELP: &str = "Exit codes: 0 every line of the verdict passed; 1 one did not; 2 wrong arguments; 3 the scenario could \
not run to its end, be it that the node did not start again; 130 interrupted.";

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    #[command(hide = true)]
    Node(NodeArguments),
}

/// What a run is made of.
#[derive(Clone, Debug, Args)]
pub(super) struct RunArguments {
    /// The seed of the faults; a new one without
    #[arg(long)]
    pub(super) seed: Option<u64>,
    /// How many faults
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub(super) faults: u32,
    /// Uploads a second on each of the two streams, of 24 records each
    #[arg(long, default_value_t = 25.0, value_parser = rate)]
    pub(super) rate: f64,
    /// Where the figures go, for machines
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(super) json: Option<PathBuf>,
    /// Keep the node's configuration, data and log in this directory; a temporary one without, which stays when the run fails
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub(super) keep: Option<PathBuf>,
    /// Print the faults that the seed gives, and run nothing
    #[arg(long)]
    pub(super) list: bool,
}

fn rate(text: &str) -> Result<f64, String> {
    let rate: f64 = text.parse().map_err(|_| "a number is wanted")?;
    if (1.0..=10_000.0).contains(&rate) { Ok(rate) } else { Err("from 1 to 10,000".to_owned()) }
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
