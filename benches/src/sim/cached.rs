//! A node's cached route: 50 answers for everybody, one fill for each at a time.
//!
//! What an answer is good for and how long a failed key rests is `weir_logic::cache`'s to say; who waits and who is served stale is
//! as `cache/visit.rs` of the product has it, but for fills that take so long that agents are served past them.

use std::time::Duration;

use rand::Rng;
use weir_config::CacheRoute;
use weir_logic::Millis;
use weir_logic::cache::{Arrival, CachePolicy, Freshness, Hold, Terms};

use super::agents::{Activity, Told};
use super::desk::Desk;
use super::turnstile::Fault;

/// The stored answers of one node.
#[derive(Debug)]
pub(super) struct Cached {
    entries: Vec<Entry>,
    waiting: usize,
}

#[derive(Clone, Debug, Default)]
struct Entry {
    arrival: Option<Arrival>,
    hold: Option<Hold>,
    /// Those who wait for the fill that is under way.
    flight: Option<Vec<Activity>>,
}

impl Cached {
    pub(super) fn new(keys: usize) -> Self {
        Self { entries: vec![Entry::default(); keys], waiting: 0 }
    }

    /// Requests that wait for a fill.
    pub(super) fn waiting(&self) -> usize {
        self.waiting
    }

    /// Answers a request now or later; gives whether the core is to be asked for the key.
    pub(super) fn ask(
        &mut self,
        route: &CacheRoute,
        key: usize,
        activity: Activity,
        seats: usize,
        desk: &mut Desk,
    ) -> bool {
        let entry = &mut self.entries[key];
        let held_back = entry.hold.is_some_and(|hold| hold.holds(desk.now));
        match entry.freshness(route, desk.now) {
            Some(Freshness::Fresh { .. }) => {
                desk.tell(activity, Told::Good);
                return false;
            }
            Some(Freshness::Stale { while_revalidate, if_error, .. })
                if while_revalidate || (if_error && entry.hold.is_some()) =>
            {
                desk.tell(activity, Told::Good);
                let fills = !held_back && entry.flight.is_none();
                if fills {
                    entry.flight = Some(Vec::new());
                }
                return fills;
            }
            _ if held_back => {
                entry.without_the_core(route, activity, desk);
                return false;
            }
            _ => {}
        }
        let starts = entry.flight.is_none();
        let flight = entry.flight.get_or_insert_default();
        if flight.len() >= seats {
            entry.without_the_core(route, activity, desk);
        } else {
            flight.push(activity);
            self.waiting += 1;
        }
        starts
    }

    /// The fill of a key is over.
    pub(super) fn landed(&mut self, route: &CacheRoute, key: usize, result: Result<(), Fault>, desk: &mut Desk) {
        let entry = &mut self.entries[key];
        let draw = desk.rng.random();
        match result {
            Ok(()) => {
                entry.hold = None;
                entry.arrival = Some(Arrival { status: 200, terms: Terms::default(), stored: desk.now, draw });
            }
            Err(Fault::TurnedAway(hint)) => entry.hold = Some(Hold::turned_away(hint, desk.now, draw)),
            Err(Fault::Failed) => entry.hold = Some(Hold::after(entry.hold, None, desk.now, draw)),
        }
        let waiters = entry.flight.take().unwrap_or_default();
        self.waiting -= waiters.len();
        for activity in waiters {
            match result {
                Ok(()) => desk.tell(activity, Told::Good),
                Err(_) => entry.without_the_core(route, activity, desk),
            }
        }
    }
}

impl Entry {
    fn freshness(&self, route: &CacheRoute, now: Millis) -> Option<Freshness> {
        self.arrival.as_ref().map(|arrival| CachePolicy::of(route).freshness(arrival, None, now))
    }

    /// Says what there is to say when the core does not help: the stale answer, the calm one, or when to come back.
    fn without_the_core(&self, route: &CacheRoute, activity: Activity, desk: &mut Desk) {
        let stale = self.freshness(route, desk.now).is_some_and(|freshness| freshness.serves_errors());
        if stale || route.calm.is_some() {
            return desk.tell(activity, Told::Good);
        }
        desk.turn_away(activity, self.hold.map_or(Duration::ZERO, |hold| hold.until.since(desk.now)));
    }
}
