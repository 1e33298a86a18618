//! The listening socket and its connections: there while the core is up, gone while it is down, always on one address.

use std::io;
use std::net::{Shutdown, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use parking_lot::Mutex;
use rustls::ServerConfig;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

use crate::options::CoreTls;
use crate::server::{State, serve};

/// How long a client may take for its TLS handshake.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// The pause before another try when the listener cannot be opened or cannot accept.
const RETRY_PAUSE: Duration = Duration::from_millis(20);

/// The core's address, kept while nothing listens on it.
#[derive(Debug)]
pub(crate) struct Gate {
    address: SocketAddr,
    /// Bound and never listening: the port cannot go to anyone else while the core is down.
    _reservation: TcpSocket,
    /// A listener opened by `open`, until the accept loop takes it.
    opened: Mutex<Option<std::net::TcpListener>>,
    /// The same socket, by which `close` stops it whoever holds it.
    listening: Mutex<Option<std::net::TcpListener>>,
    changed: Notify,
}

impl Gate {
    /// Takes `address` without listening on it.
    pub(crate) fn reserve(address: SocketAddr) -> io::Result<Self> {
        let reservation = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
        reservation.set_reuseaddr(true)?;
        reservation.bind(address)?;
        let address = reservation.local_addr()?;
        let (opened, listening) = (Mutex::new(None), Mutex::new(None));
        Ok(Self { address, _reservation: reservation, opened, listening, changed: Notify::new() })
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Listens from now on, also before the accept loop has noticed.
    pub(crate) fn open(&self) -> io::Result<()> {
        let listener = std::net::TcpListener::bind(self.address)?;
        listener.set_nonblocking(true)?;
        *self.listening.lock() = Some(listener.try_clone()?);
        *self.opened.lock() = Some(listener);
        self.changed.notify_one();
        Ok(())
    }

    /// Refuses connections from now on; the accept loop then closes those it has.
    pub(crate) fn close(&self) {
        self.opened.lock().take();
        if let Some(listener) = self.listening.lock().take() {
            // Of a socket that listens, this can fail only if it does so no longer.
            SockRef::from(&listener).shutdown(Shutdown::Read).ok();
        }
        self.changed.notify_one();
    }

    fn reopened(&self) -> bool {
        self.opened.lock().is_some()
    }

    async fn take_listener(&self) -> TcpListener {
        loop {
            let opened = self.opened.lock().take();
            match opened.map(TcpListener::from_std) {
                Some(Ok(listener)) => return listener,
                Some(Err(_)) | None => self.changed.notified().await,
            }
        }
    }
}

/// Accepts while the core is up. Dropping the future closes every connection.
pub(crate) async fn accept_loop(gate: Arc<Gate>, state: Arc<State>, tls: Option<TlsAcceptor>) {
    loop {
        let listener = gate.take_listener().await;
        // Dropped at the end of each turn, and the connections with it.
        let mut connections = JoinSet::new();
        while !gate.reopened() && !state.script.lock().is_down() {
            tokio::select! {
                accepted = listener.accept() => match accepted {
                    Ok((stream, _)) => {
                        state.counters.lock().connection();
                        connections.spawn(connection(stream, Arc::clone(&state), tls.clone()));
                    }
                    Err(_) => tokio::time::sleep(RETRY_PAUSE).await,
                },
                () = gate.changed.notified() => {}
                Some(_) = connections.join_next() => {}
            }
        }
    }
}

async fn connection(stream: TcpStream, state: Arc<State>, tls: Option<TlsAcceptor>) {
    // Without it, small answers would wait for the peer's acknowledgement.
    stream.set_nodelay(true).ok();
    match tls {
        None => http(stream, state).await,
        Some(acceptor) => {
            if let Ok(Ok(stream)) = tokio::time::timeout(HANDSHAKE_TIMEOUT, acceptor.accept(stream)).await {
                http(stream, state).await;
            }
        }
    }
}

async fn http<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(stream: S, state: Arc<State>) {
    let service = service_fn(move |request| serve(Arc::clone(&state), request));
    let server = auto::Builder::new(TokioExecutor::new());
    // A connection that ends badly is what scripts order and what peers do; the counts say more than an error here.
    server.serve_connection_with_upgrades(TokioIo::new(stream), service).await.ok();
}

/// A TLS configuration that offers HTTP/2 and HTTP/1.1.
pub(crate) fn acceptor(tls: &CoreTls) -> io::Result<TlsAcceptor> {
    let invalid = |error: &dyn std::fmt::Display| io::Error::new(io::ErrorKind::InvalidInput, error.to_string());
    let chain: Vec<CertificateDer<'static>> =
        CertificateDer::pem_slice_iter(&tls.certificates).collect::<Result<_, _>>().map_err(|error| invalid(&error))?;
    let key = PrivateKeyDer::from_pem_slice(&tls.key).map_err(|error| invalid(&error))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .and_then(|builder| builder.with_no_client_auth().with_single_cert(chain, key))
        .map_err(|error| invalid(&error))?;
    // Tickets, for the default store of sessions holds 256: after an outage nearly every agent would start anew.
    config.ticketer = rustls::crypto::ring::Ticketer::new().map_err(|error| invalid(&error))?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}
