//! Those who wait for a fill, and how they are woken.
//!
//! A crowd's waking is the time that its last caller waits longer than its first, so what each caller costs counts ten thousand times.
//! There is one list and one lock, which a caller takes when it comes and no more when the fill has landed; there is no timer for
//! each, as the fill looks after everyone's patience ([`Aboard::wake_overdue`]). And a crowd is woken in lots that fit into the queue of
//! the thread that wakes them: what does not fit goes through the one queue that all threads share, and its memory is fetched twice.

use std::task::Waker;
use std::vec::IntoIter;

use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::task::yield_now;
use tokio::time::Instant;

use crate::task;

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

/// Those who have not been woken yet. Dropping it wakes them: nobody is forgotten by a runtime that ends.
struct Rest(IntoIter<Option<Waiter>>);

impl Rest {
    /// Wakes all, and lets one lot run before it wakes the next.
    async fn wake(mut self) {
        while !self.is_empty() {
            yield_now().await;
            self.wake_lot();
        }
    }

    fn wake_lot(&mut self) {
        self.0.by_ref().flatten().take(LOT).for_each(|waiter| waiter.waker.wake());
    }

    fn is_empty(&self) -> bool {
        self.0.len() == 0
    }
}

impl Drop for Rest {
    fn drop(&mut self) {
        self.0.by_ref().flatten().for_each(|waiter| waiter.waker.wake());
    }
}

/// Half of what the queue of one of the runtime's threads takes.
const LOT: usize = 128;

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

    /// Wakes all, in the order of their places: the first [`LOT`] now and the others from a task of their own. There must be something
    /// to be told by now.
    pub(super) fn wake(&self) {
        let waiters = {
            let mut list = self.list.lock();
            list.round += 1;
            list.free.clear();
            std::mem::take(&mut list.waiters)
        };
        let mut rest = Rest(waiters.into_iter());
        rest.wake_lot();
        if !rest.is_empty() && Handle::try_current().is_ok() {
            drop(task::spawn("wake", rest.wake()));
        }
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::Wake;

    use tokio::runtime::Builder;

    use super::*;

    #[derive(Default)]
    struct Woken(AtomicUsize);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    const CROWD: usize = 4 * LOT + 1;

    fn crowd() -> (Aboard, Arc<Woken>) {
        let (aboard, woken) = (Aboard::default(), Arc::<Woken>::default());
        for _ in 0..CROWD {
            aboard.enter(None, &Arc::clone(&woken).into(), None, || false);
        }
        (aboard, woken)
    }

    fn count(woken: &Woken) -> usize {
        woken.0.load(Ordering::Relaxed)
    }

    #[test]
    fn one_who_has_left_is_no_part_of_a_lot() {
        let (aboard, woken) = (Aboard::default(), Arc::<Woken>::default());
        let enter = || aboard.enter(None, &Arc::clone(&woken).into(), None, || false);
        let (first, _second) = (enter().unwrap(), enter());
        aboard.leave(first);
        aboard.wake();
        assert_eq!(count(&woken), 1);
    }

    #[tokio::test]
    async fn a_crowd_is_woken_lot_by_lot() {
        let (aboard, woken) = crowd();
        aboard.wake();
        assert_eq!(count(&woken), LOT);
        while count(&woken) < CROWD {
            yield_now().await;
        }
    }

    #[test]
    fn a_runtime_that_ends_forgets_nobody() {
        let (aboard, woken) = crowd();
        let runtime = Builder::new_current_thread().build().unwrap();
        runtime.block_on(async { aboard.wake() });
        drop(runtime);
        assert_eq!(count(&woken), CROWD);
    }

    #[test]
    fn without_a_runtime_all_are_woken_at_once() {
        let (aboard, woken) = crowd();
        aboard.wake();
        assert_eq!(count(&woken), CROWD);
    }
}
