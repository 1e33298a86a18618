//! Predictions held against what then happens: a stream of requests is watched under one TTL, and the next hour of the same stream
//! meets caches that really have the other TTLs.

use std::collections::HashMap;
use std::time::Duration;

use weir_config::{ByteSize, CacheRoute, FreshnessMode, Ratio, StatusTtl};

use super::ghost::mixed;
use super::{Asked, Candidate, MULTIPLIERS, Watch};
use crate::Millis;
use crate::cache::{Arrival, CachePolicy, Freshness, Terms};

/// A kind of traffic and the route it meets.
#[derive(Clone, Copy)]
pub(crate) struct Mix {
    pub(crate) keys: usize,
    /// The exponent of Zipf's law; zero: all keys alike.
    pub(crate) skew: f64,
    pub(crate) requests_per_second: f64,
    pub(crate) ttl: u64,
    pub(crate) jitter: f64,
    pub(crate) while_revalidate: u64,
    pub(crate) fill_millis: f64,
    pub(crate) watched: usize,
}

pub(crate) const UPDATES: Mix = Mix {
    keys: 50,
    skew: 1.0,
    requests_per_second: 20.0,
    ttl: 60,
    jitter: 0.1,
    while_revalidate: 0,
    fill_millis: 80.0,
    watched: 16_384,
};

#[test]
fn the_hit_ratio_of_other_ttls_is_told_within_two_points() {
    let mixes = [
        ("updates", UPDATES),
        ("updates, slow core", Mix { fill_millis: 5_000.0, ..UPDATES }),
        ("updates, stale served", Mix { while_revalidate: 120, ttl: 10, ..UPDATES }),
        ("jitter", Mix { jitter: 1.0, requests_per_second: 2.0, ..UPDATES }),
        ("tenants", Mix { keys: 8_000, skew: 0.0, ttl: 300, ..UPDATES }),
        ("tenants, sampled", Mix { keys: 8_000, skew: 0.0, ttl: 300, watched: 500, ..UPDATES }),
        ("packages, sampled", Mix { keys: 8_000, skew: 0.8, ttl: 120, watched: 2_000, ..UPDATES }),
    ];
    for (name, mix) in mixes {
        hold(name, &mix, 0.02, 0.15);
    }
}

/// A sample may lack keys that matter: where a few keys have most of the requests, watching a quarter of them tells no better.
#[test]
fn a_sample_tells_less_well_where_a_few_keys_have_most_requests() {
    hold("skewed", &Mix { keys: 8_000, skew: 1.2, ttl: 30, watched: 2_000, ..UPDATES }, 0.06, 0.25);
}

fn hold(name: &str, mix: &Mix, points: f64, part: f64) {
    for (told, multiplier) in told(mix).iter().zip(MULTIPLIERS) {
        let met = met(mix, multiplier, START);
        let off = (told.hit_ratio - met.hit_ratio).abs();
        assert!(off <= points, "{name} at {multiplier}: told {:.4}, met {:.4}", told.hit_ratio, met.hit_ratio);
        let close = (told.core_requests - met.core_requests).abs() / met.core_requests;
        assert!(close <= part, "{name} at {multiplier}: told {}, met {}", told.core_requests, met.core_requests);
    }
}

#[test]
fn the_age_that_other_ttls_would_serve_is_told() {
    let told = told(&UPDATES);
    for (told, multiplier) in told.iter().zip(MULTIPLIERS) {
        let met = met(&UPDATES, multiplier, START);
        let off = (told.mean_age.as_secs_f64() - met.mean_age).abs() / met.mean_age;
        assert!(off < 0.05, "at {multiplier}: told {:?}, met {}", told.mean_age, met.mean_age);
        let p99 = told.p99_age.as_secs_f64() / met.p99_age;
        assert!((0.95..1.25).contains(&p99), "at {multiplier}: told {:?}, met {}", told.p99_age, met.p99_age);
    }
}

/// What the watch says after an hour under the TTL in force.
fn told(mix: &Mix) -> [Candidate; MULTIPLIERS.len()] {
    let route = mix.route(1.0);
    let lease = CachePolicy::of(&route).lease(200, &Terms::default());
    let mut watch = Watch::new(mix.watched, START);
    let mut stream = Stream::new(mix, 1);
    let mut turn = watch.turn(START);
    while let Some((now, key)) = stream.next_until(END) {
        let digest = mixed(key as u64 ^ 0xd1_9e57);
        watch.count(1, now);
        watch.see(&Asked { digest, now, lease, stored: true });
        // What the node learns of its fills.
        watch.filled(digest, lease, Duration::from_secs_f64(stream.chance.fill(mix.fill_millis) / 1000.0));
        if now >= turn {
            turn = watch.turn(now);
        }
    }
    watch.figures(END).0.candidates()
}

pub(crate) struct Met {
    pub(crate) hit_ratio: f64,
    pub(crate) core_requests: f64,
    pub(crate) mean_age: f64,
    pub(crate) p99_age: f64,
}

