//! Between pingora and the actions: each request is checked, identified, routed and admitted, then answered by its
//! action or passed through.
//!
//! There are two ways in. Plain requests of HTTP/1.1 are read and answered in `plain`; all others come through the callbacks of
//! [`ProxyHttp`] here, which are thin, and `session`. What becomes of a request is decided once for both, in `walk`, over what `exchange`
//! says of a request; requests passed through go on in [`crate::forward`].

mod action;
mod at_hand;
mod body;
mod context;
mod exchange;
mod framing;
mod plain;
mod session;
mod stream;
mod walk;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::protocols::http::v1;
use pingora::proxy::{FailToProxy, HttpProxy, ProxyHttp, ProxyWarnLogContext, Session, http_proxy};
use pingora::server::configuration::ServerConf;
use pingora::upstreams::peer::HttpPeer;
use weir_logic::Outcome;
use weir_logic::answer::Wait;

pub use action::{Action, Attendance};
pub use context::RequestContext;

use self::exchange::Exchange;
use self::plain::PlainGateway;
use self::session::Next;
use crate::accept::{Connection, Shortcut};
use crate::admission::Door;
use crate::budget::Budget;
use crate::clock::Clock;
use crate::forward::{self, Failure};
use crate::metrics::Metrics;
use crate::purging::Changes;
use crate::snapshot::SharedSnapshot;
use crate::trace::Recorder;
use crate::upstream::Upstream;

/// Everything that the gateway needs of the others.
pub struct Parts {
    /// The configuration in force.
    pub snapshot: SharedSnapshot,
    /// The cache.
    pub cache: Arc<dyn Action>,
    /// Lookups.
    pub lookup: Arc<dyn Action>,
    /// Uploads.
    pub aggregate: Arc<dyn Action>,
    /// The cores, for requests passed through.
    pub upstream: Arc<Upstream>,
    /// Who is told of what agents have changed.
    pub changes: Changes,
    /// Writes down what the node meets, while an operator wants it.
    pub recorder: Arc<Recorder>,
    /// Who counts the agents that are alive; `None` where presence is switched off.
    pub attendance: Option<Arc<dyn Attendance>>,
    /// Who is let in.
    pub door: Arc<Door>,
    /// The memory that bodies may take.
    pub budget: Budget,
    /// The node's metrics.
    pub metrics: Arc<Metrics>,
    /// The node's clock.
    pub clock: Clock,
}

/// Answers or passes through every request of every connection.
pub struct Gateway {
    parts: Arc<Parts>,
}

impl Gateway {
    /// A gateway over these parts.
    pub fn new(parts: Parts) -> Self {
        Self { parts: Arc::new(parts) }
    }

    /// The way in for plain requests, which an [`Acceptor`](crate::accept::Acceptor) asks first.
    pub fn shortcut(&self) -> Arc<dyn Shortcut> {
        Arc::new(PlainGateway::new(Arc::clone(&self.parts)))
    }

    /// The gateway as what an [`Acceptor`](crate::accept::Acceptor) serves. `conf` sizes the pool of connections for
    /// forwarded requests.
    pub fn into_app(self, conf: &Arc<ServerConf>) -> Arc<HttpProxy<Self>> {
        Arc::new(http_proxy(conf, self))
    }
}

#[async_trait]
impl ProxyHttp for Gateway {
    type CTX = RequestContext;

    fn new_ctx(&self) -> RequestContext {
        RequestContext::new(&self.parts, self.parts.snapshot.load_full(), Connection::current())
    }

    async fn request_filter(&self, session: &mut Session, ctx: &mut RequestContext) -> pingora::Result<bool> {
        let downstream = session.as_downstream_mut();
        let answered = match session::decide(&self.parts, downstream, ctx).await {
            Ok(Next::Forward(forwarding)) => {
                ctx.forwarding = Some(forwarding);
                return Ok(false);
            }
            Ok(Next::Answer(answer)) => Ok(answer),
            Err(stop) => Err(stop),
        };
        walk::settle(&self.parts, downstream, ctx, answered).await;
        Ok(true)
    }

    async fn upstream_peer(&self, _session: &mut Session, ctx: &mut RequestContext) -> pingora::Result<Box<HttpPeer>> {
        forward::peer(&self.parts.upstream, ctx.forwarding.as_deref_mut()).await
    }

