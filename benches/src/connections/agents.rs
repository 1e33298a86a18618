//! Agents that connect, ask once, and stay or go.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use rustls::client::Resumption;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use serde::Serialize;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio_rustls::TlsConnector;

use crate::place::Place;

/// How an agent connects.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Way {
    /// In plaintext.
    Plain,
    /// TLS 1.3, a full handshake.
    Full,
    /// TLS 1.3, a session that is resumed.
    Resumed,
    /// TLS 1.3 with a certificate, a full handshake.
    MutualFull,
    /// TLS 1.3 with a certificate, a session that is resumed.
    MutualResumed,
}

impl Way {
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

    pub(super) const fn is_mutual(self) -> bool {
        matches!(self, Self::MutualFull | Self::MutualResumed)
    }

    const fn resumes(self) -> bool {
        matches!(self, Self::Resumed | Self::MutualResumed)
    }
}

/// A connection of an agent.
pub(super) trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}

impl<S: AsyncRead + AsyncWrite + Unpin + Send> Stream for S {}

/// Opens connections to one server. What a clone remembers of sessions is its own.
#[derive(Debug)]
pub(super) struct Dialer {
    address: SocketAddr,
    tls: Option<ClientConfig>,
    resumes: bool,
}

impl Clone for Dialer {
    fn clone(&self) -> Self {
        let mut tls = self.tls.clone();
        if let Some(config) = &mut tls {
            config.resumption = if self.resumes { Resumption::in_memory_sessions(1) } else { Resumption::disabled() };
        }
        Self { address: self.address, tls, resumes: self.resumes }
    }
}

impl Dialer {
    /// A dialer to a server whose certificate, and the agent's, the authority of `place` has signed.
    pub(super) fn new(address: SocketAddr, way: Way, place: &Place) -> io::Result<Self> {
        let tls = match way {
            Way::Plain => None,
            _ => Some(client_config(place, way.is_mutual())?),
        };
        Ok(Self { address, tls, resumes: way.resumes() })
    }

    /// Connects and has one request answered.
    async fn visit(&self) -> io::Result<Box<dyn Stream>> {
        let tcp = TcpStream::connect(self.address).await?;
        tcp.set_nodelay(true)?;
        let mut stream: Box<dyn Stream> = match &self.tls {
            None => Box::new(tcp),
            Some(config) => {
                let name = ServerName::try_from("localhost").map_err(io::Error::other)?;
                let connected = TlsConnector::from(Arc::new(config.clone())).connect(name, tcp).await?;
                Box::new(connected)
            }
        };
        ask(&mut stream).await?;
        Ok(stream)
    }

    /// Opens so many connections, some at once, each with one request, and keeps them.
    pub(super) async fn crowd(&self, count: u32) -> io::Result<Vec<Box<dyn Stream>>> {
        let workers = (0..AT_ONCE).map(|worker| {
            let dialer = self.clone();
            async move {
                let mut open = Vec::new();
                for _ in (worker..count).step_by(AT_ONCE as usize) {
                    open.push(dialer.visit().await?);
                }
                io::Result::Ok(open)
            }
        });
        let mut workers: JoinSet<_> = workers.collect();
        let mut open = Vec::new();
        while let Some(part) = workers.join_next().await {
            open.extend(part.map_err(io::Error::other)??);
        }
        Ok(open)
    }

    /// Opens so many connections, some at once, each with one request, and closes each at once.
    pub(super) async fn visits(&self, count: u32) -> io::Result<()> {
        let workers = (0..AT_ONCE).map(|worker| {
            let dialer = self.clone();
            async move {
                // The first one brings the session that the others resume.
                for _ in (worker..count).step_by(AT_ONCE as usize) {
                    let mut stream = dialer.visit().await?;
                    stream.shutdown().await?;
                    // To the end, so that the server has closed before the next one begins.
                    stream.read_to_end(&mut Vec::new()).await.ok();
                }
                io::Result::Ok(())
            }
        });
        let mut workers: JoinSet<_> = workers.collect();
        while let Some(done) = workers.join_next().await {
            done.map_err(io::Error::other)??;
        }
        Ok(())
    }
}

/// Connections that are being opened at once.
const AT_ONCE: u32 = 16;

const REQUEST: &[u8] =
    b"GET /v1/updates/stable/manifest.json?platform=windows&arch=x64 HTTP/1.1\r\nHost: localhost\r\n\r\n";

async fn ask(stream: &mut Box<dyn Stream>) -> io::Result<()> {
    stream.write_all(REQUEST).await?;
    let mut answer = Vec::new();
    loop {
        if stream.read_buf(&mut answer).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if let Some(length) = whole(&answer) {
            return if answer.starts_with(b"HTTP/1.1 200") && answer.len() == length {
                Ok(())
            } else {
                Err(io::Error::other(String::from_utf8_lossy(&answer).into_owned()))
            };
        }
    }
}

/// The length of an answer of which everything is there.
fn whole(answer: &[u8]) -> Option<usize> {
    let end = answer.windows(4).position(|bytes| bytes == b"\r\n\r\n")? + 4;
    let head = String::from_utf8_lossy(&answer[..end]).to_ascii_lowercase();
    let length: usize = crate::wire::field(&head, "content-length")?.parse().ok()?;
    (answer.len() >= end + length).then_some(end + length)
}

fn client_config(place: &Place, mutual: bool) -> io::Result<ClientConfig> {
    let mut roots = RootCertStore::empty();
    let authority = CertificateDer::from_pem_slice(&place.authority).map_err(io::Error::other)?;
    roots.add(authority).map_err(io::Error::other)?;
    let builder = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(io::Error::other)?
        .with_root_certificates(roots);
    if !mutual {
        return Ok(builder.with_no_client_auth());
    }
    let (certificate, key) = place.agent()?;
    let chain = vec![CertificateDer::from_pem_slice(&certificate).map_err(io::Error::other)?];
    let key = PrivateKeyDer::from_pem_slice(&key).map_err(io::Error::other)?;
    builder.with_client_auth_cert(chain, key).map_err(io::Error::other)
}
