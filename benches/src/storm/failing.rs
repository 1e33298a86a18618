//! The core answers every request with 500. What agents ask for that only it could answer must not be asked of it again and again.

use std::time::Duration;

use tokio::time::sleep;
use weir_core_sim::Behaviour;
use weir_fleet::{Fleet, FleetReport, Mix};

use super::config::NodeConfig;
use super::report::{Curve, Panel, Report};
use super::stage::{Stage, on_sockets};
use super::{Failure, Order};
use crate::status;
use crate::text::grouped;
use crate::verdict::{Line, line};

/// What only the core can answer is sent as update checks of this path; the rest goes on beside it.
const ROUTE: &str = r#"
[[route]]
name = "echo"
match = { method = "GET", path = "/v1/echo" }
class = "config"
action = "forward"
"#;
const MIX: Mix = Mix { update: 0.5, config: 0.1, tasks: 0.2, upload: 0.2 };

/// Seconds from the first request: all is well, the core fails, and what comes after.
const FAILS: u64 = 5;
const BACK: u64 = 20;
const END: u64 = 35;
/// The breaker's cooldown is a second at first and eight at last; nothing else is asked of a core that fails.
const PROBES: u64 = 12;

/// Runs the scenario.
pub(super) fn play(order: &Order) -> Result<Report, Failure> {
    on_sockets(run(order))
}

/// What was seen.
struct Seen {
    /// Requests of agents, those not answered well, and requests at the core, while it failed.
    offered: u64,
    turned_away: u64,
    attempts: u64,
    /// Retries that the gate has granted until then.
    retries: u64,
    fleet: FleetReport,
    at_core: Vec<u32>,
}

async fn run(order: &Order) -> Result<Report, Failure> {
    let (agents, rate) = if order.small { (100, 80.0) } else { (1_000, 500.0) };
    let config = NodeConfig {
        more: ROUTE.to_owned(),
        ramp: Duration::from_secs(5),
        window: Duration::from_millis(100),
        ..NodeConfig::default()
    };
    let stage = Stage::set(config, order.switches).await?;
    let mut options = stage.fleet(agents, rate, Duration::from_secs(END))?;
    options.mix = MIX;
    options.paths.update = "/v1/echo".to_owned();
    let mut fleet = Fleet::start(options)?;
    fleet.ramped_up().await;
    sleep(Duration::from_secs(FAILS)).await;
    stage.core.script(Behaviour::status(500))?;
    // Whatever is under way then is answered as before.
    sleep(Duration::from_secs(1)).await;
    let (before, seen_before) = (fleet.snapshot(), stage.core.snapshot().requests);
    sleep(Duration::from_secs(BACK - FAILS - 1)).await;
    let (after, seen_after) = (fleet.snapshot(), stage.core.snapshot().requests);
    let retries = status::retries(stage.node.admin()?).await?;
    stage.core.script(Behaviour::Up)?;
    let fleet = fleet.finish().await;
    let at_core = stage.core.snapshot().per_second;
    stage.clear().await?;
    let turned_away = |fleet: &FleetReport| fleet.routes.values().map(|route| route.sent - route.ok).sum::<u64>();
    let seen = Seen {
        offered: after.agent_requests - before.agent_requests,
        turned_away: turned_away(&after) - turned_away(&before),
        attempts: seen_after - seen_before,
        retries,
        fleet,
        at_core,
    };
    Ok(Report {
        lines: judge(&seen),
        notes: vec![format!(
            "{} requests of agents while it failed, of which {} were told to come back; {} retries at the gate",
            grouped(seen.offered),
            grouped(seen.turned_away),
            grouped(seen.retries)
        )],
        panels: vec![Panel {
            title: "requests/s".to_owned(),
            curves: vec![
                Curve::new("of agents", seen.fleet.series.iter().map(|second| f64::from(second.requests))),
                Curve::new("at the core", seen.at_core.iter().map(|count| f64::from(*count))),
            ],
        }],
        moments: vec![(5, "the core fails".to_owned()), (20, "it is well again".to_owned())],
        ..Report::default()
    })
}

fn judge(seen: &Seen) -> Vec<Line> {
    let Seen { offered, attempts, .. } = *seen;
    let statuses = seen.fleet.routes.values().flat_map(|route| &route.statuses);
    let misleading: u64 = statuses.filter(|(status, _)| matches!(status, 400..=407)).map(|(_, count)| count).sum();
    let last = good_at_the_end(&seen.fleet);
    vec![
        line(
            "requests at the core that fails, from a second on",
            grouped(attempts),
            format!("at most {PROBES}: the breaker's probes"),
            attempts <= PROBES && attempts > 0,
        ),
        line(
            "attempts over what was offered",
            format!("{:.3}", attempts as f64 / offered.max(1) as f64),
            "at most 1.1".to_owned(),
            attempts as f64 <= 1.1 * offered as f64 && offered > 0,
        ),
        line("answers that blame the agent (400 to 407)", grouped(misleading), "0".to_owned(), misleading == 0),
        line("good answers in the last 3 s, of all", format!("{last:.1} %"), "at least 99 %".to_owned(), last >= 99.0),
    ]
}

fn good_at_the_end(fleet: &FleetReport) -> f64 {
    let last = fleet.series.iter().filter(|second| (END - 4..END - 1).contains(&u64::from(second.second)));
    let (good, all) = last.fold((0, 0), |(good, all), second| (good + second.ok, all + second.requests));
    100.0 * f64::from(good) / f64::from(all.max(1))
}
