//! What the core says in other fields.

use weir_config::CacheRoute;
use weir_logic::Outcome::{Bypass, Hit, Miss, Revalidated, Stale};

use super::super::support::{Ask, World, cache_status, reply, text};
use super::{Clamp, Fields, Honor, MODES, Override, Row, Well, ends, is_stored, route, world};

pub(super) const FIELDS: [Row; 10] = [
    ("`Expires`", || Box::pin(expires())),
    ("`Age`, `Date`", || Box::pin(age())),
    ("`ETag`, `Last-Modified`", || Box::pin(validators())),
    ("`Accept-Ranges`", || Box::pin(accept_ranges())),
    ("no `ETag` on a 200", || Box::pin(computed_tag())),
    ("`Vary`", || Box::pin(vary())),
    ("`Set-Cookie`", || Box::pin(set_cookie())),
    ("`Warning`, `Pragma` in answers", || Box::pin(warning())),
    ("hop-by-hop fields, `Alt-Svc`", || Box::pin(hop_by_hop())),
    ("`Cache-Status`", || Box::pin(cache_statuses())),
];

/// The clock of these tests stands at Tue, 14 Nov 2023 22:13:20 GMT when the first answer comes.
async fn expires() {
    const DATED: Fields = &[("date", "Tue, 14 Nov 2023 22:13:20 GMT"), ("expires", "Tue, 14 Nov 2023 22:13:40 GMT")];
    const UNDATED: Fields = &[("expires", "Tue, 14 Nov 2023 22:13:40 GMT")];
    const INVALID: Fields = &[("expires", "0")];
    const TWICE: Fields = &[("expires", "Tue, 14 Nov 2023 22:13:40 GMT"), ("expires", "Tue, 14 Nov 2023 22:13:50 GMT")];
    for fields in [DATED, UNDATED] {
        ends(&[
            (fields, Override, 59, Well, Hit),
            (fields, Clamp, 19, Well, Hit),
            (fields, Clamp, 20, Well, Stale),
            (fields, Honor, 19, Well, Hit),
            (fields, Honor, 20, Well, Miss),
        ])
        .await;
    }
    for fields in [INVALID, TWICE] {
        ends(&[(fields, Honor, 0, Well, Miss), (fields, Clamp, 9, Well, Hit), (fields, Clamp, 10, Well, Stale)]).await;
    }
}

async fn age() {
    const AGED: Fields = &[("age", "20"), ("cache-control", "max-age=50")];
    const DATED: Fields = &[("date", "Tue, 14 Nov 2023 22:12:59 GMT"), ("cache-control", "max-age=50")];
    for fields in [AGED, DATED] {
        for mode in MODES {
            let world = world(mode, fields);
            drop(world.get().await);
            world.pass(10);
            assert_eq!(text(&world.get().await, "age"), "30", "{fields:?} under {mode:?}");
        }
        ends(&[(fields, Override, 59, Well, Hit), (fields, Clamp, 30, Well, Stale), (fields, Honor, 30, Well, Miss)])
            .await;
    }
}

async fn validators() {
    const FIRST: Fields = &[
        ("etag", "\"v1\""),
        ("last-modified", "Tue, 14 Nov 2023 22:00:00 GMT"),
        ("content-type", "text/plain"),
        ("x-version", "1"),
    ];
    const CONFIRMED: Fields = &[("etag", "\"v1\""), ("content-type", "a/b"), ("x-version", "2")];
    const ANOTHER: Fields = &[("etag", "\"v2\"")];
    let world = World::new(route(Override), |_, number| match number {
        1 => reply(200, FIRST, "one"),
        2 => reply(304, CONFIRMED, ""),
        3 => reply(304, ANOTHER, ""),
        _ => reply(200, ANOTHER, "two"),
    });
    drop(world.get().await);
    world.pass(100);
    let confirmed = world.get().await;
    assert_eq!((confirmed.outcome, &confirmed.body[..]), (Revalidated, &b"one"[..]));
    assert_eq!((text(&confirmed, "content-type"), text(&confirmed, "x-version")), ("text/plain", "2"));
    let asked = world.core.requests()[1].headers.clone();
    for name in ["if-none-match", "if-modified-since"] {
        assert!(asked.iter().any(|(known, _)| known == name), "{name}");
    }
    world.pass(100);
    assert_eq!(&world.get().await.body[..], b"two", "another tag confirms nothing");
    assert_eq!(world.core.count(), 4);
}

