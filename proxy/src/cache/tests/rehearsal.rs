//! What a rehearsal tells of a cache without room for all, held against what the cache does.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use http::header::CONTENT_LOCATION;
use weir_config::{
    Action, ByteSize, CacheLimits, CacheRoute, Config, Limits, MemoryEnvironment, Method, PathPattern, Ratio, Route,
    StatusTtl,
};
use weir_logic::cache::invalidation::Change;
use weir_logic::cache::purge::{Mark, Severity, Target};
use weir_logic::key::Scope;
use weir_logic::rehearse::{Asked, End, Head, Line, Overheads, Purge, Rehearsal, Veil};
use weir_logic::whatif::mixed;
use weir_logic::{CacheKey, Millis, Outcome};

use super::support::{Ask, World, called, gathered, manifest, reply};

#[tokio::test]
async fn a_rehearsal_tells_the_hit_ratio_of_a_cache_that_lets_answers_go() {
    let recorded = live(ROOM, None).await;
    assert!(recorded.evictions > 500, "there is room for most: {}", recorded.evictions);
    for (bytes, keys) in [ROOM, (ROOM.0 * 3, ROOM.1), (ROOM.0, 150)] {
        let told = rehearsed(&recorded, (bytes, keys), &[]);
        let met = live((bytes, keys), None).await.hit_ratio;
        assert!((told - met).abs() <= 0.02, "{bytes} bytes, {keys} keys: told {told}, met {met}");
    }
    let unbounded = rehearsed(&recorded, (1 << 40, 1 << 30), &[]);
    assert!(unbounded > recorded.hit_ratio + 0.05, "the bounds matter: {unbounded} and {}", recorded.hit_ratio);
}

#[tokio::test]
async fn a_rehearsal_forgets_what_was_purged() {
    let recorded = live(PLENTY, None).await;
    let unpurged = rehearsed(&recorded, PLENTY, &[]);
    for kind in [Kind::Route, Kind::Tag, Kind::SoftTag, Kind::Request, Kind::Change] {
        let met = live(PLENTY, Some(kind)).await;
        let told = rehearsed(&recorded, PLENTY, &met.purges);
        assert!((told - met.hit_ratio).abs() <= 0.02, "{kind:?}: told {told}, met {}", met.hit_ratio);
        assert!(unpurged > told + 0.04, "{kind:?}: told {told}, {unpurged} without purges");
    }
}

#[tokio::test]
async fn a_rehearsal_tells_what_less_room_means_when_tags_are_purged() {
    let recorded = live(PLENTY, Some(Kind::Tag)).await;
    let told = rehearsed(&recorded, ROOM, &recorded.purges);
    let met = live(ROOM, Some(Kind::Tag)).await.hit_ratio;
    assert!((told - met).abs() <= 0.02, "told {told}, met {met}");
}

/// Bytes, and answers.
type Room = (u64, usize);

const ROOM: Room = (600_000, 10_000);

const PLENTY: Room = (1 << 30, 100_000);

/// What is purged every ten seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Route,
    /// One of five tags.
    Tag,
    SoftTag,
    /// The answers to ten requests, of those that are made most.
    Request,
    /// What a `PUT` puts out of date: two of four paths.
    Change,
}

