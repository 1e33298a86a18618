//! Plain requests of HTTP/1.1, without a session of pingora's: the second way in.
//!
//! A request is plain when nothing in it needs pingora: `GET`, `HEAD` or `POST` of HTTP/1.1 for a path that no route forwards, with at
//! most one `Connection`, and a body, if any, of a stated length. That is decided from the header section alone, before a byte of it is
//! used. What a plain request is given, and what is counted of it, is decided by the same code as for any other (`walk`); here are only
//! the reading of its headers and the writing of its answer.

mod at_once;
mod exchange;
mod write;

use std::sync::Arc;

use arc_swap::Guard;
use pingora::protocols::http::v2::server::HttpSession;
use weir_config::{Action, Method};
use weir_logic::Headers;
use weir_logic::strict::head::Head;
use weir_logic::strict::section::Section;
use weir_logic::strict::target::{Authority, Target};

use self::at_once::{Arrived, Tried};
use self::exchange::PlainExchange;
use super::Parts;
use super::context::RequestContext;
use super::exchange::Exchange;
use super::walk::{self, Knocked, Routed, Stop};
use super::{at_hand, stream};
use crate::accept::{Connection, Plain, Served, Shortcut, Streamed};
use crate::snapshot::ConfigSnapshot;

/// Answers plain requests.
pub(super) struct PlainGateway {
    parts: Arc<Parts>,
}

impl PlainGateway {
    pub(super) fn new(parts: Arc<Parts>) -> Self {
        Self { parts }
    }
}

impl Shortcut for PlainGateway {
    fn serve<'r>(&'r self, connection: &'r Arc<Connection>, head: Head, mut request: Plain<'r>) -> Served<'r> {
        let parts = &*self.parts;
        let started = parts.clock.elapsed();
        let section = Section::new(request.head(), &head);
        let Some(line) = PlainLine::of(&section) else { return Served::No };
        let snapshot = parts.snapshot.load();
        let routed = line.find(&snapshot);
        if matches!(&routed, Ok(Routed { route, .. }) if matches!(route.action, Action::Forward(_))) {
            return Served::No;
        }
        if line.closes {
            request.close_after();
        }
        let tried = match &routed {
            Ok(routed) if request.is_body_done() && at_hand::may_be(parts, routed) => {
                let arrived = Arrived { parts, snapshot: &snapshot, connection, section, started };
                Some(arrived.answer(routed, &mut request))
            }
            _ => None,
        };
        drop(routed);
        let context = || RequestContext::began(parts, Guard::into_inner(snapshot), Arc::clone(connection), started);
        let knocked = match tried {
            Some(Tried::Answered) => return Served::Done(request),
            Some(Tried::Begun(unfinished)) => {
                return Served::Later(Box::pin(unfinished.write(parts, context(), request)));
            }
            Some(Tried::Not(knocked)) => Some(knocked),
            None => None,
        };
        Served::Later(Box::pin(walk(parts, context(), head, knocked, request)))
    }

    fn serve_stream(&self, connection: &Arc<Connection>, request: HttpSession) -> Streamed {
        stream::serve(&self.parts, connection, request)
    }
}

/// Takes a request that is not answered at once to its end. `knocked` is what has been said at the door, if it has been there.
async fn walk<'r>(
    parts: &Parts,
    mut ctx: RequestContext,
    head: Head,
    knocked: Option<Knocked>,
    mut request: Plain<'r>,
) -> Plain<'r> {
    let snapshot = Arc::clone(&ctx.snapshot);
    let section = Section::new(request.head(), &head);
    // It was plain a moment ago.
    let Some(line) = PlainLine::of(&section) else { return request };
    let mut exchange = PlainExchange::new(section, line.method == Method::Head, parts.clock, &mut request);
    let answered = async {
        let routed = line.find(&snapshot)?;
        let known = match knocked {
            Some(knocked) => walk::let_in(parts, &snapshot, routed, knocked, &mut ctx).await?,
            None => walk::admit(parts, &snapshot, routed, &section, &mut ctx).await?,
        };
        walk::act(parts, &mut exchange, &mut ctx, &known).await
    };
    let answered = answered.await;
    walk::settle(parts, &mut exchange, &mut ctx, answered).await;
    walk::ended(parts, &mut ctx, exchange.body_read());
    request
}

/// What a plain request asks for, and whether it wants to be the last of its connection.
struct PlainLine<'a> {
    method: Method,
    target: &'a [u8],
    authority: Authority<'a>,
    closes: bool,
}

impl<'a> PlainLine<'a> {
    /// `None` for a request that is not plain.
    fn of(section: &'a Section<'_>) -> Option<Self> {
        let method = match section.method() {
            b"GET" => Method::Get,
            b"HEAD" => Method::Head,
            b"POST" => Method::Post,
            _ => return None,
        };
        let target = section.target();
        if section.version() != b"HTTP/1.1" || !target.starts_with(b"/") {
            return None;
        }
        // Pingora has its own words for a host that is none.
        let authority = Authority::parse(section.first("host")?).ok()?;
        let mut connection = section.values("connection");
        let closes = match (connection.next(), connection.next()) {
            (None, _) => false,
            (Some(option), None) if option.eq_ignore_ascii_case(b"keep-alive") => false,
            (Some(option), None) if option.eq_ignore_ascii_case(b"close") => true,
            _ => return None,
        };
        Some(Self { method, target, authority, closes })
    }

    fn find<'s>(&self, snapshot: &'s ConfigSnapshot) -> Result<Routed<'s>, Stop>
    where
        'a: 's,
    {
        let target = Target::at(self.target, self.authority);
        walk::find_target(snapshot, Some(self.method), self.target.len(), target)
    }
}

#[cfg(test)]
mod tests {
    use weir_logic::strict::head::{Bounds, Scan, scan};

    use super::*;

    fn plain(text: &str) -> Option<bool> {
        let Ok(Scan::Complete(head)) = scan(text.as_bytes(), 0, Bounds { head: 4096, target: 512, fields: 16 }) else {
            panic!("no section: {text}")
        };
        PlainLine::of(&Section::new(text.as_bytes(), &head)).map(|line| line.closes)
    }

    #[test]
    fn requests_in_which_nothing_is_unusual_are_plain() {
        assert_eq!(plain("GET /a?b HTTP/1.1\r\nHost: edge:80\r\n\r\n"), Some(false));
        assert_eq!(plain("HEAD / HTTP/1.1\r\nHost: [::1]\r\nConnection: Keep-Alive\r\n\r\n"), Some(false));
        assert_eq!(plain("POST / HTTP/1.1\r\nconnection: CLOSE\r\nhost: a\r\nContent-Length: 3\r\n\r\n"), Some(true));
    }

    #[test]
    fn all_others_are_pingoras() {
        for text in [
            "PUT / HTTP/1.1\r\nHost: a\r\n\r\n",
            "get / HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET / HTTP/1.0\r\nHost: a\r\n\r\n",
            "GET http://a/ HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET * HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a@b\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\nConnection: keep-alive, x-a\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nConnection: close\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\n\r\n",
        ] {
            assert_eq!(plain(text), None, "{text:?}");
        }
    }
}
