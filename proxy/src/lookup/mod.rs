//! The lookup action: an agent's request joins a window, and its answer comes out of one bulk request to the core.
//!
//! Rules are in [`weir_logic::lookup`]; here are the timers (one for each window), the tasks (one for each bulk request, so that no
//! agent that leaves takes the others' answers with it), and the waiting. `visit` is a request that finds nothing fresh, `bulk` asks
//! and distributes, `reply` says what an agent is told, `store` keeps answers for their TTL, `refresh` fetches them anew while nobody
//! waits.
//!
//! | kept | the core | the agent gets |
//! | --- | --- | --- |
//! | fresh | not asked, or just before the TTL ends, with others | the kept answer |
//! | stale within `stale_while_revalidate` | asked behind the agent's back, with others | the kept answer, at once |
//! | stale within `stale_if_error`, last answer a failure | asked behind the agent's back, once the key's hold ends | the kept answer, at once |
//! | the same, and there is a line at the core's gate | asked behind the agent's back, with others | the kept answer, at once |
//! | stale within `stale_if_error`, nothing failed yet | asked in the window | the new or confirmed answer; the kept one if the core fails |
//! | nothing usable | asked in the window, not at all while the key's hold lasts | the answer; calm or 503 if the core fails |
//!
//! How often the core is asked: see [`weir_logic::lookup`]; what it is asked: `proxy/CONTRACTS.md`.

mod bulk;
mod refresh;
mod reply;
mod store;
#[cfg(test)]
mod tests;
mod visit;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use dashmap::DashMap;
use parking_lot::Mutex;
use prometheus::IntGauge;
use tokio::sync::oneshot;
use weir_config::{Action, CacheLimits, LookupRoute, Route};
use weir_logic::cache::purge::{Mark, Marks};
use weir_logic::cache::{Freshness, Hold};
use weir_logic::key::{self, Scope};
use weir_logic::lookup::{Join, KeyText, LookupWindow, LookupWindows, Place, WindowBounds, lease};
use weir_logic::{Answer, CacheKey, Call, Millis, Outcome, Refusal, TenantId};

use self::bulk::Bulk;
use self::store::{Holding, KeptStore};
use self::visit::Visit;
use crate::clock::Clock;
use crate::holds::Holds;
use crate::metrics::Metrics;
use crate::purging::{Keeper, Purging};
use crate::task;
use crate::upstream::Origin;
use crate::whatif::WhatIf;

/// Bytes that each answer counts as, whatever is in it, as a rule.
pub const OWN_BYTES: usize = store::OWN_BYTES;

/// The part of the cache's bounds that lookups have: one of so many.
pub const PART: usize = store::PART;

/// Answers the requests of all lookup routes. Parameters come with each call's route, so that a reload needs nothing here but
/// [`LookupAction::reconfigure`] and [`LookupAction::adopt`].
///
/// Memory: kept answers up to a quarter of the cache's bounds; for each route at most `max_waiters` waiting requests, some
/// hundreds of bytes each, and `max_keys` keys to be fetched anew; for each bulk request under way its answer, at most an eighth of
/// the cache's bytes; 16,384 holds.
pub struct LookupAction {
    shared: Arc<Shared>,
}

struct Shared {
    origin: Arc<dyn Origin>,
    purging: Arc<Purging>,
    metrics: Metrics,
    clock: Clock,
    edge: Arc<str>,
    routes: DashMap<String, Arc<RouteWindows>>,
    /// The lookup routes of the configuration.
    in_force: ArcSwap<Vec<Route>>,
    kept: KeptStore,
    holds: Holds,
    what_if: Arc<WhatIf>,
    max_answer_bytes: AtomicUsize,
}

/// One route's windows.
struct RouteWindows {
    windows: Mutex<LookupWindows<About, Waiter>>,
    waiting: IntGauge,
    /// The rest from dividing that it has after a window of which the core has refused every part.
    undivided: Mutex<Option<Hold>>,
}

