//! How long a hit takes in caches of a thousand to a million answers.
//!
//! Timed is `CacheAction::answer` of a stored, fresh answer: key, store, policy, headers. The request is made beforehand, as the
//! gateway's is. What a larger cache costs is the memory that does not fit into the processor's caches; `load_ns` is what one
//! dependent read somewhere in as many bytes takes here, so that the difference can be told in such reads. Beside it stands what no
//! cache can be below: a hash table of as many shared bodies, of which one is found and its first byte read.
//!
//! Then hits of other kinds, in caches of a thousand keys: of answers that the core has chosen by a header, four of a key, and of
//! answers whose releases are paced, while nothing is on its way and while something is.

use std::collections::HashMap;
use std::hint::black_box;
use std::sync::Arc;

use rand::rngs::SmallRng;
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};
use serde::Serialize;
use tokio::runtime::Builder;
use tokio::time::Instant;
use weir_logic::Outcome;

use super::Failure;
use super::figures::Spread;
use super::scene::{Asker, Scene};

/// Hits in a cache of one size.
#[derive(Debug, Serialize)]
pub(super) struct Hits {
    pub(super) keys: u32,
    /// Bytes that the cache counts.
    pub(super) bytes: u64,
    /// Nanoseconds, keys drawn evenly.
    pub(super) uniform: Spread,
    /// Nanoseconds, the key of rank k drawn with a weight of 1/k.
    pub(super) zipf: Spread,
    /// Nanoseconds of finding a body in a bare hash table of as many, keys drawn evenly.
    pub(super) bare: Spread,
    /// Nanoseconds of one dependent read somewhere in `bytes` of memory.
    pub(super) load_ns: f64,
}

/// Fills one cache from step to step and measures `hits` hits of each kind at each.
pub(super) fn measure(sizes: &[u32], hits: usize) -> Result<Vec<Hits>, Failure> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let scene = Scene::new(16 << 30, BODY)?;
    let mut asker = Asker::new(u32::MAX);
    let mut filled = 0;
    let mut random = SmallRng::seed_from_u64(7);
    let mut steps = Vec::new();
    for &keys in sizes {
        runtime.block_on(scene.fill(&mut asker, filled..keys))?;
        filled = keys;
        let even: Vec<u32> = (0..2 * hits).map(|_| random.random_range(0..keys)).collect();
        let popular = popular(keys, 2 * hits, &mut random);
        let uniform = runtime.block_on(time(&scene, &mut asker, &even))?;
        let zipf = runtime.block_on(time(&scene, &mut asker, &popular))?;
        let bytes = scene.stored().1;
        let bare = time_bare(keys, &even);
        steps.push(Hits { keys, bytes, uniform, zipf, bare, load_ns: load_ns(bytes, &mut random) });
    }
    Ok(steps)
}

/// Hits of another kind.
#[derive(Debug, Serialize)]
pub(super) struct OtherHits {
    pub(super) kind: &'static str,
    /// Nanoseconds, keys drawn evenly.
    pub(super) uniform: Spread,
}

/// Measures `hits` hits of each other kind, after plain ones in a cache of the same size.
pub(super) fn measure_others(hits: usize) -> Result<Vec<OtherHits>, Failure> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let mut random = SmallRng::seed_from_u64(7);
    let even: Vec<u32> = (0..2 * hits).map(|_| random.random_range(0..FEW)).collect();
    let mut seen = Vec::new();
    let mut add = |kind, scene: &Scene, asker: &mut Asker| -> Result<(), Failure> {
        let uniform = runtime.block_on(time(scene, asker, &even))?;
        seen.push(OtherHits { kind, uniform });
        Ok(())
    };
    let [plain, chosen, paced] =
        [Scene::new(1 << 30, BODY)?, Scene::on("chosen", 1 << 30, BODY)?, Scene::on("paced", 1 << 30, BODY)?];
    let mut asker = Asker::new(u32::MAX);
    for scene in [&plain, &paced] {
        runtime.block_on(scene.fill(&mut asker, 0..FEW))?;
    }
    add("plain", &plain, &mut asker)?;
    add("paced, nothing on its way", &paced, &mut asker)?;
    paced.core.release();
    paced.purge(&serde_json::json!({ "route": "paced", "soft": true }))?;
    runtime.block_on(scene_refilled(&paced, &mut asker))?;
    add("paced, a release on its way", &paced, &mut asker)?;
    for language in ["de", "fr", "it", "en"] {
        asker.in_language(language);
        runtime.block_on(chosen.fill(&mut asker, 0..FEW))?;
    }
    add("chosen by a header, of four", &chosen, &mut asker)?;
    Ok(seen)
}