    async fn upstream_request_filter(
        &self,
        session: &mut Session,
        request: &mut RequestHeader,
        ctx: &mut RequestContext,
    ) -> pingora::Result<()> {
        let Some(forwarding) = &mut ctx.forwarding else { return Ok(()) };
        forwarding.begun(!session.as_downstream_mut().is_body_empty());
        forward::headers::to_core(request, forwarding, &ctx.connection)
    }

    async fn request_body_filter(
        &self,
        _session: &mut Session,
        piece: &mut Option<Bytes>,
        end: bool,
        ctx: &mut RequestContext,
    ) -> pingora::Result<()> {
        forward::request_piece(ctx.forwarding.as_deref_mut(), piece, end)
    }

    async fn upstream_response_filter(
        &self,
        _session: &mut Session,
        response: &mut ResponseHeader,
        ctx: &mut RequestContext,
    ) -> pingora::Result<()> {
        if let Some(forwarding) = &mut ctx.forwarding {
            forwarding.answered(response);
            let (change, tenant) = forwarding.change();
            self.parts.changes.answered(&change, tenant, response.status.as_u16(), &response.headers);
        }
        Ok(())
    }

    async fn response_filter(
        &self,
        session: &mut Session,
        response: &mut ResponseHeader,
        ctx: &mut RequestContext,
    ) -> pingora::Result<()> {
        forward::headers::to_agent(response);
        if ctx.connection.ends_with_answer() {
            session.set_keepalive(None);
        }
        Ok(())
    }

    fn fail_to_connect(
        &self,
        _session: &mut Session,
        _peer: &HttpPeer,
        ctx: &mut RequestContext,
        error: Box<pingora::Error>,
    ) -> Box<pingora::Error> {
        forward::after_failed_connect(ctx.forwarding.as_deref_mut(), error)
    }

    fn error_while_proxy(
        &self,
        _peer: &HttpPeer,
        session: &mut Session,
        error: Box<pingora::Error>,
        ctx: &mut RequestContext,
        reused: bool,
    ) -> Box<pingora::Error> {
        forward::after_broken_exchange(session, ctx.forwarding.as_deref(), error, reused)
    }

    async fn fail_to_proxy(
        &self,
        session: &mut Session,
        error: &pingora::Error,
        ctx: &mut RequestContext,
    ) -> FailToProxy {
        let failure = Failure::of(error);
        if let Some(forwarding) = &mut ctx.forwarding {
            forwarding.failed(failure);
        }
        let begun = session.response_written().is_some_and(|written| !written.status.is_informational());
        let Some(refusal) = failure.refusal().filter(|_| !begun) else {
            ctx.tally.outcome = failure.refusal().map(|refusal| refusal.outcome());
            return FailToProxy { error_code: 0, can_reuse_downstream: false };
        };
        tracing::debug!(%error, "a request could not be passed through");
        let answer = walk::refuse(&mut ctx.tally, refusal, failure.detail(), Wait::AtLeast(Duration::ZERO));
        walk::respond(&self.parts, session.as_downstream_mut(), ctx, answer).await;
        let kept = v1_is_kept(session.as_downstream_mut().as_http1());
        if kept {
            ctx.connection.keep();
        }
        FailToProxy { error_code: refusal.status(), can_reuse_downstream: kept }
    }

    async fn logging(&self, session: &mut Session, error: Option<&pingora::Error>, ctx: &mut RequestContext) {
        if ctx.forwarding.is_some() {
            ctx.tally.answer_bytes = session.body_bytes_sent() as u64;
            ctx.tally.forwarded(session.response_written().map(|written| written.status.as_u16()));
            if error.is_none() && session.response_written().is_some() {
                ctx.tally.outcome = Some(Outcome::Forwarded);
            }
        }
        walk::ended(&self.parts, ctx, session.as_downstream_mut().body_read());
    }

    fn suppress_error_log(&self, _session: &Session, _ctx: &RequestContext, _error: &pingora::Error) -> bool {
        // Counted in `weir_refusals_total`; a line for each would drown the log when a core fails.
        true
    }

    fn suppress_proxy_warn_log(
        &self,
        _session: &Session,
        _ctx: &RequestContext,
        _error: &pingora::Error,
        _context: ProxyWarnLogContext,
    ) -> bool {
        true
    }
}

fn v1_is_kept(session: Option<&v1::server::HttpSession>) -> bool {
    session.is_some_and(v1::server::HttpSession::will_keepalive)
}
