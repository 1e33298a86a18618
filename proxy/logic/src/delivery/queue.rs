//! Which batch of an outbox is sent next, and when.
//!
//! Two lanes share the places on the way to the core:
//!
//! - **live**: batches younger than [`DeliveryRules::live_for`]. They go first, oldest first.
//! - **backlog**: all that could not be delivered for so long. It gets the places that live batches leave, and never
//!   the last quarter of them, so that a live batch does not wait for a place; oldest first.
//!
//! **Order.** Batches that share a shard are never on their way together within a lane, and go in the order in which they
//! were sealed; those that share none go side by side. A batch of which the core took a part keeps its place until its
//! last row is settled, and what is cut from it stands in its place. A live batch does not wait for the backlog: between
//! the lanes there is no order.
//!
//! **Becoming backlog.** When the oldest live batch has waited its turn for too long, all that waits becomes backlog, and
//! live starts anew with what is sealed next: where the core takes less than there is, what is live stays fresh. A batch
//! that failed while the core took others goes alone. Backlog never becomes live again, and is always older than what
//! is live.
//!
//! **When the core fails**, one batch at a time is its probe, after a pause with full jitter; the first success opens all
//! places again. A batch that is always the first to fail after a success, [`STRIKES`] times, is **stuck**: it is
//! no longer waited for and is tried when nothing else is to be sent. So that such a batch can be told from an outage also
//! where all others wait for it, after 4, 8, 16 failures and so on another one is the probe that has not failed yet.
//! These are the two exceptions from the order.
//!
//! Not here: what an answer means ([`super::DeliveryTable`]), the core's own limits ([`crate::gate`]).

mod failing;
#[cfg(test)]
mod tests;

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use crate::Millis;
use crate::retry::RetrySchedule;
pub use failing::STRIKES;

/// The bounds that a stream's deliveries keep.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeliveryRules {
    /// Batches on their way at once, at most; at least one is.
    pub max_in_flight: usize,
    /// The age past which a batch is backlog.
    pub live_for: Duration,
    /// The delays after failures.
    pub schedule: RetrySchedule,
}

impl From<&weir_config::Stream> for DeliveryRules {
    fn from(stream: &weir_config::Stream) -> Self {
        Self {
            max_in_flight: stream.max_in_flight,
            live_for: stream.delivery.live_for,
            schedule: RetrySchedule::from(&stream.retry),
        }
    }
}

/// A batch that waits from now on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Arrival {
    /// Its name: names sort as batches were sealed, and parts of a batch right behind it.
    pub name: Arc<str>,
    /// When it was sealed.
    pub sealed_at: Millis,
    /// A bit for each shard of which it may hold rows. None means that nothing is known: it may hold any.
    pub shards: u64,
    /// The bytes of its file.
    pub bytes: u64,
}

/// A batch's place in the order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Lane {
    /// Fresh.
    Live,
    /// What an outage has left.
    Backlog,
}

impl Lane {
    /// The word in metrics and headers.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Live => "live",
            Self::Backlog => "backlog",
        }
    }
}

/// What waits or is on its way in a lane.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LaneContent {
    /// Batches.
    pub batches: u64,
    /// Bytes of their files.
    pub bytes: u64,
}

/// Why a batch was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Setback {
    /// The core had it and did not take it, or nobody knows. It may have asked to be left alone for a time.
    Failed(Option<Duration>),
    /// The core's gate let nothing pass, for this long where it said so: nothing new is known of the core.
    Held(Option<Duration>),
    /// The core answered with a status that blames the configuration or the credentials.
    Blamed(u16, Option<Duration>),
}

/// The batches of one outbox, in the order of their going.
///
/// Memory: some 150 bytes and the name for each batch. Adding one, taking one out and finding the next costs the
/// logarithm of their number, and a walk over at most [`LOOK_AHEAD`] batches of a lane.
#[derive(Debug, Default)]
pub struct DeliveryQueue {
    batches: HashMap<Arc<str>, Waiting>,
    /// All of the lane that are not stuck.
    live: BTreeSet<Arc<str>>,
    backlog: BTreeSet<Arc<str>>,
    in_flight: BTreeSet<Arc<str>>,
    /// The newest batch that has become backlog: all older ones are.
    horizon: Option<Arc<str>>,
    /// Batches that rest or have rested since they failed, by the end of it.
    rested: BTreeSet<(Millis, Arc<str>)>,
    /// The same of those that are stuck.
    stuck: BTreeSet<(Millis, Arc<str>)>,
    live_content: LaneContent,
    backlog_content: LaneContent,
    /// Failures of the stream since the last success.
    failures: u32,
    /// Whether a batch has been taken for the first to fail since then.
    struck: bool,
    pause_until: Millis,
    paused: Option<u16>,
}

