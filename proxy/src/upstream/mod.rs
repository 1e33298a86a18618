//! The side that faces the core: one gate, one pool and one set of peers for each core.
//!
//! Actions see [`Origin`] only: they say what to ask and get an answer or the reason why there is none. They know nothing of
//! peers, pools, breakers or pingora. [`Upstream`] is the origin that stands on pingora's connectors:
//!
//! - `cores` is its face: one [`Origin`] over all cores of the configuration, reloads, status;
//! - `flows` tells its callers apart, `turnstile` holds the queue before a core's gate, whose policy is [`weir_logic::gate`];
//! - `peers` knows a core's machines, their addresses and their health, `health` asks them;
//! - `dial` turns the operator's words into connectors and peers, `exchange` carries one request over one connection, `opened` reads
//!   its answer's body, `judge` says what its end means for the gate.
//!
//! Not here: what an answer means (`cache`, `lookup`, the batches' sender), and the streaming of forwarded requests, which
//! pingora's proxy does with a [`ForwardPermit`] and a peer from here.

mod cores;
mod dial;
mod exchange;
mod flows;
mod health;
mod judge;
mod opened;
mod peers;
mod permit;
#[cfg(test)]
mod tests;
mod turnstile;

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;
use futures::stream::{self, BoxStream};
use http::header::{HeaderName, HeaderValue};
use http::{HeaderMap, Method, StatusCode};
use weir_config::{Class, CoreId};
use weir_logic::Refusal;

pub use cores::{CoreStatus, Machine, PeerStatus, Upstream};
pub use dial::DialError;
pub use exchange::announced_length;
pub use permit::ForwardPermit;
pub use weir_logic::gate::Rank;

/// A core as actions see it.
#[async_trait]
pub trait Origin: Send + Sync {
    /// Sends one request through the core's gate and reads the whole answer. Any status is an answer; what it means is the
    /// caller's to say.
    async fn send(&self, request: OriginRequest) -> Result<OriginAnswer, OriginError>;

    /// The same, but for the body, which comes piece by piece as it is asked for. The gate's room is held to the last of them, so
    /// whoever reads must not be slow. An origin that does not stream gives the whole as one piece.
    async fn open(&self, request: OriginRequest) -> Result<OriginStream, OriginError> {
        let OriginAnswer { status, headers, body } = self.send(request).await?;
        Ok(OriginStream { status, headers, body: stream::iter([Ok(body)]).boxed() })
    }

    /// Whether the core's gate has a line that is too long for a request of this class which has another answer to fall back on:
    /// one of [`Patience::Short`] would be turned away. An origin without a line is never crowded.
    fn is_crowded(&self, _core: CoreId, _class: Class) -> bool {
        false
    }
}

/// One request to a core: a fill, a bulk lookup, a batch, a report.
#[derive(Clone, Debug)]
pub struct OriginRequest {
    /// Which core.
    pub core: CoreId,
    /// The route or stream on whose behalf; a label in metrics.
    pub label: std::sync::Arc<str>,
    /// The rank at the gate.
    pub rank: Rank,
    /// The method.
    pub method: Method,
    /// The path and query.
    pub target: String,
    /// The headers; `Host` and `Content-Length` are set by the sender.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// The body.
    pub body: Bytes,
    /// Bytes of the answer's body, at most.
    pub max_answer_bytes: usize,
    /// How long it may stand in line.
    pub patience: Patience,
    /// Whether the request may be sent again after it may have reached the core: its repetition does no harm.
    pub repeatable: bool,
    /// Whether it was sent before.
    pub sending: Sending,
}

/// Whether the core may have seen a request before. What is sent again pays for nobody's retries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sending {
    /// It has not.
    First,
    /// It failed before, and its sender sends it once more.
    Again,
}

/// How long a request may stand in line at a core's gate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Patience {
    /// Up to the core's `max_wait`: there is no other answer.
    #[default]
    Whole,
    /// An eighth of it: there is another answer to fall back on.
    Short,
}

/// A core's whole answer.
#[derive(Clone, Debug)]
pub struct OriginAnswer {
    /// The status.
    pub status: StatusCode,
    /// The headers.
    pub headers: HeaderMap,
    /// The body, complete, in memory of just its size.
    pub body: Bytes,
}

/// A core's answer, whose body is on its way.
pub struct OriginStream {
    /// The status.
    pub status: StatusCode,
    /// The headers.
    pub headers: HeaderMap,
    /// The body's pieces. After an error there is none. Dropped before the end, the core is not listened to any more.
    pub body: BoxStream<'static, Result<Bytes, OriginError>>,
}

/// Why a core gave no usable answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OriginError {
    /// The gate is closed: the breaker is open or the core has asked for rest.
    #[error("the core is resting, next try in {0:?}")]
    Resting(Duration),
    /// The gate stayed full for as long as a request may wait.
    #[error("no room at the gate to the core")]
    Full,
    /// No peer took the connection.
    #[error("no connection to the core")]
    Connect,
    /// The answer did not arrive in time.
    #[error("the core did not answer in time")]
    Timeout,
    /// The connection broke before the whole answer was there.
    #[error("the connection to the core broke")]
    Broken,
    /// The answer's body is longer than the caller takes.
    #[error("the core's answer is longer than {0} bytes")]
    TooLarge(usize),
}

impl OriginError {
    /// The label in metrics and logs.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Resting(_) => "resting",
            Self::Full => "full",
            Self::Connect => "connect",
            Self::Timeout => "timeout",
            Self::Broken => "broken",
            Self::TooLarge(_) => "too_large",
        }
    }

    /// What an agent is told when nothing better can be said.
    pub const fn refusal(self) -> Refusal {
        match self {
            Self::Resting(_) | Self::Full | Self::Connect => Refusal::CoreUnavailable,
            Self::Timeout => Refusal::CoreTimeout,
            Self::Broken | Self::TooLarge(_) => Refusal::CoreBroken,
        }
    }

    /// The time before which another try is pointless, where the core or its breaker has named one.
    pub const fn rest(self) -> Option<Duration> {
        match self {
            Self::Resting(rest) => Some(rest),
            _ => None,
        }
    }
}
