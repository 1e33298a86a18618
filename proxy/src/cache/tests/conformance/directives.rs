//! The modes, and what the core says in `Cache-Control`.

use weir_config::{CacheRoute, KeyPart, StatusTtl};
use weir_logic::Outcome::{Failed, Hit, Miss, Revalidated, Stale};

use super::super::support::{Ask, World, reply, text};
use super::{Clamp, Fails, Honor, MODES, Override, Row, Well, ends, is_stored, route, world};

pub(super) const FRESHNESS: [Row; 3] = [
    ("`override` (default)", || Box::pin(override_())),
    ("`clamp`", || Box::pin(clamp())),
    ("`honor`", || Box::pin(honor())),
];

pub(super) const DIRECTIVES: [Row; 14] = [
    ("`no-store`", || Box::pin(no_store())),
    ("`private`", || Box::pin(private())),
    ("`private=\"x, y\"`, `no-cache=\"x, y\"`", || Box::pin(by_name())),
    ("`no-cache`", || Box::pin(no_cache())),
    ("`s-maxage`", || Box::pin(s_maxage())),
    ("`max-age`", || Box::pin(max_age())),
    ("`must-revalidate`, `proxy-revalidate`", || Box::pin(must_revalidate())),
    ("`stale-while-revalidate`", || Box::pin(stale_while_revalidate())),
    ("`stale-if-error`", || Box::pin(stale_if_error())),
    ("`public`", || Box::pin(public())),
    ("`must-understand`", || Box::pin(must_understand())),
    ("`no-transform`", || Box::pin(no_transform())),
    ("`immutable`", || Box::pin(passed_over(&[("cache-control", "immutable")]))),
    ("anything else", || Box::pin(passed_over(&[("cache-control", "x=\"y, z\", max-stale, community=\"w\"")]))),
];

const FIFTY: super::Fields = &[("cache-control", "max-age=50"), ("age", "20")];
const FIVE: super::Fields = &[("cache-control", "max-age=5")];
const LONG: super::Fields = &[("cache-control", "max-age=500")];
const SILENT: super::Fields = &[];

async fn override_() {
    ends(&[(FIFTY, Override, 59, Well, Hit), (FIFTY, Override, 60, Well, Stale), (LONG, Override, 90, Well, Miss)])
        .await;
}

async fn clamp() {
    ends(&[
        (FIFTY, Clamp, 29, Well, Hit),
        (FIFTY, Clamp, 30, Well, Stale),
        (FIVE, Clamp, 9, Well, Hit),
        (FIVE, Clamp, 10, Well, Stale),
        (LONG, Clamp, 99, Well, Hit),
        (LONG, Clamp, 100, Well, Stale),
        (SILENT, Clamp, 59, Well, Hit),
        (SILENT, Clamp, 60, Well, Stale),
    ])
    .await;
}

async fn honor() {
    ends(&[
        (FIFTY, Honor, 29, Well, Hit),
        (FIFTY, Honor, 30, Well, Miss),
        (FIVE, Honor, 5, Well, Miss),
        (LONG, Honor, 499, Well, Hit),
        (SILENT, Honor, 59, Well, Hit),
        (SILENT, Honor, 60, Well, Miss),
    ])
    .await;
}

async fn no_store() {
    for mode in MODES {
        assert!(!is_stored(route(mode), 200, &[("cache-control", "no-store, max-age=50")]).await);
        let world = World::new(route(mode), |_, number| match number {
            1 => reply(200, &[], "one"),
            _ => reply(200, &[("cache-control", "no-store")], "two"),
        });
        drop(world.get().await);
        world.pass(3_600);
        drop(world.get().await);
        assert_eq!(world.metrics.cache_entries.get(), 0, "what was stored goes");
    }
}

async fn private() {
    const PRIVATE: super::Fields = &[("cache-control", "private, max-age=50")];
    for mode in MODES {
        assert!(!is_stored(route(mode), 200, PRIVATE).await);
        let own = CacheRoute { key: vec![KeyPart::Agent], ..route(mode) };
        assert!(is_stored(own, 200, PRIVATE).await);
    }
}

async fn by_name() {
    for control in ["private=\"x-who, etag\", max-age=50", "no-cache=\"x-who, etag\", max-age=50"] {
        for mode in MODES {
            let world = World::new(route(mode), move |_, _| {
                reply(200, &[("cache-control", control), ("x-who", "a-1"), ("x-all", "1")], "one")
            });
            drop(world.get().await);
            let hit = world.get().await;
            assert_eq!((hit.outcome, text(&hit, "x-who"), text(&hit, "x-all")), (Hit, "", "1"), "{control}");
        }
    }
}

async fn no_cache() {
    const NO_CACHE: super::Fields = &[("cache-control", "no-cache, max-age=50"), ("etag", "\"v\"")];
    ends(&[
        (NO_CACHE, Override, 59, Well, Hit),
        (NO_CACHE, Override, 70, Fails, Stale),
        (NO_CACHE, Clamp, 9, Well, Hit),
        (NO_CACHE, Clamp, 10, Well, Miss),
        (NO_CACHE, Clamp, 10, Fails, Failed),
        (NO_CACHE, Honor, 0, Well, Miss),
        (NO_CACHE, Honor, 0, Fails, Failed),
    ])
    .await;
    let world = World::new(route(Honor), |_, number| reply(if number == 1 { 200 } else { 304 }, NO_CACHE, "one"));
    drop(world.get().await);
    assert_eq!(world.get().await.outcome, Revalidated);
}

