//! The books of each way in: whatever agents say, however they say it and whether they stay, each request is counted once, on its route,
//! and the bytes that are counted are those that agents were sent.

#![expect(clippy::unwrap_used, reason = "a test has no better use for an error")]

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use futures::future::join_all;
use http::Request;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use weir_core_sim::{Behaviour, CoreOptions, CoreSim, EndpointKind};
use weir_testkit::Node;

const WEIR: &str = env!("CARGO_BIN_EXE_weir");

fn config(core: SocketAddr) -> String {
    include_str!("weir.toml").replace("{core}", &core.to_string())
}

/// One request, and the route that takes it.
#[derive(Clone, Debug)]
struct Ask {
    route: &'static str,
    method: &'static str,
    target: String,
    fields: Vec<(&'static str, &'static str)>,
    body: Vec<u8>,
}

impl Ask {
    fn random(random: &mut impl Rng) -> Self {
        let number = random.random_range(0..4);
        let (route, method, target) = match random.random_range(0..12) {
            0 | 1 => ("updates", ["GET", "HEAD"][number % 2], format!("/v1/updates/ring-{number}/manifest.json")),
            2 | 3 => ("config", ["GET", "GET", "HEAD"][number % 3], "/v1/config".to_owned()),
            4 => ("large", ["GET", "HEAD"][number % 2], LARGE.to_owned()),
            5 | 6 => ("tasks", "GET", format!("/v1/agents/a-{number}/tasks")),
            7 | 8 => ("events", "POST", "/v1/events/process".to_owned()),
            9 => ("rest", ["GET", "HEAD", "POST"][number % 3], format!("/v1/echo/{number}")),
            10 => ("none", ["GET", "DELETE"][number % 2], "/nowhere".to_owned()),
            _ => ("none", "DELETE", "/v1/config".to_owned()),
        };
        let body = match (method, random.random_range(0..4)) {
            ("POST", 0) => b"no json".to_vec(),
            ("POST", 1) => vec![b' '; 3000],
            ("POST", _) => b"[{\"a\":1},17]".to_vec(),
            _ => Vec::new(),
        };
        let says = (method == "GET" && random.random_bool(0.5)).then(|| SAYS[random.random_range(0..SAYS.len())]);
        let fields = [("x-agent-id", "a-1"), ("x-tenant-id", "t-1")].into_iter().chain(says).collect();
        Self { route, method, target, fields, body }
    }

    fn get(route: &'static str, target: &str) -> Self {
        Self { route, method: "GET", target: target.to_owned(), fields: Vec::new(), body: Vec::new() }
    }

    /// As HTTP/1.1 has it, of a body of that length.
    fn head(&self, length: usize) -> String {
        let fields: String = self.fields.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        let length = if self.method == "POST" { format!("content-length: {length}\r\n") } else { String::new() };
        format!("{} {} HTTP/1.1\r\nhost: edge\r\n{fields}{length}", self.method, self.target)
    }
}

/// Parts and conditions.
const SAYS: [(&str, &str); 4] = [
    ("range", "bytes=0-9"),
    ("range", "bytes=100000000-"),
    ("if-none-match", "*"),
    ("if-modified-since", "Tue, 14 Nov 2073 22:13:20 GMT"),
];

/// More than the buffers between a node and an agent hold.
const LARGE: &str = "/v1/packages/large?bytes=14000000";

/// What agents have asked and were told, on one route.
#[derive(Clone, Copy, Debug, Default)]
struct Book {
    requests: u64,
    bytes: u64,
    /// Bytes of answers of which the agent has not seen the end: how many of them it was sent nobody knows.
    at_most_more: u64,
    body_bytes: u64,
}

#[derive(Debug, Default)]
struct Books {
    routes: BTreeMap<&'static str, Book>,
    statuses: BTreeMap<u16, u64>,
}

impl Books {
    fn asked(&mut self, ask: &Ask) -> &mut Book {
        let book = self.routes.entry(ask.route).or_default();
        book.requests += 1;
        book.body_bytes += ask.body.len() as u64;
        book
    }

