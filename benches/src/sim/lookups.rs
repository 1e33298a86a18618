//! A node's lookup routes: single requests collected into bulk requests, answers kept for their TTL.
//!
//! Windows are the product's own (`weir_logic::lookup`), and so is what a kept answer is good for. Who waits and who is served stale
//! is as `lookup/visit.rs` of the product has it.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, VecDeque};
use std::time::Duration;

use rand::Rng;
use weir_config::LookupRoute;
use weir_logic::cache::{Freshness, Hold};
use weir_logic::lookup::{Join, LookupEntry, LookupWindows, Place, WindowBounds, lease};
use weir_logic::{CacheKey, Millis};

use super::agents::{Activity, Told};
use super::desk::{Desk, Event, Looked};
use super::turnstile::Fault;

/// One lookup route of one node.
#[derive(Debug)]
pub(super) struct Lookups {
    node: u16,
    route: Looked,
    windows: LookupWindows<u32, Activity>,
    /// By subject; empty where nothing is kept.
    kept: Vec<Kept>,
    /// Kept answers by the time at which they are to be fetched anew.
    due: BinaryHeap<Reverse<(u64, u32)>>,
    holds: HashMap<u32, Hold>,
    hold_order: VecDeque<u32>,
}

/// The keys of a bulk request.
pub(super) type Entries = Vec<LookupEntry<u32, Activity>>;

/// An answer that is kept: eight bytes for each tenant on each node.
#[derive(Clone, Copy, Debug, Default)]
struct Kept {
    /// The millisecond after which it came; 0 for none.
    fetched: u32,
    draw: u16,
    /// Whether it was asked for since it came.
    asked: bool,
}

/// As the product bounds them.
const MAX_HOLDS: usize = 16_384;
impl Lookups {
    pub(super) fn new(node: u16, route: Looked, lookup: &LookupRoute, subjects: u32) -> Self {
        let keeps = !lookup.ttl.is_zero();
        Self {
            node,
            route,
            windows: LookupWindows::new(),
            kept: vec![Kept::default(); if keeps { subjects as usize } else { 0 }],
            due: BinaryHeap::new(),
            holds: HashMap::new(),
            hold_order: VecDeque::new(),
        }
    }

    /// Requests that wait for an answer.
    pub(super) fn waiting(&self) -> usize {
        self.windows.waiting()
    }

    /// Answers a request now or later; gives the keys of a bulk request that is to leave.
    pub(super) fn ask(
        &mut self,
        lookup: &LookupRoute,
        (subject, key): (u32, CacheKey),
        activity: Activity,
        is_crowded: bool,
        desk: &mut Desk,
    ) -> Option<Entries> {
        let hold = self.holds.get(&subject).copied();
        let held_back = hold.filter(|hold| hold.holds(desk.now));
        match self.freshness(lookup, subject, desk.now) {
            Some(Freshness::Fresh { .. }) => {
                self.kept[subject as usize].asked = true;
                desk.tell(activity, Told::Good);
                return None;
            }
            Some(Freshness::Stale { while_revalidate, if_error, .. })
                if while_revalidate || (if_error && (hold.is_some() || is_crowded)) =>
            {
                desk.tell(activity, Told::Good);
                return if held_back.is_none() { self.refresh(lookup, subject, key, desk) } else { None };
            }
            _ => {}
        }
        if let Some(hold) = held_back {
            self.without_the_core(lookup, subject, activity, hold.until.since(desk.now), desk);
            return None;
        }
        match self.windows.join(key, subject, activity, bounds(lookup)) {
            Ok(joined) => self.see_off(joined, lookup.window, desk),
            Err(_) => {
                self.without_the_core(lookup, subject, activity, Duration::ZERO, desk);
                None
            }
        }
    }

    /// Closes a window whose time is over.
    pub(super) fn close(&mut self, lookup: &LookupRoute, number: u64) -> Option<Entries> {
        self.windows.close(number, bounds(lookup)).map(|window| window.entries)
    }

    /// Has what is due by now fetched anew.
    pub(super) fn refresh_due(
        &mut self,
        lookup: &LookupRoute,
        key: impl Fn(u32) -> Option<CacheKey>,
        desk: &mut Desk,
    ) -> Vec<Entries> {
        let mut leaving = Vec::new();
        while let Some(Reverse((due, subject))) =
            self.due.peek().copied().filter(|Reverse((due, _))| *due <= desk.now.0)
        {
            self.due.pop();
            let held_back = self.holds.get(&subject).is_some_and(|hold| hold.holds(desk.now));
            let current = self.due_of(lookup, subject) == Some(due);
            if self.kept[subject as usize].asked
                && current
                && !held_back
                && let Some(key) = key(subject)
            {
                leaving.extend(self.refresh(lookup, subject, key, desk));
            }
        }
        leaving
    }

