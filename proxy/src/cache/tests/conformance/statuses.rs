//! Which answers are stored.

use std::time::Duration;

use weir_config::{CacheRoute, StatusTtl};
use weir_logic::Outcome::{Bypass, Failed};

use super::super::support::{World, reply};
use super::{Clamp, Fields, Honor, MODES, Override, Row, is_stored, route};

pub(super) const STATUSES: [Row; 5] = [
    ("200, 203, 204, 301, 308, 404, 410", || Box::pin(good())),
    ("300, 302, 303, 307", || Box::pin(redirects())),
    ("405, 414, 501 and other errors, which section 4.2.2 lets a cache store", || Box::pin(errors())),
    ("206, and 304 to a request without validators", || Box::pin(parts())),
    ("other 2xx and 3xx", || Box::pin(others())),
];

const MAX_AGE: Fields = &[("cache-control", "max-age=50")];
const NEVER_FRESH: Fields = &[("cache-control", "no-cache")];
const WITH_TAG: Fields = &[("cache-control", "no-cache"), ("etag", "\"v\"")];

async fn good() {
    let ttls = StatusTtl {
        ok: Duration::from_secs(60),
        redirect: Duration::from_secs(60),
        not_found: Duration::from_secs(60),
    };
    let none = StatusTtl { ok: Duration::ZERO, redirect: Duration::ZERO, not_found: Duration::ZERO };
    for status in [200, 203, 204, 301, 308, 404, 410] {
        let with = |mode, ttl| CacheRoute { ttl, ..route(mode) };
        assert!(is_stored(with(Override, ttls), status, &[]).await, "{status}");
        assert!(!is_stored(with(Override, none), status, MAX_AGE).await, "{status}");
        for mode in [Clamp, Honor] {
            assert!(is_stored(with(mode, none), status, MAX_AGE).await, "{status}");
            assert!(is_stored(with(mode, ttls), status, &[]).await, "{status}");
        }
    }
    assert!(!is_stored(route(Honor), 200, NEVER_FRESH).await, "of use to nobody");
    assert!(is_stored(route(Honor), 200, WITH_TAG).await, "it can be confirmed");
}

async fn redirects() {
    let ttl = StatusTtl { redirect: Duration::from_secs(60), ..route(Override).ttl };
    for status in [300, 302, 303, 307] {
        assert!(!is_stored(CacheRoute { ttl, ..route(Override) }, status, MAX_AGE).await, "{status}");
        for mode in [Clamp, Honor] {
            assert!(is_stored(route(mode), status, MAX_AGE).await, "{status}");
            assert!(!is_stored(CacheRoute { ttl, ..route(mode) }, status, &[]).await, "{status}");
        }
    }
}

async fn errors() {
    for status in [400, 403, 405, 414, 429, 451, 500, 501, 503] {
        for mode in MODES {
            assert!(!is_stored(route(mode), status, MAX_AGE).await, "{status}");
            let world = World::new(route(mode), move |_, number| {
                if number == 1 { reply(200, &[], "one") } else { reply(status, MAX_AGE, "error") }
            });
            drop(world.get().await);
            world.pass(100);
            assert_eq!(&world.get().await.body[..], b"one", "{status} takes nobody's place");
            assert_eq!(world.metrics.cache_entries.get(), 1);
        }
    }
}

async fn parts() {
    for status in [206, 304] {
        for mode in MODES {
            let world = World::new(route(mode), move |_, _| reply(status, MAX_AGE, ""));
            let answer = world.get().await;
            assert_eq!((answer.outcome, answer.status >= 500, world.metrics.cache_entries.get()), (Failed, true, 0));
        }
    }
}

async fn others() {
    for status in [201, 202, 205, 207, 226, 305, 399] {
        for mode in MODES {
            let world = World::new(route(mode), move |_, _| reply(status, MAX_AGE, ""));
            let answer = world.get().await;
            assert_eq!((answer.outcome, answer.status, world.metrics.cache_entries.get()), (Bypass, status, 0));
        }
    }
}
