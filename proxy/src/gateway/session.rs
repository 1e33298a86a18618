//! A session of pingora's as the walk sees it: HTTP/2, and what is not plain of HTTP/1.1.

use std::sync::Arc;

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, HeaderMap, HeaderValue, SERVER, TRANSFER_ENCODING};
use http::{Method as HttpMethod, Response, StatusCode, Version};
use pingora::ErrorType;
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::protocols::http::ServerSession;
use pingora::protocols::http::v1::server::HttpSession;
use weir_config::{Action, Method};
use weir_logic::answer::Wait;
use weir_logic::{Headers, Refusal};

use super::Parts;
use super::body::{self, BodyError};
use super::context::RequestContext;
use super::exchange::{Exchange, Unwritten};
use super::framing::{Framing, is_the_writers};
use super::walk::{self, Known, Line, Stop};
use crate::accept::Connection;
use crate::answer::{Answer, Body, Stream};
use crate::forward::Forwarding;

/// What becomes of a request.
pub(super) enum Next {
    /// It is answered here.
    Answer(Answer),
    /// It is passed through.
    Forward(Box<Forwarding>),
}

/// Takes a request as far as its answer, or to the door of its core.
pub(super) async fn decide(parts: &Parts, session: &mut ServerSession, ctx: &mut RequestContext) -> Result<Next, Stop> {
    let snapshot = Arc::clone(&ctx.snapshot);
    prepare(session, &ctx.connection);
    let header = session.req_header();
    let (target, authority) = raw_target(header);
    let line = Line { method: method(&header.method), target: &target, authority: authority.as_deref() };
    let found = walk::find(&snapshot, &line)?;
    let known = walk::admit(parts, &snapshot, found, &session.req_header().headers, ctx).await?;
    let Action::Forward(action) = &known.route.action else {
        return walk::act(parts, session, ctx, &known).await.map(Next::Answer);
    };
    ctx.tally.sketch = parts.recorder.sketch(|| known.call(&session.req_header().headers, &[], known.now));
    pass_through(parts, session, ctx, &known, action.max_body_bytes.bytes()).await
}

/// Sets what pingora leaves open: timeouts, and that an answer, `100 Continue` among them, before the end of a body
/// does not cost the connection. The rest of the body is read before the next request.
fn prepare(session: &mut ServerSession, connection: &Connection) {
    session.set_write_timeout(Some(connection.listener.body_timeout));
    session.set_read_timeout(Some(connection.listener.body_timeout));
    session.set_total_drain_timeout(Some(body::DISCARD_TIME));
    session.set_close_on_response_before_downstream_finish(false);
}

/// The bytes of the target and the authority; they outlive the borrow of the session.
fn raw_target(header: &RequestHeader) -> (Vec<u8>, Option<Vec<u8>>) {
    let from_uri = || header.uri.authority().map(|authority| authority.as_str().as_bytes().to_vec());
    let authority = header.headers.get(http::header::HOST).map(|host| host.as_bytes().to_vec());
    (header.raw_path().to_vec(), authority.or_else(from_uri))
}

pub(super) fn method(method: &HttpMethod) -> Option<Method> {
    Some(match *method {
        HttpMethod::GET => Method::Get,
        HttpMethod::HEAD => Method::Head,
        HttpMethod::POST => Method::Post,
        HttpMethod::PUT => Method::Put,
        HttpMethod::PATCH => Method::Patch,
        HttpMethod::DELETE => Method::Delete,
        HttpMethod::OPTIONS => Method::Options,
        _ => return None,
    })
}

