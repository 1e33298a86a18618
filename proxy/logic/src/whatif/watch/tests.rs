use proptest::prelude::*;

use super::super::TODAY;
use super::*;

fn lease(ttl: u64) -> Lease {
    Lease { ttl: Duration::from_secs(ttl), ..Lease::default() }
}

fn ask(watch: &mut Watch, digest: u64, now: u64) {
    watch.see(&Asked { digest, now: Millis(now), lease: lease(10), stored: true });
    watch.count(1, Millis(now));
}

fn spread(number: u64) -> u64 {
    mixed(number.wrapping_add(0x5eed))
}

#[test]
fn each_candidate_asks_the_core_once_a_ttl_of_its_own() {
    let mut watch = Watch::new(10, Millis(0));
    (0..800).for_each(|second| ask(&mut watch, 7, second * 1000));
    let (figures, covered) = watch.figures(Millis(800_000));
    let asked: Vec<_> = figures.candidates().iter().map(|candidate| candidate.core_requests).collect();
    assert_eq!(asked, [267.0, 160.0, 80.0, 40.0, 20.0, 10.0]);
    let today = figures.candidates()[TODAY];
    assert_eq!(
        (today.hit_ratio, today.mean_age, covered),
        (0.9, Duration::from_millis(4_500), Duration::from_secs(800))
    );
    assert_eq!((figures.requests, watch.ttls()), (800.0, Some((Duration::from_secs(10), Duration::from_secs(10)))));
}

#[test]
fn a_key_that_many_ask_for_is_told_of_as_if_each_request_were_looked_at() {
    let (mut watch, mut ghosts) = (Watch::new(10, Millis(0)), [Ghost::EMPTY; MULTIPLIERS.len()]);
    let (mut core_requests, mut ages) = ([0.0; MULTIPLIERS.len()], [Duration::ZERO; MULTIPLIERS.len()]);
    let (requests, lease) = (20_000_u32, Lease { jitter: 0.2, ..lease(10) });
    for number in 0..requests {
        let now = Millis(u64::from(number) * 13);
        watch.see(&Asked { digest: 7, now, lease, stored: true });
        watch.count(1, now);
        for (place, ghost) in ghosts.iter_mut().enumerate() {
            match ghost.ask(now, &lease.times(MULTIPLIERS[place]), Duration::ZERO, seed(7, place)) {
                Served::Fresh(age) => ages[place] += age,
                _ => core_requests[place] += 1.0,
            }
        }
    }
    let candidates = watch.figures(Millis(u64::from(requests) * 13)).0.candidates();
    for (place, told) in candidates.iter().enumerate() {
        assert!((told.core_requests - core_requests[place]).abs() < 1e-6, "{told:?}");
        let (mean, exact) = (told.mean_age, ages[place] / requests);
        assert!(mean.abs_diff(exact) < exact / 16, "{mean:?} instead of {exact:?}");
    }
}

#[test]
fn a_fill_teaches_the_ttl_of_its_key_and_how_long_fills_take() {
    let mut watch = Watch::new(10, Millis(0));
    ask(&mut watch, 7, 0);
    watch.filled(7, lease(100), Duration::from_secs(1));
    watch.filled(8, lease(1), Duration::from_secs(9));
    assert_eq!((watch.ttls().unwrap().1, watch.fill), (Duration::from_secs(100), Some(Duration::from_secs(2))));
}

#[test]
fn what_a_fill_brings_under_another_key_is_there_for_the_next_request() {
    let mut watch = Watch::new(10, Millis(0));
    ask(&mut watch, 7, 0);
    watch.brought(8, lease(10), Millis(0));
    ask(&mut watch, 8, 1);
    let (figures, _) = watch.figures(Millis(2));
    assert!(figures.candidates().iter().all(|told| (told.core_requests, told.hit_ratio) == (1.0, 0.5)), "{figures:?}");
    // What is fresh under a candidate stays: for eight times the TTL the answer is the first one.
    watch.brought(8, lease(10), Millis(30_000));
    ask(&mut watch, 8, 30_000);
    let candidates = watch.figures(Millis(30_001)).0.candidates();
    let [today, longest] = [TODAY, MULTIPLIERS.len() - 1].map(|place| candidates[place].p99_age.as_secs());
    assert_eq!((today, longest / 10), (0, 3));
}

