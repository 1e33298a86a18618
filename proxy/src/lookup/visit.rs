//! A request that found nothing fresh.

use std::sync::Arc;

use tokio::sync::oneshot;
use weir_config::LookupRoute;
use weir_logic::cache::{Freshness, Hold};
use weir_logic::lookup::Place;
use weir_logic::{Answer, Call, Cause, Outcome, Refusal};

use super::store::Holding;
use super::{About, Asking, Found, KeyFailure, RouteWindows, Settled, Shared, bounds, reply};

/// One request with what is kept for its key: nothing, or something that is not fresh.
pub(super) struct Visit<'a> {
    pub(super) shared: &'a Arc<Shared>,
    pub(super) call: &'a Call<'a>,
    pub(super) route: &'a LookupRoute,
    pub(super) asking: Arc<Asking>,
    pub(super) held: Option<Arc<Holding>>,
}

/// What came of standing in line.
enum Joined {
    Waiting(Place, Waiting),
    /// Meanwhile another request's answer came.
    Fresh(Arc<Holding>, Freshness),
    /// Too many wait.
    Full,
}

impl Visit<'_> {
    pub(super) async fn answer(self) -> Answer {
        let now = self.call.now;
        let hold = self.shared.holds.find(&self.asking.key);
        let held_back = hold.filter(|hold| hold.holds(now));
        if let Some((holding, freshness)) = self.held()
            && let Freshness::Stale { while_revalidate, if_error, .. } = freshness
            && (while_revalidate || (if_error && (hold.is_some() || self.is_crowded())))
        {
            if held_back.is_none() {
                self.shared.refresh(&self.asking, Some(Arc::clone(holding)));
            }
            let cause = match hold {
                Some(_) => Cause::CoreFailing,
                None if while_revalidate => Cause::Revalidating,
                None => Cause::Crowded,
            };
            return reply::kept(self.call, holding, freshness, Outcome::Stale).because(cause);
        }
        match held_back {
            Some(hold) => self.without_the_core(Cause::CoreFailing, self.at_rest(hold)),
            None => self.wait().await,
        }
    }

    /// Waits for the key's answer. What a purge has hit on its way is not for those who came after the purge: they ask once more.
    async fn wait(&self) -> Answer {
        for round in 1..=MAX_ROUNDS {
            let (place, waiting) = match self.join() {
                Joined::Waiting(place, waiting) => (place, waiting),
                Joined::Fresh(holding, freshness) => {
                    return reply::kept(self.call, &holding, freshness, Outcome::Hit);
                }
                Joined::Full => {
                    let full = KeyFailure { refusal: Refusal::Overloaded, rest: None, turned_away: true };
                    return self.without_the_core(Cause::Crowded, full);
                }
            };
            match waiting.settled().await {
                Ok(found) if round < MAX_ROUNDS && self.is_purged(&found) => {}
                Ok(found) => return reply::found(self.call, &found, place, self.held.is_some()),
                Err(failure) => return self.without_the_core(Cause::FillFailed, failure),
            }
        }
        self.without_the_core(Cause::FillFailed, KeyFailure::LOST)
    }

    /// Stands in the route's window, and sees to it that the window is sent.
    fn join(&self) -> Joined {
        let route = &self.asking.route;
        let windows = self.shared.windows(&route.name);
        let (waiter, settled) = oneshot::channel();
        let about = About { asking: Arc::clone(&self.asking), held: self.held.clone() };
        let bounds = bounds(self.route);
        let mut line = windows.windows.lock();
        // An answer is kept before its key counts as landed: whoever finds it neither kept nor under way has to ask.
        if bounds.joins_under_way
            && let Some(holding) = self.shared.held(&self.asking.key)
            && let fresh @ Freshness::Fresh { .. } = holding.freshness(self.route, self.call.now)
        {
            return Joined::Fresh(holding, fresh);
        }
        let Ok(joined) = line.join(self.asking.key.clone(), about, waiter, bounds) else { return Joined::Full };
        drop(line);
        windows.waiting.inc();
        let (place, waiting) = (joined.place, Waiting { settled, windows: Arc::clone(&windows) });
        self.shared.see_off(route, &windows, joined, self.route.window);
        Joined::Waiting(place, waiting)
    }

    /// Whether waiting for an answer would mean to stand in a line, as while the core's rate climbs after an outage.
    fn is_crowded(&self) -> bool {
        let route = &self.asking.route;
        self.shared.origin.is_crowded(route.core, route.class)
    }

    /// What is kept if it may stand in, else the calm answer, else when to come back.
    fn without_the_core(&self, cause: Cause, failure: KeyFailure) -> Answer {
        if let Some((holding, freshness)) = self.held().filter(|(_, freshness)| freshness.serves_errors()) {
            return reply::kept(self.call, holding, freshness, Outcome::Stale).because(cause);
        }
        reply::refused(self.route, failure)
    }

    /// The key gets some rest, and so do its agents.
    fn at_rest(&self, hold: Hold) -> KeyFailure {
        let left = hold.until.since(self.call.now);
        KeyFailure { refusal: Refusal::CoreUnavailable, rest: Some(left), turned_away: true }
    }

    fn held(&self) -> Option<(&Arc<Holding>, Freshness)> {
        let holding =
            self.held.as_ref().filter(|holding| self.shared.purging.allows(&self.asking.key, &holding.stamp))?;
        Some((holding, holding.freshness(self.route, self.call.now)))
    }

    fn is_purged(&self, found: &Found) -> bool {
        !self.shared.purging.allows(&self.asking.key, &found.holding.stamp)
    }
}

/// A request that waits. Dropped, it has left and counts no more.
struct Waiting {
    settled: oneshot::Receiver<Settled>,
    windows: Arc<RouteWindows>,
}

impl Waiting {
    async fn settled(mut self) -> Settled {
        (&mut self.settled).await.unwrap_or(Err(KeyFailure::LOST))
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.windows.windows.lock().leave();
        self.windows.waiting.dec();
    }
}

impl KeyFailure {
    /// No answer, and no reason for that.
    pub(super) const LOST: Self = Self { refusal: Refusal::CoreUnavailable, rest: None, turned_away: false };
}

/// A purge may come twice in the time of two requests; agents do not wait for a third.
const MAX_ROUNDS: usize = 2;
