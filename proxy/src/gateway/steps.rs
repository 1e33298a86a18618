//! The way of a request: check, route, identify, admit, read, answer. Cheap steps first, so that a refusal costs
//! microseconds.

use std::sync::Arc;
use std::time::Duration;

use http::header::{ALLOW, HeaderMap, HeaderValue};
use pingora::http::RequestHeader;
use pingora::protocols::http::ServerSession;
use weir_config::{Action, Config, Method, Route};
use weir_logic::answer::Wait;
use weir_logic::identity::Evidence;
use weir_logic::strict::target::Target;
use weir_logic::{Call, Found, Headers, Identity, Millis, Parameters, Refusal, RequestView};

use super::body::{self, BodyError};
use super::context::{RequestContext, Tally};
use super::{Gateway, Parts};
use crate::accept::Connection;
use crate::admission::{Knock, TurnedAway};
use crate::answer::{Answer, Body};
use crate::forward::Forwarding;
use crate::snapshot::ConfigSnapshot;

/// What becomes of a request.
pub(super) enum Next {
    /// It is answered here.
    Answer(Answer),
    /// It is passed through.
    Forward(Box<Forwarding>),
    /// The agent has left.
    Gone,
}

/// Takes a request as far as its answer, or to the door of its core.
pub(super) async fn decide(gateway: &Gateway, session: &mut ServerSession, ctx: &mut RequestContext) -> Next {
    match walk(gateway, session, ctx).await {
        Ok(next) => next,
        Err(Stop::Gone) => Next::Gone,
        Err(Stop::Refused { refusal, detail, wait }) => Next::Answer(refuse(&mut ctx.tally, refusal, detail, wait)),
        Err(Stop::WrongMethod(allowed)) => {
            let answer = refuse(&mut ctx.tally, Refusal::WrongMethod, "", SOON);
            Next::Answer(answer.with(ALLOW, allow_header(&allowed)))
        }
    }
}

/// Why a request goes no further.
enum Stop {
    Refused { refusal: Refusal, detail: &'static str, wait: Wait },
    WrongMethod(Vec<Method>),
    Gone,
}

impl Stop {
    const fn refused(refusal: Refusal, detail: &'static str) -> Self {
        Self::Refused { refusal, detail, wait: SOON }
    }
}

/// As soon as the window opens.
const SOON: Wait = Wait::AtLeast(Duration::ZERO);

/// Notes the refusal and prepares its answer.
pub(super) fn refuse(tally: &mut Tally, refusal: Refusal, detail: &str, wait: Wait) -> Answer {
    tally.refusal = Some(refusal.label());
    let mut answer = refusal.answer(detail, Duration::ZERO).map_body(Body::from);
    answer.wait = answer.wait.map(|_| wait);
    answer
}

async fn walk(gateway: &Gateway, session: &mut ServerSession, ctx: &mut RequestContext) -> Result<Next, Stop> {
    let parts = &gateway.parts;
    let snapshot = parts.snapshot.load_full();
    let config = &snapshot.config;
    prepare(session, &ctx.connection);
    let (raw, authority) = raw_target(session.req_header());
    let target = match &authority {
        Some(authority) => Target::parse(&raw, authority),
        None => Target::without_host(&raw),
    };
    let target = target.map_err(|fault| Stop::refused(fault.refusal, fault.detail))?;
    if raw.len() > config.limits.max_target_bytes.as_usize() {
        return Err(Stop::refused(Refusal::TargetTooLong, ""));
    }
    let method = method(&session.req_header().method).ok_or(Stop::WrongMethod(Vec::new()))?;
    let (route, parameters) = match snapshot.table.find(method, target.host, target.path) {
        Found::Route { route, parameters } => (route, parameters),
        Found::WrongMethod { allowed } => return Err(Stop::WrongMethod(allowed)),
        Found::Unknown => return Err(Stop::refused(Refusal::UnknownRoute, "")),
    };
    ctx.tally.routed(route);
    let identity = identify(parts, config, session, ctx, &parameters);
    if let Err(turned) = admit(parts, &snapshot, session, ctx, (route, &identity)) {
        parts.door.hold_back(&turned, &snapshot.rules).await;
        let TurnedAway { limit, wait } = turned;
        return Err(Stop::Refused { refusal: limit.refusal(), detail: limit.detail(), wait });
    }
    let known = Known { config, method, route, identity, target };
    if let Action::Forward(action) = &route.action {
        let headers = &session.req_header().headers;
        ctx.tally.sketch = parts.recorder.sketch(|| known.call(&parameters, headers, &[], parts.clock.now()));
        return pass_through(parts, session, ctx, &known, action.max_body_bytes.bytes()).await;
    }
    let body = match body_bound(config, route, method) {
        None => None,
        Some(bytes) => Some(read_body(gateway, session, ctx, &known, bytes).await?),
    };
    let headers = &session.req_header().headers;
    let body = body.as_ref().map_or(&[][..], |body| &body.bytes);
    let call = known.call(&parameters, headers, body, parts.clock.now());
    ctx.tally.sketch = parts.recorder.sketch(|| call.clone());
    Ok(Next::Answer(answer(parts, &call).await))
}

/// Sets what pingora leaves open: timeouts, and that an answer, `100 Continue` among them, before the end of a body
/// does not cost the connection. The rest of the body is read before the next request.
fn prepare(session: &mut ServerSession, connection: &Connection) {
    session.set_write_timeout(Some(connection.listener.body_timeout));
    session.set_read_timeout(Some(connection.listener.body_timeout));
    session.set_total_drain_timeout(Some(body::DISCARD_TIME));
    session.set_close_on_response_before_downstream_finish(false);
}

/// A request that has been routed and identified.
struct Known<'a> {
    config: &'a Config,
    method: Method,
    route: &'a Arc<Route>,
    identity: Identity,
    target: Target<'a>,
}

