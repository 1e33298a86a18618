//! Passing requests through: the part of the action that pingora's proxy phases call.
//!
//! A request passes the core's gate first, as all traffic to a core does. Its permit is told what came of it when the
//! core's header section is there, or when there will be none; what follows is between the agent and the core.

mod failure;
pub mod headers;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use pingora::http::ResponseHeader;
use pingora::proxy::Session;
use pingora::upstreams::peer::{HttpPeer, HttpUpstreamRequestPolicy};
use pingora::{Error, ErrorType};
use weir_config::{Action, Config, CoreId, IdentitySource, Method, Route};
use weir_logic::cache::invalidation::Change;
use weir_logic::strict::target::Target;
use weir_logic::{Identity, TenantId};

pub use failure::Failure;

use crate::upstream::{ForwardPermit, OriginError, Upstream};

/// A request on its way to a core.
pub struct Forwarding {
    core: CoreId,
    /// Told once; gone afterwards.
    permit: Option<ForwardPermit>,
    websocket: bool,
    /// The time for which the core may be silent on an upgraded connection.
    silence: Option<Duration>,
    max_body_bytes: u64,
    /// Bytes of the body that have gone by.
    body_bytes: u64,
    /// Peers tried.
    tried: usize,
    /// Peers worth trying.
    peers: usize,
    method: Method,
    identity: Identity,
    /// The headers that name an identity on listeners that trust them.
    identity_headers: Vec<String>,
    /// The `Host` that the machine wants to see.
    host: String,
    /// The host that the agent asked for.
    authority: String,
    /// The path and query.
    target: String,
}

impl Forwarding {
    /// Passes the core's gate, waiting for as long as the gate allows.
    pub async fn begin(
        upstream: &Upstream,
        config: &Config,
        route: &Arc<Route>,
        method: Method,
        identity: Identity,
        target: &Target<'_>,
    ) -> Result<Self, OriginError> {
        let (websocket, max_body_bytes) = match &route.action {
            Action::Forward(forward) => (forward.websocket, forward.max_body_bytes.bytes()),
            _ => (false, 0),
        };
        let label: Arc<str> = Arc::from(route.name.as_str());
        let permit = upstream.forward_permit(route.core, route.class, &label).await?;
        Ok(Self {
            core: route.core,
            permit: Some(permit),
            websocket,
            silence: None,
            max_body_bytes,
            body_bytes: 0,
            tried: 0,
            peers: config.core(route.core).peers.len().clamp(1, MAX_TRIES),
            method,
            identity,
            identity_headers: identity_headers(&config.identity),
            host: String::new(),
            authority: target.authority.to_owned(),
            target: target.query.map_or_else(|| target.path.to_owned(), |query| format!("{}?{query}", target.path)),
        })
    }

    /// Lets an upgraded connection be silent for as long as a kept-alive one. Says whether the route takes upgrades.
    pub fn upgrade(&mut self, silence: Duration) -> bool {
        self.silence = self.websocket.then_some(silence);
        self.websocket
    }

    /// The request's header section goes to the core, and a body after it unless there is none.
    pub fn begun(&mut self, body: bool) {
        if let Some(permit) = &mut self.permit {
            permit.begun(body);
        }
    }

    /// The core's header section has come. An interim one (RFC 9110, section 15.2) is not it.
    pub fn answered(&mut self, response: &ResponseHeader) {
        if response.status.is_informational() && response.status != http::StatusCode::SWITCHING_PROTOCOLS {
            return;
        }
        if let Some(permit) = self.permit.take() {
            let retry_after = response.headers.get(http::header::RETRY_AFTER).map(http::HeaderValue::as_bytes);
            permit.answered(response.status, retry_after);
        }
    }

    /// What the request may have changed, and whose it is.
    pub fn change(&self) -> (Change<'_>, Option<&TenantId>) {
        let path = self.target.split('?').next().unwrap_or(&self.target);
        (Change { method: self.method, path, authority: &self.authority }, self.identity.tenant.as_ref())
    }

