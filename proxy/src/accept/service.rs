//! The accept loop of every listener, as one pingora service.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use pingora::apps::HttpServerApp;
use pingora::protocols::TcpKeepalive;
use pingora::protocols::l4::ext::set_tcp_keepalive;
use pingora::server::{ListenFds, ShutdownWatch};
use pingora::services::Service;
use rustls::HandshakeKind;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use weir_config::ProxyProtocol;
use weir_logic::CertificateFields;

use super::connection::Connection;
use super::drain::OpenConnection;
use super::host::Host;
use super::preamble::{self, PreambleError};
use super::tls::{Certificates, Tls};
use super::wire::{Transport, Wire};
use super::{Drain, Listener, Shortcut, http1, http2, proof};
use crate::clock::Clock;
use crate::identify::certificate_fields;
use crate::metrics::Metrics;
use crate::snapshot::SharedSnapshot;
use crate::task;

/// Serves all listeners. Its work ends when the drain has begun, or pingora stops the server, and no connection is
/// open.
pub struct Acceptor<A> {
    listeners: Vec<Listener>,
    app: Arc<A>,
    shortcut: Arc<dyn Shortcut>,
    snapshot: SharedSnapshot,
    drain: Arc<Drain>,
    metrics: Metrics,
    clock: Clock,
}

impl<A> Acceptor<A> {
    /// An acceptor that hands requests to `app`, plain ones of HTTP/1.1 to `shortcut` first.
    pub fn new(
        listeners: Vec<Listener>,
        app: Arc<A>,
        shortcut: Arc<dyn Shortcut>,
        snapshot: SharedSnapshot,
        drain: Arc<Drain>,
        metrics: Metrics,
        clock: Clock,
    ) -> Self {
        Self { listeners, app, shortcut, snapshot, drain, metrics, clock }
    }

    /// The certificates, to be reloaded while the acceptor runs.
    pub fn certificates(&self) -> Certificates {
        Certificates(self.listeners.iter().filter_map(|listener| listener.tls.clone()).collect())
    }
}

#[async_trait]
impl<A> Service for Acceptor<A>
where
    A: HttpServerApp + Send + Sync + 'static,
{
    async fn start_service(&mut self, _fds: Option<ListenFds>, shutdown: ShutdownWatch, _listeners_per_fd: usize) {
        self.serve(shutdown).await;
    }

    fn name(&self) -> &'static str {
        "weir-accept"
    }
}

impl<A> Acceptor<A>
where
    A: HttpServerApp + Send + Sync + 'static,
{
    /// Accepts and serves until the end. Tasks are spawned on the current runtime, which must share its work over all
    /// threads.
    pub async fn serve(&mut self, shutdown: ShutdownWatch) {
        let host = Arc::new(Host {
            app: Arc::clone(&self.app),
            shortcut: Arc::clone(&self.shortcut),
            snapshot: Arc::clone(&self.snapshot),
            drain: Arc::clone(&self.drain),
            metrics: self.metrics.clone(),
            clock: self.clock,
            shutdown: shutdown.clone(),
            next: AtomicU64::new(0),
        });
        let loops: Vec<_> = self
            .listeners
            .drain(..)
            .map(|listener| task::spawn("accept", accept(listener, Arc::clone(&host), shutdown.clone())))
            .collect();
        for accepting in loops {
            // A loop that panicked has been logged by its task.
            drop(accepting.await);
        }
        if self.drain.has_begun() {
            self.drain.finished().await;
        }
    }
}

/// One listener while it accepts.
struct Site<A> {
    host: Arc<Host<A>>,
    listener: Arc<weir_config::Listener>,
    tls: Option<Arc<Tls>>,
    open: Arc<Semaphore>,
}

async fn accept<A>(listener: Listener, host: Arc<Host<A>>, mut shutdown: ShutdownWatch)
where
    A: HttpServerApp + Send + Sync + 'static,
{
    let Listener { config, socket, tls, .. } = listener;
    let socket = match socket.set_nonblocking(true).and_then(|()| TcpListener::from_std(socket)) {
        Ok(socket) => socket,
        Err(error) => return tracing::error!(listener = config.name, %error, "the listener cannot be served"),
    };
    let handshakes = Arc::new(Semaphore::new(tls.as_ref().map_or(1, |tls| tls.settings().max_handshakes)));
    let open = Arc::new(Semaphore::new(config.max_connections));
    let site = Arc::new(Site { host, listener: config, tls, open });
    let mut trouble = Trouble::default();
    loop {
        // Taken before the connection is: whoever finds no room waits in the kernel's queue.
        let accepted = tokio::select! {
            biased;
            () = site.host.drain.begun() => break,
            _ = shutdown.wait_for(|stop| *stop) => break,
            accepted = next(&site, &socket, &handshakes) => accepted,
        };
        match accepted {
            Ok((tcp, peer, turn)) => {
                trouble.over();
                start(&site, tcp, peer, turn);
            }
            Err(error) => trouble.wait(&site.listener.name, &error).await,
        }
    }
}

