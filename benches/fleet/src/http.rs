//! One HTTP/1.1 exchange at a time on a connection that is kept (RFC 9112): the little of a client that agents need.
//!
//! No pipelining, no trailers, no upgrades. An idle connection holds no buffer. A body longer than [`MAX_BODY_BYTES`]
//! or a head longer than [`MAX_HEAD_BYTES`] is an error.

use std::io::{self, ErrorKind};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// The bytes of a response's head, at most.
const MAX_HEAD_BYTES: usize = 32 << 10;
/// The bytes of a response's body, at most.
const MAX_BODY_BYTES: u64 = 64 << 20;
/// The bytes of a body that are kept for the caller; of what is longer, the rest is counted and dropped.
const KEPT_BODY_BYTES: usize = 64 << 10;
const MAX_HEADERS: usize = 64;
const READ_BYTES: usize = 8 << 10;

/// What came back.
#[derive(Debug, Default)]
pub(crate) struct Response {
    pub(crate) status: u16,
    pub(crate) etag: Option<Box<str>>,
    /// Seconds; a date there is not understood and left out.
    pub(crate) retry_after: Option<u64>,
    /// Whether the connection may be used again.
    pub(crate) keep_alive: bool,
    pub(crate) body: Vec<u8>,
    /// Bytes read for it, head included.
    pub(crate) bytes: u64,
}

/// How a body ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Framing {
    Length(u64),
    Chunked,
    Close,
}

/// Sends one request and reads its response whole.
pub(crate) async fn exchange<S>(stream: &mut S, request: &[u8]) -> io::Result<Response>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    stream.write_all(request).await?;
    stream.flush().await?;
    let mut reader = Reader { stream, buffer: Vec::with_capacity(READ_BYTES), at: 0, bytes: 0 };
    let (mut response, framing) = loop {
        let (response, framing) = reader.head().await?;
        // Interim responses come before the real one (RFC 9110, section 15.2).
        if response.status >= 200 {
            break (response, framing);
        }
    };
    match framing {
        Framing::Length(length) => reader.take(length, &mut response.body).await?,
        Framing::Chunked => reader.chunks(&mut response.body).await?,
        Framing::Close => reader.rest(&mut response.body).await?,
    }
    // Bytes nobody asked for mean that the two sides disagree about where responses end.
    response.keep_alive &= framing != Framing::Close && reader.at == reader.buffer.len();
    response.bytes = reader.bytes;
    Ok(response)
}

struct Reader<'a, S> {
    stream: &'a mut S,
    buffer: Vec<u8>,
    /// What of the buffer is used up.
    at: usize,
    bytes: u64,
}

impl<S: AsyncRead + Unpin> Reader<'_, S> {
    /// Reads more; an end of the stream here is one in the middle of something.
    async fn more(&mut self) -> io::Result<()> {
        match self.read().await? {
            0 => Err(ErrorKind::UnexpectedEof.into()),
            _ => Ok(()),
        }
    }

    async fn read(&mut self) -> io::Result<usize> {
        if self.at == self.buffer.len() {
            self.buffer.clear();
            self.at = 0;
        }
        self.buffer.reserve(READ_BYTES);
        let read = self.stream.read_buf(&mut self.buffer).await?;
        self.bytes += read as u64;
        Ok(read)
    }

    async fn head(&mut self) -> io::Result<(Response, Framing)> {
        loop {
            if let Some((length, response, framing)) = parse_head(&self.buffer[self.at..])? {
                self.at += length;
                return Ok((response, framing));
            }
            if self.buffer.len() - self.at > MAX_HEAD_BYTES {
                return Err(invalid("the head is too long"));
            }
            self.more().await?;
        }
    }

    async fn take(&mut self, length: u64, body: &mut Vec<u8>) -> io::Result<()> {
        if length > MAX_BODY_BYTES {
            return Err(invalid("the body is too long"));
        }
        let mut remaining = length;
        while remaining > 0 {
            if self.at == self.buffer.len() {
                self.more().await?;
            }
            let available = self.buffer.len() - self.at;
            let taken = usize::try_from(remaining).unwrap_or(usize::MAX).min(available);
            keep(body, &self.buffer[self.at..self.at + taken]);
            self.at += taken;
            remaining -= taken as u64;
        }
        Ok(())
    }

    async fn chunks(&mut self, body: &mut Vec<u8>) -> io::Result<()> {
        let mut total = 0;
        loop {
            let size = self.chunk_size().await?;
            total += size;
            if total > MAX_BODY_BYTES {
                return Err(invalid("the body is too long"));
            }
            self.take(size, body).await?;
            let mut end = Vec::new();
            self.take(2, &mut end).await?;
            if end != b"\r\n" {
                return Err(invalid("a chunk has no end, or a trailer follows it"));
            }
            if size == 0 {
                return Ok(());
            }
        }
    }

    async fn chunk_size(&mut self) -> io::Result<u64> {
        loop {
            match httparse::parse_chunk_size(&self.buffer[self.at..]) {
                Ok(httparse::Status::Complete((length, size))) => {
                    self.at += length;
                    return Ok(size);
                }
                Ok(httparse::Status::Partial) if self.buffer.len() - self.at <= MAX_HEAD_BYTES => self.more().await?,
                Ok(httparse::Status::Partial) | Err(_) => return Err(invalid("a chunk has no size")),
            }
        }
    }

    async fn rest(&mut self, body: &mut Vec<u8>) -> io::Result<()> {
        loop {
            keep(body, &self.buffer[self.at..]);
            self.at = self.buffer.len();
            if self.bytes > MAX_BODY_BYTES {
                return Err(invalid("the body is too long"));
            }
            if self.read().await? == 0 {
                return Ok(());
            }
        }
    }
}

