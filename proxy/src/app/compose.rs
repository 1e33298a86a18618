//! Who is made of what: every part of the node that serves agents.

use std::sync::Arc;

use arc_swap::ArcSwap;
use pingora::proxy::HttpProxy;
use pingora::server::configuration::ServerConf;
use tokio::time::Instant;
use weir_config::Config;

use super::node;
use crate::accept::{AcceptError, Acceptor, Certificates, Drain, Listener};
use crate::admin::Pages;
use crate::admission::{AgentsPage, Door};
use crate::aggregate::{Aggregate, AggregateError, ReplayOrders, StartError};
use crate::budget::Budget;
use crate::cache::{CacheAction, Packages, RolloutPage};
use crate::clock::Clock;
use crate::exit::{Code, Failure};
use crate::gateway::{Gateway, Parts};
use crate::lookup::LookupAction;
use crate::metrics::Metrics;
use crate::presence::Presence;
use crate::purging::{Keeper, PurgeOrders, Purging};
use crate::reload::{self, Reloader};
use crate::snapshot::{ConfigSnapshot, SharedSnapshot};
use crate::task;
use crate::trace::{Recorder, TracePage};
use crate::upstream::{Origin, Upstream};
use crate::whatif::{TtlPage, WhatIf};

/// The parts that are told of reloads and of the end.
pub(super) struct Composed {
    pub(super) snapshot: SharedSnapshot,
    pub(super) upstream: Arc<Upstream>,
    pub(super) cache: Arc<CacheAction>,
    pub(super) lookup: Arc<LookupAction>,
    pub(super) what_if: Arc<WhatIf>,
    pub(super) aggregate: Arc<Aggregate>,
    pub(super) presence: Arc<Presence>,
    pub(super) agents: Arc<AgentsPage>,
    pub(super) drain: Arc<Drain>,
    pub(super) pages: Vec<Arc<dyn Pages>>,
}

/// What serves agents.
pub(super) type Agents = Acceptor<HttpProxy<Gateway>>;

/// What everyone needs.
pub(super) struct Ground<'a> {
    pub(super) config: &'a Config,
    pub(super) edge: &'a str,
    pub(super) metrics: &'a Metrics,
    pub(super) clock: Clock,
}

/// Makes the node's parts and binds its listeners. Needs a runtime, on which what no agent waits for will run.
///
/// # Errors
///
/// When a certificate or a core's TLS file cannot be used, or an address cannot be bound.
pub(super) fn compose(ground: &Ground<'_>, conf: &Arc<ServerConf>) -> Result<(Composed, Agents), Failure> {
    let Ground { config, edge, metrics, clock } = *ground;
    let snapshot: SharedSnapshot = Arc::new(ArcSwap::from_pointee(ConfigSnapshot::new(config.clone(), 1)));
    metrics.config_generation.set(1);
    let upstream = upstream(ground)?;
    let origin: Arc<dyn Origin> = Arc::clone(&upstream) as _;
    let limits = &config.limits.cache;
    let purging = Arc::new(Purging::default());
    let what_if = Arc::new(WhatIf::default());
    what_if.reconfigure(&[], &config.routes, limits.what_if_keys, clock.now());
    let (cache, lookup) = keepers(ground, &origin, &purging, &what_if)?;
    cache.adopt(Arc::clone(&snapshot.load().table));
    let budget = Budget::new(metrics.clone());
    let aggregate = Aggregate::start(config, edge, origin, budget.clone(), metrics.clone(), clock);
    let aggregate = Arc::new(aggregate.map_err(|error| aggregate_failure(&error))?);
    let presence = Presence::new(config.presence.clone(), metrics.clone());
    drop(task::spawn("presence", Arc::clone(&presence).report(Arc::clone(&aggregate))));
    let listeners = bind(ground)?;
    let drain = Arc::new(Drain::new());
    let keepers: Vec<Arc<dyn Keeper>> = vec![Arc::clone(&cache) as _, Arc::clone(&lookup) as _];
    let recorder = Arc::new(Recorder::new(edge, clock));
    let purges = PurgeOrders::new(purging, keepers, Arc::clone(&snapshot), metrics.clone(), clock);
    let purges = purges.recorded_by(Arc::clone(&recorder));
    let door = Arc::new(Door::new(config.limits.agents.max_agents, metrics.clone(), clock.now()));
    let gateway = Gateway::new(Parts {
        snapshot: Arc::clone(&snapshot),
        cache: Arc::clone(&cache) as _,
        lookup: Arc::clone(&lookup) as _,
        aggregate: Arc::clone(&aggregate) as _,
        upstream: Arc::clone(&upstream),
        changes: purges.changes(),
        recorder: Arc::clone(&recorder),
        attendance: Some(Arc::clone(&presence) as _),
        door: Arc::clone(&door),
        budget,
        metrics: Arc::new(metrics.clone()),
        clock,
    });
    let shortcut = gateway.shortcut();
    let app = gateway.into_app(conf);
    let acceptor =
        Acceptor::new(listeners, app, shortcut, Arc::clone(&snapshot), Arc::clone(&drain), metrics.clone(), clock);
    let replays = ReplayOrders::new(Arc::clone(&aggregate));
    let ttls = TtlPage::new(Arc::clone(&what_if), Arc::clone(&snapshot), clock);
    let traces = TracePage::new(recorder, Arc::clone(&snapshot));
    let rollouts = RolloutPage::new(&cache, Arc::clone(&snapshot));
    let agents = Arc::new(AgentsPage::new(door, Arc::clone(&snapshot), clock));
    let pages: Vec<Arc<dyn Pages>> = vec![
        Arc::new(purges),
        Arc::new(replays),
        Arc::new(ttls),
        Arc::new(traces),
        Arc::new(rollouts),
        Arc::clone(&agents) as _,
    ];
    Ok((Composed { snapshot, what_if, upstream, cache, lookup, aggregate, presence, agents, drain, pages }, acceptor))
}

