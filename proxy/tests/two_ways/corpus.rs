//! What agents say.

use std::fmt;

use proptest::collection::vec;
use proptest::prelude::*;

/// The bytes of one connection.
#[derive(Clone, Debug)]
pub(crate) struct Conversation {
    /// What is written, one after the other.
    pub(crate) pieces: Vec<Vec<u8>>,
    pub(crate) manner: Manner,
    /// Answers that the agent waits for before it ends what it says.
    pub(crate) awaited: usize,
    heads: Vec<bool>,
}

/// How an agent ends what it says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Manner {
    /// Once it has its answers it closes its side, and reads on.
    Leaves,
    /// It says no more, to a listener that has little patience.
    Stalls,
}

impl Conversation {
    /// These requests at once, and no more.
    pub(crate) fn of(requests: impl IntoIterator<Item = Vec<u8>>) -> Self {
        let requests: Vec<_> = requests.into_iter().collect();
        let heads: Vec<_> = requests.iter().map(|request| request.starts_with(b"HEAD ")).collect();
        Self { pieces: vec![requests.concat()], manner: Manner::Leaves, awaited: heads.len(), heads }
    }

    fn raw(text: &str) -> Self {
        Self::of([text.as_bytes().to_vec()])
    }

    /// The same, whose last request is cut short.
    fn cut_short(self) -> Self {
        Self { awaited: self.awaited - 1, ..self }
    }

    fn stalling(self) -> Self {
        Self { manner: Manner::Stalls, ..self }
    }

    /// The same bytes, so many at a time.
    fn in_pieces(self, bytes: usize) -> Self {
        let all = self.pieces.concat();
        Self { pieces: all.chunks(bytes.max(1)).map(<[u8]>::to_vec).collect(), ..self }
    }

    /// Whether the request of that number is a `HEAD`.
    pub(crate) fn is_head(&self, number: usize) -> bool {
        self.heads.get(number).copied().unwrap_or(false)
    }
}

impl fmt::Display for Conversation {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes = self.pieces.concat();
        let shown = String::from_utf8_lossy(&bytes[..bytes.len().min(2000)]).into_owned();
        write!(formatter, "{:?}, {} pieces:\n{shown}", self.manner, self.pieces.len())
    }
}

/// A request without a body.
pub(crate) fn head(method: &str, target: &str, fields: &str) -> Vec<u8> {
    format!("{method} {target} HTTP/1.1\r\nHost: edge\r\n{fields}\r\n").into_bytes()
}

/// A `POST` with a body of a stated length.
pub(crate) fn post(target: &str, fields: &str, body: &[u8]) -> Vec<u8> {
    let length = body.len();
    let head = format!("POST {target} HTTP/1.1\r\nHost: edge\r\nContent-Length: {length}\r\n{fields}\r\n");
    [head.as_bytes(), body].concat()
}

const WHO: &str = "X-Agent-Id: a-1\r\nX-Tenant-Id: t-1\r\n";

/// Every kind of request that has met a difference or could.
pub(crate) fn conversations() -> Vec<Conversation> {
    let mut all = answered();
    all.extend(refused());
    all.extend(bodies());
    all.extend(broken());
    all
}

