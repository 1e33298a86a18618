//! Packages: large bodies whose every byte is known from its place, so that whoever has a part can say whether it is right.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::request::Parts;
use http::{HeaderValue, Response, StatusCode, header};
use tokio::time::{Instant, Sleep, sleep};

use super::{parameter, segment};
use crate::answer::{Answer, AnswerBody, empty, names, refusal};

/// The bytes of every package from `at` on.
pub fn package_bytes(at: u64, length: usize) -> Vec<u8> {
    (at..).take(length).map(byte).collect()
}

/// Blocks of 4 KiB, each told from the others by its number.
fn byte(at: u64) -> u8 {
    let block = (at >> 12).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56;
    u8::try_from((block ^ at) & 0xff).unwrap_or_default()
}

/// A package on its way, in pieces with pauses between.
#[derive(Debug)]
pub(crate) struct Package {
    at: u64,
    length: u64,
    /// Where the connection ends, if before the body.
    breaks_at: u64,
    pause: Duration,
    timer: Pin<Box<Sleep>>,
}

impl Package {
    fn new(at: u64, length: u64, pause: Duration) -> Self {
        Self { at, length, breaks_at: length, pause, timer: Box::pin(sleep(Duration::ZERO)) }
    }

    /// The same, but that it breaks off half way.
    pub(crate) fn cut(self) -> Self {
        Self { breaks_at: self.at + self.remaining() / 2, ..self }
    }

    pub(crate) fn remaining(&self) -> u64 {
        self.length - self.at
    }

    /// The next piece; an error where it breaks off.
    pub(crate) fn poll_piece(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Bytes, ()>>> {
        if self.at == self.breaks_at {
            return Poll::Ready((self.breaks_at < self.length).then_some(Err(())));
        }
        if !self.pause.is_zero() {
            ready!(self.timer.as_mut().poll(context));
            self.timer.as_mut().reset(Instant::now() + self.pause);
        }
        let length = usize::try_from(self.breaks_at - self.at).unwrap_or(usize::MAX).min(PIECE_BYTES);
        let piece = package_bytes(self.at, length);
        self.at += length as u64;
        Poll::Ready(Some(Ok(piece.into())))
    }
}

/// `bytes` bytes in pieces of 64 KiB with `delay_ms` between them, tagged by name and length; what follows the first of them where
/// `Range` asks for that and `If-Range` names the tag; or 304.
pub(super) fn package(parts: &Parts) -> Answer {
    let number = |name: &str, default: u64| parameter(parts, name).map_or(Ok(default), str::parse);
    let (Ok(bytes), Ok(delay)) = (number("bytes", 1 << 20), number("delay_ms", 0)) else {
        return refusal(StatusCode::BAD_REQUEST, "bytes and delay_ms are numbers");
    };
    let bytes = bytes.min(MAX_PACKAGE_BYTES);
    let etag = format!("\"{}-{bytes}\"", segment(parts, 2));
    let current = parts.headers.get(header::IF_NONE_MATCH).is_some_and(|held| names(held, &etag));
    let mut answer = if current { empty(StatusCode::NOT_MODIFIED) } else { body(bytes, from(parts, &etag), delay) };
    if let Ok(etag) = HeaderValue::from_str(&etag) {
        answer.headers_mut().insert(header::ETAG, etag);
    }
    answer
}

fn body(bytes: u64, from: Option<u64>, delay: u64) -> Answer {
    let from = from.filter(|from| *from < bytes);
    let package = Package::new(from.unwrap_or(0), bytes, Duration::from_millis(delay));
    let mut answer = Response::new(AnswerBody::Package(package));
    if let Some(from) = from {
        *answer.status_mut() = StatusCode::PARTIAL_CONTENT;
        if let Ok(range) = HeaderValue::from_str(&format!("bytes {from}-{}/{bytes}", bytes - 1)) {
            answer.headers_mut().insert(header::CONTENT_RANGE, range);
        }
    }
    answer
}

/// Where the part begins that a request wants, if it is one of this body.
fn from(parts: &Parts, etag: &str) -> Option<u64> {
    let same = parts.headers.get(header::IF_RANGE).is_some_and(|tag| tag.as_bytes() == etag.as_bytes());
    let range = parts.headers.get(header::RANGE).filter(|_| same)?.to_str().ok()?;
    range.strip_prefix("bytes=")?.strip_suffix('-')?.parse().ok()
}

const PIECE_BYTES: usize = 64 * 1024;

/// A package is this long at most.
const MAX_PACKAGE_BYTES: u64 = 1 << 30;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_is_the_same_wherever_it_is_taken_from() {
        let whole = package_bytes(0, 20_000);
        assert_eq!(package_bytes(5_000, 10_000), whole[5_000..15_000]);
        assert_ne!(whole[..4096], whole[4096..8192]);
    }
}
