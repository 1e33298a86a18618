//! One request and its whole answer over one connection.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::header::{CONTENT_LENGTH, HOST, HeaderValue, USER_AGENT};
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{Method, StatusCode, Uri};
use pingora::http::RequestHeader;
use pingora::protocols::http::client::HttpSession;

use super::{OriginAnswer, OriginError, OriginRequest};
use crate::clock::Clock;

/// Why an exchange failed, and whether any of the answer had arrived before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Fault {
    pub(super) error: OriginError,
    /// Nothing had been heard from the core: on a pooled connection, most likely the core had closed it meanwhile.
    pub(super) silent: bool,
}

/// An answer, how soon it began to come, and whether the connection can carry another request.
pub(super) struct Exchanged {
    pub(super) answer: OriginAnswer,
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
    insert(&mut head, USER_AGENT, AGENT)?;
    for (name, value) in &request.headers {
        head.append_header(name.clone(), value.clone()).map_err(|_| OriginError::Broken)?;
    }
    if !request.body.is_empty() || has_body(&request.method) {
        insert(&mut head, CONTENT_LENGTH, HeaderValue::from(request.body.len()))?;
    }
    Ok(head)
}

/// Sends the request and reads the answer to its end. The caller sets the deadline.
pub(super) async fn exchange(
    session: &mut HttpSession,
    head: RequestHeader,
    tls: bool,
    request: &OriginRequest,
    clock: Clock,
) -> Result<Exchanged, Fault> {
    let silent = |error| Fault { error, silent: true };
    let sent = send(session, head, tls, &request.body).await;
    let asked = clock.elapsed();
    // A core that refuses a body without reading it may answer before it closes: its answer says more than the broken pipe.
    let patience = if sent.is_ok() { None } else { Some(LAST_WORDS) };
    let status = read_head(session, patience).await.map_err(silent)?;
    let waited = clock.elapsed().saturating_sub(asked);
    let headers = session.response_header().map(|answer| answer.headers.clone()).unwrap_or_default();
    let body = read_body(session, request.max_answer_bytes).await.map_err(|error| Fault { error, silent: false })?;
    Ok(Exchanged { answer: OriginAnswer { status, headers, body }, waited, reusable: sent.is_ok() })
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

async fn read_body(session: &mut HttpSession, max_bytes: usize) -> Result<Bytes, OriginError> {
    let announced = session
        .response_header()
        .and_then(|answer| answer.headers.get(CONTENT_LENGTH))
        .and_then(|value| value.to_str().ok()?.parse::<usize>().ok());
    let mut first = Bytes::new();
    let mut rest = BytesMut::new();
    while let Some(chunk) = session.read_response_body().await.map_err(|_| OriginError::Broken)? {
        if first.len() + rest.len() + chunk.len() > max_bytes {
            return Err(OriginError::TooLarge(max_bytes));
        }
        // Most answers come in one piece and are not copied.
        if first.is_empty() && rest.is_empty() {
            first = chunk;
            continue;
        }
        if rest.is_empty() {
            rest.reserve(announced.unwrap_or(0).clamp(first.len() + chunk.len(), max_bytes));
            rest.extend_from_slice(&first);
            first = Bytes::new();
        }
        rest.extend_from_slice(&chunk);
    }
    Ok(if rest.is_empty() { first } else { rest.freeze() })
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
