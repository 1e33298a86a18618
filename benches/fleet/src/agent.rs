//! One agent: a connection, a schedule it keeps whatever the answers do, and the little it remembers.

use std::fmt::Write as _;
use std::io::ErrorKind;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use serde::Deserialize;
use tokio::time::{Instant, sleep_until, timeout};

use crate::acknowledged::Uploader;
use crate::connection::{Connection, Dialer};
use crate::events::Past;
use crate::http::{Response, exchange};
use crate::options::Identity;
use crate::recorder::{Ending, Exchange, UploadResult};
use crate::report::Route;
use crate::schedule::Schedule;
use crate::shared::{Shared, unix_ms};

/// The first pause after a connection was lost, before jitter.
const FIRST_BACKOFF: Duration = Duration::from_millis(250);

#[derive(Debug)]
pub(crate) struct Agent {
    index: u64,
    name: String,
    tenant: String,
    /// The paths of what this agent fetches, by [`Route`].
    paths: [String; 4],
    etags: [Option<Box<str>>; 4],
    held_until: [Option<Instant>; 4],
    dialer: Dialer,
    connection: Option<Connection>,
    lost_connections: u64,
    /// Failures in a row.
    failures: u32,
    /// No connection is tried before.
    dial_at: Option<Instant>,
    past: Past,
    events_sent: u64,
    rng: SmallRng,
    shared: Arc<Shared>,
}

impl Drop for Agent {
    fn drop(&mut self) {
        self.drop_connection();
    }
}

/// A request ready to be sent.
struct Request {
    bytes: Vec<u8>,
    /// Of an upload: its body, not compressed.
    body: Vec<u8>,
    records: u64,
    repeats: u64,
}

/// What the answer to an upload says.
#[derive(Debug, Default, Deserialize)]
struct Receipt {
    accepted: Option<u64>,
    #[serde(default)]
    refused: Vec<Refusal>,
}

#[derive(Debug, Deserialize)]
struct Refusal {
    index: u64,
}

impl Agent {
    pub(crate) fn new(index: u32, shared: Arc<Shared>) -> Self {
        let mut rng = SmallRng::seed_from_u64(shared.options.seed ^ (u64::from(index) << 20));
        let options = &shared.options;
        let number = options.first_agent.saturating_add(index);
        let name = format!("agent-{number:06}");
        let tenant = format!("tenant-{:05}", number / options.agents_per_tenant);
        let key = shared.update_keys.draw(&mut rng);
        let paths = &options.paths;
        let paths = [&paths.update, &paths.config, &paths.tasks, &paths.upload]
            .map(|path| key.fill(path).replace("{agent}", &name).replace("{tenant}", &tenant));
        let address = options.targets[index as usize % options.targets.len()];
        Self {
            index: index.into(),
            name,
            tenant,
            paths,
            etags: Default::default(),
            held_until: [None; 4],
            dialer: shared.dialer.for_agent(address),
            connection: None,
            lost_connections: 0,
            failures: 0,
            dial_at: None,
            past: Past::default(),
            events_sent: 0,
            rng,
            shared,
        }
    }

    /// Opens the connection that the agent has before its schedule starts.
    pub(crate) async fn connect_early(&mut self) {
        // A failure is counted where it happens and met again at the first request.
        self.connect().await.ok();
    }

    /// Keeps the schedule and the connection to the end, or until the fleet stops.
    pub(crate) async fn run(&mut self, schedule: Schedule) {
        let mut stop = self.shared.stop.subscribe();
        for (turn, due) in schedule.turns(self.index).enumerate() {
            let stopped = tokio::select! {
                () = self.idle_until(due) => false,
                _ = stop.wait_for(|stopped| *stopped) => true,
            };
            if stopped {
                return;
            }
            let route = self.shared.routes[self.shared.mix.draw(&mut self.rng)];
            if Instant::now() >= schedule.end() {
                let rest = schedule.turns(self.index).count() - turn;
                self.shared.recorder.lock().unsent(route, rest as u64);
                return;
            }
            self.take_turn(route, due, &schedule).await;
        }
        tokio::select! {
            () = self.idle_until(schedule.end()) => {}
            _ = stop.wait_for(|stopped| *stopped) => {}
        }
    }

