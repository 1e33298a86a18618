//! What the configurations of many cold tenants cost the core: a node between a simulated core and clients on real sockets.
//!
//! Clients ask for the configuration of a tenant drawn at random, at a fixed rate on a few connections, each at its time however late
//! the last answer was. Counted are the core's bulk requests and keys, and what the node's answers say of themselves in
//! `Cache-Status`, after the first TTLs have passed.
//!
//! Not here: TLS, and many connections; both are the demo's.

use std::ffi::OsString;
use std::io;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};
use weir_core_sim::{CoreOptions, CoreSim};

use crate::node::{self, Node, NodeArguments};
use crate::place::Place;
use crate::text::{fill, print};
use crate::wire::Connection;

/// Measures what the configurations of many cold tenants cost the core.
#[derive(Debug, Parser)]
#[command(name = "lookups", version, args_conflicts_with_subcommands = true)]
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

#[derive(Clone, Copy, Debug, Args)]
struct RunArguments {
    /// Tenants, each with a configuration of its own
    #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    tenants: u32,
    /// Requests a second
    #[arg(long, default_value_t = 2_500, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    rate: u32,
    /// Seconds for which an answer is kept
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u32).range(1..=3600))]
    ttl: u32,
    /// Seconds past the TTL for which an answer is served while it is fetched anew; 0 for none
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u32).range(0..=3600))]
    stale: u32,
    /// The part of a TTL before its end at which answers are fetched anew; 0 for none
    #[arg(long, default_value_t = 0.1)]
    ahead: f64,
    /// Seconds that are measured, after two TTLs of warming up
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u32).range(1..=3600))]
    time: u32,
    /// Connections, so many that a request does not wait for the one before it
    #[arg(long, default_value_t = 640, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    connections: u32,
}

/// What clients were told, and when.
#[derive(Debug, Default)]
struct Told {
    fresh: u64,
    stale: u64,
    waited: u64,
    /// Answers other than 200.
    other: u64,
    /// From the time at which each request was due.
    latencies: Vec<Duration>,
    /// Those of who waited for a bulk request.
    waits: Vec<Duration>,
}

/// Runs with these arguments.
pub fn main(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let arguments = Arguments::parse_from(arguments);
    if let Some(Command::Node(arguments)) = arguments.command {
        return node::run(&arguments);
    }
    let ran = tokio::runtime::Runtime::new().and_then(|runtime| runtime.block_on(run(arguments.run)));
    match ran {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("lookups: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run(arguments: RunArguments) -> io::Result<()> {
    let place = Place::new(None)?;
    let core = CoreSim::start(CoreOptions::default()).await?;
    let values = [
        ("core", core.address().to_string()),
        ("ttl", format!("{}s", arguments.ttl)),
        ("stale", format!("{}s", arguments.stale)),
        ("ahead", format!("{:?}", arguments.ahead)),
    ];
    let mut node = Node::start(&place.write_config(&fill(TEMPLATE, &values))?).await?;
    let start = Instant::now();
    let measured_from = start + Duration::from_secs(u64::from(2 * arguments.ttl));
    let end = measured_from + Duration::from_secs(u64::from(arguments.time));
    let mut clients = JoinSet::new();
    for number in 0..arguments.connections {
        let client = Client { number, arguments, start, measured_from, end };
        clients.spawn(client.run(node.agents()?));
    }
    sleep_until(measured_from).await;
    let before = core.snapshot().lookups;
    sleep_until(end).await;
    let after = core.snapshot().lookups;
    let mut told = Told::default();
    while let Some(client) = clients.join_next().await {
        told.add(client.map_err(io::Error::other)??);
    }
    let node_usage = node.usage();
    node.kill().await;
    place.leave()?;
    let [requests, keys, unchanged] =
        [|of: &Lookups| of.bulk_requests, |of: &Lookups| of.keys, |of: &Lookups| of.keys_not_modified]
            .map(|of| of(&after) - of(&before));
    print(&report(arguments, &mut told, [requests, keys, unchanged]));
    if let Some(usage) = node_usage {
        print(&format!("the node's memory at its peak: {} MiB\n", usage.peak_rss_bytes >> 20));
    }
    Ok(())
}

type Lookups = weir_core_sim::LookupCounts;

const TEMPLATE: &str = include_str!("lookups.toml");

fn report(arguments: RunArguments, told: &mut Told, [requests, keys, unchanged]: [u64; 3]) -> String {
    let asked = told.fresh + told.stale + told.waited + told.other;
    let seconds = f64::from(arguments.time);
    let part = |count: u64| 100.0 * count as f64 / asked.max(1) as f64;
    format!(
        "{} tenants, TTL {} s: {:.0} requests/s of agents, {:.1} requests/s at the core with {:.0} keys each, \
         {:.1} % of the keys unchanged\n\
         fresh {:.1} %, stale while fetched anew {:.1} %, waited {:.1} %, other {:.3} %\n\
         p50 {:.1} ms, p99 {:.1} ms of all; of those who waited p50 {:.1} ms, p99 {:.1} ms\n",
        arguments.tenants,
        arguments.ttl,
        asked as f64 / seconds,
        requests as f64 / seconds,
        keys as f64 / requests.max(1) as f64,
        100.0 * unchanged as f64 / keys.max(1) as f64,
        part(told.fresh),
        part(told.stale),
        part(told.waited),
        part(told.other),
        millis(&mut told.latencies, 50),
        millis(&mut told.latencies, 99),
        millis(&mut told.waits, 50),
        millis(&mut told.waits, 99),
    )
}

/// So many in a hundred took no longer.
fn millis(latencies: &mut [Duration], percent: usize) -> f64 {
    latencies.sort_unstable();
    let place = latencies.len() * percent / 100;
    latencies.get(place).copied().unwrap_or_default().as_secs_f64() * 1000.0
}

/// One connection.
struct Client {
    number: u32,
    arguments: RunArguments,
    start: Instant,
    measured_from: Instant,
    end: Instant,
}

impl Client {
    async fn run(self, node: SocketAddr) -> io::Result<Told> {
        let mut connection = Connection::open(node).await?;
        let mut random = SmallRng::seed_from_u64(u64::from(self.number));
        let gap = Duration::from_secs_f64(f64::from(self.arguments.connections) / f64::from(self.arguments.rate));
        let mut due = self.start + gap.mul_f64(random.random());
        let mut told = Told::default();
        while due < self.end {
            sleep_until(due).await;
            let tenant = random.random_range(0..self.arguments.tenants);
            let (head, _) = connection.get("/v1/config", &format!("x-tenant-id: t-{tenant}\r\n")).await?;
            if due >= self.measured_from {
                told.note(&head, due.elapsed());
            }
            due += gap;
        }
        Ok(told)
    }
}

impl Told {
    fn note(&mut self, head: &str, latency: Duration) {
        let status = head.lines().find_map(|line| line.strip_prefix("cache-status:")).unwrap_or_default();
        let waited = !status.contains("; hit");
        let count = match () {
            () if !head.starts_with("http/1.1 200 ") => &mut self.other,
            () if status.contains("; hit") && status.contains("ttl=-") => &mut self.stale,
            () if status.contains("; hit") => &mut self.fresh,
            () => &mut self.waited,
        };
        *count += 1;
        self.latencies.push(latency);
        if waited {
            self.waits.push(latency);
        }
    }

    fn add(&mut self, other: Self) {
        self.fresh += other.fresh;
        self.stale += other.stale;
        self.waited += other.waited;
        self.other += other.other;
        self.latencies.extend(other.latencies);
        self.waits.extend(other.waits);
    }
}