async fn s_maxage() {
    const SHARED: super::Fields = &[("cache-control", "s-maxage=40, max-age=50")];
    const ALLOWED: super::Fields = &[("cache-control", "s-maxage=40, stale-if-error=9")];
    ends(&[
        (SHARED, Override, 59, Well, Hit),
        (SHARED, Clamp, 39, Well, Hit),
        (SHARED, Clamp, 40, Fails, Stale),
        (SHARED, Honor, 39, Well, Hit),
        (SHARED, Honor, 40, Fails, Failed),
        (ALLOWED, Honor, 48, Fails, Stale),
        (ALLOWED, Honor, 49, Fails, Failed),
    ])
    .await;
}

async fn max_age() {
    const BOTH: super::Fields = &[
        ("cache-control", "max-age=50"),
        ("date", "Tue, 14 Nov 2023 22:13:20 GMT"),
        ("expires", "Tue, 14 Nov 2023 22:13:40 GMT"),
    ];
    ends(&[
        (BOTH, Override, 59, Well, Hit),
        (BOTH, Clamp, 49, Well, Hit),
        (BOTH, Clamp, 50, Well, Stale),
        (BOTH, Honor, 49, Well, Hit),
        (BOTH, Honor, 50, Well, Miss),
    ])
    .await;
}

async fn must_revalidate() {
    const MUST: super::Fields = &[("cache-control", "max-age=50, must-revalidate")];
    const PROXIES: super::Fields = &[("cache-control", "max-age=50, proxy-revalidate")];
    for fields in [MUST, PROXIES] {
        ends(&[
            (fields, Override, 70, Fails, Stale),
            (fields, Clamp, 49, Fails, Hit),
            (fields, Clamp, 50, Fails, Failed),
            (fields, Clamp, 50, Well, Miss),
            (fields, Honor, 49, Fails, Hit),
            (fields, Honor, 50, Fails, Failed),
        ])
        .await;
    }
}

async fn stale_while_revalidate() {
    const NINE: super::Fields = &[("cache-control", "max-age=50, stale-while-revalidate=9")];
    const MORE: super::Fields = &[("cache-control", "max-age=50, stale-while-revalidate=900")];
    const NONE: super::Fields = &[("cache-control", "max-age=50")];
    ends(&[(NINE, Override, 89, Well, Stale), (NINE, Override, 90, Well, Miss)]).await;
    for mode in [Clamp, Honor] {
        ends(&[
            (NINE, mode, 58, Well, Stale),
            (NINE, mode, 59, Well, Miss),
            (MORE, mode, 79, Well, Stale),
            (MORE, mode, 80, Well, Miss),
        ])
        .await;
    }
    ends(&[(NONE, Clamp, 79, Well, Stale), (NONE, Clamp, 80, Well, Miss), (NONE, Honor, 50, Well, Miss)]).await;
}

async fn stale_if_error() {
    const NINE: super::Fields = &[("cache-control", "max-age=50, stale-if-error=9, stale-while-revalidate=0")];
    const MORE: super::Fields = &[("cache-control", "max-age=50, stale-if-error=9000")];
    const NONE: super::Fields = &[("cache-control", "max-age=50")];
    ends(&[(NINE, Override, 359, Fails, Stale), (NINE, Override, 360, Fails, Failed)]).await;
    for mode in [Clamp, Honor] {
        ends(&[
            (NINE, mode, 58, Fails, Stale),
            (NINE, mode, 59, Fails, Failed),
            (MORE, mode, 349, Fails, Stale),
            (MORE, mode, 350, Fails, Failed),
            (NONE, mode, 349, Fails, Stale),
            (NONE, mode, 350, Fails, Failed),
        ])
        .await;
    }
}

async fn public() {
    let known = |mode| CacheRoute { key: vec![KeyPart::Header("authorization".into())], ..route(mode) };
    let stored = async |mode, control: &'static str| {
        let world = World::new(known(mode), move |_, _| reply(200, &[("cache-control", control)], "one"));
        drop(world.ask(&Ask::get().with("authorization", "Bearer x")).await);
        world.metrics.cache_entries.get() == 1
    };
    assert!(stored(Override, "max-age=50").await);
    for mode in [Clamp, Honor] {
        assert!(!stored(mode, "max-age=50").await && stored(mode, "max-age=50, public").await);
    }
}

async fn must_understand() {
    for mode in MODES {
        const UNDERSTOOD: super::Fields = &[("cache-control", "no-store, must-understand, max-age=50")];
        assert!(is_stored(route(mode), 200, UNDERSTOOD).await);
        let ttl = StatusTtl { ok: std::time::Duration::from_secs(60), ..route(mode).ttl };
        assert!(!is_stored(CacheRoute { ttl, ..route(mode) }, 299, UNDERSTOOD).await);
    }
}

async fn no_transform() {
    const AS_IT_IS: super::Fields = &[("cache-control", "no-transform"), ("content-encoding", "x-own")];
    for mode in MODES {
        let world = world(mode, AS_IT_IS);
        drop(world.get().await);
        let hit = world.get().await;
        assert_eq!((&hit.body[..], text(&hit, "content-encoding"), hit.outcome), (&b"one"[..], "x-own", Hit));
    }
}

/// The answer is fresh for as long as one of which the core says nothing.
async fn passed_over(fields: super::Fields) {
    for mode in MODES {
        let after = if mode == Honor { Miss } else { Stale };
        ends(&[(fields, mode, 59, Well, Hit), (fields, mode, 60, Well, after)]).await;
    }
}
