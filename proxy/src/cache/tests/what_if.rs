//! What the watch says of other TTLs, held against what the cache then does under them.

use std::time::Duration;

use weir_config::{CacheRoute, Ratio, StatusTtl};
use weir_logic::Outcome;
use weir_logic::whatif::{Candidate, MULTIPLIERS};

use super::support::{Ask, World, manifest, ok, reply};

#[tokio::test]
async fn the_cache_does_under_other_ttls_what_was_told_of_them() {
    for while_revalidate in [0, 20] {
        let told = {
            let world = world(while_revalidate, 1.0);
            world.watch();
            pass_an_hour(&world, 1).await;
            world.told()
        };
        for (told, multiplier) in told.iter().zip(MULTIPLIERS).step_by(2) {
            let world = world(while_revalidate, multiplier);
            let (requests, waited) = pass_an_hour(&world, 2).await;
            let met = 1.0 - waited / requests;
            let off = (told.hit_ratio - met).abs();
            assert!(off <= 0.02, "at {multiplier}: told {}, met {met}", told.hit_ratio);
            let asked = f64::from(u32::try_from(world.core.count()).unwrap());
            let close = (told.core_requests - asked).abs() / asked;
            assert!(close < 0.15, "at {multiplier}: told {}, met {asked}", told.core_requests);
        }
    }
}

#[tokio::test]
async fn the_first_answer_of_a_core_that_chooses_is_one_miss() {
    let route = CacheRoute { vary: vec!["accept-language".to_owned()], ..manifest() };
    let world = World::new(route, |_, _| reply(200, &[("vary", "accept-language")], "x"));
    world.watch();
    for _ in 0..4 {
        let _answer = world.ask(&Ask::get().with("accept-language", "de")).await;
    }
    let told = world.told();
    assert!(told.iter().all(|told| (told.core_requests, told.hit_ratio) == (1.0, 0.75)), "{told:?}");
}

#[tokio::test]
async fn an_answer_for_everyone_with_the_key_is_one_miss_where_the_core_might_have_chosen() {
    let route = CacheRoute { vary: vec!["accept-language".to_owned()], ..manifest() };
    let world = World::new(route, |request, _| ok(&request.target));
    world.watch();
    for language in ["de", "fr", "it", "de"] {
        let _answer = world.ask(&Ask::get().with("accept-language", language)).await;
    }
    let told = world.told();
    assert!(told.iter().all(|told| (told.core_requests, told.hit_ratio) == (1.0, 0.75)), "{told:?}");
}

fn world(while_revalidate: u64, multiplier: f64) -> World {
    let route = CacheRoute {
        ttl: StatusTtl { ok: Duration::from_secs(60).mul_f64(multiplier), ..manifest().ttl },
        jitter: Ratio::new(0.2).unwrap(),
        stale_while_revalidate: Duration::from_secs(while_revalidate),
        ..manifest()
    };
    World::new(route, |request, _| ok(&request.target))
}

impl World {
    fn watch(&self) {
        let routes = [weir_config::Route::clone(&self.route)];
        self.cache.shell.what_if.reconfigure(&[], &routes, 1_000, self.clock.now());
    }

    fn told(&self) -> [Candidate; MULTIPLIERS.len()] {
        self.cache.shell.what_if.known("r", self.clock.now()).unwrap().figures.candidates()
    }
}

/// Some keys much asked for, others little, for three quarters of an hour. Gives the requests, and those that waited for the core.
async fn pass_an_hour(world: &World, seed: u64) -> (f64, f64) {
    let mut chance = chances(seed);
    let (mut requests, mut waited) = (0.0, 0.0);
    let mut left = Duration::from_mins(45);
    loop {
        let gap = Duration::from_secs_f64(-(1.0 - chance()).ln() * 0.25);
        let Some(later) = left.checked_sub(gap) else { return (requests, waited) };
        left = later;
        world.hand.advance(gap);
        let name = (chance().powi(3) * 250.0).floor();
        let answer = world.ask(&Ask::get().query(&format!("os={name}"))).await;
        requests += 1.0;
        waited += f64::from(u8::from(!matches!(answer.outcome, Outcome::Hit | Outcome::Stale)));
        world.settle().await;
    }
}

/// Numbers from 0 to 1, the same for the same seed.
#[expect(clippy::cast_precision_loss, reason = "53 bits are kept")]
fn chances(mut seed: u64) -> impl FnMut() -> f64 {
    move || {
        seed = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
        (weir_logic::whatif::mixed(seed) >> 11) as f64 / (1_u64 << 53) as f64
    }
}
