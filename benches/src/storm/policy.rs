//! An operator changes the policy of the whole fleet: the core has a new version of every configuration and every manifest, and the node is
//! told that all it keeps is out of date.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::sleep;
use weir_fleet::{Fleet, FleetOptions, FleetReport, Mix};

use super::config::NodeConfig;
use super::report::{Curve, Panel, Report};
use super::stage::{Stage, on_sockets};
use super::{Failure, Order};
use crate::status;
use crate::text::grouped;
use crate::verdict::{Line, line};
use crate::wire::{self, Connection};

/// Configurations and manifests; nothing else is changed.
const MIX: Mix = Mix { update: 0.7, config: 0.3, tasks: 0.0, upload: 0.0 };

/// What the node was told that the core can stand: some more than it sees on a quiet day, and far less than there are answers.
const PACE: u32 = 10;

/// Seconds from the first request: caches fill, all is well, the change, and what comes after.
const STEADY: usize = 12;
const CHANGE: usize = 20;
const REACH: usize = 15;
const END: usize = CHANGE + REACH + 3;

/// What agents ask for has these parts, as the fleet makes them up.
const CHANNELS: [&str; 5] = ["stable", "early", "lts", "beta", "canary"];
const PLATFORMS: [&str; 5] = ["windows-11", "windows-10", "windows-server-2022", "macos-15", "linux"];
const ARCHITECTURES: [&str; 2] = ["x64", "arm64"];

/// Runs the scenario.
pub(super) fn play(order: &Order) -> Result<Report, Failure> {
    on_sockets(run(order))
}