/// Requests that are answered, alone, twice over, and one behind the other.
fn answered() -> Vec<Conversation> {
    let get = |target: &str, fields: &str| head("GET", target, &format!("{WHO}{fields}"));
    let events = b"[{\"a\":1},{\"b\":2}]";
    let single = [
        get("/v1/echo/own/a", ""),
        get("/v1/echo/own/a", ""),
        get("/v1/echo/own/a?os=win&x=1", "Accept-Language: de\r\naccept-language: fr\r\n"),
        get("/v1/echo/own/%2e%2E", "Cookie: a\r\nX-Empty:\r\n"),
        get("/v1/echo/own/caf\u{7f}"[..16].trim_end_matches('\u{7f}'), "X-Any: caf\u{e9}\r\n"),
        head("HEAD", "/v1/echo/own/a", WHO),
        head("HEAD", "/v1/echo/all/z", ""),
        get("/v1/echo/all/a", "X-Ring: 1\r\n"),
        get("/v1/echo/all/a", "X-Ring: 1\r\nX-Ring: 2\r\n"),
        get("/v1/echo/all/a", "Connection: close\r\n"),
        get("/v1/echo/all/a", "Connection: Keep-Alive\r\n"),
        get("/v1/echo/all/a", "Connection: keep-alive, close\r\n"),
        get("/v1/echo/all/a", "Connection: x-ring\r\nX-Ring: 1\r\n"),
        get("/v1/echo/all/a?status=404", ""),
        get("/v1/echo/all/b?status=500", ""),
        get("/v1/updates/stable/manifest.json", ""),
        get("/v1/updates/stable/manifest.json", "If-None-Match: *\r\n"),
        get("/v1/updates/stable/manifest.json", "If-None-Match: \"nothing\", W/\"like it\"\r\n"),
        get("/v1/updates/stable/manifest.json", "If-Modified-Since: Fri, 01 Jan 2100 00:00:00 GMT\r\n"),
        get("/v1/updates/stable/manifest.json", "Range: bytes=0-9\r\n"),
        get("/v1/updates/stable/manifest.json", "Range: bytes=5-\r\nIf-Range: \"other\"\r\n"),
        get("/v1/updates/stable/manifest.json", "Range: bytes=9999999-\r\n"),
        get("/v1/packages/small?bytes=1000", ""),
        get("/v1/packages/large?bytes=300000", ""),
        get("/v1/packages/large?bytes=300000", ""),
        get("/v1/packages/large?bytes=300000", "Range: bytes=100000-100099\r\n"),
        head("HEAD", "/v1/packages/large?bytes=300000", WHO),
        get("/v1/agents/a-1/tasks", ""),
        get("/v1/agents/a-1/tasks", ""),
        get("/v1/echo/through/a/b?c", ""),
        post("/v1/echo/through/a", WHO, b"passed through"),
        post("/v1/echo/posted", WHO, b"{\"ring\":\"beta\"}"),
        post("/v1/echo/posted", WHO, b"{\"ring\":\"beta\"}"),
        post("/v1/events", WHO, events),
        post("/v1/events", &format!("{WHO}Expect: 100-continue\r\n"), events),
        post("/v1/events", &format!("{WHO}Connection: close\r\n"), events),
        head("GET", "http://edge/v1/echo/all/a", ""),
    ];
    let then = get("/v1/echo/all/then", "");
    let alone = single.iter().map(|request| Conversation::of([request.clone()]));
    let twice = single.iter().map(|request| Conversation::of([request.clone(), request.clone()]));
    let followed = single.iter().map(|request| Conversation::of([request.clone(), then.clone(), request.clone()]));
    let slowly = single.iter().map(|request| Conversation::of([request.clone(), then.clone()]).in_pieces(37));
    alone.chain(twice).chain(followed).chain(slowly).collect()
}

/// Requests that are refused for what they ask for, each followed by one that shows whether the connection lives on.
fn refused() -> Vec<Conversation> {
    let requests = [
        head("GET", "/nowhere", WHO),
        head("POST", "/nowhere", WHO),
        head("DELETE", "/v1/echo/own/a", WHO),
        head("FETCH", "/v1/echo/own/a", WHO),
        head("GET", "/v1/events", WHO),
        post("/v1/echo/own/a", WHO, b"a body where there is none to be"),
        post("/nowhere", WHO, &[b'x'; 20_000]),
        post("/nowhere", "Expect: 100-continue\r\n", &[b'x'; 100]),
        head("GET", "/v1/echo/own/a", ""),
        head("GET", "/v1/agents/a-1/tasks", ""),
        head("GET", "/v1/echo/own/a", "X-Tenant-Id: \r\nX-Agent-Id: a\u{e9}\r\n"),
        post("/v1/echo/posted", WHO, b"no JSON"),
        post("/v1/echo/posted", WHO, b""),
        post("/v1/events", WHO, b"7"),
        post("/v1/events", WHO, b""),
        post("/v1/events", WHO, b"[{\"a\":1},2]"),
        post("/v1/events", &format!("{WHO}Content-Encoding: gzip\r\n"), b"not gzip"),
        post("/v1/events", &format!("{WHO}Content-Encoding: br\r\n"), b"[]"),
        head("GET", &format!("/v1/echo/all/{}", "a".repeat(230)), WHO),
        head("GET", &format!("/v1/echo/all/{}", "a".repeat(250)), WHO),
    ];
    let then = head("GET", "/v1/echo/all/then", WHO);
    requests.into_iter().map(|request| Conversation::of([request, then.clone()])).collect()
}

