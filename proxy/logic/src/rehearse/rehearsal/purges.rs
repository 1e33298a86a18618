//! What a purge of the trace takes.

use weir_config::{Action, Route};

use super::super::{Line, Purge};

/// A purge, as much of it as is played.
pub(super) struct Taken {
    pub(super) at: u64,
    pub(super) soft: bool,
    target: Target,
}

enum Target {
    All,
    /// The route's name when it was recorded.
    Route(String),
    Tenant(u64),
    Prefixes(Vec<String>),
}

/// What an answer can be purged by.
#[derive(Clone, Copy)]
pub(super) struct Marked {
    /// The number of the route that took the request when it was recorded.
    recorded: u32,
    /// That of its path.
    path: u32,
    /// The tenant, of answers that are one tenant's.
    tenant: Option<u64>,
}

impl Taken {
    /// `None` where nobody can tell what it took.
    pub(super) fn of(purge: &Purge) -> Option<Self> {
        let target = match (purge.purge.as_str(), purge.of.first()) {
            ("all", _) => Target::All,
            ("route", Some(name)) => Target::Route(name.clone()),
            ("tenant", Some(tenant)) => Target::Tenant(hash(tenant)),
            ("prefix", _) => Target::Prefixes(purge.of.clone()),
            _ => return None,
        };
        Some(Self { at: purge.at, soft: purge.soft, target })
    }
}

impl Marked {
    pub(super) fn of(line: &Line, route: &Route, recorded: u32, path: u32) -> Self {
        let shared = match &route.action {
            Action::Cache(cache) => cache.shared,
            Action::Lookup(lookup) => lookup.shared,
            Action::Aggregate(_) | Action::Forward(_) => true,
        };
        Self { recorded, path, tenant: line.tenant.as_deref().filter(|_| !shared).map(hash) }
    }

    /// The names and paths are those that the numbers stand for.
    pub(super) fn is_meant(&self, purge: &Taken, names: &[String], paths: &[String]) -> bool {
        match &purge.target {
            Target::All => true,
            Target::Route(name) => names.get(self.recorded as usize) == Some(name),
            Target::Tenant(tenant) => self.tenant == Some(*tenant),
            Target::Prefixes(prefixes) => paths
                .get(self.path as usize)
                .is_some_and(|path| prefixes.iter().any(|prefix| path.starts_with(prefix.as_str()))),
        }
    }
}

fn hash(tenant: &str) -> u64 {
    xxhash_rust::xxh3::xxh3_64(tenant.as_bytes())
}
