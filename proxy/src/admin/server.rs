//! The thread, the runtime and the accept loop of the admin listener.

use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use http::{Request, Response};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, Limited, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot, watch};
use tokio::time::Instant;

use super::BoundAdmin;
use super::routes::{Feed, Operations, Question, answer, feed, headed};
use crate::task;

/// The admin listener at work. Dropping it closes the listener and ends its thread.
#[derive(Debug)]
pub struct AdminServer {
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl AdminServer {
    /// Starts answering on a thread of its own.
    ///
    /// # Errors
    ///
    /// When the system gives no thread or no runtime.
    pub fn start(bound: BoundAdmin, operations: Arc<dyn Operations>) -> io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().max_blocking_threads(1).build()?;
        let listener = {
            let _inside = runtime.enter();
            TcpListener::from_std(bound.listener)?
        };
        let (stop, stopped) = oneshot::channel();
        let serve = move || {
            runtime.block_on(async {
                tokio::select! {
                    () = accept(listener, operations) => (),
                    _ = stopped => (),
                }
            });
            // A reload that reads a slow file system is not waited for.
            runtime.shutdown_background();
        };
        let thread = std::thread::Builder::new().name("weir-admin".to_owned()).spawn(serve)?;
        Ok(Self { stop: Some(stop), thread: Some(thread) })
    }
}

impl Drop for AdminServer {
    fn drop(&mut self) {
        drop(self.stop.take());
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the admin listener panicked");
        }
    }
}