    /// Waits, and drops the connection when the other side closes it.
    async fn idle_until(&mut self, due: Instant) {
        if let Some(connection) = &mut self.connection {
            tokio::select! {
                // A turn that is due comes first; otherwise a lagging agent would look at its connection each time.
                biased;
                () = sleep_until(due) => return,
                () = connection.closed() => {}
            }
            self.shared.recorder.lock().connections.closed_idle += 1;
            self.lose_connection();
        }
        sleep_until(due).await;
    }

    async fn take_turn(&mut self, route: Route, due: Instant, schedule: &Schedule) {
        let now = Instant::now();
        let told_to_wait = self.held_until[route as usize].is_some_and(|until| until > now);
        let waits_to_dial = self.connection.is_none() && self.dial_at.is_some_and(|at| at > now);
        if told_to_wait || waits_to_dial {
            self.shared.recorder.lock().held(route, schedule.since_start(now));
            return;
        }
        let request = self.request(route);
        self.shared.recorder.lock().sent(route, request.records, request.repeats);
        let (ending, response) = self.send(&request).await;
        let now = Instant::now();
        let ended_after = schedule.since_start(now);
        let sent_bytes = if ending == Ending::Connect { 0 } else { request.bytes.len() as u64 };
        self.shared.recorder.lock().ended(&Exchange {
            route,
            ending,
            latency: now.saturating_duration_since(due),
            ended_after,
            bytes_up: sent_bytes,
            bytes_down: response.bytes,
        });
        if route == Route::Upload {
            let result = self.settle(&request, ending, &response);
            self.shared.recorder.lock().upload_ended(result, ended_after);
        }
        self.learn(route, &response, now);
    }

    /// Sends a request over the connection, opening one where there is none.
    async fn send(&mut self, request: &Request) -> (Ending, Response) {
        if self.connect().await.is_err() {
            return (Ending::Connect, Response::default());
        }
        let Some(connection) = &mut self.connection else {
            return (Ending::Connect, Response::default());
        };
        let ending = match timeout(self.shared.options.request_timeout, exchange(connection, &request.bytes)).await {
            Ok(Ok(response)) => {
                self.failures = 0;
                if !response.keep_alive {
                    self.drop_connection();
                }
                return (Ending::Answered(response.status), response);
            }
            Ok(Err(error)) if error.kind() == ErrorKind::InvalidData => Ending::Protocol,
            Ok(Err(_)) => Ending::Reset,
            Err(_) => Ending::Timeout,
        };
        self.lose_connection();
        (ending, Response::default())
    }

    async fn connect(&mut self) -> Result<(), ()> {
        if self.connection.is_some() {
            return Ok(());
        }
        let dialled = timeout(self.shared.options.connect_timeout, self.dialer.dial()).await;
        let mut recorder = self.shared.recorder.lock();
        let counts = &mut recorder.connections;
        if let Ok(Ok(connection)) = dialled {
            counts.opened += 1;
            counts.reconnects += u64::from(self.lost_connections > 0);
            match connection.resumed() {
                Some(true) => counts.handshakes_resumed += 1,
                Some(false) => counts.handshakes_full += 1,
                None => {}
            }
            drop(recorder);
            self.shared.connected.fetch_add(1, Ordering::Relaxed);
            self.connection = Some(connection);
            return Ok(());
        }
        counts.failed += 1;
        drop(recorder);
        self.back_off();
        Err(())
    }

    /// Gives up a connection that failed: the next one waits a little.
    fn lose_connection(&mut self) {
        self.drop_connection();
        self.back_off();
    }

