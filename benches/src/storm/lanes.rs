//! Uploads drown a node: they are refused, and orders to agents, their polls and the operators' probes go on as if nothing happened.

use std::io;
use std::time::Duration;

use tokio::time::{Instant, sleep};
use weir_fleet::{Fleet, FleetOptions, Press, PressCounts, PressOptions, Route, Uploads};

use super::config::NodeConfig;
use super::report::Report;
use super::stage::{POLLS, Stage, on_sockets};
use super::{Failure, Order, urgent};
use crate::status;
use crate::text::grouped;
use crate::verdict::{Line, line};
use crate::wire::{self, Connection};

/// The node works on few requests at once, so that uploads could fill it.
const MAX_REQUESTS: u32 = 6;
const UPLOADING: u32 = 64;
const PROBE: Duration = Duration::from_millis(100);

/// Runs the scenario.
pub(super) fn play(order: &Order) -> Result<Report, Failure> {
    on_sockets(run(order))
}

struct Seen {
    fleet: weir_fleet::FleetReport,
    uploads: PressCounts,
    /// From an order to its arrival.
    orders: Vec<Duration>,
    probes: Vec<Duration>,
    not_ready: usize,
    seconds: u64,
}

async fn run(order: &Order) -> Result<Report, Failure> {
    let (polls, uploads, seconds) = if order.small { (10.0, 1_000.0, 6) } else { (20.0, 8_000.0, 20) };
    let config = NodeConfig { max_requests: MAX_REQUESTS, classes: "telemetry = 0", ..NodeConfig::default() };
    let stage = Stage::set(config, order.switches).await?;
    let press = Press::start(PressOptions {
        target: stage.node.agents()?,
        tls: None,
        path: "/v1/events/process".to_owned(),
        connections: UPLOADING,
        uploads_per_second: Some(uploads),
        uploads: Uploads { events: 24, repeats: 0.7, with_eid: false, file: None, compression: None },
        seed: order.seed,
    })?;
    let time = Duration::from_secs(seconds);
    let options = FleetOptions { mix: POLLS, obey_retry_after: false, ..stage.fleet(100, polls, time)? };
    let fleet = Fleet::start(options)?;
    let end = Instant::now() + time;
    let mut connection = Connection::open(stage.node.agents()?).await?;
    let poll = async || {
        let names = "x-agent-id: agent-under-attack\r\nx-tenant-id: tenant-1\r\n";
        let (head, body) = connection.get(urgent::TASKS, names).await?;
        Ok((wire::status(&head), body))
    };
    let (orders, (probes, not_ready)) = tokio::try_join!(urgent::orders(&stage.core, end, poll), probes(&stage, end))?;
    let fleet = fleet.finish().await;
    let uploads = press.stop().await;
    stage.clear().await?;
    let seen = Seen { fleet, uploads, orders, probes, not_ready, seconds };
    Ok(Report { lines: judge(&seen, order.small), notes: vec![note(&seen)], ..Report::default() })
}

/// Operators ask whether the node is ready.
async fn probes(stage: &Stage, end: Instant) -> io::Result<(Vec<Duration>, usize)> {
    let admin = stage.node.admin()?;
    let (mut took, mut not_ready) = (Vec::new(), 0);
    while Instant::now() < end {
        let asked = Instant::now();
        not_ready += usize::from(status::get(admin, "/readyz").await.is_err());
        took.push(asked.elapsed());
        sleep(PROBE).await;
    }
    Ok((took, not_ready))
}

fn judge(seen: &Seen, small: bool) -> Vec<Line> {
    let polls = seen.fleet.routes.get(&Route::Tasks).cloned().unwrap_or_default();
    let bad = polls.sent - polls.ok;
    let shed = seen.uploads.refused as f64 / (seen.uploads.refused + seen.uploads.uploads).max(1) as f64;
    // A debug build on a busy machine is not what latencies are promised for.
    let most = |millis: f64| if small { 2_000.0 } else { millis };
    let probe = percentile(&seen.probes, 99);
    vec![
        // Whoever comes while one is worked on is refused: how many that are is up to the machine.
        line("uploads refused, of all", format!("{:.1} %", 100.0 * shed), "at least 30 %".to_owned(), shed >= 0.3),
        line("polls not answered well", grouped(bad), "0".to_owned(), bad == 0 && polls.ok > 0),
        line(
            "p99 of a poll",
            format!("{:.1} ms", polls.latency_ms.p99),
            format!("less than {:.0} ms", most(50.0)),
            polls.latency_ms.p99 < most(50.0),
        ),
        line(
            "p99 of /readyz",
            format!("{:.1} ms", probe.as_secs_f64() * 1_000.0),
            format!("less than {:.0} ms", most(20.0)),
            probe.as_secs_f64() * 1_000.0 < most(20.0),
        ),
        line("/readyz without 200", seen.not_ready.to_string(), "0".to_owned(), seen.not_ready == 0),
        urgent::judge(&seen.orders),
    ]
}

fn note(seen: &Seen) -> String {
    let polls = seen.fleet.routes.get(&Route::Tasks).map_or(0, |route| route.sent);
    let uploads = seen.uploads.uploads + seen.uploads.refused;
    format!(
        "{:.0} uploads/s and {:.0} polls/s for {} s; {} orders",
        uploads as f64 / seen.seconds as f64,
        polls as f64 / seen.seconds as f64,
        seen.seconds,
        seen.orders.len()
    )
}

fn percentile(values: &[Duration], percent: usize) -> Duration {
    let mut sorted = values.to_vec();
    sorted.sort_unstable();
    sorted.get(sorted.len().saturating_sub(1) * percent / 100).copied().unwrap_or(Duration::MAX)
}
