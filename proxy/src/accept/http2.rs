//! HTTP/2 connections: every stream is a request of its own.
//!
//! A request of which nothing is unusual is answered without pingora's proxy ([`Shortcut`](super::Shortcut)); where that takes no waiting, in the
//! connection's own task, so that the answers of one turn leave together.

use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::Method;
use pingora::apps::HttpServerApp;
use pingora::protocols::http::ServerSession;
use pingora::protocols::http::v2::server::{H2Accept, H2Options, HttpSession, default_h2_options, handshake};
use pingora::protocols::{Digest, Stream};
use tokio::sync::Notify;
use tokio::task::yield_now;
use tokio::time::{Instant, Sleep, sleep_until, timeout};
use weir_logic::Refusal;

use super::connection::{CURRENT, Connection, End};
use super::host::Host;
use super::outlet::Outlet;
use super::plain::Streamed;
use super::wire::{Allowance, Wire};
use crate::task;

/// The library's side of a connection.
pub(super) type Streams = h2::server::Connection<Stream, Bytes>;

/// Serves a connection to its end. At its turn to end it says GOAWAY, answers what is open and closes.
pub(super) async fn serve<A>(host: &Arc<Host<A>>, connection: &Arc<Connection>, wire: Box<Wire>)
where
    A: HttpServerApp + Send + Sync + 'static,
{
    // Boxed, both while it is opened and then, so that the connection has no room for the one while it is the other.
    let Some((mut streams, outlet)) = Box::pin(open(host, connection, wire)).await else {
        connection.ends_for(End::Refused);
        return host.turn_away(&connection.listener.name, "http2_preface");
    };
    let open = Arc::new(OpenStreams::new());
    let mut silence = Silence::new(connection.listener.idle_timeout);
    let mut requests = Requests { host, connection, digest: Arc::default(), open: Arc::clone(&open), malformed: 0 };
    let mut ending = false;
    // Set once for all requests: each time anew would take and leave locks that all connections share.
    let mut turn = pin!(connection.turn());
    loop {
        let over = tokio::select! {
            biased;
            begun = outlet.drive(|cx| requests.poll_begin(&mut streams, cx)) => {
                if !matches!(begun, Ok(Begun::Some)) {
                    return;
                }
                // Others have connections too.
                yield_now().await;
                continue;
            }
            () = &mut turn, if !ending => false,
            () = silence.ends(&open) => true,
        };
        if over && ending {
            return;
        }
        if over {
            connection.ends_for(End::Idle);
        }
        streams.graceful_shutdown();
        ending = true;
        silence = Silence::new(LAST_WORDS);
    }
}

/// Waits for the agent's preface.
async fn open<A>(host: &Host<A>, connection: &Connection, mut wire: Box<Wire>) -> Option<(Box<Streams>, Outlet)> {
    wire.allow(Allowance::Unbounded);
    let (stream, outlet) = Outlet::new(wire);
    let mut opening = pin!(handshake(Box::new(stream), Some(options(host, connection))));
    let opened = timeout(connection.listener.header_timeout, outlet.drive(|cx| opening.as_mut().poll(cx))).await;
    let streams = opened.ok()?.ok()?.ok()?;
    Some((Box::new(streams), outlet))
}

fn options<A>(host: &Host<A>, connection: &Connection) -> H2Options {
    let header_bytes = u32::try_from(host.bounds().head).unwrap_or(u32::MAX);
    let mut options = default_h2_options();
    options
        .max_concurrent_streams(connection.listener.max_http2_streams)
        .max_header_list_size(header_bytes)
        .initial_connection_window_size(CONNECTION_WINDOW);
    options
}

/// The requests of a connection, as they come.
struct Requests<'a, A> {
    host: &'a Arc<Host<A>>,
    connection: &'a Arc<Connection>,
    digest: Arc<Digest>,
    open: Arc<OpenStreams>,
    malformed: usize,
}

/// What has become of a turn.
enum Begun {
    /// As many requests as may be begun at once; there may be more.
    Some,
    /// The connection is over, broken, or not worth more patience.
    Over,
}

