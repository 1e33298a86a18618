//! What an operator's request is answered.

use std::time::Duration;

use bytes::Bytes;
use futures::stream::BoxStream;
use http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use http::{Method, Response, StatusCode};
use serde::Serialize;

/// What the admin listener may ask of the node. Every call returns within milliseconds, but `reload`, which reads files.
pub trait Operations: Send + Sync {
    /// All metrics in Prometheus's text format.
    fn metrics(&self) -> String;

    /// Whether the loops that serve agents turn.
    fn is_alive(&self) -> bool;

    /// Whether the node can help agents.
    fn readiness(&self) -> Readiness;

    /// The state of everything, for people and scripts.
    fn status(&self) -> serde_json::Value;

    /// Reads the configuration anew and puts it in force whole, or not at all.
    fn reload(&self) -> ReloadAnswer;

    /// Answers what is about a part of the node that has pages of its own; `None` when there is no such page. To a GET within milliseconds;
    /// others may block.
    fn consult(&self, question: &Question<'_>) -> Option<Reply>;

    /// Answers with what comes over some time; `None` when that is not asked for.
    fn feed(&self, _question: &Question<'_>) -> Option<Result<Feed, Reply>> {
        None
    }
}

/// A request of an operator.
#[derive(Clone, Copy, Debug)]
pub struct Question<'a> {
    /// Its method.
    pub method: &'a Method,
    /// Its path.
    pub path: &'a str,
    /// What follows the question mark, as sent.
    pub query: Option<&'a str>,
    /// Its body, at most 64 KiB.
    pub body: &'a [u8],
}

/// What an operator is answered: a status and a JSON document.
#[derive(Clone, Debug, PartialEq)]
pub struct Reply {
    /// The status.
    pub status: StatusCode,
    /// The document.
    pub document: serde_json::Value,
}

/// Pages that a part of the node answers by itself.
pub trait Pages: Send + Sync {
    /// Answers; `None` when the page is none of these. A GET within milliseconds; others may block.
    fn answer(&self, question: &Question<'_>) -> Option<Reply>;

    /// Answers with what comes over some time; `None` when that is not asked for.
    fn feed(&self, _question: &Question<'_>) -> Option<Result<Feed, Reply>> {
        None
    }
}

/// An answer that comes piece by piece.
pub struct Feed {
    /// What it is.
    pub media_type: &'static str,
    /// The pieces. Dropped when the operator stops reading.
    pub pieces: BoxStream<'static, Bytes>,
    /// The time that it may take.
    pub lasts: Duration,
}

impl Reply {
    /// Done.
    pub fn ok(document: serde_json::Value) -> Self {
        Self { status: StatusCode::OK, document }
    }

    /// Not done: what is wrong with the question, and what was expected.
    pub fn refused(status: StatusCode, problem: &str) -> Self {
        Self { status, document: serde_json::json!({ "error": problem }) }
    }
}

/// Whether the node can help agents, and why not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Readiness {
    /// Whether agents should be sent here.
    pub ready: bool,
    /// Where in its life the node is, or what keeps it from helping.
    pub reason: &'static str,
    /// Streams that keep no uploads at the moment, whether the node is ready all the same or not.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub shut: Vec<ShutStream>,
}

/// A stream that keeps no uploads.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ShutStream {
    /// The stream's name.
    pub stream: String,
    /// Why: `disk`, `journal`, `outbox` or `broken`.
    pub reason: &'static str,
    /// For how many seconds, where it is the disk's fault.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seconds: Option<u64>,
}

impl Readiness {
    /// A node that is ready, or not, for a reason that is no stream's.
    pub fn of(ready: bool, reason: &'static str) -> Self {
        Self { ready, reason, shut: Vec::new() }
    }
}

/// How a reload ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReloadAnswer {
    /// In force; a JSON document that says what changed.
    Applied(serde_json::Value),
    /// Refused: the old configuration stays in force. Every problem, as text.
    Refused(String),
}

/// Answers one request.
pub(super) fn answer(operations: &dyn Operations, question: &Question<'_>) -> Response<Bytes> {
    let Some(endpoint) = ENDPOINTS.iter().find(|endpoint| endpoint.path == question.path) else {
        return match operations.consult(question) {
            Some(reply) => json(reply.status, &reply.document),
            None => text(
                StatusCode::NOT_FOUND,
                "no such page: /metrics, /livez, /readyz, /status, /ttl, /rollouts, POST /reload, POST /purge, POST /trace\n",
            ),
        };
    };
    if !endpoint.allows(question.method) {
        let mut refusal = text(StatusCode::METHOD_NOT_ALLOWED, "wrong method\n");
        refusal.headers_mut().insert(ALLOW, HeaderValue::from_static(endpoint.allow));
        return refusal;
    }
    (endpoint.answer)(operations)
}

struct Endpoint {
    path: &'static str,
    allow: &'static str,
    answer: fn(&dyn Operations) -> Response<Bytes>,
}

impl Endpoint {
    fn allows(&self, method: &Method) -> bool {
        self.allow.split(", ").any(|allowed| allowed == method.as_str())
    }
}

