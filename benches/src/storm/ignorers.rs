//! The core is down, and agents whose requests only it could answer are refused: some obey the time that they are told, some ignore it,
//! some come back the sooner the more often they fail. What the others cost must be bounded, and nobody else may notice them.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Deserialize;
use tokio::time::Instant;
use weir_core_sim::Behaviour;
use weir_fleet::{Fleet, FleetOptions, FleetReport, Mix};

use super::config::NodeConfig;
use super::manners::{Crowd, Heard, Manners};
use super::report::Report;
use super::stage::{Stage, on_sockets};
use super::{Failure, Order};
use crate::node::Usage;
use crate::status;
use crate::text::grouped;
use crate::verdict::{Line, line};

/// What only the core can answer.
const ROUTE: &str = r#"
[[route]]
name = "echo"
match = { method = "GET", path = "/v1/echo" }
class = "config"
action = "forward"
"#;
/// What is answered without it.
const MIX: Mix = Mix { update: 0.3, config: 0.3, tasks: 0.4, upload: 0.0 };

/// Seconds in which the node gets to know its agents: three early returns, none within a second of its refusal.
const ACQUAINTANCE: Duration = Duration::from_secs(6);

/// Runs the scenario.
pub(super) fn play(order: &Order) -> Result<Report, Failure> {
    on_sockets(run(order))
}

/// How much of everything.
#[derive(Clone, Copy)]
struct Size {
    agents: u32,
    rate: f64,
    refused: u32,
    seconds: u64,
}

/// What was seen beside one kind of agents.
struct Seen {
    manners: Manners,
    fleet: FleetReport,
    heard: Heard,
    /// Processor time of the node, once it knew them.
    cpu_seconds: f64,
    /// Early returns by version.
    versions: BTreeMap<String, u64>,
}

async fn run(order: &Order) -> Result<Report, Failure> {
    let size = if order.small {
        Size { agents: 50, rate: 50.0, refused: 20, seconds: 12 }
    } else {
        Size { agents: 500, rate: 500.0, refused: 300, seconds: 25 }
    };
    let [one, two, three] = Manners::ALL.map(|manners| beside(manners, size, order));
    let seen = if order.small {
        // Nothing of what is judged then depends on how fast it goes.
        <[Seen; 3]>::from(tokio::try_join!(one, two, three)?)
    } else {
        [one.await?, two.await?, three.await?]
    };
    let [obeying, others @ ..] = &seen;
    let notes = seen.iter().map(|seen| note(seen, size)).collect();
    Ok(Report { lines: judge(obeying, others, size, order.small), notes, ..Report::default() })
}

/// One node, its core down, agents who can be answered without it, and agents of one kind who cannot.
async fn beside(manners: Manners, size: Size, order: &Order) -> Result<Seen, Failure> {
    let stage = Stage::set(NodeConfig { more: ROUTE.to_owned(), ..NodeConfig::default() }, order.switches).await?;
    stage.core.script(Behaviour::Down)?;
    let time = Duration::from_secs(size.seconds);
    let options = FleetOptions { mix: MIX, obey_retry_after: false, ..stage.fleet(size.agents, size.rate, time)? };
    let mut fleet = Fleet::start(options)?;
    fleet.ramped_up().await;
    let settled = Instant::now() + ACQUAINTANCE;
    let end = Instant::now() + time;
    let crowd = Crowd { manners, agents: size.refused, target: stage.node.agents()?, path: "/v1/echo", end, settled };
    let crowd = tokio::spawn(crowd.ask());
    tokio::time::sleep_until(settled).await;
    let before = usage(&stage)?;
    tokio::time::sleep_until(end).await;
    let cpu_seconds = usage(&stage)?.cpu_seconds - before.cpu_seconds;
    let versions = early_returns(&status::get(stage.node.admin()?, "/agents").await?)?;
    let (heard, fleet) = (crowd.await?, fleet.finish().await);
    stage.clear().await?;
    Ok(Seen { manners, fleet, heard, cpu_seconds, versions })
}