    fn told(&mut self, ask: &Ask, status: u16, bytes: usize) {
        *self.statuses.entry(status).or_default() += 1;
        self.routes.entry(ask.route).or_default().bytes += bytes as u64;
    }
}

/// Requests one behind the other on a connection, all of them sent before the first answer is read.
async fn pipeline(address: SocketAddr, asks: &[Ask], books: &mut Books) {
    let mut said = Vec::new();
    for (number, ask) in asks.iter().enumerate() {
        let last = if number + 1 == asks.len() { "connection: close\r\n" } else { "" };
        said.extend_from_slice(format!("{}{last}\r\n", ask.head(ask.body.len())).as_bytes());
        said.extend_from_slice(&ask.body);
    }
    let (mut reads, mut writes) = TcpStream::connect(address).await.unwrap().into_split();
    let mut heard = Vec::new();
    let (_, read) = tokio::join!(writes.write_all(&said), reads.read_to_end(&mut heard));
    read.unwrap();
    let mut rest = &heard[..];
    for ask in asks {
        books.asked(ask);
        let (status, bytes, beyond) =
            answer(rest, ask.method == "HEAD").unwrap_or_else(|| panic!("{ask:?} of {asks:?}"));
        books.told(ask, status, bytes);
        rest = beyond;
    }
    assert!(rest.is_empty(), "{}", String::from_utf8_lossy(rest));
}

/// The status of an answer, the bytes of its body, and what follows it.
fn answer(said: &[u8], is_head: bool) -> Option<(u16, usize, &[u8])> {
    let end = said.windows(4).position(|four| four == b"\r\n\r\n")? + 4;
    let head = std::str::from_utf8(&said[..end]).unwrap().to_ascii_lowercase();
    let status = head[9..12].parse().unwrap();
    let field = |name: &str| head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
    let mut rest = &said[end..];
    if is_head || matches!(status, 204 | 304) {
        return Some((status, 0, rest));
    }
    if let Some(length) = field("content-length") {
        let length: usize = length.parse().unwrap();
        return Some((status, length, rest.get(length..)?));
    }
    assert_eq!(field("transfer-encoding"), Some("chunked"), "{head}");
    let mut bytes = 0;
    loop {
        let line = rest.windows(2).position(|two| two == b"\r\n")?;
        let size = usize::from_str_radix(std::str::from_utf8(&rest[..line]).unwrap(), 16).unwrap();
        rest = rest.get(line + 2 + size + 2..)?;
        bytes += size;
        if size == 0 {
            return Some((status, bytes, rest));
        }
    }
}

/// Requests side by side on a connection of HTTP/2.
async fn streams(address: SocketAddr, asks: &[Ask], books: &mut Books) {
    let stream = TcpStream::connect(address).await.unwrap();
    let (mut sender, connection) = h2::client::Builder::new().handshake::<_, Bytes>(stream).await.unwrap();
    let connection = weir::task::spawn("connection", connection);
    let mut told = Vec::new();
    for ask in asks {
        let mut request = Request::builder().method(ask.method).uri(format!("http://edge{}", ask.target));
        for (name, value) in &ask.fields {
            request = request.header(*name, *value);
        }
        std::future::poll_fn(|cx| sender.poll_ready(cx)).await.unwrap();
        let (answer, mut body) = sender.send_request(request.body(()).unwrap(), ask.body.is_empty()).unwrap();
        if !ask.body.is_empty() {
            body.send_data(ask.body.clone().into(), true).unwrap();
        }
        told.push(async move {
            let answer = answer.await.unwrap();
            let (status, mut body, mut bytes) = (answer.status().as_u16(), answer.into_body(), 0);
            while let Some(piece) = body.data().await {
                let length = piece.unwrap().len();
                body.flow_control().release_capacity(length).unwrap();
                bytes += length;
            }
            (status, bytes)
        });
    }
    for (ask, (status, bytes)) in asks.iter().zip(join_all(told).await) {
        books.asked(ask);
        books.told(ask, status, bytes);
    }
    drop(sender);
    drop(connection.await);
}

