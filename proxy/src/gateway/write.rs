//! Writing a prepared answer, so that it does not cost the connection.

use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_LENGTH, DATE, HeaderValue, SERVER, TRANSFER_ENCODING};
use http::{Method, Version};
use pingora::http::ResponseHeader;
use pingora::protocols::http::ServerSession;
use pingora::protocols::http::v1::server::HttpSession;

use super::body;
use crate::answer::{Answer, Body, Stream};

/// Why an answer was not written to its end.
#[derive(Debug)]
pub(super) enum Unwritten {
    /// The agent has left.
    Gone(Box<pingora::Error>),
    /// Its body broke off. The agent has been told so: a connection of HTTP/1.1 is closed, a stream of HTTP/2 reset.
    Cut,
}

/// Writes the whole answer. The connection is kept, unless it is to be the `last` answer, an unread body is in the way, or the
/// answer's own body breaks off. Bytes of the body are counted in `written` as they are handed over.
pub(super) async fn answer(
    session: &mut ServerSession,
    answer: Answer,
    last: bool,
    written: &mut u64,
) -> Result<(), Unwritten> {
    let keeps = session.as_http1().is_some_and(HttpSession::will_keepalive);
    if last || (keeps && !body::discard(session).await) {
        session.set_keepalive(None);
    }
    let without_body = matches!(answer.status, 204 | 304) || session.req_header().method == Method::HEAD;
    let framing = framing(session, &answer);
    session.write_response_header(Box::new(header(&answer, framing)?)).await?;
    match answer.body {
        _ if without_body => session.write_response_body(Bytes::new(), true).await?,
        Body::Whole(body) => {
            let length = body.len() as u64;
            session.write_response_body(body, true).await?;
            *written += length;
        }
        Body::Stream(stream) => self::stream(session, stream, written).await?,
    }
    Ok(())
}

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

/// How the agent learns where the body ends.
#[derive(Clone, Copy)]
enum Framing {
    /// There is none, and no word of one.
    None,
    Length(u64),
    Chunked,
    /// By the protocol: the end of the stream in HTTP/2, of the connection in HTTP/1.0.
    End,
}

fn framing(session: &mut ServerSession, answer: &Answer) -> Framing {
    if matches!(answer.status, 204 | 304) {
        return Framing::None;
    }
    match (answer.body.length(), session.req_header().version) {
        (Some(length), _) => Framing::Length(length),
        (None, Version::HTTP_11) => Framing::Chunked,
        (None, version) => {
            if version < Version::HTTP_11 {
                session.set_keepalive(None);
            }
            Framing::End
        }
    }
}

fn header(answer: &Answer, framing: Framing) -> pingora::Result<ResponseHeader> {
    let mut header = ResponseHeader::build_no_case(answer.status, Some(answer.headers.len() + 4))?;
    for (name, value) in &answer.headers {
        // The writer's own: an action that states one is not believed.
        if ![CONTENT_LENGTH, TRANSFER_ENCODING, CONNECTION, DATE].contains(name) {
            header.append_header(name.clone(), value.clone())?;
        }
    }
    if !header.headers.contains_key(SERVER) {
        header.insert_header(SERVER, "weir")?;
    }
    match framing {
        Framing::None | Framing::End => {}
        Framing::Length(length) => header.insert_header(CONTENT_LENGTH, length)?,
        Framing::Chunked => header.insert_header(TRANSFER_ENCODING, HeaderValue::from_static("chunked"))?,
    }
    Ok(header)
}

impl From<Box<pingora::Error>> for Unwritten {
    fn from(error: Box<pingora::Error>) -> Self {
        Self::Gone(error)
    }
}
