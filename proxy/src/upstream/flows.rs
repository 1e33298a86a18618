//! What asks of which core, read from the configuration.

use weir_config::{Action, Config};

/// For each core the names under which it is asked: those of its routes, of its streams, and of the presence reports.
pub(super) fn flows(config: &Config) -> Vec<Vec<&str>> {
    let mut flows = vec![Vec::new(); config.cores.len()];
    let routes = config.routes.iter().filter(|route| !matches!(route.action, Action::Aggregate(_)));
    let routes = routes.map(|route| (route.core, route.name.as_str()));
    let streams = config.streams.iter().map(|stream| (stream.core, stream.name.as_str()));
    let presence = config.presence.iter().map(|presence| (presence.core, PRESENCE));
    for (core, name) in routes.chain(streams).chain(presence) {
        if let Some(flows) = flows.get_mut(core.0)
            && !flows.contains(&name)
        {
            flows.push(name);
        }
    }
    flows
}

/// The stream of the presence reports; the configuration keeps its name free.
const PRESENCE: &str = "presence";
