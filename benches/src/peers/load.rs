//! Many connections at once: as fast as the server goes, or at a rate.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::task::{JoinSet, yield_now};

use super::client::Client;
use super::dialer::Dialer;

/// The connections of a measurement, and what each may have under way.
#[derive(Clone, Copy, Debug)]
pub(super) struct Width {
    pub(super) connections: usize,
    pub(super) streams: usize,
}

/// A load that goes as fast as the server. Dropping it closes every connection.
pub(super) struct Flood {
    done: Arc<AtomicU64>,
    tasks: JoinSet<io::Result<()>>,
}

impl Flood {
    /// Opens the connections and asks without a pause.
    pub(super) async fn start(dialer: &Dialer, width: Width) -> io::Result<Self> {
        let done = Arc::new(AtomicU64::new(0));
        let mut tasks = JoinSet::new();
        for mut client in open(dialer, width).await? {
            let done = Arc::clone(&done);
            tasks.spawn(async move {
                loop {
                    client.ask().await?;
                    done.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        Ok(Self { done, tasks })
    }

    /// Answers so far. An error where a connection has failed.
    pub(super) fn done(&mut self) -> io::Result<u64> {
        match self.tasks.try_join_next() {
            Some(Ok(Err(error))) => Err(error),
            _ => Ok(self.done.load(Ordering::Relaxed)),
        }
    }
}

/// Connections that ask at a rate. Dropping it closes every one.
pub(super) struct Paced {
    due: Arc<Due>,
    tasks: JoinSet<io::Result<()>>,
}

impl Paced {
    /// Opens the connections.
    pub(super) async fn open(dialer: &Dialer, width: Width) -> io::Result<Self> {
        let due = Arc::new(Due::default());
        let mut tasks = JoinSet::new();
        for client in open(dialer, width).await? {
            tasks.spawn(serve(Arc::clone(&due), client));
        }
        Ok(Self { due, tasks })
    }

    /// Asks `rate` times a second for `time`, each time on the connection that has been idle for longest, and tells the latencies in
    /// nanoseconds, each from the moment at which the request was due: one that had to wait for a free connection has waited for
    /// the server.
    pub(super) async fn ask(&mut self, rate: f64, time: Duration) -> io::Result<Histogram<u64>> {
        let began = Instant::now();
        let mut sent = 0_u64;
        while began.elapsed() < time {
            // Spins: timers of the runtime are a millisecond wide, and the clients have a processor to themselves.
            while began.elapsed().as_secs_f64() * rate >= sent as f64 {
                self.due.push(began + Duration::from_secs_f64(sent as f64 / rate));
                sent += 1;
            }
            yield_now().await;
        }
        if let Some(Ok(Err(error))) = self.tasks.try_join_next() {
            return Err(error);
        }
        let latencies = self.due.latencies.lock().take();
        latencies.ok_or_else(|| io::Error::other("nothing was answered"))
    }
}

/// Requests that are due.
#[derive(Default)]
struct Due {
    waiting: Mutex<VecDeque<Instant>>,
    more: Notify,
    latencies: Mutex<Option<Histogram<u64>>>,
}

impl Due {
    fn push(&self, at: Instant) {
        let mut waiting = self.waiting.lock();
        // A server that is this far behind has shown what it can; more would tell nothing new.
        if waiting.len() < BACKLOG {
            waiting.push_back(at);
        }
        drop(waiting);
        self.more.notify_one();
    }

    async fn next(&self) -> Instant {
        loop {
            let next = self.waiting.lock().pop_front();
            if let Some(at) = next {
                return at;
            }
            self.more.notified().await;
        }
    }

    fn answered(&self, at: Instant) {
        let nanos = u64::try_from(at.elapsed().as_nanos()).unwrap_or(u64::MAX);
        let mut latencies = self.latencies.lock();
        // Three digits, up to a minute; both are in the range that the histogram takes.
        let made = latencies.take().or_else(|| Histogram::new_with_max(60_000_000_000, 3).ok());
        *latencies = made.map(|mut histogram| {
            histogram.saturating_record(nanos);
            histogram
        });
    }
}

async fn serve(due: Arc<Due>, mut client: Client) -> io::Result<()> {
    loop {
        let at = due.next().await;
        client.ask().await?;
        due.answered(at);
    }
}

async fn open(dialer: &Dialer, width: Width) -> io::Result<Vec<Client>> {
    let mut clients = Vec::new();
    for agent in 0..width.connections {
        clients.extend(Client::open(dialer, agent, width.streams).await?);
    }
    Ok(clients)
}

const BACKLOG: usize = 100_000;
