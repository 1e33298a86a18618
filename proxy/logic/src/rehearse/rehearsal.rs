//! A trace taken through a configuration, in virtual time.
//!
//! Before the trace there was traffic too, of which nothing is known. It is taken to have been like the trace: the trace is played
//! twice and counted the second time, and when it is first played each key's answer is somewhere in its life. So a key is told well
//! if it was asked for twice; of one that was asked for once it cannot be told whether an answer that lives for longer than the trace
//! would have been there.

mod kept;
mod purges;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use weir_config::{Action, Limits, Route};

use self::kept::{Core, Kept};
use self::purges::{AllMarks, Notes, Taken};
use super::played::{Met, Play, Played};
use super::room::{Overheads, Rooms, Where};
use super::stage::{Keyed, Scene, Stage, is_from_the_core, usual};
use super::{End, Head, Line, Purge};
use crate::Millis;
use crate::cache::Lease;
use crate::whatif::Ghost;

/// A configuration that is being rehearsed. Memory: about 140 bytes for each line, and 500 for each key.
pub struct Rehearsal {
    stage: Stage,
    /// The bounds that answers are kept within; without any there is room for all.
    rooms: Option<Rooms>,
    purges: Vec<Taken>,
    marks: AllMarks,
    sample: f64,
    began: Millis,
    routes: Names<Arc<Route>>,
    /// The routes that requests took when they were recorded.
    recorded: Names<()>,
    cues: Vec<Cue>,
    unmatched: BTreeMap<String, u64>,
}

/// A line, as much of it as is played.
struct Cue {
    at: u64,
    route: u32,
    recorded: u32,
    key: Option<Keyed>,
    granted: Option<Lease>,
    core: Option<Duration>,
    core_fails: Option<bool>,
    /// The whole answer's bytes, where the line tells them.
    whole: Option<u64>,
    /// Bytes of memory that it takes beside.
    beside: u32,
    /// What the answer can be purged by, of [`Notes`].
    marks: u32,
    /// Whether the line tells the answer's tags.
    tells_tags: bool,
    tag: Option<u64>,
}

/// Names by numbers, and numbers by names.
struct Names<T> {
    numbers: HashMap<String, u32>,
    list: Vec<(String, T)>,
}

impl Rehearsal {
    /// The configuration whose routes these are, and nothing taken yet.
    pub fn new(routes: &[Route], head: &Head) -> Self {
        Self {
            stage: Stage::new(routes, &head.salt),
            rooms: None,
            purges: Vec::new(),
            marks: AllMarks::default(),
            sample: head.sample,
            began: Millis(head.began.max(LONG_AGO)),
            routes: Names::default(),
            recorded: Names::default(),
            cues: Vec::new(),
            unmatched: BTreeMap::new(),
        }
    }

    /// The same, within the configuration's bounds of what is kept.
    #[must_use]
    pub fn within(self, limits: &Limits, overheads: Overheads) -> Self {
        let rooms = Some(Rooms::new(limits, overheads, self.sample));
        Self { rooms, ..self }
    }

    /// Takes a purge, in any order as well.
    pub fn purge(&mut self, purge: &Purge) {
        self.purges.push(Taken::of(purge, &self.stage));
    }

    /// Takes a line. Those of one trace may come in any order.
    pub fn take(&mut self, line: &Line) {
        let recorded = self.recorded.number(&line.route, || ());
        let Some(Scene { route, key, granted }) = self.stage.meet(line) else {
            *self.unmatched.entry(line.route.clone()).or_default() += 1;
            return;
        };
        let whole = matches!(line.status, Some(200 | 203 | 404 | 410)) && line.method != "HEAD";
        self.cues.push(Cue {
            at: line.at,
            route: self.routes.number(&route.name, || Arc::clone(&route)),
            recorded,
            key,
            granted,
            core: line.core.map(Duration::from_millis),
            core_fails: line.core_fails(),
            whole: whole.then_some(line.bytes),
            beside: u32::try_from(line.kept).unwrap_or(u32::MAX),
            marks: self.marks.number(line, &route),
            tells_tags: is_from_the_core(line),
            tag: line.tag.as_ref().map(|tag| xxhash_rust::xxh3::xxh3_64(tag.as_bytes())),
        });
    }

