//! Writing a prepared answer, so that it does not cost the connection.

use bytes::Bytes;
use http::Method;
use http::header::{CONNECTION, CONTENT_LENGTH, DATE, SERVER, TRANSFER_ENCODING};
use pingora::http::ResponseHeader;
use pingora::protocols::http::ServerSession;
use pingora::protocols::http::v1::server::HttpSession;
use weir_logic::Answer;

use super::body;

/// Writes the whole answer and gives the bytes of the body written. The connection is kept, unless it is to be the
/// `last` answer or an unread body is in the way.
///
/// # Errors
/// The agent has left.
pub(super) async fn answer(session: &mut ServerSession, answer: Answer, last: bool) -> pingora::Result<u64> {
    let keeps = session.as_http1().is_some_and(HttpSession::will_keepalive);
    if last || (keeps && !body::discard(session).await) {
        session.set_keepalive(None);
    }
    let without_body = matches!(answer.status, 204 | 304) || session.req_header().method == Method::HEAD;
    session.write_response_header(Box::new(header(&answer)?)).await?;
    let body = if without_body { Bytes::new() } else { answer.body };
    let length = body.len() as u64;
    session.write_response_body(body, true).await?;
    Ok(length)
}

fn header(answer: &Answer) -> pingora::Result<ResponseHeader> {
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
    if !matches!(answer.status, 204 | 304) {
        header.insert_header(CONTENT_LENGTH, answer.body.len())?;
    }
    Ok(header)
}
