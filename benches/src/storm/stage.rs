//! What the scenarios on real sockets share: simulated cores, the product as a child process between them and a fleet, and the way
//! from an asynchronous run to a report.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::time::{Instant, sleep};
use weir_core_sim::{CoreOptions, CoreSim};
use weir_fleet::{FleetOptions, Mix};

use super::Failure;
use super::config::NodeConfig;
use super::protection::Switches;
use super::report::Report;
use crate::books::SAME;
use crate::node::Node;
use crate::place::Place;

/// A node before its core.
#[derive(Debug)]
pub(super) struct Stage {
    pub(super) place: Place,
    pub(super) core: CoreSim,
    pub(super) node: Node,
    tls: bool,
}

impl Stage {
    /// Starts a core and a node before it. `config` may name more peers than that core.
    pub(super) async fn set(config: NodeConfig, switches: Switches) -> io::Result<Self> {
        let core =
            CoreSim::start(CoreOptions { key_fields: SAME.map(str::to_owned).to_vec(), ..CoreOptions::default() })
                .await?;
        Self::set_before(core, config, switches).await
    }

    /// Starts a node before a core that is there already.
    pub(super) async fn set_before(core: CoreSim, config: NodeConfig, switches: Switches) -> io::Result<Self> {
        let place = Place::new(None)?;
        let mut config = config;
        config.peers.insert(0, core.address());
        config.peers.retain(|peer| peer.port() != NO_PORT);
        let node = Node::start(&place.write_config(&config.render(switches))?).await?;
        Ok(Self { place, core, node, tls: config.tls })
    }

    /// A fleet at this node.
    pub(super) fn fleet(&self, agents: u32, requests_per_second: f64, duration: Duration) -> io::Result<FleetOptions> {
        let tls = self.tls.then(|| self.place.tls());
        Ok(FleetOptions { targets: vec![self.node.agents()?], tls, ..fleet(agents, requests_per_second, duration) })
    }

    /// Ends the node and removes its directory.
    pub(super) async fn clear(mut self) -> io::Result<()> {
        self.node.kill().await;
        self.place.leave()
    }
}

/// The port of the default configuration's core, where nobody is.
pub(super) const NO_PORT: u16 = 9;

/// A fleet at nobody yet.
pub(super) fn fleet(agents: u32, requests_per_second: f64, duration: Duration) -> FleetOptions {
    FleetOptions { agents, requests_per_second, duration, ..FleetOptions::default() }
}

/// A fleet at a server in plaintext.
pub(super) fn fleet_at(target: SocketAddr, agents: u32, rate: f64, duration: Duration) -> FleetOptions {
    FleetOptions { targets: vec![target], ..fleet(agents, rate, duration) }
}

/// Polls for tasks and nothing else.
pub(super) const POLLS: Mix = Mix { update: 0.0, config: 0.0, tasks: 1.0, upload: 0.0 };

/// Runs a scenario to its end.
pub(super) fn on_sockets(run: impl Future<Output = Result<Report, Failure>>) -> Result<Report, Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let report = runtime.block_on(run);
    runtime.shutdown_background();
    report
}

/// Looks every 20 ms until it is so, or the time is over; gives whether it is.
pub(super) async fn until(patience: Duration, mut is_so: impl FnMut() -> bool) -> bool {
    let deadline = Instant::now() + patience;
    while !is_so() {
        if Instant::now() >= deadline {
            return false;
        }
        sleep(Duration::from_millis(20)).await;
    }
    true
}