/// Has every answer fetched anew.
async fn scene_refilled(scene: &Scene, asker: &mut Asker) -> Result<(), Failure> {
    let asked = scene.core.asked();
    scene.fill(asker, 0..FEW).await?;
    scene.core.was_asked(asked + FEW as usize).await;
    Ok(())
}

/// As many as rollouts are kept by default, and fewer.
const FEW: u32 = 1_000;

const BODY: usize = 1024;

/// Draws by rank; which key has which rank is left to chance, so that popular answers do not lie side by side.
fn popular(keys: u32, draws: usize, random: &mut SmallRng) -> Vec<u32> {
    let mut of_rank: Vec<u32> = (0..keys).collect();
    of_rank.shuffle(random);
    let mut sum = 0.0;
    let sums: Vec<f64> = (1..=keys)
        .map(|rank| {
            sum += 1.0 / f64::from(rank);
            sum
        })
        .collect();
    let draw = |random: &mut SmallRng| {
        let point = random.random_range(0.0..sum);
        of_rank[sums.partition_point(|sum| *sum <= point).min(of_rank.len() - 1)]
    };
    (0..draws).map(|_| draw(random)).collect()
}

/// Asks for these items, in nanoseconds. The first half warms up.
async fn time(scene: &Scene, asker: &mut Asker, items: &[u32]) -> Result<Spread, Failure> {
    let clock = clock_ns();
    let mut taken = Vec::with_capacity(items.len() / 2);
    for (at, item) in items.iter().enumerate() {
        let asker = asker.of(*item);
        let started = Instant::now();
        let answer = scene.answer(asker).await;
        let took = started.elapsed();
        if answer.outcome != Outcome::Hit {
            return Err(format!("a hit was {}", answer.outcome.label()).into());
        }
        if at >= items.len() / 2 {
            taken.push((took.as_secs_f64() * 1e9 - clock).max(0.0));
        }
    }
    Ok(Spread::of(taken))
}

/// The same for a hash table and nothing else, in which bodies of the same size are shared.
fn time_bare(keys: u32, items: &[u32]) -> Spread {
    let table: HashMap<u32, Arc<[u8]>> = (0..keys).map(|key| (key, Arc::from([b'x'; BODY].as_slice()))).collect();
    let clock = clock_ns();
    let mut taken = Vec::with_capacity(items.len() / 2);
    for (at, item) in items.iter().enumerate() {
        let started = Instant::now();
        black_box(table.get(item).map(|body| body[0]));
        let took = started.elapsed();
        if at >= items.len() / 2 {
            taken.push((took.as_secs_f64() * 1e9 - clock).max(0.0));
        }
    }
    Spread::of(taken)
}

/// What reading the clock adds to each time, in nanoseconds.
fn clock_ns() -> f64 {
    let times = (0..10_001).map(|_| Instant::now().elapsed().as_secs_f64() * 1e9).collect();
    Spread::of(times).p50
}

/// One dependent read at a time in so many bytes, in an order that no processor foresees.
fn load_ns(bytes: u64, random: &mut SmallRng) -> f64 {
    let words = usize::try_from(bytes / 8).unwrap_or(usize::MAX).max(1);
    let memory: Vec<u64> = (0..words as u64).collect();
    let mut at = random.random_range(0..words);
    let started = Instant::now();
    for step in 0..LOADS {
        // The next place depends on what was read.
        let read = memory[at].wrapping_add(step).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        at = usize::try_from((u128::from(read) * words as u128) >> 64).unwrap_or(0);
    }
    black_box(at);
    started.elapsed().as_secs_f64() * 1e9 / LOADS as f64
}

const LOADS: u64 = 2_000_000;