/// What an hour of other requests of the same kind meets in a cache that has the other TTL, from `counted` on.
pub(crate) fn met(mix: &Mix, multiplier: f64, counted: Millis) -> Met {
    let route = mix.route(multiplier);
    let policy = CachePolicy::of(&route);
    let mut stream = Stream::new(mix, 2);
    let mut entries: HashMap<usize, Entry> = HashMap::new();
    let (mut core_requests, mut waited) = (0_u32, 0_u32);
    let mut ages = Vec::new();
    while let Some((now, key)) = stream.next_until(END) {
        let entry = entries.entry(key).or_default();
        if let Some(landing) = entry.landing.filter(|landing| *landing <= now) {
            *entry = Entry { stored: Some((landing, stream.chance.next())), landing: None };
        }
        let usable = entry.stored.and_then(|(stored, draw)| {
            let age = now.since(stored).as_secs_f64();
            let arrival = Arrival { status: 200, terms: Terms::default(), stored, draw };
            match policy.freshness(&arrival, None, now) {
                Freshness::Fresh { .. } => Some((age, true)),
                Freshness::Stale { while_revalidate: true, .. } => Some((age, false)),
                _ => None,
            }
        });
        let counts = now >= counted;
        ages.extend(counts.then(|| usable.map_or(0.0, |(age, _)| age)));
        waited += u32::from(counts && usable.is_none());
        if !matches!(usable, Some((_, true))) && entry.landing.is_none() {
            core_requests += u32::from(counts);
            let took = Duration::from_secs_f64(stream.chance.fill(mix.fill_millis) / 1000.0);
            entry.landing = Some(now.after(took));
        }
    }
    ages.sort_by(f64::total_cmp);
    #[expect(clippy::cast_precision_loss, reason = "a count of requests")]
    let requests = ages.len() as f64;
    Met {
        hit_ratio: 1.0 - f64::from(waited) / requests,
        core_requests: core_requests.into(),
        mean_age: ages.iter().sum::<f64>() / requests,
        p99_age: ages[ages.len() * 99 / 100],
    }
}

#[derive(Default)]
struct Entry {
    stored: Option<(Millis, f64)>,
    landing: Option<Millis>,
}

/// A whole slot, so that the hour is in the window.
pub(crate) const START: Millis = Millis(1_700_000_400_000);
pub(crate) const END: Millis = Millis(START.0 + 59 * 60_000);

impl Mix {
    pub(crate) fn route(&self, multiplier: f64) -> CacheRoute {
        CacheRoute {
            vary: Vec::new(),
            max_variants: 8,
            key: vec![],
            shared: true,
            freshness: FreshnessMode::Override,
            ttl: StatusTtl {
                ok: Duration::from_secs(self.ttl).mul_f64(multiplier),
                redirect: Duration::ZERO,
                not_found: Duration::ZERO,
            },
            min_ttl: Duration::ZERO,
            max_ttl: Duration::ZERO,
            jitter: Ratio::new(self.jitter).unwrap(),
            stale_while_revalidate: Duration::from_secs(self.while_revalidate),
            stale_if_error: Duration::ZERO,
            calm: None,
            obey_agents: false,
            max_body_bytes: ByteSize::kib(64),
            etag: None,
            payload: None,
            rollout: None,
            store: weir_config::AnswerStore::Memory,
            max_bytes_per_second: ByteSize::default(),
        }
    }
}

/// Requests at random times for keys by Zipf's law.
pub(crate) struct Stream {
    pub(crate) chance: Chance,
    now: f64,
    gap: f64,
    /// The part of all requests that is for this key or one before it.
    shares: Vec<f64>,
}

impl Stream {
    pub(crate) fn new(mix: &Mix, seed: u64) -> Self {
        let mut sum = 0.0;
        let mut shares = Vec::with_capacity(mix.keys);
        for rank in 1..=u32::try_from(mix.keys).unwrap() {
            sum += f64::from(rank).powf(-mix.skew);
            shares.push(sum);
        }
        shares.iter_mut().for_each(|share| *share /= sum);
        Self { chance: Chance(seed), now: 0.0, gap: 1000.0 / mix.requests_per_second, shares }
    }

    pub(crate) fn next_until(&mut self, end: Millis) -> Option<(Millis, usize)> {
        self.now += self.chance.fill(self.gap);
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "an hour of milliseconds")]
        let now = Millis(START.0 + self.now as u64);
        let drawn = self.chance.next();
        let key = self.shares.partition_point(|share| *share < drawn);
        (now < end).then_some((now, key.min(self.shares.len() - 1)))
    }
}

pub(crate) struct Chance(u64);

impl Chance {
    #[expect(clippy::cast_precision_loss, reason = "53 bits are kept")]
    fn next(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        (mixed(self.0) >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// A time that is memoryless about its mean.
    pub(crate) fn fill(&mut self, mean: f64) -> f64 {
        -(1.0 - self.next()).ln() * mean
    }
}
