//! The queue in virtual time: single rules first, then any course of events, then an outage of an hour.

mod outage;

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

const ALL: u64 = u64::MAX;
const START: Millis = Millis(1_700_000_000_000);

fn rules(max_in_flight: usize) -> DeliveryRules {
    let schedule = RetrySchedule::new(Duration::from_millis(200), Duration::from_secs(30));
    DeliveryRules { max_in_flight, live_for: Duration::from_secs(5), schedule }
}

fn at(millis: u64) -> Millis {
    Millis(START.0 + millis)
}

fn arrival(name: &str, sealed_at: Millis, shards: u64) -> Arrival {
    Arrival { name: Arc::from(name), sealed_at, shards, bytes: 10 }
}

/// A queue of batches sealed at the start, and what goes from it at once.
fn queue(batches: &[(&str, u64)]) -> DeliveryQueue {
    let mut queue = DeliveryQueue::default();
    for (name, shards) in batches {
        queue.add(arrival(name, START, *shards), &rules(4), START);
    }
    queue
}

fn going(queue: &mut DeliveryQueue, places: usize, now: Millis) -> Vec<String> {
    let mut names = Vec::new();
    while let Some((name, lane)) = queue.next(&rules(places), now) {
        names.push(if lane == Lane::Live { name.to_string() } else { format!("{name} late") });
    }
    names
}

fn fail(queue: &mut DeliveryQueue, name: &str, now: Millis) -> u64 {
    let pause = queue.fail(name, Setback::Failed(None), &rules(4), now, 0.5);
    u64::try_from(pause.as_millis()).unwrap()
}

#[test]
fn batches_that_share_no_shard_go_side_by_side_and_others_in_their_order() {
    let mut queue = queue(&[("1", 0b0011), ("2", 0b0010), ("3", 0b0100), ("4", 0b0101), ("5", 0b1000)]);
    assert_eq!(going(&mut queue, 8, START), ["1", "3", "5"]);
    queue.settle("1");
    assert_eq!(going(&mut queue, 8, START), ["2"]);
    queue.settle("3");
    assert_eq!(going(&mut queue, 8, START), ["4"]);
}

#[test]
fn a_batch_whose_shards_are_not_known_may_hold_any() {
    let mut queue = queue(&[("1", 0), ("2", 1)]);
    assert_eq!(going(&mut queue, 8, START), ["1"]);
}

#[test]
fn never_more_are_on_their_way_than_there_are_places() {
    let mut queue = queue(&[("1", 1), ("2", 2), ("3", 4), ("4", 8)]);
    assert_eq!(going(&mut queue, 3, START), ["1", "2", "3"]);
    queue.settle("2");
    assert_eq!(going(&mut queue, 3, START), ["4"]);
}

#[test]
fn a_batch_taken_in_part_keeps_its_place_and_so_do_its_halves() {
    let mut queue = queue(&[("1", ALL), ("2", ALL)]);
    assert_eq!(going(&mut queue, 4, START), ["1"]);
    queue.go_on("1");
    assert_eq!(going(&mut queue, 4, START), ["1"]);
    for half in ["1.0", "1.1"] {
        queue.add(arrival(half, START, ALL), &rules(4), START);
    }
    queue.settle("1");
    assert_eq!(going(&mut queue, 4, START), ["1.0"]);
    queue.settle("1.0");
    assert_eq!(going(&mut queue, 4, START), ["1.1"]);
    queue.settle("1.1");
    assert_eq!(going(&mut queue, 4, START), ["2"]);
}

#[test]
fn rows_wanted_again_wait_a_while_and_hold_back_only_their_own_shards() {
    let mut queue = queue(&[("1", 0b11), ("2", 0b01), ("3", 0b10)]);
    assert_eq!(going(&mut queue, 4, START), ["1"]);
    queue.add(arrival("1.r", START, 0b01), &rules(4), START);
    queue.defer("1.r", Some(Duration::from_secs(1)), &rules(4), START, 0.5);
    queue.settle("1");
    assert_eq!(going(&mut queue, 4, START), ["3"]);
    assert_eq!(queue.next_at(&rules(4), START), Some(at(1_100)));
    assert_eq!(going(&mut queue, 4, at(1_100)), ["1.r"]);
}

#[test]
fn one_probe_at_a_time_until_the_first_success() {
    let mut queue = queue(&[("1", 1), ("2", 2), ("3", 4)]);
    assert_eq!(going(&mut queue, 4, START), ["1", "2", "3"]);
    assert_eq!(fail(&mut queue, "1", START), 100);
    assert_eq!(fail(&mut queue, "2", START), 200);
    assert!(queue.is_failing());
    assert_eq!(queue.next_at(&rules(4), START), Some(at(200)));
    assert_eq!(going(&mut queue, 4, at(200)), [""; 0], "the third is still on its way");
    assert_eq!(fail(&mut queue, "3", at(200)), 400);
    assert_eq!(going(&mut queue, 4, at(599)), [""; 0]);
    assert_eq!(going(&mut queue, 4, at(600)), ["1"]);
    queue.settle("1");
    assert_eq!(going(&mut queue, 4, at(600)), ["2", "3"]);
}

