//! The keys of one shard: by tenant, by agent, and then by what the records say.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;

use super::load::{ByName, Load, Tenants, block, slot, smallest_table};
use super::{Millis, Origin, Repeat};

/// The open window of a shard.
#[derive(Debug)]
pub(super) struct Shard {
    pub(super) window: u64,
    /// Records counted in it.
    pub(super) counted: u64,
    pub(super) load: Load,
    tenants: ByName<Part>,
    /// Parts made since the window opened.
    made: usize,
}

/// What one tenant holds of a shard.
#[derive(Debug)]
pub(super) struct Part {
    pub(super) load: Load,
    pub(super) counted: u64,
    order: usize,
    agents: ByName<Agent>,
}

/// The keys of one agent.
#[derive(Debug)]
struct Agent {
    order: usize,
    keys: HashMap<Box<[u8]>, Entry, ahash::RandomState>,
}

#[derive(Debug)]
struct Entry {
    order: usize,
    first_seen: Millis,
    last_seen: Millis,
    count: u64,
    exemplars: Vec<Box<[u8]>>,
}

/// How tables hash: names, which are looked up once an upload, and keys of some hundred bytes, looked up once a record, by a cheaper
/// hash. Both have secrets that nobody knows.
#[derive(Debug)]
pub(super) struct Hashing {
    pub(super) names: RandomState,
    keys: ahash::RandomState,
}

impl Hashing {
    pub(super) fn new() -> Self {
        let names = RandomState::new();
        let [one, two, three, four] = [1, 2, 3, 4].map(|number: u8| names.hash_one(number));
        Self { names, keys: ahash::RandomState::with_seeds(one, two, three, four) }
    }
}

/// A run of records of one agent, for which that agent is looked up once. To be ended.
pub(super) struct Run<'s> {
    keys: &'s mut HashMap<Box<[u8]>, Entry, ahash::RandomState>,
    grown: Growth,
    /// The sums of the tenant's part and of the shard.
    sums: [(&'s mut Load, &'s mut u64); 2],
}

/// What a run has brought.
#[must_use]
#[derive(Clone, Copy, Debug)]
pub(super) struct Growth {
    pub(super) load: Load,
    /// Records that were counted.
    pub(super) counted: u64,
}

/// What a part costs without its agents: its table, its place among the shard's, and one among all tenants.
const PART: u64 = 2 * slot::<Arc<str>, Part>() + 2 * slot::<Arc<str>, [u64; 4]>() + smallest_table::<Arc<str>, Agent>();

/// What an agent costs without its keys.
const AGENT: u64 = slot::<Arc<str>, Agent>() + smallest_table::<Box<[u8]>, Entry>();

/// What a key costs without its bytes.
const KEY: u64 = slot::<Box<[u8]>, Entry>();

/// What an exemplar costs without its bytes: a list begins with room for four.
const EXEMPLAR: u64 = block(4 * size_of::<Box<[u8]>>());

/// What a name costs: its bytes and two counters.
fn name_block(name: Option<&str>) -> u64 {
    name.map_or(0, |name| block(name.len() + 16))
}

impl Shard {
    pub(super) fn new(state: &RandomState) -> Self {
        Self { window: 0, counted: 0, load: Load::default(), tenants: ByName::new(state), made: 0 }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.tenants.is_empty()
    }

    /// Begins a run of records of one origin that have keys: its agent is held from now on.
    pub(super) fn run<'s>(&'s mut self, origin: &Origin<'_>, tenants: &mut Tenants, hashing: &Hashing) -> Run<'s> {
        let mut cost = Load::default();
        let order = self.made;
        let (Part { load, counted, agents, .. }, made) = self.tenants.find_or_make(origin.tenant, || {
            let part = Part { load: Load::default(), counted: 0, order, agents: ByName::new(&hashing.names) };
            (tenants.name(origin.tenant), part)
        });
        if made {
            self.made += 1;
            cost.bytes += PART + name_block(origin.tenant);
        }
        let order = agents.len();
        let (agent, made) = agents.find_or_make(origin.agent, || {
            let keys = HashMap::with_hasher(hashing.keys.clone());
            (origin.agent.map(Arc::from), Agent { order, keys })
        });
        if made {
            cost.bytes += AGENT + name_block(origin.agent);
        }
        let sums = [(load, counted), (&mut self.load, &mut self.counted)];
        Run { keys: &mut agent.keys, grown: Growth { load: cost, counted: 0 }, sums }
    }

    /// Takes out what one tenant holds.
    pub(super) fn take_part(&mut self, tenant: Option<&str>) -> Option<(Option<Arc<str>>, Part)> {
        let (name, part) = self.tenants.remove(tenant)?;
        self.load -= part.load;
        self.counted -= part.counted;
        Some((name, part))
    }

    /// Takes out everything, in the order in which tenants came.
    pub(super) fn take_all(&mut self, state: &RandomState) -> Vec<(Option<Arc<str>>, Part)> {
        let taken = std::mem::replace(self, Self::new(state));
        let mut parts: Vec<_> = taken.tenants.into_iter().collect();
        parts.sort_unstable_by_key(|(_, part)| part.order);
        parts
    }
}

impl Run<'_> {
    /// Counts one more record of a key that is held; gives whether it is. `exemplar` is asked while fewer than
    /// `max_exemplars` are.
    pub(super) fn count(
        &mut self,
        key: &[u8],
        now: Millis,
        max_exemplars: usize,
        exemplar: impl FnOnce() -> Option<Box<[u8]>>,
    ) -> bool {
        let Some(entry) = self.keys.get_mut(key) else { return false };
        entry.count += 1;
        entry.last_seen = now;
        self.grown.counted += 1;
        if entry.exemplars.len() < max_exemplars
            && let Some(exemplar) = exemplar()
        {
            self.grown.load.bytes += EXEMPLAR + block(exemplar.len());
            entry.exemplars.push(exemplar);
        }
        true
    }

    /// Takes a key that is not held, seen now.
    pub(super) fn insert(&mut self, key: &[u8], now: Millis) {
        let order = self.keys.len();
        let entry = Entry { order, first_seen: now, last_seen: now, count: 0, exemplars: Vec::new() };
        self.keys.insert(key.into(), entry);
        self.grown.load += Load { keys: 1, bytes: KEY + block(key.len()) };
    }

    /// Adds what the run has brought to the sums of its tenant's part and of the shard, and gives it.
    pub(super) fn end(self) -> Growth {
        for (load, counted) in self.sums {
            *load += self.grown.load;
            *counted += self.grown.counted;
        }
        self.grown
    }
}

impl Part {
    /// Its keys that were seen again, agent by agent, in the order in which agents and keys came.
    pub(super) fn repeats(self, tenant: Option<Arc<str>>, shard: usize, early: bool) -> impl Iterator<Item = Repeat> {
        let mut agents: Vec<_> = self.agents.into_iter().collect();
        agents.sort_unstable_by_key(|(_, agent)| agent.order);
        agents.into_iter().flat_map(move |(name, agent)| {
            let mut keys: Vec<_> = agent.keys.into_iter().filter(|(_, entry)| entry.count > 0).collect();
            keys.sort_unstable_by_key(|(_, entry)| entry.order);
            let tenant = tenant.clone();
            keys.into_iter().map(move |(key, entry)| {
                let Entry { first_seen, last_seen, count, exemplars, .. } = entry;
                let (tenant, agent) = (tenant.clone(), name.clone());
                Repeat { tenant, agent, shard, key, first_seen, last_seen, count, exemplars, early }
            })
        })
    }
}
