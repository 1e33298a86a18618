//! A bound address: what can go wrong before the node is ready goes wrong here.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use tokio::net::{TcpListener, TcpSocket};
use weir_logic::Millis;

use super::certificates::CertificateError;
use super::tls::Tls;
use crate::metrics::Metrics;

/// A listener that is bound and whose certificates are loaded. Agents that connect wait in the kernel's queue until an
/// [`Acceptor`](super::Acceptor) serves it.
pub struct Listener {
    pub(super) config: Arc<weir_config::Listener>,
    pub(super) socket: std::net::TcpListener,
    pub(super) tls: Option<Arc<Tls>>,
    address: SocketAddr,
}

/// Why a listener cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum AcceptError {
    /// The address cannot be bound.
    #[error("listener {listener}: cannot listen on {address}: {source}")]
    Bind {
        /// The listener's name.
        listener: String,
        /// The address.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// The certificates cannot be used.
    #[error("listener {listener}: {source}")]
    Certificate {
        /// The listener's name.
        listener: String,
        /// Why.
        source: CertificateError,
    },
}

impl Listener {
    /// Loads the certificates and binds the address, with a queue of 4,096 connections or what the kernel allows.
    ///
    /// # Errors
    /// [`AcceptError::Certificate`] before the address is touched, [`AcceptError::Bind`] when it is taken, not ours or
    /// not allowed.
    pub fn bind(config: &weir_config::Listener, metrics: &Metrics, now: Millis) -> Result<Self, AcceptError> {
        let tls = match &config.tls {
            Some(settings) => Some(Arc::new(
                Tls::new(config, settings, metrics, now)
                    .map_err(|source| AcceptError::Certificate { listener: config.name.clone(), source })?,
            )),
            None => None,
        };
        let failed = |source| AcceptError::Bind { listener: config.name.clone(), address: config.address, source };
        let socket = listen(config.address).map_err(failed)?;
        let address = socket.local_addr().map_err(failed)?;
        Ok(Self { config: Arc::new(config.clone()), socket, tls, address })
    }

    /// The address bound; the port is the real one when the configuration says 0.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The name in metrics and logs.
    pub fn name(&self) -> &str {
        &self.config.name
    }
}

/// Agents that may wait to be accepted; the kernel caps it at `net.core.somaxconn`.
const BACKLOG: u32 = 4096;

/// Listens through tokio, because the standard library cannot be told the length of the queue. Works on any thread.
fn listen(address: SocketAddr) -> io::Result<std::net::TcpListener> {
    if tokio::runtime::Handle::try_current().is_ok() {
        return listen_in_runtime(address)?.into_std();
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    let _entered = runtime.enter();
    listen_in_runtime(address)?.into_std()
}

fn listen_in_runtime(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}
