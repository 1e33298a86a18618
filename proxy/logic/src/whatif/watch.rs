//! Which keys are watched, and their ghosts.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use super::figures::{Met, Record};
use super::ghost::mixed;
use super::window::{Window, end_of_slot};
use super::{Figures, Ghost, MULTIPLIERS, Served};
use crate::Millis;
use crate::cache::Lease;
use crate::time::scaled;

/// The keys that are watched: those whose digest falls below a threshold. It falls as often as there are more of them than may be, and
/// rises again when there are few. So it is a sample of the keys, not of the requests: of a watched key every request is seen.
///
/// Memory: about 430 bytes for each watched key, and 20 KiB.
#[derive(Debug)]
pub struct Watch {
    max_keys: usize,
    /// Digests below are watched.
    threshold: u64,
    /// Digests below count: their keys have been watched for long enough to know what would be stored.
    settled: u64,
    settles: Millis,
    watched: HashMap<u64, Watched>,
    in_order: BTreeSet<u64>,
    /// The longest time for which any ghost can be of use.
    longest: Duration,
    /// How long fills take, the last ones above all.
    fill: Option<Duration>,
    window: Window,
}

/// A request for a key.
#[derive(Clone, Copy, Debug)]
pub struct Asked {
    /// The key's digest, evenly spread; nobody who asks may be able to choose it.
    pub digest: u64,
    /// When.
    pub now: Millis,
    /// What the policy grants the answer that is stored; of a key with none, what it grants most answers.
    pub lease: Lease,
    /// Whether `lease` is of an answer that is stored.
    pub stored: bool,
}

#[derive(Debug)]
struct Watched {
    ghosts: [Ghost; MULTIPLIERS.len()],
    lease: Lease,
    seen: Millis,
    /// The slot of the window that the record is of.
    slot: u64,
    record: Record,
    rest: Rest,
}

/// A span in which nothing becomes of a key's ghosts: the requests in it are counted together when it is over, as if all had come in its
/// middle. So a key that many ask for costs the watch little, and an age is told wrong by a sixteenth of itself at most.
#[derive(Clone, Copy, Debug, Default)]
struct Rest {
    since: Millis,
    until: Millis,
    requests: u32,
}

impl Watch {
    /// Watches at most `max_keys` keys; a cache that is still empty begins with it at `now`.
    pub fn new(max_keys: usize, now: Millis) -> Self {
        let threshold = if max_keys == 0 { 0 } else { u64::MAX };
        Self {
            max_keys,
            threshold,
            settled: threshold,
            settles: now,
            watched: HashMap::new(),
            in_order: BTreeSet::new(),
            longest: Duration::ZERO,
            fill: None,
            window: Window::new(now),
        }
    }

    /// Changes the bound.
    pub fn resize(&mut self, max_keys: usize) {
        self.max_keys = max_keys;
        self.shrink();
        if max_keys == 0 {
            (self.threshold, self.settled) = (0, 0);
        } else {
            // From nothing it rises by doubling.
            self.threshold = self.threshold.max(1 << 32);
        }
    }

    /// Digests below it are watched: of others [`Watch::see`] need not be told.
    pub fn threshold(&self) -> u64 {
        self.threshold
    }

    /// A request for a key. Times do not go backwards by more than requests overtake each other.
    pub fn see(&mut self, asked: &Asked) {
        let Asked { digest, now, .. } = *asked;
        if digest >= self.threshold {
            return;
        }
        let watched = self.watched.entry(digest).or_insert_with(|| {
            self.in_order.insert(digest);
            Watched::new(asked.lease, now)
        });
        let known = !asked.stored || watched.lease == asked.lease;
        if known && now < watched.rest.until {
            watched.rest.requests += 1;
            watched.seen = watched.seen.max(now);
            return;
        }
        watched.settle(&mut self.window, (digest < self.settled).then(|| stands_for(self.settled)));
        if asked.stored {
            watched.lease = asked.lease;
        }
        watched.seen = now;
        let fill = self.fill.unwrap_or_default();
        let (lease, ghosts) = (watched.lease, &mut watched.ghosts);
        let met = std::array::from_fn(|place| {
            let seed = seed(digest, place);
            let lease = lease.times(MULTIPLIERS[place]);
            let ahead = ghosts[place].fetched_ahead(now, &lease, fill, seed);
            Met { ahead, served: ghosts[place].ask(now, &lease, fill, seed) }
        });
        if digest < self.settled {
            let (number, figures) = self.window.slot(now);
            figures.add(watched.record(number), &met, stands_for(self.settled));
        }
        watched.rest = watched.rest_from(now, digest, &met);
        self.longest = self.longest.max(end(&watched.lease));
        self.shrink();
    }

    /// A fill has landed after `took`; `lease` is what the policy grants its answer.
    pub fn filled(&mut self, digest: u64, lease: Lease, took: Duration) {
        self.fill = Some(self.fill.map_or(took, |usual| (usual * 7 + took) / 8));
        if let Some(watched) = self.watched.get_mut(&digest) {
            watched.settle(&mut self.window, (digest < self.settled).then(|| stands_for(self.settled)));
            watched.lease = lease;
        }
    }

    /// A fill has landed that was asked for as another key: of a core that chooses by request headers nobody knows by which before it
    /// has answered. The request was counted under that key, and meets its answer under this one from now on.
    pub fn brought(&mut self, digest: u64, lease: Lease, now: Millis) {
        if digest >= self.threshold {
            return;
        }
        let watched = self.watched.entry(digest).or_insert_with(|| {
            self.in_order.insert(digest);
            Watched::new(lease, now)
        });
        watched.settle(&mut self.window, (digest < self.settled).then(|| stands_for(self.settled)));
        watched.lease = lease;
        for (place, ghost) in watched.ghosts.iter_mut().enumerate() {
            ghost.bring(now, &lease.times(MULTIPLIERS[place]), seed(digest, place));
        }
        self.longest = self.longest.max(end(&lease));
        self.shrink();
    }

