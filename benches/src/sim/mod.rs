//! A fleet, nodes and a core in virtual time: what happens to millions of agents in half an hour, within a minute or two.
//!
//! The nodes run the product's own policies: `weir_logic`'s gate, admission, cache policy, holds, lookup windows, delivery queue and
//! retry rules, under a configuration that the product's own parser reads. What the product does with tasks, timers and sockets
//! around them is done here with events. Not here: bytes, connections, handshakes and processors; what those cost is measured by
//! the other programs.
//!
//! The same seed gives the same run. Memory: about 100 bytes for each agent, and 8 for each tenant on each node.

mod agents;
mod cached;
mod calendar;
mod desk;
mod lookups;
mod node;
mod origin;
mod patience;
mod plan;
mod series;
mod turnstile;
mod uploads;

use std::ops::Range;

use rand::SeedableRng;
use rand::rngs::SmallRng;
use weir_logic::Millis;

pub use agents::Manners;
pub use origin::Capacity;
use plan::PlanError;
pub use series::{Figure, Second, Series};

use agents::{Activity, Agents, Told};
use calendar::Calendar;
use desk::{Desk, Event};
use node::{Node, UPDATE_KEYS};
use origin::{Ending, Origin};
use patience::Patience;
use plan::Plan;

/// What is simulated.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// Agents; at most 10 million.
    pub agents: u32,
    /// Requests a second of all agents together when all is well.
    pub requests_per_second: f64,
    /// Agents of one tenant.
    pub agents_per_tenant: u32,
    /// How agents behave when they fail.
    pub manners: Manners,
    /// How the agents reach the core.
    pub edge: Edge,
    /// What the core can do.
    pub capacity: Capacity,
    /// Seconds in which the core is down.
    pub outage: Range<u32>,
    /// How many times slower than usual the core works, in these seconds.
    pub slow: Option<(u16, Range<u32>)>,
    /// Seconds that are simulated.
    pub duration: u32,
    /// The seed of every choice.
    pub seed: u64,
}

/// What stands between agents and core.
#[derive(Clone, Debug, PartialEq)]
pub enum Edge {
    /// Nothing.
    Direct,
    /// So many nodes with this configuration; an agent keeps to one of them.
    Nodes {
        /// How many.
        count: u16,
        /// The text of their file.
        config: String,
    },
}

/// What came of a run.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    /// Second by second.
    pub series: Series,
    /// Events that happened.
    pub events: u64,
}

/// For how long an agent waits for an answer.
const AGENTS_PATIENCE_MS: u64 = 10_000;

/// Runs from the first request to the end.
///
/// # Errors
/// The nodes' configuration is wrong or lacks a route that agents ask for.
pub fn run(settings: &Settings) -> Result<Outcome, PlanError> {
    let mut world = World::new(settings)?;
    let mut events = 0;
    let end = Millis(u64::from(settings.duration) * 1_000);
    while let Some((now, event)) = world.desk.calendar.next(end) {
        world.desk.now = now;
        world.on_event(event);
        world.tell();
        events += 1;
    }
    Ok(Outcome { series: world.desk.series, events })
}

struct World {
    desk: Desk,
    agents: Agents,
    nodes: Vec<Node>,
    plan: Option<Plan>,
    update_keys: Vec<f64>,
}

