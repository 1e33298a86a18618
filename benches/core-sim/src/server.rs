//! One request after another: counted, treated as the script says, answered.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Request, StatusCode, header};
use hyper::body::Incoming;
use parking_lot::Mutex;

use crate::answer::{Answer, Gone, cut, json, refusal};
use crate::balance::Balance;
use crate::content::Content;
use crate::counters::{Counters, Ending};
use crate::endpoints::{self, read};
use crate::options::CoreOptions;
use crate::script::{Behaviour, EndpointKind, Script};

/// What all requests share. Each lock is held for one short step and never across an await; of two held at once
/// `content` is taken first.
#[derive(Debug)]
pub(crate) struct State {
    pub(crate) options: CoreOptions,
    pub(crate) script: Mutex<Script>,
    pub(crate) counters: Mutex<Counters>,
    pub(crate) balance: Mutex<Balance>,
    pub(crate) content: Mutex<Content>,
}

impl State {
    pub(crate) fn new(options: CoreOptions) -> Self {
        Self {
            script: Mutex::new(Script::new(options.behaviour.clone())),
            counters: Mutex::new(Counters::new()),
            balance: Mutex::new(Balance::new(&options)),
            content: Mutex::new(Content::new(&options)),
            options,
        }
    }
}

/// Answers one request, or ends the connection it came on.
pub(crate) async fn serve(state: Arc<State>, mut request: Request<Incoming>) -> Result<Answer, Gone> {
    let kind = EndpointKind::of(request.uri().path());
    state.counters.lock().request(kind);
    let behaviour = state.script.lock().take(kind);
    if !behaviour.works() {
        state.counters.lock().ended(kind, Ending::Failed);
    }
    match behaviour {
        Behaviour::Up | Behaviour::BadRows { .. } | Behaviour::TooLarge { .. } | Behaviour::Partial { .. } => {
            if let Some(objection) = behaviour.objection() {
                request.extensions_mut().insert(objection);
            }
            Ok(answer(&state, kind, request).await)
        }
        Behaviour::Down => Err(Gone),
        Behaviour::Slow { millis } => {
            let late = answer(&state, kind, request).await;
            tokio::time::sleep(Duration::from_millis(millis)).await;
            Ok(late)
        }
        Behaviour::Status { code, retry_after } => {
            read(&state, kind, request.into_body()).await.ok();
            let mut answer = told_to_fail(code, retry_after);
            if state.options.closes_on_failure {
                answer.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
            }
            Ok(answer)
        }
        Behaviour::Reset => Ok(cut(answer(&state, kind, request).await)),
        Behaviour::Hang => {
            let mut script = state.script.lock().watch();
            read(&state, kind, request.into_body()).await.ok();
            // An error means that the core is gone, which ends the wait as well.
            script.changed().await.ok();
            Err(Gone)
        }
        Behaviour::Garbage => {
            read(&state, kind, request.into_body()).await.ok();
            let is_batch = matches!(kind, EndpointKind::Batch | EndpointKind::Presence);
            let status = if is_batch { StatusCode::MULTI_STATUS } else { StatusCode::OK };
            Ok(json(status, Bytes::from_static(b"{\"answers\": [ \x00\xff no contract says this")))
        }
    }
}

async fn answer(state: &Arc<State>, kind: EndpointKind, request: Request<Incoming>) -> Answer {
    let answer = endpoints::answer(state, kind, request).await;
    let ending = match answer.status() {
        StatusCode::NOT_MODIFIED => Some(Ending::NotModified),
        status if status.is_client_error() => Some(Ending::Refused),
        _ => None,
    };
    if let Some(ending) = ending {
        state.counters.lock().ended(kind, ending);
    }
    answer
}

fn told_to_fail(code: u16, retry_after: Option<u64>) -> Answer {
    let status = StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut answer = refusal(status, "the script says so");
    if let Some(seconds) = retry_after {
        answer.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    answer
}
