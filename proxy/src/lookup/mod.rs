//! The lookup action: an agent's request joins a window, and its answer comes out of one bulk request to the core.
//!
//! Rules are in [`weir_logic::lookup`]; here are the timers (one for each window), the tasks (one for each bulk request, so that no
//! agent that leaves takes the others' answers with it), and the waiting. `bulk` asks and distributes, `reply` says what an agent
//! is told, `store` keeps answers for their TTL.
//!
//! How often the core is asked: see [`weir_logic::lookup`]; what it is asked: `proxy/CONTRACTS.md`.

mod bulk;
mod reply;
mod store;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use dashmap::DashMap;
use parking_lot::Mutex;
use prometheus::IntGauge;
use tokio::sync::oneshot;
use weir_config::{Action, CacheLimits, LookupRoute, Route};
use weir_logic::key::{self, NamedValue, Scope};
use weir_logic::lookup::{Kept, KeyAnswer, LookupWindow, LookupWindows, Place};
use weir_logic::{Answer, CacheKey, Call, Outcome, Refusal};

use crate::clock::Clock;
use crate::metrics::Metrics;
use crate::task;
use crate::upstream::Origin;
use store::KeptStore;

/// Answers the requests of all lookup routes. Parameters come with each call's route, so that a reload needs nothing here but
/// [`LookupAction::reconfigure`] and [`LookupAction::retain`].
///
/// Memory: kept answers up to a quarter of the cache's bounds; for each route at most `max_waiters` waiting requests, some
/// hundreds of bytes each; for each bulk request under way its answer, at most an eighth of the cache's bytes.
pub struct LookupAction {
    shared: Arc<Shared>,
}

struct Shared {
    origin: Arc<dyn Origin>,
    metrics: Metrics,
    clock: Clock,
    edge: Arc<str>,
    routes: DashMap<String, Arc<RouteWindows>>,
    kept: KeptStore,
    max_answer_bytes: AtomicUsize,
}

/// One route's windows.
struct RouteWindows {
    windows: Mutex<LookupWindows<About, Waiter>>,
    waiting: IntGauge,
}

/// What is known of a key when it is asked for.
struct About {
    parts: Vec<NamedValue>,
    /// What the core may confirm.
    kept: Option<Arc<Kept>>,
}

type Waiter = oneshot::Sender<Settled>;

type Window = LookupWindow<About, Waiter>;

/// What a waiting request hears.
type Settled = Result<Arc<Found>, KeyFailure>;

/// The core's answer to a key.
struct Found {
    answer: KeyAnswer,
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
}

impl LookupAction {
    /// No window open, nothing kept. `edge` is the node's name in bulk requests.
    pub fn new(
        origin: Arc<dyn Origin>,
        metrics: Metrics,
        clock: Clock,
        edge: impl Into<Arc<str>>,
        limits: &CacheLimits,
    ) -> Self {
        let shared = Shared {
            origin,
            metrics,
            clock,
            edge: edge.into(),
            routes: DashMap::new(),
            kept: KeptStore::new(limits),
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

    /// Forgets the windows of routes that are no longer there. Answers that were kept for them leave as others need the room.
    pub fn retain(&self, routes: &[Route]) {
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
        let kept = self.shared.kept.find(&key);
        if let Some(kept) = kept.as_ref().filter(|kept| kept.is_fresh(call.now)) {
            return Ok(reply::kept(call, kept, Outcome::Hit));
        }
        let about = About { parts: key::parts(&route.key, scope, call)?, kept: kept.clone() };
        let Some((place, waiting)) = self.join(call, route, key, about) else {
            let full = KeyFailure { refusal: Refusal::Overloaded, rest: None };
            return Ok(reply::failed(call, route, kept.as_deref(), full));
        };
        Ok(match waiting.settled().await {
            Ok(found) => reply::found(call, &found, place, kept.is_some()),
            Err(failure) => reply::failed(call, route, kept.as_deref(), failure),
        })
    }

    /// Stands in the route's window, and sees to it that the window is sent. `None` when too many wait.
    fn join(&self, call: &Call<'_>, route: &LookupRoute, key: CacheKey, about: About) -> Option<(Place, Waiting)> {
        let windows = self.shared.windows(&call.route.name);
        let (waiter, settled) = oneshot::channel();
        let joined = windows.windows.lock().join(key, about, waiter, route.max_keys, route.max_waiters).ok()?;
        windows.waiting.inc();
        let waiting = Waiting { settled, windows: Arc::clone(&windows) };
        if let Some(window) = joined.full {
            let (shared, route) = (Arc::clone(&self.shared), Arc::clone(call.route));
            task::spawn("bulk lookup", async move { shared.ask(&route, window).await });
        } else if let Place::Opened(number) = joined.place {
            let (shared, time) = (Arc::clone(&self.shared), route.window);
            let route = Arc::clone(call.route);
            task::spawn("lookup window", async move {
                tokio::time::sleep(time).await;
                let window = windows.windows.lock().close(number);
                if let Some(window) = window {
                    shared.ask(&route, window).await;
                }
            });
        }
        Some((joined.place, waiting))
    }
}

/// Bytes of one bulk answer, at most: an eighth of the cache's, and never less than one object's.
fn max_answer_bytes(limits: &CacheLimits) -> usize {
    (limits.max_bytes.as_usize() / 8).max(limits.max_object_bytes.as_usize())
}

impl Shared {
    fn windows(&self, route: &str) -> Arc<RouteWindows> {
        if let Some(windows) = self.routes.get(route) {
            return Arc::clone(&windows);
        }
        let waiting = self.metrics.lookup_waiters.with_label_values(&[route]);
        let fresh = || Arc::new(RouteWindows { windows: Mutex::new(LookupWindows::new()), waiting });
        Arc::clone(&self.routes.entry(route.to_owned()).or_insert_with(fresh))
    }
}

/// A request that waits. Dropped, it has left and counts no more.
struct Waiting {
    settled: oneshot::Receiver<Settled>,
    windows: Arc<RouteWindows>,
}

impl Waiting {
    async fn settled(mut self) -> Settled {
        let lost = KeyFailure { refusal: Refusal::CoreUnavailable, rest: None };
        (&mut self.settled).await.unwrap_or(Err(lost))
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.windows.windows.lock().leave();
        self.windows.waiting.dec();
    }
}