async fn run(order: &Order) -> Result<Report, Failure> {
    // Each agent is the only one of its tenant, so that there are as many configurations as agents; each asks for it every 2 or 3 s.
    let (agents, rate) = if order.small { (300, 450.0) } else { (1_000, 1_000.0) };
    let config = NodeConfig {
        max_requests_per_second: PACE,
        window: Duration::from_millis(500),
        // Every few seconds something expires: a quiet day has a load of its own.
        ttl: Duration::from_secs(12),
        ramp: Duration::ZERO,
        ..NodeConfig::default()
    };
    let stage = Stage::set(config, order.switches).await?;
    let mut fleet = Fleet::start(FleetOptions {
        mix: MIX,
        obey_retry_after: false,
        agents_per_tenant: 1,
        ..stage.fleet(agents, rate, Duration::from_secs(END as u64))?
    })?;
    fleet.ramped_up().await;
    sleep(Duration::from_secs(CHANGE as u64)).await;
    let before = fleet.snapshot();
    stage.core.bump_manifest();
    stage.core.bump_config(None);
    status::purge(stage.node.admin()?, r#"{"all":true,"soft":true}"#).await?;
    sleep(Duration::from_secs(REACH as u64)).await;
    let old = outdated(&stage, agents).await?;
    let fleet = fleet.finish().await;
    let core = stage.core.snapshot();
    stage.clear().await?;
    // The core's seconds began before the fleet's.
    let lead = usize::try_from(fleet.started_unix_ms.saturating_sub(core.started_unix_ms) / 1_000).unwrap_or(0);
    let seen: Vec<f64> = core.per_second.iter().skip(lead).take(END).map(|count| f64::from(*count)).collect();
    let bad = unanswered(&fleet) - unanswered(&before);
    let (lines, note) = judge(&seen, bad, old);
    Ok(Report {
        lines,
        notes: vec![format!("{} agents, each with a configuration of its own; {note}", grouped(agents.into()))],
        panels: vec![Panel {
            title: "requests/s".to_owned(),
            curves: vec![
                Curve::new("of agents", fleet.series.iter().map(|second| f64::from(second.requests))),
                Curve::new("at the core", seen),
            ],
        }],
        moments: vec![(u32::try_from(CHANGE).unwrap_or(0), "the policy changes".to_owned())],
        ..Report::default()
    })
}

fn judge(seen: &[f64], bad: u64, old: usize) -> (Vec<Line>, String) {
    // The core's seconds begin within the fleet's: the last one before the change may be that of the change.
    let changed = CHANGE - 1;
    let before = seen.iter().take(changed).skip(STEADY).sum::<f64>() / (changed - STEADY) as f64;
    let highest = seen.iter().skip(changed).copied().fold(0.0, f64::max);
    // The pace and its burst of a twentieth of a second; where a second begins is the core's to say.
    let most = (1.2 * before).max(f64::from(PACE) * 1.05 + 1.0);
    let lines = vec![
        line(
            "requests at the core in its highest second after the change",
            format!("{highest:.0}"),
            format!("at most {most:.1}"),
            before > 0.0 && highest <= most,
        ),
        line("requests of agents not answered well from the change on", grouped(bad), "0".to_owned(), bad == 0),
        line(
            &format!(
                "of {CONFIGURATIONS} configurations and 50 manifests, those of before that are still given {REACH} s later"
            ),
            old.to_string(),
            "0".to_owned(),
            old == 0,
        ),
    ];
    (lines, format!("at the core {before:.1} requests/s before the change, the gate's rate is {PACE}/s"))
}

/// Of so many configurations, and of all manifests, how many an agent that asks now is given as they were before the change.
async fn outdated(stage: &Stage, agents: u32) -> Result<usize, Failure> {
    let mut questions: Vec<Question> =
        (0..CONFIGURATIONS).map(|number| config(number * agents / CONFIGURATIONS)).collect();
    questions.extend((0..CHANNELS.len() * PLATFORMS.len() * ARCHITECTURES.len()).map(manifest));
    let target = stage.node.agents()?;
    // Where nothing stale is given each of them waits for its answer.
    let some = questions.chunks(questions.len().div_ceil(CONNECTIONS)).map(<[_]>::to_vec);
    let mut askers: JoinSet<std::io::Result<usize>> = some.map(|some| count_old(target, some)).collect();
    let mut old = 0;
    while let Some(counted) = askers.join_next().await {
        old += counted??;
    }
    Ok(old)
}

/// Configurations that are looked at, and the connections over which.
const CONFIGURATIONS: u32 = 100;
const CONNECTIONS: usize = 15;

/// What is asked for, who asks, and what the new answer holds.
#[derive(Clone, Debug)]
struct Question {
    target: String,
    names: String,
    holds: &'static str,
}

fn config(number: u32) -> Question {
    let names = format!("x-agent-id: late-{number}\r\nx-tenant-id: tenant-{number:05}\r\n");
    Question { target: "/v1/config".to_owned(), names, holds: r#""version":2,"# }
}

fn manifest(at: usize) -> Question {
    let (channel, platform, architecture) = (CHANNELS[at % 5], PLATFORMS[at / 5 % 5], ARCHITECTURES[at / 25]);
    Question {
        target: format!("/v1/updates/{channel}/manifest.json?platform={platform}&arch={architecture}"),
        names: format!("x-agent-id: later-{at}\r\nx-tenant-id: tenant-00000\r\n"),
        holds: r#""version":"7.2.0""#,
    }
}

async fn count_old(target: SocketAddr, questions: Vec<Question>) -> std::io::Result<usize> {
    let mut connection = Connection::open(target).await?;
    let mut old = 0;
    for question in questions {
        let (head, body) = connection.get(&question.target, &question.names).await?;
        let is_new = wire::status(&head) == 200 && String::from_utf8_lossy(&body).contains(question.holds);
        old += usize::from(!is_new);
    }
    Ok(old)
}

fn unanswered(fleet: &FleetReport) -> u64 {
    // What is under way at the moment is in neither.
    fleet.routes.values().map(|route| route.statuses.values().sum::<u64>() + route.errors.total() - route.ok).sum()
}