impl Kind {
    /// What the cache is given, and what a trace tells.
    async fn purges(self, tick: u64, world: &World, veil: &Veil, at: u64) -> (Vec<Target>, Vec<Purge>) {
        let purge = |kind: &str, of: Vec<String>| Purge { purge: kind.into(), at, of, ..Purge::default() };
        match self {
            Self::Route => (vec![Target::Marked(Mark::route("r"))], vec![purge("route", vec!["r".into()])]),
            Self::Tag | Self::SoftTag => {
                let tag = Mark::tag(&format!("group-{}", tick % 5));
                let told = Purge { soft: self == Self::SoftTag, ..purge("tag", vec![veil.mark(tag)]) };
                (vec![Target::Marked(tag)], vec![told])
            }
            Self::Request => {
                let (mut targets, mut purges) = (Vec::new(), Vec::new());
                for number in 0..10 {
                    let (key, request) = called(&world.route, world.clock.now(), &ask(number), async |call| {
                        let Action::Cache(cache) = &call.route.action else { unreachable!() };
                        (CacheKey::of(&cache.key, Scope::of(cache.shared), call), Asked::of(call, veil, &[]))
                    })
                    .await;
                    targets.push(Target::Marked(Mark::key(&key.unwrap())));
                    purges.push(Purge { request: Some(request), ..purge("request", Vec::new()) });
                }
                (targets, purges)
            }
            Self::Change => {
                let paths = [0, 1].map(|next| PATHS[usize::try_from(2 * tick + next).unwrap() % PATHS.len()]);
                let change = Change { method: Method::Put, path: paths[0], authority: "edge" };
                let location = [(CONTENT_LOCATION, paths[1].parse().unwrap())].into_iter().collect();
                assert_eq!(change.paths(200, &location), paths);
                let veiled = paths.map(|path| veil.path(&world.route.path, path));
                let request = Asked { method: "PUT".into(), path: veiled[0].clone(), ..Asked::default() };
                let told = Purge { request: Some(request), ..purge("change", veiled.to_vec()) };
                (paths.map(|path| Target::Marked(Mark::place(path, None))).to_vec(), vec![told])
            }
        }
    }
}

/// What the numbers of requests ask for.
fn ask(number: u64) -> Ask {
    let path = PATHS[usize::try_from(number).unwrap() % PATHS.len()];
    Ask { path, ..Ask::get().query(&format!("os={number}")) }
}

const PATHS: [&str; 4] = ["/v1/a/manifest", "/v1/b/manifest", "/v1/c/manifest", "/v1/d/manifest"];

struct Live {
    lines: Vec<Line>,
    hit_ratio: f64,
    evictions: u64,
    purges: Vec<Purge>,
}

fn route() -> CacheRoute {
    CacheRoute {
        ttl: StatusTtl { ok: Duration::from_secs(300), ..manifest().ttl },
        jitter: Ratio::new(0.5).unwrap(),
        stale_while_revalidate: Duration::ZERO,
        ..manifest()
    }
}

fn limits((bytes, keys): Room) -> CacheLimits {
    CacheLimits {
        max_bytes: ByteSize::new(bytes),
        max_object_bytes: ByteSize::kib(64),
        max_waiters: 100_000,
        max_keys: keys,
        what_if_keys: 0,
    }
}

fn routed(world: &World) -> Arc<Route> {
    let path: PathPattern = "/v1/{group}/manifest".parse().unwrap();
    Arc::new(Route { path, ..Route::clone(&world.route) })
}