/// What it takes to ask for a key, now and again.
#[derive(Debug)]
struct Asking {
    key: CacheKey,
    route: Arc<Route>,
    text: KeyText,
    /// What the answer can be purged by, but for the tags that the core gives it.
    marks: Arc<Marks>,
}

/// What is known of a key when it is asked for.
struct About {
    asking: Arc<Asking>,
    /// What the core may confirm.
    held: Option<Arc<Holding>>,
}

type Waiter = oneshot::Sender<Settled>;

type Window = LookupWindow<About, Waiter>;

/// What a waiting request hears.
type Settled = Result<Arc<Found>, KeyFailure>;

/// The core's answer to a key.
struct Found {
    holding: Arc<Holding>,
    /// Whether the core confirmed what was kept.
    confirmed: bool,
    /// Whether the answer is kept from now on.
    stored: bool,
}

/// Why a key has no answer, and how long the core wants to be left alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct KeyFailure {
    refusal: Refusal,
    rest: Option<Duration>,
    /// Whether the core was not asked at all.
    turned_away: bool,
}

impl LookupAction {
    /// No window open, nothing kept. `edge` is the node's name in bulk requests.
    pub fn new(
        origin: Arc<dyn Origin>,
        purging: Arc<Purging>,
        what_if: Arc<WhatIf>,
        metrics: Metrics,
        clock: Clock,
        edge: impl Into<Arc<str>>,
        limits: &CacheLimits,
    ) -> Self {
        let shared = Shared {
            origin,
            purging,
            metrics,
            clock,
            edge: edge.into(),
            routes: DashMap::new(),
            in_force: ArcSwap::default(),
            kept: KeptStore::new(limits),
            holds: Holds::new(),
            what_if,
            max_answer_bytes: AtomicUsize::new(max_answer_bytes(limits)),
        };
        Self { shared: Arc::new(shared) }
    }

    /// Answers one request: from what is kept, or from the core by way of the route's window. Any number of calls may be under
    /// way at once; a call that is dropped leaves its window alone.
    pub async fn answer(&self, call: &Call<'_>) -> Answer {
        let Action::Lookup(route) = &call.route.action else {
            return Refusal::UnknownRoute.answer("not a lookup route", Duration::ZERO);
        };
        match self.look_up(call, route).await {
            Ok(answer) => answer,
            Err(error) => Refusal::from(error).answer(error.detail(), Duration::ZERO),
        }
    }

    /// Takes over the routes in force. The windows of those that are no longer there go once they are answered; answers that were
    /// kept for routes that have changed serve on, and are not fetched anew before somebody asks.
    pub fn adopt(&self, routes: &[Route]) {
        let lookups = routes.iter().filter(|route| matches!(route.action, Action::Lookup(_)));
        self.shared.in_force.store(Arc::new(lookups.cloned().collect()));
        self.shared.routes.retain(|name, _| routes.iter().any(|route| route.name == *name));
    }

    /// Takes over new bounds; kept answers that no longer fit leave.
    pub fn reconfigure(&self, limits: &CacheLimits) {
        self.shared.kept.reconfigure(limits);
        self.shared.max_answer_bytes.store(max_answer_bytes(limits), Ordering::Relaxed);
    }

    async fn look_up(&self, call: &Call<'_>, route: &LookupRoute) -> Result<Answer, key::KeyError> {
        let scope = Scope::of(route.shared);
        let key = CacheKey::of(&route.key, scope, call)?;
        let held = self.shared.held(&key);
        let granted = held.as_ref().map(|holding| lease(route, holding.kept.answer.ttl));
        self.shared.what_if.see(&call.route.name, &key, call.now, granted, || lease(route, None));
        if let Some(holding) = &held
            && let fresh @ Freshness::Fresh { .. } = holding.freshness(route, call.now)
        {
            return Ok(reply::kept(call, holding, fresh, Outcome::Hit));
        }
        let text = KeyText::new(&key::parts(&route.key, scope, call)?);
        let marks = Arc::new(marks(call, route));
        let asking = Arc::new(Asking { key: key.clone(), route: Arc::clone(call.route), text, marks });
        Ok(Visit { shared: &self.shared, call, route, asking, held }.answer().await)
    }
}

