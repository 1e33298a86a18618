//! HTTP/1.1 connections: one request after the other, until either side has had enough.
//!
//! A request's header section is read and checked here, with its own deadline and bounds, before pingora parses it:
//! pingora repairs what ought to be refused, bounds neither time nor size as it should, and holds buffers while it
//! waits. A request of which nothing is unusual never gets to pingora ([`Shortcut`](super::Shortcut)).

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime};

use bytes::Buf;
use futures::future::BoxFuture;
use pingora::apps::HttpServerApp;
use pingora::protocols::http::ServerSession;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{Instant, timeout, timeout_at};
use weir_logic::Answer;
use weir_logic::strict::Fault;
use weir_logic::strict::head::{Framing, Scan, scan};

use super::connection::{CURRENT, Connection, End};
use super::host::Host;
use super::lent::Lent;
use super::patience::Patience;
use super::plain::{Plain, Served};
use super::wire::{Allowance, Wire};

/// Serves a connection to its end.
pub(super) async fn serve<A>(host: &Host<A>, connection: &Arc<Connection>, mut wire: Box<Wire>)
where
    A: HttpServerApp + Send + Sync + 'static,
{
    let mut patience = Patience::new(&host.drain, connection.number, connection.listener.idle_timeout);
    let mut coming = Coming::default();
    loop {
        skip_empty_lines(&mut wire);
        let mut ahead = wire.take_ahead();
        let seen = match look(host, connection, &mut wire, &ahead, coming.searched) {
            Look::Seen(seen) => seen,
            Look::Answering(rest) => Seen::answered(rest.await),
        };
        let (used, lives_on) = match seen {
            Seen::Answered { used, lives_on } => (used, lives_on),
            Seen::Incomplete => {
                coming.searched = ahead.len();
                wire.give_back(ahead);
                if more(host, connection, &mut wire, &mut coming, &mut patience).await {
                    continue;
                }
                return close(wire).await;
            }
            Seen::Fault(fault) => {
                connection.ends_for(End::Refused);
                wire.give_back(ahead);
                let answer = host.refuse(fault.refusal, fault.detail);
                return refuse_and_close(host, wire, &answer).await;
            }
            Seen::Pingoras(allowance) => {
                wire.give_back(std::mem::take(&mut ahead));
                wire.allow(allowance);
                let Some((back, lives_on)) = serve_one(host, connection, wire).await else { return };
                wire = back;
                // All that pingora has used is gone.
                (0, lives_on)
            }
        };
        if used > 0 {
            ahead.advance(used);
            wire.give_back(ahead);
        }
        if !lives_on {
            return close(wire).await;
        }
        coming = Coming::default();
    }
}

/// What there is to do with the bytes that have been read.
enum Seen {
    /// To read more: they are no whole header section.
    Incomplete,
    Fault(Fault),
    /// To forget those that a request has taken, which has been answered.
    Answered {
        used: usize,
        lives_on: bool,
    },
    /// To lend the stream to pingora, and how much of it.
    Pingoras(Allowance),
}

impl Seen {
    fn answered(request: Plain<'_>) -> Self {
        let (used, lives_on) = request.end();
        Self::Answered { used, lives_on }
    }
}

enum Look<'r> {
    Seen(Seen),
    /// A request will have been answered when this is over.
    Answering(BoxFuture<'r, Plain<'r>>),
}

/// Looks at the bytes that have been read, and answers a request at once if that can be done. It waits for nothing, so that what it takes to look
/// at a request, half a KiB, is no part of a connection.
fn look<'r, A>(
    host: &'r Host<A>,
    connection: &'r Arc<Connection>,
    wire: &'r mut Wire,
    ahead: &'r [u8],
    searched: usize,
) -> Look<'r> {
    if ahead.is_empty() {
        return Look::Seen(Seen::Incomplete);
    }
    let head = match scan(ahead, searched, host.bounds()) {
        Ok(Scan::Complete(head)) => head,
        Ok(Scan::Incomplete) => return Look::Seen(Seen::Incomplete),
        Err(fault) => return Look::Seen(Seen::Fault(fault)),
    };
    let Framing::Length(length) = head.body else { return Look::Seen(Seen::Pingoras(Allowance::Unbounded)) };
    let all_of_it = Look::Seen(Seen::Pingoras(Allowance::Exactly(length.saturating_add(head.length as u64))));
    // Pingora has a word of its own to say when it stops.
    if !connection.listener.plain_requests || !matches!(host.shutdown.has_changed(), Ok(false)) {
        return all_of_it;
    }
    let request = Plain::new(wire, ahead, head.length, length);
    match host.shortcut.serve(connection, head, request) {
        Served::Done(request) => Look::Seen(Seen::answered(request)),
        Served::Later(rest) => Look::Answering(rest),
        Served::No => all_of_it,
    }
}

