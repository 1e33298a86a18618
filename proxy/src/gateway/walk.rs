//! The way of a request, whichever way it came in: route, identify, admit, read, act, answer. Cheap steps first, so that a refusal costs
//! microseconds.

use std::sync::Arc;
use std::time::Duration;

use http::header::{ALLOW, HeaderValue, RETRY_AFTER};
use weir_config::{Action, Config, Method, Refusals, Route};
use weir_logic::answer::Wait;
use weir_logic::identity::Evidence;
use weir_logic::strict::Fault;
use weir_logic::strict::target::Target;
use weir_logic::{Call, Found, Headers, Identity, Millis, Outcome, Parameters, Refusal, RequestView};

use super::Parts;
use super::body::{self, BodyError};
use super::context::{RequestContext, Tally};
use super::exchange::{Exchange, Unwritten};
use crate::accept::Connection;
use crate::admission::{Admitted, Asked, Knock, TurnedAway};
use crate::answer::{Answer, Body};
use crate::snapshot::ConfigSnapshot;

/// Why a request goes no further.
pub(super) enum Stop {
    Refused { refusal: Refusal, detail: &'static str, wait: Wait },
    WrongMethod(Vec<Method>),
    Gone,
}

impl Stop {
    pub(super) const fn refused(refusal: Refusal, detail: &'static str) -> Self {
        Self::Refused { refusal, detail, wait: SOON }
    }

    /// Notes the refusal and prepares its answer; `None` when the agent has left.
    fn answer(self, tally: &mut Tally) -> Option<Answer> {
        match self {
            Self::Gone => None,
            Self::Refused { refusal, detail, wait } => Some(refuse(tally, refusal, detail, wait)),
            Self::WrongMethod(allowed) => {
                let answer = refuse(tally, Refusal::WrongMethod, "", SOON);
                Some(answer.with(ALLOW, allow_header(&allowed)))
            }
        }
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

/// What a request says before its headers are looked at.
pub(super) struct Line<'a> {
    /// The method; `None` for one that no route can name.
    pub(super) method: Option<Method>,
    /// The request target, as sent.
    pub(super) target: &'a [u8],
    /// The `Host` or `:authority`; `None` where there is none, as in HTTP/1.0.
    pub(super) authority: Option<&'a [u8]>,
}

/// A request whose route is known.
pub(super) struct Routed<'a> {
    pub(super) method: Method,
    pub(super) target: Target<'a>,
    pub(super) route: &'a Arc<Route>,
    pub(super) number: usize,
    pub(super) parameters: Parameters<'a>,
}

/// Finds the route. Nothing is counted.
pub(super) fn find<'a>(snapshot: &'a ConfigSnapshot, line: &Line<'a>) -> Result<Routed<'a>, Stop> {
    let target = match line.authority {
        Some(authority) => Target::parse(line.target, authority),
        None => Target::without_host(line.target),
    };
    find_target(snapshot, line.method, line.target.len(), target)
}

/// The same for a target that has been taken apart, and was of that length.
pub(super) fn find_target<'a>(
    snapshot: &'a ConfigSnapshot,
    method: Option<Method>,
    length: usize,
    target: Result<Target<'a>, Fault>,
) -> Result<Routed<'a>, Stop> {
    let target = target.map_err(|fault| Stop::refused(fault.refusal, fault.detail))?;
    if length > snapshot.config.limits.max_target_bytes.as_usize() {
        return Err(Stop::refused(Refusal::TargetTooLong, ""));
    }
    let method = method.ok_or(Stop::WrongMethod(Vec::new()))?;
    match snapshot.table.find(method, target.host, target.path) {
        Found::Route { route, number, parameters } => Ok(Routed { method, target, route, number, parameters }),
        Found::WrongMethod { allowed } => Err(Stop::WrongMethod(allowed)),
        Found::Unknown => Err(Stop::refused(Refusal::UnknownRoute, "")),
    }
}

/// A request that has been routed, identified and admitted.
pub(super) struct Known<'a> {
    pub(super) config: &'a Config,
    pub(super) method: Method,
    pub(super) route: &'a Arc<Route>,
    pub(super) identity: Identity,
    pub(super) target: Target<'a>,
    parameters: Parameters<'a>,
    /// When it was admitted.
    pub(super) now: Millis,
}