type Accepted = (TcpStream, SocketAddr, Option<OwnedSemaphorePermit>);

async fn next<A>(site: &Site<A>, socket: &TcpListener, handshakes: &Arc<Semaphore>) -> io::Result<Accepted> {
    let turn = match site.tls {
        Some(_) => Arc::clone(handshakes).acquire_owned().await.ok(),
        None => None,
    };
    let (tcp, peer) = socket.accept().await?;
    Ok((tcp, peer, turn))
}

/// What to do when the kernel gives no connection: most often there is no file left, and asking again at once would
/// spin.
#[derive(Default)]
struct Trouble {
    wait: Duration,
}

impl Trouble {
    const MAX: Duration = Duration::from_secs(1);

    fn over(&mut self) {
        self.wait = Duration::ZERO;
    }

    async fn wait(&mut self, listener: &str, error: &io::Error) {
        // The agent left while it waited: nothing is wrong here.
        if error.kind() == io::ErrorKind::ConnectionAborted {
            return;
        }
        if self.wait.is_zero() {
            tracing::warn!(listener, %error, "no connection can be accepted");
        }
        self.wait = (self.wait * 2).clamp(Duration::from_millis(10), Self::MAX);
        tokio::time::sleep(self.wait).await;
    }
}

fn start<A>(site: &Arc<Site<A>>, tcp: TcpStream, peer: SocketAddr, turn: Option<OwnedSemaphorePermit>)
where
    A: HttpServerApp + Send + Sync + 'static,
{
    let name = site.listener.name.as_str();
    let metrics = &site.host.metrics;
    metrics.connections_accepted.with_label_values(&[name]).inc();
    let Ok(place) = Arc::clone(&site.open).try_acquire_owned() else {
        return site.host.turn_away(name, "limit");
    };
    let gauge = metrics.connections.with_label_values(&[name]);
    gauge.inc();
    let held = Held { gauge, _place: place, _open: site.host.drain.enter() };
    let site = Arc::clone(site);
    task::spawn("connection", async move {
        let _held = held;
        // Boxed, because it is several times the size of what the connection needs later.
        let established = Box::pin(establish(&site, tcp, peer)).await;
        drop(turn);
        match established {
            Ok((transport, number, certificate, peer)) => serve(&site, transport, number, certificate, peer).await,
            Err(cause) => site.host.turn_away(&site.listener.name, cause),
        }
    });
}

/// What a connection takes from the listener's bounds.
struct Held {
    gauge: prometheus::IntGauge,
    _place: OwnedSemaphorePermit,
    _open: OpenConnection,
}

impl Drop for Held {
    fn drop(&mut self) {
        self.gauge.dec();
    }
}

type Established = (Transport, u64, Option<CertificateFields>, SocketAddr);

/// Reads the PROXY header and shakes hands, where the listener asks for it. An error is the cause in metrics.
async fn establish<A>(site: &Site<A>, mut tcp: TcpStream, peer: SocketAddr) -> Result<Established, &'static str> {
    let number = site.host.next.fetch_add(1, Ordering::Relaxed);
    tune(&tcp);
    let limit = site.tls.as_ref().map_or(site.listener.header_timeout, |tls| tls.settings().handshake_timeout);
    let opening = async {
        let peer = agent_address(site, &mut tcp, peer).await?;
        match &site.tls {
            Some(tls) => {
                let (transport, certificate) = shake_hands(site, tls, tcp).await?;
                Ok((transport, number, certificate, peer))
            }
            None => Ok((Transport::Plain(tcp), number, None, peer)),
        }
    };
    timeout(limit, opening).await.unwrap_or_else(|_| {
        if site.tls.is_some() {
            site.host.metrics.handshakes.with_label_values(&["timeout"]).inc();
        }
        Err("timeout")
    })
}

/// Answers are written whole, so waiting to fill packets only delays them; a peer that vanished is noticed in about two
/// minutes.
fn tune(tcp: &TcpStream) {
    let keepalive = TcpKeepalive {
        idle: Duration::from_secs(60),
        interval: Duration::from_secs(15),
        count: 4,
        user_timeout: Duration::ZERO,
    };
    if let Err(error) = tcp.set_nodelay(true) {
        tracing::debug!(%error, "the connection was gone before it was served");
    }
    if let Err(error) = set_tcp_keepalive(tcp, &keepalive) {
        tracing::debug!(%error, "the connection was gone before it was served");
    }
}

