//! The demo's node and agents without its outage, for measurements of other things.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use clap::Parser;
use weir_fleet::FleetOptions;

use super::arguments::{Arguments, RunArguments};
use super::config;
use super::plan::Plan;
use super::run::fleet_options;
use crate::node::Node;
use crate::place::Place;

/// The standard mix at a rate.
pub(crate) struct StandardMix {
    run: RunArguments,
    plan: Plan,
}

impl StandardMix {
    /// So many agents, requests a second of all together, and for how long. The node has one thread.
    pub(crate) fn new(agents: u32, rate: f64, duration: Duration) -> Self {
        let defaults = Arguments::parse_from(["demo"]).run;
        let run =
            RunArguments { agents, rate, duration, outage: 0.0, threads: Some(1), handshakes: 2_000.0, ..defaults };
        Self { plan: Plan::new(&run), run }
    }

    /// The configuration of a node before the core at `core`.
    pub(crate) fn config(&self, core: SocketAddr) -> String {
        config::render(&self.run, &self.plan, core)
    }

    /// The agents.
    pub(crate) fn fleet(&self, node: &Node, place: &Place) -> io::Result<FleetOptions> {
        Ok(FleetOptions { remember: None, ..fleet_options(&self.run, &self.plan, node, place)? })
    }
}