impl World {
    fn new(settings: &Settings) -> Result<Self, PlanError> {
        let agents =
            Agents::new(settings.agents, settings.requests_per_second, settings.agents_per_tenant, settings.manners);
        let mut desk = Desk {
            now: Millis(0),
            calendar: Calendar::new(),
            origin: Origin::new(settings.capacity),
            series: Series::default(),
            rng: SmallRng::seed_from_u64(settings.seed),
            patience: None,
            told: Vec::new(),
        };
        for (time, activity) in agents.first_turns() {
            desk.calendar.put(time, Event::Turn(activity));
        }
        for (second, is_up) in [(settings.outage.start, false), (settings.outage.end, true)] {
            desk.calendar.put(Millis(u64::from(second) * 1_000), Event::Outage { is_up });
        }
        if let Some((times, seconds)) = &settings.slow {
            desk.calendar.put(Millis(u64::from(seconds.start) * 1_000), Event::Slow { times: *times });
            desk.calendar.put(Millis(u64::from(seconds.end) * 1_000), Event::Slow { times: 1 });
        }
        let (nodes, plan) = match &settings.edge {
            Edge::Direct => (Vec::new(), None),
            Edge::Nodes { count, config } => {
                let plan = Plan::new(config, agents.tenants())?;
                desk.patience = Some(Patience::new(plan.config.limits.retry_after));
                let nodes = (0..*count).map(|number| Node::new(number, &plan, agents.tenants(), &mut desk));
                (nodes.collect(), Some(plan))
            }
        };
        Ok(Self { desk, agents, nodes, plan, update_keys: by_zipf(UPDATE_KEYS) })
    }

    fn on_event(&mut self, event: Event) {
        match event {
            Event::Turn(activity) => self.ask(activity),
            Event::Direct { activity, ending, life } => {
                let lost = ending == Ending::Answered && life != self.desk.origin.life;
                let told = match ending {
                    Ending::Answered if !lost => Told::Good,
                    Ending::Overloaded => Told::Refused(None),
                    _ => Told::Nothing,
                };
                self.desk.series.at(self.desk.now.0).core_failed += u32::from(told != Told::Good);
                self.desk.tell(activity, told);
            }
            Event::Outage { is_up } => self.desk.origin.set_up(is_up, self.desk.now),
            Event::Slow { times } => self.desk.origin.slow_down(times.into()),
            Event::Core { node, .. }
            | Event::Call { node }
            | Event::Patience { node, .. }
            | Event::Window { node, .. }
            | Event::Refresh { node }
            | Event::Seal { node }
            | Event::Send { node } => {
                if let Some(plan) = &self.plan {
                    self.nodes[usize::from(node)].on_event(plan, event, &mut self.desk);
                }
            }
        }
    }

    fn ask(&mut self, activity: Activity) {
        self.desk.series.at(self.desk.now.0).asked += 1;
        let Some(plan) = &self.plan else {
            let (at, ending) = self.desk.ask_core(1.0, AGENTS_PATIENCE_MS);
            let life = self.desk.origin.life;
            return self.desk.calendar.put(at, Event::Direct { activity, ending, life });
        };
        let hash = Agents::hash(activity);
        #[expect(clippy::cast_possible_truncation, reason = "it is less than the count of nodes")]
        let node = (hash % self.nodes.len() as u64) as usize;
        let place = (hash >> 11) as f64 / (1_u64 << 53) as f64;
        let update_key = self.update_keys.partition_point(|upto| *upto < place).min(UPDATE_KEYS - 1);
        let tenant = self.agents.tenant(activity);
        self.nodes[node].ask(plan, activity, tenant, update_key, &mut self.desk);
    }

    /// Agents take in what they were told, and fix their next turns.
    fn tell(&mut self) {
        while let Some((activity, told)) = self.desk.told.pop() {
            let now = self.desk.now;
            let second = self.desk.series.at(now.0);
            match told {
                Told::Good => second.good += 1,
                Told::Refused(_) => second.refused += 1,
                Told::Nothing => second.unanswered += 1,
            }
            let next = self.agents.next_turn(activity, told, now, &mut self.desk.rng);
            self.desk.calendar.put(next, Event::Turn(activity));
        }
    }
}

/// Where each of so many things ends on a line from 0 to 1, when the first is asked for twice as often as the second, and so on.
fn by_zipf(count: usize) -> Vec<f64> {
    let weights: Vec<f64> = (1..=count).map(|rank| 1.0 / rank as f64).collect();
    let whole: f64 = weights.iter().sum();
    let mut upto = 0.0;
    weights
        .iter()
        .map(|weight| {
            upto += weight / whole;
            upto
        })
        .collect()
}
