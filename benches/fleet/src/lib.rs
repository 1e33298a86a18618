//! A fleet of agents: open loop, keep-alive TLS, latency without coordinated omission.
//!
//! [`Fleet::start`] opens a connection for every agent at a bounded rate, then lets each send its share of the standard
//! mix (update checks, config fetches, tasking polls, uploads of process events) at times fixed beforehand. An answer
//! that is late does not make the next request later, and latency counts from the time a request was due: what an agent
//! waits for is what is measured. [`Fleet::stop`] or the end of the schedule gives a [`FleetReport`].
//!
//! It knows HTTP and no product. Every run ends: rate, count of agents and duration are bounded. Targets off this machine
//! are refused unless allowed.

mod acknowledged;
mod agent;
mod compression;
mod connection;
mod events;
mod http;
mod options;
mod press;
mod recorder;
mod rehearsal;
mod report;
mod schedule;
mod shared;
mod zipf;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use rustls_pki_types::ServerName;
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{Instant, sleep_until};

pub use crate::acknowledged::Acknowledged;
pub use crate::compression::Compression;
pub use crate::connection::client_config;
pub use crate::options::{FleetError, FleetOptions, FleetTls, Identity, Mix, Paths, Remember, Uploads};
pub use crate::press::{Press, PressCounts, PressOptions};
pub use crate::rehearsal::Rehearsal;
pub use crate::report::{
    ConnectionReport, ErrorCounts, FleetReport, Latency, RecordReport, Route, RouteReport, SecondReport,
};

use crate::acknowledged::Memory;
use crate::agent::Agent;
use crate::connection::Dialer;
use crate::events::Events;
use crate::recorder::Recorder;
use crate::schedule::Schedule;
use crate::shared::{Shared, UpdateKeys, Weights, unix_ms};

/// A running fleet. Dropping it closes every connection at once.
#[derive(Debug)]
pub struct Fleet {
    shared: Arc<Shared>,
    started: watch::Receiver<Option<Start>>,
    ramp_began: Instant,
    running: JoinHandle<()>,
}

/// When the schedule starts.
#[derive(Debug, Clone, Copy)]
struct Start {
    schedule: Schedule,
    unix_ms: u64,
    ramp: Duration,
}

/// From the end of the ramp to the first turn: time for every agent to wake up.
const LEAD: Duration = Duration::from_millis(500);

impl Fleet {
    /// Starts a fleet on the caller's tokio runtime and returns while it opens its connections.
    ///
    /// # Errors
    /// An option is out of its bounds, a target is not on this machine, or certificates or events cannot be used.
    pub fn start(options: FleetOptions) -> Result<Self, FleetError> {
        options.check()?;
        // Where the system allows fewer files than agents, connections fail and are counted as such.
        rlimit::increase_nofile_limit(u64::MAX).ok();
        let shared = Arc::new(share(options)?);
        let (announce, started) = watch::channel(None);
        let running = tokio::spawn(run(Arc::clone(&shared), announce));
        Ok(Self { shared, started, ramp_began: Instant::now(), running })
    }

    /// The figures so far.
    pub fn snapshot(&self) -> FleetReport {
        let mut report = self.shared.recorder.lock().report();
        report.agents = self.shared.options.agents;
        report.connected = self.shared.connected.load(Ordering::Relaxed);
        let start = *self.started.borrow();
        match start {
            Some(start) => {
                report.started_unix_ms = start.unix_ms;
                report.ramp_ms = millis(start.ramp);
                let elapsed = start.schedule.since_start(Instant::now());
                report.elapsed_ms = millis(elapsed.min(self.shared.options.duration));
            }
            None => report.ramp_ms = millis(self.ramp_began.elapsed()),
        }
        report
    }

    /// Waits until every agent has its connection or failed to get one.
    pub async fn ramped_up(&mut self) {
        // An error means that the run is over, and the ramp with it.
        self.started.wait_for(Option::is_some).await.ok();
    }

    /// Whether every agent is done.
    pub fn is_over(&self) -> bool {
        self.running.is_finished()
    }

