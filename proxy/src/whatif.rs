//! What other TTLs would have meant, watched on live traffic: the threads' side of [`weir_logic::whatif`], and the page that tells.
//!
//! A request for a key that is not watched costs the key's hash, a count and two comparisons; no lock is taken. One for a watched
//! key takes one of its route's four locks, for as long as six ghosts are asked, or a number is counted up.

mod page;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use weir_config::{Action, Route};
use weir_logic::cache::Lease;
use weir_logic::whatif::{Asked, Figures, Watch, mixed};
use weir_logic::{CacheKey, Millis, key};

pub use page::TtlPage;

/// The watched keys of all routes that keep answers. Memory: for each such route `limits.cache.what_if_keys` keys of about 400 bytes,
/// and 80 KiB.
#[derive(Default)]
pub struct WhatIf {
    routes: ArcSwap<HashMap<String, Arc<RouteWatch>>>,
}

/// One route's keys, in parts by the lowest bits of their digests.
struct RouteWatch {
    /// So that nobody can choose keys that are watched.
    secret: u64,
    parts: [Part; PARTS],
}

struct Part {
    /// [`Watch::threshold`], to be looked at without the lock.
    threshold: AtomicU64,
    /// Requests that the watch has not been told of yet.
    requests: AtomicU64,
    /// When the watch wants its next turn.
    turn: AtomicU64,
    watch: Mutex<Watch>,
}

/// What is known of a route.
pub(crate) struct Known {
    pub(crate) figures: Figures,
    covered: Duration,
    keys: usize,
    /// The part of the route's keys that is watched.
    part: f64,
    /// The shortest and the longest TTL of what is kept.
    ttls: Option<(Duration, Duration)>,
}

const PARTS: usize = 4;

impl WhatIf {
    /// Watches the routes that keep answers, `max_keys` keys of each; a route whose terms are not those of `old` begins a new report.
    pub fn reconfigure(&self, old: &[Route], routes: &[Route], max_keys: usize, now: Millis) {
        let present = self.routes.load();
        let kept = routes.iter().filter(|route| max_keys > 0 && keeps_answers(&route.action));
        let watched = kept.map(|route| {
            let watch = match present.get(&route.name) {
                Some(watch) => {
                    watch.resize(max_keys);
                    if !old.iter().any(|known| is_same(known, route)) {
                        watch.restart(now);
                    }
                    Arc::clone(watch)
                }
                None => Arc::new(RouteWatch::new(max_keys, now)),
            };
            (route.name.clone(), watch)
        });
        let watched = watched.collect();
        self.routes.store(Arc::new(watched));
    }

    /// A request on a route that keeps answers. `held` is what the policy grants the answer that is stored, `usual` what it grants
    /// most answers.
    pub fn see(&self, route: &str, key: &CacheKey, now: Millis, held: Option<Lease>, usual: impl FnOnce() -> Lease) {
        self.see_asked(route, key.as_bytes(), now, || (held.unwrap_or_else(usual), held.is_some()));
    }

    /// A request whose answer was stored and fresh; `key` is the encoding of its key.
    pub fn see_hit(&self, route: &str, key: &[u8], now: Millis, held: impl FnOnce() -> Lease) {
        self.see_asked(route, key, now, || (held(), true));
    }

    /// `lease` gives what the answer is granted, and whether it is stored: it is asked for watched keys alone.
    fn see_asked(&self, route: &str, key: &[u8], now: Millis, lease: impl FnOnce() -> (Lease, bool)) {
        let routes = self.routes.load();
        let Some(watch) = routes.get(route) else { return };
        let digest = watch.digest(key);
        let part = watch.part(digest);
        part.requests.fetch_add(1, Ordering::Relaxed);
        if digest < part.threshold.load(Ordering::Relaxed) {
            let (lease, stored) = lease();
            let asked = Asked { digest, now, lease, stored };
            part.locked(now, |watch| watch.see(&asked));
        } else if now.0 >= part.turn.load(Ordering::Relaxed) {
            part.locked(now, |_| ());
        }
    }

    /// The core has answered, in a time of `took`: what the policy grants its answer.
    pub fn filled(&self, route: &str, key: &CacheKey, now: Millis, lease: Lease, took: Duration) {
        let routes = self.routes.load();
        let Some(watch) = routes.get(route) else { return };
        let digest = watch.digest(key.as_bytes());
        let part = watch.part(digest);
        if digest < part.threshold.load(Ordering::Relaxed) {
            part.locked(now, |watch| watch.filled(digest, lease, took));
        }
    }

