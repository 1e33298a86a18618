//! What was counted, as sums that can be added up, and what follows from them.

use std::time::Duration;

use super::{Ages, MULTIPLIERS, Served};

/// Counts of one route, or of a part of its keys, over some time.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Figures {
    /// Requests, all of them.
    pub requests: f64,
    /// Requests that the watched keys stand for; close to `requests`, but for keys with much of the traffic.
    stood_for: f64,
    /// Of each watched key the square of its requests.
    squares: f64,
    tallies: [Tally; MULTIPLIERS.len()],
}

/// What the requests of the watched keys would have met under one TTL, each counted for as many as it stands for.
#[derive(Clone, Debug, Default, PartialEq)]
struct Tally {
    asked: Share,
    waited: Share,
    stale: f64,
    ages: Ages,
}

/// What a watched key's request met under one TTL.
#[derive(Clone, Copy, Debug)]
pub(super) struct Met {
    pub(super) served: Served,
    /// Whether the core was asked ahead of it.
    pub(super) ahead: bool,
}

/// Those requests among the watched keys' that are of a kind.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Share {
    count: f64,
    /// Of each watched key the product of its requests of the kind with all its requests.
    products: f64,
}

/// What one watched key's requests have met, since a slot of the window began. 52 bytes.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Record {
    requests: u32,
    asked: [u32; MULTIPLIERS.len()],
    waited: [u32; MULTIPLIERS.len()],
}

/// What one candidate TTL would have meant.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Candidate {
    /// The TTL, as a multiple of the one in force.
    pub multiplier: f64,
    /// Requests to the core.
    pub core_requests: f64,
    /// The part of the requests that would have been answered without waiting for the core, from 0 to 1.
    pub hit_ratio: f64,
    /// The part of the requests that would have been answered past the TTL, from 0 to 1.
    pub stale_ratio: f64,
    /// The time since answers were fetched, over all requests.
    pub mean_age: Duration,
    /// The time since their fetching that 99 of 100 answers did not exceed, rounded up by less than a fifth.
    pub p99_age: Duration,
}

impl Figures {
    /// Adds a request of a watched key, which stands for `count` requests, and notes it in the key's record.
    pub(super) fn add(&mut self, record: &mut Record, met: &[Met; MULTIPLIERS.len()], count: f64) {
        let before = record.requests;
        record.requests += 1;
        self.stood_for += count;
        self.squares += count * (2.0 * f64::from(before) + 1.0);
        for (place, (Met { served, ahead }, tally)) in met.iter().zip(&mut self.tallies).enumerate() {
            let asks = matches!(served, Served::Asks | Served::Stale { asks: true, .. });
            tally.asked.add(&mut record.asked[place], u32::from(asks) + u32::from(*ahead), record.requests, count);
            let waits = matches!(served, Served::Asks | Served::Joins);
            tally.waited.add(&mut record.waited[place], u32::from(waits), record.requests, count);
            if let Served::Fresh(age) | Served::Stale { age, .. } = *served {
                tally.ages.add(age, count);
            }
            if matches!(served, Served::Stale { .. }) {
                tally.stale += count;
            }
        }
    }

    /// Adds so many requests of a watched key that were all given fresh answers of these ages.
    pub(super) fn add_fresh(
        &mut self,
        record: &mut Record,
        ages: &[Duration; MULTIPLIERS.len()],
        requests: u32,
        count: f64,
    ) {
        let before = f64::from(record.requests);
        record.requests = record.requests.saturating_add(requests);
        let requests = f64::from(requests);
        self.stood_for += count * requests;
        self.squares += count * requests * (2.0 * before + requests);
        for (place, (age, tally)) in ages.iter().zip(&mut self.tallies).enumerate() {
            tally.asked.products += count * requests * f64::from(record.asked[place]);
            tally.waited.products += count * requests * f64::from(record.waited[place]);
            tally.ages.add(*age, count * requests);
        }
    }

    /// Adds all of another's.
    pub fn merge(&mut self, other: &Self) {
        self.requests += other.requests;
        self.stood_for += other.stood_for;
        self.squares += other.squares;
        for (tally, more) in self.tallies.iter_mut().zip(&other.tallies) {
            tally.asked.merge(more.asked);
            tally.waited.merge(more.waited);
            tally.stale += more.stale;
            tally.ages.merge(&more.ages);
        }
    }

    /// The candidates, the shortest TTL first.
    pub fn candidates(&self) -> [Candidate; MULTIPLIERS.len()] {
        std::array::from_fn(|place| {
            let tally = &self.tallies[place];
            Candidate {
                multiplier: MULTIPLIERS[place],
                core_requests: self.estimate(tally.asked),
                hit_ratio: 1.0 - part(self.estimate(tally.waited), self.requests),
                stale_ratio: part(tally.stale, self.stood_for),
                mean_age: tally.ages.mean(self.stood_for),
                p99_age: tally.ages.quantile(0.99, self.stood_for),
            }
        })
    }

    /// How many of all requests are of a kind.
    ///
    /// The watched keys are a sample of keys, so they tell well what is much the same for each key, and badly what a few keys have
    /// most of. How many requests there were is known exactly: by as much as the sample is wrong about that, its other counts are
    /// put right, in the measure in which they go with a key's requests. Where keys are asked for alike that is in full; where a few
    /// have most of the requests it is hardly at all, as these have the core asked no oftener than others.
    fn estimate(&self, share: Share) -> f64 {
        let slope = if self.squares > 0.0 { share.products / self.squares } else { 0.0 };
        (share.count + slope * (self.requests - self.stood_for)).max(0.0)
    }
}

impl Share {
    /// A request of a key that stands for `count`, which brings `more` of this kind; `requests` of the key, with it, and `of_kind`
    /// without.
    fn add(&mut self, of_kind: &mut u32, more: u32, requests: u32, count: f64) {
        self.products += count * (f64::from(*of_kind) + f64::from(more) * f64::from(requests));
        self.count += count * f64::from(more);
        *of_kind += more;
    }

    fn merge(&mut self, other: Self) {
        self.count += other.count;
        self.products += other.products;
    }
}

fn part(of: f64, whole: f64) -> f64 {
    if whole > 0.0 { (of / whole).clamp(0.0, 1.0) } else { 0.0 }
}
