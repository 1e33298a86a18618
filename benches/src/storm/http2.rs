//! Agents on HTTP/2 over TLS, as few words of it as the storms need: a connection that is opened again when it is lost, and its handshakes
//! counted.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request};
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http2::{SendRequest, handshake};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout_at};
use tokio_rustls::TlsConnector;
use weir_fleet::{FleetTls, client_config};

/// A node that is reached over HTTP/2.
#[derive(Clone)]
pub(super) struct Http2 {
    target: SocketAddr,
    tls: Arc<ClientConfig>,
    name: ServerName<'static>,
}

/// One agent's connection.
pub(super) struct Line {
    node: Http2,
    agent: String,
    sender: Option<SendRequest<Full<Bytes>>>,
    /// Handshakes so far.
    pub(super) handshakes: u64,
}

/// Agents that upload, each on a connection of its own.
pub(super) struct Uploaders {
    pub(super) agents: u32,
    /// Of all of them together.
    pub(super) uploads_per_second: f64,
    pub(super) end: Instant,
}

/// What came of their uploads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Uploaded {
    pub(super) good: u64,
    pub(super) refused: u64,
    pub(super) failed: u64,
    /// Handshakes after each agent's first.
    pub(super) again: u64,
}

const MAX_ANSWER_BYTES: usize = 1 << 20;

impl Http2 {
    pub(super) fn new(target: SocketAddr, tls: &FleetTls) -> io::Result<Self> {
        let config = client_config(tls, b"h2").map_err(io::Error::other)?;
        let name = ServerName::try_from(tls.server_name.clone()).map_err(io::Error::other)?;
        Ok(Self { target, tls: config, name })
    }

    /// A connection for an agent, opened when it is needed.
    pub(super) fn line(&self, agent: &str) -> Line {
        Line { node: self.clone(), agent: agent.to_owned(), sender: None, handshakes: 0 }
    }

    async fn connect(&self) -> io::Result<SendRequest<Full<Bytes>>> {
        let stream = TcpStream::connect(self.target).await?;
        stream.set_nodelay(true)?;
        let stream = TlsConnector::from(Arc::clone(&self.tls)).connect(self.name.clone(), stream).await?;
        let (sender, connection) =
            handshake(TokioExecutor::new(), TokioIo::new(stream)).await.map_err(io::Error::other)?;
        // Ends with the sender, or says by a closed one why it did not.
        tokio::spawn(async { connection.await.ok() });
        Ok(sender)
    }

    /// Has agents upload until the end, whatever they are told.
    pub(super) async fn upload(&self, uploaders: Uploaders) -> Uploaded {
        let Uploaders { agents, uploads_per_second, end } = uploaders;
        let interval = Duration::from_secs_f64(f64::from(agents) / uploads_per_second);
        let began = Instant::now();
        let agents = (0..agents).map(|number| {
            let line = self.line(&format!("two-{number:05}"));
            keep_uploading(line, began + interval.mul_f64(f64::from(number) / f64::from(agents)), interval, end)
        });
        let mut agents: JoinSet<Uploaded> = agents.collect();
        let mut all = Uploaded::default();
        while let Some(uploaded) = agents.join_next().await {
            let Uploaded { good, refused, failed, again } = uploaded.unwrap_or_default();
            all = Uploaded {
                good: all.good + good,
                refused: all.refused + refused,
                failed: all.failed + failed,
                again: all.again + again,
            };
        }
        all
    }
}

async fn keep_uploading(mut line: Line, mut due: Instant, interval: Duration, end: Instant) -> Uploaded {
    let events: Vec<_> =
        (0..24).map(|number| serde_json::json!({"image_path": format!("/bin/{number}"), "pid": number})).collect();
    let body = Bytes::from(serde_json::json!(events).to_string());
    let mut uploaded = Uploaded::default();
    while due < end {
        sleep_until(due).await;
        match timeout_at(end, line.ask(Method::POST, "/v1/events/process", body.clone())).await {
            Ok(Ok((200..=299, _))) => uploaded.good += 1,
            Ok(Ok(_)) => uploaded.refused += 1,
            Ok(Err(_)) => uploaded.failed += 1,
            Err(_) => break,
        }
        due = (due + interval).max(Instant::now());
    }
    uploaded.again = line.handshakes.saturating_sub(1);
    uploaded
}

impl Line {
    /// One request; gives the status and the body of its answer.
    pub(super) async fn ask(&mut self, method: Method, path: &str, body: Bytes) -> io::Result<(u16, Vec<u8>)> {
        let sender = match self.sender.take().filter(|sender| !sender.is_closed()) {
            Some(sender) => sender,
            None => {
                self.handshakes += 1;
                self.node.connect().await?
            }
        };
        let sender = self.sender.insert(sender);
        let request = Request::builder()
            .method(method)
            .uri(format!("https://localhost{path}"))
            .header("x-agent-id", &self.agent)
            .header("x-tenant-id", "tenant-two")
            .header("content-type", "application/json")
            .body(Full::new(body))
            .map_err(io::Error::other)?;
        sender.ready().await.map_err(io::Error::other)?;
        let answer = sender.send_request(request).await.map_err(io::Error::other)?;
        let status = answer.status().as_u16();
        let body = Limited::new(answer.into_body(), MAX_ANSWER_BYTES).collect().await.map_err(io::Error::other)?;
        Ok((status, body.to_bytes().to_vec()))
    }
}
