//! How long a connection may be without a request.
//!
//! To set a timer and to join those who wait for the drain takes locks that all connections share, and taking leave of both takes them
//! again; so does asking them. So that is done once, not for each request: what waits stays while requests come and go, is asked only when it
//! has rung, and is set anew when it has waited in vain.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use futures::task::AtomicWaker;
use tokio::time::{Instant, sleep_until};

use super::Drain;
use super::connection::End;

/// Tells when a connection has been without a request for long enough. Memory: half a KiB from its first wait on.
pub(super) struct Patience<'a> {
    drain: &'a Drain,
    number: u64,
    time: Duration,
    waiting: Option<Waiting<'a>>,
    bell: Arc<Bell>,
}

/// What is rung when the waiting may be over.
#[derive(Default)]
struct Bell {
    rung: AtomicBool,
    task: AtomicWaker,
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.rung.store(true, Ordering::Release);
        self.task.wake();
    }
}

type Waiting<'a> = Pin<Box<dyn Future<Output = End> + Send + 'a>>;

impl<'a> Patience<'a> {
    /// The patience with the connection `number`, which may be without a request for `time`.
    pub(super) fn new(drain: &'a Drain, number: u64, time: Duration) -> Self {
        Self { drain, number, time, waiting: None, bell: Arc::default() }
    }

    /// Waits from now on until it is over, and says why. Can be dropped and called again for the next request.
    pub(super) async fn ends(&mut self) -> End {
        let end = Instant::now() + self.time;
        poll_fn(|cx| self.poll(cx, end)).await
    }

    fn poll(&mut self, cx: &Context<'_>, end: Instant) -> Poll<End> {
        // Before the bell is looked at: it may ring in between.
        self.bell.task.register(cx.waker());
        loop {
            let is_new = self.waiting.is_none();
            if !self.bell.rung.swap(false, Ordering::AcqRel) && !is_new {
                return Poll::Pending;
            }
            let (drain, number) = (self.drain, self.number);
            let waiting = self.waiting.get_or_insert_with(|| Box::pin(wait(drain, number, end)));
            let waker = Waker::from(Arc::clone(&self.bell));
            let Poll::Ready(over) = waiting.as_mut().poll(&mut Context::from_waker(&waker)) else {
                return Poll::Pending;
            };
            self.waiting = None;
            // What was set for an earlier request comes too soon.
            if over == End::Drain || Instant::now() >= end {
                return Poll::Ready(over);
            }
        }
    }
}

async fn wait(drain: &Drain, number: u64, end: Instant) -> End {
    tokio::select! {
        () = drain.end_of_turn(number) => End::Drain,
        () = sleep_until(end) => End::Idle,
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::{advance, timeout};

    use super::*;

    const TIME: Duration = Duration::from_secs(60);

    #[tokio::test(start_paused = true)]
    async fn each_request_begins_the_time_anew() {
        let drain = Drain::new();
        let mut patience = Patience::new(&drain, 1, TIME);
        for _ in 0..5 {
            assert!(timeout(TIME * 2 / 3, patience.ends()).await.is_err());
        }
        let began = Instant::now();
        assert_eq!(patience.ends().await, End::Idle);
        assert_eq!(began.elapsed(), TIME);
        assert_eq!(patience.ends().await, End::Idle);
        assert_eq!(began.elapsed(), 2 * TIME, "it can end more than once");
    }

    #[tokio::test(start_paused = true)]
    async fn a_drain_that_begins_between_requests_is_noticed() {
        let drain = Drain::new();
        let mut patience = Patience::new(&drain, 1, TIME);
        assert!(timeout(Duration::from_secs(1), patience.ends()).await.is_err());
        drain.begin(Duration::ZERO);
        advance(Duration::from_secs(1)).await;
        assert_eq!(patience.ends().await, End::Drain);
    }
}
