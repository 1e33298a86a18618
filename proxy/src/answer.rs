//! An answer's body: whole in memory, or a stream that is read as fast as its agent takes it.
//!
//! The pure crates know answers whose body is bytes ([`weir_logic::Answer`]); here is the kind that the gateway writes. Where the
//! bytes of a stream come from is its maker's: a reader of `cache::packages` today.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use futures::stream::BoxStream;
use http::header::AGE;
use weir_logic::cache::{CACHE_STATUS, CacheStatus, age};
use weir_logic::{Fields, Lender, Outcome};

/// An answer as the gateway writes it.
pub type Answer = weir_logic::Answer<Body>;

/// The body of an answer.
#[derive(Debug)]
pub enum Body {
    /// All of it.
    Whole(Bytes),
    /// It comes piece by piece.
    Stream(Stream),
}

/// A fresh stored answer, given without a word to anyone: most of what agents are given. It is an answer like any other, of which
/// nothing has been written down yet that can be written straight to the agent.
#[derive(Debug)]
pub struct Hit {
    /// The status.
    pub status: u16,
    /// Who has its headers.
    pub lender: Arc<dyn Lender>,
    /// How many of the lender's are given, from the first on.
    pub fields: usize,
    /// The body; empty where the status says that there is none.
    pub body: Bytes,
    /// The length of the body as it would answer `GET`.
    pub length: u64,
    /// Its `Age`.
    pub age: Duration,
    /// Whole seconds for which it is still fresh: `ttl` of `Cache-Status`.
    pub ttl: i64,
}

impl Hit {
    /// Makes it the answer to `HEAD`, whose writer does not know the method.
    pub fn withhold_body(&mut self) {
        self.body = Bytes::new();
    }
}

impl From<Hit> for Answer {
    fn from(hit: Hit) -> Self {
        let Hit { status, lender, fields, body, length: _, age: old, ttl } = hit;
        let headers = Fields::lent(lender, fields, OWN_FIELDS);
        Self { status, headers, body: body.into(), outcome: Outcome::Hit, cause: None, wait: None }
            .with(AGE, age(old))
            .with(CACHE_STATUS, CacheStatus::hit(ttl).value())
    }
}

/// `Age` and `Cache-Status`, and one that whoever writes the answer may add.
const OWN_FIELDS: usize = 3;

/// A body that comes piece by piece, each when it is asked for. Dropping it ends whatever reads for it.
pub struct Stream {
    length: Option<u64>,
    pieces: BoxStream<'static, Result<Bytes, Cut>>,
}

/// A stream ended before its body did: what the agent has is not the whole, and it must be told so by the way its connection ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the body broke off")]
pub struct Cut;

/// The answer with its body as bytes, if that is what it is; the same answer if not.
pub fn whole(mut answer: Answer) -> Result<weir_logic::Answer, Answer> {
    match std::mem::replace(&mut answer.body, Body::Whole(Bytes::new())) {
        Body::Whole(body) => Ok(answer.map_body(|_| body)),
        streamed @ Body::Stream(_) => Err(answer.map_body(|_| streamed)),
    }
}

impl Body {
    /// The length in bytes; `None` where it will be known at the end only.
    pub fn length(&self) -> Option<u64> {
        match self {
            Self::Whole(bytes) => Some(bytes.len() as u64),
            Self::Stream(stream) => stream.length,
        }
    }

    /// All of it in memory, in tests.
    #[cfg(test)]
    pub(crate) async fn gather(self) -> Result<Bytes, Cut> {
        let mut stream = match self {
            Self::Whole(bytes) => return Ok(bytes),
            Self::Stream(stream) => stream,
        };
        let mut whole = Vec::new();
        while let Some(piece) = stream.next().await {
            whole.extend_from_slice(&piece?);
        }
        Ok(whole.into())
    }
}

impl From<Bytes> for Body {
    fn from(bytes: Bytes) -> Self {
        Self::Whole(bytes)
    }
}

impl Stream {
    /// A stream of `length` bytes, where that is known. The pieces must add up to it or end with [`Cut`].
    pub fn new(length: Option<u64>, pieces: impl futures::Stream<Item = Result<Bytes, Cut>> + Send + 'static) -> Self {
        Self { length, pieces: pieces.boxed() }
    }

    /// The next piece, which is not empty; `None` at the end.
    pub async fn next(&mut self) -> Option<Result<Bytes, Cut>> {
        self.pieces.next().await
    }
}

impl fmt::Debug for Stream {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Stream").field("length", &self.length).finish_non_exhaustive()
    }
}
