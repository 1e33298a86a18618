//! A stream of HTTP/2 without pingora's proxy: its session reads the request and writes the answer, and nothing lies between it and the
//! walk.
//!
//! A request of HTTP/2 is plain unless it is to be passed through. What it is given, and what is counted of it, is decided by the same code
//! as for any other (`walk`, `at_hand`).

use std::future::poll_fn;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::Guard;
use bytes::Bytes;
use futures::FutureExt;
use h2::SendStream;
use http::header::{AGE, HeaderMap, HeaderValue};
use http::{Method as HttpMethod, Request};
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::protocols::http::v2::server::HttpSession;
use tokio::time::timeout;
use weir_config::Action;
use weir_logic::cache::{CACHE_STATUS, CacheStatus, age};
use weir_logic::{Headers, Outcome};

use super::body::BodyError;
use super::context::RequestContext;
use super::exchange::{Exchange, Unwritten};
use super::framing::Framing;
use super::session::{PIECE, ROOM, header, method, response};
use super::walk::{self, Knocked, Line};
use super::{Parts, at_hand};
use crate::accept::{Connection, Streamed};
use crate::answer::{Answer, Body, Hit, Stream};

/// Answers the request, says how it will be, or gives it back as it came: it is to be passed through.
pub(super) fn serve(parts: &Arc<Parts>, connection: &Arc<Connection>, mut session: HttpSession) -> Streamed {
    let started = parts.clock.elapsed();
    let snapshot = parts.snapshot.load();
    let header = session.req_header();
    let looked = match walk::find(&snapshot, &line(header)) {
        Ok(routed) if matches!(routed.route.action, Action::Forward(_)) => return Streamed::No(Box::new(session)),
        Ok(routed) if session.is_body_empty() && at_hand::may_be(parts, &routed) => {
            let now = parts.clock.at(started);
            let (knocked, hit) = at_hand::look(parts, &snapshot, connection, &routed, &header.headers, now);
            Some((knocked, hit, routed.number))
        }
        _ => None,
    };
    let context = |snapshot| RequestContext::began(parts, Guard::into_inner(snapshot), Arc::clone(connection), started);
    let knocked = match looked {
        Some((knocked, Some(hit), route)) => {
            let length = hit.body.len();
            let left = begin(&mut session, hit);
            if let Ok(None) = left {
                at_hand::count(parts, &snapshot, &knocked, route, length, started);
                return Streamed::Done;
            }
            let (parts, ctx) = (Arc::clone(parts), context(snapshot));
            return Streamed::Later(async move { finish(&parts, ctx, knocked, route, left).await }.boxed());
        }
        Some((knocked, None, _)) => Some(knocked),
        None => None,
    };
    let (parts, ctx) = (Arc::clone(parts), context(snapshot));
    Streamed::Later(async move { walk(&parts, ctx, knocked, session).await }.boxed())
}

/// What is left of an answer's body, and where it goes.
struct Left {
    writer: SendStream<Bytes>,
    body: Bytes,
}

/// Writes the answer, if the agent's window is open for it; what is left of it if not.
fn begin(session: &mut HttpSession, hit: Hit) -> Result<Option<Left>, Unwritten> {
    session.write_response_header(Box::new(hit_header(&hit)), hit.body.is_empty())?;
    if hit.body.is_empty() {
        return Ok(None);
    }
    let mut writer = session.take_response_body_writer().ok_or_else(|| Unwritten::Gone("no writer".into()))?;
    writer.reserve_capacity(hit.body.len());
    if writer.capacity() < hit.body.len() {
        return Ok(Some(Left { writer, body: hit.body }));
    }
    writer.send_data(hit.body, true).map_err(|error| Unwritten::Gone(error.into()))?;
    Ok(None)
}

/// Writes what is left of an answer and counts the request, in the context of which nothing is known yet.
async fn finish(
    parts: &Parts,
    mut ctx: RequestContext,
    knocked: Knocked,
    route: usize,
    left: Result<Option<Left>, Unwritten>,
) {
    let snapshot = Arc::clone(&ctx.snapshot);
    ctx.tally.routed(snapshot.meters(route));
    (ctx.asked, ctx.admitted) = (Some(knocked.asked), knocked.entered.ok());
    let patience = ctx.connection.listener.body_timeout;
    let written = match left {
        Ok(Some(left)) => write_left(left, patience, &mut ctx.tally.answer_bytes).await,
        Ok(None) => Ok(()),
        Err(error) => Err(error),
    };
    match written {
        Ok(()) => ctx.tally.outcome = Some(Outcome::Hit),
        Err(error) => tracing::debug!(%error, "the agent left before its answer"),
    }
    walk::ended(parts, &mut ctx, 0);
}

/// Writes as the agent opens its window; one that does not for longer than its patience is given up.
async fn write_left(left: Left, patience: Duration, written: &mut u64) -> Result<(), Unwritten> {
    let Left { mut writer, mut body } = left;
    let writing = async {
        while !body.is_empty() {
            let mut piece = body.split_to(body.len().min(PIECE));
            let length = piece.len() as u64;
            while !piece.is_empty() {
                writer.reserve_capacity(piece.len());
                let capacity = poll_fn(|cx| writer.poll_capacity(cx)).await.ok_or("the stream has ended")??;
                let part = piece.split_to(capacity.min(piece.len()));
                writer.send_data(part, piece.is_empty() && body.is_empty())?;
            }
            *written += length;
        }
        Ok(())
    };
    match timeout(patience, writing).await.unwrap_or_else(|late| Err(late.into())) {
        Ok(()) => Ok(()),
        Err(error) => {
            writer.send_reset(h2::Reason::INTERNAL_ERROR);
            Err(Unwritten::Gone(error))
        }
    }
}

