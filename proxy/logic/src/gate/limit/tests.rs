mod rivals;
mod simulation;

use super::*;
use rivals::{Aimd, Gradient, Vegas};
use simulation::{Limiter, Second, Simulation, Weather};

const BOUNDS: LimitBounds = LimitBounds { floor: 8, ceiling: 256, adaptive: true };

fn limit() -> ConcurrencyLimit {
    ConcurrencyLimit::new(BOUNDS)
}

/// A core that can answer a thousand requests a second, and is asked for half as many more.
const CALM: Weather = Weather { asked: 1_500.0, work_ms: 20.0, workers: 20, refused: 0.0, noise: 0.4 };

/// A story of so many seconds; after `change` the limit has ten seconds to settle.
struct Story {
    name: &'static str,
    seconds: u64,
    change: u64,
    weather: fn(u64) -> Weather,
}

fn from_30(second: u64, before: Weather, after: Weather) -> Weather {
    if second < 30 { before } else { after }
}

#[expect(clippy::cast_precision_loss, reason = "seconds of a story")]
fn slower_each_second(second: u64) -> f64 {
    20.0 + second as f64 / 5.0
}

const STORIES: &[Story] = &[
    Story { name: "nothing happens", seconds: 60, change: 0, weather: |_| CALM },
    Story {
        name: "answers take five times as long",
        seconds: 60,
        change: 30,
        weather: |second| from_30(second, CALM, Weather { work_ms: 100.0, ..CALM }),
    },
    Story {
        name: "half of the workers are gone",
        seconds: 60,
        change: 30,
        weather: |second| from_30(second, CALM, Weather { workers: 10, ..CALM }),
    },
    Story {
        name: "there are three times as many workers",
        seconds: 60,
        change: 30,
        weather: |second| from_30(second, CALM, Weather { workers: 60, asked: 4_000.0, ..CALM }),
    },
    Story {
        name: "a burst of refusals ends",
        seconds: 60,
        change: 35,
        weather: |second| if (25..35).contains(&second) { Weather { refused: 0.3, ..CALM } } else { CALM },
    },
    Story {
        name: "an idle hour ends",
        seconds: 3_660,
        change: 3_620,
        weather: |second| if (20..3_620).contains(&second) { Weather { asked: 2.0, ..CALM } } else { CALM },
    },
    Story {
        name: "the core becomes three times as slow within minutes",
        seconds: 200,
        change: 0,
        weather: |second| Weather { work_ms: slower_each_second(second), ..CALM },
    },
    Story {
        name: "it does so while little is asked of it",
        seconds: 200,
        change: 0,
        weather: |second| Weather { work_ms: slower_each_second(second), asked: 200.0, ..CALM },
    },
    Story { name: "noise", seconds: 60, change: 0, weather: |_| Weather { noise: 1.0, ..CALM } },
    Story { name: "few workers", seconds: 60, change: 0, weather: |_| Weather { workers: 4, asked: 500.0, ..CALM } },
    Story {
        name: "many workers",
        seconds: 25,
        change: 0,
        weather: |_| Weather { workers: 200, asked: 12_000.0, ..CALM },
    },
    Story {
        name: "a fast core",
        seconds: 25,
        change: 0,
        weather: |_| Weather { work_ms: 2.0, asked: 12_000.0, ..CALM },
    },
    Story { name: "a slow core", seconds: 90, change: 0, weather: |_| Weather { work_ms: 500.0, asked: 60.0, ..CALM } },
];

/// What a story comes to once the limit has settled.
#[derive(Debug)]
struct Settled {
    used: f64,
    queue: usize,
    limit: usize,
    workers: usize,
}

fn settled(story: &Story, limiter: &mut dyn Limiter, seed: u64) -> Settled {
    let seen = Simulation::new(limiter, seed).run(story.seconds, story.weather);
    let after: Vec<&Second> = seen.iter().skip(usize::try_from(story.change).unwrap() + 10).collect();
    let count = f64::from(u32::try_from(after.len()).unwrap());
    Settled {
        used: after.iter().map(|second| second.used).sum::<f64>() / count,
        queue: after.iter().map(|second| second.queue).max().unwrap(),
        limit: after.last().unwrap().limit,
        workers: (story.weather)(story.seconds - 1).workers,
    }
}

