//! What a fleet of cold tenants costs the core, in virtual time: the windows and the kept answers as the node drives them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use weir_config::{LookupRoute, Ratio};

use super::kept::tests::{key, route};
use super::{Join, Kept, KeptAnswers, KeyAnswer, LookupWindow, LookupWindows, Place, WindowBounds};
use crate::cache::Freshness;
use crate::cache::purge::Marks;
use crate::{CacheKey, Millis};

const TENANTS: u32 = 100_000;
const ASKS_PER_SECOND: u64 = 2_500;
/// From the request to the core to its answer.
const TRIP: u64 = 30;
const WARM_UP: u64 = 120_000;
const END: u64 = 150_000;

/// One node and its core.
struct World {
    route: LookupRoute,
    kept: KeptAnswers<(u32, Kept)>,
    windows: LookupWindows<u32, u32>,
    /// What happens when.
    events: BTreeMap<(u64, u64), Event>,
    happened: u64,
    /// The state of SplitMix64.
    random: u64,
    now: u64,
    counts: Counts,
}

enum Event {
    TimeIsOver(u64),
    Answered(LookupWindow<u32, u32>),
}

/// Counts after the warm-up.
#[derive(Debug, Default)]
struct Counts {
    asked: u64,
    waited: u64,
    stale: u64,
    requests: u64,
    keys: u64,
}

impl World {
    fn new(route: LookupRoute) -> Self {
        Self {
            route,
            kept: KeptAnswers::new(usize::MAX, usize::MAX),
            windows: LookupWindows::new(),
            events: BTreeMap::new(),
            happened: 0,
            random: 4,
            now: 0,
            counts: Counts::default(),
        }
    }

    fn bounds(&self) -> WindowBounds {
        WindowBounds { max_keys: self.route.max_keys, max_waiters: usize::MAX, joins_under_way: true }
    }

    fn run(mut self) -> Counts {
        let keys: Vec<CacheKey> = (0..TENANTS).map(key).collect();
        let gap = 1_000_000 / ASKS_PER_SECOND;
        for ask in 0..END * 1_000 / gap {
            self.advance(ask * gap / 1_000);
            if self.now.is_multiple_of(1_000) && (ask * gap).is_multiple_of(1_000_000) {
                for due in self.kept.take_due(Millis(self.now)) {
                    self.refresh(&keys[due.0 as usize], due.0);
                }
            }
            let tenant = u32::try_from(self.draw() % u64::from(TENANTS)).unwrap();
            self.ask(&keys[tenant as usize], tenant);
        }
        self.counts
    }

    fn draw(&mut self) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.random ^ (self.random >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn ask(&mut self, key: &CacheKey, tenant: u32) {
        let held = self.kept.find(key);
        let freshness = held.map(|held| held.1.freshness(&self.route, None, Millis(self.now)));
        let counts = self.now >= WARM_UP;
        self.counts.asked += u64::from(counts);
        match freshness {
            Some(Freshness::Fresh { .. }) => {}
            Some(Freshness::Stale { while_revalidate: true, .. }) => {
                self.counts.stale += u64::from(counts);
                self.refresh(key, tenant);
            }
            _ => {
                self.counts.waited += u64::from(counts);
                let Ok(joined) = self.windows.join(key.clone(), tenant, tenant, self.bounds()) else { return };
                self.see_off(joined, self.route.window);
            }
        }
    }

    fn refresh(&mut self, key: &CacheKey, tenant: u32) {
        if let Some(joined) = self.windows.refresh(key.clone(), tenant, self.bounds()) {
            self.see_off(joined, self.route.refresh_window);
        }
    }

    fn see_off(&mut self, joined: Join<u32, u32>, time: Duration) {
        if let Some(window) = joined.full {
            self.send(window);
        } else if let Place::Opened(number) = joined.place {
            self.later(u64::try_from(time.as_millis()).unwrap_or(u64::MAX), Event::TimeIsOver(number));
        }
    }

    fn send(&mut self, window: LookupWindow<u32, u32>) {
        if self.now >= WARM_UP {
            self.counts.requests += 1;
            self.counts.keys += window.entries.len() as u64;
        }
        self.later(TRIP, Event::Answered(window));
    }

    fn later(&mut self, millis: u64, event: Event) {
        self.happened += 1;
        self.events.insert((self.now + millis, self.happened), event);
    }

    /// Lets happen what is to happen by then.
    fn advance(&mut self, until: u64) {
        while let Some(first) = self.events.first_entry().filter(|first| first.key().0 <= until) {
            let ((at, _), event) = first.remove_entry();
            self.now = at;
            match event {
                Event::TimeIsOver(number) => {
                    let window = self.windows.close(number, self.bounds());
                    window.into_iter().for_each(|window| self.send(window));
                }
                Event::Answered(window) => self.answered(window),
            }
        }
        self.now = until;
    }

    fn answered(&mut self, window: LookupWindow<u32, u32>) {
        for entry in window.entries {
            let draw = (self.draw() >> 11) as f64 / (1_u64 << 53) as f64;
            let ttl = self.route.ttl.mul_f64(1.0 - self.route.jitter.value() * draw);
            let kept = Kept::new(KeyAnswer::of_status(200), ttl, Millis(self.now));
            let due = kept.due(&self.route);
            self.kept.keep(entry.key.clone(), Arc::new((entry.about, kept)), &Arc::new(Marks::new([], "/")), 0, due);
            let late = self.windows.land(&entry.key);
            (0..entry.waiters.len() + late.len()).for_each(|_| self.windows.leave());
        }
    }
}

fn config_route() -> LookupRoute {
    LookupRoute {
        window: Duration::from_millis(25),
        max_keys: 1_000,
        jitter: Ratio::new(0.1).unwrap(),
        stale_while_revalidate: Duration::from_secs(60),
        ..route()
    }
}

#[test]
fn a_hundred_thousand_cold_tenants_cost_the_core_tens_of_requests_a_second() {
    let counts = World::new(config_route()).run();
    let seconds = (END - WARM_UP) / 1_000;
    println!(
        "{} requests/s of {} keys each for {ASKS_PER_SECOND} asks/s, {:.1} % waited, {:.1} % stale",
        counts.requests / seconds,
        counts.keys / counts.requests,
        100.0 * counts.waited as f64 / counts.asked as f64,
        100.0 * counts.stale as f64 / counts.asked as f64,
    );
    assert!(counts.requests <= 40 * seconds, "one for each window at most");
    // Those who wait are the first who ask for their tenant: fewer the longer it is looked at, 5 % in this time.
    assert!(counts.waited * 16 < counts.asked, "hardly anybody waits");
}