    fn drop_connection(&mut self) {
        if self.connection.take().is_some() {
            self.lost_connections += 1;
            self.shared.connected.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// A pause drawn evenly from zero to a bound that doubles with each failure.
    fn back_off(&mut self) {
        let bound = FIRST_BACKOFF.saturating_mul(1 << self.failures.min(16)).min(self.shared.options.max_backoff);
        self.failures = self.failures.saturating_add(1);
        self.dial_at = Some(Instant::now() + bound.mul_f64(self.rng.random_range(0.0..1.0)));
    }

    /// Takes in what an answer says about later requests.
    fn learn(&mut self, route: Route, response: &Response, now: Instant) {
        if response.status == 200 && route != Route::Upload {
            self.etags[route as usize].clone_from(&response.etag);
        }
        if response.status >= 400 && self.shared.options.obey_retry_after {
            let pause = response.retry_after.map(Duration::from_secs);
            self.held_until[route as usize] = pause.and_then(|pause| now.checked_add(pause));
        }
    }

    /// What became of an upload's records.
    fn settle(&self, request: &Request, ending: Ending, response: &Response) -> UploadResult {
        let uploader = Uploader { tenant: &self.tenant, agent: &self.name };
        let body = &request.body;
        let (mut result, mut forgotten) = (UploadResult::default(), 0);
        match ending {
            Ending::Answered(200..=299) => {
                let receipt: Receipt = serde_json::from_slice(&response.body).unwrap_or_default();
                result.acknowledged = receipt.accepted.unwrap_or(request.records).min(request.records);
                result.refused = request.records - result.acknowledged;
                if let Some(memory) = &self.shared.memory {
                    let refused: Vec<u64> = receipt.refused.iter().map(|refusal| refusal.index).collect();
                    forgotten = memory.lock().acknowledge(uploader, body, &refused);
                }
            }
            Ending::Answered(_) | Ending::Connect => result.refused = request.records,
            Ending::Reset | Ending::Timeout | Ending::Protocol => {
                result.in_doubt = request.records;
                if let Some(memory) = &self.shared.memory {
                    forgotten = memory.lock().doubt(uploader, body);
                }
            }
        }
        if forgotten > 0 {
            self.shared.recorder.lock().forgotten(forgotten);
        }
        result
    }

    fn request(&mut self, route: Route) -> Request {
        let mut head = String::with_capacity(256);
        let method = if route == Route::Upload { "POST" } else { "GET" };
        let host = &self.shared.options.host;
        // Writing to a string cannot fail.
        write!(head, "{method} {} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: fleet/1\r\n", self.paths[route as usize])
            .ok();
        if let Identity::Headers { agent, tenant } = &self.shared.options.identity {
            write!(head, "{agent}: {}\r\n{tenant}: {}\r\n", self.name, self.tenant).ok();
        }
        if route != Route::Upload {
            if let Some(etag) = &self.etags[route as usize] {
                write!(head, "If-None-Match: {etag}\r\n").ok();
            }
            head.push_str("\r\n");
            return Request { bytes: head.into_bytes(), body: Vec::new(), records: 0, repeats: 0 };
        }
        let (body, repeats) = self.upload();
        let mut packed = None;
        if let Some(compression) = self.shared.options.uploads.compression {
            // Compressing in memory does not fail; an upload that did would go as it is.
            packed = compression.pack(&body).ok();
            if packed.is_some() {
                write!(head, "Content-Encoding: {}\r\n", compression.name()).ok();
            }
        }
        let sent = packed.as_ref().unwrap_or(&body);
        write!(head, "Content-Type: application/json\r\nContent-Length: {}\r\n\r\n", sent.len()).ok();
        let mut bytes = head.into_bytes();
        bytes.extend_from_slice(sent);
        Request { bytes, body, records: self.shared.options.uploads.events.into(), repeats }
    }

    /// An upload's body and how many of its events are repeats.
    fn upload(&mut self) -> (Vec<u8>, u64) {
        let (shared, index, first) = (&self.shared, self.index, self.events_sent);
        let uploads = &shared.options.uploads;
        self.events_sent += u64::from(uploads.events);
        let name = |eid: &mut String, at: u32| {
            if uploads.with_eid {
                write!(eid, "{}-{index:x}-{:x}", shared.run, first + u64::from(at)).ok();
            }
        };
        shared.events.upload(uploads, &mut self.past, index, unix_ms(), name, &mut self.rng)
    }
}
