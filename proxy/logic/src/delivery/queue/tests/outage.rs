//! An hour without a core, 60,000 events a second, and the recovery: queue and gate together.

use std::collections::VecDeque;

use weir_config::{Class, Ratio};

use super::*;
use crate::gate::{Attempt, Entry, FlowId, Gate, GateLimits, LimitBounds, Ticket};

/// Batches a second: 60,000 events, of which 70 % are merged, in batches of 4,500 rows for a quarter of the shards each.
const BATCHES_PER_SECOND: u64 = 4;
const TICK: u64 = 25;
const LATENCY: u64 = 150;
const MAX_WAIT: u64 = 1_000;

struct World {
    queue: DeliveryQueue,
    gate: Gate,
    rules: DeliveryRules,
    core_is_up: bool,
    now: Millis,
    sealed: u64,
    /// At the gate, since when.
    in_line: Vec<(Arc<str>, Lane, Millis)>,
    /// At the core, until when.
    at_core: VecDeque<(Arc<str>, Ticket, Millis)>,
    /// When requests started.
    starts: Vec<Millis>,
    /// When each batch was sealed and delivered.
    delivered: Vec<(Millis, Millis)>,
    random: u64,
}

impl World {
    fn new(requests_per_second: u32) -> Self {
        let limits = GateLimits {
            in_flight: LimitBounds { floor: 8, ceiling: 256, adaptive: true },
            max_requests_per_second: requests_per_second,
            breaker_failures: 5,
            breaker_cooldown: Duration::from_secs(5),
            ramp: Duration::from_secs(30),
            retry_budget: Ratio::new(0.1).unwrap(),
            flow_share: Ratio::new(0.5).unwrap(),
        };
        Self {
            queue: DeliveryQueue::default(),
            gate: Gate::new(&limits, []),
            rules: rules(4),
            core_is_up: true,
            now: START,
            sealed: 0,
            in_line: Vec::new(),
            at_core: VecDeque::new(),
            starts: Vec::new(),
            delivered: Vec::new(),
            random: 1,
        }
    }

    fn random(&mut self) -> f64 {
        self.random = self.random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        f64::from(u32::try_from(self.random >> 32).unwrap()) / f64::from(u32::MAX)
    }

    fn run(&mut self, time: Duration, mut each_second: impl FnMut(&Self)) {
        let end = self.now.after(time);
        while self.now < end {
            self.now = Millis(self.now.0 + TICK);
            if self.now.0.is_multiple_of(1_000 / BATCHES_PER_SECOND) {
                let shards = 0xffff << (self.sealed % 4 * 16);
                // The name says when it was sealed.
                let name = format!("{}", self.now.0);
                self.queue.add(arrival(&name, self.now, shards), &self.rules, self.now);
                self.sealed += 1;
            }
            while let Some((name, lane)) = self.queue.next(&self.rules, self.now) {
                self.in_line.push((name, lane, self.now));
            }
            self.pass_the_gate();
            self.answer();
            if self.now.0.is_multiple_of(1_000) {
                each_second(self);
            }
        }
    }

    /// As in front of the real gate: live first, none longer than the core's `max_wait`.
    fn pass_the_gate(&mut self) {
        self.in_line.sort_by_key(|(_, lane, since)| (*lane == Lane::Backlog, *since));
        for (name, lane, since) in std::mem::take(&mut self.in_line) {
            match self.gate.try_enter(Class::Telemetry, FlowId(0), self.now) {
                Entry::Go(ticket) => {
                    self.starts.push(self.now);
                    if self.core_is_up {
                        self.at_core.push_back((name, ticket, Millis(self.now.0 + LATENCY)));
                    } else {
                        let random = self.random();
                        self.gate.on_result(ticket, Attempt::Failed, self.now, random);
                        self.set_back(&name, Setback::Failed(None));
                    }
                }
                Entry::Resting(rest) => self.set_back(&name, Setback::Held(Some(rest))),
                Entry::Wait(_) if self.now.0 >= since.0 + MAX_WAIT => self.set_back(&name, Setback::Held(None)),
                Entry::Wait(_) => self.in_line.push((name, lane, since)),
            }
        }
    }

    fn set_back(&mut self, name: &str, setback: Setback) {
        let random = self.random();
        self.queue.fail(name, setback, &self.rules, self.now, random);
    }

    fn answer(&mut self) {
        while self.at_core.front().is_some_and(|(_, _, until)| *until <= self.now)
            && let Some((name, ticket, _)) = self.at_core.pop_front()
        {
            self.gate.on_result(ticket, Attempt::Succeeded(Duration::from_millis(LATENCY)), self.now, 0.5);
            self.queue.settle(&name);
            self.delivered.push((Millis(name.parse().unwrap()), self.now));
        }
    }

    fn most_starts_in_a_second(&self) -> usize {
        let ends = self.starts.iter().map(|start| self.starts.partition_point(|other| other.0 < start.0 + 1_000));
        ends.enumerate().map(|(start, end)| end - start).max().unwrap_or_default()
    }
}

/// The longest delay of those sealed from `since` on.
fn longest_delay(world: &World, since: Millis) -> Duration {
    let fresh = world.delivered.iter().filter(|(sealed, _)| *sealed >= since);
    fresh.map(|(sealed, delivered)| delivered.since(*sealed)).max().unwrap()
}

/// Plays a minute of calm, an hour without a core, and a minute of recovery; gives the world, and checks live data and
/// the rate.
fn recovered(requests_per_second: u32) -> (World, Millis) {
    let mut world = World::new(requests_per_second);
    world.run(Duration::from_secs(60), |_| {});
    assert!(longest_delay(&world, START) < Duration::from_millis(500));
    world.core_is_up = false;
    world.run(Duration::from_secs(3_600), |_| {});
    world.core_is_up = true;
    world.run(Duration::from_secs(60), |_| {});
    let normal_from = world.now;
    (world, normal_from)
}

#[test]
fn an_hours_backlog_drains_and_live_data_does_not_feel_it() {
    let (mut world, normal_from) = recovered(8);
    let mut backlog = world.queue.content(Lane::Backlog).batches;
    assert!(backlog > 14_000, "{backlog}");
    world.run(Duration::from_secs(4_200), |world| {
        let now = world.queue.content(Lane::Backlog).batches;
        assert!(now < backlog || now == 0, "the backlog falls each second: {backlog}, {now}");
        backlog = now;
    });
    assert_eq!(backlog, 0);
    let longest = longest_delay(&world, normal_from);
    assert!(longest < Duration::from_millis(750), "{longest:?}");
    assert!(world.most_starts_in_a_second() <= 8 + 1, "{}", world.most_starts_in_a_second());
    assert_eq!(world.delivered.len() as u64 + world.queue.batches.len() as u64, world.sealed);
}

#[test]
fn live_data_is_back_to_normal_also_where_the_core_has_little_to_spare() {
    let (mut world, normal_from) = recovered(5);
    let backlog = world.queue.content(Lane::Backlog).batches;
    world.run(Duration::from_secs(300), |_| {});
    let longest = longest_delay(&world, normal_from);
    assert!(longest < Duration::from_secs(1), "{longest:?}");
    assert!(world.queue.content(Lane::Backlog).batches < backlog - 200);
    assert!(world.most_starts_in_a_second() <= 5 + 1);
}
