//! Agents that are always on time: update checks over one blocking connection on a thread of its own.
//!
//! The fleet's agents share one thread with the core. Their timers have a grain of a millisecond, and an answer lies in its socket
//! until its agent's turn comes, so that their latencies are those of a crowd behind one processor. This agent's clock has
//! no grain, and its thread goes before the fleet's where the system allows it (root may): what it waits for is the node.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use rustls::{ClientConnection, StreamOwned};
use rustls_pki_types::ServerName;
use weir_fleet::{FleetOptions, FleetTls, Identity, client_config};

/// Between two requests.
const INTERVAL: Duration = Duration::from_millis(3);
/// Agents whose names it bears in turn, so that none asks more often than a node lets it.
const AGENTS: usize = 1_000;
/// For one answer.
const PATIENCE: Duration = Duration::from_secs(10);
/// Steps of priority that the probe asks for.
const AHEAD: i32 = -20;

/// A probe under way. It ends when it is asked for what it found, or dropped.
pub(super) struct Probe {
    ends: Arc<AtomicBool>,
    thread: Option<JoinHandle<io::Result<Probed>>>,
}

/// What it found.
pub(super) struct Probed {
    /// Microseconds from the first byte of each request to the last of its answer.
    pub(super) latencies: Histogram<u64>,
    /// From the beginning to the end of the longest.
    pub(super) longest_at: Duration,
}

impl Probe {
    /// Connects to the fleet's first target as agents of its own, and asks for one update again and again.
    ///
    /// # Errors
    /// The fleet has no TLS or its certificates cannot be used.
    pub(super) fn start(fleet: &FleetOptions) -> io::Result<Self> {
        let tls = fleet.tls.as_ref().ok_or_else(|| io::Error::other("the probe speaks TLS"))?;
        let (address, tls, requests) = (fleet.targets[0], tls.clone(), requests(fleet));
        let ends = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&ends);
        let thread = thread::Builder::new().name("probe".into()).spawn(move || ask(address, &tls, &requests, &told))?;
        Ok(Self { ends, thread: Some(thread) })
    }

    /// Ends it.
    ///
    /// # Errors
    /// The connection failed, or an answer was not a 200.
    pub(super) fn finish(mut self) -> io::Result<Probed> {
        self.ends.store(true, Ordering::Relaxed);
        let thread = self.thread.take().expect("taken only here, and this ends the probe");
        thread.join().map_err(|_| io::Error::other("the probe has panicked"))?
    }
}

impl Drop for Probe {
    fn drop(&mut self) {
        self.ends.store(true, Ordering::Relaxed);
    }
}

fn requests(fleet: &FleetOptions) -> Vec<Vec<u8>> {
    let path = &fleet.paths.update;
    let path = path.replace("{channel}", "stable").replace("{platform}", "windows-11").replace("{arch}", "x64");
    let request = |number| {
        let names = match &fleet.identity {
            Identity::Headers { agent, tenant } => format!("{agent}: probe-{number}\r\n{tenant}: tenant-00000\r\n"),
            Identity::Silent => String::new(),
        };
        format!("GET {path} HTTP/1.1\r\nhost: {}\r\n{names}\r\n", fleet.host).into_bytes()
    };
    (0..AGENTS).map(request).collect()
}

fn ask(address: SocketAddr, tls: &FleetTls, requests: &[Vec<u8>], ends: &AtomicBool) -> io::Result<Probed> {
    // Where it is not given it, the probe is late at times, and says so of the node.
    rustix::process::nice(AHEAD).ok();
    let name = ServerName::try_from(tls.server_name.clone()).map_err(io::Error::other)?;
    let config = client_config(tls, b"http/1.1").map_err(io::Error::other)?;
    let tcp = TcpStream::connect(address)?;
    tcp.set_nodelay(true)?;
    tcp.set_read_timeout(Some(PATIENCE))?;
    let mut stream = StreamOwned::new(ClientConnection::new(config, name).map_err(io::Error::other)?, tcp);
    // From a microsecond to a minute, in three digits: 100 KiB.
    let mut latencies = Histogram::new_with_bounds(1, 60_000_000, 3).map_err(io::Error::other)?;
    let mut answer = Vec::new();
    // The first answer comes with the handshake, and maybe from the core.
    exchange(&mut stream, &requests[0], &mut answer)?;
    let start = Instant::now();
    let (mut due, mut longest_at) = (start, Duration::ZERO);
    for request in requests.iter().cycle() {
        if ends.load(Ordering::Relaxed) {
            break;
        }
        due += INTERVAL;
        // Late only where the last answer was: then it counts from when it was due.
        let began = match due.checked_duration_since(Instant::now()) {
            Some(rest) => {
                thread::sleep(rest);
                Instant::now()
            }
            None => due,
        };
        exchange(&mut stream, request, &mut answer)?;
        let micros = u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX);
        if micros >= latencies.max() {
            longest_at = start.elapsed();
        }
        latencies.saturating_record(micros.max(1));
    }
    Ok(Probed { latencies, longest_at })
}

/// Sends the request and reads its answer, which states its length.
fn exchange<S: Read + Write>(stream: &mut S, request: &[u8], answer: &mut Vec<u8>) -> io::Result<()> {
    stream.write_all(request)?;
    stream.flush()?;
    answer.clear();
    let mut buffer = [0; 4096];
    loop {
        let read = stream.read(&mut buffer)?;
        if read == 0 {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        answer.extend_from_slice(&buffer[..read]);
        if is_whole(answer)? {
            return Ok(());
        }
    }
}

fn is_whole(answer: &[u8]) -> io::Result<bool> {
    let Some(end) = answer.windows(4).position(|bytes| bytes == b"\r\n\r\n") else { return Ok(false) };
    let head = String::from_utf8_lossy(&answer[..end]).to_ascii_lowercase();
    if crate::wire::status(&head) != 200 {
        return Err(io::Error::other(format!("the probe was answered {}", head.lines().next().unwrap_or_default())));
    }
    let length = crate::wire::field(&head, "content-length").and_then(|length| length.parse::<usize>().ok());
    let length = length.ok_or_else(|| io::Error::other("the probe was given an answer without a length"))?;
    Ok(answer.len() >= end + 4 + length)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_whole_with_its_last_byte_and_wrong_with_another_status() {
        let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc";
        assert!((0..answer.len()).all(|cut| !is_whole(&answer[..cut]).unwrap()));
        assert!(is_whole(answer).unwrap());
        assert!(is_whole(b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n").is_err());
    }
}
