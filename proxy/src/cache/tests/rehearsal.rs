//! What a rehearsal tells of a cache without room for all, held against what the cache does.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use weir_config::{ByteSize, CacheLimits, CacheRoute, Limits, MemoryEnvironment, PathPattern, Ratio, Route, StatusTtl};
use weir_logic::Outcome;
use weir_logic::cache::purge::{Severity, Target};
use weir_logic::rehearse::{End, Head, Line, Overheads, Purge, Rehearsal, Veil};
use weir_logic::whatif::mixed;

use super::support::{Ask, World, called, gathered, manifest, reply};

#[tokio::test]
async fn a_rehearsal_tells_the_hit_ratio_of_a_cache_that_lets_answers_go() {
    let recorded = live(ROOM, Purged::Never).await;
    assert!(recorded.evictions > 500, "there is room for most: {}", recorded.evictions);
    for (bytes, keys) in [ROOM, (ROOM.0 * 3, ROOM.1), (ROOM.0, 150)] {
        let told = rehearsed(&recorded, (bytes, keys), &[]);
        let met = live((bytes, keys), Purged::Never).await.hit_ratio;
        assert!((told - met).abs() <= 0.02, "{bytes} bytes, {keys} keys: told {told}, met {met}");
    }
    let unbounded = rehearsed(&recorded, (1 << 40, 1 << 30), &[]);
    assert!(unbounded > recorded.hit_ratio + 0.05, "the bounds matter: {unbounded} and {}", recorded.hit_ratio);
}

#[tokio::test]
async fn a_rehearsal_forgets_what_was_purged() {
    let recorded = live((1 << 30, 100_000), Purged::Never).await;
    let purge = |at: u64| Purge { purge: "route".into(), at, of: vec!["r".into()], soft: false };
    // Each minute of the twenty.
    let purges: Vec<_> = (0..20).map(|minute| purge(minute * 60_000)).collect();
    let (told, unpurged) =
        (rehearsed(&recorded, (1 << 30, 100_000), &purges), rehearsed(&recorded, (1 << 30, 100_000), &[]));
    let met = live((1 << 30, 100_000), Purged::EachMinute).await.hit_ratio;
    assert!((told - met).abs() <= 0.02, "told {told}, met {met}");
    assert!(unpurged > told + 0.05, "{unpurged} without purges");
}

/// Bytes, and answers.
type Room = (u64, usize);

const ROOM: Room = (600_000, 10_000);

#[derive(Clone, Copy, PartialEq, Eq)]
enum Purged {
    Never,
    EachMinute,
}

struct Live {
    lines: Vec<Line>,
    hit_ratio: f64,
    evictions: u64,
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
    let path: PathPattern = "/v1/manifest".parse().unwrap();
    Arc::new(Route { path, ..Route::clone(&world.route) })
}

/// Twenty minutes of requests for keys of which some are much asked for, twice: what is stored before they are counted is as the
/// first time has left it.
async fn live(room: Room, purged: Purged) -> Live {
    let mut world = World::within(limits(room), route(), |request, _| {
        // Bodies of many sizes, the same for the same key.
        let size = usize::try_from(mixed(request.target.len() as u64 * 31 + sum(&request.target)) % 3_000).unwrap();
        reply(200, &[("content-type", "text/plain"), ("etag", "\"v1\"")], &"x".repeat(size))
    });
    world.route = routed(&world);
    let veil = Veil::new([7; 32], "salt".into(), &[Route::clone(&world.route)]);
    let (mut lines, mut asked, mut hits) = (Vec::new(), 0.0, 0.0);
    for counted in [false, true] {
        let (began, mut chance, mut minute) = (world.clock.now(), chances(5), 0);
        let mut left = Duration::from_mins(20);
        loop {
            let gap = Duration::from_secs_f64(-(1.0 - chance()).ln() * 0.2);
            let Some(later) = left.checked_sub(gap) else { break };
            left = later;
            world.hand.advance(gap);
            let now = world.clock.now();
            if purged == Purged::EachMinute && now.since(began).as_secs() / 60 >= minute {
                minute += 1;
                world.cache.shell.purging.purge(Target::All, Severity::Hard, now).unwrap();
            }
            let ask = Ask::get().query(&format!("os={:.0}", (chance().powi(4) * 2_000.0).floor()));
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
    Live { lines, hit_ratio: hits / asked, evictions: world.metrics.cache_evictions.get() }
}

fn rehearsed(recorded: &Live, room: Room, purges: &[Purge]) -> f64 {
    let world = World::new(route(), |_, _| reply(200, &[], ""));
    let head = Head { weir_trace: 1, sample: 1.0, salt: "salt".into(), began: 1_700_000_000_000, ..Head::default() };
    let overheads = Overheads { cached: crate::cache::OWN_BYTES, looked_up: 0, lookups_part: 4 };
    let bounds = Limits { cache: limits(room), ..usual_limits() };
    let mut rehearsal = Rehearsal::new(&[Route::clone(&routed(&world))], &head).within(&bounds, overheads);
    recorded.lines.iter().for_each(|line| rehearsal.take(line));
    purges.iter().for_each(|purge| rehearsal.purge(purge));
    let end = End { covered: 1_200_000, lines: recorded.lines.len() as u64, ..End::default() };
    rehearsal.play(&end).routes["r"].hit_ratio().unwrap()
}

fn usual_limits() -> Limits {
    let text = "[edge]\ndata_dir = \"d\"\n[[listener]]\nname = \"a\"\naddress = \"127.0.0.1:0\"\n[core]\npeers = [\"c:1\"]\n\
                [[route]]\nname = \"r\"\nmatch = { method = \"GET\", path = \"/r\" }\nclass = \"update\"\naction = \"cache\"\n\
                key = [\"query.os\"]\nshared = true\n";
    let parsed = weir_config::parse(&MemoryEnvironment::new().file("weir.toml", text), Path::new("weir.toml"));
    parsed.unwrap_or_else(|problems| panic!("{problems}")).config.limits
}

fn sum(text: &str) -> u64 {
    text.bytes().fold(7, |sum, byte| sum * 31 % 1_000_003 + u64::from(byte))
}

/// Numbers from 0 to 1, the same for the same seed.
#[expect(clippy::cast_precision_loss, reason = "53 bits are kept")]
fn chances(mut seed: u64) -> impl FnMut() -> f64 {
    move || {
        seed = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
        (mixed(seed) >> 11) as f64 / (1_u64 << 53) as f64
    }
}
