//! How many nodes a region needs for so many agents: `figures` measures what a node costs on this machine, the simulation says what
//! agents do after an outage of the core, `reckoning` multiplies and divides.

mod figures;
mod reckoning;

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};

use figures::Effort;
use reckoning::{Demand, Need, reckon};

use crate::node::{self, NodeArguments};
use crate::storm::agents_after_an_outage;
use crate::text::{bytes, grouped, print};

pub use figures::NodeFigures;

/// Nodes for each region, from what a node costs here.
#[derive(Debug, Parser)]
#[command(name = "capacity", version, args_conflicts_with_subcommands = true)]
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
    /// Agents of all regions together
    #[arg(long, default_value_t = 2_000_000, value_parser = clap::value_parser!(u64).range(1..=1_000_000_000))]
    agents: u64,
    /// Regions; any one of them may be gone
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=100))]
    regions: u32,
    /// Processors of a machine
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..=1024))]
    processors: u32,
    /// GiB of memory of a machine
    #[arg(long, default_value_t = 32, value_parser = clap::value_parser!(u32).range(2..=65_536))]
    memory: u32,
    /// Figures that an earlier run wrote, instead of measuring
    #[arg(long, value_name = "FILE")]
    figures: Option<PathBuf>,
    /// Writes what was measured
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Measures little: for tests
    #[arg(long)]
    small: bool,
}

type Failure = Box<dyn std::error::Error>;

/// Two million agents send 16,700 requests a second.
const REQUESTS_PER_AGENT: f64 = 16_700.0 / 2_000_000.0;
const RECONNECT_SECONDS: f64 = 300.0;
const BUSY: f64 = 0.6;
const MEMORY_PART: f64 = 0.5;
const MAX_CONNECTIONS: f64 = 100_000.0;

/// Runs with these arguments, the program's name first.
pub fn main(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let arguments = Arguments::parse_from(arguments);
    if let Some(Command::Node(arguments)) = arguments.command {
        return node::run(&arguments);
    }
    match run(&arguments.run) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("capacity: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &RunArguments) -> Result<(), Failure> {
    let figures: NodeFigures = match &arguments.figures {
        Some(path) => serde_json::from_str(&std::fs::read_to_string(path)?)?,
        None => {
            let effort = if arguments.small {
                Effort { agents: 50, requests_per_second: 50.0, time: Duration::from_secs(1) }
            } else {
                Effort { agents: 2_000, requests_per_second: 1_000.0, time: Duration::from_secs(10) }
            };
            let runtime = tokio::runtime::Runtime::new()?;
            runtime.block_on(figures::measure(effort))?
        }
    };
    if let Some(path) = &arguments.json {
        std::fs::write(path, serde_json::to_string_pretty(&figures)? + "\n")?;
    }
    let recovery = agents_after_an_outage(if arguments.small { 2_000 } else { 100_000 })?;
    let demand = Demand {
        agents: arguments.agents,
        regions: arguments.regions,
        requests_per_agent: REQUESTS_PER_AGENT,
        recovery: recovery.max(1.0),
        reconnect_seconds: RECONNECT_SECONDS,
        processors: arguments.processors.into(),
        busy: BUSY,
        memory: f64::from(arguments.memory) * f64::from(1 << 30),
        memory_part: MEMORY_PART,
        max_connections: MAX_CONNECTIONS,
    };
    print(&text(&demand, &figures, &reckon(&demand, &figures)));
    Ok(())
}

fn text(demand: &Demand, node: &NodeFigures, need: &Need) -> String {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "`as` saturates; they are positive")]
    let (whole, size) = (|value: f64| grouped(value.round() as u64), |value: f64| bytes(value.round() as u64));
    format!(
        "measured, on one processor of this machine, TLS 1.3:\n\
         \x20 update check {:.0} us, config fetch {:.0} us, poll {:.0} us, upload of 24 events {:.0} us, full handshake {:.0} us\n\
         \x20 an open connection {}, the node besides {}\n\
         simulated: agents bring {:.2} times their usual load after an outage of the core\n\
         assumed: {} requests/s of agents, a quarter of each kind; machines of {:.0} processors, {:.0} % busy, and {}, of which\n\
         \x20 {:.0} % for connections; {} connections a node; a lost region's agents connect elsewhere within {:.0} s\n\n\
         {} agents in {} regions: {} a region, {} when one region is gone, {} requests/s then\n\
         nodes of a region by processors {:.2}, by memory {:.2}, by connections {:.2}; with one to spare: {} nodes a region, {} in all\n",
        node.update_us,
        node.config_us,
        node.poll_us,
        node.upload_us,
        node.handshake_us,
        size(node.connection_bytes),
        size(node.base_bytes),
        demand.recovery,
        whole(demand.agents as f64 * demand.requests_per_agent),
        demand.processors,
        demand.busy * 100.0,
        size(demand.memory),
        demand.memory_part * 100.0,
        whole(demand.max_connections),
        demand.reconnect_seconds,
        grouped(demand.agents),
        demand.regions,
        whole(need.agents),
        whole(need.agents_without_one),
        whole(need.requests),
        need.by_processors,
        need.by_memory,
        need.by_connections,
        need.nodes,
        need.nodes * u64::from(demand.regions),
    )
}
