//! What is known of a connection: where it came in, who stands at its other end, whether it shall end.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use tokio::time::Instant;
use weir_logic::CertificateFields;

use super::Drain;
use super::drain::turn;

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
    /// When it is old.
    old: Instant,
    end: OnceLock<End>,
}

/// Why a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// The agent ended it, or it broke.
    Agent,
    /// No request came for as long as it may be idle.
    Idle,
    /// It was old.
    Age,
    /// Its turn had come while the node stopped.
    Drain,
    /// What came was not HTTP as it must be, or came too slowly.
    Refused,
}

impl End {
    /// The label in metrics.
    pub(super) const fn label(self) -> &'static str {
        match self {
            Self::Agent => "agent",
            Self::Idle => "idle",
            Self::Age => "age",
            Self::Drain => "drain",
            Self::Refused => "refused",
        }
    }
}

impl Connection {
    /// A connection that begins now. Connections that begin together grow old one after the other, over the last quarter
    /// of what the listener allows.
    pub(super) fn new(
        number: u64,
        listener: Arc<weir_config::Listener>,
        peer: SocketAddr,
        certificate: Option<CertificateFields>,
        drain: Arc<Drain>,
    ) -> Self {
        let old = Instant::now() + listener.max_age - turn(number, listener.max_age / 4);
        Self { number, listener, peer, certificate, drain, kept: false.into(), old, end: OnceLock::new() }
    }

    /// The connection whose request the current task works on.
    pub fn current() -> Arc<Self> {
        CURRENT.with(Arc::clone)
    }

    /// Whether TLS protects it.
    pub fn is_secure(&self) -> bool {
        self.listener.tls.is_some()
    }

    /// Whether the answer given now is to be its last: it is old, or its turn has come while the node stops.
    pub fn ends_with_answer(&self) -> bool {
        let end = if self.drain.ends_with_answer(self.number) {
            End::Drain
        } else if self.old <= Instant::now() {
            End::Age
        } else {
            return false;
        };
        self.ends_for(end);
        true
    }

    /// Waits for its turn to end, be it by age or because the node stops.
    pub(super) async fn turn(&self) {
        let end = tokio::select! {
            () = self.drain.turn(self.number) => End::Drain,
            () = tokio::time::sleep_until(self.old) => End::Age,
        };
        self.ends_for(end);
    }

    /// Says why it ends. The first word counts.
    pub(super) fn ends_for(&self, end: End) {
        self.end.get_or_init(|| end);
    }

    /// Why it ended, once it has.
    pub(super) fn end(&self) -> End {
        self.end.get().copied().unwrap_or(End::Agent)
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