/// Asks for something large over HTTP/1.1 and leaves in the midst of it. Gives the bytes of the body that it was sent at least.
async fn leaves_midway(address: SocketAddr, books: &mut Books) -> u64 {
    let ask = Ask::get("large", LARGE);
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(format!("{}\r\n", ask.head(0)).as_bytes()).await.unwrap();
    let mut seen = vec![0; 600_000];
    stream.read_exact(&mut seen).await.unwrap();
    let head = seen.windows(4).position(|four| four == b"\r\n\r\n").unwrap() + 4;
    let bytes = (seen.len() - head) as u64 - PIECE;
    let book = books.asked(&ask);
    (book.bytes, book.at_most_more) = (book.bytes + bytes, book.at_most_more + LARGE_BYTES - bytes);
    bytes
}

/// The same over HTTP/2: it never opens its window again.
async fn resets_midway(address: SocketAddr, books: &mut Books) -> u64 {
    let ask = Ask::get("large", LARGE);
    let stream = TcpStream::connect(address).await.unwrap();
    let window = 300_000;
    let mut builder = h2::client::Builder::new();
    let (mut sender, connection) = builder.initial_window_size(window).handshake::<_, Bytes>(stream).await.unwrap();
    let connection = weir::task::spawn("connection", connection);
    let request = Request::builder().uri(format!("http://edge{}", ask.target)).body(()).unwrap();
    let (answer, _) = sender.send_request(request, true).unwrap();
    let mut body = answer.await.unwrap().into_body();
    let mut bytes = 0;
    // The connection's window is smaller than the stream's.
    while bytes < 60_000 {
        bytes += body.data().await.unwrap().unwrap().len() as u64;
    }
    drop(body);
    drop(sender);
    drop(connection.await);
    let (book, bytes) = (books.asked(&ask), bytes - PIECE);
    (book.bytes, book.at_most_more) = (book.bytes + bytes, book.at_most_more + LARGE_BYTES - bytes);
    bytes
}

/// Sends a part of its upload, and leaves or waits to be told off.
async fn breaks_off(address: SocketAddr, stays: bool, books: &mut Books) {
    let part = vec![b' '; 500];
    let ask = Ask { method: "POST", body: part, ..Ask::get("events", "/v1/events/process") };
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(format!("{}\r\n", ask.head(1_500)).as_bytes()).await.unwrap();
    stream.write_all(&ask.body).await.unwrap();
    books.asked(&ask);
    if stays {
        let mut heard = Vec::new();
        stream.read_to_end(&mut heard).await.unwrap();
        let (status, bytes, _) = answer(&heard, false).unwrap();
        books.told(&ask, status, bytes);
    }
}

/// What is no request that could be routed.
async fn garbles(address: SocketAddr, number: usize, books: &mut Books) {
    let head = [
        "GET / HTTP/1.1\r\nhost: a\r\nbad field\r\n\r\n",
        "GET / HTTP/1.1\r\nhost: a\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n",
        "GET http//x HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n",
        "BREW / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n",
    ][number % 4];
    let heard = weir_testkit::http::raw(address, head.as_bytes()).await;
    let (status, bytes, _) = answer(&heard, false).unwrap();
    assert!((400..600).contains(&status), "{status}");
    let ask = Ask::get("none", head);
    books.asked(&ask);
    books.told(&ask, status, bytes);
}

async fn agents(seed: u64, node: &Node, core: &CoreSim) -> Books {
    let mut random = StdRng::seed_from_u64(seed);
    let mut books = Books::default();
    // What is large is there before anyone leaves in the midst of it.
    pipeline(node.listener("plain"), &[Ask::get("large", LARGE)], &mut books).await;
    for turn in 0..160 {
        if turn % 10 == 9 {
            let fault = [Behaviour::Up, Behaviour::status(500), Behaviour::status(429)];
            for kind in [EndpointKind::Update, EndpointKind::Config, EndpointKind::Lookup, EndpointKind::Echo] {
                core.script_for(kind, fault[random.random_range(0..fault.len())].clone());
            }
        }
        let address = node.listener(["plain", "framework"][random.random_range(0..2)]);
        let asks: Vec<_> = (0..random.random_range(1..8)).map(|_| Ask::random(&mut random)).collect();
        match random.random_range(0..16) {
            0..6 => pipeline(address, &asks, &mut books).await,
            6..11 => streams(address, &asks, &mut books).await,
            11 => drop(leaves_midway(address, &mut books).await),
            12 => drop(resets_midway(address, &mut books).await),
            13 => breaks_off(address, false, &mut books).await,
            14 if turn % 4 == 0 => breaks_off(node.listener("impatient"), true, &mut books).await,
            _ => garbles(address, turn, &mut books).await,
        }
    }
    books
}

