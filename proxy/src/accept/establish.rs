//! From an accepted socket to a connection over which HTTP can be spoken: the PROXY header and the handshake, within the
//! time that the listener gives.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use pingora::protocols::TcpKeepalive;
use pingora::protocols::l4::ext::set_tcp_keepalive;
use rustls::HandshakeKind;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use weir_config::ProxyProtocol;
use weir_logic::CertificateFields;

use super::connection::Connection;
use super::preamble::{self, PreambleError};
use super::proof;
use super::service::Site;
use super::tls::Tls;
use super::wire::{Transport, Wire};
use crate::identify::certificate_fields;

/// A connection over which HTTP can be spoken.
pub(super) struct Established {
    pub(super) connection: Arc<Connection>,
    pub(super) wire: Box<Wire>,
    /// Which HTTP it is, where TLS has settled that.
    pub(super) is_http2: Option<bool>,
}

/// Reads the PROXY header and shakes hands, where the listener asks for it. An error is the cause in metrics.
pub(super) async fn establish<A>(
    site: &Site<A>,
    mut tcp: TcpStream,
    peer: SocketAddr,
) -> Result<Established, &'static str> {
    tune(&tcp);
    let limit = site.tls.as_ref().map_or(site.listener.header_timeout, |tls| tls.settings().handshake_timeout);
    let opening = async {
        let peer = agent_address(site, &mut tcp, peer).await?;
        let (transport, certificate, is_http2) = match &site.tls {
            Some(tls) => shake_hands(site, tls, tcp).await?,
            None => (Transport::Plain(tcp), None, None),
        };
        let (host, listener) = (&site.host, Arc::clone(&site.listener));
        let number = host.next.fetch_add(1, Ordering::Relaxed);
        let wire = Box::new(Wire::new(transport, listener.body_timeout));
        let connection = Arc::new(Connection::new(number, listener, peer, certificate, Arc::clone(&host.drain)));
        Ok(Established { connection, wire, is_http2 })
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
) -> Result<(Transport, Option<CertificateFields>, Option<bool>), &'static str> {
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
    let is_http2 = session.alpn_protocol() == Some(b"h2");
    Ok((Transport::Tls(Box::new(stream)), certificate, Some(is_http2)))
}
