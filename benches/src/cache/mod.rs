//! What the cache promises, measured: one request at the core for a crowd, purges of a million answers, the memory of each, the
//! time of a hit, a minute of a core that fails in every way, and a package for a thousand agents.
//!
//! All but the last two is the cache's own code in this process, with the composition root's parts around it and neither sockets nor
//! HTTP: what the cache does, apart from what carries it. The last two are the product as a process between real sockets.

mod alternation;
mod crowd;
mod figures;
mod latency;
mod packages;
mod purges;
mod report;
pub(crate) mod scene;
mod weight;

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::{Command as Process, ExitCode};

use clap::{Args, Parser, Subcommand, ValueEnum};
use serde::Serialize;

use self::alternation::Alternation;
use self::crowd::Crowd;
use self::latency::{Hits, OtherHits};
use self::packages::Download;
use self::purges::Purge;
use self::weight::{WeighArguments, Weight};
use crate::node::{self, NodeArguments};
use crate::text::print;

/// Measures what the cache promises.
#[derive(Debug, Parser)]
#[command(name = "cache", version, args_conflicts_with_subcommands = true)]
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
    #[command(hide = true)]
    Weigh(WeighArguments),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Part {
    Crowd,
    Purges,
    Weight,
    Latency,
    Alternation,
    Packages,
}

#[derive(Debug, Args)]
struct RunArguments {
    /// The parts to run
    #[arg(long, value_enum, value_delimiter = ',', default_values = ["crowd", "purges", "weight", "latency", "alternation", "packages"])]
    only: Vec<Part>,
    /// Callers of one cold key
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(2..=100_000))]
    callers: u32,
    /// Rounds of callers
    #[arg(long, default_value_t = 11, value_parser = clap::value_parser!(u32).range(1..=1000))]
    rounds: u32,
    /// Answers that are purged and weighed, and the keys of the largest cache whose hits are timed
    #[arg(long, default_value_t = 1_000_000, value_parser = clap::value_parser!(u32).range(10_000..=10_000_000))]
    objects: u32,
    /// MiB of a cache that is filled to its bound with answers of 1 KiB; 0 for none
    #[arg(long, default_value_t = 4096)]
    full_mib: u64,
    /// Seconds for which the core fails in turn
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u32).range(5..=3600))]
    time: u32,
    /// Agents that ask for one package
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..=20_000))]
    agents: u32,
    /// MiB of the package
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    package_mib: u32,
    /// Writes the figures for machines
    #[arg(long)]
    json: Option<PathBuf>,
}

/// All that was measured.
#[derive(Debug, Default, Serialize)]
struct Figures {
    crowds: Vec<Crowd>,
    purges: Vec<Purge>,
    weights: Vec<Weight>,
    full: Option<Weight>,
    hits: Vec<Hits>,
    other_hits: Vec<OtherHits>,
    alternation: Option<Alternation>,
    download: Option<Download>,
}

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Runs with these arguments. 1 when something that is promised did not hold, 3 when the run failed.
pub fn main(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let arguments = Arguments::parse_from(arguments);
    let ran = match arguments.command {
        Some(Command::Node(arguments)) => return node::run(&arguments),
        Some(Command::Weigh(arguments)) => weigh_here(arguments),
        None => run(&arguments.run),
    };
    ran.unwrap_or_else(|error| {
        eprintln!("cache: {error}");
        ExitCode::from(3)
    })
}

fn run(arguments: &RunArguments) -> Result<ExitCode, Failure> {
    let mut figures = Figures::default();
    for part in &arguments.only {
        match part {
            Part::Crowd => {
                for first_dies in [false, true] {
                    figures.crowds.push(crowd::measure(arguments.callers as usize, arguments.rounds, first_dies)?);
                }
                print(&report::crowds(&figures.crowds));
            }
            Part::Purges => {
                figures.purges = purges::measure(arguments.objects)?;
                print(&report::purges(&figures.purges));
            }
            Part::Weight => {
                for body in BODIES {
                    let objects = arguments.objects.min(u32::try_from(MAX_WEIGHED / body)?);
                    figures.weights.push(weigh_apart(body, objects, UNBOUNDED)?);
                }
                if arguments.full_mib > 0 {
                    figures.full = Some(weigh_apart(FULL_BODY, 100_000_000, arguments.full_mib << 20)?);
                }
                print(&report::weights(&figures.weights, figures.full.as_ref()));
            }
            Part::Latency => {
                let sizes: Vec<u32> = SIZES.into_iter().filter(|size| *size <= arguments.objects).collect();
                figures.hits = latency::measure(&sizes, HITS)?;
                figures.other_hits = latency::measure_others(HITS)?;
                print(&report::hits(&figures.hits, &figures.other_hits));
            }
            Part::Alternation => {
                let seen = alternation::measure(arguments.time)?;
                print(&report::alternation(&seen));
                figures.alternation = Some(seen);
            }
            Part::Packages => {
                let seen = packages::measure(arguments.agents, arguments.package_mib)?;
                print(&report::download(&seen));
                figures.download = Some(seen);
            }
        }
    }
    if let Some(file) = &arguments.json {
        std::fs::write(file, serde_json::to_vec_pretty(&figures)?)?;
    }
    Ok(if report::holds(&figures) { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

const BODIES: [usize; 4] = [100, 1024, 10_240, 102_400];
/// Bytes of bodies that are weighed at most.
const MAX_WEIGHED: usize = 12 << 30;
const FULL_BODY: usize = 1024;
const UNBOUNDED: u64 = 64 << 30;
const SIZES: [u32; 5] = [1_000, 10_000, 100_000, 1_000_000, 10_000_000];
const HITS: usize = 200_000;

fn weigh_here(arguments: WeighArguments) -> Result<ExitCode, Failure> {
    print(&serde_json::to_string(&weight::weigh(arguments)?)?);
    Ok(ExitCode::SUCCESS)
}

/// Weighs in a process of its own: this program, started again.
fn weigh_apart(body: usize, objects: u32, max_bytes: u64) -> Result<Weight, Failure> {
    let output = Process::new(std::env::current_exe()?)
        .args(["weigh", "--body", &body.to_string(), "--objects", &objects.to_string()])
        .args(["--max-bytes", &max_bytes.to_string()])
        .output()?;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).trim().to_owned().into());
    }
    Ok(serde_json::from_slice(&output.stdout)?)
}
