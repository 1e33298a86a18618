//! The configuration in force, as one value that is swapped whole.

use std::sync::Arc;

use arc_swap::ArcSwap;
use weir_config::Config;
use weir_logic::admit::Rules;
use weir_logic::route::RouteTable;

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
}

/// Where everyone finds the snapshot in force.
pub type SharedSnapshot = Arc<ArcSwap<ConfigSnapshot>>;

impl ConfigSnapshot {
    /// The snapshot of a configuration.
    pub fn new(config: Config, generation: u64) -> Self {
        let table = Arc::new(RouteTable::new(&config.routes));
        let rules = Rules::new(&config.limits);
        Self { config, table, rules, generation }
    }
}
