//! The incident once more, on real sockets: fewer agents, a shorter outage, and the product itself.

use std::time::Duration;

use tokio::time::sleep;
use weir_core_sim::Behaviour;
use weir_fleet::Fleet;

use super::config::NodeConfig;
use super::report::{Curve, Panel, Report};
use super::stage::{Stage, on_sockets};
use super::{Failure, Order};
use crate::text::grouped;
use crate::verdict::line;

/// Seconds from the first request: caches fill, all is well, the core is away, and what comes after.
const STEADY: usize = 25;
const DOWN: usize = 50;
const BACK: usize = 80;
const END: usize = 120;

const AGENTS: u32 = 3_000;
const RATE: f64 = 1_200.0;

/// A window each for tasks and configurations, update checks, batches; and how much more than that the core can stand.
const WINDOW: Duration = Duration::from_millis(200);
const TTL: Duration = Duration::from_secs(20);
const MEAN_TTL_SECONDS: f64 = 17.0;
const HEADROOM: f64 = 1.15;

/// Runs the sockets' part of the scenario.
pub(super) fn play(order: &Order) -> Result<Report, Failure> {
    on_sockets(run(order))
}

async fn run(order: &Order) -> Result<Report, Failure> {
    // A window opens with the first request that waits.
    let lookups = 1.0 / (WINDOW.as_secs_f64() + 4.0 / RATE);
    let told = ((2.0 * lookups + 50.0 / MEAN_TTL_SECONDS + 1.0) * HEADROOM).ceil();
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a few requests a second")]
    let max_requests_per_second = told as u32;
    let config = NodeConfig {
        tls: true,
        max_requests_per_second,
        window: WINDOW,
        ttl: TTL,
        ramp: Duration::from_secs(10),
        breaker_cooldown: Duration::from_millis(500),
        merge_window: Duration::from_secs(10),
        retry_max: Duration::from_secs(3),
        ..NodeConfig::default()
    };
    let stage = Stage::set(config, order.switches).await?;
    let mut fleet = Fleet::start(stage.fleet(AGENTS, RATE, Duration::from_secs(END as u64))?)?;
    fleet.ramped_up().await;
    sleep(Duration::from_secs(DOWN as u64)).await;
    stage.core.script(Behaviour::Down)?;
    sleep(Duration::from_secs((BACK - DOWN) as u64)).await;
    stage.core.script(Behaviour::Up)?;
    let fleet = fleet.finish().await;
    let core = stage.core.snapshot();
    stage.clear().await?;
    // The core's seconds began before the fleet's.
    let lead = usize::try_from(fleet.started_unix_ms.saturating_sub(core.started_unix_ms) / 1_000).unwrap_or(0);
    let seen: Vec<f64> = core.per_second.iter().skip(lead).map(|count| f64::from(*count)).collect();
    let mean = |from: usize, to: usize| seen.iter().take(to).skip(from).sum::<f64>() / (to - from) as f64;
    let before = mean(STEADY, DOWN);
    let peak = (BACK..END - 5).map(|start| mean(start, start + 5)).fold(0.0, f64::max);
    let most = (1.2 * before).max(told);
    let bad: u64 = fleet.routes.values().map(|route| route.sent - route.ok).sum();
    Ok(Report {
        lines: vec![
            line(
                "on sockets: requests/s at the core in its highest 5 s after its return",
                format!("{peak:.1}"),
                format!("at most {most:.1}"),
                before > 0.0 && peak <= most,
            ),
            line("on sockets: requests of agents not answered well", grouped(bad), "0".to_owned(), bad == 0),
        ],
        notes: vec![format!(
            "on sockets: {} agents on TLS, {} requests; at the core {before:.1}/s before the outage, the gate's rate is {told:.0}/s",
            grouped(AGENTS.into()),
            grouped(fleet.agent_requests)
        )],
        panels: vec![Panel {
            title: "on sockets: requests/s (core away from 50 s to 80 s)".to_owned(),
            curves: vec![
                Curve::new("agents", fleet.series.iter().map(|second| f64::from(second.requests))),
                Curve::new("at the core", seen.into_iter().take(END)),
            ],
        }],
        ..Report::default()
    })
}