    /// So many requests were made, watched or not.
    pub fn count(&mut self, requests: u64, now: Millis) {
        #[expect(clippy::cast_precision_loss, reason = "a count of requests")]
        let requests = requests as f64;
        self.window.slot(now).1.requests += requests;
    }

    /// Forgets keys of which nothing could be stored any more and adapts the threshold. To be called when the time comes that the
    /// last call gave. Time: one pass over the watched keys.
    pub fn turn(&mut self, now: Millis) -> Millis {
        self.settle_all();
        let (watched, in_order) = (&mut self.watched, &mut self.in_order);
        watched.retain(|digest, key| {
            let of_use = now.since(key.seen) < end(&key.lease).saturating_add(SLACK);
            if !of_use {
                in_order.remove(digest);
            }
            of_use
        });
        if now >= self.settles {
            self.settled = self.threshold;
            if self.watched.len() < self.max_keys / 4 && self.threshold < u64::MAX {
                self.threshold = self.threshold.saturating_mul(2);
                self.settles = now.after(self.longest.saturating_add(SLACK));
            }
        }
        end_of_slot(now)
    }

    /// Forgets the figures but not what would be stored: the route's terms have changed.
    pub fn restart(&mut self, now: Millis) {
        self.window = Window::new(now);
        self.watched.values_mut().for_each(|watched| (watched.record, watched.rest) = Default::default());
    }

    /// The figures of the last hour, and the time that they cover.
    pub fn figures(&mut self, now: Millis) -> (Figures, Duration) {
        self.settle_all();
        self.window.sum(now)
    }

    fn settle_all(&mut self) {
        for (digest, watched) in &mut self.watched {
            watched.settle(&mut self.window, (*digest < self.settled).then(|| stands_for(self.settled)));
        }
    }

    /// Keys that are watched.
    pub fn keys(&self) -> usize {
        self.watched.len()
    }

    /// The part of all keys that is watched, from 0 to 1.
    pub fn part(&self) -> f64 {
        part(self.threshold)
    }

    /// What the policy grants the answers of the watched keys: the shortest TTL and the longest.
    pub fn ttls(&self) -> Option<(Duration, Duration)> {
        let ttls = || self.watched.values().map(|watched| watched.lease.ttl);
        Some((ttls().min()?, ttls().max()?))
    }

    fn shrink(&mut self) {
        while self.watched.len() > self.max_keys {
            let Some(last) = self.in_order.pop_last() else { return };
            self.watched.remove(&last);
            self.threshold = last;
            self.settled = self.settled.min(last);
        }
    }
}

impl Watched {
    fn new(lease: Lease, seen: Millis) -> Self {
        Self {
            ghosts: [Ghost::EMPTY; MULTIPLIERS.len()],
            lease,
            seen,
            slot: 0,
            record: Record::default(),
            rest: Rest::default(),
        }
    }

    /// Counts the requests of the rest, each for as many as it stands for, if it counts, and ends it.
    fn settle(&mut self, window: &mut Window, stands_for: Option<f64>) {
        let Rest { since, requests, .. } = std::mem::take(&mut self.rest);
        let (Some(count), 1..) = (stands_for, requests) else { return };
        let middle = since.after(self.seen.since(since) / 2);
        let ages = self.ghosts.map(|ghost| middle.since(ghost.stored_at()));
        let (number, figures) = window.slot(self.seen);
        figures.add_fresh(self.record(number), &ages, requests, count);
    }

    /// The rest that begins when a request at `now` has met this.
    fn rest_from(&self, now: Millis, digest: u64, met: &[Met; MULTIPLIERS.len()]) -> Rest {
        let mut until = end_of_slot(now);
        let mut youngest = Duration::MAX;
        for (place, (ghost, met)) in self.ghosts.iter().zip(met).enumerate() {
            let Served::Fresh(age) = met.served else { return Rest::default() };
            let lease = self.lease.times(MULTIPLIERS[place]);
            let Some(end) = ghost.rests_until(now, &lease, seed(digest, place)) else { return Rest::default() };
            (until, youngest) = (until.min(end), youngest.min(age));
        }
        Rest { since: now, until: until.min(now.after((youngest / 8).max(LEAST_REST))), requests: 0 }
    }

    fn record(&mut self, slot: u64) -> &mut Record {
        if slot != self.slot {
            (self.slot, self.record) = (slot, Record::default());
        }
        &mut self.record
    }
}

/// Each key and each candidate draws a jitter of its own.
fn seed(digest: u64, place: usize) -> u64 {
    mixed(digest ^ MULTIPLIERS[place].to_bits())
}

/// The time after which nothing fetched for a key can be of use under any candidate while the core answers.
fn end(lease: &Lease) -> Duration {
    scaled(lease.ttl, MULTIPLIERS[MULTIPLIERS.len() - 1]).saturating_add(lease.while_revalidate)
}

#[expect(clippy::cast_precision_loss, reason = "a part, of which few digits matter")]
fn part(threshold: u64) -> f64 {
    threshold as f64 / u64::MAX as f64
}

fn stands_for(threshold: u64) -> f64 {
    if threshold == 0 { 0.0 } else { 1.0 / part(threshold) }
}

/// Ages below it all count as one.
const LEAST_REST: Duration = Duration::from_millis(16);

/// Fills take time.
const SLACK: Duration = Duration::from_mins(1);

#[cfg(test)]
mod tests;