/// The length of the head, what it says, and how the body ends; none while the head is not all there.
fn parse_head(bytes: &[u8]) -> io::Result<Option<(usize, Response, Framing)>> {
    let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut head = httparse::Response::new(&mut headers);
    let length = match head.parse(bytes) {
        Ok(httparse::Status::Complete(length)) => length,
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(error) => return Err(invalid(&error.to_string())),
    };
    let status = head.code.unwrap_or(0);
    let mut response = Response { status, keep_alive: head.version == Some(1), ..Response::default() };
    // Without a length the body goes on to the end of the connection (RFC 9112, section 6.3).
    let mut framing = Framing::Close;
    for header in head.headers.iter() {
        let value = std::str::from_utf8(header.value).unwrap_or("").trim();
        match header.name.to_ascii_lowercase().as_str() {
            "content-length" if framing != Framing::Chunked => {
                framing = Framing::Length(value.parse().map_err(|_| invalid("the length is no number"))?);
            }
            "transfer-encoding" if value.eq_ignore_ascii_case("chunked") => framing = Framing::Chunked,
            "connection" if value.eq_ignore_ascii_case("close") => response.keep_alive = false,
            "etag" => response.etag = Some(value.into()),
            "retry-after" => response.retry_after = value.parse().ok(),
            _ => {}
        }
    }
    if status < 200 || status == 204 || status == 304 {
        framing = Framing::Length(0);
    }
    Ok(Some((length, response, framing)))
}

fn keep(body: &mut Vec<u8>, piece: &[u8]) {
    let room = KEPT_BODY_BYTES.saturating_sub(body.len());
    body.extend_from_slice(&piece[..piece.len().min(room)]);
}

fn invalid(reason: &str) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, reason)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The response to one request, sent in pieces of `piece` bytes, and whether the stream then ends.
    async fn read(text: &str, piece: usize, ends: bool) -> io::Result<Response> {
        let (mut client, mut server) = tokio::io::duplex(piece);
        let text = text.to_owned();
        let writer = tokio::spawn(async move {
            let mut request = [0; 4];
            server.read_exact(&mut request).await.unwrap();
            server.write_all(text.as_bytes()).await.unwrap();
            (!ends).then_some(server)
        });
        let response = exchange(&mut client, b"ask!").await;
        writer.abort();
        response
    }

    #[tokio::test]
    async fn a_body_of_known_length_leaves_the_connection_usable() {
        for piece in [1, 7, 4096] {
            let text = "HTTP/1.1 200 OK\r\nETag: \"v1\"\r\nContent-Length: 5\r\n\r\n12345";
            let response = read(text, piece, false).await.unwrap();
            assert_eq!((response.status, response.etag.as_deref()), (200, Some("\"v1\"")));
            assert_eq!(response.body, b"12345");
            assert!(response.keep_alive);
            assert_eq!(response.bytes, text.len() as u64);
        }
    }

    #[tokio::test]
    async fn chunks_are_put_together_however_they_are_cut() {
        for piece in [1, 4096] {
            let text = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2;x=y\r\nde\r\n0\r\n\r\n";
            let response = read(text, piece, false).await.unwrap();
            assert_eq!(response.body, b"abcde");
            assert!(response.keep_alive);
        }
    }

    #[tokio::test]
    async fn a_body_without_length_ends_with_the_connection() {
        let response = read("HTTP/1.1 200 OK\r\n\r\nabc", 4096, true).await.unwrap();
        assert_eq!(response.body, b"abc");
        assert!(!response.keep_alive);
    }

    #[tokio::test]
    async fn interim_responses_and_bodiless_ones_are_told_apart() {
        let text = "HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n";
        let response = read(text, 4096, false).await.unwrap();
        assert_eq!((response.status, response.keep_alive), (304, true));
    }

    #[tokio::test]
    async fn a_response_that_breaks_off_is_an_error() {
        for text in ["", "HTTP/1.1 200", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n123"] {
            assert_eq!(read(text, 4096, true).await.unwrap_err().kind(), ErrorKind::UnexpectedEof);
        }
    }

    #[tokio::test]
    async fn bytes_after_the_response_end_the_connection() {
        let text = "HTTP/1.1 503 Busy\r\nRetry-After: 7\r\nContent-Length: 0\r\n\r\nHTTP/1.1 200";
        let response = read(text, 4096, false).await.unwrap();
        assert_eq!((response.retry_after, response.keep_alive), (Some(7), false));
    }
}
