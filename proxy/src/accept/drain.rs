//! How connections end when the node stops: one after the other, each at its turn, so that the agents do not come back
//! as a herd.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::time::Instant;

/// The end of all connections, spread evenly over a window.
///
/// Every connection has a turn that follows from its number. The first answer given from its turn on closes the
/// connection (`Connection: close`), and HTTP/2 says GOAWAY at it: so no request is lost. A connection without a request
/// for a fifth of the window from its turn on is closed as it is, since nobody knows when its agent will speak again.
/// Requests in flight are never cut.
#[derive(Debug)]
pub struct Drain {
    begun: watch::Sender<Option<Begun>>,
    /// The same as a flag: every answer asks, and `begun` is behind a lock.
    has_begun: AtomicBool,
    open: AtomicUsize,
    none_open: Notify,
}

#[derive(Clone, Copy, Debug)]
struct Begun {
    at: Instant,
    window: Duration,
}

impl Begun {
    /// Turns fill the window but for the time that the last one has left then.
    fn turn(self, number: u64) -> Instant {
        self.at + turn(number, self.window - self.grace())
    }

    fn grace(self) -> Duration {
        self.window / 5
    }
}

impl Drain {
    /// A drain that has not begun.
    #[expect(
        clippy::new_without_default,
        reason = "a drain is shared by whoever must agree on it, not made in passing"
    )]
    pub fn new() -> Self {
        Self {
            begun: watch::Sender::new(None),
            has_begun: AtomicBool::new(false),
            open: AtomicUsize::new(0),
            none_open: Notify::new(),
        }
    }

    /// Begins: no connection is accepted any more, those that are open end within `window`, save for requests in
    /// flight. A second call has no effect unless its window ends sooner.
    pub fn begin(&self, window: Duration) {
        let new = Begun { at: Instant::now(), window };
        self.begun.send_if_modified(|begun| {
            let sooner = begun.is_none_or(|known| new.at + new.window < known.at + known.window);
            if sooner {
                *begun = Some(new);
                self.has_begun.store(true, Ordering::Release);
            }
            sooner
        });
    }

    /// Whether the drain has begun.
    pub fn has_begun(&self) -> bool {
        self.has_begun.load(Ordering::Acquire)
    }

    /// Waits until the drain has begun.
    pub async fn begun(&self) {
        let mut begun = self.begun.subscribe();
        // The sender lives in `self`: it cannot be gone.
        drop(begun.wait_for(Option::is_some).await);
    }

    /// Waits until the drain has begun and no connection is open.
    pub async fn finished(&self) {
        self.begun().await;
        loop {
            let changed = self.none_open.notified();
            if self.open.load(Ordering::Acquire) == 0 {
                return;
            }
            changed.await;
        }
    }

    /// Connections open.
    pub fn open(&self) -> usize {
        self.open.load(Ordering::Acquire)
    }

    /// Waits for the turn of the connection `number`.
    pub(super) async fn turn(&self, number: u64) {
        self.reached(|begun| begun.turn(number)).await;
    }

    /// Waits for the time at which the connection `number` is closed though no request has come since its turn.
    pub(super) async fn end_of_turn(&self, number: u64) {
        self.reached(|begun| begun.turn(number) + begun.grace()).await;
    }

    async fn reached(&self, time: impl Fn(Begun) -> Instant) {
        let mut begun = self.begun.subscribe();
        loop {
            let time = begun.borrow_and_update().map(&time);
            match time {
                None => drop(begun.changed().await),
                Some(time) => tokio::select! {
                    () = tokio::time::sleep_until(time) => return,
                    changed = begun.changed() => drop(changed),
                },
            }
        }
    }

    /// Whether the connection `number` ends with the answer given now: its turn has come.
    pub(super) fn ends_with_answer(&self, number: u64) -> bool {
        self.has_begun() && self.begun.borrow().is_some_and(|begun| begun.turn(number) <= Instant::now())
    }

    /// Counts a connection as open until the guard is dropped.
    pub(super) fn enter(self: &std::sync::Arc<Self>) -> OpenConnection {
        self.open.fetch_add(1, Ordering::AcqRel);
        OpenConnection(std::sync::Arc::clone(self))
    }
}

/// A connection that is open.
pub(super) struct OpenConnection(std::sync::Arc<Drain>);

impl Drop for OpenConnection {
    fn drop(&mut self) {
        if self.0.open.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.0.none_open.notify_waiters();
        }
    }
}

/// The time from the beginning to a connection's turn. Numbers that follow one another land far apart, and any run of
/// numbers fills the window evenly (multiples of the golden ratio).
pub(super) fn turn(number: u64, window: Duration) -> Duration {
    const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;
    let part = number.wrapping_mul(GOLDEN) >> 32;
    let nanos = (window.as_nanos() * u128::from(part)) >> 32;
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    const WINDOW: Duration = Duration::from_secs(10);

    #[test]
    fn turns_fill_the_window_evenly() {
        for first in [0, 1_000, u64::MAX / 2] {
            let mut tenths = [0; 10];
            for number in first..first + 1_000 {
                let turn = turn(number, WINDOW);
                assert!(turn < WINDOW);
                tenths[usize::try_from(turn.as_secs()).unwrap()] += 1;
            }
            assert!(tenths.iter().all(|count| (95..=105).contains(count)), "{tenths:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_turn_comes_within_the_window_and_not_before_the_drain() {
        let drain = Drain::new();
        let waiting = tokio::time::timeout(Duration::from_secs(3600), drain.turn(7)).await;
        assert!(waiting.is_err());
        drain.begin(WINDOW);
        let begun = Instant::now();
        drain.turn(7).await;
        let waited = begun.elapsed();
        assert!(waited.abs_diff(turn(7, WINDOW * 4 / 5)) <= Duration::from_millis(1), "{waited:?}");
        drain.end_of_turn(7).await;
        let idle = begun.elapsed() - waited;
        assert!(idle.abs_diff(WINDOW / 5) <= Duration::from_millis(1), "{idle:?}");
        assert!(begun.elapsed() <= WINDOW);
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_from_the_turn_on_ends_the_connection() {
        let drain = Drain::new();
        let number = (0..100).find(|number| turn(*number, WINDOW) > WINDOW / 2).unwrap();
        assert!(!drain.ends_with_answer(number));
        drain.begin(WINDOW);
        assert!(!drain.ends_with_answer(number));
        drain.turn(number).await;
        assert!(drain.ends_with_answer(number));
    }

    #[tokio::test(start_paused = true)]
    async fn a_second_signal_can_only_shorten_the_drain() {
        let drain = Drain::new();
        drain.begin(WINDOW);
        drain.begin(WINDOW * 2);
        drain.begin(Duration::ZERO);
        tokio::time::timeout(Duration::from_millis(1), drain.turn(7)).await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn it_is_finished_when_the_last_connection_has_gone() {
        let drain = Arc::new(Drain::new());
        let open = drain.enter();
        drain.begin(WINDOW);
        assert!(tokio::time::timeout(WINDOW, drain.finished()).await.is_err());
        drop(open);
        drain.finished().await;
    }
}
