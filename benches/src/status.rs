//! What the node says of itself on its admin listener, as far as the programs look at it.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use serde::Deserialize;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// The parts of `/status` that are read.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct NodeStatus {
    pub(crate) requests: BTreeMap<String, u64>,
    pub(crate) cache: CacheStatus,
    pub(crate) streams: BTreeMap<String, StreamStatus>,
}

#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct CacheStatus {
    pub(crate) hit_ratio: Option<f64>,
}

#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct StreamStatus {
    pub(crate) accepted: u64,
    pub(crate) forwarded: u64,
    pub(crate) merged: u64,
    pub(crate) discarded: u64,
    pub(crate) held: u64,
    pub(crate) difference: i64,
    pub(crate) journal_bytes: u64,
    pub(crate) outbox_batches: u64,
    pub(crate) outbox_bytes: u64,
}

impl NodeStatus {
    /// The stream of process events.
    pub(crate) fn process(&self) -> StreamStatus {
        self.streams.get("process").copied().unwrap_or_default()
    }
}

/// Asks for `/status`.
pub(crate) async fn status(admin: SocketAddr) -> io::Result<NodeStatus> {
    let body = get(admin, "/status").await?;
    serde_json::from_str(&body).map_err(io::Error::other)
}

/// Requests that a core answered, by what they were for (a route's or a stream's name).
pub(crate) async fn answered_by_core(admin: SocketAddr) -> io::Result<BTreeMap<String, u64>> {
    Ok(answered(&get(admin, "/metrics").await?))
}

/// Retries that a node's gates have granted.
pub(crate) async fn retries(admin: SocketAddr) -> io::Result<u64> {
    let metrics = get(admin, "/metrics").await?;
    let lines = metrics.lines().filter(|line| line.starts_with("weir_core_retries_total{"));
    let granted = lines.filter(|line| line.contains("result=\"granted\""));
    Ok(granted.filter_map(|line| line.rsplit_once(' ')?.1.parse::<u64>().ok()).sum())
}

fn answered(metrics: &str) -> BTreeMap<String, u64> {
    let mut sums = BTreeMap::new();
    for line in metrics.lines().filter(|line| line.starts_with("weir_core_requests_total{")) {
        let Some((series, value)) = line.rsplit_once(' ') else { continue };
        let label = |name: &str| Some(series.split_once(&format!("{name}=\""))?.1.split_once('"')?.0.to_owned());
        let (Some(route), Some(result), Ok(count)) = (label("label"), label("result"), value.parse::<f64>()) else {
            continue;
        };
        // Results that are statuses are answers; the others are connections that failed and the like.
        if result.starts_with(|first: char| first.is_ascii_digit()) {
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a counter's value")]
            let count = count as u64;
            *sums.entry(route).or_default() += count;
        }
    }
    sums
}

/// Has the node read its configuration again.
pub(crate) async fn reload(admin: SocketAddr) -> io::Result<()> {
    ask(admin, "POST", "/reload", "").await.map(drop)
}

/// Has the node take answers out of use: what `POST /purge` takes.
pub(crate) async fn purge(admin: SocketAddr, order: &str) -> io::Result<()> {
    ask(admin, "POST", "/purge", order).await.map(drop)
}

pub(crate) async fn get(admin: SocketAddr, path: &str) -> io::Result<String> {
    ask(admin, "GET", path, "").await
}

/// A page of the admin listener.
async fn ask(admin: SocketAddr, method: &str, path: &str, body: &str) -> io::Result<String> {
    tokio::time::timeout(PATIENCE, exchange(admin, method, path, body))
        .await
        .map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?
}

/// The node runs on the same busy machine.
const PATIENCE: Duration = Duration::from_secs(5);
const MAX_PAGE_BYTES: u64 = 4 << 20;

async fn exchange(admin: SocketAddr, method: &str, path: &str, body: &str) -> io::Result<String> {
    let mut stream = TcpStream::connect(admin).await?;
    let length = body.len();
    let head =
        format!("{method} {path} HTTP/1.1\r\nHost: {admin}\r\nContent-Length: {length}\r\nConnection: close\r\n");
    let request = format!("{head}Content-Type: application/json\r\n\r\n{body}");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    stream.take(MAX_PAGE_BYTES).read_to_string(&mut answer).await?;
    match answer.split_once("\r\n\r\n") {
        Some((head, body)) if head.starts_with("HTTP/1.1 200") => Ok(body.to_owned()),
        _ => Err(io::Error::other(format!("{path}: {}", answer.lines().next().unwrap_or("no answer")))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_that_reached_no_core_are_not_counted_as_answered() {
        let metrics = "weir_core_requests_total{core=\"core\",label=\"tasks\",result=\"2xx\"} 7\n\
                       weir_core_requests_total{core=\"core\",label=\"tasks\",result=\"5xx\"} 1\n\
                       weir_core_requests_total{core=\"core\",label=\"tasks\",result=\"unreachable\"} 9\n\
                       weir_core_requests_total{core=\"core\",label=\"config\",result=\"2xx\"} 2\n";
        let answered = answered(metrics);
        assert_eq!((answered["tasks"], answered["config"]), (8, 2));
    }
}
