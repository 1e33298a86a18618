//! The action `cache`: answers requests from stored answers, and fills, revalidates and serves stale so that the core sees as
//! little of its agents as the operator allows.
//!
//! The path of a request: key, store, and, when what is stored is not fresh, one fill for all who want the key. What may be kept
//! and for how long is said in `weir_logic::cache`; how the core is reached, in `upstream`.
//!
//! | stored | the core | the agent gets |
//! | --- | --- | --- |
//! | fresh | not asked | the stored answer |
//! | stale within `stale_while_revalidate` | asked behind the agent's back | the stored answer, at once |
//! | stale, nothing failed yet | asked once for all waiting | the new or confirmed answer; the stored one if the core fails within `stale_if_error` |
//! | stale within `stale_if_error`, last fill failed | asked behind the agent's back, once the key's hold ends | the stored answer, at once |
//! | nothing usable | asked once for all waiting, not at all while the key's hold lasts | the answer; calm or 503 if the core fails |

mod agreement;
mod at_once;
mod candidates;
mod entry;
mod fill;
mod filling;
mod flight;
mod handout;
mod packages;
mod payloads;
mod resuming;
mod rollouts;
mod shelf;
mod store;
#[cfg(test)]
mod tests;
mod visit;

use std::path::Path;
use std::sync::Arc;

use arc_swap::ArcSwap;
use weir_config::{Action, AnswerStore, CacheLimits, CacheRoute, Method, PackageLimits, RolloutLimits};
use weir_logic::cache::purge::Mark;
use weir_logic::cache::{Asking, CachePolicy, CacheStatus, Freshness, Selection, Terms, dialect};
use weir_logic::key::{self, Scope};
use weir_logic::{CacheKey, Call, Outcome, Refusal, RouteTable};

use self::entry::Entry;
use self::flight::Flights;
use self::payloads::Payloads;
use self::rollouts::Rollouts;
use self::shelf::Found;
use self::store::{Gauges, Store};
use self::visit::Visit;
use crate::answer::{Answer, Body, whole};
use crate::clock::Clock;
use crate::holds::Holds;
use crate::metrics::Metrics;
use crate::purging::{Keeper, Purging};
use crate::upstream::Origin;
use crate::whatif::WhatIf;

/// Bytes that each answer counts as, whatever is in it.
pub const OWN_BYTES: usize = entry::OWN_BYTES;

pub use self::packages::Packages;
pub use self::rollouts::RolloutPage;

/// The action `cache` for all its routes. State is kept by route name, so a reload needs nothing but the new routes.
/// Memory: the store's bounds, one body for each fill under way, 16,384 holds, and that of [`Packages`].
pub struct CacheAction {
    shell: Arc<Shell>,
}

/// What requests and fills share.
struct Shell {
    store: Store,
    packages: Arc<Packages>,
    flights: Arc<Flights>,
    holds: Holds,
    rollouts: Rollouts,
    payloads: Arc<Payloads>,
    /// The routes that payloads of manifests are found by.
    table: ArcSwap<RouteTable>,
    origin: Arc<dyn Origin>,
    limits: ArcSwap<CacheLimits>,
    purging: Arc<Purging>,
    what_if: Arc<WhatIf>,
    metrics: Metrics,
    clock: Clock,
}

impl Shell {
    /// What is kept for a request and may still be used, fresh or not.
    fn held(&self, key: &CacheKey, selection: &Selection, store: AnswerStore) -> Found {
        let on_disk = match store {
            AnswerStore::Memory => Found::Nothing,
            AnswerStore::Disk => self.packages.store.find(key, selection),
        };
        let found = if let Found::This(_) = on_disk { on_disk } else { self.store.find(key, selection) };
        let Some(entry) = found.entry() else { return found };
        if self.purging.allows(key, entry.stamp()) {
            return found;
        }
        self.store_of(entry).remove_if(key, |held| Arc::ptr_eq(held, entry));
        self.rollouts.prune(key, entry.selection(), |entry| self.purging.allows(key, entry.stamp()));
        Found::Nothing
    }

    /// The same, but that a body on disk that is not what was written counts as missing.
    async fn held_sound(&self, key: &CacheKey, selection: &Selection, store: AnswerStore) -> Found {
        let found = self.held(key, selection, store);
        let Some(entry) = found.entry() else { return found };
        match entry.package() {
            Some(package) if !package.is_sound().await => {
                self.packages.store.remove_if(key, |held| Arc::ptr_eq(held, entry));
                Found::Nothing
            }
            _ => found,
        }
    }

    /// Keeps `entry` under `key`; `false` when it is over the bounds.
    fn keep(&self, key: &CacheKey, entry: &Arc<Entry>, max_variants: usize) -> bool {
        let kept = self.store_of(entry).insert(key, entry, max_variants);
        if kept {
            // A key is in one store: a package may give way to the word that it is gone, and the other way round.
            let other = if entry.package().is_some() { &self.store } else { &self.packages.store };
            other.outdate(key, entry.selection());
        }
        kept
    }

    /// Forgets what an answer that is not kept itself puts out of date.
    fn outdate(&self, key: &CacheKey, by: &Selection) {
        self.store.outdate(key, by);
        self.packages.store.outdate(key, by);
    }

    fn store_of(&self, entry: &Entry) -> &Store {
        if entry.package().is_some() { &self.packages.store } else { &self.store }
    }
}

