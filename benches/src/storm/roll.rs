//! Nodes behind a load balancer are restarted one after the other, and their certificates are renewed every second meanwhile. The
//! agents' kept-alive TLS connections move to the other nodes: they resume there, and not all at once.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior, interval, sleep};
use weir_core_sim::{CoreOptions, CoreSim};
use weir_fleet::{Fleet, FleetOptions, FleetReport, FleetTls};

use super::balancer::Balancer;
use super::config::NodeConfig;
use super::protection::{Protection, Switches};
use super::report::{Curve, Panel, Report};
use super::stage::{fleet_at, on_sockets};
use super::{Failure, Order};
use crate::books::SAME;
use crate::node::Node;
use crate::place::Place;
use crate::status;
use crate::text::grouped;
use crate::verdict::{Line, line, zero};

/// How large the scenario is.
struct Size {
    nodes: usize,
    agents: u32,
    requests_per_second: f64,
    handshakes_per_second: f64,
    drain: Duration,
    /// How much more than the mean may come back at once.
    most: f64,
}

const WHOLE: Size = Size {
    nodes: 3,
    agents: 5_000,
    requests_per_second: 2_500.0,
    handshakes_per_second: 300.0,
    drain: Duration::from_secs(15),
    most: 2.0,
};

const SMALL: Size = Size {
    nodes: 2,
    // Each asks every second: well within the fifth of a drain after which a connection without a request is closed as it is. On a
    // machine that stands still for a moment a request would else cross that close, which HTTP/1.1 cannot prevent.
    agents: 240,
    requests_per_second: 240.0,
    handshakes_per_second: 100.0,
    drain: Duration::from_secs(10),
    // Where a busy machine stands still for a second, those of a second come together.
    most: 2.7,
};

/// Parts of a drain in which reconnects are counted, each longer than an agent waits between two requests.
const PARTS: usize = 5;

/// Runs the scenario.
pub(super) fn play(order: &Order) -> Result<Report, Failure> {
    on_sockets(run(order))
}

async fn run(order: &Order) -> Result<Report, Failure> {
    let size = if order.small { SMALL } else { WHOLE };
    let mut region = Region::start(&size, order.switches).await?;
    let balancer = Balancer::start(region.addresses()?).await?;
    // The schedule outlasts the restarts and is ended after them.
    let time = Duration::from_secs(3_600);
    let options = FleetOptions {
        tls: Some(region.tls.clone()),
        handshakes_per_second: size.handshakes_per_second,
        ..fleet_at(balancer.address(), size.agents, size.requests_per_second, time)
    };
    let mut fleet = Fleet::start(options)?;
    while_renewing(&mut region, fleet.ramped_up()).await?;
    let mut restarts = Vec::new();
    for index in 0..size.nodes {
        // Until all who have been closed are back.
        sleep(size.drain / 2).await;
        restarts.push(Instant::now());
        region.restart(index, &balancer).await?;
    }
    sleep(size.drain / 2).await;
    let fleet = fleet.stop().await;
    let peaks = restarts.iter().map(|began| peak(&balancer.arrivals(), *began, size.drain));
    let peak = peaks.fold(0.0, f64::max);
    let renewals = (region.renewed, region.refused);
    region.clear().await?;
    Ok(judge(&size, &fleet, peak, renewals, panel(&balancer.arrivals(), &restarts)))
}

/// Nodes that share an authority, a certificate and the keys of tickets.
struct Region {
    place: Place,
    _core: CoreSim,
    configs: Vec<PathBuf>,
    nodes: Vec<Node>,
    tls: FleetTls,
    renewed: u64,
    refused: u64,
}

impl Region {
    async fn start(size: &Size, switches: Switches) -> Result<Self, Failure> {
        let place = Place::new(None)?;
        let core = CoreOptions { key_fields: SAME.map(str::to_owned).to_vec(), ..CoreOptions::default() };
        let core = CoreSim::start(core).await?;
        std::fs::write(place.path().join("agents.pem"), &place.authority)?;
        let keys = place.path().join("ticket.keys");
        std::fs::write(&keys, "5e1f".repeat(16))?;
        std::fs::set_permissions(&keys, std::fs::Permissions::from_mode(0o600))?;
        let tickets = switches.is_on(Protection::Tickets);
        let (mut configs, mut nodes) = (Vec::new(), Vec::new());
        for index in 0..size.nodes {
            let config = NodeConfig {
                name: format!("edge-{index}"),
                peers: vec![core.address()],
                tls: true,
                tls_more: if tickets { MUTUAL_WITH_TICKET_KEYS } else { MUTUAL },
                drain: if switches.is_on(Protection::Drain) { size.drain } else { Duration::ZERO },
                ..NodeConfig::default()
            };
            let path = place.path().join(format!("edge-{index}.toml"));
            std::fs::write(&path, config.render(switches))?;
            nodes.push(Node::start(&path).await?);
            configs.push(path);
        }
        let tls = FleetTls { client_certificate: Some(place.agent()?), ..place.tls() };
        Ok(Self { place, _core: core, configs, nodes, tls, renewed: 0, refused: 0 })
    }

    fn addresses(&self) -> io::Result<Vec<SocketAddr>> {
        self.nodes.iter().map(Node::agents).collect()
    }

    /// Gives all nodes a new certificate.
    async fn renew(&mut self) -> io::Result<()> {
        self.place.renew()?;
        for node in &self.nodes {
            // One that drains or has ended needs none.
            let Ok(admin) = node.admin() else { continue };
            match status::reload(admin).await {
                Ok(()) => self.renewed += 1,
                Err(_) if node.is_gone() => {}
                Err(_) => self.refused += 1,
            }
        }
        Ok(())
    }

