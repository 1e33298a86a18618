//! One request and its answer over one connection: the head, and then the body, piece by piece or as a whole.

use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, HOST, HeaderValue, USER_AGENT};
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderMap, Method, StatusCode, Uri};
use pingora::http::RequestHeader;
use pingora::protocols::http::client::HttpSession;

use super::{OriginError, OriginRequest};
use crate::clock::Clock;

/// An answer's head, how soon it came, and whether the connection can carry another request after the body.
pub(super) struct Begun {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    /// From the last byte of the request to the header section of the answer: what the core has to do with. How long bodies take
    /// says more of their length and of the network.
    pub(super) waited: Duration,
    pub(super) reusable: bool,
}

/// The request's head, without what depends on the protocol.
pub(super) fn head(request: &OriginRequest, host: &str) -> Result<RequestHeader, OriginError> {
    let mut head =
        RequestHeader::build(request.method.clone(), request.target.as_bytes(), Some(request.headers.len() + 3))
            .map_err(|_| OriginError::Broken)?;
    let host = HeaderValue::from_str(host).map_err(|_| OriginError::Broken)?;
    insert(&mut head, HOST, host)?;
    for (name, value) in &request.headers {
        head.append_header(name.clone(), value.clone()).map_err(|_| OriginError::Broken)?;
    }
    // A key may name the agent's: then the core is told that one.
    if !head.headers.contains_key(USER_AGENT) {
        insert(&mut head, USER_AGENT, AGENT)?;
    }
    if !request.body.is_empty() || has_body(&request.method) {
        insert(&mut head, CONTENT_LENGTH, HeaderValue::from(request.body.len()))?;
    }
    Ok(head)
}

/// Sends the request and reads the answer's head. The caller sets the deadline.
pub(super) async fn begin(
    session: &mut HttpSession,
    head: RequestHeader,
    tls: bool,
    body: &Bytes,
    clock: Clock,
) -> Result<Begun, OriginError> {
    let sent = send(session, head, tls, body).await;
    let asked = clock.elapsed();
    // A core that refuses a body without reading it may answer before it closes: its answer says more than the broken pipe.
    let patience = if sent.is_ok() { None } else { Some(LAST_WORDS) };
    let status = read_head(session, patience).await?;
    let waited = clock.elapsed().saturating_sub(asked);
    let headers = session.response_header().map(|answer| answer.headers.clone()).unwrap_or_default();
    Ok(Begun { status, headers, waited, reusable: sent.is_ok() })
}

/// The next piece of the answer's body; `None` at its end.
pub(super) async fn read_piece(session: &mut HttpSession) -> Result<Option<Bytes>, OriginError> {
    session.read_response_body().await.map_err(|_| OriginError::Broken)
}

/// The time for which an answer is awaited after the request could not be written to its end.
const LAST_WORDS: Duration = Duration::from_millis(500);

async fn send(session: &mut HttpSession, head: RequestHeader, tls: bool, body: &Bytes) -> Result<(), OriginError> {
    let written = match session {
        HttpSession::H2(stream) => {
            let head = absolute(head, tls)?;
            stream.write_request_header(Box::new(head), body.is_empty())
        }
        _ => session.write_request_header(Box::new(head)).await,
    };
    written.map_err(|_| OriginError::Broken)?;
    if !body.is_empty() {
        session.write_request_body(body.clone(), true).await.map_err(|_| OriginError::Broken)?;
    }
    session.finish_request_body().await.map_err(|_| OriginError::Broken)
}

/// Reads to the head of the final answer, past interim ones (RFC 9110, section 15.2).
async fn read_head(session: &mut HttpSession, patience: Option<Duration>) -> Result<StatusCode, OriginError> {
    let heads = async {
        for _ in 0..MAX_INTERIM_ANSWERS {
            session.read_response_header().await.map_err(|_| OriginError::Broken)?;
            let status = session.response_header().map(|answer| answer.status).ok_or(OriginError::Broken)?;
            if !status.is_informational() {
                return Ok(status);
            }
            if status == StatusCode::SWITCHING_PROTOCOLS {
                break;
            }
        }
        Err(OriginError::Broken)
    };
    match patience {
        None => heads.await,
        Some(patience) => tokio::time::timeout(patience, heads).await.unwrap_or(Err(OriginError::Broken)),
    }
}

const MAX_INTERIM_ANSWERS: usize = 8;

/// The length of a body that its headers announce.
pub fn announced_length(headers: &HeaderMap) -> Option<u64> {
    headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// The whole body, of at most `max_bytes`, in memory of just its size: it may be kept, and what is larger by as little as a header would
/// hold on to the connection's buffer.
pub(super) async fn read_body(session: &mut HttpSession, max_bytes: usize) -> Result<Bytes, OriginError> {
    let announced = session.response_header().and_then(|answer| announced_length(&answer.headers));
    let announced = announced.and_then(|length| usize::try_from(length).ok());
    let mut body = Vec::new();
    while let Some(piece) = read_piece(session).await? {
        if body.len() + piece.len() > max_bytes {
            return Err(OriginError::TooLarge(max_bytes));
        }
        if body.is_empty() {
            body.reserve_exact(announced.unwrap_or(0).clamp(piece.len(), max_bytes));
        }
        body.extend_from_slice(&piece);
    }
    Ok(body.into_boxed_slice().into())
}

/// HTTP/2 wants the scheme and the authority in the target (RFC 9113, section 8.3.1).
fn absolute(mut head: RequestHeader, tls: bool) -> Result<RequestHeader, OriginError> {
    let host = head.headers.get(HOST).and_then(|host| Authority::try_from(host.as_bytes()).ok());
    let target = head.uri.path_and_query().cloned().unwrap_or_else(|| PathAndQuery::from_static("/"));
    let scheme = if tls { Scheme::HTTPS } else { Scheme::HTTP };
    let uri = Uri::builder().scheme(scheme).authority(host.ok_or(OriginError::Broken)?).path_and_query(target);
    head.set_uri(uri.build().map_err(|_| OriginError::Broken)?);
    head.remove_header(&HOST);
    Ok(head)
}

fn insert(head: &mut RequestHeader, name: http::HeaderName, value: HeaderValue) -> Result<(), OriginError> {
    head.insert_header(name, value).map_err(|_| OriginError::Broken)
}

fn has_body(method: &Method) -> bool {
    matches!(*method, Method::POST | Method::PUT | Method::PATCH)
}

const AGENT: HeaderValue = HeaderValue::from_static(concat!("weir/", env!("CARGO_PKG_VERSION")));