impl<'a> Known<'a> {
    /// The request as an action sees it.
    pub(super) fn call(&'a self, headers: &'a dyn Headers, body: &'a [u8], now: Millis) -> Call<'a> {
        let Target { path, query, host, .. } = self.target;
        let request = RequestView { method: self.method, path, query, host, headers, body };
        Call { request, route: self.route, parameters: &self.parameters, identity: &self.identity, now }
    }
}

/// What is said at the door to a request of which nothing is known yet but its route.
pub(super) struct Knocked {
    pub(super) identity: Identity,
    pub(super) asked: Asked,
    pub(super) entered: Result<Admitted, TurnedAway>,
    /// When that was.
    pub(super) now: Millis,
}

/// Identifies the request and asks the door.
pub(super) fn knock(
    parts: &Parts,
    snapshot: &ConfigSnapshot,
    routed: &Routed<'_>,
    headers: &dyn Headers,
    connection: &Connection,
    now: Millis,
) -> Knocked {
    let config = &snapshot.config;
    let identity = identify(config, headers, connection, &routed.parameters);
    let header = config.presence.as_ref().map_or("user-agent", |presence| &presence.version_header);
    let version = headers.text(header);
    if let (Some(attendance), true) = (&parts.attendance, config.presence.is_some()) {
        attendance.seen(&identity, version, now);
    }
    let knock = Knock { identity: &identity, connection: connection.number, route: routed.route, version };
    let mut asked = parts.door.asked(&knock);
    let entered = parts.door.enter(&knock, &mut asked, &snapshot.rules, now);
    Knocked { identity, asked, entered, now }
}

/// Lets the request in, or says why not. From here on the context knows who asks, on which route.
pub(super) async fn admit<'a>(
    parts: &Parts,
    snapshot: &'a ConfigSnapshot,
    routed: Routed<'a>,
    headers: &dyn Headers,
    ctx: &mut RequestContext,
) -> Result<Known<'a>, Stop> {
    let knocked = knock(parts, snapshot, &routed, headers, &ctx.connection, parts.clock.now());
    let_in(parts, snapshot, routed, knocked, ctx).await
}

/// Acts on what was said at the door. A damped agent has to wait for it.
pub(super) async fn let_in<'a>(
    parts: &Parts,
    snapshot: &'a ConfigSnapshot,
    routed: Routed<'a>,
    knocked: Knocked,
    ctx: &mut RequestContext,
) -> Result<Known<'a>, Stop> {
    let Routed { method, target, route, number, parameters } = routed;
    let Knocked { identity, asked, entered, now } = knocked;
    ctx.tally.routed(snapshot.meters(number));
    ctx.asked = Some(asked);
    match entered {
        Ok(admitted) => ctx.admitted = Some(admitted),
        Err(turned) => {
            parts.door.hold_back(&turned, &snapshot.rules).await;
            let TurnedAway { limit, wait } = turned;
            return Err(Stop::Refused { refusal: limit.refusal(), detail: limit.detail(), wait });
        }
    }
    Ok(Known { config: &snapshot.config, method, route, identity, target, parameters, now })
}

fn identify(config: &Config, headers: &dyn Headers, connection: &Connection, parameters: &Parameters<'_>) -> Identity {
    let trusted = connection.listener.trusted_headers.then_some(headers);
    let evidence = Evidence { certificate: connection.certificate.as_ref(), trusted_headers: trusted, parameters };
    Identity::read(&config.identity, &evidence)
}

/// Reads the body, where the action wants one, and has the action answer.
pub(super) async fn act<E: Exchange>(
    parts: &Parts,
    exchange: &mut E,
    ctx: &mut RequestContext,
    known: &Known<'_>,
) -> Result<Answer, Stop> {
    let body = match body_bound(known.config, known.route, known.method) {
        None => None,
        Some(bytes) => Some(read_body(parts, exchange, ctx, known, bytes).await?),
    };
    // A body takes its time.
    let now = if body.is_some() { parts.clock.now() } else { known.now };
    let body = body.as_ref().map_or(&[][..], |body| &body.bytes);
    let call = known.call(exchange.headers(), body, now);
    ctx.tally.sketch = parts.recorder.sketch(|| call.clone());
    Ok(match known.route.action {
        Action::Lookup(_) => parts.lookup.answer(&call).await,
        Action::Aggregate(_) => parts.aggregate.answer(&call).await,
        // Forwarded requests have left before.
        Action::Cache(_) | Action::Forward(_) => parts.cache.answer(&call).await,
    })
}

