//! Endpoints for traffic that is passed through: what came is told back, or a body of any length is sent.

use std::collections::BTreeMap;
use std::time::Duration;

use http::request::Parts;
use http::{HeaderValue, Response, StatusCode, header};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use serde_json::json;
use xxhash_rust::xxh3::Xxh3;

use super::parameter;
use crate::answer::{Answer, AnswerBody, Drip, json as json_answer, refusal};
use crate::script::EndpointKind;
use crate::server::State;

/// A streamed body is this long at most.
const MAX_STREAM_BYTES: u64 = 1 << 30;
/// One piece of a streamed body is this long at most.
const MAX_PIECE_BYTES: usize = 1 << 20;

/// Tells back the request, its body by length and hash (XXH3, 64 bit) without keeping it. `?status=` picks the status.
pub(super) async fn echo(state: &State, parts: &Parts, mut body: Incoming) -> Answer {
    let mut hash = Xxh3::new();
    let mut length = 0;
    while let Some(frame) = body.frame().await {
        let Ok(frame) = frame else {
            return refusal(StatusCode::BAD_REQUEST, "the body broke off");
        };
        if let Some(data) = frame.data_ref() {
            hash.update(data);
            length += data.len();
        }
    }
    state.counters.lock().body(EndpointKind::Echo, length, length);
    let mut headers: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for (name, value) in &parts.headers {
        headers.entry(name.as_str()).or_default().push(String::from_utf8_lossy(value.as_bytes()).into_owned());
    }
    let told = json!({
        "method": parts.method.as_str(),
        "path": parts.uri.path(),
        "query": parts.uri.query(),
        "version": format!("{:?}", parts.version),
        "headers": headers,
        "body_bytes": length,
        "body_xxh3": format!("{:016x}", hash.digest()),
    });
    let status = parameter(parts, "status").and_then(|code| code.parse().ok()).unwrap_or(StatusCode::OK);
    json_answer(status, told.to_string())
}

/// Sends `bytes` bytes in pieces of `chunk` with `delay_ms` between them.
pub(super) fn stream(parts: &Parts) -> Answer {
    let number = |name: &str, default: u64| match parameter(parts, name) {
        Some(text) => text.parse().map_err(|_| format!("{name} is not a number")),
        None => Ok(default),
    };
    let (bytes, chunk, delay) = match (number("bytes", 1024), number("chunk", 1024), number("delay_ms", 0)) {
        (Ok(bytes), Ok(chunk), Ok(delay)) => (bytes, chunk, delay),
        (Err(reason), ..) | (_, Err(reason), _) | (_, _, Err(reason)) => {
            return refusal(StatusCode::BAD_REQUEST, &reason);
        }
    };
    let chunk = usize::try_from(chunk).unwrap_or(usize::MAX).min(MAX_PIECE_BYTES);
    let drip = Drip::new(bytes.min(MAX_STREAM_BYTES), chunk, Duration::from_millis(delay));
    let mut answer = Response::new(AnswerBody::Drip(drip));
    answer.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    answer
}
