//! Hits without waiting: a request whose answer is in memory, fresh and for everyone with the key.
//!
//! Most requests are that, and the whole of [`Visit`](super::visit::Visit), with its task, its lane and a key of its own, is for the others: what
//! may need the core, a rollout, a body on disk or one of several answers is left to it. Both give the same answer to the same request.

use weir_config::{Action, AnswerStore, CacheRoute, Method};
use weir_logic::cache::{Asking, CachePolicy, Freshness};
use weir_logic::key::Scope;
use weir_logic::{CacheKey, Call};

use super::CacheAction;
use crate::answer::Hit;

impl CacheAction {
    /// The answer to a request if it is a plain hit. Otherwise nothing is noted of the request.
    pub fn at_once(&self, call: &Call<'_>) -> Option<Hit> {
        let Action::Cache(route) = &call.route.action else { return None };
        if !matches!(call.request.method, Method::Get | Method::Head) || !is_plain(route) {
            return None;
        }
        let key = CacheKey::encoded(&route.key, Scope::of(route.shared), call).ok()?;
        let entry = self.shell.store.find_only(&key)?;
        if !self.shell.purging.has_nothing_new_for(entry.stamp()) {
            return None;
        }
        let policy = CachePolicy::of(route);
        let fresh @ Freshness::Fresh { .. } = entry.freshness(policy, call.now) else { return None };
        if route.obey_agents && !Asking::of(call.request.headers).accepts(&fresh, entry.age(call.now)) {
            return None;
        }
        let hit = entry.hit(&call.request, call.now, fresh.ttl())?;
        self.shell.what_if.see_hit(&call.route.name, &key, call.now, || entry.lease(policy));
        Some(hit)
    }
}

/// Whether an answer of the route is what is stored under the key, whoever asks.
fn is_plain(route: &CacheRoute) -> bool {
    route.store == AnswerStore::Memory && route.vary.is_empty() && route.rollout.is_none() && route.etag.is_none()
}