    /// Waits for the end of the schedule and of what is under way then.
    pub async fn finish(mut self) -> FleetReport {
        self.join().await
    }

    /// Ends the schedule now and waits for what is under way.
    pub async fn stop(mut self) -> FleetReport {
        self.shared.stop.send_replace(true);
        self.join().await
    }

    /// A handle by which to ask what was acknowledged, also after the fleet has ended.
    pub fn memory(&self) -> FleetMemory {
        FleetMemory(Arc::clone(&self.shared))
    }

    async fn join(&mut self) -> FleetReport {
        if let Err(error) = (&mut self.running).await
            && error.is_panic()
        {
            std::panic::resume_unwind(error.into_panic());
        }
        self.snapshot()
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        self.running.abort();
    }
}

/// What a fleet remembers, also after its end.
#[derive(Debug, Clone)]
pub struct FleetMemory(Arc<Shared>);

impl FleetMemory {
    /// What was acknowledged; nothing where [`FleetOptions::remember`] did not ask for it.
    pub fn acknowledged(&self) -> Acknowledged {
        self.0.memory.as_ref().map(|memory| memory.lock().acknowledged()).unwrap_or_default()
    }
}

fn share(options: FleetOptions) -> Result<Shared, FleetError> {
    let tls = match &options.tls {
        None => None,
        Some(tls) => {
            let name =
                ServerName::try_from(tls.server_name.clone()).map_err(|error| FleetError::Tls(error.to_string()))?;
            Some((client_config(tls, b"http/1.1").map_err(FleetError::Tls)?, name))
        }
    };
    let events = match &options.uploads.file {
        Some(path) => Events::recorded(path).map_err(FleetError::Events)?,
        None => Events::synthetic(),
    };
    let memory = options.remember.clone().map(|remember| Mutex::new(Memory::new(remember)));
    Ok(Shared {
        dialer: Dialer::new(options.targets[0], tls),
        events,
        update_keys: UpdateKeys::new(),
        routes: Route::ALL,
        mix: Weights::new(options.mix),
        run: format!("{:x}.{:x}", unix_ms() & 0xffff_ffff, options.seed),
        recorder: Mutex::new(Recorder::new()),
        memory,
        stop: watch::Sender::new(false),
        connected: AtomicU64::new(0),
        options,
    })
}

/// Opens the connections, starts the schedule, and waits for every agent. Dropping the future ends them all.
async fn run(shared: Arc<Shared>, announce: watch::Sender<Option<Start>>) {
    let options = &shared.options;
    let began = Instant::now();
    let mut agents = JoinSet::new();
    // Each agent holds a sender until it has tried to connect; when none is left, the ramp is over.
    let (connecting, mut ramp) = tokio::sync::mpsc::channel::<()>(1);
    for index in 0..options.agents {
        let mut agent = Agent::new(index, Arc::clone(&shared));
        let connect_at = began + Duration::from_secs_f64(f64::from(index) / options.handshakes_per_second);
        let (connecting, mut started, mut stop) = (connecting.clone(), announce.subscribe(), shared.stop.subscribe());
        agents.spawn(async move {
            let stopped = tokio::select! {
                () = sleep_until(connect_at) => false,
                _ = stop.wait_for(|stopped| *stopped) => true,
            };
            if !stopped {
                agent.connect_early().await;
            }
            drop(connecting);
            let start = started.wait_for(Option::is_some).await.map(|start| *start);
            if let Ok(Some(start)) = start {
                agent.run(start.schedule).await;
            }
        });
    }
    drop(connecting);
    // Nothing is ever sent: this ends when the last sender is gone.
    ramp.recv().await;
    let start = Instant::now() + LEAD;
    let schedule = Schedule::new(start, options.duration, options.agents, options.requests_per_second);
    let unix_ms = unix_ms() + millis(LEAD);
    announce.send_replace(Some(Start { schedule, unix_ms, ramp: began.elapsed() }));
    while let Some(ended) = agents.join_next().await {
        if let Err(error) = ended
            && error.is_panic()
        {
            std::panic::resume_unwind(error.into_panic());
        }
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
