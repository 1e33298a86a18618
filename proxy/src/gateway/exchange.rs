//! What the walk of a request needs of whoever has read it: the same for a session of pingora's and for a plain request of HTTP/1.1, so
//! that both are walked by the same code.

use std::error::Error;
use std::fmt;
use std::future::Future;

use bytes::Bytes;
use weir_logic::Headers;

use super::body::BodyError;
use crate::answer::Answer;

/// A request on its connection, and the way back to its agent.
pub(super) trait Exchange: Send {
    /// The headers.
    fn headers(&self) -> &dyn Headers;

    /// The length of the body that the header section states; it was checked to be one plain number when the request came in.
    fn declared_length(&self) -> Option<u64> {
        self.headers().text("content-length")?.parse().ok()
    }

    /// Whether the agent sends its body only once it is told to (RFC 9110, section 10.1.1), and has not sent any. Requests of
    /// HTTP/1.1 ask so.
    fn waits_for_continue(&self) -> bool {
        self.body_read() == 0
            && self.headers().first("expect").is_some_and(|value| value.eq_ignore_ascii_case(b"100-continue"))
            && self.is_http11()
    }

    /// Whether the request is one of HTTP/1.1.
    fn is_http11(&self) -> bool;

    /// Tells it to.
    fn tell_to_continue(&mut self) -> impl Future<Output = Result<(), BodyError>> + Send;

    /// The next piece of the body; `None` at its end.
    fn next_piece(&mut self) -> impl Future<Output = Result<Option<Bytes>, BodyError>> + Send;

    /// Whether the body has been read to its end.
    fn is_body_done(&mut self) -> bool;

    /// Bytes of the body that have been read.
    fn body_read(&self) -> u64;

    /// Whether the request has a connection to itself that is to live on after it.
    fn is_kept(&self) -> bool;

    /// Has such a connection end with the answer.
    fn close_after(&mut self);

    /// Writes the whole answer, or as much of it as there is. Bytes of its body are counted in `written` as they are handed over.
    fn write(&mut self, answer: Answer, written: &mut u64) -> impl Future<Output = Result<(), Unwritten>> + Send;
}

/// Why an answer was not written to its end.
#[derive(Debug)]
pub(super) enum Unwritten {
    /// The agent has left.
    Gone(Box<dyn Error + Send + Sync>),
    /// Its body broke off. The agent has been told so: a connection of HTTP/1.1 is closed, a stream of HTTP/2 reset.
    Cut,
}

impl fmt::Display for Unwritten {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Gone(error) => error.fmt(formatter),
            Self::Cut => formatter.write_str("the answer's body broke off"),
        }
    }
}
