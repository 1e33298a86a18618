//! One fill for each key, however many wait for it.

mod aboard;

use std::future::poll_fn;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use std::time::Duration;

use dashmap::DashMap;
use dashmap::mapref::entry::Entry as MapEntry;
use tokio::time::{Instant, timeout_at};
use weir_logic::CacheKey;

use self::aboard::{Aboard, Place};
use super::fill::Landing;
use super::handout::Handout;

/// The fills under way. Memory: one slot for each, and some 40 bytes for each who waits; their number is bounded by whoever joins.
#[derive(Default)]
pub(super) struct Flights {
    map: DashMap<CacheKey, Arc<Flight>>,
    count: AtomicUsize,
}

/// One fill under way. What is told is written once and read without a lock.
#[derive(Default)]
struct Flight {
    /// How it will end if nothing breaks, where that is known before its end.
    announced: OnceLock<Landing>,
    /// How it ended: `None` when it died.
    ended: OnceLock<Option<Landing>>,
    /// What those on board are told of it alike.
    handout: Handout,
    seats: AtomicUsize,
    overdue: AtomicBool,
    aboard: Aboard,
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
    place: Option<Place>,
}

/// What a seat is told.
pub(super) enum Told<'a> {
    /// How the fill ended, or will if nothing breaks, and what others on board were told of it.
    Landing(&'a Landing, &'a Handout),
    /// It died.
    Death,
    /// It takes longer than who sits there has patience.
    Overdue,
}

/// The duty to say how a fill ended. A ticket that is dropped tells everyone on board that the fill died, and the next request
/// starts another.
pub(super) struct Ticket {
    flights: Arc<Flights>,
    key: CacheKey,
    flight: Arc<Flight>,
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
                let flight = Arc::new(Flight { seats: AtomicUsize::new(1), ..Flight::default() });
                slot.insert(Arc::clone(&flight));
                self.count.fetch_add(1, Ordering::Relaxed);
                let seat = Seat { flight: Arc::clone(&flight), place: None };
                Joined::Lead(Ticket { flights: Arc::clone(self), key: key.clone(), flight }, seat)
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
        Some(Seat { flight: Arc::clone(self), place: None })
    }

    fn has_ended(&self) -> bool {
        self.ended.get().is_some()
    }

    /// What is known of its end. One that dies after it has announced an end has told that one.
    fn told(&self) -> Option<Told<'_>> {
        let landing = self.ended.get().and_then(Option::as_ref).or_else(|| self.announced.get());
        landing.map(|landing| Told::Landing(landing, &self.handout)).or_else(|| self.has_ended().then_some(Told::Death))
    }

    /// Tells its end, the first time that this is called.
    fn end(&self, landing: Option<Landing>) {
        if self.ended.set(landing).is_ok() {
            self.aboard.wake();
        }
    }
}

impl Seat {
    /// Waits until it is known how the fill ends, or for as long as that, up to [`ROUND`] longer.
    pub(super) async fn landing(&mut self, patience: Duration) -> Told<'_> {
        let mut until = None;
        let Self { flight, place } = self;
        poll_fn(|context| {
            if let Some(told) = flight.told() {
                return Poll::Ready(told);
            }
            let now = Instant::now();
            let until = *until.get_or_insert(now + patience);
            if until <= now {
                return Poll::Ready(Told::Overdue);
            }
            match wait(flight, place, context, Some(until), |flight| flight.told().is_some()) {
                Poll::Ready(()) => flight.told().map_or(Poll::Pending, Poll::Ready),
                Poll::Pending => Poll::Pending,
            }
        })
        .await
    }

    /// Waits until the fill is over, whatever it has announced before; `None` when it died without a word.
    pub(super) async fn end(&mut self) -> Option<&Landing> {
        let Self { flight, place } = self;
        poll_fn(|context| wait(flight, place, context, None, Flight::has_ended)).await;
        match flight.told() {
            Some(Told::Landing(landing, _)) => Some(landing),
            _ => None,
        }
    }

    /// Says that the fill takes longer than an agent should wait that can be given something else.
    pub(super) fn call_overdue(&self) {
        self.flight.overdue.store(true, Ordering::Relaxed);
    }

    /// Whether someone has found the fill overdue, and nothing has come of it since.
    pub(super) fn is_overdue(&self) -> bool {
        self.flight.overdue.load(Ordering::Relaxed) && self.flight.told().is_none()
    }

    /// Makes the next request start another fill, though this one has not ended: its answer may not be given any more. Those on
    /// board stay.
    pub(super) fn part(self, flights: &Flights, key: &CacheKey) {
        flights.leave(key, &self.flight);
    }
}

/// Waits for what `over` says.
fn wait(
    flight: &Flight,
    place: &mut Option<Place>,
    context: &Context<'_>,
    until: Option<Instant>,
    over: fn(&Flight) -> bool,
) -> Poll<()> {
    if over(flight) {
        return Poll::Ready(());
    }
    *place = flight.aboard.enter(*place, context.waker(), until, || over(flight));
    if over(flight) { Poll::Ready(()) } else { Poll::Pending }
}

impl Drop for Seat {
    fn drop(&mut self) {
        // When it has ended nobody counts seats, and the list is gone.
        if !self.flight.has_ended() {
            self.flight.seats.fetch_sub(1, Ordering::Relaxed);
            if let Some(place) = self.place {
                self.flight.aboard.leave(place);
            }
        }
    }
}

impl Ticket {
    /// Does the fill, and wakes on the way those on board whose patience ends; `None` when it takes longer than `at_most`.
    pub(super) async fn fly<T>(&self, fill: impl Future<Output = T>, at_most: Duration) -> Option<T> {
        let mut fill = pin!(fill);
        let end = Instant::now() + at_most;
        loop {
            let next = end.min(Instant::now() + ROUND);
            match timeout_at(next, fill.as_mut()).await {
                Ok(filled) => return Some(filled),
                Err(_) if next == end => return None,
                Err(_) => self.flight.aboard.wake_overdue(Instant::now()),
            }
        }
    }

    /// Tells everyone on board, and whoever still joins, how the fill will end if nothing breaks: its answer can be given already.
    /// The fill goes on.
    pub(super) fn announce(&self, landing: Landing) {
        if self.flight.announced.set(landing).is_ok() {
            self.flight.aboard.wake();
        }
    }

    /// Tells everyone on board how the fill ended. What it stored must be stored by now.
    pub(super) fn land(self, landing: Landing) {
        self.leave();
        self.flight.end(Some(landing));
    }

    fn leave(&self) {
        self.flights.leave(&self.key, &self.flight);
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.leave();
        self.flight.end(None);
    }
}

/// How often a fill looks after the patience of those on board.
const ROUND: Duration = Duration::from_millis(500);

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
