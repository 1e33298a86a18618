//! What a refusal costs a node: processor time of the whole process, the kernel's part for the connection included, over refusals.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};
use weir_core_sim::Behaviour;
use weir_fleet::{Fleet, FleetOptions};

use super::config::NodeConfig;
use super::report::Report;
use super::stage::{POLLS, Stage, on_sockets};
use super::{Failure, Order};
use crate::text::grouped;
use crate::verdict::line;
use crate::wire::{self, Connection};

/// What only the core can answer, which is down.
const ROUTE: &str = r#"
[[route]]
name = "echo"
match = { method = "GET", path = "/v1/echo" }
class = "config"
action = "forward"

[[route]]
name = "greedy"
match = { method = "GET", path = "/v1/greedy" }
class = "config"
action = "cache"
shared = true
agent_limit = { requests_per_minute = 1, burst = 1 }
"#;

/// A reason to refuse, and a request that gives it.
#[derive(Clone, Copy, Debug)]
struct Kind {
    name: &'static str,
    path: &'static str,
    /// Whether it is an upload.
    is_upload: bool,
    names: Names,
    status: u16,
    most_micros: f64,
}

/// What a request says of its agent.
#[derive(Clone, Copy, Debug)]
enum Names {
    Nothing,
    /// Each time another agent.
    Another,
    /// One agent for all.
    Same,
}

/// The first while the core is up, the others while it is down.
const KINDS: [Kind; 5] = [
    Kind {
        name: "no room for uploads",
        path: "/v1/events/process",
        is_upload: true,
        names: Names::Another,
        status: 503,
        most_micros: PLAIN,
    },
    Kind {
        name: "no such route",
        path: "/v1/nothing",
        is_upload: false,
        names: Names::Another,
        status: 404,
        most_micros: PLAIN,
    },
    Kind {
        name: "no identity",
        path: "/v1/agents/a/tasks",
        is_upload: false,
        names: Names::Nothing,
        status: 401,
        most_micros: PLAIN,
    },
    Kind {
        name: "past the agent's rate",
        path: "/v1/greedy",
        is_upload: false,
        names: Names::Same,
        status: 429,
        most_micros: PLAIN,
    },
    Kind {
        name: "the core is down, and the route passed through",
        path: "/v1/echo",
        is_upload: false,
        names: Names::Another,
        status: 503,
        most_micros: PASSED_THROUGH,
    },
];

/// What a refusal may cost, in microseconds of processor time.
const PLAIN: f64 = 20.0;
/// The same where the framework reads the request first.
const PASSED_THROUGH: f64 = 30.0;
const CONNECTIONS: u64 = 8;
/// Requests that each connection sends before it counts: the agent's bucket is empty, the breaker open.
const BEFORE: u64 = 100;

/// What was seen of one kind.
#[derive(Clone, Copy, Debug, Default)]
struct Seen {
    refused: u64,
    /// Answers of another status.
    others: u64,
    lost: u64,
}

/// Runs the scenario.
pub(super) fn play(order: &Order) -> Result<Report, Failure> {
    on_sockets(run(order))
}

async fn run(order: &Order) -> Result<Report, Failure> {
    let time = Duration::from_secs(if order.small { 1 } else { 8 });
    let config = NodeConfig {
        // A class whose part is nothing has room for one request while the node does nothing else, and polls keep it at work.
        classes: "telemetry = 0",
        window: Duration::from_millis(500),
        // The cost of each single refusal is meant, not of agents that come back early.
        damped: false,
        more: ROUTE.to_owned(),
        ..NodeConfig::default()
    };
    let stage = Stage::set(config, order.switches).await?;
    let busy = stage.fleet(200, 100.0, time * 20)?;
    let mut busy =
        Fleet::start(FleetOptions { mix: POLLS, obey_retry_after: false, handshakes_per_second: 1_000.0, ..busy })?;
    busy.ramped_up().await;
    sleep(Duration::from_secs(1)).await;
    let mut lines = Vec::new();
    let mut costs = Vec::new();
    for kind in KINDS {
        if !kind.is_upload {
            stage.core.script(Behaviour::Down)?;
        }
        hammer(kind, stage.node.agents()?, Duration::ZERO).await?;
        let before = stage.node.usage().ok_or("the system does not say what the node has used up")?;
        let seen = hammer(kind, stage.node.agents()?, time).await?;
        let after = stage.node.usage().ok_or("the system does not say what the node has used up")?;
        let micros = 1e6 * (after.cpu_seconds - before.cpu_seconds) / (seen.refused + seen.others).max(1) as f64;
        costs.push(format!("{}: {} refused, {micros:.1} us each", kind.name, grouped(seen.refused)));
        let all = seen.refused + seen.others + seen.lost;
        lines.push(line(
            &format!("{}: connections lost, and answers other than {}", kind.name, kind.status),
            format!("{} and {} of {}", grouped(seen.lost), grouped(seen.others), grouped(all)),
            "0 and at most 5 %".to_owned(),
            seen.lost == 0 && seen.refused > 0 && seen.others <= seen.refused / 20,
        ));
        if !order.small {
            lines.push(line(
                &format!("{}: processor time of a refusal", kind.name),
                format!("{micros:.1} us"),
                format!("at most {:.0} us", kind.most_micros),
                micros <= kind.most_micros,
            ));
        }
    }
    drop(busy);
    stage.clear().await?;
    Ok(Report { lines, notes: costs, ..Report::default() })
}

/// Has all connections ask for the same, one request after the other: [`BEFORE`] each, and then for that time.
async fn hammer(kind: Kind, target: SocketAddr, time: Duration) -> Result<Seen, Failure> {
    let end = Instant::now() + time;
    let mut askers: JoinSet<Seen> = (0..CONNECTIONS).map(|number| ask(kind, target, number, end)).collect();
    let mut all = Seen::default();
    while let Some(seen) = askers.join_next().await {
        let Seen { refused, others, lost } = seen?;
        all = Seen { refused: all.refused + refused, others: all.others + others, lost: all.lost + lost };
    }
    Ok(all)
}

async fn ask(kind: Kind, target: SocketAddr, number: u64, end: Instant) -> Seen {
    let (mut seen, mut connection) = (Seen::default(), None);
    let mut turn = 0_u64;
    while turn < BEFORE || Instant::now() < end {
        let names = match kind.names {
            Names::Nothing => String::new(),
            Names::Another => format!("x-agent-id: agent-{number}-{turn}\r\nx-tenant-id: tenant-{turn}\r\n"),
            Names::Same => "x-agent-id: greedy\r\nx-tenant-id: tenant-1\r\n".to_owned(),
        };
        turn += 1;
        match exchange(kind, target, &mut connection, &names).await {
            Ok(status) if status == kind.status => seen.refused += 1,
            Ok(_) => seen.others += 1,
            Err(_) => {
                seen.lost += 1;
                connection = None;
            }
        }
    }
    seen
}

async fn exchange(
    kind: Kind,
    target: SocketAddr,
    connection: &mut Option<Connection>,
    names: &str,
) -> std::io::Result<u16> {
    let connection = match connection {
        Some(connection) => connection,
        None => connection.insert(Connection::open(target).await?),
    };
    let answer = if kind.is_upload {
        connection.post(kind.path, names, r#"[{"image_path":"/bin/true"}]"#).await
    } else {
        connection.get(kind.path, names).await
    };
    Ok(wire::status(&answer?.0))
}