/// What is known of a header section that has not come to its end.
#[derive(Default)]
struct Coming {
    /// Bytes that have been searched for its end.
    searched: usize,
    /// When it must have come.
    deadline: Option<Instant>,
}

/// Waits for more of a header section, within the time that the listener gives, or for its first byte. `false` when there will be no more.
async fn more<A>(
    host: &Host<A>,
    connection: &Connection,
    wire: &mut Wire,
    coming: &mut Coming,
    patience: &mut Patience<'_>,
) -> bool {
    let filled = if wire.ahead().is_empty() {
        idle(connection, wire, patience).await
    } else {
        let deadline = *coming.deadline.get_or_insert_with(|| Instant::now() + connection.listener.header_timeout);
        if let Ok(filled) = timeout_at(deadline, wire.fill()).await {
            filled.ok()
        } else {
            host.turn_away(&connection.listener.name, "header_timeout");
            connection.ends_for(End::Refused);
            None
        }
    };
    filled.is_some_and(|count| count > 0)
}

/// Has one request answered by pingora. Gives the stream back and whether the connection lives on.
async fn serve_one<A>(host: &Host<A>, connection: &Arc<Connection>, wire: Box<Wire>) -> Option<(Box<Wire>, bool)>
where
    A: HttpServerApp + Send + Sync + 'static,
{
    connection.kept.store(false, Ordering::Relaxed);
    let (lent, home) = Lent::new(wire);
    let session = ServerSession::new_http1(Box::new(lent));
    let reused =
        CURRENT.scope(Arc::clone(connection), host.app.process_new_http(session, &host.shutdown)).await.is_some();
    let wire = home.take()?;
    let kept = connection.kept.load(Ordering::Relaxed) && wire.is_spent();
    Some((wire, reused || kept))
}

/// Waits for the first byte of a request: `None` when it has waited long enough or the connection's turn to end has
/// come. What has already arrived comes first, and what arrives while a busy node is late to notice as well.
async fn idle(connection: &Connection, wire: &mut Wire, patience: &mut Patience<'_>) -> Option<usize> {
    tokio::select! {
        biased;
        filled = wire.fill() => return filled.ok(),
        end = patience.ends() => connection.ends_for(end),
    }
    timeout(LAST_CALL, wire.fill()).await.ok()?.ok()
}

/// Empty lines before a request are what some clients send behind a body (RFC 9112, section 2.2).
fn skip_empty_lines(wire: &mut Wire) {
    while wire.ahead().starts_with(b"\r\n") {
        wire.skip(2);
    }
}

/// Answers a request whose end is not certain, and closes.
async fn refuse_and_close<A>(host: &Host<A>, mut wire: Box<Wire>, answer: &Answer) {
    let bytes = last_answer(answer, host.clock.now().0);
    // An agent that is gone needs no answer.
    if wire.write_all(&bytes).await.is_ok() {
        host.written(answer);
        close(wire).await;
    }
}

fn last_answer(answer: &Answer, now_millis: u64) -> Vec<u8> {
    let reason = http::StatusCode::from_u16(answer.status).ok().and_then(|status| status.canonical_reason());
    let date = httpdate::fmt_http_date(SystemTime::UNIX_EPOCH + Duration::from_millis(now_millis));
    let mut bytes = format!(
        "HTTP/1.1 {} {}\r\nDate: {date}\r\nServer: weir\r\nContent-Length: {}\r\nConnection: close\r\n",
        answer.status,
        reason.unwrap_or_default(),
        answer.body.len(),
    )
    .into_bytes();
    for (name, value) in &answer.headers {
        bytes.extend_from_slice(name.as_str().as_bytes());
        bytes.extend_from_slice(b": ");
        bytes.extend_from_slice(value.as_bytes());
        bytes.extend_from_slice(b"\r\n");
    }
    bytes.extend_from_slice(b"\r\n");
    bytes.extend_from_slice(&answer.body);
    bytes
}

/// Closes so that the last answer arrives: closing with unread bytes would reset the connection and take the answer
/// with it. Reads on for a bounded time and size.
async fn close(mut wire: Box<Wire>) {
    wire.allow(Allowance::Unbounded);
    let lingering = async {
        wire.shutdown().await?;
        let mut scrap = vec![0; LINGER_READ];
        let mut left = LINGER_BYTES;
        while left > 0 {
            match wire.read(&mut scrap).await? {
                0 => break,
                count => left = left.saturating_sub(count),
            }
        }
        std::io::Result::Ok(())
    };
    // However it went, the connection is over.
    drop(timeout(LINGER_TIME, lingering).await);
}

/// The time that a request has to arrive when its connection is about to be closed.
const LAST_CALL: Duration = Duration::from_millis(50);

const LINGER_TIME: Duration = Duration::from_secs(2);
const LINGER_BYTES: usize = 256 * 1024;
const LINGER_READ: usize = 4096;