fn story(name: &str) -> &'static Story {
    STORIES.iter().find(|story| story.name == name).unwrap()
}

impl Settled {
    /// What every story must come to: the core is used, its queue is shorter than what it works on, and the limit is not stuck
    /// below what the core works on.
    fn is_fine(&self) -> bool {
        let floor = BOUNDS.floor;
        self.used >= 0.9 && self.queue <= (self.workers * 3 / 2).max(floor * 2) && self.limit >= self.workers.min(floor)
    }
}

#[test]
fn whatever_happens_the_limit_settles_within_ten_seconds() {
    for story in STORIES {
        for seed in 1..4 {
            let settled = settled(story, &mut limit(), seed);
            assert!(settled.is_fine(), "{} ({seed}): {settled:?}", story.name);
        }
    }
}

/// An hour in which little is asked, and that little is answered slowly, says nothing of what the core can do.
fn limits_around_an_idle_hour(rules: Rules) -> (usize, usize) {
    let mut limiter = ConcurrencyLimit::with(rules, BOUNDS);
    let night = Weather { asked: 5.0, work_ms: 60.0, ..CALM };
    let seen = Simulation::new(&mut limiter, 1).run(3_620, |second| if second < 20 { CALM } else { night });
    (seen[30].limit, seen[3_619].limit)
}

#[test]
fn an_idle_hour_changes_nothing() {
    let (before, after) = limits_around_an_idle_hour(Rules::USUAL);
    assert_eq!(before, after);
}

#[test]
fn without_any_one_of_its_protections_the_limit_goes_astray() {
    let hour = Duration::from_secs(3_600);
    let fails = |name, rules| !settled(story(name), &mut ConcurrencyLimit::with(rules, BOUNDS), 1).is_fine();
    assert!(fails("answers take five times as long", Rules { patience: hour, ..Rules::USUAL }));
    assert!(fails("many workers", Rules { first_probes: hour, later_probes: hour, ..Rules::USUAL }));
    assert!(fails("a slow core", Rules { min_answers: 1, ..Rules::USUAL }));
    let (before, after) = limits_around_an_idle_hour(Rules { idle: 0.0, ..Rules::USUAL });
    assert!(after < before);
}

/// The reason for a limit of our own making: in the simplest of all stories, one of the usual ways fills the core's queue, and
/// two leave it idle, since the least latency of many is not what is usual.
#[test]
fn other_ways_fill_the_cores_queue_or_leave_it_idle() {
    let calm = |limiter: &mut dyn Limiter| settled(story("nothing happens"), limiter, 1);
    let ours = calm(&mut limit());
    let gradient = calm(&mut Gradient::new());
    assert!(gradient.queue > 3 * ours.queue && gradient.queue > 3 * gradient.workers, "{gradient:?}, {ours:?}");
    for other in [calm(&mut Vegas::new()), calm(&mut Aimd::new())] {
        assert!(other.used < 0.5 * ours.used, "{other:?}, {ours:?}");
    }
}

#[test]
fn lower_classes_leave_room_to_those_above() {
    let fixed = |ceiling| ConcurrencyLimit::new(LimitBounds { floor: 8, ceiling, adaptive: false });
    let limit = fixed(100);
    assert_eq!([Class::Tasking, Class::Update, Class::Telemetry].map(|class| limit.room(class)), [100, 85, 75]);
    assert_eq!(fixed(0).room(Class::Telemetry), 1);
}

#[test]
fn one_overload_is_one_cut_whoever_tells_of_it() {
    let mut limit = limit();
    for now in 10..60 {
        limit.on_strain(Strain::Overload, Millis(5), Millis(now));
    }
    assert_eq!((limit.limit(), limit.cuts().overload), (22, 1));
    limit.on_strain(Strain::Timeout, Millis(60), Millis(99));
    assert_eq!((limit.limit(), limit.cuts().timeout), (11, 1));
}

#[test]
fn a_limit_keeps_within_its_bounds_when_they_change() {
    let mut limit = limit();
    for (floor, ceiling, adaptive, expected) in
        [(8, 7, true, 7), (1, 256, true, 7), (20, 256, true, 20), (8, 256, false, 256), (8, 0, true, 1)]
    {
        limit.reconfigure(LimitBounds { floor, ceiling, adaptive });
        assert_eq!(limit.limit(), expected);
    }
}