#[tokio::test(flavor = "multi_thread")]
async fn every_way_in_counts_each_request_on_its_route_with_the_bytes_that_were_sent() {
    let core = CoreSim::start(CoreOptions::default()).await.unwrap();
    let directory = tempfile::tempdir().unwrap();
    let node = Node::start(Path::new(WEIR), directory.path(), &config(core.address())).await;
    let seed: u64 = rand::rng().random();
    eprintln!("seed {seed}");
    let told = tokio::time::timeout(Duration::from_secs(300), agents(seed, &node, &core));
    let books = told.await.expect("every request comes to its end");
    let total: u64 = books.routes.values().map(|book| book.requests).sum();
    // Those who left are counted when the node finds out.
    node.metric_until("weir_requests_total", &[], |counted| counted >= exact(total)).await;
    let metrics = node.metrics().await;
    let context = format!("seed {seed}, {books:#?}\n{metrics}");
    let sum = |name, labels: &[(&str, &str)]| weir_testkit::sum(&metrics, name, labels);
    for (route, book) in &books.routes {
        let of = |name| sum(name, &[("route", *route)]);
        assert!((of("weir_requests_total") - exact(book.requests)).abs() < 0.5, "requests of {route}: {context}");
        let durations = of("weir_request_duration_seconds_count");
        assert!((durations - exact(book.requests)).abs() < 0.5, "durations of {route}: {context}");
        let written = of("weir_answer_bytes_total");
        let most = exact(book.bytes + book.at_most_more);
        assert!((exact(book.bytes)..=most).contains(&written), "{written} bytes of answers of {route}: {context}");
        let read = of("weir_request_bytes_total");
        assert!(read <= exact(book.body_bytes), "{read} bytes of requests of {route}: {context}");
    }
    assert!((sum("weir_requests_total", &[]) - exact(total)).abs() < 0.5, "a route that nobody asked: {context}");
    for status in [200, 202, 206, 304, 400, 404, 405, 413] {
        assert!(books.statuses.contains_key(&status), "nobody was answered {status}: {context}");
    }
}

/// Whoever leaves in the midst of an answer was sent what is counted: not nothing, and not all of it.
#[tokio::test(flavor = "multi_thread")]
async fn of_an_answer_that_is_broken_off_the_bytes_count_that_were_sent() {
    let core = CoreSim::start(CoreOptions::default()).await.unwrap();
    let directory = tempfile::tempdir().unwrap();
    let node = Node::start(Path::new(WEIR), directory.path(), &config(core.address())).await;
    let mut books = Books::default();
    pipeline(node.listener("plain"), &[Ask::get("large", LARGE)], &mut books).await;
    for listener in ["plain", "framework"] {
        let address = node.listener(listener);
        for over_http2 in [false, true] {
            let abandoned = [("route", "large"), ("outcome", "abandoned")];
            let bytes = || node.metric("weir_answer_bytes_total", &abandoned);
            let (requests, before) = (node.metric("weir_requests_total", &abandoned).await, bytes().await);
            let seen = if over_http2 {
                resets_midway(address, &mut books).await
            } else {
                leaves_midway(address, &mut books).await
            };
            node.metric_until("weir_requests_total", &abandoned, |count| count > requests).await;
            let counted = bytes().await - before;
            assert!(
                (exact(seen)..exact(LARGE_BYTES)).contains(&counted),
                "{listener}, {over_http2}: {counted} of {seen}"
            );
        }
    }
}

const LARGE_BYTES: u64 = 14_000_000;

/// A piece that an agent has not taken whole does not count.
const PIECE: u64 = 16 * 1024;

#[expect(clippy::cast_precision_loss, reason = "far below 2^53")]
fn exact(number: u64) -> f64 {
    number as f64
}
