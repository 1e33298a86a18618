//! Opens connections to a subject.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use rustls::ClientConfig;
use rustls::client::Resumption;
use rustls_pki_types::ServerName;
use serde::{Deserialize, Serialize};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use weir_fleet::{FleetTls, client_config};

use super::subject::{Protocol, Running};
use crate::wire::Stream;

/// How a connection comes about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Opening {
    /// In plaintext.
    Plain,
    /// TLS 1.3, a full handshake.
    Full,
    /// TLS 1.3, a session that is resumed.
    Resumed,
    /// TLS 1.3 with a certificate of the agent's, a full handshake.
    MutualFull,
    /// TLS 1.3 with a certificate of the agent's, a session that is resumed.
    MutualResumed,
}

impl Opening {
    pub(super) const ALL: [Self; 5] = [Self::Plain, Self::Full, Self::Resumed, Self::MutualFull, Self::MutualResumed];

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Plain => "plaintext",
            Self::Full => "TLS, full",
            Self::Resumed => "TLS, resumed",
            Self::MutualFull => "TLS both ways, full",
            Self::MutualResumed => "TLS both ways, resumed",
        }
    }

    pub(super) const fn is_tls(self) -> bool {
        !matches!(self, Self::Plain)
    }

    pub(super) const fn is_mutual(self) -> bool {
        matches!(self, Self::MutualFull | Self::MutualResumed)
    }

    const fn resumes(self) -> bool {
        matches!(self, Self::Resumed | Self::MutualResumed)
    }
}

/// Opens connections to one server. What a clone remembers of TLS sessions is its own.
#[derive(Debug)]
pub(super) struct Dialer {
    address: SocketAddr,
    tls: Option<Arc<ClientConfig>>,
    resumes: bool,
    pub(super) protocol: Protocol,
}

impl Clone for Dialer {
    fn clone(&self) -> Self {
        let tls = self.tls.as_deref().cloned().map(|mut config| {
            config.resumption = if self.resumes { Resumption::in_memory_sessions(1) } else { Resumption::disabled() };
            Arc::new(config)
        });
        Self { tls, ..*self }
    }
}

impl Dialer {
    /// Connections to a subject that is set up for them.
    pub(super) fn new(running: &Running, opening: Opening, protocol: Protocol) -> io::Result<Self> {
        let place = running.place();
        let tls = opening.is_tls().then(|| {
            let client_certificate = opening.is_mutual().then(|| place.agent()).transpose()?;
            let alpn: &[u8] = if protocol == Protocol::H2 { b"h2" } else { b"http/1.1" };
            client_config(&FleetTls { client_certificate, ..place.tls() }, alpn).map_err(io::Error::other)
        });
        Ok(Self { address: running.address, tls: tls.transpose()?, resumes: opening.resumes(), protocol })
    }

    /// The scheme of what is asked for.
    pub(super) const fn scheme(&self) -> &'static str {
        if self.tls.is_some() { "https" } else { "http" }
    }

    /// Opens one connection.
    pub(super) async fn connect(&self) -> io::Result<Box<dyn Stream>> {
        let stream = TcpStream::connect(self.address).await?;
        stream.set_nodelay(true)?;
        let Some(config) = &self.tls else { return Ok(Box::new(stream)) };
        let name = ServerName::try_from("localhost").map_err(io::Error::other)?;
        Ok(Box::new(TlsConnector::from(Arc::clone(config)).connect(name, stream).await?))
    }
}
