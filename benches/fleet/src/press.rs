//! Uploads as fast as the target takes them: a closed loop, for the measurement of throughput.
//!
//! Bodies are made beforehand, so that what is sent costs little more than its sending. Each connection serves many agents in turn;
//! an agent sends a minute's uploads, one every ten seconds of its own time, and makes room for a new one with another name. So what
//! is a repeat and what is new keeps the standard mix's parts, however fast it goes.

use std::fmt::Write as _;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rand::SeedableRng;
use rand::rngs::SmallRng;
use rustls_pki_types::ServerName;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use crate::connection::{Connection, Dialer, client_config};
use crate::events::{Events, Past};
use crate::http::exchange;
use crate::options::{FleetError, FleetTls, Uploads};
use crate::shared::unix_ms;

/// What a press is started with.
#[derive(Debug, Clone)]
pub struct PressOptions {
    /// Where the connections go; on this machine.
    pub target: SocketAddr,
    /// TLS 1.3; plaintext without.
    pub tls: Option<FleetTls>,
    /// The path of uploads.
    pub path: String,
    /// Connections, each with one upload under way.
    pub connections: u32,
    /// Uploads a second of all connections together; as many as the target takes without.
    pub uploads_per_second: Option<f64>,
    /// What uploads are made of.
    pub uploads: Uploads,
    /// The seed of every choice.
    pub seed: u64,
}

/// A running press. Dropping it closes every connection at once.
#[derive(Debug)]
pub struct Press {
    shared: Arc<Shared>,
    pumps: JoinSet<()>,
}

/// What a press has counted so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PressCounts {
    /// Uploads answered 2xx.
    pub uploads: u64,
    /// Records in these.
    pub records: u64,
    /// Uploads answered otherwise.
    pub refused: u64,
    /// Uploads without an answer, and connections that could not be opened.
    pub failed: u64,
    /// Bytes of requests that were answered 2xx, heads included, TLS not.
    pub bytes: u64,
}

#[derive(Debug)]
struct Shared {
    options: PressOptions,
    dialer: Dialer,
    /// A minute of uploads each, ready to be sent.
    lives: Vec<Vec<Vec<u8>>>,
    counts: [AtomicU64; 4],
    next_agent: AtomicU64,
}

/// An agent in the middle of its minute.
#[derive(Debug)]
struct Life {
    agent: u64,
    sent: usize,
}

/// Different minutes; agents share them, under their own names.
const LIVES: u64 = 64;
/// Uploads of an agent.
const UPLOADS_PER_LIFE: u64 = 6;
/// Agents that a connection serves in turn.
const AGENTS_PER_CONNECTION: usize = 32;
const AGENTS_PER_TENANT: u64 = 17;
const UPLOAD_INTERVAL_MS: u64 = 10_000;
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);
const RETRY_PAUSE: Duration = Duration::from_millis(50);

impl Press {
    /// Makes the bodies and starts on the caller's tokio runtime.
    ///
    /// # Errors
    /// The target is not on this machine, or certificates or events cannot be used.
    pub fn start(options: PressOptions) -> Result<Self, FleetError> {
        if !options.target.ip().is_loopback() {
            return Err(FleetError::Remote(options.target));
        }
        let tls = options.tls.as_ref().map(|tls| {
            let name = ServerName::try_from(tls.server_name.clone()).map_err(|error| error.to_string())?;
            Ok((client_config(tls, b"http/1.1")?, name))
        });
        let tls = tls.transpose().map_err(FleetError::Tls)?;
        let events = match &options.uploads.file {
            Some(path) => Events::recorded(path).map_err(FleetError::Events)?,
            None => Events::synthetic(),
        };
        let lives = (0..LIVES).map(|life| make_life(&events, &options, life)).collect::<io::Result<_>>();
        let shared = Arc::new(Shared {
            dialer: Dialer::new(options.target, tls),
            lives: lives.map_err(FleetError::Events)?,
            counts: Default::default(),
            next_agent: AtomicU64::new(0),
            options,
        });
        let mut pumps = JoinSet::new();
        for number in 0..shared.options.connections {
            pumps.spawn(pump(Arc::clone(&shared), number));
        }
        Ok(Self { shared, pumps })
    }

    /// What was counted so far.
    pub fn counts(&self) -> PressCounts {
        let [uploads, refused, failed, bytes] = [0, 1, 2, 3].map(|at| self.shared.counts[at].load(Ordering::Relaxed));
        let records = uploads * u64::from(self.shared.options.uploads.events);
        PressCounts { uploads, records, refused, failed, bytes }
    }

    /// Ends all connections, uploads under way with them.
    pub async fn stop(mut self) -> PressCounts {
        self.pumps.shutdown().await;
        self.counts()
    }
}

