//! Those who wait for a fill, and how they are woken.
//!
//! A crowd's waking is the time that its last caller waits longer than its first, so what each caller costs counts ten thousand times.
//! There is one list and one lock, which a caller takes when it comes and no more when the fill has landed; there is no timer for
//! each, as the fill looks after everyone's patience ([`Aboard::wake_overdue`]).

use std::task::Waker;

use parking_lot::Mutex;
use tokio::time::Instant;

/// The tasks that wait. Memory: some 40 bytes for each, as many as there were at most.
#[derive(Default)]
pub(super) struct Aboard {
    list: Mutex<List>,
}

#[derive(Default)]
struct List {
    /// How often all have been woken: a place of an earlier list is no place in this one.
    round: u64,
    waiters: Vec<Option<Waiter>>,
    free: Vec<usize>,
}

struct Waiter {
    waker: Waker,
    /// When its patience ends; `None` where it has none to lose, or knows.
    until: Option<Instant>,
}

/// Where a waiter is listed.
#[derive(Clone, Copy)]
pub(super) struct Place {
    round: u64,
    at: usize,
}

impl Aboard {
    /// Lists a task, in the place where it is already if it is. `told` is asked under the lock: one that has been told meanwhile is not
    /// listed.
    pub(super) fn enter(
        &self,
        place: Option<Place>,
        waker: &Waker,
        until: Option<Instant>,
        told: impl FnOnce() -> bool,
    ) -> Option<Place> {
        let mut list = self.list.lock();
        if told() {
            return place;
        }
        let listed = place.filter(|place| place.round == list.round);
        if let Some(place) = listed {
            if let Some(waiter) = &mut list.waiters[place.at] {
                waiter.waker.clone_from(waker);
                waiter.until = until;
            }
            return listed;
        }
        let waiter = Some(Waiter { waker: waker.clone(), until });
        let at = match list.free.pop() {
            Some(at) => {
                list.waiters[at] = waiter;
                at
            }
            None => {
                list.waiters.push(waiter);
                list.waiters.len() - 1
            }
        };
        Some(Place { round: list.round, at })
    }

    /// Takes a task off the list.
    pub(super) fn leave(&self, place: Place) {
        let mut list = self.list.lock();
        if place.round == list.round {
            list.waiters[place.at] = None;
            list.free.push(place.at);
        }
    }

    /// Wakes all, in the order of their places. There must be something to be told by now.
    pub(super) fn wake(&self) {
        let waiters = {
            let mut list = self.list.lock();
            list.round += 1;
            list.free.clear();
            std::mem::take(&mut list.waiters)
        };
        waiters.into_iter().flatten().for_each(|waiter| waiter.waker.wake());
    }

    /// Wakes those whose patience has ended. They stay listed until they leave.
    pub(super) fn wake_overdue(&self, now: Instant) {
        let mut overdue = Vec::new();
        for waiter in self.list.lock().waiters.iter_mut().flatten() {
            if waiter.until.is_some_and(|until| until <= now) {
                waiter.until = None;
                overdue.push(waiter.waker.clone());
            }
        }
        overdue.into_iter().for_each(Waker::wake);
    }
}