#[test]
fn a_core_that_asks_for_rest_gets_it() {
    let mut queue = queue(&[("1", 1)]);
    assert_eq!(going(&mut queue, 4, START), ["1"]);
    let asked = Setback::Failed(Some(Duration::from_secs(3)));
    assert_eq!(queue.fail("1", asked, &rules(4), START, 0.5), Duration::from_millis(3_100));
    assert_eq!(going(&mut queue, 4, at(3_099)), [""; 0]);
    assert_eq!(going(&mut queue, 4, at(3_100)), ["1"]);
}

#[test]
fn a_gate_that_lets_nothing_pass_makes_no_pause_longer() {
    let mut queue = queue(&[("1", 1)]);
    let mut now = START;
    for _ in 0..20 {
        assert_eq!(going(&mut queue, 4, now), ["1"]);
        let pause = queue.fail("1", Setback::Held(Some(Duration::from_secs(1))), &rules(4), now, 0.5);
        assert_eq!(pause, Duration::from_millis(1_100));
        now = now.after(pause);
        queue.batches.get_mut("1").unwrap().since = now;
    }
}

#[test]
fn a_status_that_blames_the_configuration_pauses_the_stream() {
    let mut queue = queue(&[("1", 1), ("2", 2)]);
    assert_eq!(going(&mut queue, 1, START), ["1"]);
    let pause = queue.fail("1", Setback::Blamed(401, None), &rules(1), START, 0.5);
    assert_eq!((pause, queue.paused()), (Duration::from_millis(22_500), Some(401)));
    assert_eq!(going(&mut queue, 4, at(22_499)), [""; 0]);
    assert_eq!(going(&mut queue, 4, at(22_500)), ["1 late"]);
    queue.settle("1");
    assert_eq!(queue.paused(), None);
    assert_eq!(going(&mut queue, 4, at(22_500)), ["2 late"]);
}

#[test]
fn live_goes_first_and_the_backlog_with_the_room_left() {
    let mut queue = queue(&[("1", 1), ("2", 2), ("3", 4), ("4", 8)]);
    let now = at(60_000);
    assert_eq!(queue.next_at(&rules(4), START), Some(at(5_000)));
    queue.age(rules(4).live_for, at(5_000));
    for (name, shards) in [("5", 1), ("6", 1)] {
        queue.add(arrival(name, now, shards), &rules(4), now);
    }
    assert_eq!(going(&mut queue, 4, now), ["5", "1 late", "2 late", "3 late"]);
    assert_eq!(
        (queue.content(Lane::Live).batches, queue.content(Lane::Backlog)),
        (2, LaneContent { batches: 4, bytes: 40 })
    );
    queue.settle("2");
    assert_eq!(going(&mut queue, 4, now), ["4 late"]);
    queue.settle("1");
    queue.settle("5");
    assert_eq!(going(&mut queue, 4, now), ["6"]);
}

#[test]
fn a_place_is_kept_for_live_batches() {
    let batches: Vec<(String, u64)> = (0..9).map(|bit| (bit.to_string(), 1 << bit)).collect();
    let batches: Vec<(&str, u64)> = batches.iter().map(|(name, shards)| (name.as_str(), *shards)).collect();
    for (places, backlog) in [(1, 1), (2, 1), (3, 2), (4, 3), (8, 6)] {
        assert_eq!(going(&mut queue(&batches), places, at(60_000)).len(), backlog, "{places} places");
    }
}

#[test]
fn live_starts_anew_when_it_cannot_keep_up() {
    let mut queue = queue(&[("1", ALL), ("2", ALL)]);
    queue.add(arrival("3", at(4_000), ALL), &rules(1), at(4_000));
    assert_eq!(queue.next_at(&rules(1), at(4_000)), Some(at(5_000)));
    queue.age(rules(1).live_for, at(5_000));
    assert_eq!(queue.content(Lane::Live).batches, 0, "the third is young, but those before it would hold it up");
    queue.add(arrival("4", at(5_000), ALL), &rules(1), at(5_000));
    assert_eq!(going(&mut queue, 1, at(5_000)), ["4"]);
}