async fn accept_ranges() {
    let world = world(Override, &[("accept-ranges", "none")]);
    assert_eq!(text(&world.get().await, "accept-ranges"), "bytes");
}

async fn computed_tag() {
    let world = world(Override, &[]);
    let tag = text(&world.get().await, "etag").to_owned();
    assert!(tag.starts_with('"') && tag.len() > 10, "{tag}");
    assert_eq!(world.ask(&Ask::get().with("if-none-match", &tag)).await.status, 304);
    world.pass(100);
    drop(world.get().await);
    assert!(world.core.requests()[1].headers.iter().all(|(name, _)| name != "if-none-match"));
}

async fn vary() {
    for mode in MODES {
        assert!(!is_stored(route(mode), 200, &[("vary", "*"), ("cache-control", "max-age=50")]).await);
    }
    let named = CacheRoute { vary: vec!["accept-language".to_owned()], ..route(Override) };
    let world = World::new(named, |request, _| {
        let language = request.headers.iter().find(|(name, _)| name == "accept-language");
        reply(
            200,
            &[("vary", "accept-language, x-unnamed")],
            language.map_or("none", |(_, value)| value.to_str().unwrap()),
        )
    });
    for language in ["de", "en"] {
        let ask = Ask::get().with("accept-language", language);
        assert_eq!(world.ask(&ask).await.outcome, Miss);
        let hit = world.ask(&ask.with("x-unnamed", "anything")).await;
        assert_eq!((hit.outcome, &hit.body[..]), (Hit, language.as_bytes()));
    }
}

async fn set_cookie() {
    for mode in MODES {
        let world = world(mode, &[("set-cookie", "session=1"), ("cache-control", "max-age=50")]);
        let answer = world.get().await;
        assert_eq!((answer.outcome, text(&answer, "set-cookie"), world.metrics.cache_entries.get()), (Bypass, "", 0));
    }
}

async fn warning() {
    const FIELDS: Fields = &[("warning", "110 - \"stale\""), ("pragma", "no-cache")];
    for mode in MODES {
        ends(&[(FIELDS, mode, 59, Well, Hit)]).await;
    }
}

async fn hop_by_hop() {
    const FIELDS: Fields = &[
        ("connection", "x-hop"),
        ("x-hop", "1"),
        ("keep-alive", "timeout=5"),
        ("te", "trailers"),
        ("upgrade", "h2c"),
        ("proxy-authenticate", "Basic"),
        ("alt-svc", "h3=\":443\""),
        ("x-all", "1"),
    ];
    let world = world(Override, FIELDS);
    let answer = world.get().await;
    let passed: Vec<_> = FIELDS.iter().map(|(name, _)| *name).filter(|name| !text(&answer, name).is_empty()).collect();
    assert_eq!(passed, ["x-all"]);
}

async fn cache_statuses() {
    let world = world(Override, &[("cache-status", "inner; hit")]);
    let answer = world.get().await;
    let all: Vec<_> = answer
        .headers
        .iter()
        .filter(|(name, _)| name == "cache-status")
        .map(|(_, value)| value.to_str().unwrap())
        .collect();
    assert_eq!(all, ["inner; hit", "weir; fwd=uri-miss; fwd-status=200; stored; ttl=60"]);
    assert_eq!(cache_status(&answer), "inner; hit", "the first of them");
}
