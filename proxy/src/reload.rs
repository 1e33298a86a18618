//! A reload: the file is read anew and put in force whole, or not at all.
//!
//! Everything that can fail is tried before anything changes: the file is parsed, the listeners' certificates are loaded, the cores
//! prepare their new settings. Then the snapshot is swapped in one step; requests under way keep the one they started with. Keys that
//! need a restart keep their running values, and each reload says so again until the restart.

use std::path::PathBuf;
use std::sync::Arc;

use parking_lot::Mutex;
use serde::Serialize;
use weir_config::{Change, Config, Parsed};

use crate::accept::{Certificates, certificates};
use crate::admin::ReloadAnswer;
use crate::aggregate::Aggregate;
use crate::app::systemd;
use crate::cache::CacheAction;
use crate::clock::Clock;
use crate::environment;
use crate::lookup::LookupAction;
use crate::metrics::Metrics;
use crate::presence::Presence;
use crate::snapshot::{ConfigSnapshot, SharedSnapshot};
use crate::upstream::Upstream;
use crate::whatif::WhatIf;

/// Puts a changed file in force while the node runs. One reload at a time; a second one waits.
pub struct Reloader {
    path: PathBuf,
    running: Mutex<Parsed>,
    parts: Parts,
}

/// Whom a reload reaches.
pub struct Parts {
    /// The configuration in force.
    pub snapshot: SharedSnapshot,
    /// The cores.
    pub upstream: Arc<Upstream>,
    /// The cache.
    pub cache: Arc<CacheAction>,
    /// Lookups.
    pub lookup: Arc<LookupAction>,
    /// The watch on what other TTLs would mean.
    pub what_if: Arc<WhatIf>,
    /// Uploads.
    pub aggregate: Arc<Aggregate>,
    /// Who is alive.
    pub presence: Arc<Presence>,
    /// The listeners' certificates.
    pub certificates: Certificates,
    /// Counts reloads.
    pub metrics: Metrics,
    /// Tells whether certificates are valid.
    pub clock: Clock,
}

/// What a reload has changed.
#[derive(Clone, Debug, Serialize)]
struct Applied {
    /// The generation of the configuration in force.
    generation: u64,
    /// In force now.
    changed: Vec<Changed>,
    /// Read, but not in force before a restart.
    needs_restart: Vec<Changed>,
    /// What is probably not meant.
    warnings: Vec<String>,
}

/// One key.
#[derive(Clone, Debug, Serialize)]
struct Changed {
    key: String,
    old: Option<String>,
    new: Option<String>,
}

impl Reloader {
    /// A reloader for the file at `path`, of which `running` is in force.
    pub fn new(path: PathBuf, running: Parsed, parts: Parts) -> Self {
        Self { path, running: Mutex::new(running), parts }
    }

    /// Reads the file and puts it in force, or says every reason why not. Blocks on the disk. Logs what came of it.
    pub fn reload(&self) -> ReloadAnswer {
        systemd::reloading();
        let mut running = self.running.lock();
        let answer = match self.apply(&mut running) {
            Ok(applied) => {
                tracing::info!(
                    generation = applied.generation,
                    changed = keys(&applied.changed),
                    needs_restart = keys(&applied.needs_restart),
                    "reloaded"
                );
                ReloadAnswer::Applied(serde_json::json!(applied))
            }
            Err(problems) => {
                tracing::error!(%problems, "reload refused; the old configuration stays in force");
                ReloadAnswer::Refused(problems)
            }
        };
        let result = if matches!(answer, ReloadAnswer::Applied(_)) { "applied" } else { "refused" };
        self.parts.metrics.config_reloads.with_label_values(&[result]).inc();
        systemd::ready(&format!("generation {}, last reload {result}", self.parts.snapshot.load().generation));
        answer
    }

    fn apply(&self, running: &mut Parsed) -> Result<Applied, String> {
        let mut wanted = environment::load(&self.path).map_err(|problems| problems.to_string())?;
        let (late, live): (Vec<_>, Vec<_>) = running.changes(&wanted).into_iter().partition(needs_restart);
        wanted.config = in_force(&running.config, wanted.config);
        let config = &wanted.config;

        self.check_certificates(config)?;
        self.reconfigure(&running.config, config)?;
        self.parts.cache.reconfigure(&config.limits.cache, &config.limits.packages);
        self.parts.cache.reconfigure_rollouts(&config.limits.rollouts);
        self.parts.lookup.reconfigure(&config.limits.cache);
        let generation = self.parts.snapshot.load().generation + 1;
        self.parts.snapshot.store(Arc::new(ConfigSnapshot::new(config.clone(), generation)));
        self.parts.metrics.config_generation.set(i64::try_from(generation).unwrap_or(i64::MAX));
        self.parts.cache.adopt(Arc::clone(&self.parts.snapshot.load().table));
        self.parts.lookup.adopt(&config.routes);
        let what_if_keys = config.limits.cache.what_if_keys;
        self.parts.what_if.reconfigure(&running.config.routes, &config.routes, what_if_keys, self.parts.clock.now());
        self.parts.presence.reconfigure(config.presence.clone());
        self.reload_certificates();

        let warnings = wanted.warnings.iter().map(ToString::to_string).collect();
        *running = wanted;
        Ok(Applied { generation, changed: changed(live), needs_restart: changed(late), warnings })
    }

    /// Hands the wanted configuration to those who may refuse it; a refusal by the second takes it back from the first.
    fn reconfigure(&self, running: &Config, wanted: &Config) -> Result<(), String> {
        self.parts.upstream.reconfigure(wanted).map_err(|error| error.to_string())?;
        let Err(refused) = self.parts.aggregate.reconfigure(wanted) else { return Ok(()) };
        if let Err(error) = self.parts.upstream.reconfigure(running) {
            tracing::error!(%error, "the cores keep what the refused configuration says of them");
        }
        Err(refused.to_string())
    }

    /// A pair that cannot serve refuses the reload before anything has changed.
    fn check_certificates(&self, config: &Config) -> Result<(), String> {
        let now = self.parts.clock.now();
        let pairs = config.listeners.iter().filter_map(|listener| Some((&listener.name, listener.tls.as_ref()?)));
        let problems: Vec<_> = pairs
            .filter_map(|(name, tls)| Some(format!("listener {name}: {}", certificates::load(tls, now).err()?)))
            .collect();
        if problems.is_empty() { Ok(()) } else { Err(problems.join("\n")) }
    }

    /// Files that were right a moment ago may have changed since; then the old pair goes on serving.
    fn reload_certificates(&self) {
        for (listener, error) in self.parts.certificates.reload(self.parts.clock.now()) {
            tracing::error!(listener, %error, "the certificate is not taken; the old one goes on serving");
        }
    }
}

/// A listener's socket, TLS and limits are set when it is bound.
fn needs_restart(change: &Change) -> bool {
    change.needs_restart || change.key == "listener" || change.key.starts_with("listener.")
}

/// The wanted configuration with the running values of all that needs a restart.
fn in_force(running: &Config, wanted: Config) -> Config {
    let mut config = Config {
        edge: running.edge.clone(),
        admin: running.admin.clone(),
        listeners: running.listeners.clone(),
        ..wanted
    };
    config.limits.agents.max_agents = running.limits.agents.max_agents;
    config
}

fn changed(changes: Vec<Change>) -> Vec<Changed> {
    changes.into_iter().map(|change| Changed { key: change.key, old: change.old, new: change.new }).collect()
}

fn keys(changes: &[Changed]) -> String {
    let keys: Vec<&str> = changes.iter().map(|change| change.key.as_str()).collect();
    keys.join(", ")
}