#[derive(Debug)]
struct Waiting {
    shards: u64,
    bytes: u64,
    /// Since when it waits, as far as this process can know.
    since: Millis,
    lane: Lane,
    /// The lane in which it is on its way.
    going: Option<Lane>,
    /// It rests until then.
    rests_until: Millis,
    /// Failures in a row.
    failures: u32,
    /// How often it was the first to fail after a success.
    strikes: u32,
}

/// Batches of a lane that are looked at for one that may go: past them, all are taken to wait for an older one.
pub const LOOK_AHEAD: usize = 256;

impl DeliveryQueue {
    /// Adds a batch; nothing when it is known.
    pub fn add(&mut self, arrival: Arrival, rules: &DeliveryRules, now: Millis) {
        if self.batches.contains_key(&arrival.name) {
            return;
        }
        let Arrival { name, sealed_at, shards, bytes } = arrival;
        let lane = if self.is_behind(&name) { Lane::Backlog } else { Lane::Live };
        let batch = Waiting {
            shards: if shards == 0 { u64::MAX } else { shards },
            bytes,
            // A clock that was set back must not make a batch live for ever.
            since: sealed_at.min(now),
            lane,
            going: None,
            rests_until: Millis::default(),
            failures: 0,
            strikes: 0,
        };
        let is_old = batch.since.after(rules.live_for) <= now;
        self.content_mut(lane).add(bytes);
        self.order_mut(lane).insert(Arc::clone(&name));
        self.batches.insert(Arc::clone(&name), batch);
        if is_old {
            self.demote(name);
        }
    }

    /// The batch to send now and its lane, from then on on its way; `None` when none may go.
    pub fn next(&mut self, rules: &DeliveryRules, now: Millis) -> Option<(Arc<str>, Lane)> {
        self.age(rules.live_for, now);
        let places = if self.is_failing() { 1 } else { rules.max_in_flight.max(1) };
        if now < self.pause_until || self.in_flight.len() >= places {
            return None;
        }
        let name = self.first_of_lanes(places, false, now).or_else(|| self.first_stuck(places, now))?;
        let scout = self.wants_scout(&name).then(|| self.first_of_lanes(places, true, now)).flatten();
        let name = scout.unwrap_or(name);
        self.rest(&name, Millis::default());
        let batch = self.batches.get_mut(&name)?;
        let lane = batch.lane;
        batch.going = Some(lane);
        self.in_flight.insert(Arc::clone(&name));
        Some((name, lane))
    }

    /// When [`Self::next`] may have something though nothing ends or arrives before; `None` when that cannot be.
    pub fn next_at(&self, rules: &DeliveryRules, now: Millis) -> Option<Millis> {
        if self.batches.len() == self.in_flight.len() {
            return None;
        }
        if self.pause_until > now {
            return Some(self.pause_until);
        }
        let aged = self.oldest_live().map(|(_, batch)| batch.since.after(rules.live_for)).filter(|at| *at > now);
        let later = (Millis(now.0.saturating_add(1)), Arc::from(""));
        let rested = [&self.rested, &self.stuck].into_iter().filter_map(|set| set.range(later.clone()..).next());
        rested.map(|(end, _)| *end).chain(aged).min()
    }

    /// The batch is settled: the core has it, or it was given up, or others stand in its place.
    pub fn settle(&mut self, name: &str) {
        self.forget(name);
        self.reopen();
    }

    /// The core has taken or refused a part of the batch, which goes on at once in its place.
    pub fn go_on(&mut self, name: &str) {
        self.in_flight.remove(name);
        if let Some(batch) = self.batches.get_mut(name) {
            (batch.going, batch.failures) = (None, 0);
        }
        self.reopen();
    }

    /// The batch is gone for a reason that says nothing of the core.
    pub fn forget(&mut self, name: &str) {
        self.rest(name, Millis::default());
        self.in_flight.remove(name);
        if let Some(batch) = self.batches.remove(name) {
            self.stuck.remove(&(batch.rests_until, Arc::from(name)));
            self.order_mut(batch.lane).remove(name);
            self.content_mut(batch.lane).take(batch.bytes);
        }
    }

    /// Whether nothing waits and nothing is on its way.
    pub fn is_empty(&self) -> bool {
        self.batches.is_empty()
    }

    /// Whether nothing was taken since the last failure.
    pub fn is_failing(&self) -> bool {
        self.failures > 0
    }

    /// Whether the core was given the batch before and did not take it, as far as this process knows.
    pub fn has_failed(&self, name: &str) -> bool {
        self.batches.get(name).is_some_and(|batch| batch.failures > 0)
    }

    /// The status for which deliveries rest until an operator has mended something.
    pub fn paused(&self) -> Option<u16> {
        self.paused
    }

