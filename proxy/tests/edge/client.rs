//! An agent that writes exactly what a test says and reads what comes.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// One connection.
pub(crate) struct Raw<S> {
    pub(crate) stream: S,
    read: Vec<u8>,
}

/// A whole answer.
#[derive(Debug)]
pub(crate) struct RawAnswer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: String,
}

impl RawAnswer {
    /// The value of that header; empty when it is not there.
    pub(crate) fn header(&self, name: &str) -> &str {
        let lines = self.head.lines().skip(1).filter_map(|line| line.split_once(": "));
        lines.filter(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value).next().unwrap_or("")
    }
}

impl Raw<TcpStream> {
    pub(crate) async fn connect(address: SocketAddr) -> Self {
        Self::over(TcpStream::connect(address).await.unwrap())
    }
}

impl Raw<TlsStream<TcpStream>> {
    pub(crate) async fn connect_tls(address: SocketAddr, config: Arc<ClientConfig>) -> std::io::Result<Self> {
        let tcp = TcpStream::connect(address).await?;
        let name = ServerName::try_from("localhost").unwrap();
        Ok(Self::over(TlsConnector::from(config).connect(name, tcp).await?))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Raw<S> {
    pub(crate) fn over(stream: S) -> Self {
        Self { stream, read: Vec::new() }
    }

    pub(crate) async fn write(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.write_all(bytes.as_ref()).await.unwrap();
        self.stream.flush().await.unwrap();
    }

    /// Sends a request of these bytes and reads its answer.
    pub(crate) async fn ask(&mut self, bytes: impl AsRef<[u8]>) -> RawAnswer {
        self.write(bytes).await;
        self.answer().await
    }

    /// `GET` of that target.
    pub(crate) async fn get(&mut self, target: &str) -> RawAnswer {
        self.ask(format!("GET {target} HTTP/1.1\r\nHost: localhost\r\n\r\n")).await
    }

    /// The next answer; its body is framed by a length.
    pub(crate) async fn answer(&mut self) -> RawAnswer {
        self.try_answer(true).await.expect("an answer, not the end of the connection")
    }

    /// The next answer to a `HEAD`.
    pub(crate) async fn head_answer(&mut self) -> RawAnswer {
        self.try_answer(false).await.expect("an answer, not the end of the connection")
    }

    /// The next answer, or `None` when the connection ends first.
    pub(crate) async fn try_answer(&mut self, has_body: bool) -> Option<RawAnswer> {
        let end = loop {
            if let Some(end) = self.read.windows(4).position(|four| four == b"\r\n\r\n") {
                break end + 4;
            }
            if !self.fill().await {
                return None;
            }
        };
        let head = String::from_utf8(self.read.drain(..end).collect()).unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        let mut answer = RawAnswer { status, head, body: String::new() };
        let length = answer.header("content-length").parse().unwrap_or(0);
        while has_body && self.read.len() < length {
            assert!(self.fill().await, "the body broke off: {}", answer.head);
        }
        if has_body {
            answer.body = String::from_utf8_lossy(&self.read.drain(..length).collect::<Vec<_>>()).into_owned();
        }
        Some(answer)
    }

    /// All that comes until the server closes.
    pub(crate) async fn rest(mut self) -> String {
        while self.fill().await {}
        String::from_utf8_lossy(&self.read).into_owned()
    }

    /// Whether the server has closed, when nothing more was to come.
    pub(crate) async fn is_closed(&mut self) -> bool {
        assert!(self.read.is_empty(), "unread: {:?}", String::from_utf8_lossy(&self.read));
        !self.fill().await
    }

    /// Reads once more; says whether anything came before the end.
    async fn fill(&mut self) -> bool {
        let mut piece = [0; 4096];
        let read = timeout(Duration::from_secs(20), self.stream.read(&mut piece)).await.expect("the server to speak");
        let count = read.unwrap_or(0);
        self.read.extend_from_slice(&piece[..count]);
        count > 0
    }
}