/// Bodies at their bounds and past them.
fn bodies() -> Vec<Conversation> {
    let record = |bytes: usize| format!("[{{\"a\":\"{}\"}}]", "x".repeat(bytes - "[{\"a\":\"\"}]".len())).into_bytes();
    let ring = |bytes: usize| format!("{{\"ring\":\"{}\"}}", "x".repeat(bytes - "{\"ring\":\"\"}".len())).into_bytes();
    let then = head("GET", "/v1/echo/all/then", WHO);
    let mut all = Vec::new();
    for body in [record(4_000), record(8 * 1024), record(8 * 1024 + 1), record(200_000), record(2_000_000)] {
        all.push(Conversation::of([post("/v1/events", WHO, &body), then.clone()]));
    }
    for body in [ring(200), ring(1024), ring(1025)] {
        all.push(Conversation::of([post("/v1/echo/posted", WHO, &body), then.clone()]).in_pieces(700));
    }
    let chunked = "POST /v1/events HTTP/1.1\r\nHost: edge\r\nTransfer-Encoding: chunked\r\n\r\n4\r\n[{}]\r\n0\r\n\r\n";
    all.push(Conversation::of([chunked.as_bytes().to_vec(), then]));
    all
}

/// What is not a request, or not a whole one.
fn broken() -> Vec<Conversation> {
    let body = post("/v1/events", WHO, b"[{\"a\":1}]");
    let half = |bytes: usize| Conversation::of([body[..bytes].to_vec()]).cut_short();
    let whole = head("GET", "/v1/echo/all/a", WHO);
    let mut all = vec![
        half(body.len() - 4),
        half(body.len() - 4).stalling(),
        half(40),
        half(40).stalling(),
        Conversation::of([whole.clone(), whole[..20].to_vec()]).cut_short(),
        Conversation::of([post("/nowhere", WHO, b"half")[..70].to_vec()]).cut_short(),
        Conversation::of([post("/nowhere", WHO, b"half")[..90].to_vec()]).stalling(),
        Conversation::of([[&b"\r\n\r\n"[..], &whole].concat(), [&b"\r\n"[..], &whole].concat()]),
        Conversation::of([Vec::new()]).cut_short(),
    ];
    all.extend(
        [
            "hello\r\n\r\n",
            "GET / HTTP/1.1\r\n\r\n",
            "GET /a b HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET /a HTTP/2.0\r\nHost: a\r\n\r\n",
            "GET /v1/echo/all/a HTTP/1.0\r\n\r\n",
            "GET /v1/echo/all/a HTTP/1.0\r\nConnection: keep-alive\r\n\r\nGET /v1/echo/all/a HTTP/1.0\r\n\r\n",
            "GET /v1/echo/all/a HTTP/1.1\r\nHost: a b\r\n\r\n",
            "GET /v1/echo/all/a HTTP/1.1\r\nHost: a@b\r\n\r\n",
            "GET /v1/echo/all/a HTTP/1.1\r\nHost: a/b\r\n\r\n",
            "GET /v1/echo/all/a HTTP/1.1\r\nHost: \r\n\r\n",
            "GET /v1/echo/all/a HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n",
            "GET /v1/echo/all/a HTTP/1.1\r\nHost: a\r\n folded\r\n\r\n",
            "GET /v1/echo/all/a HTTP/1.1\nHost: a\n\n",
            "GET http://b/v1/echo/all/a HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET * HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET /v1/echo/all/a#b HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET /v1/echo/all/{a}|^ HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET /v1/echo/all/a?\"<>` HTTP/1.1\r\nHost: a\r\n\r\n",
            "CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\n",
            "POST /v1/events HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\nx",
            "POST /v1/events HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            "POST /v1/events HTTP/1.1\r\nHost: a\r\nContent-Length: +1\r\n\r\nx",
            "POST /v1/events HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
            "GET /v1/echo/all/a HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n",
        ]
        .into_iter()
        .map(Conversation::raw),
    );
    let fields = "X-Field: 0123456789\r\n".repeat(150);
    all.push(Conversation::raw(&format!("GET /v1/echo/all/a HTTP/1.1\r\nHost: a\r\n{fields}\r\n")));
    all
}

