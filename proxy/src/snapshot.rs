//! The configuration in force, as one value that is swapped whole.

use std::sync::Arc;

use arc_swap::ArcSwap;
use weir_config::Config;
use weir_logic::admit::Rules;
use weir_logic::route::RouteTable;

use crate::meters::RouteMeters;

/// A configuration and what is derived from it. A request takes one snapshot and keeps it to its end, so that a reload never
/// shows it two configurations.
#[derive(Debug)]
pub struct ConfigSnapshot {
    /// The configuration.
    pub config: Config,
    /// Its routes, ready to be searched. The cache finds payloads by the same table.
    pub table: Arc<RouteTable>,
    /// What its limits say of who is let in.
    pub rules: Rules,
    /// 1 at the start; each applied reload adds one.
    pub generation: u64,
    meters: Vec<Arc<RouteMeters>>,
    meters_of_none: Arc<RouteMeters>,
}

/// Where everyone finds the snapshot in force.
pub type SharedSnapshot = Arc<ArcSwap<ConfigSnapshot>>;

impl ConfigSnapshot {
    /// The snapshot of a configuration.
    pub fn new(config: Config, generation: u64) -> Self {
        let table = Arc::new(RouteTable::new(&config.routes));
        let rules = Rules::new(&config.limits);
        let routes = config.routes.iter().enumerate();
        let meters = routes.map(|(number, route)| Arc::new(RouteMeters::of(number, &route.name))).collect();
        Self { config, table, rules, generation, meters, meters_of_none: Arc::new(RouteMeters::of_none()) }
    }

    /// The counters of the route of that number in the table.
    pub fn meters(&self, route: usize) -> &Arc<RouteMeters> {
        self.meters.get(route).unwrap_or(&self.meters_of_none)
    }

    /// The counters of requests that found no route.
    pub fn meters_of_none(&self) -> &Arc<RouteMeters> {
        &self.meters_of_none
    }
}
