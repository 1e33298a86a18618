//! The bound on open files: what the configuration may need, what the system gives.

use weir_config::{Action, AnswerStore, Config};

/// Raises this process's soft limit to its hard one, and warns when even that is below what the configuration may need.
pub fn raise_limit(config: &Config) {
    let granted = match rlimit::increase_nofile_limit(rlimit::INFINITY) {
        Ok(granted) => granted,
        Err(error) => {
            tracing::warn!(%error, "the limit on open files cannot be raised");
            return;
        }
    };
    let needed = needed(config);
    if granted < needed {
        tracing::warn!(granted, needed, "the limit on open files is below what listener.max_connections may need");
    }
}

/// The hard limit, or `None` when the system does not say.
pub fn hard_limit() -> Option<u64> {
    rlimit::Resource::NOFILE.get().ok().map(|(_, hard)| hard)
}

/// Descriptors that the configuration may need: one for each agent's connection, one for each request in flight to a core, one for
/// each answer on disk, and room for files, pools and scrapers.
pub fn needed(config: &Config) -> u64 {
    let connections: usize = config.listeners.iter().map(|listener| listener.max_connections).sum();
    let in_flight: usize = config.cores.iter().map(|core| core.max_in_flight).sum();
    let on_disk = |action: &Action| matches!(action, Action::Cache(cache) if cache.store == AnswerStore::Disk);
    let packages =
        config.routes.iter().any(|route| on_disk(&route.action)).then_some(config.limits.packages.max_objects);
    [connections, in_flight, packages.unwrap_or(0)].iter().fold(ROOM, |sum, count| sum.saturating_add(*count as u64))
}

const ROOM: u64 = 1_024;
