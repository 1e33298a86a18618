//! Uploads are refused for half a minute, to agents on kept-alive TLS connections. A refusal must not cost the connection: the
//! handshakes would finish the node.

use std::time::Duration;

use weir_core_sim::{Behaviour, CoreOptions, CoreSim, CoreTls, EndpointKind};
use weir_fleet::{Fleet, FleetOptions, FleetReport, FleetTls, Mix, Route};

use super::config::NodeConfig;
use super::protection::Protection;
use super::report::{Curve, Panel, Report};
use super::stage::{Stage, fleet_at, on_sockets};
use super::{Failure, Order};
use crate::place::Place;
use crate::text::grouped;
use crate::verdict::line;

/// Mostly uploads; the others keep the node at work, so that it has no room for the lowest class.
const MIX: Mix = Mix { update: 0.1, config: 0.1, tasks: 0.3, upload: 0.5 };

/// Runs the scenario.
pub(super) fn play(order: &Order) -> Result<Report, Failure> {
    on_sockets(run(order))
}

async fn run(order: &Order) -> Result<Report, Failure> {
    let (agents, rate, seconds) = if order.small { (100, 300.0, 6) } else { (2_000, 1_000.0, 30) };
    let time = Duration::from_secs(seconds);
    let with = |options| FleetOptions { mix: MIX, obey_retry_after: false, handshakes_per_second: 200.0, ..options };
    let fleet = if order.switches.is_on(Protection::KeepAlive) {
        // A class whose part is nothing has room for one request while the node does nothing else.
        let config = NodeConfig {
            tls: true,
            classes: "telemetry = 0",
            // Polls that wait keep it busy, but for the moment from the end of a window to the next poll.
            window: Duration::from_millis(500),
            ..NodeConfig::default()
        };
        let stage = Stage::set(config, order.switches).await?;
        let fleet = Fleet::start(with(stage.fleet(agents, rate, time)?))?.finish().await;
        stage.clear().await?;
        fleet
    } else {
        against_one_that_closes(|target, tls| with(FleetOptions { tls, ..fleet_at(target, agents, rate, time) }))
            .await?
    };
    Ok(judge(&fleet, seconds))
}

/// The same fleet at a server that ends the connection with each refusal, as many do.
async fn against_one_that_closes(
    options: impl FnOnce(std::net::SocketAddr, Option<FleetTls>) -> FleetOptions,
) -> Result<FleetReport, Failure> {
    let place = Place::new(None)?;
    let read = |name| std::fs::read(place.path().join(name));
    let tls = CoreTls { certificates: read("server.pem")?, key: read("server.key")? };
    let core =
        CoreSim::start(CoreOptions { tls: Some(tls), closes_on_failure: true, ..CoreOptions::default() }).await?;
    core.script_for(EndpointKind::Events, Behaviour::Status { code: 503, retry_after: Some(5) });
    let fleet = Fleet::start(options(core.address(), Some(place.tls())))?.finish().await;
    place.leave()?;
    Ok(fleet)
}

fn judge(fleet: &FleetReport, seconds: u64) -> Report {
    let uploads = fleet.routes.get(&Route::Upload).cloned().unwrap_or_default();
    // 429 is for those who have come back too early too often.
    let shed: u64 = [429, 503].iter().filter_map(|status| uploads.statuses.get(status)).sum();
    let handshakes = fleet.connections.reconnects;
    let part = 100.0 * handshakes as f64 / shed.max(1) as f64;
    let others: u64 = fleet
        .routes
        .iter()
        .filter(|(route, _)| **route != Route::Upload)
        .map(|(_, report)| report.sent - report.ok)
        .sum();
    let curve = |name, of: fn(&weir_fleet::SecondReport) -> u32| {
        Curve::new(name, fleet.series.iter().map(|second| f64::from(of(second))))
    };
    Report {
        lines: vec![
            line(
                "uploads refused, of all",
                format!("{:.2} %", 100.0 * shed as f64 / uploads.sent.max(1) as f64),
                "at least 95 %".to_owned(),
                shed as f64 >= 0.95 * uploads.sent as f64 && shed > 0,
            ),
            line(
                "new handshakes over refusals",
                format!("{part:.2} %"),
                "at most 1 %".to_owned(),
                part <= 1.0 && shed > 0,
            ),
            line("requests of higher classes not answered well", grouped(others), "0".to_owned(), others == 0),
        ],
        notes: vec![format!(
            "{} agents on TLS, {seconds} s: {} refusals, {} new handshakes",
            grouped(fleet.agents.into()),
            grouped(shed),
            grouped(handshakes)
        )],
        panels: vec![Panel {
            title: "answers/s".to_owned(),
            curves: vec![curve("good", |second| second.ok), curve("refusals", |second| second.server_errors)],
        }],
        ..Report::default()
    }
}
