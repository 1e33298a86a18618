//! Kept answers that are fetched anew while nobody waits: stale ones that somebody was just given, and those whose TTL is about to
//! end and that were asked for since they came.
//!
//! They travel with whatever bulk request of their route leaves next and has room, or gather for the route's `refresh_window`. So
//! 100,000 keys that are each fetched once a minute are two requests a second.

use std::sync::Arc;
use std::time::Duration;

use weir_config::{Action, Route};

use super::store::Holding;
use super::{About, Asking, LookupAction, Shared, bounds};

impl LookupAction {
    /// Looks every second for what is due. Never ends; what it starts runs in tasks of its own.
    pub async fn tend(self: Arc<Self>) {
        let mut ticks = tokio::time::interval(TICK);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            self.shared.refresh_due();
        }
    }
}

impl Shared {
    /// Has what is due by now fetched anew, as far as its route is still the one that it was asked for on.
    pub(super) fn refresh_due(self: &Arc<Self>) {
        let now = self.clock.now();
        let in_force = self.in_force.load();
        for holding in self.kept.take_due(now) {
            let route = &holding.asking.route;
            let same = |known: &Route| known.name == route.name && *known == **route;
            let held_back = || self.holds.find(&holding.asking.key).is_some_and(|hold| hold.holds(now));
            if in_force.iter().any(same) && !held_back() && self.purging.allows(&holding.asking.key, &holding.stamp) {
                self.refresh(&Arc::clone(&holding.asking), Some(holding));
            }
        }
    }

    /// Has the key asked for, unless that is about to happen or happening.
    pub(super) fn refresh(self: &Arc<Self>, asking: &Arc<Asking>, held: Option<Arc<Holding>>) {
        let route = &asking.route;
        let Action::Lookup(lookup) = &route.action else { return };
        let windows = self.windows(&route.name);
        let about = About { asking: Arc::clone(asking), held };
        let joined = windows.windows.lock().refresh(asking.key.clone(), about, bounds(lookup));
        if let Some(joined) = joined {
            self.see_off(route, &windows, joined, lookup.refresh_window);
        }
    }
}

/// Shorter than any part of a TTL that matters, longer than a look at 16 queues takes.
const TICK: Duration = Duration::from_secs(1);