    /// Stops a node as an operator does and starts it again, renewing certificates meanwhile.
    async fn restart(&mut self, index: usize, balancer: &Balancer) -> Result<(), Failure> {
        let mut leaving = self.nodes.remove(index);
        let status = while_renewing(self, leaving.stop()).await??;
        if !status.success() {
            return Err(leaving.failure(&format!("the node ended with {status}")).into());
        }
        let config = self.configs[index].clone();
        let node = while_renewing(self, Node::start(&config)).await??;
        balancer.replace(index, node.agents()?);
        self.nodes.insert(index, node);
        Ok(())
    }

    async fn clear(mut self) -> io::Result<()> {
        for node in &mut self.nodes {
            node.kill().await;
        }
        self.place.leave()
    }
}

const MUTUAL: &str = r#", client_ca = "agents.pem", client_auth = "required""#;
const MUTUAL_WITH_TICKET_KEYS: &str =
    r#", client_ca = "agents.pem", client_auth = "required", ticket_keys = "ticket.keys""#;

/// Waits for something and renews all certificates each second until then.
async fn while_renewing<T>(region: &mut Region, what: impl Future<Output = T>) -> io::Result<T> {
    let mut what = std::pin::pin!(what);
    let mut second = interval(Duration::from_secs(1));
    second.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            done = &mut what => return Ok(done),
            _ = second.tick() => region.renew().await?,
        }
    }
}

/// Agents that connected in the busiest fifth of a drain, over the mean of its fifths if all of them had come back in it. Who is
/// closed comes back with its next request, which may be after the drain.
fn peak(arrivals: &[Instant], began: Instant, drain: Duration) -> f64 {
    let mut parts = [0_u32; PARTS + PARTS / 2];
    for at in arrivals.iter().filter_map(|at| at.checked_duration_since(began)) {
        let part = at.as_nanos() * PARTS as u128 / drain.as_nanos().max(1);
        if let Some(count) = usize::try_from(part).ok().and_then(|part| parts.get_mut(part)) {
            *count += 1;
        }
    }
    let (all, most) = (parts.iter().sum::<u32>(), parts.iter().max().copied().unwrap_or(0));
    f64::from(most) * PARTS as f64 / f64::from(all.max(1))
}

fn panel(arrivals: &[Instant], restarts: &[Instant]) -> (Panel, Vec<(u32, String)>) {
    let Some(first) = arrivals.first() else { return (Panel::default(), Vec::new()) };
    let second = |at: &Instant| u32::try_from(at.duration_since(*first).as_secs()).unwrap_or(u32::MAX);
    let mut seconds = BTreeMap::<u32, f64>::new();
    arrivals.iter().for_each(|at| *seconds.entry(second(at)).or_default() += 1.0);
    let last = seconds.last_key_value().map_or(0, |(second, _)| *second);
    let curve = (0..=last).map(|second| seconds.get(&second).copied().unwrap_or(0.0));
    let panel = Panel { title: "connections/s".to_owned(), curves: vec![Curve::new("of agents", curve)] };
    (panel, restarts.iter().map(|at| (second(at), "a node stops".to_owned())).collect())
}

fn judge(
    size: &Size,
    fleet: &FleetReport,
    peak: f64,
    (renewed, refused): (u64, u64),
    (panel, moments): (Panel, Vec<(u32, String)>),
) -> Report {
    let connections = fleet.connections;
    let lost: u64 = fleet.routes.values().map(|route| route.sent - route.ok).sum();
    let sent: u64 = fleet.routes.values().map(|route| route.sent).sum();
    let again = connections.opened.saturating_sub(fleet.agents.into());
    let resumed = 100.0 * connections.handshakes_resumed as f64 / again.max(1) as f64;
    let moved = again >= u64::from(fleet.agents) / 2;
    let lines: Vec<Line> = vec![
        zero("requests not answered well", lost),
        zero("connections and handshakes that failed", connections.failed),
        zero("renewed certificates that a node did not take", refused),
        line(
            "agents that came back resumed",
            format!("{resumed:.1} %"),
            "at least 90 %".into(),
            resumed >= 90.0 && moved,
        ),
        line(
            "the busiest fifth of a drain over the mean, in agents that come back",
            format!("{peak:.2}"),
            format!("at most {}", size.most),
            peak <= size.most && moved,
        ),
    ];
    let mut notes = vec![format!(
        "{} agents with certificates on {} nodes, each stopped over {} s: {} requests, {} connections opened again, \
         {} certificates taken",
        grouped(fleet.agents.into()),
        size.nodes,
        size.drain.as_secs(),
        grouped(sent),
        grouped(again),
        grouped(renewed)
    )];
    notes.extend(causes(fleet));
    Report { lines, notes, panels: vec![panel], moments, ..Report::default() }
}

/// What became of the requests that were not answered well, route by route.
fn causes(fleet: &FleetReport) -> impl Iterator<Item = String> {
    fleet.routes.iter().filter(|(_, route)| route.ok < route.sent).map(|(name, route)| {
        let statuses: Vec<_> = route.statuses.iter().filter(|(status, _)| **status >= 400).collect();
        format!("{name:?} not answered well: {:?}, by status {statuses:?}", route.errors)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_peak_is_that_of_the_drain_alone() {
        let began = Instant::now();
        let drain = Duration::from_secs(10);
        let evenly: Vec<Instant> = (0..100).map(|tenth| began + Duration::from_millis(tenth * 100)).collect();
        assert!((peak(&evenly, began, drain) - 1.0).abs() < 1e-9);
        let at_once = vec![began + Duration::from_millis(10); 50];
        assert!((peak(&at_once, began, drain) - 5.0).abs() < 1e-9);
        assert!(peak(&evenly, began + drain, drain) < 1e-9);
    }
}
