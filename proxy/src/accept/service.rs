//! The accept loop of every listener, as one pingora service.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use async_trait::async_trait;
use pingora::apps::HttpServerApp;
use pingora::server::{ListenFds, ShutdownWatch};
use pingora::services::Service;
use prometheus::IntGauge;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use super::connection::{Connection, End};
use super::drain::OpenConnection;
use super::establish::establish;
use super::host::Host;
use super::tls::{Certificates, Tls};
use super::wire::Wire;
use super::{Drain, Listener, Shortcut, http1, http2};
use crate::clock::Clock;
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
pub(super) struct Site<A> {
    pub(super) host: Arc<Host<A>>,
    pub(super) listener: Arc<weir_config::Listener>,
    pub(super) tls: Option<Arc<Tls>>,
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
    last_call(&site, &socket, &handshakes).await;
}

/// Takes those who stand in the kernel's queue when the node stops: they would be reset with the socket, with what they
/// have said already.
async fn last_call<A>(site: &Arc<Site<A>>, socket: &TcpListener, handshakes: &Arc<Semaphore>)
where
    A: HttpServerApp + Send + Sync + 'static,
{
    let _open = site.host.drain.enter();
    let taking = async {
        while let Ok(Ok((tcp, peer, turn))) = timeout(QUIET, next(site, socket, handshakes)).await {
            start(site, tcp, peer, turn);
        }
    };
    // Those who go on coming must be turned away at some time.
    drop(timeout(LAST_CALL, taking).await);
}

/// The time without a new connection after which nobody stands in the queue.
const QUIET: Duration = Duration::from_millis(20);

/// The time in which the queue is emptied.
const LAST_CALL: Duration = Duration::from_millis(250);

type Accepted = (TcpStream, SocketAddr, Option<Turn>);

/// A handshake that may run, and is counted until it is over.
struct Turn {
    running: IntGauge,
    _permit: OwnedSemaphorePermit,
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.running.dec();
    }
}

async fn next<A>(site: &Site<A>, socket: &TcpListener, handshakes: &Arc<Semaphore>) -> io::Result<Accepted> {
    let permit = match site.tls {
        Some(_) => Arc::clone(handshakes).acquire_owned().await.ok(),
        None => None,
    };
    let (tcp, peer) = socket.accept().await?;
    let turn = permit.map(|permit| {
        let running = site.host.metrics.handshakes_running.with_label_values(&[&site.listener.name]);
        running.inc();
        Turn { running, _permit: permit }
    });
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

fn start<A>(site: &Arc<Site<A>>, tcp: TcpStream, peer: SocketAddr, turn: Option<Turn>)
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
    task::spawn("connection", attend(Arc::clone(site), tcp, peer, turn, held));
}

async fn attend<A>(site: Arc<Site<A>>, tcp: TcpStream, peer: SocketAddr, turn: Option<Turn>, _held: Held)
where
    A: HttpServerApp + Send + Sync + 'static,
{
    // Boxed, because it is several times the size of what the connection needs later.
    let established = Box::pin(establish(&site, tcp, peer)).await;
    drop(turn);
    match established {
        Ok(established) => {
            serve(&site, &established.connection, established.wire, established.is_http2).await;
            site.host.ended(&established.connection);
        }
        Err(cause) => site.host.turn_away(&site.listener.name, cause),
    }
}

/// What a connection takes from the listener's bounds.
struct Held {
    gauge: IntGauge,
    _place: OwnedSemaphorePermit,
    _open: OpenConnection,
}

impl Drop for Held {
    fn drop(&mut self) {
        self.gauge.dec();
    }
}

async fn serve<A>(site: &Site<A>, connection: &Arc<Connection>, mut wire: Box<Wire>, is_http2: Option<bool>)
where
    A: HttpServerApp + Send + Sync + 'static,
{
    // All boxed, so that a connection of the one version carries neither the state of the other nor that of telling them
    // apart.
    let is_http2 = match is_http2 {
        Some(is_http2) => is_http2,
        None if connection.listener.http2 => match Box::pin(has_http2_preface(site, connection, &mut wire)).await {
            Some(is_http2) => is_http2,
            None => return,
        },
        None => false,
    };
    if is_http2 {
        Box::pin(http2::serve(&site.host, connection, wire)).await;
    } else {
        Box::pin(http1::serve(&site.host, connection, wire)).await;
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
        () = site.host.drain.end_of_turn(connection.number) => connection.ends_for(End::Drain),
        () = tokio::time::sleep(connection.listener.idle_timeout) => connection.ends_for(End::Idle),
    }
    (!wire.ahead().is_empty()).then(|| wire.ahead().starts_with(PREFACE))
}

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use super::*;

    /// Answers nothing.
    struct Mute;

    #[async_trait]
    impl HttpServerApp for Mute {
        async fn process_new_http(
            self: &Arc<Self>,
            _session: pingora::protocols::http::ServerSession,
            _shutdown: &ShutdownWatch,
        ) -> Option<pingora::apps::ReusedHttpStream> {
            None
        }
    }

    fn future_size<T, F: Future>(_: impl FnOnce(T) -> F) -> usize {
        size_of::<F>()
    }

    #[test]
    fn an_idle_connection_holds_little_beside_the_buffers_of_tls() {
        type Parts<'a> = (&'a Arc<Host<Mute>>, &'a Arc<Connection>, Box<Wire>);
        let task = future_size(|(site, tcp, peer, turn, held): (Arc<Site<Mute>>, _, _, _, _)| {
            attend(site, tcp, peer, turn, held)
        });
        let establishing = future_size(|(site, tcp, peer): (&Site<Mute>, _, _)| establish(site, tcp, peer));
        let http1 = future_size(|(host, connection, wire): Parts<'_>| http1::serve(host, connection, wire));
        let http2 = future_size(|(host, connection, wire): Parts<'_>| http2::serve(host, connection, wire));
        let http2 = http2 + size_of::<http2::Streams>();
        let tls = size_of::<tokio_rustls::server::TlsStream<TcpStream>>();
        let held = task + http1 + tls + size_of::<Wire>() + size_of::<Connection>();
        assert!(held <= 2_700, "task {task}, HTTP/1.1 {http1}, TLS {tls}: {held}");
        assert!(establishing <= 3_500, "while it is established: {establishing}");
        assert!(http2 <= 2_500, "HTTP/2 in place of HTTP/1.1: {http2}");
    }

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