    /// Takes one retry out of the core's budget.
    fn try_retry(&self) -> bool {
        self.permit.as_ref().is_some_and(ForwardPermit::try_retry)
    }

    /// There will be none. A permit that is dropped says that the agent was to blame.
    pub fn failed(&mut self, failure: Failure) {
        if let (Some(permit), Some(error)) = (self.permit.take(), failure.origin()) {
            permit.failed(error);
        }
    }
}

/// Machines of a core that one request tries, at most.
const MAX_TRIES: usize = 3;

fn identity_headers(identity: &weir_config::Identity) -> Vec<String> {
    let sources = identity.agent.iter().chain(&identity.tenant);
    sources
        .filter_map(|source| match source {
            IdentitySource::Header(name) => Some(name.clone()),
            _ => None,
        })
        .collect()
}

/// The machine that takes the request.
pub async fn peer(upstream: &Upstream, forwarding: Option<&mut Forwarding>) -> pingora::Result<Box<HttpPeer>> {
    let forwarding = forwarding.ok_or_else(|| Error::explain(ErrorType::InternalError, "nothing is forwarded"))?;
    forwarding.tried += 1;
    let peer = upstream.peer(forwarding.core).await;
    let (mut peer, host, machine) =
        peer.ok_or_else(|| Error::explain(ErrorType::ConnectNoRoute, "no machine's address is known"))?;
    forwarding.host = host;
    if let Some(permit) = &mut forwarding.permit {
        permit.given_to(machine);
    }
    if !forwarding.websocket {
        peer.options.http_upstream_request_policy = HttpUpstreamRequestPolicy::deny_upgrades();
    } else if let Some(silence) = forwarding.silence {
        peer.options.read_timeout = Some(silence);
    }
    Ok(Box::new(peer))
}

/// Watches over a piece of the request's body.
pub fn request_piece(
    mut forwarding: Option<&mut Forwarding>,
    piece: &mut Option<Bytes>,
    end: bool,
) -> pingora::Result<()> {
    if let (Some(forwarding), Some(bytes)) = (forwarding.as_deref_mut(), piece.as_ref()) {
        forwarding.body_bytes += bytes.len() as u64;
        if forwarding.body_bytes > forwarding.max_body_bytes && !forwarding.websocket {
            return Err(Error::explain(ErrorType::HTTPStatus(413), "the body is longer than the route takes"));
        }
    }
    if end && let Some(permit) = forwarding.and_then(|forwarding| forwarding.permit.as_mut()) {
        permit.sent();
    }
    // An empty last piece, which HTTP/2 agents send, would end a chunked body twice and poison the connection to the
    // core.
    if end && piece.as_ref().is_some_and(Bytes::is_empty) {
        *piece = None;
    }
    Ok(())
}

/// A machine took no connection: nothing was sent, so the next one is tried, where the core's retry budget allows it.
pub fn after_failed_connect(mut forwarding: Option<&mut Forwarding>, mut error: Box<Error>) -> Box<Error> {
    if let Some(permit) = forwarding.as_deref_mut().and_then(|forwarding| forwarding.permit.as_mut()) {
        permit.not_taken();
    }
    error.set_retry(forwarding.is_some_and(|forwarding| forwarding.tried < forwarding.peers && forwarding.try_retry()));
    error
}

/// The exchange broke. It is tried again only when doing so is harmless: a repeatable request, whose body is still in
/// hand, over a pooled connection that the core may have closed meanwhile. And only within the core's retry budget.
pub fn after_broken_exchange(
    session: &Session,
    forwarding: Option<&Forwarding>,
    mut error: Box<Error>,
    reused: bool,
) -> Box<Error> {
    let harmless = session.req_header().method.is_idempotent() && !session.retry_buffer_truncated();
    error.retry.decide_reuse(reused);
    let again = harmless && session.response_written().is_none() && error.retry();
    error.set_retry(again && forwarding.is_some_and(Forwarding::try_retry));
    error
}
