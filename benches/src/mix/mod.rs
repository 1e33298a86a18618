//! The standard mix at several rates: what it costs a node on one processor, what of it the core sees, how long agents wait.
//!
//! The node is the demo's, in front of the demo's core and agents, without an outage. It has one processor and one thread; agents and
//! core have another one. Where that is busy all the time, the agents are late with their requests and latencies are theirs; the
//! probe is on time.

mod probe;

use std::ffi::OsString;
use std::io;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueHint};
use serde::Serialize;
use tokio::time::{Instant, sleep};
use weir_core_sim::{CoreOptions, CoreSim};
use weir_fleet::{Fleet, FleetOptions, FleetReport, Latency, Route};

use crate::demo::{StandardMix, route_name};
use crate::node::{self, Node, NodeArguments, Usage};
use crate::place::Place;
use crate::text::{bytes, print};

use self::probe::{Probe, Probed};

/// Measures the standard mix at several rates.
#[derive(Debug, Parser)]
#[command(name = "mix", version, args_conflicts_with_subcommands = true, max_term_width = 100)]
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

#[derive(Debug, Args)]
struct RunArguments {
    /// Requests a second of all agents together, one run each
    #[arg(long, value_delimiter = ',', default_values_t = [1_000, 10_000, 16_700], value_parser = clap::value_parser!(u32).range(1..=100_000))]
    rates: Vec<u32>,
    /// Agents, each with one TLS connection
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    agents: u32,
    /// Seconds that are measured, after fifteen to warm up
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u32).range(1..=3600))]
    time: u32,
    /// The processor of the node
    #[arg(long, default_value_t = 0)]
    node_processor: usize,
    /// The processor of agents and core
    #[arg(long, default_value_t = 1)]
    load_processor: usize,
    /// Where the figures go, for machines
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    json: Option<PathBuf>,
}

