//! What is known of a connection: where it came in, who stands at its other end, whether it shall end.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use weir_logic::CertificateFields;

use super::Drain;

/// One agent's connection, as its requests see it.
#[derive(Debug)]
pub struct Connection {
    /// Unique in this process.
    pub number: u64,
    /// The listener that accepted it.
    pub listener: Arc<weir_config::Listener>,
    /// The agent's address: the one in the PROXY header where there is one.
    pub peer: SocketAddr,
    /// The fields of the certificate that the agent showed and the listener checked.
    pub certificate: Option<CertificateFields>,
    pub(super) drain: Arc<Drain>,
    pub(super) kept: AtomicBool,
}

impl Connection {
    /// The connection whose request the current task works on.
    pub fn current() -> Arc<Self> {
        CURRENT.with(Arc::clone)
    }

    /// Whether TLS protects it.
    pub fn is_secure(&self) -> bool {
        self.listener.tls.is_some()
    }

    /// Whether the answer given now is to be its last.
    pub fn ends_with_answer(&self) -> bool {
        self.drain.ends_with_answer(self.number)
    }

    /// Says that the request has been read to its end and answered in full, so that the connection lives on even if
    /// pingora gives it up, as it does after every failed forward.
    pub fn keep(&self) {
        self.kept.store(true, Ordering::Relaxed);
    }
}

tokio::task_local! {
    /// Set around every request: pingora's callbacks get no word of the connection they work for.
    pub(super) static CURRENT: Arc<Connection>;
}