async fn read_body<E: Exchange>(
    parts: &Parts,
    exchange: &mut E,
    ctx: &RequestContext,
    known: &Known<'_>,
    bytes: usize,
) -> Result<body::Body, Stop> {
    let bounds = body::Bounds { bytes, time: ctx.connection.listener.body_timeout };
    let hold = parts.budget.hold(&known.identity, (&known.config.limits).into());
    body::read(exchange, bounds, hold).await.map_err(|error| match error {
        BodyError::Gone => Stop::Gone,
        BodyError::Refused(refusal) => Stop::refused(refusal, ""),
        BodyError::NoRoom(cause) => Stop::refused(cause.refusal(), cause.detail()),
    })
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

/// Answers the request, or says why it is not; an agent that has left gets nothing.
pub(super) async fn settle<E: Exchange>(
    parts: &Parts,
    exchange: &mut E,
    ctx: &mut RequestContext,
    answered: Result<Answer, Stop>,
) {
    match answered.map_or_else(|stop| stop.answer(&mut ctx.tally), Some) {
        Some(answer) => respond(parts, exchange, ctx, answer).await,
        None => exchange.close_after(),
    }
}

/// Writes the answer and notes what came of it. The connection is kept, unless this is to be its last answer, an unread body is in the
/// way, or the answer's own body breaks off. An answer that asks for patience is given the agent's own time here, whoever made it.
pub(super) async fn respond<E: Exchange>(
    parts: &Parts,
    exchange: &mut E,
    ctx: &mut RequestContext,
    mut answer: Answer,
) {
    if let Some(wait) = answer.wait {
        let wait = through_the_line(parts, wait, answer.outcome, ctx);
        let seconds = parts.door.seconds(ctx.asked.as_ref(), wait, &ctx.snapshot.rules, parts.clock.now());
        answer = answer.with(RETRY_AFTER, HeaderValue::from(seconds));
    }
    let (outcome, cause) = (answer.outcome, answer.cause);
    let refused = matches!(outcome, Outcome::Shed | Outcome::Refused | Outcome::Failed);
    let closes = refused && ctx.snapshot.config.limits.refusals == Refusals::Close;
    let is_last = closes || ctx.connection.ends_with_answer();
    ctx.tally.answered(&answer);
    if is_last || (exchange.is_kept() && !body::discard(exchange).await) {
        exchange.close_after();
    }
    match exchange.write(answer, &mut ctx.tally.answer_bytes).await {
        Ok(()) => (ctx.tally.outcome, ctx.tally.cause) = (Some(outcome), cause),
        Err(Unwritten::Cut) => ctx.tally.outcome = Some(Outcome::Failed),
        Err(Unwritten::Gone(error)) => {
            tracing::debug!(%error, "the agent left before its answer");
            exchange.close_after();
        }
    }
}

/// Whoever the core has failed comes back when the line at its gate is through, and not before.
fn through_the_line(parts: &Parts, wait: Wait, outcome: Outcome, ctx: &RequestContext) -> Wait {
    match (wait, ctx.route()) {
        (Wait::AtLeast(rest), Some(route)) if outcome == Outcome::Failed => {
            let line = parts.upstream.time_through(route.core, route.class);
            Wait::AtLeast(rest.max(line.unwrap_or_default()))
        }
        (wait, _) => wait,
    }
}

/// The request has ended, whatever became of it.
pub(super) fn ended(parts: &Parts, ctx: &mut RequestContext, body_read: u64) {
    ctx.tally.request_bytes = body_read;
    ctx.admitted = None;
    if let (Some(asked), Some(outcome)) = (&ctx.asked, ctx.tally.outcome)
        && !matches!(outcome, Outcome::Shed | Outcome::Failed | Outcome::Abandoned)
    {
        parts.door.answered(asked, parts.clock.now());
    }
}

fn allow_header(allowed: &[Method]) -> HeaderValue {
    let mut names: Vec<_> = allowed.iter().map(|method| method.as_str()).collect();
    if allowed.contains(&Method::Get) && !allowed.contains(&Method::Head) {
        names.push("HEAD");
    }
    HeaderValue::from_str(&names.join(", ")).unwrap_or(HeaderValue::from_static(""))
}