/// What one rate was found to cost.
#[derive(Debug, Serialize)]
struct Figures {
    wanted_per_second: u32,
    /// Requests begun a second; fewer than wanted where the agents' processor is not up to it.
    per_second: f64,
    events_per_second: f64,
    /// Requests of agents for one at the core.
    relief: f64,
    /// Processor time over the time that passed.
    node_busy: f64,
    load_busy: f64,
    /// Microseconds of the node's processor time for a request of the mix.
    cpu_micros: f64,
    node_peak_rss_bytes: u64,
    /// Answers of 400 and above, and requests without an answer.
    errors: u64,
    /// Microseconds that the probe waited for update checks: p50, p99, p99.9 and the longest.
    probe_micros: [u64; 4],
    /// Seconds from the beginning of the measurement to the longest of them.
    probe_longest_at: f64,
    /// By route, in milliseconds.
    latency: Vec<(&'static str, Latency)>,
}

/// Runs `mix` with these arguments, the program's name first, and says how it ended.
pub fn main(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let arguments = Arguments::parse_from(arguments);
    let ran = match arguments.command {
        Some(Command::Node(arguments)) => return node::run(&arguments),
        None => run(&arguments.run),
    };
    match ran {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("mix: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &RunArguments) -> io::Result<()> {
    // Before any thread is started, for threads take after the one that starts them.
    node::pin(arguments.load_processor)?;
    let allowed = rlimit::increase_nofile_limit(u64::MAX)?;
    if allowed < u64::from(arguments.agents) + 500 {
        return Err(io::Error::other(format!(
            "{} agents need as many open files; {allowed} are allowed",
            arguments.agents
        )));
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let mut all = Vec::new();
    for rate in &arguments.rates {
        let figures = runtime.block_on(measure(arguments, *rate))?;
        print(&text(&figures));
        all.push(figures);
    }
    runtime.shutdown_background();
    if let Some(path) = &arguments.json {
        let json = serde_json::to_string_pretty(&all).map_err(io::Error::other)?;
        std::fs::write(path, json + "\n")?;
    }
    Ok(())
}

/// Before figures count: caches fill.
const WARM_UP: Duration = Duration::from_secs(10);
/// From the time at which the agents are back: answers that expired meanwhile are fetched.
const SETTLING: Duration = Duration::from_secs(5);
/// More than the schedule is asked to last, so that it does not end before the measurement does.
const SPARE: Duration = Duration::from_secs(10);
const LOOK_EVERY: Duration = Duration::from_millis(100);

async fn measure(arguments: &RunArguments, rate: u32) -> io::Result<Figures> {
    let time = Duration::from_secs(arguments.time.into());
    let mix = StandardMix::new(arguments.agents, f64::from(rate), time + SPARE);
    let place = Place::new(None)?;
    let core = CoreSim::start(CoreOptions { read_rows: false, ..CoreOptions::default() }).await?;
    let config = place.write_config(&mix.config(core.address()))?;
    let mut node = Node::spawn(&config, Some(arguments.node_processor)).await?;
    node.ready().await?;
    // The same agents, so that what they ask for is known when it counts.
    let warming = FleetOptions { duration: WARM_UP, ..mix.fleet(&node, &place)? };
    Fleet::start(warming).map_err(io::Error::other)?.finish().await;
    let fleet = Fleet::start(mix.fleet(&node, &place)?).map_err(io::Error::other)?;
    while fleet.snapshot().started_unix_ms == 0 {
        if node.is_gone() {
            return Err(node.failure("the node has ended"));
        }
        sleep(LOOK_EVERY).await;
    }
    sleep(SETTLING).await;
    let before = Mark::new(&fleet, &core, &node)?;
    let probe = Probe::start(&mix.fleet(&node, &place)?)?;
    sleep(time).await;
    let after = Mark::new(&fleet, &core, &node)?;
    let probed = probe.finish()?;
    let report = fleet.stop().await;
    node.kill().await;
    place.leave()?;
    Ok(after.since(&before, rate, &report, &probed))
}

struct Mark {
    at: Instant,
    fleet: FleetReport,
    core_requests: u64,
    node: Usage,
    load: Usage,
}

impl Mark {
    fn new(fleet: &Fleet, core: &CoreSim, node: &Node) -> io::Result<Self> {
        Ok(Self {
            at: Instant::now(),
            fleet: fleet.snapshot(),
            core_requests: core.snapshot().requests,
            node: node.usage().ok_or_else(|| node.failure("the node has ended"))?,
            load: node::usage(std::process::id()).unwrap_or_default(),
        })
    }

    fn since(&self, before: &Self, rate: u32, whole: &FleetReport, probed: &Probed) -> Figures {
        let seconds = (self.at - before.at).as_secs_f64();
        let requests = (self.fleet.agent_requests - before.fleet.agent_requests) as f64;
        let events = (self.fleet.records.acknowledged - before.fleet.records.acknowledged) as f64;
        let at_core = (self.core_requests - before.core_requests).max(1) as f64;
        let node = self.node.cpu_seconds - before.node.cpu_seconds;
        let errors = |fleet: &FleetReport| {
            let of_route = fleet
                .routes
                .values()
                .map(|route| route.statuses.range(400..).map(|(_, count)| count).sum::<u64>() + route.errors.total());
            of_route.sum::<u64>()
        };
        let latency = |route: &Route| whole.routes.get(route).map(|report| (route_name(*route), report.latency_ms));
        Figures {
            wanted_per_second: rate,
            per_second: requests / seconds,
            events_per_second: events / seconds,
            relief: requests / at_core,
            node_busy: node / seconds,
            load_busy: (self.load.cpu_seconds - before.load.cpu_seconds) / seconds,
            cpu_micros: node / requests.max(1.0) * 1e6,
            node_peak_rss_bytes: self.node.peak_rss_bytes,
            errors: errors(&self.fleet) - errors(&before.fleet),
            probe_micros: [0.5, 0.99, 0.999, 1.0].map(|quantile| probed.latencies.value_at_quantile(quantile)),
            probe_longest_at: probed.longest_at.as_secs_f64(),
            latency: Route::ALL.iter().filter_map(latency).collect(),
        }
    }
}

fn text(figures: &Figures) -> String {
    let mut text = format!(
        "{} requests/s wanted: {:.0} and {:.0} events/s, {:.0} for one at the core, {} errors\n  the node: {:.2} of its processor, \
         {:.0} us a request, {}; agents and core: {:.2} of theirs\n",
        figures.wanted_per_second,
        figures.per_second,
        figures.events_per_second,
        figures.relief,
        figures.errors,
        figures.node_busy,
        figures.cpu_micros,
        bytes(figures.node_peak_rss_bytes),
        figures.load_busy,
    );
    let [p50, p99, p999, longest] = figures.probe_micros.map(|micros| micros as f64 / 1000.0);
    text += &format!(
        "  the probe       p50 {p50:>7.2} ms  p99 {p99:>7.2} ms  p99.9 {p999:>7.2} ms  longest {longest:.2} ms after {:.1} s\n",
        figures.probe_longest_at
    );
    for (name, Latency { p50, p99, p999, .. }) in &figures.latency {
        text += &format!("  {name:<15} p50 {p50:>7.2} ms  p99 {p99:>7.2} ms  p99.9 {p999:>7.2} ms\n");
    }
    text
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
