//! Plain requests of HTTP/1.1, without a session of pingora's: the second way in.
//!
//! A request is plain when nothing in it needs pingora: `GET`, `HEAD` or `POST` of HTTP/1.1 for a path that no route forwards, with at
//! most one `Connection`, and a body, if any, of a stated length. That is decided from the header section alone, before a byte of it is
//! used. What a plain request is given, and what is counted of it, is decided by the same code as for any other (`walk`); here are only
//! the reading of its headers and the writing of its answer.

mod exchange;
mod write;

use std::sync::Arc;

use async_trait::async_trait;
use weir_config::{Action, Method};
use weir_logic::Headers;
use weir_logic::strict::section::Section;
use weir_logic::strict::target::Target;

use self::exchange::PlainExchange;
use super::Parts;
use super::context::RequestContext;
use super::exchange::Exchange;
use super::walk::{self, Line, Routed};
use crate::accept::{Connection, Plain, Shortcut, Taken};

/// Answers plain requests.
pub(super) struct PlainGateway {
    parts: Arc<Parts>,
}

impl PlainGateway {
    pub(super) fn new(parts: Arc<Parts>) -> Self {
        Self { parts }
    }
}

#[async_trait]
impl Shortcut for PlainGateway {
    async fn serve(&self, connection: &Arc<Connection>, request: &mut Plain<'_>) -> Taken {
        let parts = &self.parts;
        let section = Section::of(request.head());
        let Some((line, closes)) = plain_line(&section) else { return Taken::No };
        let snapshot = parts.snapshot.load_full();
        let routed = walk::find(&snapshot, &line);
        if matches!(&routed, Ok(Routed { route, .. }) if matches!(route.action, Action::Forward(_))) {
            return Taken::No;
        }
        if closes {
            request.close_after();
        }
        let mut ctx = RequestContext::new(parts, Arc::clone(&snapshot), Arc::clone(connection));
        let mut exchange = PlainExchange::new(&section, line.method == Some(Method::Head), parts.clock, request);
        let answered = async {
            let known = walk::admit(parts, &snapshot, routed?, &section, &mut ctx).await?;
            walk::act(parts, &mut exchange, &mut ctx, &known).await
        };
        let answered = answered.await;
        walk::settle(parts, &mut exchange, &mut ctx, answered).await;
        walk::ended(parts, &mut ctx, exchange.body_read());
        Taken::Yes
    }
}

/// What a plain request asks for, and whether it wants to be the last of its connection; `None` for a request that is not plain.
fn plain_line<'a>(section: &'a Section<'_>) -> Option<(Line<'a>, bool)> {
    let method = match section.method {
        b"GET" => Method::Get,
        b"HEAD" => Method::Head,
        b"POST" => Method::Post,
        _ => return None,
    };
    if section.version != b"HTTP/1.1" || !section.target.starts_with(b"/") {
        return None;
    }
    // Pingora has its own words for a host that is none.
    let host = section.first("host")?;
    Target::parse(b"/", host).ok()?;
    let mut connection = section.values("connection");
    let closes = match (connection.next(), connection.next()) {
        (None, _) => false,
        (Some(option), None) if option.eq_ignore_ascii_case(b"keep-alive") => false,
        (Some(option), None) if option.eq_ignore_ascii_case(b"close") => true,
        _ => return None,
    };
    Some((Line { method: Some(method), target: section.target, authority: Some(host) }, closes))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plain(text: &str) -> Option<bool> {
        plain_line(&Section::of(text.as_bytes())).map(|(_, closes)| closes)
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
