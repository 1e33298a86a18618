//! One tenant asks fifty times as often as the others. They must not notice; nor must ten thousand agents that share an address.

use std::time::Duration;

use weir_fleet::{Fleet, FleetOptions, FleetReport, Route};

use super::config::NodeConfig;
use super::report::{Curve, Panel, Report};
use super::stage::{POLLS, Stage, on_sockets};
use super::{Failure, Order};
use crate::text::grouped;
use crate::verdict::{Line, line};

/// Tenants that ask as always, and their agents.
const TENANTS: u32 = 4;
const AGENTS_PER_TENANT: u32 = 8;
const OTHERS: u32 = TENANTS * AGENTS_PER_TENANT;
/// The noisy tenant's agents, each with one request at a time.
const NOISY: u32 = 400;
const TIMES: f64 = 50.0;
/// The numbers of its agents are lower than those of the others, whose tenants have other numbers too.
const FIRST_OTHER: u32 = 8_000;

/// Requests that the node works on at once: fewer than the noisy tenant would have under way. A fifth is left free by a tenant that wants
/// everything, and that is room for all the others, who ask for one thing at a time.
const MAX_REQUESTS: u32 = 5 * (OTHERS + 2);

/// Runs the scenario.
pub(super) fn play(order: &Order) -> Result<Report, Failure> {
    on_sockets(run(order))
}

async fn run(order: &Order) -> Result<Report, Failure> {
    // What a tenant has under way is what it asks for in a window: the slower, the longer.
    let (a_second, window, seconds) = if order.small { (4.0, 1_000, 8) } else { (20.0, 200, 20) };
    let time = Duration::from_secs(seconds);
    let config = NodeConfig {
        max_requests: MAX_REQUESTS,
        window: Duration::from_millis(window),
        // What a tenant is refused it asks for again at once: its share alone is to hold it.
        damped: false,
        ..NodeConfig::default()
    };
    let stage = Stage::set(config, order.switches).await?;
    let others = || -> Result<Fleet, Failure> {
        Ok(Fleet::start(FleetOptions {
            mix: POLLS,
            obey_retry_after: false,
            first_agent: FIRST_OTHER,
            agents_per_tenant: AGENTS_PER_TENANT,
            ..stage.fleet(OTHERS, a_second * f64::from(TENANTS), time)?
        })?)
    };
    let quiet = others()?.finish().await;
    let noise = Fleet::start(FleetOptions {
        mix: POLLS,
        obey_retry_after: false,
        agents_per_tenant: NOISY,
        ..stage.fleet(NOISY, a_second * TIMES, time + LEAD)?
    })?;
    let beside = others()?.finish().await;
    let noise = noise.finish().await;
    stage.clear().await?;
    let mut lines = judge(&quiet, &beside, &noise, order.small);
    lines.push(one_address(order).await?);
    Ok(Report {
        lines,
        notes: vec![format!(
            "{TENANTS} tenants with {:.0} polls/s each; one with {:.0}/s, of which {} of {} were refused",
            a_second,
            noise.agent_requests as f64 / (time + LEAD).as_secs_f64(),
            grouped(refused(&noise)),
            grouped(noise.agent_requests)
        )],
        panels: vec![Panel {
            title: "good answers/s beside the noise".to_owned(),
            curves: vec![curve("the others", &beside), curve("the noisy tenant", &noise)],
        }],
        ..Report::default()
    })
}

/// The others connect while the noise is there already.
const LEAD: Duration = Duration::from_secs(2);

/// As many agents as one address can have, with what agents ask for.
async fn one_address(order: &Order) -> Result<Line, Failure> {
    let (agents, rate, seconds) = if order.small { (300, 300.0, 4) } else { (10_000, 2_000.0, 15) };
    let stage = Stage::set(NodeConfig::default(), order.switches).await?;
    let options =
        FleetOptions { handshakes_per_second: 1_000.0, ..stage.fleet(agents, rate, Duration::from_secs(seconds))? };
    let fleet = Fleet::start(options)?.finish().await;
    stage.clear().await?;
    let bad: u64 = fleet.routes.values().map(|route| route.sent - route.ok).sum();
    Ok(line(
        &format!("requests of {} agents behind one address not answered well", grouped(agents.into())),
        format!("{} of {}", grouped(bad), grouped(fleet.agent_requests)),
        "0".to_owned(),
        bad == 0 && fleet.connected == 0 && fleet.agent_requests > 0,
    ))
}

fn judge(quiet: &FleetReport, beside: &FleetReport, noise: &FleetReport, small: bool) -> Vec<Line> {
    let bad = |fleet: &FleetReport| fleet.routes.values().map(|route| route.sent - route.ok).sum::<u64>();
    let p99 = |fleet: &FleetReport| fleet.routes.get(&Route::Tasks).map_or(f64::NAN, |route| route.latency_ms.p99);
    let all = noise.agent_requests;
    let mut lines = vec![
        line("polls of the others not answered well", grouped(bad(beside)), "0".to_owned(), bad(beside) == 0),
        line(
            "polls of the noisy tenant that the node answered all the same",
            format!("{:.0} %", 100.0 * (all - bad(noise)) as f64 / all.max(1) as f64),
            "at least 10 %".to_owned(),
            10 * (all - bad(noise)) >= all && all > 0,
        ),
    ];
    if !small {
        let most = 1.2 * p99(quiet);
        lines.push(line(
            "p99 of the others' polls",
            format!("{:.1} ms", p99(beside)),
            format!("at most 1.2 times that without the noise: {most:.1} ms"),
            p99(beside) <= most,
        ));
    }
    lines
}

fn refused(fleet: &FleetReport) -> u64 {
    let of = |status| fleet.routes.values().filter_map(|route| route.statuses.get(&status)).sum::<u64>();
    of(429) + of(503)
}

fn curve(name: &str, fleet: &FleetReport) -> Curve {
    Curve::new(name, fleet.series.iter().map(|second| f64::from(second.ok)))
}
