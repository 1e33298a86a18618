//! The demo's command line.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueHint};

use crate::node::NodeArguments;

/// Shows what Weir is worth: a core, one node and a fleet of agents on this machine, an outage of the core in the middle, and a
/// verdict at the end. Everything stays on loopback; no privilege and no installed service is needed.
#[derive(Debug, Parser)]
#[command(name = "demo", version, args_conflicts_with_subcommands = true, max_term_width = 100, after_help = AFTER_HELP)]
pub(super) struct Arguments {
    #[command(subcommand)]
    pub(super) command: Option<Command>,
    #[command(flatten)]
    pub(super) run: RunArguments,
}

const AFTER_HELP: &str = "Exit codes: 0 every line of the verdict passed; 1 one did not; 2 wrong arguments; 3 the demo could not run; \
130 interrupted.";

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Read a file that --json wrote, check that it is complete, and judge it again: exit 0 or 1
    Verdict {
        /// The file
        #[arg(value_hint = ValueHint::FilePath)]
        file: PathBuf,
    },
    /// Run the node; the demo starts itself with this, and the node ends when its standard input does
    #[command(hide = true)]
    Node(NodeArguments),
}

/// What a run is made of.
#[derive(Clone, Debug, Args)]
pub(super) struct RunArguments {
    /// Agents, each with one TLS connection
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub(super) agents: u32,
    /// Requests a second of all agents together
    #[arg(long, default_value_t = 4_000.0, value_parser = rate)]
    pub(super) rate: f64,
    /// How long the agents keep it up, once all are connected
    #[arg(long, default_value = "90s", value_parser = duration)]
    pub(super) duration: Duration,
    /// The part of that time for which the core is down, in the middle
    #[arg(long, default_value_t = 1.0 / 3.0, value_parser = fraction, hide_default_value = true)]
    pub(super) outage: f64,
    /// The time over which repeats of an event are counted; the demo waits as long at its end
    #[arg(long, default_value = "30s", value_parser = duration)]
    pub(super) window: Duration,
    /// Real events to draw from, one JSON object a line; a vocabulary that ships with the fleet without
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(super) events: Option<PathBuf>,
    /// The seed of every choice that the agents make
    #[arg(long, default_value_t = 1)]
    pub(super) seed: u64,
    /// Worker threads of the node; one for each processor without
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub(super) threads: Option<u16>,
    /// Connections opened a second before the clock starts
    #[arg(long, default_value_t = 500.0, value_parser = rate)]
    pub(super) handshakes: f64,
    /// Compare the ledger key by key as well; done without asking where fewer than 500,000 records are expected
    #[arg(long)]
    pub(super) by_key: bool,
    /// Lines instead of a block that is drawn anew; done without asking where standard output is no terminal
    #[arg(long)]
    pub(super) plain: bool,
    /// Where the figures go, for machines
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(super) json: Option<PathBuf>,
    /// Where the report goes, one HTML file that needs nothing else
    #[arg(long, value_name = "FILE", default_value = "demo-report.html", value_hint = ValueHint::FilePath)]
    pub(super) report: PathBuf,
    /// Keep the node's configuration, certificates, data and log in this directory; a temporary one without
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub(super) keep: Option<PathBuf>,
    /// Print the configuration that the node would get, and run nothing
    #[arg(long)]
    pub(super) show_config: bool,
}

fn duration(text: &str) -> Result<Duration, String> {
    let duration = weir_config::duration_from_text(text).map_err(|error| error.to_string())?;
    let bounds = Duration::from_secs(1)..=Duration::from_secs(3600);
    if bounds.contains(&duration) { Ok(duration) } else { Err("from 1s to 1h".to_owned()) }
}

fn rate(text: &str) -> Result<f64, String> {
    let rate: f64 = text.parse().map_err(|_| "a number is wanted")?;
    if (1.0..=1e6).contains(&rate) { Ok(rate) } else { Err("from 1 to 1,000,000".to_owned()) }
}

fn fraction(text: &str) -> Result<f64, String> {
    let fraction: f64 = match text.strip_suffix('%') {
        Some(percent) => percent.trim().parse::<f64>().map(|percent| percent / 100.0),
        None => text.parse(),
    }
    .map_err(|_| "a ratio is wanted, such as 0.33 or 33%")?;
    if (0.0..=0.8).contains(&fraction) { Ok(fraction) } else { Err("from 0 to 0.8".to_owned()) }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_table_is_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn without_arguments_it_is_the_run_of_the_readme() {
        let run = Arguments::parse_from(["demo"]).run;
        assert_eq!((run.agents, run.duration), (10_000, Duration::from_secs(90)));
        assert!((run.rate - 4_000.0).abs() < 1e-9);
    }

    #[test]
    fn ratios_are_written_as_people_write_them() {
        assert!((fraction("25%").unwrap() - 0.25).abs() < 1e-9);
        assert!((fraction("0.5").unwrap() - 0.5).abs() < 1e-9);
        assert!(fraction("90%").is_err());
    }
}