    /// A bulk request is over.
    pub(super) fn landed(
        &mut self,
        lookup: &LookupRoute,
        entries: Entries,
        result: Result<(), Fault>,
        desk: &mut Desk,
    ) {
        for entry in entries {
            let subject = entry.about;
            match result {
                Ok(()) => self.keep(lookup, subject, desk),
                Err(fault) => self.rest(subject, fault, desk),
            }
            let late = self.windows.land(&entry.key);
            let rest = match result {
                Err(Fault::TurnedAway(rest)) => rest,
                _ => None,
            };
            for activity in entry.waiters.into_iter().chain(late) {
                self.windows.leave();
                match result {
                    Ok(()) => desk.tell(activity, Told::Good),
                    Err(_) => self.without_the_core(lookup, subject, activity, rest.unwrap_or_default(), desk),
                }
            }
        }
    }

    fn keep(&mut self, lookup: &LookupRoute, subject: u32, desk: &mut Desk) {
        self.holds.remove(&subject);
        let Some(kept) = self.kept.get_mut(subject as usize) else { return };
        let fetched = u32::try_from(desk.now.0).unwrap_or(u32::MAX).max(1);
        *kept = Kept { fetched, draw: desk.rng.random(), asked: false };
        if let Some(due) = self.due_of(lookup, subject) {
            self.due.push(Reverse((due, subject)));
        }
    }

    fn rest(&mut self, subject: u32, fault: Fault, desk: &mut Desk) {
        let draw = desk.rng.random();
        let previous = self.holds.get(&subject).copied();
        let hold = match fault {
            Fault::TurnedAway(hint) => Hold::turned_away(hint, desk.now, draw),
            Fault::Failed => Hold::after(previous, None, desk.now, draw),
        };
        if self.holds.insert(subject, hold).is_none() {
            self.hold_order.push_back(subject);
            if self.hold_order.len() > MAX_HOLDS {
                self.hold_order.pop_front().and_then(|oldest| self.holds.remove(&oldest));
            }
        }
    }

    fn refresh(&mut self, lookup: &LookupRoute, subject: u32, key: CacheKey, desk: &mut Desk) -> Option<Entries> {
        let joined = self.windows.refresh(key, subject, bounds(lookup))?;
        self.see_off(joined, lookup.refresh_window, desk)
    }

    fn see_off(&self, joined: Join<u32, Activity>, time: Duration, desk: &mut Desk) -> Option<Entries> {
        if let Some(window) = joined.full {
            return Some(window.entries);
        }
        if let Place::Opened(number) = joined.place {
            let event = Event::Window { node: self.node, route: self.route, number };
            desk.calendar.put(desk.now.after(time), event);
        }
        None
    }

    fn freshness(&self, lookup: &LookupRoute, subject: u32, now: Millis) -> Option<Freshness> {
        let kept = self.kept.get(subject as usize).filter(|kept| kept.fetched > 0)?;
        let resident = now.since(Millis(kept.fetched.into()));
        Some(lease(lookup, None).freshness(resident, unit(kept.draw)))
    }

    fn due_of(&self, lookup: &LookupRoute, subject: u32) -> Option<u64> {
        let kept = self.kept.get(subject as usize)?;
        lease(lookup, None).due(unit(kept.draw)).map(|due| Millis(kept.fetched.into()).after(due).0)
    }

    /// Says what is kept if it may stand in, else the calm answer, else when to come back.
    fn without_the_core(
        &self,
        lookup: &LookupRoute,
        subject: u32,
        activity: Activity,
        rest: Duration,
        desk: &mut Desk,
    ) {
        let freshness = self.freshness(lookup, subject, desk.now);
        if freshness.is_some_and(|freshness| freshness.serves_errors()) || lookup.calm.is_some() {
            return desk.tell(activity, Told::Good);
        }
        desk.turn_away(activity, rest);
    }
}

fn unit(draw: u16) -> f64 {
    f64::from(draw) / 65_536.0
}

fn bounds(route: &LookupRoute) -> WindowBounds {
    WindowBounds { max_keys: route.max_keys, max_waiters: route.max_waiters, joins_under_way: !route.ttl.is_zero() }
}