const ENDPOINTS: &[Endpoint] = &[
    Endpoint { path: "/metrics", allow: "GET, HEAD", answer: metrics },
    Endpoint { path: "/livez", allow: "GET, HEAD", answer: livez },
    Endpoint { path: "/readyz", allow: "GET, HEAD", answer: readyz },
    Endpoint { path: "/status", allow: "GET, HEAD", answer: status },
    Endpoint { path: "/reload", allow: "POST", answer: reload },
];

fn metrics(operations: &dyn Operations) -> Response<Bytes> {
    typed(StatusCode::OK, "text/plain; version=0.0.4; charset=utf-8", operations.metrics())
}

fn livez(operations: &dyn Operations) -> Response<Bytes> {
    if operations.is_alive() {
        return text(StatusCode::OK, "alive\n");
    }
    text(StatusCode::SERVICE_UNAVAILABLE, "stuck: a loop that serves agents does not turn\n")
}

fn readyz(operations: &dyn Operations) -> Response<Bytes> {
    let readiness = operations.readiness();
    let status = if readiness.ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    json(status, &readiness)
}

fn status(operations: &dyn Operations) -> Response<Bytes> {
    json(StatusCode::OK, &operations.status())
}

fn reload(operations: &dyn Operations) -> Response<Bytes> {
    match operations.reload() {
        ReloadAnswer::Applied(report) => json(StatusCode::OK, &report),
        ReloadAnswer::Refused(problems) => {
            let mut problems = problems;
            problems.push('\n');
            typed(StatusCode::UNPROCESSABLE_ENTITY, "text/plain; charset=utf-8", problems)
        }
    }
}

/// The feed that the request asks for, or the answer that says why there is none.
pub(super) fn feed(operations: &dyn Operations, question: &Question<'_>) -> Option<Result<Feed, Response<Bytes>>> {
    Some(operations.feed(question)?.map_err(|reply| json(reply.status, &reply.document)))
}

fn json(status: StatusCode, value: &impl Serialize) -> Response<Bytes> {
    let mut body = serde_json::to_vec_pretty(value).unwrap_or_default();
    body.push(b'\n');
    typed(status, "application/json", body)
}

fn text(status: StatusCode, body: &'static str) -> Response<Bytes> {
    typed(status, "text/plain; charset=utf-8", body)
}

fn typed(status: StatusCode, media_type: &'static str, body: impl Into<Bytes>) -> Response<Bytes> {
    headed(status, media_type, body.into())
}

/// The head of an answer.
pub(super) fn headed<B>(status: StatusCode, media_type: &'static str, body: B) -> Response<B> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(media_type));
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Node {
        healthy: bool,
    }

    impl Operations for Node {
        fn metrics(&self) -> String {
            "weir_config_generation 1\n".to_owned()
        }

        fn is_alive(&self) -> bool {
            self.healthy
        }

        fn readiness(&self) -> Readiness {
            Readiness::of(self.healthy, "serving")
        }

        fn status(&self) -> serde_json::Value {
            serde_json::json!({ "phase": "serving" })
        }

        fn consult(&self, question: &Question<'_>) -> Option<Reply> {
            (question.path == "/echo").then(|| Reply::ok(serde_json::json!({ "bytes": question.body.len() })))
        }

        fn reload(&self) -> ReloadAnswer {
            if self.healthy {
                return ReloadAnswer::Applied(serde_json::json!({ "generation": 2 }));
            }
            ReloadAnswer::Refused("weir.toml:1:1: error: wrong".to_owned())
        }
    }

    fn ask(healthy: bool, method: &Method, path: &str) -> (u16, String) {
        let question = Question { method, path, query: None, body: b"four" };
        let response = answer(&Node { healthy }, &question);
        (response.status().as_u16(), String::from_utf8(response.body().to_vec()).unwrap())
    }

    #[test]
    fn every_page_tells_health_from_sickness() {
        for path in ["/livez", "/readyz"] {
            assert_eq!(ask(true, &Method::GET, path).0, 200, "{path}");
            assert_eq!(ask(false, &Method::GET, path).0, 503, "{path}");
        }
        assert_eq!(ask(true, &Method::POST, "/reload").0, 200);
        assert_eq!(ask(false, &Method::POST, "/reload"), (422, "weir.toml:1:1: error: wrong\n".to_owned()));
    }

    #[test]
    fn a_part_of_the_node_answers_its_own_pages() {
        assert_eq!(ask(true, &Method::POST, "/echo"), (200, "{\n  \"bytes\": 4\n}\n".to_owned()));
    }

    #[test]
    fn an_unknown_page_is_404_and_a_wrong_method_405() {
        assert_eq!(ask(true, &Method::GET, "/").0, 404);
        assert_eq!(ask(true, &Method::GET, "/metrics/").0, 404);
        let question = Question { method: &Method::GET, path: "/reload", query: None, body: b"" };
        let response = answer(&Node { healthy: true }, &question);
        assert_eq!(response.status().as_u16(), 405);
        assert_eq!(response.headers()[ALLOW], "POST");
        assert_eq!(ask(true, &Method::DELETE, "/metrics").0, 405);
    }
}
