//! One fill for each key, however many wait for it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use dashmap::DashMap;
use dashmap::mapref::entry::Entry as MapEntry;
use tokio::sync::watch;
use weir_logic::CacheKey;

use super::fill::Landing;

/// The fills under way. Memory: one slot for each; their number is bounded by whoever joins.
#[derive(Default)]
pub(super) struct Flights {
    map: DashMap<CacheKey, Arc<Flight>>,
    count: AtomicUsize,
}

/// One fill under way.
struct Flight {
    landing: watch::Receiver<Option<Landing>>,
    seats: AtomicUsize,
    overdue: AtomicBool,
}

/// What a request that needs a fill gets.
pub(super) enum Joined<T> {
    /// No fill was under way: the caller starts one and hands it the ticket.
    Lead(Ticket, Seat),
    /// Another request's fill is under way.
    Follow(Seat),
    /// As many wait for this fill, or as many fills are under way, as may.
    Crowded,
    /// The need has gone: a fill landed in the meantime.
    Settled(T),
}

/// How many may wait and fly.
#[derive(Clone, Copy)]
pub(super) struct Bounds {
    pub(super) seats: usize,
    pub(super) flights: usize,
}

/// The right to be told how a fill ends. Leaving it early disturbs nobody.
pub(super) struct Seat {
    flight: Arc<Flight>,
    landing: watch::Receiver<Option<Landing>>,
}

/// The duty to say how a fill ended. A ticket that is dropped tells everyone on board that the fill died, and the next request
/// starts another.
pub(super) struct Ticket {
    flights: Arc<Flights>,
    key: CacheKey,
    flight: Arc<Flight>,
    landing: watch::Sender<Option<Landing>>,
}

impl Flights {
    /// Joins the fill of `key`, or starts it. `settled` is asked under the key's lock whether a fill is still needed, so that
    /// one that lands between the caller's look at the store and this call is not repeated.
    pub(super) fn join<T>(
        self: &Arc<Self>,
        key: &CacheKey,
        bounds: Bounds,
        settled: impl FnOnce() -> Option<T>,
    ) -> Joined<T> {
        match self.map.entry(key.clone()) {
            MapEntry::Occupied(slot) => slot.get().seat(bounds.seats).map_or(Joined::Crowded, Joined::Follow),
            MapEntry::Vacant(slot) => {
                if let Some(settled) = settled() {
                    return Joined::Settled(settled);
                }
                if self.count.load(Ordering::Relaxed) >= bounds.flights {
                    return Joined::Crowded;
                }
                let (sender, landing) = watch::channel(None);
                let flight = Arc::new(Flight {
                    landing: landing.clone(),
                    seats: AtomicUsize::new(1),
                    overdue: AtomicBool::new(false),
                });
                slot.insert(Arc::clone(&flight));
                self.count.fetch_add(1, Ordering::Relaxed);
                let seat = Seat { flight: Arc::clone(&flight), landing };
                Joined::Lead(Ticket { flights: Arc::clone(self), key: key.clone(), flight, landing: sender }, seat)
            }
        }
    }

    fn leave(&self, key: &CacheKey, flight: &Arc<Flight>) {
        if self.map.remove_if(key, |_, flying| Arc::ptr_eq(flying, flight)).is_some() {
            self.count.fetch_sub(1, Ordering::Relaxed);
        }
    }

    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.map.is_empty() && self.count.load(Ordering::Relaxed) == 0
    }
}

impl Flight {
    fn seat(self: &Arc<Self>, bound: usize) -> Option<Seat> {
        if self.seats.fetch_add(1, Ordering::Relaxed) >= bound {
            self.seats.fetch_sub(1, Ordering::Relaxed);
            return None;
        }
        Some(Seat { flight: Arc::clone(self), landing: self.landing.clone() })
    }
}

impl Seat {
    /// Waits for the end of the fill; `None` when it died.
    pub(super) async fn landing(&mut self) -> Option<Landing> {
        self.landing.wait_for(Option::is_some).await.ok().and_then(|landing| landing.clone())
    }

    /// Waits until the fill is over, whatever it has announced before; `None` when it died without a word.
    pub(super) async fn end(&mut self) -> Option<Landing> {
        while self.landing.changed().await.is_ok() {}
        self.landing.borrow().clone()
    }

    /// Says that the fill takes longer than an agent should wait that can be given something else.
    pub(super) fn call_overdue(&self) {
        self.flight.overdue.store(true, Ordering::Relaxed);
    }

    /// Whether someone has found the fill overdue, and nothing has come of it since.
    pub(super) fn is_overdue(&self) -> bool {
        self.flight.overdue.load(Ordering::Relaxed) && self.landing.borrow().is_none()
    }

    /// Makes the next request start another fill, though this one has not ended: its answer may not be given any more. Those on
    /// board stay.
    pub(super) fn part(self, flights: &Flights, key: &CacheKey) {
        flights.leave(key, &self.flight);
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.flight.seats.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Ticket {
    /// Tells everyone on board, and whoever still joins, how the fill will end if nothing breaks: its answer can be given already.
    /// The fill goes on.
    pub(super) fn announce(&self, landing: Landing) {
        self.landing.send_replace(Some(landing));
    }

    /// Tells everyone on board how the fill ended. What it stored must be stored by now.
    pub(super) fn land(self, landing: Landing) {
        self.leave();
        self.landing.send_replace(Some(landing));
    }

    fn leave(&self) {
        self.flights.leave(&self.key, &self.flight);
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.leave();
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::support::key_named;
    use super::*;

    const ONE: Bounds = Bounds { seats: 1, flights: 1 };

    fn needed() -> Option<()> {
        None
    }

    #[test]
    fn a_need_that_has_gone_starts_no_fill() {
        let flights = Arc::new(Flights::default());
        assert!(matches!(flights.join(&key_named("k"), ONE, || Some(7)), Joined::Settled(7)));
        assert!(flights.is_empty());
    }

    #[test]
    fn seats_and_flights_are_bounded_and_given_back() {
        let flights = Arc::new(Flights::default());
        let (key, other) = (key_named("k"), key_named("other"));
        let Joined::Lead(ticket, seat) = flights.join(&key, ONE, needed) else { panic!("a flight was under way") };
        assert!(matches!(flights.join(&key, ONE, needed), Joined::Crowded));
        assert!(matches!(flights.join(&other, ONE, needed), Joined::Crowded));
        drop(seat);
        assert!(matches!(flights.join(&key, ONE, needed), Joined::Follow(_)));
        drop(ticket);
        assert!(flights.is_empty());
        assert!(matches!(flights.join(&other, ONE, needed), Joined::Lead(..)));
    }

    #[test]
    fn a_late_ticket_does_not_end_the_next_fill() {
        let flights = Arc::new(Flights::default());
        let key = key_named("k");
        let Joined::Lead(first, _seat) = flights.join(&key, ONE, needed) else { panic!("a flight was under way") };
        first.leave();
        let Joined::Lead(second, _seat) = flights.join(&key, ONE, needed) else { panic!("the first had left") };
        drop(first);
        assert!(matches!(flights.join(&key, Bounds { seats: 2, ..ONE }, needed), Joined::Follow(_)));
        drop(second);
        assert!(flights.is_empty());
    }
}