async fn agent_address<A>(site: &Site<A>, tcp: &mut TcpStream, peer: SocketAddr) -> Result<SocketAddr, &'static str> {
    let source = SocketAddr::new(peer.ip().to_canonical(), peer.port());
    if site.listener.proxy_protocol == ProxyProtocol::Off {
        return Ok(source);
    }
    if !site.listener.proxy_sources.iter().any(|network| network.contains(&source.ip())) {
        return Err("proxy_source");
    }
    match preamble::read(tcp).await {
        Ok(agent) => Ok(agent.unwrap_or(source)),
        Err(PreambleError::Silent) => Err("silent"),
        Err(PreambleError::Broken | PreambleError::Bad) => Err("proxy_header"),
    }
}

async fn shake_hands<A>(
    site: &Site<A>,
    tls: &Tls,
    tcp: TcpStream,
) -> Result<(Transport, Option<CertificateFields>), &'static str> {
    let kind = |kind: &str| site.host.metrics.handshakes.with_label_values(&[kind]).inc();
    let accepting = TlsAcceptor::from(tls.config()).accept(tcp);
    let stream = proof::scope(site.host.clock.now(), accepting).await.map_err(|error| {
        tracing::debug!(%error, "a handshake failed");
        kind("failed");
        "handshake"
    })?;
    let session = stream.get_ref().1;
    kind(if session.handshake_kind() == Some(HandshakeKind::Resumed) { "resumed" } else { "full" });
    let leaf = session.peer_certificates().and_then(|chain| chain.first());
    let certificate = leaf.map(|leaf| certificate_fields(leaf));
    Ok((Transport::Tls(Box::new(stream)), certificate))
}

async fn serve<A>(
    site: &Site<A>,
    transport: Transport,
    number: u64,
    certificate: Option<CertificateFields>,
    peer: SocketAddr,
) where
    A: HttpServerApp + Send + Sync + 'static,
{
    let listener = Arc::clone(&site.listener);
    let by_alpn = match &transport {
        Transport::Plain(_) => None,
        Transport::Tls(tls) => Some(tls.get_ref().1.alpn_protocol() == Some(b"h2")),
    };
    let mut wire = Box::new(Wire::new(transport, listener.body_timeout));
    let connection = Arc::new(Connection {
        number,
        listener,
        peer,
        certificate,
        drain: Arc::clone(&site.host.drain),
        kept: false.into(),
    });
    let is_http2 = match by_alpn {
        Some(is_http2) => is_http2,
        None if connection.listener.http2 => match has_http2_preface(site, &connection, &mut wire).await {
            Some(is_http2) => is_http2,
            None => return,
        },
        None => false,
    };
    // Boxed apart, so that a connection of the one version does not carry the state of the other.
    if is_http2 {
        Box::pin(http2::serve(&site.host, &connection, wire)).await;
    } else {
        Box::pin(http1::serve(&site.host, &connection, wire)).await;
    }
}

/// Whether the agent speaks HTTP/2 with prior knowledge (RFC 9113, section 3.3). Reads no more than it takes to tell;
/// `None` when the agent has said nothing for as long as it may.
async fn has_http2_preface<A>(site: &Site<A>, connection: &Connection, wire: &mut Wire) -> Option<bool> {
    let telling = async {
        while wire.ahead().len() < PREFACE.len() && PREFACE.starts_with(wire.ahead()) {
            if !wire.fill().await.is_ok_and(|count| count > 0) {
                return;
            }
        }
    };
    tokio::select! {
        biased;
        () = telling => {}
        () = site.host.drain.turn(connection.number) => {}
        () = tokio::time::sleep(connection.listener.idle_timeout) => {}
    }
    (!wire.ahead().is_empty()).then(|| wire.ahead().starts_with(PREFACE))
}

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn an_accept_loop_in_trouble_waits_longer_each_time_and_begins_anew_when_it_is_over() {
        let (mut trouble, no_file_left) = (Trouble::default(), io::Error::from_raw_os_error(libc::EMFILE));
        let begun = Instant::now();
        for _ in 0..20 {
            trouble.wait("agents", &no_file_left).await;
        }
        assert!(begun.elapsed() > Duration::from_secs(10), "it does not spin");
        assert_eq!(trouble.wait, Trouble::MAX);
        trouble.over();
        let begun = Instant::now();
        trouble.wait("agents", &no_file_left).await;
        assert!(begun.elapsed() < Duration::from_millis(20));
        trouble.wait("agents", &io::ErrorKind::ConnectionAborted.into()).await;
        assert!(begun.elapsed() < Duration::from_millis(20), "an agent that left is no trouble");
    }
}
