//! One connection of a client that costs little, so that what is measured is the server.

use std::io;

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt, Empty};
use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::dialer::Dialer;
use super::floor::OBJECT;
use super::subject::Protocol;
use crate::wire::Stream;

/// A connection, or one stream's share of one.
pub(super) enum Client {
    H1 { stream: Box<dyn Stream>, request: Vec<u8>, buffer: Vec<u8> },
    H2 { sender: SendRequest<Empty<Bytes>>, uri: String, agent: String },
}

impl Client {
    /// Opens one connection for so many requests at once, by the agent of that number.
    pub(super) async fn open(dialer: &Dialer, agent: usize, streams: usize) -> io::Result<Vec<Self>> {
        let stream = dialer.connect().await?;
        let agent = format!("agent-{agent:06}");
        if dialer.protocol == Protocol::H1 {
            let request = format!(
                "GET {TARGET} HTTP/1.1\r\nhost: localhost\r\nuser-agent: peers/1\r\nx-agent-id: {agent}\r\nx-tenant-id: acme\r\n\r\n"
            );
            return Ok(vec![Self::H1 { stream, request: request.into_bytes(), buffer: Vec::new() }]);
        }
        let (sender, connection) =
            http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.map_err(io::Error::other)?;
        tokio::spawn(connection);
        let uri = format!("{}://localhost{TARGET}", dialer.scheme());
        Ok((0..streams).map(|_| Self::H2 { sender: sender.clone(), uri: uri.clone(), agent: agent.clone() }).collect())
    }

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