/// A minute of one agent's uploads.
fn make_life(events: &Events, options: &PressOptions, life: u64) -> io::Result<Vec<Vec<u8>>> {
    let mut rng = SmallRng::seed_from_u64(options.seed ^ (life << 20));
    let (mut past, began) = (Past::default(), unix_ms());
    let uploads = (0..UPLOADS_PER_LIFE).map(|number| {
        let now_ms = began + number * UPLOAD_INTERVAL_MS;
        let (body, _) = events.upload(&options.uploads, &mut past, life, now_ms, |_, _| {}, &mut rng);
        options.uploads.compression.map_or(Ok(body.clone()), |compression| compression.pack(&body))
    });
    uploads.collect()
}

/// One connection, opened again when it is lost.
async fn pump(shared: Arc<Shared>, number: u32) {
    let mut lives: Vec<Life> = (0..AGENTS_PER_CONNECTION).map(|_| shared.new_life()).collect();
    let interval = shared.options.uploads_per_second.map(|rate| f64::from(shared.options.connections) / rate);
    let offset = f64::from(number) / f64::from(shared.options.connections);
    let (began, mut turn) = (Instant::now(), 0_u64);
    let mut request = Vec::new();
    loop {
        let Ok(mut connection) = shared.dialer.dial().await else {
            shared.count(2, 1);
            sleep(RETRY_PAUSE).await;
            continue;
        };
        loop {
            if let Some(interval) = interval {
                sleep_until(began + Duration::from_secs_f64((turn as f64 + offset) * interval)).await;
            }
            let at = usize::try_from(turn).unwrap_or(0) % lives.len();
            turn += 1;
            shared.write(&mut request, &mut lives[at]);
            if !shared.send(&mut connection, &request).await {
                break;
            }
        }
    }
}

impl Shared {
    fn new_life(&self) -> Life {
        Life { agent: self.next_agent.fetch_add(1, Ordering::Relaxed), sent: 0 }
    }

    fn count(&self, at: usize, more: u64) {
        self.counts[at].fetch_add(more, Ordering::Relaxed);
    }

    /// Writes the agent's next upload, and has a new agent take the place of one whose minute is over.
    fn write(&self, request: &mut Vec<u8>, life: &mut Life) {
        let uploads = &self.lives[usize::try_from(life.agent % LIVES).unwrap_or(0)];
        let body = &uploads[life.sent];
        let mut head = String::with_capacity(256);
        let (agent, tenant) = (life.agent, life.agent / AGENTS_PER_TENANT);
        let path = &self.options.path;
        // Writing to a string cannot fail.
        write!(head, "POST {path} HTTP/1.1\r\nHost: localhost\r\nUser-Agent: fleet/1\r\n").ok();
        write!(head, "x-agent-id: agent-{agent:08}\r\nx-tenant-id: tenant-{tenant:07}\r\n").ok();
        if let Some(compression) = self.options.uploads.compression {
            write!(head, "Content-Encoding: {}\r\n", compression.name()).ok();
        }
        write!(head, "Content-Type: application/json\r\nContent-Length: {}\r\n\r\n", body.len()).ok();
        request.clear();
        request.extend_from_slice(head.as_bytes());
        request.extend_from_slice(body);
        life.sent += 1;
        if life.sent == uploads.len() {
            *life = self.new_life();
        }
    }

    /// Sends one upload; gives whether the connection may be used again.
    async fn send(&self, connection: &mut Connection, request: &[u8]) -> bool {
        match timeout(REQUEST_TIMEOUT, exchange(connection, request)).await {
            Ok(Ok(response)) if matches!(response.status, 200..=299) => {
                self.count(0, 1);
                self.count(3, request.len() as u64);
                response.keep_alive
            }
            Ok(Ok(response)) => {
                self.count(1, 1);
                response.keep_alive
            }
            Ok(Err(_)) | Err(_) => {
                self.count(2, 1);
                false
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    fn options() -> PressOptions {
        let uploads = Uploads { events: 24, repeats: 0.7, with_eid: false, file: None, compression: None };
        PressOptions {
            target: ([127, 0, 0, 1], 1).into(),
            tls: None,
            path: "/".to_owned(),
            connections: 1,
            uploads_per_second: None,
            uploads,
            seed: 1,
        }
    }

    #[test]
    fn seven_in_ten_records_of_a_life_repeat_an_earlier_one() {
        let (events, options) = (Events::synthetic(), options());
        let (mut records, mut sights) = (0, 0);
        for life in 0..LIVES {
            let mut seen = HashSet::new();
            for body in make_life(&events, &options, life).unwrap() {
                for mut event in serde_json::from_slice::<Vec<serde_json::Value>>(&body).unwrap() {
                    ["ts", "pid", "ppid"].into_iter().for_each(|field| event[field] = serde_json::Value::Null);
                    records += 1;
                    sights += u32::from(seen.insert(event.to_string()));
                }
            }
        }
        let repeats = 1.0 - f64::from(sights) / f64::from(records);
        assert!((0.66..0.74).contains(&repeats), "{repeats}");
    }
}
