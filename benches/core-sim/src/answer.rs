//! Answers and their bodies: whole, cut off in the middle, or dripping.

use std::convert::Infallible;
use std::error::Error;
use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use hyper::body::{Body, Frame, SizeHint};
use serde_json::Value;
use tokio::time::{Instant, Sleep, sleep};

use crate::content::Document;
use crate::endpoints::Package;

/// An answer on its way.
pub(crate) type Answer = Response<AnswerBody>;

/// The connection ends here: nothing more is said on it.
#[derive(Debug)]
pub(crate) struct Gone;

impl fmt::Display for Gone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the core went away, as it was told to")
    }
}

impl Error for Gone {}

impl From<Infallible> for Gone {
    fn from(never: Infallible) -> Self {
        match never {}
    }
}

/// The body of an answer.
#[derive(Debug)]
pub(crate) enum AnswerBody {
    /// All at once.
    Whole(Bytes),
    /// The first half of what the length promises, then the end of the connection.
    Cut { half: Bytes, promised: u64 },
    /// Pieces with pauses between.
    Drip(Drip),
    /// A package.
    Package(Package),
}

/// A body of `remaining` bytes in pieces.
#[derive(Debug)]
pub(crate) struct Drip {
    remaining: u64,
    piece: Bytes,
    pause: Duration,
    timer: Pin<Box<Sleep>>,
}

impl Drip {
    pub(crate) fn new(bytes: u64, piece_bytes: usize, pause: Duration) -> Self {
        let piece: Vec<u8> = (b'a'..=b'z').cycle().take(piece_bytes.max(1)).collect();
        Self { remaining: bytes, piece: piece.into(), pause, timer: Box::pin(sleep(Duration::ZERO)) }
    }

    fn poll_piece(&mut self, context: &mut Context<'_>) -> Poll<Option<Bytes>> {
        if self.remaining == 0 {
            return Poll::Ready(None);
        }
        if !self.pause.is_zero() {
            ready!(self.timer.as_mut().poll(context));
            self.timer.as_mut().reset(Instant::now() + self.pause);
        }
        let length = usize::try_from(self.remaining).unwrap_or(usize::MAX).min(self.piece.len());
        self.remaining -= length as u64;
        Poll::Ready(Some(self.piece.slice(..length)))
    }
}

impl AnswerBody {
    fn cut(self) -> Self {
        let bytes = match self {
            Self::Whole(bytes) => bytes,
            Self::Package(package) => return Self::Package(package.cut()),
            other => return other,
        };
        let promised = (bytes.len() as u64).max(2);
        Self::Cut { half: bytes.slice(..bytes.len() / 2), promised }
    }
}

impl Body for AnswerBody {
    type Data = Bytes;
    type Error = Gone;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        match &mut *self {
            Self::Whole(bytes) if bytes.is_empty() => Poll::Ready(None),
            Self::Whole(bytes) => Poll::Ready(Some(Ok(Frame::data(std::mem::take(bytes))))),
            Self::Cut { half, .. } if half.is_empty() => Poll::Ready(Some(Err(Gone))),
            Self::Cut { half, .. } => Poll::Ready(Some(Ok(Frame::data(std::mem::take(half))))),
            Self::Drip(drip) => drip.poll_piece(context).map(|piece| piece.map(|bytes| Ok(Frame::data(bytes)))),
            Self::Package(package) => {
                package.poll_piece(context).map(|piece| piece.map(|piece| piece.map(Frame::data).map_err(|()| Gone)))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, Self::Whole(bytes) if bytes.is_empty())
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Self::Cut { promised, .. } => SizeHint::with_exact(*promised),
            Self::Drip(drip) => SizeHint::with_exact(drip.remaining),
            Self::Package(package) => SizeHint::with_exact(package.remaining()),
        }
    }
}

/// An answer that breaks off half way.
pub(crate) fn cut(answer: Answer) -> Answer {
    answer.map(AnswerBody::cut)
}

/// An answer without a body.
pub(crate) fn empty(status: StatusCode) -> Answer {
    let mut answer = Response::new(AnswerBody::Whole(Bytes::new()));
    *answer.status_mut() = status;
    answer
}

/// An answer in JSON.
pub(crate) fn json(status: StatusCode, body: impl Into<Bytes>) -> Answer {
    let mut answer = Response::new(AnswerBody::Whole(body.into()));
    *answer.status_mut() = status;
    answer.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    answer
}

/// A refusal that says why.
pub(crate) fn refusal(status: StatusCode, reason: &str) -> Answer {
    json(status, Value::from_iter([("error", reason)]).to_string())
}

/// A document, or 304 when the caller holds it already (RFC 9110, section 13.2.2).
pub(crate) fn conditional(request: &HeaderMap, document: Document, last_modified: Option<&str>) -> Answer {
    let current = match request.get(header::IF_NONE_MATCH) {
        Some(held) => names(held, &document.etag),
        None => {
            last_modified.is_some_and(|time| request.get(header::IF_MODIFIED_SINCE).is_some_and(|held| held == time))
        }
    };
    let mut answer = if current { empty(StatusCode::NOT_MODIFIED) } else { json(StatusCode::OK, document.body) };
    let headers = answer.headers_mut();
    if let Ok(etag) = HeaderValue::from_str(&document.etag) {
        headers.insert(header::ETAG, etag);
    }
    if let Some(time) = last_modified.and_then(|time| HeaderValue::from_str(time).ok()) {
        headers.insert(header::LAST_MODIFIED, time);
    }
    answer
}

/// Whether an `If-None-Match` names this tag; compared weakly, as the header asks for (RFC 9110, section 13.1.2).
pub(crate) fn names(held: &HeaderValue, etag: &str) -> bool {
    let Ok(held) = held.to_str() else { return false };
    held.trim() == "*" || held.split(',').any(|tag| tag.trim().trim_start_matches("W/") == etag)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn document() -> Document {
        Document { etag: "\"v1\"".into(), body: "{}".into() }
    }

    #[test]
    fn a_known_tag_is_answered_304_with_the_tag() {
        for held in ["\"v1\"", "W/\"v1\"", "\"v0\", \"v1\"", "*"] {
            let request = HeaderMap::from_iter([(header::IF_NONE_MATCH, HeaderValue::from_static(held))]);
            let answer = conditional(&request, document(), None);
            assert_eq!(answer.status(), 304, "{held}");
            assert_eq!(answer.headers()[header::ETAG], "\"v1\"");
        }
    }

    #[test]
    fn a_tag_that_differs_outranks_an_equal_time() {
        let time = "Sun, 06 Nov 1994 08:49:37 GMT";
        let mut request = HeaderMap::from_iter([(header::IF_MODIFIED_SINCE, HeaderValue::from_static(time))]);
        assert_eq!(conditional(&request, document(), Some(time)).status(), 304);
        request.insert(header::IF_NONE_MATCH, HeaderValue::from_static("\"v0\""));
        assert_eq!(conditional(&request, document(), Some(time)).status(), 200);
    }

    #[test]
    fn a_cut_body_promises_more_than_it_gives() {
        let AnswerBody::Cut { half, promised } = AnswerBody::Whole(Bytes::from_static(b"1234")).cut() else {
            panic!("not cut");
        };
        assert_eq!((half.as_ref(), promised), (&b"12"[..], 4));
    }
}
