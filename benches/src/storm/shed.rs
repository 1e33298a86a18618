//! Uploads are refused for half a minute, to agents on kept-alive TLS connections of HTTP/1.1 and HTTP/2. A refusal must not cost the
//! connection: the handshakes would finish the node. Meanwhile an agent is given orders, which must reach it as if nothing happened.

use std::time::Duration;

use bytes::Bytes;
use http::Method;
use tokio::time::{Instant, sleep};
use weir_fleet::{Fleet, FleetOptions, FleetReport, Mix, Route};

use super::config::NodeConfig;
use super::http2::{Http2, Uploaded, Uploaders};
use super::report::{Curve, Panel, Report};
use super::stage::{Stage, on_sockets};
use super::{Failure, Order, urgent};
use crate::text::grouped;
use crate::verdict::{Line, line};

/// Mostly uploads; the others keep the node at work, so that it has no room for the lowest class.
const MIX: Mix = Mix { update: 0.1, config: 0.1, tasks: 0.3, upload: 0.5 };

/// Runs the scenario.
pub(super) fn play(order: &Order) -> Result<Report, Failure> {
    on_sockets(run(order))
}

async fn run(order: &Order) -> Result<Report, Failure> {
    let (agents, rate, seconds) = if order.small { (100, 300.0, 6) } else { (2_000, 1_000.0, 30) };
    // Agents on HTTP/2 upload and do nothing else.
    let (agents_of_two, uploads_of_two) = if order.small { (30, 60.0) } else { (500, 250.0) };
    let time = Duration::from_secs(seconds);
    // A class whose part is nothing has room for one request while the node does nothing else.
    let config = NodeConfig {
        tls: true,
        classes: "telemetry = 0",
        // Polls that wait keep it busy, but for the moment from the end of a window to the next poll.
        window: Duration::from_millis(500),
        ..NodeConfig::default()
    };
    let stage = Stage::set(config, order.switches).await?;
    let mut fleet = Fleet::start(FleetOptions {
        mix: MIX,
        obey_retry_after: false,
        handshakes_per_second: 200.0,
        ..stage.fleet(agents, rate, time)?
    })?;
    fleet.ramped_up().await;
    let end = Instant::now() + time;
    // Not before the fleet's first polls keep the node at work.
    sleep(Duration::from_secs(1)).await;
    let two = Http2::new(stage.node.agents()?, &stage.place.tls())?;
    let mut attacked = two.line("agent-under-attack");
    let poll = async || attacked.ask(Method::GET, urgent::TASKS, Bytes::new()).await;
    let uploaders = Uploaders { agents: agents_of_two, uploads_per_second: uploads_of_two, end };
    let (orders, two) = tokio::join!(urgent::orders(&stage.core, end, poll), two.upload(uploaders));
    let fleet = fleet.finish().await;
    stage.clear().await?;
    let mut report = judge(&fleet, two, seconds);
    report.lines.push(urgent::judge(&orders?));
    Ok(report)
}

fn judge(fleet: &FleetReport, two: Uploaded, seconds: u64) -> Report {
    let uploads = fleet.routes.get(&Route::Upload).cloned().unwrap_or_default();
    // 429 is for those who have come back too early too often.
    let shed: u64 = [429, 503].iter().filter_map(|status| uploads.statuses.get(status)).sum();
    let handshakes = fleet.connections.reconnects;
    let others: u64 = fleet
        .routes
        .iter()
        .filter(|(route, _)| **route != Route::Upload)
        .map(|(_, report)| report.sent - report.ok)
        .sum();
    let curve = |name, of: fn(&weir_fleet::SecondReport) -> u32| {
        Curve::new(name, fleet.series.iter().map(|second| f64::from(of(second))))
    };
    let mut lines = refusals("HTTP/1.1", shed, uploads.sent, handshakes);
    lines.extend(refusals("HTTP/2", two.refused, two.good + two.refused + two.failed, two.again));
    lines.push(line("requests of higher classes not answered well", grouped(others), "0".to_owned(), others == 0));
    Report {
        lines,
        notes: vec![format!(
            "{} agents on TLS, {seconds} s: {} refusals, {} new handshakes; those on HTTP/2 {} and {}",
            grouped(fleet.agents.into()),
            grouped(shed),
            grouped(handshakes),
            grouped(two.refused),
            grouped(two.again)
        )],
        panels: vec![Panel {
            title: "answers/s".to_owned(),
            curves: vec![curve("good", |second| second.ok), curve("refusals", |second| second.server_errors)],
        }],
        ..Report::default()
    }
}

/// How many were refused, and how many of these cost a handshake.
fn refusals(protocol: &str, refused: u64, sent: u64, handshakes: u64) -> Vec<Line> {
    let part = 100.0 * handshakes as f64 / refused.max(1) as f64;
    vec![
        line(
            &format!("{protocol}: uploads refused, of all"),
            format!("{:.2} %", 100.0 * refused as f64 / sent.max(1) as f64),
            "at least 95 %".to_owned(),
            refused as f64 >= 0.95 * sent as f64 && refused > 0,
        ),
        line(
            &format!("{protocol}: new handshakes over refusals"),
            format!("{part:.2} %"),
            "at most 1 %".to_owned(),
            part <= 1.0 && refused > 0,
        ),
    ]
}
