//! Requests that are answered without pingora's proxy: those of HTTP/1.1 without a session of pingora's either, and what whoever answers
//! them has of the connection.
//!
//! Which requests those are is for the [`Shortcut`] to say. What it leaves alone goes to pingora with every byte as it came.

use std::io;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use futures::future::BoxFuture;
use pingora::protocols::http::v2::server::HttpSession;
use weir_logic::strict::head::Head;

use super::connection::Connection;
use super::wire::Wire;

/// Answers requests itself, or leaves them to pingora's proxy.
pub trait Shortcut: Send + Sync {
    /// Answers the request of HTTP/1.1, says how it will be, or leaves it as it came. `head` is what was found in its header section.
    fn serve<'r>(&'r self, connection: &'r Arc<Connection>, head: Head, request: Plain<'r>) -> Served<'r>;

    /// Answers the request of a stream of HTTP/2, says how it will be, or gives it back as it came.
    fn serve_stream(&self, connection: &Arc<Connection>, request: HttpSession) -> Streamed;
}

/// What has become of a request.
#[must_use]
pub enum Served<'r> {
    /// It has been answered, or its agent has left.
    Done(Plain<'r>),
    /// It will have been when this is over.
    Later(BoxFuture<'r, Plain<'r>>),
    /// Nothing of it has been used: it is for pingora.
    No,
}

/// What has become of the request of a stream.
#[must_use]
pub enum Streamed {
    /// It has been answered, or its agent has left.
    Done,
    /// It will have been when this is over.
    Later(BoxFuture<'static, ()>),
    /// It is for pingora's proxy.
    No(Box<HttpSession>),
}

/// A request of HTTP/1.1 whose header section has arrived and has been checked, and whose body, if any, has a stated length.
pub struct Plain<'a> {
    wire: &'a mut Wire,
    /// What has been read: the header section, and what came with it.
    bytes: &'a [u8],
    head: usize,
    /// How many of these bytes belong to what has been taken of the request.
    used: usize,
    length: u64,
    left: u64,
    keeps: bool,
}

impl<'a> Plain<'a> {
    /// The request at the beginning of `bytes`, of which nothing has been used: a header section of `head` bytes, then a body of
    /// `length`.
    pub(super) fn new(wire: &'a mut Wire, bytes: &'a [u8], head: usize, length: u64) -> Self {
        Self { wire, bytes, head, used: head, length, left: length, keeps: true }
    }

    /// The header section, its empty line included.
    pub fn head(&self) -> &'a [u8] {
        &self.bytes[..self.head]
    }

    /// Bytes of the body that have been read.
    pub fn body_read(&self) -> u64 {
        self.length - self.left
    }

    /// Whether the whole body has been read.
    pub fn is_body_done(&self) -> bool {
        self.left == 0
    }

    /// The next piece of the body: all that is left of it, or 16 KiB; `None` at its end.
    ///
    /// # Errors
    /// When the agent leaves before.
    pub async fn read_body(&mut self) -> io::Result<Option<Bytes>> {
        if self.left == 0 {
            return Ok(None);
        }
        let wanted = usize::try_from(self.left).unwrap_or(usize::MAX).min(MAX_PIECE);
        let here = &self.bytes[self.used..];
        let here = &here[..here.len().min(wanted)];
        self.took(here.len());
        self.used += here.len();
        if here.len() == wanted {
            return Ok(Some(Bytes::copy_from_slice(here)));
        }
        let mut piece = BytesMut::with_capacity(wanted);
        piece.extend_from_slice(here);
        while piece.len() < wanted {
            let missing = wanted - piece.len();
            match self.wire.read_into(&mut piece, missing).await? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                count => self.took(count),
            }
        }
        Ok(Some(piece.freeze()))
    }

    fn took(&mut self, count: usize) {
        self.left = self.left.saturating_sub(count as u64);
    }

    /// Writes both, one behind the other, and waits until the agent's side of the kernel has them.
    ///
    /// # Errors
    /// When the agent has left, or takes longer over them than the listener lets it.
    pub async fn write(&mut self, first: &[u8], second: &[u8]) -> io::Result<()> {
        self.wire.write_through(first, second).await
    }

    /// The same, and adds to `taken` how many bytes of the second the agent's side of the kernel has, however it ends.
    ///
    /// # Errors
    /// As [`Plain::write`].
    pub async fn write_counted(&mut self, first: &[u8], second: &[u8], taken: &mut u64) -> io::Result<()> {
        self.wire.write_counted(first, second, taken).await
    }

    /// Writes of both, one behind the other, what the agent's side of the kernel takes without waiting. Gives how many bytes these are, and
    /// whether all is on its way, which a later [`Plain::write`] sees to otherwise.
    ///
    /// # Errors
    /// When the agent has left.
    pub fn write_now(&mut self, first: &[u8], second: &[u8]) -> io::Result<(usize, bool)> {
        self.wire.write_now(first, second)
    }

    /// Whether the connection is to live on.
    pub fn is_kept(&self) -> bool {
        self.keeps
    }

    /// Has the connection end with this request.
    pub fn close_after(&mut self) {
        self.keeps = false;
    }

    /// How many of the bytes the request has used, and whether another may follow it.
    pub(super) fn end(self) -> (usize, bool) {
        (self.used, self.keeps && self.left == 0)
    }
}

/// Bytes of a body read at once: most uploads of agents, and what somebody who sends none of it makes the node set aside.
const MAX_PIECE: usize = 16 * 1024;