    /// Plays what has been taken.
    pub fn play(mut self, end: &End) -> Play {
        self.cues.sort_by_key(|cue| cue.at);
        self.purges.sort_by_key(|purge| purge.at);
        let covered = Duration::from_millis(end.covered.max(self.cues.last().map_or(0, |cue| cue.at)).max(1));
        let mut house = House {
            routes: self.routes.list.into_iter().map(|(_, route)| route).collect(),
            cores: vec![Core::default(); self.recorded.list.len()],
            kept: HashMap::new(),
            rooms: self.rooms,
            landings: BinaryHeap::new(),
            notes: self.marks.notes(),
            played: Vec::new(),
        };
        house.run(&self.cues, &self.purges, self.began);
        let played = house.routes.iter().map(|route| Played::new(route, covered, self.sample));
        house.played = played.collect();
        house.run(&self.cues, &self.purges, self.began.after(covered));
        let names: Vec<&str> = self.recorded.list.iter().map(|(name, ())| name.as_str()).collect();
        let passed_on = requests(&self.cues, &self.unmatched, &names, end);
        let mut routes = house.played;
        for (played, requests) in routes.iter_mut().zip(passed_on) {
            played.requests = requests;
        }
        for Kept { record, .. } in house.kept.values() {
            if let Some(played) = routes.get_mut(record.route as usize) {
                played.settle(record);
            }
        }
        let routes = routes.into_iter().map(|played| (played.route.clone(), played)).collect();
        Play { routes, unmatched: self.unmatched }
    }
}

/// How many requests each route takes: the lines stand for all that their recorded routes took, in equal parts.
fn requests(cues: &[Cue], unmatched: &BTreeMap<String, u64>, recorded: &[&str], end: &End) -> Vec<f64> {
    let mut ways: HashMap<(u32, u32), u64> = HashMap::new();
    cues.iter().for_each(|cue| *ways.entry((cue.recorded, cue.route)).or_default() += 1);
    let mut lines: Vec<u64> = recorded.iter().map(|name| unmatched.get(*name).copied().unwrap_or_default()).collect();
    ways.iter().for_each(|((from, _), count)| lines[*from as usize] += count);
    let count = cues.iter().map(|cue| cue.route as usize + 1).max().unwrap_or_default();
    let mut requests = vec![0.0; count];
    for ((from, to), count) in ways {
        let (name, lines) = (recorded[from as usize], lines[from as usize]);
        let all = end.requests.get(name).copied().unwrap_or_default().max(lines);
        #[expect(clippy::cast_precision_loss, reason = "counts of requests")]
        let part = count as f64 / lines as f64 * all as f64;
        requests[to as usize] += part;
    }
    requests
}

/// Where cues are played.
struct House {
    routes: Vec<Arc<Route>>,
    cores: Vec<Core>,
    kept: HashMap<u128, Kept>,
    rooms: Option<Rooms>,
    /// When fills will land, and of which keys.
    landings: BinaryHeap<Reverse<(Millis, u128)>>,
    notes: Notes,
    /// Empty while nothing is counted.
    played: Vec<Played>,
}

impl House {
    fn run(&mut self, cues: &[Cue], purges: &[Taken], began: Millis) {
        let at = |millis: u64| began.after(Duration::from_millis(millis));
        let mut purges = purges.iter().peekable();
        for cue in cues {
            while let Some(purge) = purges.next_if(|purge| purge.at <= cue.at) {
                self.purge(purge, at(purge.at));
            }
            let now = at(cue.at);
            self.land(now);
            let met = self.meet(cue, now);
            if let Some(played) = self.played.get_mut(cue.route as usize) {
                played.add(cue.at, &met);
            }
        }
        purges.for_each(|purge| self.purge(purge, at(purge.at)));
    }