/// The actions that keep answers.
fn keepers(
    ground: &Ground<'_>,
    origin: &Arc<dyn Origin>,
    purging: &Arc<Purging>,
    what_if: &Arc<WhatIf>,
) -> Result<(Arc<CacheAction>, Arc<LookupAction>), Failure> {
    let Ground { config, edge, metrics, clock } = *ground;
    let limits = &config.limits.cache;
    let shared = || (Arc::clone(origin), Arc::clone(purging), Arc::clone(what_if));
    let packages = packages(ground, purging)?;
    let (to_core, purges, watch) = shared();
    let cache = Arc::new(CacheAction::new(packages, to_core, purges, watch, metrics.clone(), clock, limits));
    let (to_core, purges, watch) = shared();
    let lookup = Arc::new(LookupAction::new(to_core, purges, watch, metrics.clone(), clock, edge, limits));
    cache.open_rollouts(&config.limits.rollouts, &config.edge.data_dir.join("rollouts"));
    drop(task::spawn("rollouts", Arc::clone(&cache).tend()));
    lookup.adopt(&config.routes);
    drop(task::spawn("lookup refresh", Arc::clone(&lookup).tend()));
    Ok((cache, lookup))
}

/// The cache's tier on disk, with what the last run has left.
fn packages(ground: &Ground<'_>, purging: &Arc<Purging>) -> Result<Arc<Packages>, Failure> {
    let Ground { config, metrics, clock, .. } = *ground;
    let dir = config.edge.data_dir.join("packages");
    let packages = Packages::new(&dir, &config.limits.packages, metrics);
    let failure = |error| Failure::new(Code::CannotCreate, format!("{}: {error}", dir.display()));
    let kept = packages.restore(&config.routes, purging, clock.now()).map_err(failure)?;
    if kept > 0 {
        tracing::info!(answers = kept, "answers on disk are kept");
    }
    Ok(packages)
}

pub(super) fn upstream(ground: &Ground<'_>) -> Result<Arc<Upstream>, Failure> {
    let upstream = Upstream::new(ground.config, ground.metrics.clone(), ground.clock);
    let upstream = Arc::new(upstream.map_err(|error| Failure::new(Code::Config, error.to_string()))?);
    let checked = Arc::clone(&upstream);
    drop(task::spawn("health checks", async move { checked.check_health().await }));
    Ok(upstream)
}

fn bind(ground: &Ground<'_>) -> Result<Vec<Listener>, Failure> {
    let bound = ground.config.listeners.iter().map(|listener| {
        let bound =
            Listener::bind(listener, ground.metrics, ground.clock.now()).map_err(|error| listener_failure(&error))?;
        tracing::info!(listener = bound.name(), address = %bound.address(), "listening");
        Ok(bound)
    });
    bound.collect()
}

fn listener_failure(error: &AcceptError) -> Failure {
    let code = match error {
        AcceptError::Bind { .. } => Code::Unavailable,
        AcceptError::Certificate { .. } => Code::Config,
    };
    Failure::new(code, error.to_string())
}

pub(super) fn aggregate_failure(error: &AggregateError) -> Failure {
    let code = match &error.cause {
        StartError::Spool(_) => Code::CannotCreate,
        StartError::Thread(_) => Code::Unavailable,
    };
    Failure::new(code, error.to_string())
}

impl Composed {
    /// What a reload reaches.
    pub(super) fn reload_parts(&self, certificates: Certificates, metrics: &Metrics, clock: Clock) -> reload::Parts {
        reload::Parts {
            snapshot: Arc::clone(&self.snapshot),
            upstream: Arc::clone(&self.upstream),
            cache: Arc::clone(&self.cache),
            lookup: Arc::clone(&self.lookup),
            what_if: Arc::clone(&self.what_if),
            aggregate: Arc::clone(&self.aggregate),
            presence: Arc::clone(&self.presence),
            certificates,
            metrics: metrics.clone(),
            clock,
        }
    }

    /// What operators see.
    pub(super) fn node_parts(&self, reloader: &Arc<Reloader>) -> node::Parts {
        node::Parts {
            snapshot: Arc::clone(&self.snapshot),
            upstream: Arc::clone(&self.upstream),
            aggregate: Arc::clone(&self.aggregate),
            presence: Arc::clone(&self.presence),
            agents: Arc::clone(&self.agents),
            reloader: Arc::clone(reloader),
            pages: self.pages.clone(),
        }
    }

    /// Once no agent is connected: closes what is open and delivers what the core takes in time. What it does not take waits on disk
    /// for the next start, which is as it should be; `false` says only that something waits.
    pub(super) async fn flush(&self) -> bool {
        let within = self.snapshot.load().config.shutdown.timeout;
        let deadline = Instant::now() + within;
        // Its last report is among what is delivered.
        self.presence.stop(within).await;
        self.aggregate.stop(deadline.saturating_duration_since(Instant::now())).await
    }
}