    /// The core's answer to a request that was seen as another key is that of `key`.
    pub fn brought(&self, route: &str, key: &CacheKey, now: Millis, lease: Lease) {
        let routes = self.routes.load();
        let Some(watch) = routes.get(route) else { return };
        let digest = watch.digest(key.as_bytes());
        let part = watch.part(digest);
        if digest < part.threshold.load(Ordering::Relaxed) {
            part.locked(now, |watch| watch.brought(digest, lease, now));
        }
    }

    pub(crate) fn known(&self, route: &str, now: Millis) -> Option<Known> {
        self.routes.load().get(route).map(|watch| watch.known(now))
    }
}

/// Whether requests under the one route meet the same terms as under the other.
fn is_same(known: &Route, route: &Route) -> bool {
    known.name == route.name && known.path == route.path && known.action == route.action
}

fn keeps_answers(action: &Action) -> bool {
    matches!(action, Action::Cache(_) | Action::Lookup(_))
}

impl RouteWatch {
    fn new(max_keys: usize, now: Millis) -> Self {
        let part = || Part {
            threshold: AtomicU64::new(u64::MAX),
            requests: AtomicU64::new(0),
            turn: AtomicU64::new(0),
            watch: Mutex::new(Watch::new(max_keys.div_ceil(PARTS), now)),
        };
        Self { secret: rand::random(), parts: std::array::from_fn(|_| part()) }
    }

    fn digest(&self, key: &[u8]) -> u64 {
        #[expect(clippy::cast_possible_truncation, reason = "half of the digest is enough to sample by")]
        let digest = key::digest(key) as u64;
        mixed(digest ^ self.secret)
    }

    fn part(&self, digest: u64) -> &Part {
        #[expect(clippy::cast_possible_truncation, reason = "less than the number of parts")]
        let place = (digest % PARTS as u64) as usize;
        &self.parts[place]
    }

    fn resize(&self, max_keys: usize) {
        self.parts.iter().for_each(|part| part.watch.lock().resize(max_keys.div_ceil(PARTS)));
    }

    fn restart(&self, now: Millis) {
        self.parts.iter().for_each(|part| part.locked(now, |watch| watch.restart(now)));
    }

    fn known(&self, now: Millis) -> Known {
        let mut known = Known { figures: Figures::default(), covered: Duration::ZERO, keys: 0, part: 0.0, ttls: None };
        for part in &self.parts {
            part.locked(now, |watch| {
                let (figures, covered) = watch.figures(now);
                known.figures.merge(&figures);
                known.covered = covered;
                known.keys += watch.keys();
                known.part += watch.part() / PARTS as f64;
                known.ttls = match (known.ttls, watch.ttls()) {
                    (Some((low, high)), Some((lower, higher))) => Some((low.min(lower), high.max(higher))),
                    (one, other) => one.or(other),
                };
            });
        }
        known
    }
}

impl Part {
    /// Does something with the watch, which then knows of all requests and has had its turn.
    fn locked<T>(&self, now: Millis, act: impl FnOnce(&mut Watch) -> T) -> T {
        let mut watch = self.watch.lock();
        watch.count(self.requests.swap(0, Ordering::Relaxed), now);
        if now.0 >= self.turn.load(Ordering::Relaxed) {
            self.turn.store(watch.turn(now).0, Ordering::Relaxed);
        }
        let done = act(&mut watch);
        self.threshold.store(watch.threshold(), Ordering::Relaxed);
        done
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_counted_and_only_a_sample_of_keys_is_watched() {
        let watch = RouteWatch::new(8, Millis(0));
        let what_if = WhatIf::default();
        what_if.routes.store(Arc::new(HashMap::from([("r".to_owned(), Arc::new(watch))])));
        let lease = Lease { ttl: Duration::from_secs(60), ..Lease::default() };
        for round in 0..3_u64 {
            for number in 0..1_000 {
                let key = crate::cache::key_named(&number.to_string());
                what_if.see("r", &key, Millis(round), None, || lease);
                what_if.see("another", &key, Millis(round), None, || lease);
            }
        }
        let known = what_if.known("r", Millis(3)).unwrap();
        assert_eq!((known.figures.requests, known.keys), (3_000.0, 8));
        assert!((0.001..0.05).contains(&known.part), "{}", known.part);
        assert!(what_if.known("another", Millis(3)).is_none());
    }
}