/// Twenty minutes of requests for keys of which some are much asked for, twice: what is stored before they are counted is as the
/// first time has left it.
async fn live(room: Room, purged: Option<Kind>) -> Live {
    let mut world = World::within(limits(room), route(), |request, _| {
        // Bodies of many sizes, the same for the same key.
        let size = usize::try_from(mixed(request.target.len() as u64 * 31 + sum(&request.target)) % 3_000).unwrap();
        let number: u64 = request.target.rsplit_once('=').unwrap().1.parse().unwrap();
        let tag = format!("group-{}", number % 5);
        reply(200, &[("content-type", "text/plain"), ("etag", "\"v1\""), ("surrogate-key", &tag)], &"x".repeat(size))
    });
    world.route = routed(&world);
    let veil = Veil::new([7; 32], "salt".into(), &[Route::clone(&world.route)]);
    let (mut lines, mut purges, mut asked, mut hits) = (Vec::new(), Vec::new(), 0.0, 0.0);
    for counted in [false, true] {
        let (began, mut chance, mut tick) = (world.clock.now(), chances(5), 0);
        purges.clear();
        let mut left = Duration::from_mins(20);
        loop {
            let gap = Duration::from_secs_f64(-(1.0 - chance()).ln() * 0.2);
            let Some(later) = left.checked_sub(gap) else { break };
            left = later;
            world.hand.advance(gap);
            let now = world.clock.now();
            let at = Millis::default().after(now.since(began)).0;
            if let Some(kind) = purged
                && at / 10_000 >= tick
            {
                let (targets, told) = kind.purges(tick, &world, &veil, at).await;
                let severity = if kind == Kind::SoftTag { Severity::Soft } else { Severity::Hard };
                for target in targets {
                    world.cache.shell.purging.purge(target, severity, now).unwrap();
                }
                purges.extend(told);
                tick += 1;
            }
            let ask = ask(numbered(chance().powi(4) * 2_000.0));
            let line = called(&world.route, now, &ask, async |call| {
                let answer = gathered(world.cache.answer(call).await).await;
                let mut line = Line::of(call, &veil, &[], began);
                line.answered(&answer, &veil, &[], now, Duration::ZERO);
                (line.bytes, line.outcome) = (answer.body.len() as u64, answer.outcome.label().to_owned());
                line
            });
            let line = line.await;
            world.settle().await;
            if counted {
                asked += 1.0;
                hits += f64::from(u8::from(line.outcome == Outcome::Hit.label()));
                lines.push(line);
            }
        }
    }
    Live { lines, hit_ratio: hits / asked, evictions: world.metrics.cache_evictions.get(), purges }
}

fn rehearsed(recorded: &Live, room: Room, purges: &[Purge]) -> f64 {
    let world = World::new(route(), |_, _| reply(200, &[], ""));
    let head = Head { weir_trace: 1, sample: 1.0, salt: "salt".into(), began: 1_700_000_000_000, ..Head::default() };
    let overheads = Overheads { cached: crate::cache::OWN_BYTES, looked_up: 0, lookups_part: 4 };
    let bounds = Limits { cache: limits(room), ..usual_config().limits };
    let changes = usual_config().routes.into_iter().find(|route| route.name == "changes").unwrap();
    let mut rehearsal = Rehearsal::new(&[Route::clone(&routed(&world)), changes], &head).within(&bounds, overheads);
    recorded.lines.iter().for_each(|line| rehearsal.take(line));
    purges.iter().for_each(|purge| rehearsal.purge(purge));
    let end = End { covered: 1_200_000, lines: recorded.lines.len() as u64, ..End::default() };
    rehearsal.play(&end).routes["r"].hit_ratio().unwrap()
}

fn usual_config() -> Config {
    let text = "[edge]\ndata_dir = \"d\"\n[[listener]]\nname = \"a\"\naddress = \"127.0.0.1:0\"\n[core]\npeers = [\"c:1\"]\n\
                [[route]]\nname = \"r\"\nmatch = { method = \"GET\", path = \"/r\" }\nclass = \"update\"\naction = \"cache\"\n\
                key = [\"query.os\"]\nshared = true\n\
                [[route]]\nname = \"changes\"\nmatch = { method = \"PUT\", path = \"/v1/{group}/manifest\" }\nclass = \"config\"\n\
                action = \"forward\"\n";
    let parsed = weir_config::parse(&MemoryEnvironment::new().file("weir.toml", text), Path::new("weir.toml"));
    parsed.unwrap_or_else(|problems| panic!("{problems}")).config
}

fn sum(text: &str) -> u64 {
    text.bytes().fold(7, |sum, byte| sum * 31 % 1_000_003 + u64::from(byte))
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a number from 0 to 2,000")]
fn numbered(place: f64) -> u64 {
    place as u64
}

/// Numbers from 0 to 1, the same for the same seed.
#[expect(clippy::cast_precision_loss, reason = "53 bits are kept")]
fn chances(mut seed: u64) -> impl FnMut() -> f64 {
    move || {
        seed = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
        (mixed(seed) >> 11) as f64 / (1_u64 << 53) as f64
    }
}
