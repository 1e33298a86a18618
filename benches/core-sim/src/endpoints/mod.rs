//! The endpoints: each takes a request and gives an answer, whatever the script says of it afterwards.

mod cacheable;
mod deliveries;
mod echo;
mod lookup;
mod package;
mod websocket;

use std::sync::Arc;

use bytes::Bytes;
use http::request::Parts;
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;

pub(crate) use package::Package;
pub use package::package_bytes;

use crate::answer::{Answer, empty, refusal};
use crate::script::EndpointKind;
use crate::server::State;

/// Answers a request as the contracts say.
pub(crate) async fn answer(state: &Arc<State>, kind: EndpointKind, request: Request<Incoming>) -> Answer {
    if kind == EndpointKind::WebSocket {
        return websocket::upgrade(state, request);
    }
    let (parts, body) = request.into_parts();
    if kind == EndpointKind::Echo {
        return echo::echo(state, &parts, body).await;
    }
    let body = match read(state, kind, body).await {
        Ok(body) => body,
        Err(refused) => return refused,
    };
    if let Some(allowed) = method_of(kind)
        && parts.method != allowed
        && !(allowed == Method::GET && parts.method == Method::HEAD)
    {
        return refusal(StatusCode::METHOD_NOT_ALLOWED, "another method is wanted here");
    }
    match kind {
        EndpointKind::Update => cacheable::manifest(state, &parts),
        EndpointKind::Config => cacheable::config(state, &parts),
        EndpointKind::Tasks => cacheable::task(state, &parts),
        EndpointKind::Lookup => lookup::lookup(state, &parts, &body),
        EndpointKind::Batch | EndpointKind::Presence => deliveries::batch(state, kind, parts, body).await,
        EndpointKind::Events => deliveries::upload(state, parts, body).await,
        EndpointKind::Stream => echo::stream(&parts),
        EndpointKind::Package => package::package(&parts),
        EndpointKind::Health => empty(StatusCode::NO_CONTENT),
        EndpointKind::Echo | EndpointKind::WebSocket | EndpointKind::Other => {
            refusal(StatusCode::NOT_FOUND, "no such endpoint")
        }
    }
}

/// Reads a body whole, within the bound, and counts it.
pub(crate) async fn read(state: &State, kind: EndpointKind, body: Incoming) -> Result<Bytes, Answer> {
    match Limited::new(body, state.options.max_body_bytes).collect().await {
        Ok(collected) => {
            let body = collected.to_bytes();
            state.counters.lock().body(kind, body.len(), 0);
            Ok(body)
        }
        Err(error) if error.is::<http_body_util::LengthLimitError>() => {
            Err(refusal(StatusCode::PAYLOAD_TOO_LARGE, "the body is longer than this core takes"))
        }
        Err(_) => Err(refusal(StatusCode::BAD_REQUEST, "the body broke off")),
    }
}

fn method_of(kind: EndpointKind) -> Option<Method> {
    match kind {
        EndpointKind::Update
        | EndpointKind::Config
        | EndpointKind::Tasks
        | EndpointKind::Stream
        | EndpointKind::Package
        | EndpointKind::Health => Some(Method::GET),
        EndpointKind::Lookup | EndpointKind::Batch | EndpointKind::Presence | EndpointKind::Events => {
            Some(Method::POST)
        }
        EndpointKind::Echo | EndpointKind::WebSocket | EndpointKind::Other => None,
    }
}

/// The segment of the path at `index`, counted from 0.
fn segment(parts: &Parts, index: usize) -> &str {
    parts.uri.path().trim_start_matches('/').split('/').nth(index).unwrap_or("")
}

/// A header's value where it is there and readable.
fn header<'a>(parts: &'a Parts, name: &str) -> Option<&'a str> {
    parts.headers.get(name).and_then(|value| value.to_str().ok())
}

/// A parameter of the query, not decoded.
fn parameter<'a>(parts: &'a Parts, name: &str) -> Option<&'a str> {
    let query = parts.uri.query()?;
    query.split('&').filter_map(|pair| pair.split_once('=')).find(|(key, _)| *key == name).map(|(_, value)| value)
}
