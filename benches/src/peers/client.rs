//! One connection of a client that costs little, so that what is measured is the server.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt, Empty};
use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::floor::OBJECT;
use super::subject::Protocol;

/// How connections are made.
#[derive(Clone)]
pub(super) struct Dialer {
    address: SocketAddr,
    tls: Option<Arc<ClientConfig>>,
    protocol: Protocol,
}

/// A connection, or one stream's share of one.
pub(super) enum Client {
    H1 { stream: Box<dyn Stream>, request: Vec<u8>, buffer: Vec<u8> },
    H2 { sender: SendRequest<Empty<Bytes>>, uri: String, agent: String },
}

/// Both directions of a connection.
pub(super) trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}

impl<S: AsyncRead + AsyncWrite + Unpin + Send> Stream for S {}

impl Dialer {
    /// Connections to `address`; over TLS where the authority, PEM, that the server's certificate is from is named.
    pub(super) fn new(address: SocketAddr, authority: Option<&[u8]>, protocol: Protocol) -> io::Result<Self> {
        let tls =
            authority.map(|authority| client_config(authority, protocol)).transpose().map_err(io::Error::other)?;
        Ok(Self { address, tls, protocol })
    }

    /// Opens one connection for so many requests at once, by the agent of that number.
    pub(super) async fn open(&self, agent: usize, streams: usize) -> io::Result<Vec<Client>> {
        let stream = TcpStream::connect(self.address).await?;
        stream.set_nodelay(true)?;
        let stream: Box<dyn Stream> = match &self.tls {
            None => Box::new(stream),
            Some(config) => {
                let name = ServerName::try_from("localhost").map_err(io::Error::other)?;
                Box::new(TlsConnector::from(Arc::clone(config)).connect(name, stream).await?)
            }
        };
        let agent = format!("agent-{agent:06}");
        if self.protocol == Protocol::H1 {
            let request = format!(
                "GET {TARGET} HTTP/1.1\r\nhost: localhost\r\nuser-agent: peers/1\r\nx-agent-id: {agent}\r\nx-tenant-id: acme\r\n\r\n"
            );
            return Ok(vec![Client::H1 { stream, request: request.into_bytes(), buffer: Vec::with_capacity(4096) }]);
        }
        let (sender, connection) =
            http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.map_err(io::Error::other)?;
        tokio::spawn(connection);
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        let uri = format!("{scheme}://localhost{TARGET}");
        Ok((0..streams)
            .map(|_| Client::H2 { sender: sender.clone(), uri: uri.clone(), agent: agent.clone() })
            .collect())
    }
}

impl Client {
    /// Asks for the object; anything but the whole object is an error.
    pub(super) async fn ask(&mut self) -> io::Result<()> {
        match self {
            Self::H1 { stream, request, buffer } => {
                stream.write_all(request).await?;
                stream.flush().await?;
                buffer.clear();
                while !is_object(buffer)? {
                    if stream.read_buf(buffer).await? == 0 {
                        return Err(io::ErrorKind::UnexpectedEof.into());
                    }
                }
                Ok(())
            }
            Self::H2 { sender, uri, agent } => {
                let request = Request::get(uri.as_str())
                    .header("user-agent", "peers/1")
                    .header("x-agent-id", agent.as_str())
                    .header("x-tenant-id", "acme")
                    .body(Empty::new())
                    .map_err(io::Error::other)?;
                sender.ready().await.map_err(io::Error::other)?;
                let response = sender.send_request(request).await.map_err(io::Error::other)?;
                let status = response.status();
                let body = response.into_body().collect().await.map_err(io::Error::other)?.to_bytes();
                if status == 200 && body == OBJECT[..] { Ok(()) } else { Err(odd(&format!("{status}"))) }
            }
        }
    }
}

/// Whether the answer is all there.
fn is_object(buffer: &[u8]) -> io::Result<bool> {
    let Some(end) = memchr::memmem::find(buffer, b"\r\n\r\n").map(|at| at + 4) else { return Ok(false) };
    if !buffer.starts_with(b"HTTP/1.1 200 ") {
        return Err(odd(&String::from_utf8_lossy(&buffer[..end])));
    }
    let body = &buffer[end..];
    match body.len() {
        length if length < OBJECT.len() => Ok(false),
        // Looked at where it is cheap: its ends. A wrong length shows in the next answer.
        length if length == OBJECT.len() && body[0] == OBJECT[0] && body[length - 1] == OBJECT[0] => Ok(true),
        _ => Err(odd("another body")),
    }
}

fn odd(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("the server gave something else than the object: {what}"))
}

fn client_config(authority: &[u8], protocol: Protocol) -> Result<Arc<ClientConfig>, rustls::Error> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(authority).flatten() {
        roots.add(certificate)?;
    }
    let mut config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![if protocol == Protocol::H2 { b"h2".to_vec() } else { b"http/1.1".to_vec() }];
    Ok(Arc::new(config))
}

const TARGET: &str = "/objects/one";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_the_object_or_an_error() {
        let whole = [b"HTTP/1.1 200 OK\r\n\r\n".as_slice(), &OBJECT].concat();
        assert!(is_object(&whole).unwrap());
        for cut in [0, 10, 19, 100, whole.len() - 1] {
            assert!(!is_object(&whole[..cut]).unwrap(), "{cut}");
        }
        assert!(is_object(b"HTTP/1.1 503 Busy\r\n\r\n").is_err());
        assert!(is_object(&[whole.as_slice(), b"x"].concat()).is_err());
    }
}