impl Keeper for LookupAction {
    fn count(&self, mark: Option<Mark>) -> usize {
        self.shared.kept.count(mark)
    }

    fn sweep(&self) -> usize {
        let purging = &self.shared.purging;
        self.shared.kept.sweep(|key, holding| purging.allows(key, &holding.stamp))
    }
}

impl RouteWindows {
    /// Whether a window that the core refuses is asked for in parts.
    fn may_divide(&self, now: Millis) -> bool {
        !self.undivided.lock().is_some_and(|hold| hold.holds(now))
    }

    /// A window was refused. Where no part of it was answered, it is not a key that is at fault, and the next windows are left whole
    /// for a time.
    fn divided(&self, answered: bool, now: Millis) {
        let mut undivided = self.undivided.lock();
        *undivided = (!answered).then(|| Hold::after(*undivided, None, now, rand::random()));
    }
}

impl Shared {
    fn windows(&self, route: &str) -> Arc<RouteWindows> {
        if let Some(windows) = self.routes.get(route) {
            return Arc::clone(&windows);
        }
        let waiting = self.metrics.lookup_waiters.with_label_values(&[route]);
        let fresh = || {
            Arc::new(RouteWindows { windows: Mutex::new(LookupWindows::new()), waiting, undivided: Mutex::default() })
        };
        Arc::clone(&self.routes.entry(route.to_owned()).or_insert_with(fresh))
    }

    /// What is kept for `key` and may still be used, fresh or not.
    fn held(&self, key: &CacheKey) -> Option<Arc<Holding>> {
        let holding = self.kept.find(key)?;
        if self.purging.allows(key, &holding.stamp) {
            return Some(holding);
        }
        self.kept.forget_this(&holding);
        None
    }

    /// Sends the window that somebody has filled, and closes the one that somebody has opened when its time is over.
    fn see_off(
        self: &Arc<Self>,
        route: &Arc<Route>,
        windows: &Arc<RouteWindows>,
        joined: Join<About, Waiter>,
        time: Duration,
    ) {
        let Action::Lookup(lookup) = &route.action else { return };
        let (shared, windows, route, bounds) =
            (Arc::clone(self), Arc::clone(windows), Arc::clone(route), bounds(lookup));
        if let Some(window) = joined.full {
            let bulk = Bulk::new(window, windows);
            drop(task::spawn("bulk lookup", async move { shared.ask(&route, bulk).await }));
        } else if let Place::Opened(number) = joined.place {
            drop(task::spawn("lookup window", async move {
                tokio::time::sleep(time).await;
                let window = windows.windows.lock().close(number, bounds);
                if let Some(window) = window {
                    shared.ask(&route, Bulk::new(window, windows)).await;
                }
            }));
        }
    }
}

/// What the route allows its windows. Where its TTL is zero an answer must not be older than its request.
fn bounds(route: &LookupRoute) -> WindowBounds {
    WindowBounds { max_keys: route.max_keys, max_waiters: route.max_waiters, joins_under_way: !route.ttl.is_zero() }
}

/// What the answer can be purged by, whatever tags it will have.
fn marks(call: &Call<'_>, route: &LookupRoute) -> Marks {
    let tenant = call.identity.tenant.as_ref().filter(|_| !route.shared).map(TenantId::as_str);
    Marks::of_answer(&call.route.name, tenant, call.request.path, [])
}

/// Bytes of one bulk answer, at most: an eighth of the cache's, and never less than one object's.
fn max_answer_bytes(limits: &CacheLimits) -> usize {
    (limits.max_bytes.as_usize() / 8).max(limits.max_object_bytes.as_usize())
}