impl<A> Requests<'_, A>
where
    A: HttpServerApp + Send + Sync + 'static,
{
    /// Begins what has come, and waits for more. Requests are begun while the connection is polled and are no part of its state, so that an idle
    /// one has no room for them.
    fn poll_begin(&mut self, streams: &mut Streams, cx: &mut Context<'_>) -> Poll<Begun> {
        for begun in 0..AT_ONCE {
            let accepting = pin!(HttpSession::from_h2_conn(streams, Arc::clone(&self.digest)));
            let Poll::Ready(accepted) = accepting.poll(cx) else {
                if begun > 0 {
                    self.open.touch();
                }
                return Poll::Pending;
            };
            match accepted {
                Ok(Some(H2Accept::Session(session))) => self.begin(session),
                Ok(Some(H2Accept::Rejected)) if self.malformed < MAX_MALFORMED => {
                    // Answered or reset by pingora for its target, length or authority.
                    self.malformed += 1;
                    drop(self.host.refuse(Refusal::Malformed, ""));
                }
                _ => return Poll::Ready(Begun::Over),
            }
        }
        self.open.touch();
        Poll::Ready(Begun::Some)
    }

    /// Has a request answered: here and now if that takes neither pingora's proxy nor waiting, in a task of its own if it does.
    fn begin(&self, session: HttpSession) {
        if session.req_header().method == Method::CONNECT {
            // Pingora refuses tunnels before the gateway could count them.
            drop(self.host.refuse(Refusal::WrongMethod, ""));
            return self.pass_on(session);
        }
        if !self.connection.listener.plain_requests {
            return self.pass_on(session);
        }
        match self.host.shortcut.serve_stream(self.connection, session) {
            Streamed::Done => {}
            Streamed::Later(answering) => {
                let open = self.open.enter();
                task::spawn("http2-request", async move {
                    answering.await;
                    drop(open);
                });
            }
            Streamed::No(session) => self.pass_on(*session),
        }
    }

    /// Has pingora's proxy answer a request.
    fn pass_on(&self, session: HttpSession) {
        let (host, connection, open) = (Arc::clone(self.host), Arc::clone(self.connection), self.open.enter());
        task::spawn("http2-request", async move {
            let session = ServerSession::new_http2(session);
            CURRENT.scope(connection, host.app.process_new_http(session, &host.shutdown)).await;
            drop(open);
        });
    }
}

/// The time without an open stream after which a connection is idle.
///
/// To set a timer takes a lock that all connections share, so it is set once, and anew when it has run out too soon.
struct Silence {
    since: Instant,
    time: Duration,
    timer: Option<Pin<Box<Sleep>>>,
}

impl Silence {
    /// That time, from now on.
    fn new(time: Duration) -> Self {
        Self { since: Instant::now(), time, timer: None }
    }

    /// Waits until no stream has been open for that time. Can be dropped and called again.
    async fn ends(&mut self, open: &OpenStreams) {
        loop {
            let changed = open.none.notified();
            if open.count.load(Ordering::Acquire) > 0 {
                changed.await;
                continue;
            }
            let end = self.since.max(open.last()) + self.time;
            if Instant::now() >= end {
                return;
            }
            let timer = self.timer.get_or_insert_with(|| Box::pin(sleep_until(end)));
            timer.as_mut().await;
            self.timer = None;
        }
    }
}

/// The requests of one connection that are worked on.
struct OpenStreams {
    count: AtomicUsize,
    none: Notify,
    began: Instant,
    /// When requests came or ended for the last time, in milliseconds after the connection began.
    last: AtomicU64,
}

impl OpenStreams {
    fn new() -> Self {
        Self { count: AtomicUsize::new(0), none: Notify::new(), began: Instant::now(), last: AtomicU64::new(0) }
    }

    fn enter(self: &Arc<Self>) -> OpenStream {
        self.count.fetch_add(1, Ordering::AcqRel);
        OpenStream(Arc::clone(self))
    }

    fn touch(&self) {
        let now = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.last.fetch_max(now, Ordering::AcqRel);
    }

    fn last(&self) -> Instant {
        self.began + Duration::from_millis(self.last.load(Ordering::Acquire))
    }
}

struct OpenStream(Arc<OpenStreams>);

impl Drop for OpenStream {
    fn drop(&mut self) {
        let open = &self.0;
        open.touch();
        if open.count.fetch_sub(1, Ordering::AcqRel) == 1 {
            open.none.notify_waiters();
        }
    }
}

/// Requests that a connection may get wrong before it is closed.
const MAX_MALFORMED: usize = 32;

/// Requests begun without a look at what else there is to do.
const AT_ONCE: usize = 32;

/// The time that an agent has to close a connection after GOAWAY.
const LAST_WORDS: Duration = Duration::from_secs(5);

/// Bytes of bodies on their way over one connection.
const CONNECTION_WINDOW: u32 = 1024 * 1024;