async fn accept(listener: TcpListener, operations: Arc<dyn Operations>) {
    let room = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        let Ok(place) = Arc::clone(&room).acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, _)) => drop(task::spawn("admin connection", serve(stream, Arc::clone(&operations), place))),
            Err(error) => {
                tracing::warn!(%error, "the admin listener cannot accept");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn serve(stream: TcpStream, operations: Arc<dyn Operations>, _place: OwnedSemaphorePermit) {
    let (ends, mut end) = watch::channel(Instant::now() + MAX_CONNECTION_AGE);
    let service = service_fn(move |request| respond(request, Arc::clone(&operations), ends.clone()));
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(MAX_IDLE)
        .max_buf_size(MAX_HEADER_BYTES)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = std::pin::pin!(connection);
    loop {
        let known = *end.borrow_and_update();
        match tokio::time::timeout_at(known, &mut connection).await {
            Ok(Ok(())) => return,
            Ok(Err(error)) => return tracing::debug!(%error, "an admin connection broke"),
            // A feed has put the end off.
            Err(_) if *end.borrow() > known => {}
            Err(_) => return,
        }
    }
}

/// What goes out: a document, or what comes over some time.
type Body = UnsyncBoxBody<Bytes, Infallible>;

fn whole(response: Response<Bytes>) -> Response<Body> {
    response.map(|document| Full::new(document).boxed_unsync())
}

/// What changes the node may read files, so its answer is made where blocking does not hold up the other pages.
async fn respond(
    request: Request<Incoming>,
    operations: Arc<dyn Operations>,
    ends: watch::Sender<Instant>,
) -> Result<Response<Body>, Infallible> {
    let (parts, body) = request.into_parts();
    let reads = matches!(parts.method, http::Method::GET | http::Method::HEAD);
    let answered = move |body: &[u8]| {
        let question = Question { method: &parts.method, path: parts.uri.path(), query: parts.uri.query(), body };
        match feed(&*operations, &question) {
            Some(Ok(Feed { media_type, pieces, lasts })) => {
                ends.send_modify(|end| *end = (*end).max(Instant::now() + lasts + MAX_CONNECTION_AGE));
                let pieces = StreamBody::new(pieces.map(|piece| Ok(Frame::data(piece))));
                headed(http::StatusCode::OK, media_type, pieces.boxed_unsync())
            }
            Some(Err(refused)) => whole(refused),
            None => whole(answer(&*operations, &question)),
        }
    };
    if reads {
        return Ok(answered(b""));
    }
    let Ok(body) = Limited::new(body, MAX_BODY_BYTES).collect().await else {
        return Ok(failed(http::StatusCode::PAYLOAD_TOO_LARGE, b"the body is too large or breaks off\n"));
    };
    let body = body.to_bytes();
    let answered = tokio::task::spawn_blocking(move || answered(&body));
    Ok(answered.await.unwrap_or_else(|_| failed(http::StatusCode::INTERNAL_SERVER_ERROR, b"the page panicked\n")))
}

fn failed(status: http::StatusCode, problem: &'static [u8]) -> Response<Body> {
    let mut failed = Response::new(Bytes::from_static(problem));
    *failed.status_mut() = status;
    whole(failed)
}

/// Scrapers and probes are few; more wait in the kernel's accept queue.
const MAX_CONNECTIONS: usize = 64;
/// The least that hyper takes; a request line and its headers must fit.
const MAX_HEADER_BYTES: usize = 8 * 1024;
/// What operators send is a few fields.
const MAX_BODY_BYTES: usize = 64 * 1024;
const MAX_IDLE: Duration = Duration::from_secs(30);
const MAX_CONNECTION_AGE: Duration = Duration::from_secs(300);
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

#[cfg(test)]
mod tests {
    use weir_testkit::http::{get, raw, send};

    use super::super::{Readiness, ReloadAnswer, Reply};
    use super::*;

    struct Node;

    impl Operations for Node {
        fn metrics(&self) -> String {
            "weir_config_generation 1\n".to_owned()
        }

        fn is_alive(&self) -> bool {
            true
        }

        fn readiness(&self) -> Readiness {
            Readiness::of(false, "starting")
        }

        fn status(&self) -> serde_json::Value {
            serde_json::json!({})
        }

        fn reload(&self) -> ReloadAnswer {
            panic!("on purpose")
        }

        fn consult(&self, question: &Question<'_>) -> Option<Reply> {
            let body = String::from_utf8_lossy(question.body);
            (question.path == "/echo").then(|| Reply::ok(serde_json::json!([question.query, body])))
        }
    }

    #[tokio::test]
    async fn it_answers_on_its_own_thread_and_stops_when_dropped() {
        let bound = BoundAdmin::bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = bound.address();
        let server = AdminServer::start(bound, Arc::new(Node)).unwrap();
        assert_eq!(get(address, "/metrics").await.text(), "weir_config_generation 1\n");
        let readiness = get(address, "/readyz").await;
        assert_eq!((readiness.status.as_u16(), readiness.json()["reason"].as_str()), (503, Some("starting")));
        assert_eq!(send(address, "POST", "/reload", &[], "").await.status.as_u16(), 500);
        assert_eq!(get(address, "/livez").await.status.as_u16(), 200);
        drop(server);
        assert!(std::net::TcpStream::connect(address).is_err());
    }

    #[tokio::test]
    async fn a_body_is_read_up_to_its_bound() {
        let bound = BoundAdmin::bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = bound.address();
        let _server = AdminServer::start(bound, Arc::new(Node)).unwrap();
        let answer = send(address, "POST", "/echo?a=b", &[], "body").await;
        assert_eq!(answer.json(), serde_json::json!(["a=b", "body"]));
        let long = "x".repeat(MAX_BODY_BYTES + 1);
        assert_eq!(send(address, "POST", "/echo", &[], long).await.status.as_u16(), 413);
    }

    #[tokio::test]
    async fn a_request_past_the_bound_is_refused() {
        let bound = BoundAdmin::bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = bound.address();
        let _server = AdminServer::start(bound, Arc::new(Node)).unwrap();
        let request = format!("GET /livez HTTP/1.1\r\nhost: a\r\nx: {}\r\n\r\n", "a".repeat(2 * MAX_HEADER_BYTES));
        let answer = String::from_utf8(raw(address, request.as_bytes()).await).unwrap();
        assert!(answer.starts_with("HTTP/1.1 431 "), "{answer}");
    }
}
