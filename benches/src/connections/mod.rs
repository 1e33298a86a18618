//! What agents' connections cost a node: memory while they are idle, processor time while they are opened.
//!
//! - `agents` are the clients, `memory` reads what a process holds;
//! - `measure` is one node under them; it takes an address and a process, so that any server can stand there.
//!
//! A node is a process of its own. Memory is the growth of its proportional set size (what it holds itself, and its part of what
//! it shares) from a node that has served some connections and closed them to one that holds all of them, each after one request.
//! Not in it: what the kernel holds for a socket. Processor time is user and system time of the node for a connection that is
//! opened, asks once and is closed.

mod agents;
mod measure;
mod memory;

use std::ffi::OsString;
use std::io;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use serde::Serialize;

use crate::node::{self, NodeArguments};
use crate::text::{grouped, print};
use agents::Way;

/// Measures what agents' connections cost a node.
#[derive(Debug, Parser)]
#[command(name = "connections", version, args_conflicts_with_subcommands = true)]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    run: RunArguments,
}

#[derive(Debug, Subcommand)]
enum Command {
    #[command(hide = true)]
    Node(NodeArguments),
}

#[derive(Clone, Debug, Args)]
struct RunArguments {
    /// Idle connections; the system must allow as many open files to a process
    #[arg(long, default_value_t = 15_000, value_parser = clap::value_parser!(u32).range(100..=1_000_000))]
    idle: u32,
    /// Connections that are opened, used once and closed, in each way and round
    #[arg(long, default_value_t = 2_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    opened: u32,
    /// Rounds, of which the median counts
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: u32,
    /// The processor that the node has for itself while connections are opened, where the system has several
    #[arg(long)]
    processor: Option<usize>,
    /// The figures for machines
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// What was measured.
#[derive(Clone, Debug, Default, Serialize)]
struct Figures {
    /// Idle connections of each way.
    idle: u32,
    ways: Vec<WayFigures>,
}

/// What connections of one way cost.
#[derive(Clone, Debug, Serialize)]
struct WayFigures {
    way: Way,
    /// Memory of an idle connection; not measured for ways that differ in the handshake only.
    bytes_idle: Option<f64>,
    /// Processor time of a connection that is opened, asks once and is closed: the median of the rounds.
    cpu_us: f64,
    rounds_cpu_us: Vec<f64>,
}

/// The goal: memory of an idle TLS connection.
const MOST_BYTES: f64 = 12.0 * 1024.0;

/// Runs with these arguments.
pub fn main(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let arguments = Arguments::parse_from(arguments);
    if let Some(Command::Node(arguments)) = arguments.command {
        return node::run(&arguments);
    }
    match run(&arguments.run) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("connections: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &RunArguments) -> io::Result<()> {
    // A system that allows fewer says so when a connection fails.
    rlimit::increase_nofile_limit(u64::MAX).ok();
    let runtime = tokio::runtime::Runtime::new()?;
    let figures = runtime.block_on(measure::all(arguments))?;
    print(&report(&figures));
    if let Some(path) = &arguments.json {
        std::fs::write(path, serde_json::to_string_pretty(&figures)? + "\n")?;
    }
    Ok(())
}

fn report(figures: &Figures) -> String {
    let mut text = format!("\n{:<24} {:>16} {:>22}\n", "", "idle, KiB each", "new, us of processor");
    for way in &figures.ways {
        let idle = way.bytes_idle.map_or_else(|| "-".to_owned(), |bytes| format!("{:.1}", bytes / 1024.0));
        text.push_str(&format!("{:<24} {idle:>16} {:>22.0}\n", way.way.name(), way.cpu_us));
    }
    let bytes = figures.ways.iter().find(|way| way.way == Way::Full).and_then(|way| way.bytes_idle).unwrap_or(0.0);
    let verdict = if bytes <= MOST_BYTES { "reached" } else { "missed" };
    text + &format!(
        "{} idle connections; the goal of 12 KiB for one with TLS is {verdict}\n",
        grouped(figures.idle.into())
    )
}