fn usage(stage: &Stage) -> Result<Usage, Failure> {
    Ok(stage.node.usage().ok_or("the system does not say what the node has used up")?)
}

fn early_returns(page: &str) -> Result<BTreeMap<String, u64>, Failure> {
    #[derive(Deserialize)]
    struct Page {
        versions: Vec<Version>,
    }
    #[derive(Deserialize)]
    struct Version {
        version: String,
        early_returns: u64,
    }
    let page: Page = serde_json::from_str(page)?;
    Ok(page.versions.into_iter().map(|version| (version.version, version.early_returns)).collect())
}

/// Requests that an agent gets answered a second, once it is known: one a pause, and the time between.
const MOST_A_SECOND: f64 = 1.5;
/// Times the processor time beside agents that obey.
const MOST_CPU: f64 = 2.5;

fn judge(obeying: &Seen, others: &[Seen], size: Size, small: bool) -> Vec<Line> {
    let bad: u64 = others.iter().chain([obeying]).map(|seen| unanswered(&seen.fleet)).sum();
    let mut lines = vec![line("requests of other agents not answered well", grouped(bad), "0".to_owned(), bad == 0)];
    for seen in others {
        let name = seen.manners.name();
        let rate = settled_rate(seen, size);
        lines.push(line(
            &format!("requests/s of an agent, of those that {name}"),
            format!("{rate:.2}"),
            format!("at most {MOST_A_SECOND}"),
            rate <= MOST_A_SECOND,
        ));
        let told = seen.versions.get(seen.manners.version()).copied().unwrap_or(0);
        lines.push(line(
            &format!("early returns of those that {name}, told by version"),
            grouped(told),
            format!("at least one of each: {}", size.refused),
            told >= u64::from(size.refused),
        ));
        let lost = seen.heard.lost;
        lines.push(line(&format!("their connections lost ({name})"), grouped(lost), "0".to_owned(), lost == 0));
        if small {
            continue;
        }
        let cpu = seen.cpu_seconds / obeying.cpu_seconds;
        lines.push(line(
            &format!("the node's processor time beside those that {name}, over that beside those that obey"),
            format!("{cpu:.2}"),
            format!("at most {MOST_CPU}"),
            cpu <= MOST_CPU,
        ));
        let (p99, before) = (slowest_p99(&seen.fleet), slowest_p99(&obeying.fleet));
        let most = (1.2 * before).max(before + 5.0);
        lines.push(line(
            &format!("p99 of other agents beside those that {name}"),
            format!("{p99:.1} ms"),
            format!("at most {most:.1} ms"),
            p99 <= most,
        ));
    }
    let blamed = obeying.versions.values().sum::<u64>();
    lines.push(line("early returns of those that obey", grouped(blamed), "0".to_owned(), blamed == 0));
    lines
}

fn settled_rate(seen: &Seen, size: Size) -> f64 {
    let seconds = Duration::from_secs(size.seconds).saturating_sub(ACQUAINTANCE).as_secs_f64();
    seen.heard.settled as f64 / seconds / f64::from(size.refused)
}

fn unanswered(fleet: &FleetReport) -> u64 {
    fleet.routes.values().map(|route| route.sent - route.ok).sum()
}

fn slowest_p99(fleet: &FleetReport) -> f64 {
    fleet.routes.values().map(|route| route.latency_ms.p99).fold(0.0, f64::max)
}

fn note(seen: &Seen, size: Size) -> String {
    let seconds = Duration::from_secs(size.seconds).saturating_sub(ACQUAINTANCE).as_secs_f64();
    format!(
        "{} agents that {}: {} requests, {:.2}/s of each in the end; the node took {:.1} % of a processor, {:.0} us a second for each of them; \
         p99 of others {:.1} ms",
        grouped(size.refused.into()),
        seen.manners.name(),
        grouped(seen.heard.requests),
        settled_rate(seen, size),
        100.0 * seen.cpu_seconds / seconds,
        1e6 * seen.cpu_seconds / seconds / f64::from(size.refused),
        slowest_p99(&seen.fleet)
    )
}
