//! A prepared answer: what an action gives back, whichever way it will be written.

use std::time::Duration;

use bytes::Bytes;
use http::header::{HeaderName, HeaderValue};

use crate::{Cause, Fields, Outcome};

/// An answer ready to be written. `Content-Length`, `Date` and connection headers are the writer's. The body is bytes here; whoever
/// can stream puts something else in its place.
#[derive(Clone, Debug)]
#[must_use]
pub struct Answer<B = Bytes> {
    /// The status.
    pub status: u16,
    /// The headers, in order.
    pub headers: Fields,
    /// The body as it would answer `GET`; the writer leaves it out for `HEAD`, 204 and 304.
    pub body: B,
    /// How the request ended: exactly one outcome for each request.
    pub outcome: Outcome,
    /// Why it is stale or went past the cache.
    pub cause: Option<Cause>,
    /// When the agent shall come back, where the answer asks for patience: the writer makes a `Retry-After` of it.
    pub wait: Option<Wait>,
}

/// When an agent shall come back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// At a time of its own, and not before this long.
    AtLeast(Duration),
    /// At a time of its own, spread over half of this, and not before this long: the operator's word.
    Calm(Duration),
    /// After this long, rounded up to seconds.
    Exactly(Duration),
}

impl Answer {
    /// An answer without headers or body.
    pub fn empty(status: u16, outcome: Outcome) -> Self {
        Self { status, headers: Fields::default(), body: Bytes::new(), outcome, cause: None, wait: None }
    }
}

impl<B> Answer<B> {
    /// The same answer with its body in another form.
    pub fn map_body<C>(self, form: impl FnOnce(B) -> C) -> Answer<C> {
        let Self { status, headers, body, outcome, cause, wait } = self;
        Answer { status, headers, body: form(body), outcome, cause, wait }
    }

    /// The answer with one more header.
    pub fn with(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.push((name, value));
        self
    }

    /// The answer with the reason why it is stale or went past the cache.
    pub fn because(mut self, cause: Cause) -> Self {
        self.cause = Some(cause);
        self
    }

    /// The first value of that header.
    pub fn header(&self, name: &HeaderName) -> Option<&HeaderValue> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value)
    }
}
