//! The nodes' configuration, read by the product's own parser, and the keys of what is asked for.

use std::path::Path;
use std::sync::Arc;

use http::HeaderMap;
use weir_config::{
    Action, CacheRoute, Config, Diagnostics, LookupRoute, MemoryEnvironment, Method, Route, Stream, parse,
};
use weir_logic::key::Scope;
use weir_logic::{Admission, AgentId, CacheKey, Call, Identity, Millis, RequestView, TenantId};

use super::desk::Looked;

/// What all nodes of a run have in common.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) config: Config,
    pub(super) admission: Admission,
    config_route: Arc<Route>,
    tasks_route: Arc<Route>,
    update: CacheRoute,
    config_lookup: LookupRoute,
    tasks_lookup: LookupRoute,
    /// Of the configurations, by tenant.
    tenant_keys: Vec<CacheKey>,
}

/// Why a configuration is none for a simulation.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    /// It is wrong.
    #[error("{0}")]
    Wrong(Diagnostics),
    /// It lacks a route that agents ask for, or answers it in another way.
    #[error("the configuration has no {0}")]
    Missing(&'static str),
}

impl Plan {
    /// Reads a configuration with the routes `updates` (cache), `config` and `tasks` (lookup) and a stream.
    pub(super) fn new(text: &str, tenants: u32) -> Result<Self, PlanError> {
        let environment = MemoryEnvironment::new().file("weir.toml", text);
        let config = parse(&environment, Path::new("weir.toml")).map_err(PlanError::Wrong)?.config;
        if config.streams.is_empty() {
            return Err(PlanError::Missing("stream"));
        }
        let route = |name| config.routes.iter().find(|route| route.name == name).cloned();
        let lookup = |name: &'static str| match route(name) {
            Some(whole) => match whole.action.clone() {
                Action::Lookup(lookup) => Ok((Arc::new(whole), lookup)),
                _ => Err(PlanError::Missing(name)),
            },
            None => Err(PlanError::Missing(name)),
        };
        let Some(Action::Cache(update)) = route("updates").map(|route| route.action) else {
            return Err(PlanError::Missing("updates"));
        };
        let ((config_route, config_lookup), (tasks_route, tasks_lookup)) = (lookup("config")?, lookup("tasks")?);
        let tenant_keys = (0..tenants).filter_map(|tenant| key(&config_route, &config_lookup, tenant, None)).collect();
        let admission = Admission::new(&config.limits);
        Ok(Self { config, admission, config_route, tasks_route, update, config_lookup, tasks_lookup, tenant_keys })
    }

    pub(super) fn update(&self) -> &CacheRoute {
        &self.update
    }

    pub(super) fn lookup(&self, route: Looked) -> &LookupRoute {
        match route {
            Looked::Config => &self.config_lookup,
            Looked::Tasks => &self.tasks_lookup,
        }
    }

    pub(super) fn stream(&self) -> &Stream {
        &self.config.streams[0]
    }

    /// The key of a tenant's configuration, or of an agent's tasks.
    pub(super) fn key(&self, route: Looked, subject: u32, tenant: u32) -> Option<CacheKey> {
        match route {
            Looked::Config => self.tenant_keys.get(subject as usize).cloned(),
            Looked::Tasks => key(&self.tasks_route, &self.tasks_lookup, tenant, Some(subject)),
        }
    }

    /// The class of a lookup route, as a rank.
    pub(super) fn rank(&self, route: Looked) -> usize {
        match route {
            Looked::Config => self.config_route.class as usize,
            Looked::Tasks => self.tasks_route.class as usize,
        }
    }
}

fn key(route: &Arc<Route>, lookup: &LookupRoute, tenant: u32, agent: Option<u32>) -> Option<CacheKey> {
    let identity = Identity {
        agent: agent.and_then(|agent| AgentId::new(&format!("agent-{agent:08}"))),
        tenant: TenantId::new(&format!("tenant-{tenant:07}")),
    };
    let (headers, parameters) = (HeaderMap::new(), Vec::new());
    let request =
        RequestView { method: Method::Get, path: "/", query: None, host: "edge", headers: &headers, body: b"" };
    let call = Call { request, route, parameters: &parameters, identity: &identity, now: Millis(0) };
    CacheKey::of(&lookup.key, Scope::of(lookup.shared), &call).ok()
}
