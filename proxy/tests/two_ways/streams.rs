//! Agents of HTTP/2: what they ask, and what they are told.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use h2::client::{ResponseFuture, SendRequest};
use http::{HeaderMap, Request};
use proptest::collection::vec;
use proptest::prelude::*;
use tokio::net::TcpStream;

use crate::transcript::timeless;

/// One request.
#[derive(Clone, Debug)]
pub(crate) struct Ask {
    method: &'static str,
    target: String,
    fields: Vec<(&'static str, String)>,
    body: Body,
    /// Whether the agent takes what it is given.
    reads: bool,
}

impl Ask {
    /// The same by an agent that does not open its window once it is full.
    pub(crate) fn whose_body_nobody_reads(self) -> Self {
        Self { reads: false, ..self }
    }
}

#[derive(Clone, Debug)]
enum Body {
    None,
    /// All of it, its length stated or not, followed by trailers or not.
    Whole {
        bytes: Vec<u8>,
        stated: bool,
        trailers: bool,
    },
    /// Its first bytes; no more follow.
    Stalls(Vec<u8>),
}

/// What an agent was told.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Said {
    Answer {
        status: u16,
        headers: Vec<(String, String)>,
        body: Vec<u8>,
        trailers: Option<HeaderMap>,
        reset: Option<h2::Reason>,
    },
    Reset(Option<h2::Reason>),
}

/// `GET` by an agent with a name.
pub(crate) fn get(target: &str) -> Ask {
    ask("GET", target, &[])
}

fn ask(method: &'static str, target: &str, fields: &[(&'static str, &str)]) -> Ask {
    let who = [("x-agent-id", "a-1"), ("x-tenant-id", "t-1")];
    let fields = who.iter().chain(fields).map(|(name, value)| (*name, (*value).to_owned())).collect();
    Ask { method, target: target.to_owned(), fields, body: Body::None, reads: true }
}

