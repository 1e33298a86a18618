//! One keep-alive connection of a client that measures: plain HTTP/1.1, one request at a time.

use std::io;
use std::net::SocketAddr;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;

/// Both directions of a connection, whatever carries it.
pub(crate) trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}

impl<S: AsyncRead + AsyncWrite + Unpin + Send> Stream for S {}

/// A connection to a node.
pub(crate) struct Connection {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Connection {
    /// Connects.
    pub(crate) async fn open(node: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect(node).await?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, buffer: Vec::new() })
    }

    /// The stream, once every answer has been read.
    pub(crate) fn into_stream(self) -> TcpStream {
        self.stream
    }

    /// Asks, and gives the answer's head in lower case and its body. `headers` are whole lines. Every answer to the measurements
    /// has a `Content-Length`, or none and no body.
    pub(crate) async fn get(&mut self, target: &str, headers: &str) -> io::Result<(String, Vec<u8>)> {
        let request = format!("GET {target} HTTP/1.1\r\nhost: edge\r\n{headers}\r\n");
        self.exchange(request.as_bytes()).await
    }

    /// Sends a body of JSON; the rest is as with [`Connection::get`].
    pub(crate) async fn post(&mut self, target: &str, headers: &str, body: &str) -> io::Result<(String, Vec<u8>)> {
        let length = body.len();
        let head = format!("POST {target} HTTP/1.1\r\nhost: edge\r\n{headers}content-type: application/json\r\n");
        self.exchange(format!("{head}content-length: {length}\r\n\r\n{body}").as_bytes()).await
    }

    async fn exchange(&mut self, request: &[u8]) -> io::Result<(String, Vec<u8>)> {
        self.stream.write_all(request).await?;
        loop {
            let end = self.buffer.windows(4).position(|bytes| bytes == b"\r\n\r\n").map(|at| at + 4);
            if let Some(end) = end {
                let head = String::from_utf8_lossy(&self.buffer[..end]).to_ascii_lowercase();
                let length = field(&head, "content-length").and_then(|length| length.parse::<usize>().ok());
                let whole = end + length.unwrap_or(0);
                if self.buffer.len() >= whole {
                    let body = self.buffer[end..whole].to_vec();
                    self.buffer.drain(..whole);
                    return Ok((head, body));
                }
            }
            if self.stream.read_buf(&mut self.buffer).await? == 0 {
                return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the node has closed a connection"));
            }
        }
    }
}

/// The value of the first field of that name in a head in lower case.
pub(crate) fn field<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim)
}

/// The status that a head begins with; 0 where it begins otherwise.
pub(crate) fn status(head: &str) -> u16 {
    head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_is_found_by_its_whole_name() {
        let head = "http/1.1 200 ok\r\nx-age: 1\r\nage-of: 2\r\nage: 3\r\n\r\n";
        assert_eq!([field(head, "age"), field(head, "ag")], [Some("3"), None]);
        assert_eq!((status(head), status("")), (200, 0));
    }
}