/// Up to four requests of all kinds on one connection, in pieces of all sizes.
pub(crate) fn generated() -> impl Strategy<Value = Conversation> {
    (vec(request(), 1..5), prop_oneof![3 => Just(usize::MAX), 1 => 1_usize..400])
        .prop_map(|(requests, bytes)| Conversation::of(requests).in_pieces(bytes))
}

fn request() -> impl Strategy<Value = Vec<u8>> {
    let method =
        prop_oneof![6 => Just("GET"), 2 => Just("HEAD"), 3 => Just("POST"), 1 => Just("PUT"), 1 => Just("get")];
    let body = prop_oneof![3 => Just(None), 2 => body().prop_map(Some)];
    (method, target(), vec(field(), 0..5), body).prop_map(|(method, target, fields, body)| {
        let length = body.as_ref().map(|body| format!("Content-Length: {}\r\n", body.len())).unwrap_or_default();
        let head = head(method, &target, &(fields.concat() + &length));
        [head, body.unwrap_or_default()].concat()
    })
}

fn target() -> impl Strategy<Value = String> {
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
        "http://edge/v1/echo/all/a",
        "",
    ]);
    let rest = prop_oneof![4 => "[ab]", 1 => "[!-~]{0,12}", 1 => "[ab]\\?os=[a-c]", 1 => "\\PC{0,3}"];
    (path, rest).prop_map(|(path, rest)| match path {
        "/v1/echo/own/" | "/v1/echo/all/" | "/v1/echo/calm/" | "/v1/echo/through/" | "/" | "" => {
            path.to_owned() + &rest
        }
        _ => path.to_owned(),
    })
}

fn field() -> impl Strategy<Value = String> {
    let known = prop::sample::select(vec![
        "X-Agent-Id: a-1\r\n",
        "x-agent-id: a-2\r\n",
        "X-Tenant-Id: t-1\r\n",
        "X-Tenant-Id:\tt-2 \r\n",
        "Connection: close\r\n",
        "Connection: keep-alive\r\n",
        "If-None-Match: *\r\n",
        "If-None-Match: \"a\"\r\n",
        "Range: bytes=1-4\r\n",
        "Range: bytes=-4\r\n",
        "Range: bytes=90000-\r\n",
        "Cache-Control: no-cache\r\n",
        "Accept-Language: de\r\n",
        "X-Ring: 1\r\n",
        "Expect: 100-continue\r\n",
        "Expect: more\r\n",
        "Content-Encoding: gzip\r\n",
        "User-Agent: agent/1\r\n",
    ]);
    prop_oneof![9 => known.prop_map(str::to_owned), 1 => "[!-9;-~]{1,6}:[ -~]{0,8}\r\n"]
}

fn body() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        Just(b"[{\"a\":1}]".to_vec()),
        Just(b"{\"ring\":\"a\"}".to_vec()),
        vec(any::<u8>(), 0..40),
        (0_usize..12_000).prop_map(|length| vec![b' '; length]),
    ]
}