#[test]
fn a_restart_forgets_the_figures_and_keeps_the_ghosts() {
    let mut watch = Watch::new(10, Millis(0));
    ask(&mut watch, 7, 0);
    watch.restart(Millis(1));
    ask(&mut watch, 7, 1);
    let (figures, _) = watch.figures(Millis(2));
    assert_eq!((figures.requests, figures.candidates()[TODAY].hit_ratio), (1.0, 1.0));
}

#[test]
fn nothing_is_watched_where_nothing_may_be() {
    let mut watch = Watch::new(0, Millis(0));
    ask(&mut watch, 0, 0);
    assert_eq!((watch.keys(), watch.threshold(), watch.turn(Millis(0))), (0, 0, Millis(600_000)));
    watch.resize(10);
    ask(&mut watch, 5, 1);
    assert_eq!(watch.keys(), 1);
}

#[test]
fn a_key_is_forgotten_when_nothing_of_it_could_be_stored() {
    let mut watch = Watch::new(10, Millis(0));
    ask(&mut watch, 7, 0);
    watch.turn(Millis(139_999));
    assert_eq!(watch.keys(), 1);
    watch.turn(Millis(140_000));
    assert_eq!((watch.keys(), watch.in_order.len()), (0, 0));
}

#[test]
fn the_threshold_falls_with_many_keys_and_rises_when_they_are_gone() {
    let mut watch = Watch::new(100, Millis(0));
    (0..10_000).for_each(|key| ask(&mut watch, spread(key), key));
    assert_eq!(watch.keys(), 100);
    assert!((0.007..0.013).contains(&watch.part()), "{}", watch.part());
    let low = watch.threshold();
    watch.turn(Millis(600_000));
    assert_eq!((watch.keys(), watch.threshold()), (0, low * 2));
    // The half that is new does not count before it is known what would be stored.
    let new = low + 1;
    ask(&mut watch, new, 600_001);
    let counted = |watch: &mut Watch, now| watch.figures(Millis(now)).0.candidates()[TODAY].mean_age;
    ask(&mut watch, new, 605_002);
    assert_eq!(counted(&mut watch, 605_002), Duration::ZERO);
    watch.turn(Millis(1_200_000));
    ask(&mut watch, new, 1_200_001);
    ask(&mut watch, new, 1_205_001);
    assert!(counted(&mut watch, 1_205_001) > Duration::ZERO);
}

#[test]
fn a_sample_tells_what_all_keys_would() {
    let (mut all, mut sample) = (Watch::new(100_000, Millis(0)), Watch::new(500, Millis(0)));
    let mut now = 0;
    for number in 0..200_000_u64 {
        now += 8;
        let key = spread(mixed(number) % 5_000);
        ask(&mut all, key, now);
        ask(&mut sample, key, now);
    }
    let (exact, told) = (all.figures(Millis(now)).0.candidates(), sample.figures(Millis(now)).0.candidates());
    for (exact, told) in exact.iter().zip(&told) {
        assert!((exact.hit_ratio - told.hit_ratio).abs() < 0.02, "{exact:?} {told:?}");
    }
}

proptest! {
    #[test]
    fn the_bound_holds_whatever_is_asked(keys in prop::collection::vec((any::<u64>(), 0_u64..100_000), 0..300), max in 0_usize..20, later in 0_usize..20) {
        let mut watch = Watch::new(max, Millis(0));
        let mut now = 0;
        for (place, (digest, step)) in keys.iter().enumerate() {
            now += step;
            if place == 150 {
                watch.resize(later);
            }
            if step % 7 == 0 {
                watch.turn(Millis(now));
            }
            ask(&mut watch, *digest, now);
            prop_assert!(watch.keys() <= max.max(later));
            prop_assert_eq!(watch.keys(), watch.in_order.len());
            prop_assert!(watch.settled <= watch.threshold);
        }
        let (figures, _) = watch.figures(Millis(now));
        for candidate in figures.candidates() {
            prop_assert!((0.0..=1.0).contains(&candidate.hit_ratio) && candidate.core_requests >= 0.0);
        }
    }
}
