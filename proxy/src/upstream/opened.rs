//! An exchange whose answer has begun: its body is read here, as a whole or piece by piece.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use futures::stream::try_unfold;
use http::header::{HeaderValue, RETRY_AFTER};
use http::{HeaderMap, StatusCode};
use pingora::http::RequestHeader;
use pingora::protocols::http::client::HttpSession;
use pingora::upstreams::peer::HttpPeer;

use super::cores::Settings;
use super::exchange::{self, Begun};
use super::permit::ForwardPermit;
use super::{OriginAnswer, OriginError, OriginStream};
use crate::clock::Clock;

/// An answer whose head is there. Dropped before the body's end, it closes the connection, or resets the stream of HTTP/2.
pub(super) struct Opened {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    /// From the last byte of the request to the head.
    waited: Duration,
    session: HttpSession,
    settings: Arc<Settings>,
    /// Where the connection belongs when the answer is over.
    pool: HttpPeer,
    reusable: bool,
}

/// A whole answer, and how soon it began to come.
pub(super) struct Exchanged {
    pub(super) answer: OriginAnswer,
    /// From the last byte of the request to the header section of the answer: what the core has to do with. How long bodies take
    /// says more of their length and of the network.
    pub(super) waited: Duration,
}

/// A body on its way, with the permit that is given back when its last byte has come.
pub(super) struct Transfer {
    opened: Opened,
    permit: ForwardPermit,
    /// The longest silence.
    patience: Duration,
    /// Bytes that may come, and how many of them have not.
    bound: usize,
    left: usize,
}

impl Opened {
    /// Sends the request over `session` and reads the answer's head.
    pub(super) async fn over(
        mut session: HttpSession,
        settings: &Arc<Settings>,
        pool: &HttpPeer,
        (head, body): (RequestHeader, &Bytes),
        clock: Clock,
    ) -> Result<Self, OriginError> {
        let tls = settings.core.tls.is_some();
        let Begun { status, headers, waited, reusable } = exchange::begin(&mut session, head, tls, body, clock).await?;
        Ok(Self { status, headers, waited, session, settings: Arc::clone(settings), pool: pool.clone(), reusable })
    }

    /// Reads the body to its end.
    pub(super) async fn whole(mut self, max_bytes: usize) -> Result<Exchanged, OriginError> {
        let body = exchange::read_body(&mut self.session, max_bytes).await?;
        let answer = OriginAnswer { status: self.status, headers: std::mem::take(&mut self.headers), body };
        let waited = self.waited;
        self.release().await;
        Ok(Exchanged { answer, waited })
    }

    async fn release(self) {
        if self.reusable {
            let idle = Some(self.settings.core.idle_timeout);
            self.settings.dialer.connector.release_http_session(self.session, &self.pool, idle).await;
        }
    }
}

impl Transfer {
    /// An answer whose head has just come. Its body may be `bound` bytes long and silent for `patience`.
    pub(super) fn new(opened: Opened, permit: ForwardPermit, patience: Duration, bound: usize) -> Self {
        permit.head_came(opened.status);
        Self { opened, permit, patience, bound, left: bound }
    }

    /// The answer as a stream. The gate is told when the last piece has come or the body has broken off; of one that nobody reads
    /// to its end it hears nothing but that the room is free.
    pub(super) fn into_stream(self) -> OriginStream {
        let (status, headers) = (self.opened.status, self.opened.headers.clone());
        OriginStream { status, headers, body: try_unfold(self, Self::step).boxed() }
    }

    async fn step(mut self) -> Result<Option<(Bytes, Self)>, OriginError> {
        match self.next().await {
            Ok(Some(piece)) => Ok(Some((piece, self))),
            Ok(None) => {
                let retry_after = self.opened.headers.get(RETRY_AFTER).map(HeaderValue::as_bytes);
                self.permit.read(self.opened.status, retry_after, self.opened.waited);
                self.opened.release().await;
                Ok(None)
            }
            Err(error) => {
                self.permit.failed(error);
                Err(error)
            }
        }
    }

    async fn next(&mut self) -> Result<Option<Bytes>, OriginError> {
        let piece = tokio::time::timeout(self.patience, exchange::read_piece(&mut self.opened.session));
        let piece = piece.await.unwrap_or(Err(OriginError::Timeout))?;
        let length = piece.as_ref().map_or(0, Bytes::len);
        self.left = self.left.checked_sub(length).ok_or(OriginError::TooLarge(self.bound))?;
        Ok(piece)
    }
}