    /// Stores what fills have brought by now, in the order in which they did: what they need of the room is others'.
    fn land(&mut self, now: Millis) {
        let Some(rooms) = &mut self.rooms else { return };
        while let Some(Reverse((at, key))) = due(&mut self.landings, now) {
            let Some(kept) = self.kept.get_mut(&key) else { continue };
            kept.compare(&self.notes);
            if kept.ghost.landing() != Some(at) {
                continue;
            }
            let place = place(&self.routes[kept.record.route as usize]);
            match kept.land(at) {
                true => rooms.put(place, key, kept.weight()),
                false => rooms.remove(place, key),
            }
        }
    }

    fn meet(&mut self, cue: &Cue, now: Millis) -> Met {
        let core = &mut self.cores[cue.recorded as usize];
        core.learn(cue);
        let core = *core;
        let route = &self.routes[cue.route as usize];
        let Keyed { digest: key, mark } = match (&route.action, cue.key) {
            (Action::Forward(_), _) => return Met::passed_through(cue.whole.unwrap_or_default()),
            (Action::Aggregate(_), _) => return Met::TAKEN,
            (_, None) => return Met::REFUSED,
            (_, Some(key)) => key,
        };
        let mut is_new = false;
        let kept = self.kept.entry(key).or_insert_with(|| {
            is_new = true;
            Kept::somewhere_in_its_life(cue, key, self.notes.stamp(mark, cue.marks), now, || usual(route))
        });
        kept.compare(&self.notes);
        if let Some(rooms) = &mut self.rooms {
            if is_new && kept.ghost != Ghost::EMPTY {
                // As a fill puts it there: nobody has asked for it since.
                kept.learn(cue);
                rooms.put(place(route), key, kept.weight());
            } else if !rooms.find(place(route), key) {
                kept.ghost.leave();
            }
        }
        let counts = !self.played.is_empty();
        let met = kept.meet(cue, key, now, core);
        if counts {
            kept.record.add(&met);
        }
        if let Some(at) = kept.ghost.landing().filter(|_| self.rooms.is_some() && met.asks > 0) {
            self.landings.push(Reverse((at, key)));
        }
        met
    }

    fn purge(&mut self, purge: &Taken, now: Millis) {
        // What has landed before is stored, and what has not is on its way.
        self.land(now);
        let Self { kept, rooms, routes, notes, .. } = self;
        notes.take(purge, now, |notes| {
            for (key, kept) in kept.iter_mut() {
                if kept.compare(notes)
                    && let Some(rooms) = rooms.as_mut()
                {
                    rooms.remove(place(&routes[kept.record.route as usize]), *key);
                }
            }
            notes.swept();
        });
    }
}

fn due(landings: &mut BinaryHeap<Reverse<(Millis, u128)>>, now: Millis) -> Option<Reverse<(Millis, u128)>> {
    landings.peek().is_some_and(|Reverse((at, _))| *at <= now).then(|| landings.pop()).flatten()
}

/// The store that a route's answers are in.
fn place(route: &Route) -> Where {
    match &route.action {
        Action::Cache(cache) => cache.store.into(),
        Action::Lookup(_) | Action::Aggregate(_) | Action::Forward(_) => Where::Lookups,
    }
}

/// Later than any answer's life is long, so that an answer's age is never cut off by the beginning of time.
const LONG_AGO: u64 = 1_000_000_000_000;

impl<T> Default for Names<T> {
    fn default() -> Self {
        Self { numbers: HashMap::new(), list: Vec::new() }
    }
}

impl<T> Names<T> {
    fn number(&mut self, name: &str, about: impl FnOnce() -> T) -> u32 {
        if let Some(number) = self.numbers.get(name) {
            return *number;
        }
        let number = u32::try_from(self.list.len()).unwrap_or(u32::MAX);
        self.numbers.insert(name.to_owned(), number);
        self.list.push((name.to_owned(), about()));
        number
    }
}

#[cfg(test)]
mod tests;