#[test]
fn a_batch_that_fails_alone_becomes_backlog_alone() {
    let mut queue = queue(&[("1", 1)]);
    assert_eq!(going(&mut queue, 4, START), ["1"]);
    fail(&mut queue, "1", START);
    for (name, shards) in [("2", 1), ("3", 2)] {
        queue.add(arrival(name, at(100), shards), &rules(4), at(100));
    }
    queue.rest("1", at(9_000));
    queue.reopen();
    assert_eq!(going(&mut queue, 4, at(4_999)), ["3"]);
    assert_eq!(going(&mut queue, 4, at(5_000)), ["2"], "what was behind it is live");
}

#[test]
fn a_batch_that_always_fails_is_no_longer_waited_for() {
    let mut queue = queue(&[("1", ALL), ("2", ALL), ("3", ALL)]);
    let (mut now, mut taken) = (at(60_000), Vec::new());
    let mut attempts = 0;
    while taken.len() < 2 {
        if let Some((name, _)) = queue.next(&rules(4), now) {
            attempts += 1;
            if &*name == "1" {
                fail(&mut queue, &name, now);
            } else {
                taken.push(name.to_string());
                queue.settle(&name);
                // The stream has nothing else: only scouts get past the batch until it is known to be at fault.
                let next = (taken.len() + 3).to_string();
                queue.add(arrival(&next, START, ALL), &rules(4), now);
                if !queue.is_stuck("1") {
                    taken.clear();
                }
            }
        } else {
            now = queue.next_at(&rules(4), now).unwrap();
        }
        assert!(attempts < 60);
    }
    assert!(queue.is_stuck("1"));
    assert!(now.since(at(60_000)) < Duration::from_secs(120), "{:?}", now.since(at(60_000)));
    // It is still tried, and taken when the core has been mended.
    while !queue.is_empty() {
        match queue.next(&rules(4), now) {
            Some((name, _)) => queue.settle(&name),
            None => now = queue.next_at(&rules(4), now).unwrap(),
        }
    }
}

#[test]
fn a_hundred_thousand_batches_drain_in_their_order() {
    let mut queue = DeliveryQueue::default();
    let now = at(3_600_000);
    for number in 0..100_000_u64 {
        queue.add(arrival(&format!("{number:06}"), at(number), 1 << (number % 4)), &rules(4), now);
    }
    let mut last = [0; 4];
    let mut order = std::collections::VecDeque::new();
    while !queue.is_empty() {
        while let Some((name, _)) = queue.next(&rules(4), now) {
            let number: usize = name.parse().unwrap();
            assert!(last[number % 4] <= number);
            last[number % 4] = number;
            order.push_back(name);
        }
        assert_eq!(order.len(), 3.min(queue.batches.len()));
        queue.settle(&order.pop_front().unwrap());
    }
}

/// One event of a course.
#[derive(Clone, Copy, Debug)]
enum Event {
    /// Some time passes.
    Later(u64),
    /// A batch of these shards is sealed.
    Sealed(u64),
    /// As many as may go are sent.
    Send,
    /// The attempt at this place ends so.
    End(usize, End),
}

#[derive(Clone, Copy, Debug)]
enum End {
    Taken,
    GoesOn,
    Halved,
    WantedAgain,
    Failed,
    RestAsked,
    Held,
    Blamed,
    Expired,
}

fn event() -> impl Strategy<Value = Event> {
    let shards = prop_oneof![Just(ALL), Just(0), (0_u64..16), (0_u32..8).prop_map(|bit| 1 << bit)];
    let end = prop_oneof![
        6 => Just(End::Taken),
        1 => Just(End::GoesOn),
        1 => Just(End::Halved),
        1 => Just(End::WantedAgain),
        3 => Just(End::Failed),
        1 => Just(End::RestAsked),
        1 => Just(End::Held),
        1 => Just(End::Blamed),
        1 => Just(End::Expired),
    ];
    prop_oneof![
        (0_u64..3_000).prop_map(Event::Later),
        shards.prop_map(Event::Sealed),
        Just(Event::Send),
        (any::<prop::sample::Index>(), end).prop_map(|(place, end)| Event::End(place.index(64), end)),
    ]
}

/// The queue and what a model knows of it.
struct Course {
    queue: DeliveryQueue,
    rules: DeliveryRules,
    now: Millis,
    sealed: u64,
    /// All that is not settled, with its shards.
    unsettled: BTreeMap<String, u64>,
    on_the_way: Vec<(String, Lane)>,
}

impl Course {
    fn new(places: usize) -> Self {
        let (queue, rules) = (DeliveryQueue::default(), rules(places));
        Self { queue, rules, now: START, sealed: 0, unsettled: BTreeMap::new(), on_the_way: Vec::new() }
    }

    fn seal(&mut self, name: String, shards: u64) {
        self.queue.add(arrival(&name, self.now, shards), &self.rules, self.now);
        self.unsettled.insert(name, if shards == 0 { ALL } else { shards });
    }