impl CacheAction {
    /// An empty cache in front of `origin`, whose answers on disk are in `packages`.
    pub fn new(
        packages: Arc<Packages>,
        origin: Arc<dyn Origin>,
        purging: Arc<Purging>,
        what_if: Arc<WhatIf>,
        metrics: Metrics,
        clock: Clock,
        limits: &CacheLimits,
    ) -> Self {
        let store = Store::new(limits.into(), Gauges::of_memory(&metrics));
        let shell = Shell {
            store,
            packages,
            flights: Arc::new(Flights::default()),
            holds: Holds::new(),
            rollouts: Rollouts::new(metrics.clone()),
            payloads: Arc::new(Payloads::new(clock)),
            table: ArcSwap::default(),
            origin,
            limits: ArcSwap::from_pointee(*limits),
            purging,
            what_if,
            metrics,
            clock,
        };
        Self { shell: Arc::new(shell) }
    }

    /// Brings new bounds into force; what is over them leaves at once.
    pub fn reconfigure(&self, limits: &CacheLimits, packages: &PackageLimits) {
        self.shell.limits.store(Arc::new(*limits));
        self.shell.store.reconfigure(limits.into());
        self.shell.packages.reconfigure(packages);
    }

    /// Answers a request on a cached route. The future may be dropped at any time: fills go on for whoever else waits.
    pub async fn answer(&self, call: &Call<'_>) -> Answer {
        let Action::Cache(route) = &call.route.action else {
            return refused(Refusal::UnknownRoute, "not a cached route");
        };
        if !matches!(call.request.method, Method::Get | Method::Head | Method::Post) {
            return refused(Refusal::WrongMethod, "a cached route takes GET, HEAD and POST");
        }
        let answer = self.whole_answer(call, route).await;
        let Some(dialect) = &route.etag else { return answer };
        match whole(answer) {
            Ok(answer) => dialect::answered(dialect, &call.request, answer).map_body(Body::from),
            Err(streamed) => streamed,
        }
    }

    /// The answer as it is kept or comes, whatever tag the agent's body names.
    async fn whole_answer(&self, call: &Call<'_>, route: &CacheRoute) -> Answer {
        let key = match key::require_plain_body(call)
            .and_then(|()| CacheKey::of(&route.key, Scope::of(route.shared), call))
        {
            Ok(key) => key,
            Err(error) => return refused(error.into(), error.detail()),
        };
        let selection = match Selection::of(call, &route.vary) {
            Ok(selection) => selection,
            Err(error) => return refused(error.into(), error.detail()),
        };
        let policy = CachePolicy::of(route);
        let found = self.shell.held_sound(&key, &selection, route.store).await;
        if let Some(package) = found.entry().and_then(|entry| entry.package()) {
            package.limit(route.max_bytes_per_second.bytes());
        }
        let lane = found.lane(&key, &selection);
        let held = found.entry();
        let lease = held.map(|entry| entry.lease(policy));
        self.shell.what_if.see(&call.route.name, &lane, call.now, lease, || policy.lease(200, &Terms::default()));
        let asking = if route.obey_agents { Asking::of(call.request.headers) } else { Asking::default() };
        let visit = Visit { shell: &self.shell, call, route, key: &key, selection, lane, found, asking };
        if let Some(entry) = visit.found.entry()
            && let fresh @ Freshness::Fresh { .. } = entry.freshness(policy, call.now)
            && visit.asking.accepts(&fresh, entry.age(call.now))
        {
            return visit.give(entry, call.now, &CacheStatus::hit(fresh.ttl()), Outcome::Hit);
        }
        visit.answer().await
    }

    /// Finds the payloads of manifests by these routes from now on.
    pub fn adopt(&self, table: Arc<RouteTable>) {
        self.shell.table.store(table);
    }

    /// Keeps the releases that are on their way in `directory` from now on, after taking up what is there. Blocks on the disk; to
    /// be called before the first request.
    pub fn open_rollouts(&self, limits: &RolloutLimits, directory: &Path) {
        self.shell.rollouts.reconfigure(limits);
        self.shell.rollouts.open(directory, &self.shell.purging, self.shell.clock.now());
    }

    /// Brings new bounds of what is kept for rollouts into force.
    pub fn reconfigure_rollouts(&self, limits: &RolloutLimits) {
        self.shell.rollouts.reconfigure(limits);
    }

    /// Moves rollouts on, for ever.
    pub async fn tend(self: Arc<Self>) {
        let mut ticks = tokio::time::interval(rollouts::TICK);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            self.shell.rollouts.tend(self.shell.clock.now());
            if self.shell.rollouts.is_unsaved() {
                let shell = Arc::clone(&self.shell);
                drop(tokio::task::spawn_blocking(move || shell.rollouts.save_soon()).await);
            }
        }
    }
}

impl Keeper for CacheAction {
    fn count(&self, mark: Option<Mark>) -> usize {
        self.shell.store.count(mark) + self.shell.packages.store.count(mark)
    }

    fn sweep(&self) -> usize {
        let purging = &self.shell.purging;
        self.shell.rollouts.sweep(|key, entry| purging.allows(key, entry.stamp()));
        self.shell.rollouts.save();
        let allowed = |key: &CacheKey, entry: &Entry| purging.allows(key, entry.stamp());
        self.shell.store.sweep(allowed) + self.shell.packages.store.sweep(allowed)
    }
}

#[cfg(test)]
pub(crate) use tests::support::key_named;

/// These refusals are about the request and carry no `Retry-After`.
fn refused(refusal: Refusal, detail: &str) -> Answer {
    refusal.answer(detail, std::time::Duration::ZERO).map_body(Body::from)
}