    /// What a lane holds.
    pub fn content(&self, lane: Lane) -> LaneContent {
        match lane {
            Lane::Live => self.live_content,
            Lane::Backlog => self.backlog_content,
        }
    }

    /// Moves what has waited for too long into the backlog.
    fn age(&mut self, live_for: Duration, now: Millis) {
        while let Some((name, batch)) = self.oldest_live()
            && batch.since.after(live_for) <= now
        {
            let alone = batch.failures > 0 && !self.is_failing();
            let end =
                if alone { Arc::clone(name) } else { self.live.last().map_or_else(|| Arc::clone(name), Arc::clone) };
            self.demote(end);
        }
    }

    /// Makes everything up to that batch backlog.
    fn demote(&mut self, end: Arc<str>) {
        while self.live.first().is_some_and(|oldest| *oldest <= end)
            && let Some(name) = self.live.pop_first()
        {
            self.change_lane(&name);
            self.backlog.insert(name);
        }
        self.horizon = self.horizon.take().max(Some(end));
    }

    /// Whether a batch of this name is no newer than the newest that has become backlog, or is cut from it.
    fn is_behind(&self, name: &str) -> bool {
        self.horizon.as_deref().is_some_and(|horizon| name <= horizon || name.starts_with(horizon))
    }

    fn change_lane(&mut self, name: &str) {
        if let Some(batch) = self.batches.get_mut(name)
            && batch.lane == Lane::Live
        {
            batch.lane = Lane::Backlog;
            self.live_content.take(batch.bytes);
            self.backlog_content.add(batch.bytes);
        }
    }

    /// The oldest live batch that is not on its way.
    fn oldest_live(&self) -> Option<(&Arc<str>, &Waiting)> {
        let mut batches = self.live.iter().filter_map(|name| Some((name, self.batches.get(name)?)));
        batches.find(|(_, batch)| batch.going.is_none())
    }

    fn first_of_lanes(&self, places: usize, untried: bool, now: Millis) -> Option<Arc<str>> {
        let live = self.first(Lane::Live, untried, now);
        live.or_else(|| self.first(Lane::Backlog, untried, now).filter(|_| self.backlog_has_room(places)))
    }

    /// The oldest batch of a lane that no older one holds back. Those that have failed hold none back when one that is
    /// `untried` is looked for.
    fn first(&self, lane: Lane, untried: bool, now: Millis) -> Option<Arc<str>> {
        let going = self.in_flight.iter().filter_map(|name| self.batches.get(name));
        let going = going.filter(|batch| batch.going == Some(lane) && !batch.is_stuck());
        let mut held = going.fold(0, |held, batch| held | batch.shards);
        for name in self.order(lane).iter().take(LOOK_AHEAD) {
            let Some(batch) = self.batches.get(name) else { continue };
            let passed_over = untried && batch.failures > 0;
            if held & batch.shards == 0 && batch.going.is_none() && !passed_over && batch.rests_until <= now {
                return Some(Arc::clone(name));
            }
            if !passed_over {
                held |= batch.shards;
            }
            if held == u64::MAX {
                return None;
            }
        }
        None
    }

    /// The stuck batch that has rested longest, one at a time, where there is room for backlog.
    fn first_stuck(&self, places: usize, now: Millis) -> Option<Arc<str>> {
        let (rests_until, name) = self.stuck.first()?;
        let free = self.backlog_has_room(places) && !self.in_flight.iter().any(|name| self.is_stuck(name));
        (free && *rests_until <= now).then(|| Arc::clone(name))
    }

    fn backlog_has_room(&self, places: usize) -> bool {
        let going = self.in_flight.iter().filter_map(|name| self.batches.get(name)?.going);
        let going = going.filter(|lane| *lane == Lane::Backlog).count();
        going < (places - places.div_ceil(4)).max(1)
    }

    fn order(&self, lane: Lane) -> &BTreeSet<Arc<str>> {
        match lane {
            Lane::Live => &self.live,
            Lane::Backlog => &self.backlog,
        }
    }

    fn order_mut(&mut self, lane: Lane) -> &mut BTreeSet<Arc<str>> {
        match lane {
            Lane::Live => &mut self.live,
            Lane::Backlog => &mut self.backlog,
        }
    }

    fn content_mut(&mut self, lane: Lane) -> &mut LaneContent {
        match lane {
            Lane::Live => &mut self.live_content,
            Lane::Backlog => &mut self.backlog_content,
        }
    }
}

impl LaneContent {
    fn add(&mut self, bytes: u64) {
        self.batches += 1;
        self.bytes += bytes;
    }

    fn take(&mut self, bytes: u64) {
        self.batches -= 1;
        self.bytes -= bytes;
    }
}