async fn pass_through(
    parts: &Parts,
    session: &mut ServerSession,
    ctx: &RequestContext,
    known: &Known<'_>,
    max_body_bytes: u64,
) -> Result<Next, Stop> {
    if session.declared_length().is_some_and(|length| length > max_body_bytes) {
        return Err(Stop::refused(Refusal::BodyTooLarge, ""));
    }
    let Known { config, method, route, identity, target, .. } = known;
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

impl Exchange for ServerSession {
    fn headers(&self) -> &dyn Headers {
        &self.req_header().headers
    }

    fn is_http11(&self) -> bool {
        self.req_header().version == Version::HTTP_11
    }

    async fn tell_to_continue(&mut self) -> Result<(), BodyError> {
        self.write_continue_response().await.map_err(|_| BodyError::Gone)
    }

    async fn next_piece(&mut self) -> Result<Option<Bytes>, BodyError> {
        self.read_request_body().await.map_err(|error| match error.etype() {
            ErrorType::ReadTimedout => BodyError::Refused(Refusal::BodyTimeout),
            ErrorType::ReadError | ErrorType::ConnectionClosed | ErrorType::H2Error => BodyError::Gone,
            _ => BodyError::Refused(Refusal::BadBody),
        })
    }

    fn is_body_done(&mut self) -> bool {
        Self::is_body_done(self)
    }

    fn body_read(&self) -> u64 {
        self.body_bytes_read() as u64
    }

    fn is_kept(&self) -> bool {
        self.as_http1().is_some_and(HttpSession::will_keepalive)
    }

    fn close_after(&mut self) {
        self.set_keepalive(None);
    }

    async fn write(&mut self, answer: Answer, written: &mut u64) -> Result<(), Unwritten> {
        let outcome = write(self, answer, written).await;
        if outcome.is_err() && self.is_http2() {
            // Else pingora ends the stream as if the answer were whole.
            self.shutdown().await;
        }
        outcome
    }
}

async fn write(session: &mut ServerSession, answer: Answer, written: &mut u64) -> Result<(), Unwritten> {
    let framing = Framing::of(&answer);
    let without_body = framing == Framing::None || session.req_header().method == HttpMethod::HEAD;
    let mut header = header(&answer, framing);
    if framing == Framing::Open {
        match session.req_header().version {
            Version::HTTP_11 => header.insert_header(TRANSFER_ENCODING, HeaderValue::from_static("chunked"))?,
            // By the protocol: the end of the stream in HTTP/2, of the connection in HTTP/1.0.
            version if version < Version::HTTP_11 => session.set_keepalive(None),
            _ => {}
        }
    }
    session.write_response_header(Box::new(header)).await?;
    match answer.body {
        _ if without_body => session.write_response_body(Bytes::new(), true).await?,
        Body::Whole(mut body) => loop {
            // Piece by piece, to know how much has gone where the agent does not take the rest.
            let piece = body.split_to(body.len().min(PIECE));
            let length = piece.len() as u64;
            session.write_response_body(piece, body.is_empty()).await?;
            *written += length;
            if body.is_empty() {
                break;
            }
        },
        Body::Stream(pieces) => stream(session, pieces, written).await?,
    }
    Ok(())
}

/// Bytes of a body that are written at once, at most: to within so many it is known what went of an answer that an agent has broken off.
pub(super) const PIECE: usize = 16 * 1024;

/// Writes the pieces one by one: the next is asked for when the agent has taken the last.
async fn stream(session: &mut ServerSession, mut stream: Stream, written: &mut u64) -> Result<(), Unwritten> {
    while let Some(piece) = stream.next().await {
        let Ok(piece) = piece else {
            session.set_keepalive(None);
            session.shutdown().await;
            return Err(Unwritten::Cut);
        };
        let length = piece.len() as u64;
        session.write_response_body(piece, false).await?;
        *written += length;
    }
    session.write_response_body(Bytes::new(), true).await?;
    Ok(())
}

/// The header of an answer, but for what a version of HTTP says of a body without a length.
pub(super) fn header(answer: &Answer, framing: Framing) -> ResponseHeader {
    let mut headers = HeaderMap::with_capacity(answer.headers.len() + ROOM);
    for (name, value) in &answer.headers {
        if !is_the_writers(name) {
            headers.append(name, value.clone());
        }
    }
    response(answer.status, headers, framing)
}

/// A header of that status with these fields and those that are the writer's.
pub(super) fn response(status: u16, mut headers: HeaderMap, framing: Framing) -> ResponseHeader {
    if let Framing::Length(length) = framing {
        headers.insert(CONTENT_LENGTH, length.into());
    }
    headers.entry(SERVER).or_insert(HeaderValue::from_static("weir"));
    let mut response = Response::new(());
    *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    *response.headers_mut() = headers;
    response.into_parts().0.into()
}

/// Headers beside an answer's own: `Age`, `Cache-Status`, `Content-Length`, `Server`, and the session's `Date`.
pub(super) const ROOM: usize = 5;

impl From<Box<pingora::Error>> for Unwritten {
    fn from(error: Box<pingora::Error>) -> Self {
        Self::Gone(error)
    }
}
