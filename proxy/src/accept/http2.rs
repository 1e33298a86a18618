//! HTTP/2 connections: every stream is a request of its own.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use http::Method;
use pingora::apps::HttpServerApp;
use pingora::protocols::Digest;
use pingora::protocols::http::ServerSession;
use pingora::protocols::http::v2::server::{H2Accept, H2Options, HttpSession, default_h2_options, handshake};
use tokio::sync::Notify;
use tokio::time::timeout;
use weir_logic::Refusal;

use super::connection::{CURRENT, Connection, End};
use super::host::Host;
use super::lent::Lent;
use super::wire::{Allowance, Wire};
use crate::task;

/// Serves a connection to its end. At its turn to end it says GOAWAY, answers what is open and closes.
pub(super) async fn serve<A>(host: &Arc<Host<A>>, connection: &Arc<Connection>, mut wire: Box<Wire>)
where
    A: HttpServerApp + Send + Sync + 'static,
{
    wire.allow(Allowance::Unbounded);
    let (lent, _home) = Lent::new(wire);
    let opening = handshake(Box::new(lent), Some(options(host, connection)));
    let Ok(Ok(mut streams)) = timeout(connection.listener.header_timeout, opening).await else {
        connection.ends_for(End::Refused);
        return host.turn_away(&connection.listener.name, "http2_preface");
    };
    let digest = Arc::new(Digest::default());
    let open = Arc::new(OpenStreams::default());
    let mut malformed = 0;
    let mut ending = false;
    // Set once for all requests: each time anew would take and leave locks that all connections share.
    let mut turn = pin!(connection.turn());
    loop {
        let accepted = tokio::select! {
            biased;
            accepted = HttpSession::from_h2_conn(&mut streams, Arc::clone(&digest)) => accepted,
            () = &mut turn, if !ending => {
                streams.graceful_shutdown();
                ending = true;
                continue;
            }
            () = idle(&open, if ending { LAST_WORDS } else { connection.listener.idle_timeout }) => {
                if ending {
                    return;
                }
                connection.ends_for(End::Idle);
                streams.graceful_shutdown();
                ending = true;
                continue;
            }
        };
        match accepted {
            Ok(Some(H2Accept::Session(session))) => spawn(host, connection, session, open.enter()),
            Ok(Some(H2Accept::Rejected)) if malformed < MAX_MALFORMED => {
                // Answered or reset by pingora for its target, length or authority.
                malformed += 1;
                drop(host.refuse(Refusal::Malformed, ""));
            }
            // Over, broken, or not worth more patience.
            _ => return,
        }
    }
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

fn spawn<A>(host: &Arc<Host<A>>, connection: &Arc<Connection>, session: HttpSession, open: OpenStream)
where
    A: HttpServerApp + Send + Sync + 'static,
{
    if session.req_header().method == Method::CONNECT {
        // Pingora refuses tunnels before the gateway could count them.
        drop(host.refuse(Refusal::WrongMethod, ""));
    }
    let (host, connection) = (Arc::clone(host), Arc::clone(connection));
    task::spawn("http2-request", async move {
        let _open = open;
        let session = ServerSession::new_http2(session);
        CURRENT.scope(connection, host.app.process_new_http(session, &host.shutdown)).await;
    });
}

/// Waits until no stream has been open for that time. A new stream starts the wait anew, because the caller does.
async fn idle(open: &OpenStreams, time: Duration) {
    loop {
        let changed = open.none.notified();
        if open.count.load(Ordering::Acquire) == 0 {
            return tokio::time::sleep(time).await;
        }
        changed.await;
    }
}

/// The requests of one connection that are worked on.
#[derive(Default)]
struct OpenStreams {
    count: AtomicUsize,
    none: Notify,
}

impl OpenStreams {
    fn enter(self: &Arc<Self>) -> OpenStream {
        self.count.fetch_add(1, Ordering::AcqRel);
        OpenStream(Arc::clone(self))
    }
}

struct OpenStream(Arc<OpenStreams>);

impl Drop for OpenStream {
    fn drop(&mut self) {
        if self.0.count.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.0.none.notify_waiters();
        }
    }
}

/// Requests that a connection may get wrong before it is closed.
const MAX_MALFORMED: usize = 32;

/// The time that an agent has to close a connection after GOAWAY.
const LAST_WORDS: Duration = Duration::from_secs(5);

/// Bytes of bodies on their way over one connection.
const CONNECTION_WINDOW: u32 = 1024 * 1024;
