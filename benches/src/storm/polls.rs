//! Polls for tasks by the thousand, and what the core sees of them.

use std::time::Duration;

use weir_fleet::{Fleet, FleetOptions, FleetReport, Route};

use super::config::NodeConfig;
use super::report::{Curve, Panel, Report};
use super::stage::{POLLS, Stage, fleet_at, on_sockets};
use super::{Failure, Order};
use crate::text::grouped;
use crate::verdict::line;

/// The window of the lookup, and what an answer may take longer than that.
const WINDOW: Duration = Duration::from_millis(25);
const MARGIN_MS: f64 = 5.0;
/// On a busy machine, in a debug build.
const SMALL_MARGIN_MS: f64 = 2_000.0;

/// Runs the scenario.
pub(super) fn play(order: &Order) -> Result<Report, Failure> {
    on_sockets(run(order))
}

async fn run(order: &Order) -> Result<Report, Failure> {
    let (agents, rate, seconds) = if order.small { (200, 200.0, 5) } else { (2_000, 2_500.0, 15) };
    let time = Duration::from_secs(seconds);
    let stage = Stage::set(NodeConfig { window: WINDOW, ..NodeConfig::default() }, order.switches).await?;
    // What the machine and the core take is measured first, without a node.
    let plain = FleetOptions { mix: POLLS, ..fleet_at(stage.core.address(), agents, rate, time) };
    let direct = Fleet::start(plain)?.finish().await;
    let before = stage.core.snapshot();
    let weir = Fleet::start(FleetOptions { mix: POLLS, ..stage.fleet(agents, rate, time)? })?.finish().await;
    let after = stage.core.snapshot();
    stage.clear().await?;

    let seen = (after.requests - before.requests) as f64 / time.as_secs_f64();
    let p99 = |report: &FleetReport| report.routes.get(&Route::Tasks).map_or(f64::NAN, |route| route.latency_ms.p99);
    let added = p99(&weir) - p99(&direct);
    let most = WINDOW.as_secs_f64() * 1_000.0 + if order.small { SMALL_MARGIN_MS } else { MARGIN_MS };
    let polls = weir.routes.get(&Route::Tasks).cloned().unwrap_or_default();
    let bad = polls.sent - polls.ok;
    let panel = Panel {
        title: "requests/s".to_owned(),
        curves: vec![
            Curve::new("polls of agents", weir.series.iter().map(|second| f64::from(second.requests))),
            Curve::new(
                "at the core",
                after.per_second.iter().skip(before.per_second.len()).map(|count| f64::from(*count)),
            ),
        ],
    };
    Ok(Report {
        lines: vec![
            line("requests/s at the core", format!("{seen:.1}"), "at most 40".to_owned(), seen <= 40.0 && polls.ok > 0),
            line(
                "p99 of a poll, more than at the core itself",
                format!("{added:.1} ms"),
                format!("at most {most:.0} ms"),
                added <= most,
            ),
            line("polls not answered well", grouped(bad), "0".to_owned(), bad == 0),
        ],
        notes: vec![format!(
            "{:.0} polls/s of {agents} agents for {seconds} s; p99 {:.1} ms, at the core itself {:.1} ms",
            polls.ok as f64 / time.as_secs_f64(),
            p99(&weir),
            p99(&direct)
        )],
        panels: vec![panel],
        ..Report::default()
    })
}
