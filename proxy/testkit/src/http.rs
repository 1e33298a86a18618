//! A plain HTTP/1.1 client: one kept-alive connection, whole answers.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

/// One connection to a server.
pub struct Connection {
    sender: SendRequest<Full<Bytes>>,
}

/// A whole answer.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The status.
    pub status: StatusCode,
    /// The headers.
    pub headers: HeaderMap,
    /// The body.
    pub body: Bytes,
}

impl Answer {
    /// The body as text.
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("the answer is text")
    }

    /// The body as JSON.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).expect("the answer is JSON")
    }

    /// A header as text; empty when it is not there.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().expect("the header is text"))
    }
}

impl Connection {
    /// Connects in plaintext.
    pub async fn plain(address: SocketAddr) -> std::io::Result<Self> {
        Self::over(TcpStream::connect(address).await?).await
    }

    /// Connects with TLS, to a server named `localhost`.
    pub async fn tls(address: SocketAddr, config: Arc<ClientConfig>) -> std::io::Result<Self> {
        let stream = TcpStream::connect(address).await?;
        let name = ServerName::try_from("localhost").expect("a valid name");
        Self::over(TlsConnector::from(config).connect(name, stream).await?).await
    }

    async fn over<S>(stream: S) -> std::io::Result<Self>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let (sender, connection) = handshake(TokioIo::new(stream)).await.map_err(std::io::Error::other)?;
        tokio::spawn(connection);
        Ok(Self { sender })
    }

    /// Sends a request and reads its whole answer. `Host` is `localhost` unless given.
    ///
    /// # Errors
    ///
    /// When the connection breaks or has been closed.
    pub async fn send(
        &mut self,
        method: &str,
        target: &str,
        headers: &[(&str, &str)],
        body: impl Into<Bytes>,
    ) -> Result<Answer, hyper::Error> {
        let mut request = Request::builder().method(method).uri(target);
        if !headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("host")) {
            request = request.header("host", "localhost");
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Full::new(body.into())).expect("the test's request is well-formed");
        self.sender.ready().await?;
        let (parts, body) = self.sender.send_request(request).await?.into_parts();
        Ok(Answer { status: parts.status, headers: parts.headers, body: body.collect().await?.to_bytes() })
    }

    /// Sends a `GET` and gives its answer once the head is there; the body comes as it is read. The next request waits for its end.
    ///
    /// # Errors
    ///
    /// When the connection breaks or has been closed.
    pub async fn open(&mut self, target: &str, headers: &[(&str, &str)]) -> Result<Response<Incoming>, hyper::Error> {
        let mut request = Request::builder().uri(target).header("host", "localhost");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Full::default()).expect("the test's request is well-formed");
        self.sender.ready().await?;
        self.sender.send_request(request).await
    }

    /// `GET` without a body.
    pub async fn get(&mut self, target: &str, headers: &[(&str, &str)]) -> Result<Answer, hyper::Error> {
        self.send("GET", target, headers, Bytes::new()).await
    }
}

/// One request over a connection of its own.
pub async fn get(address: SocketAddr, target: &str) -> Answer {
    send(address, "GET", target, &[], "").await
}

/// One request over a connection of its own.
pub async fn send(
    address: SocketAddr,
    method: &str,
    target: &str,
    headers: &[(&str, &str)],
    body: impl Into<Bytes>,
) -> Answer {
    let mut connection = Connection::plain(address).await.expect("the server takes the connection");
    connection.send(method, target, headers, body).await.expect("the server answers")
}

/// Writes these bytes as they are and reads until the server closes, or 1 MiB.
pub async fn raw(address: SocketAddr, bytes: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(address).await.expect("the server takes the connection");
    stream.write_all(bytes).await.expect("the server reads");
    let mut answer = Vec::new();
    // A server that resets after its answer has answered all the same.
    let _read = stream.take(1 << 20).read_to_end(&mut answer).await;
    answer
}