fn post(target: &str, fields: &[(&'static str, &str)], bytes: &[u8]) -> Ask {
    Ask { body: Body::Whole { bytes: bytes.to_vec(), stated: true, trailers: false }, ..ask("POST", target, fields) }
}

/// The requests of one connection, one after the other.
pub(crate) async fn hold(address: SocketAddr, asks: &[Ask], window: u32) -> Vec<Said> {
    let stream = TcpStream::connect(address).await.unwrap();
    stream.set_nodelay(true).unwrap();
    let (mut sender, connection) =
        h2::client::Builder::new().initial_window_size(window).handshake(stream).await.unwrap();
    let connection = weir::task::spawn("connection", connection);
    let mut said = Vec::new();
    for ask in asks {
        let told = tokio::time::timeout(Duration::from_secs(60), tell(&mut sender, ask)).await;
        said.push(told.unwrap_or_else(|_| panic!("no answer: {ask:?}")));
    }
    drop(sender);
    // However it went: the node may have ended it.
    drop(connection.await);
    said
}

async fn tell(sender: &mut SendRequest<Bytes>, ask: &Ask) -> Said {
    let mut request = Request::builder().method(ask.method).uri(uri(&ask.target));
    for (name, value) in &ask.fields {
        request = request.header(*name, value);
    }
    if let Body::Whole { bytes, stated: true, .. } = &ask.body {
        request = request.header("content-length", bytes.len());
    }
    let request = request.body(()).unwrap();
    let Ok(()) = std::future::poll_fn(|cx| sender.poll_ready(cx)).await else { return Said::Reset(None) };
    let (answer, mut body) = sender.send_request(request, matches!(ask.body, Body::None)).unwrap();
    // A node that has refused may have reset the stream before the body is sent.
    match &ask.body {
        Body::None => {}
        Body::Whole { bytes, trailers, .. } => {
            body.send_data(bytes.clone().into(), !trailers).ok();
            if *trailers {
                body.send_trailers(HeaderMap::from_iter([(
                    http::HeaderName::from_static("x-sum"),
                    "1".parse().unwrap(),
                )]))
                .ok();
            }
        }
        Body::Stalls(bytes) => drop(body.send_data(bytes.clone().into(), false)),
    }
    listen(answer, ask.reads).await
}

fn uri(target: &str) -> http::Uri {
    format!("http://edge{target}").parse().unwrap()
}

async fn listen(answer: ResponseFuture, reads: bool) -> Said {
    let answer = match answer.await {
        Ok(answer) => answer,
        Err(error) => return Said::Reset(error.reason()),
    };
    let (parts, mut stream) = answer.into_parts();
    let (mut body, mut reset) = (Vec::new(), None);
    while let Some(piece) = stream.data().await {
        match piece {
            Ok(piece) => {
                body.extend_from_slice(&piece);
                if reads {
                    stream.flow_control().release_capacity(piece.len()).unwrap();
                }
            }
            Err(error) => {
                reset = error.reason();
                break;
            }
        }
    }
    let trailers = stream.trailers().await.unwrap_or_default();
    let value = |value: &http::HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    let fields = parts.headers.iter().map(|(name, text)| (name.to_string(), timeless(name.as_str(), value(text))));
    let mut headers: Vec<_> = fields.collect();
    headers.sort_by(|(left, _), (right, _)| left.cmp(right));
    Said::Answer { status: parts.status.as_u16(), headers, body, trailers, reset }
}

/// Every kind of request that has met a difference or could; each alone, twice, and before another.
pub(crate) fn conversations() -> Vec<Vec<Ask>> {
    let single: Vec<_> = answered().into_iter().chain(refused()).chain(bodies()).collect();
    let then = get("/v1/echo/all/then");
    let twice = single.iter().map(|ask| vec![ask.clone(), ask.clone()]);
    let followed = single.iter().map(|ask| vec![ask.clone(), then.clone(), ask.clone()]);
    twice.chain(followed).collect()
}

/// What is answered with a body that is not large, twice.
pub(crate) fn for_small_windows() -> impl Iterator<Item = Vec<Ask>> {
    let small = answered().into_iter().filter(|ask| !ask.target.contains("bytes="));
    small.map(|ask| vec![ask.clone(), ask])
}

fn answered() -> Vec<Ask> {
    let manifest = "/v1/updates/stable/manifest.json";
    let large = "/v1/packages/large?bytes=300000";
    vec![
        get("/v1/echo/own/a"),
        ask("GET", "/v1/echo/own/a?os=win&x=1", &[("accept-language", "de"), ("accept-language", "fr")]),
        ask("GET", "/v1/echo/own/%2e%2E", &[("cookie", "a"), ("x-empty", "")]),
        ask("HEAD", "/v1/echo/own/a", &[]),
        ask("HEAD", "/v1/echo/all/z", &[]),
        ask("GET", "/v1/echo/all/a", &[("x-ring", "1"), ("x-ring", "2")]),
        ask("GET", "/v1/echo/all/a", &[("te", "trailers")]),
        get("/v1/echo/all/a?status=404"),
        get("/v1/echo/all/b?status=500"),
        get(manifest),
        ask("GET", manifest, &[("if-none-match", "*")]),
        ask("GET", manifest, &[("if-none-match", "\"nothing\", W/\"like it\"")]),
        ask("GET", manifest, &[("if-modified-since", "Fri, 01 Jan 2100 00:00:00 GMT")]),
        ask("GET", manifest, &[("range", "bytes=0-9")]),
        ask("GET", manifest, &[("range", "bytes=9999999-")]),
        get("/v1/packages/small?bytes=1000"),
        get(large),
        ask("GET", large, &[("range", "bytes=100000-100099")]),
        ask("HEAD", large, &[]),
        get("/v1/agents/a-1/tasks"),
        get("/v1/echo/through/a/b?c"),
        ask("HEAD", "/v1/echo/through/a/b?c", &[]),
        post("/v1/echo/through/a", &[], b"passed through"),
        ask("PUT", "/v1/echo/through/a", &[]),
        post("/v1/echo/posted", &[], b"{\"ring\":\"beta\"}"),
        post("/v1/events", &[], b"[{\"a\":1},{\"b\":2}]"),
        post("/v1/events", &[("expect", "100-continue")], b"[{\"a\":1},{\"b\":2}]"),
    ]
}

fn refused() -> Vec<Ask> {
    let nobody = |target: &str| Ask { fields: Vec::new(), ..get(target) };
    vec![
        get("/nowhere"),
        ask("DELETE", "/v1/echo/own/a", &[]),
        ask("FETCH", "/v1/echo/own/a", &[]),
        ask("OPTIONS", "/v1/echo/own/a", &[]),
        get("/v1/events"),
        nobody("/v1/echo/own/a"),
        nobody("/v1/agents/a-1/tasks"),
        ask("GET", "/v1/echo/own/a", &[("host", "edge")]),
        ask("GET", "/v1/echo/own/a", &[("host", "other")]),
        ask("GET", "/v1/echo/own/a", &[("host", "edge"), ("host", "edge")]),
        post("/v1/echo/own/a", &[], b"a body where there is none to be"),
        post("/nowhere", &[], &[b'x'; 20_000]),
        post("/v1/echo/posted", &[], b"no JSON"),
        post("/v1/echo/posted", &[], b""),
        post("/v1/events", &[], b"7"),
        post("/v1/events", &[], b""),
        post("/v1/events", &[], b"[{\"a\":1},2]"),
        post("/v1/events", &[("content-encoding", "gzip")], b"not gzip"),
        post("/v1/events", &[("content-encoding", "br")], b"[]"),
        get(&format!("/v1/echo/all/{}", "a".repeat(230))),
        get(&format!("/v1/echo/all/{}", "a".repeat(250))),
        get("/v1/echo/all/a%00"),
        get("/v1/echo/all/{a}|^"),
    ]
}

/// Bodies at their bounds and past them, with trailers, of no stated length, of the wrong one, and broken off.
fn bodies() -> Vec<Ask> {
    let record = |bytes: usize| format!("[{{\"a\":\"{}\"}}]", "x".repeat(bytes - "[{\"a\":\"\"}]".len())).into_bytes();
    let with = |target: &str, body: Body| Ask { body, ..ask("POST", target, &[]) };
    let mut all = Vec::new();
    for bytes in [record(4_000), record(8 * 1024), record(8 * 1024 + 1), record(200_000)] {
        for (stated, trailers) in [(true, false), (false, false), (false, true)] {
            all.push(with("/v1/events", Body::Whole { bytes: bytes.clone(), stated, trailers }));
        }
    }
    let events = b"[{\"a\":1},{\"b\":2}]".to_vec();
    all.extend([
        with("/v1/echo/through/a", Body::Whole { bytes: events.clone(), stated: false, trailers: true }),
        with("/v1/events", Body::Stalls(events[..5].to_vec())),
        with("/nowhere", Body::Stalls(events[..5].to_vec())),
        post("/v1/events", &[("content-length", "3")], &events),
        post("/v1/events", &[("content-length", "+3")], b"[{}"),
    ]);
    all
}

/// Up to four requests of all kinds on one connection.
pub(crate) fn generated() -> impl Strategy<Value = Vec<Ask>> {
    vec(request(), 1..5)
}

fn request() -> impl Strategy<Value = Ask> {
    let method = prop_oneof![6 => Just("GET"), 2 => Just("HEAD"), 3 => Just("POST"), 1 => Just("PUT")];
    let path = prop::sample::select(vec![
        "/v1/echo/own/",
        "/v1/echo/all/",
        "/v1/echo/calm/",
        "/v1/echo/posted",
        "/v1/echo/through/",
        "/v1/updates/stable/manifest.json",
        "/v1/agents/a-1/tasks",
        "/v1/events",
        "/v1/packages/p?bytes=5000",
        "/",
    ]);
    let rest = prop_oneof![4 => "[ab]", 1 => "[a-z0-9!$&'()*+,;=:@%~_.-]{0,12}", 1 => "[ab]\\?os=[a-c]"];
    let target = (path, rest)
        .prop_map(|(path, rest)| if path.ends_with('/') { path.to_owned() + &rest } else { path.to_owned() });
    let field = prop::sample::select(vec![
        ("x-agent-id", "a-1"),
        ("x-agent-id", "a-2"),
        ("x-tenant-id", "t-1"),
        ("if-none-match", "*"),
        ("if-none-match", "\"a\""),
        ("range", "bytes=1-4"),
        ("range", "bytes=-4"),
        ("cache-control", "no-cache"),
        ("accept-language", "de"),
        ("x-ring", "1"),
        ("expect", "100-continue"),
        ("expect", "more"),
        ("content-encoding", "gzip"),
        ("user-agent", "agent/1"),
    ]);
    let bytes = prop_oneof![
        Just(b"[{\"a\":1}]".to_vec()),
        Just(b"{\"ring\":\"a\"}".to_vec()),
        vec(any::<u8>(), 0..40),
        (0_usize..12_000).prop_map(|length| vec![b' '; length]),
    ];
    let whole = (bytes, any::<bool>(), any::<bool>());
    let whole = whole.prop_map(|(bytes, stated, trailers)| Body::Whole { bytes, stated, trailers });
    let body = prop_oneof![3 => Just(Body::None), 2 => whole];
    (method, target, vec(field, 0..5), body).prop_map(|(method, target, fields, body)| {
        let fields = fields.into_iter().map(|(name, value)| (name, value.to_owned())).collect();
        Ask { method, target, fields, body, reads: true }
    })
}