    fn play(&mut self, event: Event) {
        match event {
            Event::Later(millis) => self.now = Millis(self.now.0 + millis),
            Event::Sealed(shards) => {
                self.sealed += 1;
                self.seal(format!("{:06}", self.sealed), shards);
            }
            Event::Send => self.send(),
            Event::End(place, end) if !self.on_the_way.is_empty() => {
                let (name, _) = self.on_the_way.remove(place % self.on_the_way.len());
                self.end(&name, end);
            }
            Event::End(..) => {}
        }
    }

    fn send(&mut self) {
        loop {
            self.queue.age(self.rules.live_for, self.now);
            let failures = self.queue.failures;
            let next = self.queue.first_of_lanes(1, false, self.now);
            let suspect = next.is_some_and(|next| self.queue.batches[&next].strikes > 0);
            let scouts = suspect && failures >= 4 && failures.is_power_of_two();
            let live = self.queue.first(Lane::Live, false, self.now);
            let Some((name, lane)) = self.queue.next(&self.rules, self.now) else { return };
            self.check(&name, lane, scouts);
            assert!(lane == Lane::Live || live.is_none() || scouts, "{name} goes before the live {live:?}");
            self.on_the_way.push((name.to_string(), lane));
            let places = if failures > 0 { 1 } else { self.rules.max_in_flight };
            assert!(self.on_the_way.len() <= places);
        }
    }

    /// No older batch of the lane that shares a shard is unsettled, and none at all is on its way.
    fn check(&self, name: &str, lane: Lane, scouts: bool) {
        let this = &self.queue.batches[name];
        for (other, shards) in self.unsettled.iter().filter(|(other, _)| *other != name) {
            let known = &self.queue.batches[other.as_str()];
            let is_going = self.on_the_way.iter().any(|(going, its_lane)| going == other && *its_lane == lane);
            let is_before = known.lane == lane && other.as_str() < name;
            let excepted = known.is_stuck() || this.is_stuck() || (scouts && known.failures > 0);
            let meets = shards & self.unsettled[name] != 0;
            assert!(!meets || excepted || !(is_going || is_before), "{name} overtakes {other} in {lane:?}");
        }
    }

    fn end(&mut self, name: &str, end: End) {
        let (rules, now) = (self.rules, self.now);
        match end {
            End::Taken => self.queue.settle(name),
            End::Expired => self.queue.forget(name),
            End::GoesOn => return self.queue.go_on(name),
            End::Halved => {
                let shards = self.unsettled[name];
                self.seal(format!("{name}.0"), shards);
                self.seal(format!("{name}.1"), shards);
                self.queue.settle(name);
            }
            End::WantedAgain => {
                let shards = self.unsettled[name];
                self.seal(format!("{name}.r"), shards);
                self.queue.settle(name);
                self.queue.defer(&format!("{name}.r"), None, &rules, now, 0.7);
            }
            End::Failed | End::RestAsked | End::Held | End::Blamed => {
                let asked = Some(Duration::from_secs(1));
                let setback = match end {
                    End::Held => Setback::Held(asked),
                    End::Blamed => Setback::Blamed(403, None),
                    End::RestAsked => Setback::Failed(asked),
                    _ => Setback::Failed(None),
                };
                self.queue.fail(name, setback, &rules, now, 0.7);
                return;
            }
        }
        self.unsettled.remove(name);
    }

    /// From now on the core takes everything.
    fn drain(&mut self) {
        for _ in 0..10_000 {
            self.send();
            match self.on_the_way.pop() {
                Some((name, _)) => self.end(&name, End::Taken),
                None if self.queue.is_empty() => return,
                None => self.now = self.queue.next_at(&self.rules, self.now).expect("what waits is tried some time"),
            }
        }
        panic!("{} batches are never sent", self.unsettled.len());
    }
}

proptest! {
    #[test]
    fn order_holds_in_each_lane_and_every_batch_is_sent(
        places in 1_usize..9,
        events in prop::collection::vec(event(), 1..300),
    ) {
        let mut course = Course::new(places);
        for event in events {
            course.play(event);
            let lanes = [Lane::Live, Lane::Backlog].map(|lane| course.queue.content(lane));
            let sum: u64 = lanes.iter().map(|content| content.batches).sum();
            prop_assert_eq!(sum, course.unsettled.len() as u64);
            prop_assert_eq!(lanes[0].bytes + lanes[1].bytes, 10 * sum);
            prop_assert!(course.queue.live.first().is_none_or(|live| Some(live) > course.queue.backlog.last()));
        }
        course.drain();
        let nothing = LaneContent::default();
        prop_assert_eq!((course.queue.content(Lane::Live), course.queue.content(Lane::Backlog)), (nothing, nothing));
        prop_assert!(course.queue.rested.is_empty() && course.queue.stuck.is_empty());
    }
}