impl<'a> Known<'a> {
    /// The request as an action sees it.
    fn call(&'a self, parameters: &'a Parameters<'a>, headers: &'a HeaderMap, body: &'a [u8], now: Millis) -> Call<'a> {
        let Target { path, query, host, .. } = self.target;
        let request = RequestView { method: self.method, path, query, host, headers, body };
        Call { request, route: self.route, parameters, identity: &self.identity, now }
    }
}

async fn pass_through(
    parts: &Parts,
    session: &mut ServerSession,
    ctx: &RequestContext,
    known: &Known<'_>,
    max_body_bytes: u64,
) -> Result<Next, Stop> {
    if body::declared_length(session).is_some_and(|length| length > max_body_bytes) {
        return Err(Stop::refused(Refusal::BodyTooLarge, ""));
    }
    let Known { config, method, route, identity, target } = known;
    let forwarding = Forwarding::begin(&parts.upstream, config, route, *method, identity.clone(), target).await;
    let mut forwarding = forwarding.map_err(|error| Stop::Refused {
        refusal: error.refusal(),
        detail: "the core cannot be asked now",
        wait: Wait::AtLeast(error.rest().unwrap_or_default()),
    })?;
    let silence = ctx.connection.listener.idle_timeout;
    if session.is_upgrade_req() && forwarding.upgrade(silence) {
        session.set_read_timeout(Some(silence));
    }
    Ok(Next::Forward(Box::new(forwarding)))
}

async fn read_body(
    gateway: &Gateway,
    session: &mut ServerSession,
    ctx: &RequestContext,
    known: &Known<'_>,
    bytes: usize,
) -> Result<body::Body, Stop> {
    let bounds = body::Bounds { bytes, time: ctx.connection.listener.body_timeout };
    let hold = gateway.parts.budget.hold(&known.identity, (&known.config.limits).into());
    body::read(session, bounds, hold).await.map_err(|error| match error {
        BodyError::Gone => Stop::Gone,
        BodyError::Refused(refusal) => Stop::refused(refusal, ""),
        BodyError::NoRoom(cause) => Stop::refused(cause.refusal(), cause.detail()),
    })
}

/// The bytes of the target and the authority; they outlive the borrow of the session.
fn raw_target(header: &RequestHeader) -> (Vec<u8>, Option<Vec<u8>>) {
    let from_uri = || header.uri.authority().map(|authority| authority.as_str().as_bytes().to_vec());
    let authority = header.headers.get(http::header::HOST).map(|host| host.as_bytes().to_vec());
    (header.raw_path().to_vec(), authority.or_else(from_uri))
}

fn method(method: &http::Method) -> Option<Method> {
    Some(match *method {
        http::Method::GET => Method::Get,
        http::Method::HEAD => Method::Head,
        http::Method::POST => Method::Post,
        http::Method::PUT => Method::Put,
        http::Method::PATCH => Method::Patch,
        http::Method::DELETE => Method::Delete,
        http::Method::OPTIONS => Method::Options,
        _ => return None,
    })
}

fn allow_header(allowed: &[Method]) -> HeaderValue {
    let mut names: Vec<_> = allowed.iter().map(|method| method.as_str()).collect();
    if allowed.contains(&Method::Get) && !allowed.contains(&Method::Head) {
        names.push("HEAD");
    }
    HeaderValue::from_str(&names.join(", ")).unwrap_or(HeaderValue::from_static(""))
}

/// Lets the request in, or says why not. From here on the context knows who asks.
fn admit(
    parts: &Parts,
    snapshot: &ConfigSnapshot,
    session: &ServerSession,
    ctx: &mut RequestContext,
    (route, identity): (&Arc<Route>, &Identity),
) -> Result<(), TurnedAway> {
    let header = snapshot.config.presence.as_ref().map_or("user-agent", |presence| &presence.version_header);
    let version = Headers::text(&session.req_header().headers, header);
    let knock = Knock { identity, connection: ctx.connection.number, route, version };
    let asked = ctx.asked.insert(parts.door.asked(&knock));
    ctx.admitted = Some(parts.door.enter(&knock, asked, &snapshot.rules, parts.clock.now())?);
    Ok(())
}

fn identify(
    parts: &Parts,
    config: &Config,
    session: &ServerSession,
    ctx: &RequestContext,
    parameters: &Parameters<'_>,
) -> Identity {
    let connection = &ctx.connection;
    let headers = &session.req_header().headers;
    let trusted = connection.listener.trusted_headers.then_some(headers as &dyn Headers);
    let evidence = Evidence { certificate: connection.certificate.as_ref(), trusted_headers: trusted, parameters };
    let identity = Identity::read(&config.identity, &evidence);
    if let (Some(attendance), Some(presence)) = (&parts.attendance, &config.presence) {
        let now: Millis = parts.clock.now();
        attendance.seen(&identity, Headers::text(headers, &presence.version_header), now);
    }
    identity
}

/// Bytes of the body that the action reads, at most; `None` when it reads none.
fn body_bound(config: &Config, route: &Route, method: Method) -> Option<usize> {
    let limit = config.limits.max_body_bytes.as_usize();
    match &route.action {
        Action::Aggregate(_) => Some(limit),
        Action::Cache(cache) if method == Method::Post => Some(cache.max_body_bytes.as_usize().min(limit)),
        Action::Lookup(_) if method == Method::Post => Some(limit),
        Action::Cache(_) | Action::Lookup(_) | Action::Forward(_) => None,
    }
}

async fn answer(parts: &Parts, call: &Call<'_>) -> Answer {
    match call.route.action {
        Action::Lookup(_) => parts.lookup.answer(call).await,
        Action::Aggregate(_) => parts.aggregate.answer(call).await,
        // Forwarded requests have left before.
        Action::Cache(_) | Action::Forward(_) => parts.cache.answer(call).await,
    }
}