/// Takes a request that is not answered at once to its end. `knocked` is what has been said at the door, if it has been there.
async fn walk(parts: &Parts, mut ctx: RequestContext, knocked: Option<Knocked>, mut session: HttpSession) {
    // Out of the session, which reads and writes while the walk looks at it.
    let header = take_header(&mut session);
    let snapshot = Arc::clone(&ctx.snapshot);
    let patience = ctx.connection.listener.body_timeout;
    let mut exchange = StreamExchange { header: &header, session, patience };
    let answered = async {
        let routed = walk::find(&snapshot, &line(&header))?;
        let known = match knocked {
            Some(knocked) => walk::let_in(parts, &snapshot, routed, knocked, &mut ctx).await?,
            None => walk::admit(parts, &snapshot, routed, &header.headers, &mut ctx).await?,
        };
        walk::act(parts, &mut exchange, &mut ctx, &known).await
    };
    let answered = answered.await;
    walk::settle(parts, &mut exchange, &mut ctx, answered).await;
    walk::ended(parts, &mut ctx, exchange.body_read());
}

fn take_header(session: &mut HttpSession) -> RequestHeader {
    let (nothing, ()) = Request::new(()).into_parts();
    std::mem::replace(session.req_header_mut(), nothing.into())
}

fn line(header: &RequestHeader) -> Line<'_> {
    let host = header.headers.get(http::header::HOST).map(HeaderValue::as_bytes);
    let authority = host.or_else(|| header.uri.authority().map(|authority| authority.as_str().as_bytes()));
    Line { method: method(&header.method), target: header.raw_path(), authority }
}

/// The stream as the walk sees it.
struct StreamExchange<'a> {
    header: &'a RequestHeader,
    session: HttpSession,
    /// The time that the agent has for taking a piece of the answer.
    patience: Duration,
}

impl Exchange for StreamExchange<'_> {
    fn headers(&self) -> &dyn Headers {
        &self.header.headers
    }

    fn is_http11(&self) -> bool {
        false
    }

    async fn tell_to_continue(&mut self) -> Result<(), BodyError> {
        // Only requests of HTTP/1.1 are taken to wait for it.
        Ok(())
    }

    async fn next_piece(&mut self) -> Result<Option<Bytes>, BodyError> {
        self.session.read_body_bytes().await.map_err(|_| BodyError::Gone)
    }

    fn is_body_done(&mut self) -> bool {
        self.session.is_body_done()
    }

    fn body_read(&self) -> u64 {
        self.session.body_bytes_read() as u64
    }

    fn is_kept(&self) -> bool {
        // The stream ends with its answer, and the connection has others.
        false
    }

    fn close_after(&mut self) {}

    async fn write(&mut self, answer: Answer, written: &mut u64) -> Result<(), Unwritten> {
        let framing = Framing::of(&answer);
        let is_empty = framing == Framing::None || framing == Framing::Length(0);
        let ends = is_empty || self.header.method == HttpMethod::HEAD;
        let header = Box::new(header(&answer, framing));
        self.session.write_response_header(header, ends)?;
        match answer.body {
            _ if ends => Ok(()),
            Body::Whole(body) => self.write_whole(body, written).await,
            Body::Stream(pieces) => self.write_stream(pieces, written).await,
        }
    }
}

impl StreamExchange<'_> {
    /// Writes a body piece by piece: the pieces that an agent has taken count, also where it does not take the rest.
    async fn write_whole(&mut self, mut body: Bytes, written: &mut u64) -> Result<(), Unwritten> {
        let writing = async {
            while !body.is_empty() {
                let piece = body.split_to(body.len().min(PIECE));
                let length = piece.len() as u64;
                self.session.write_body(piece, body.is_empty()).await?;
                *written += length;
            }
            Ok(())
        };
        let ended = timeout(self.patience, writing).await.unwrap_or_else(|late| Err(Unwritten::Gone(late.into())));
        ended.inspect_err(|_| self.session.shutdown())
    }

    /// Writes the pieces one by one: the next is asked for when the agent has taken the last.
    async fn write_stream(&mut self, mut stream: Stream, written: &mut u64) -> Result<(), Unwritten> {
        while let Some(piece) = stream.next().await {
            let Ok(piece) = piece else {
                self.session.shutdown();
                return Err(Unwritten::Cut);
            };
            let length = piece.len() as u64;
            self.write_piece(piece, false).await?;
            *written += length;
        }
        self.write_piece(Bytes::new(), true).await
    }

    /// Waits until the agent has opened its window for the piece. A stream that is given up is reset, so that what there is of its answer
    /// never looks whole.
    async fn write_piece(&mut self, piece: Bytes, end: bool) -> Result<(), Unwritten> {
        let written = match timeout(self.patience, self.session.write_body(piece, end)).await {
            Ok(written) => written.map_err(Unwritten::from),
            Err(late) => Err(Unwritten::Gone(late.into())),
        };
        written.inspect_err(|_| self.session.shutdown())
    }
}

/// The header of a hit, whose lender has left out what is the writer's.
fn hit_header(hit: &Hit) -> ResponseHeader {
    let fields = hit.lender.fields();
    let fields = fields.get(..hit.fields).unwrap_or(fields);
    let mut headers = HeaderMap::with_capacity(fields.len() + ROOM);
    for (name, value) in fields {
        headers.append(name, value.clone());
    }
    headers.insert(AGE, age(hit.age));
    headers.insert(CACHE_STATUS, CacheStatus::hit(hit.ttl).value());
    response(hit.status, headers, Framing::of_hit(hit))
}
