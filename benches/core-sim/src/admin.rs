//! The port by which a core in a process of its own is read and ordered about. Plain HTTP, no identity: loopback only.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use crate::{Behaviour, CoreSim, EndpointKind, KeyFault};

/// The admin port of a core.
///
/// `GET /counters` answers the [`Snapshot`](crate::Snapshot); `POST /behaviour`, `/task`, `/key-fault` and `/bump` take
/// JSON objects: `{"behaviour":"down"}`, `{"kind":"batch","behaviour":{"bad_rows":{"one_in":1000}}}`,
/// `{"kind":"batch","behaviour":{"status":{"code":429,"retry_after":5}},"next":3}`,
/// `{"agent":"a-1","task":{...}}`, `{"value":"a-1","fault":{"status":500}}`, `{"manifest":true,"tenant":"t-1"}`.
#[derive(Debug)]
pub struct Admin {
    listener: TcpListener,
    core: Arc<CoreSim>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Order {
    behaviour: Behaviour,
    #[serde(default)]
    kind: Option<EndpointKind>,
    /// For so many requests only.
    #[serde(default)]
    next: Option<u64>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Task {
    agent: String,
    task: Option<Value>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Fault {
    value: String,
    fault: Option<KeyFault>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Bump {
    #[serde(default)]
    manifest: bool,
    #[serde(default)]
    config: bool,
    #[serde(default)]
    tenant: Option<String>,
}

/// The longest order taken.
const MAX_ORDER_BYTES: usize = 1 << 20;

impl Admin {
    /// Listens on `address`.
    ///
    /// # Errors
    /// The address is taken or not ours.
    pub async fn bind(address: SocketAddr, core: Arc<CoreSim>) -> io::Result<Self> {
        Ok(Self { listener: TcpListener::bind(address).await?, core })
    }

    /// Where it listens.
    ///
    /// # Errors
    /// The system does not say.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Serves until the listener fails. Dropping the future closes every connection.
    ///
    /// # Errors
    /// The listener cannot accept any more.
    pub async fn serve(self) -> io::Result<()> {
        let mut connections = JoinSet::new();
        loop {
            let (stream, _) = self.listener.accept().await?;
            while connections.try_join_next().is_some() {}
            let core = Arc::clone(&self.core);
            let service = service_fn(move |request| {
                let core = Arc::clone(&core);
                async move { Ok::<_, std::convert::Infallible>(answer(&core, request).await) }
            });
            connections
                .spawn(async move { http1::Builder::new().serve_connection(TokioIo::new(stream), service).await });
        }
    }
}

async fn answer(core: &CoreSim, request: Request<Incoming>) -> Response<Full<Bytes>> {
    let (parts, body) = request.into_parts();
    let Ok(body) = Limited::new(body, MAX_ORDER_BYTES).collect().await else {
        return reply(StatusCode::BAD_REQUEST, "the body is too long or broke off".into());
    };
    let body = body.to_bytes();
    let done = match (&parts.method, parts.uri.path()) {
        (&Method::GET, "/counters") => {
            return match serde_json::to_string(&core.snapshot()) {
                Ok(counters) => reply(StatusCode::OK, counters),
                Err(error) => reply(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()),
            };
        }
        (&Method::POST, "/behaviour") => parse(&body).and_then(|order| obey(core, order)),
        (&Method::POST, "/task") => parse(&body).map(|Task { agent, task }| core.set_task(&agent, task)),
        (&Method::POST, "/key-fault") => parse(&body).map(|Fault { value, fault }| core.set_key_fault(&value, fault)),
        (&Method::POST, "/bump") => parse(&body).map(|bump| raise(core, &bump)),
        _ => return reply(StatusCode::NOT_FOUND, "no such order".into()),
    };
    match done {
        Ok(()) => reply(StatusCode::OK, "{}".into()),
        Err(reason) => reply(StatusCode::BAD_REQUEST, reason),
    }
}

fn obey(core: &CoreSim, order: Order) -> Result<(), String> {
    match (order.kind, order.next) {
        (kind, Some(count)) => core.fail_next(kind, count, order.behaviour),
        (Some(kind), None) => core.script_for(kind, order.behaviour),
        (None, None) => core.script(order.behaviour).map_err(|error| error.to_string())?,
    }
    Ok(())
}

fn raise(core: &CoreSim, bump: &Bump) {
    if bump.manifest {
        core.bump_manifest();
    }
    if bump.config || bump.tenant.is_some() {
        core.bump_config(bump.tenant.as_deref());
    }
}

fn parse<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Result<T, String> {
    serde_json::from_slice(body).map_err(|error| error.to_string())
}

fn reply(status: StatusCode, body: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    response
}
