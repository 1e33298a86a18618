//! One package for a thousand agents: the product as a process between real sockets. The core must send it once, the node must not
//! hold it in memory, every byte must be right, and all agents together must be given no more than the route's bandwidth.
//!
//! One agent in fifty reads the whole, the others a part of it somewhere: a thousand wholes would be a hundred gigabytes. All of them
//! ask while the package is still coming from the core, most of them for what has not come yet.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::runtime::Runtime;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};
use weir_core_sim::{CoreOptions, CoreSim, package_bytes};

use super::Failure;
use crate::node::Node;
use crate::place::Place;
use crate::text::fill;
use crate::wire::{Connection, status};

/// What agents were given of a package.
#[derive(Debug, Serialize)]
pub(super) struct Download {
    pub(super) agents: u32,
    pub(super) package_bytes: u64,
    /// Requests for it at the core.
    pub(super) transfers: u64,
    /// Bytes that agents were given, and how many of these agents were given something else than the package.
    pub(super) given: u64,
    pub(super) wrong: u32,
    pub(super) seconds: f64,
    /// The bound on bytes a second, and those that were given.
    pub(super) bound: f64,
    pub(super) rate: f64,
    /// The node's greatest memory before, with all agents connected, and after.
    pub(super) resident: [u64; 2],
}

/// Has so many agents ask for a package of so many MiB.
pub(super) fn measure(agents: u32, mib: u32) -> Result<Download, Failure> {
    Runtime::new()?.block_on(run(agents, u64::from(mib) << 20))
}

/// Every so many agents one reads the whole.
const WHOLE: u32 = 50;
const PART_BYTES: u64 = 4 << 20;
/// What all agents together are given in a second, at most.
const BOUND: u64 = 256 << 20;
/// An agent that waits longer for a piece has waited in vain.
const PATIENCE: Duration = Duration::from_secs(60);

async fn run(agents: u32, length: u64) -> Result<Download, Failure> {
    let place = Place::new(None)?;
    let core = CoreSim::start(CoreOptions::default()).await?;
    let values = [("core", core.address().to_string()), ("bound", BOUND.to_string())];
    let mut node = Node::start(&place.write_config(&fill(include_str!("packages.toml"), &values))?).await?;
    let address = node.agents()?;
    let whole = Arc::new(package_bytes(0, usize::try_from(length)?));
    let connections = connected(address, agents).await?;
    let before = node.usage().ok_or("the system does not say what the node uses")?.peak_rss_bytes;
    let started = Instant::now();
    let mut reading = JoinSet::new();
    for (number, connection) in (0..agents).zip(connections) {
        let part = part_of(number, agents, length);
        reading.spawn(read(connection, length, part, Arc::clone(&whole)));
    }
    let (mut given, mut wrong) = (0, 0);
    while let Some(read) = reading.join_next().await {
        match read?? {
            Some(bytes) => given += bytes,
            None => wrong += 1,
        }
    }
    let seconds = started.elapsed().as_secs_f64();
    let after = node.usage().ok_or("the system does not say what the node uses")?.peak_rss_bytes;
    // The first request of each agent, for another package, is not counted.
    let transfers = core.snapshot().requests - 1;
    node.kill().await;
    place.leave()?;
    let rate = given as f64 / seconds;
    let resident = [before, after];
    Ok(Download {
        agents,
        package_bytes: length,
        transfers,
        given,
        wrong,
        seconds,
        bound: BOUND as f64,
        rate,
        resident,
    })
}

/// Connections over which a small package has been read: what they take by themselves is no package's.
async fn connected(node: SocketAddr, agents: u32) -> Result<Vec<TcpStream>, Failure> {
    let mut connections = Vec::new();
    for _ in 0..agents {
        let mut connection = Connection::open(node).await?;
        let (head, _) = connection.get("/v1/packages/small?bytes=10", "").await?;
        if status(&head) != 200 {
            return Err(format!("the node answers {head}").into());
        }
        connections.push(connection.into_stream());
    }
    Ok(connections)
}

/// Where an agent's part begins; `None` for those that read the whole.
fn part_of(number: u32, agents: u32, length: u64) -> Option<u64> {
    let places = length.saturating_sub(PART_BYTES);
    (!number.is_multiple_of(WHOLE)).then(|| places * u64::from(number) / u64::from(agents.max(1)))
}

/// Reads what it has asked for and compares it piece by piece; `None` when it was something else.
async fn read(
    mut stream: TcpStream,
    length: u64,
    part: Option<u64>,
    whole: Arc<Vec<u8>>,
) -> Result<Option<u64>, Failure> {
    let range = part.map(|from| (from, (from + PART_BYTES).min(length)));
    let field = range.map(|(from, end)| format!("range: bytes={from}-{}\r\n", end - 1)).unwrap_or_default();
    // The core takes at least two milliseconds for each of its pieces.
    let target = format!("/v1/packages/release?bytes={length}&delay_ms=2");
    stream.write_all(format!("GET {target} HTTP/1.1\r\nhost: edge\r\n{field}\r\n").as_bytes()).await?;
    let (from, end) = range.unwrap_or((0, length));
    let expected = &whole[usize::try_from(from)?..usize::try_from(end)?];
    let mut buffer = Vec::with_capacity(READ_BYTES);
    let (mut head, mut at) = (true, 0);
    while at < expected.len() {
        if timeout(PATIENCE, stream.read_buf(&mut buffer)).await?? == 0 {
            return Ok(None);
        }
        if head {
            let Some(end) = buffer.windows(4).position(|bytes| bytes == b"\r\n\r\n") else { continue };
            let text = String::from_utf8_lossy(&buffer[..end]).into_owned();
            if status(&text) != if range.is_some() { 206 } else { 200 } {
                return Ok(None);
            }
            buffer.drain(..end + 4);
            head = false;
        }
        if !expected[at..].starts_with(&buffer) {
            return Ok(None);
        }
        at += buffer.len();
        buffer.clear();
    }
    Ok(Some(at as u64))
}

const READ_BYTES: usize = 64 * 1024;
