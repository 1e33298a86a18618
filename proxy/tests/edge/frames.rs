//! Agents that write frames of HTTP/2 as no library would.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::http2;
use crate::node::Node;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RESET: u8 = 3;
const SETTINGS: u8 = 4;
const GOAWAY: u8 = 7;

const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

const REFUSED_STREAM: u32 = 7;
const CANCEL: u32 = 8;
const ENHANCE_YOUR_CALM: u32 = 11;

/// One frame (RFC 9113, section 4.1).
#[derive(Debug)]
struct Frame {
    kind: u8,
    flags: u8,
    stream: u32,
    payload: Vec<u8>,
}

impl Frame {
    fn new(kind: u8, flags: u8, stream: u32, payload: impl Into<Vec<u8>>) -> Self {
        Self { kind, flags, stream, payload: payload.into() }
    }

    /// A request without a body; its fields are written without compression.
    fn request(stream: u32, method: &str, path: &str) -> Self {
        // Names by their number in the static table (RFC 7541, appendix A): `:method`, `:scheme` http, `:path`, `:authority`.
        let literal =
            |number: u8, value: &str| [&[number, u8::try_from(value.len()).unwrap()][..], value.as_bytes()].concat();
        let block = [literal(2, method), vec![0x86], literal(4, path), literal(1, "localhost")].concat();
        Self::new(HEADERS, END_STREAM | END_HEADERS, stream, block)
    }

    fn reset(stream: u32) -> Self {
        Self::new(RESET, 0, stream, CANCEL.to_be_bytes())
    }

    fn bytes(&self) -> Vec<u8> {
        let length = u32::try_from(self.payload.len()).unwrap().to_be_bytes();
        [&length[1..], &[self.kind, self.flags], &self.stream.to_be_bytes(), &self.payload].concat()
    }

    /// The code of an error that the frame names.
    fn code(&self) -> u32 {
        let at = if self.kind == GOAWAY { 4 } else { 0 };
        u32::from_be_bytes(self.payload[at..at + 4].try_into().unwrap())
    }

    fn ends(&self) -> bool {
        self.flags & END_STREAM != 0
    }
}

struct Agent(TcpStream);

impl Agent {
    /// An agent whose windows for bodies are of this size.
    async fn connect(node: &Node, window: u32) -> Self {
        let mut agent = Self(TcpStream::connect(node.address).await.unwrap());
        agent.0.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.unwrap();
        let initial_window = [&[0, 4][..], &window.to_be_bytes()].concat();
        agent.say(&[Frame::new(SETTINGS, 0, 0, initial_window)]).await;
        agent
    }

    /// Writes all of them at once.
    async fn say(&mut self, frames: &[Frame]) {
        let bytes: Vec<u8> = frames.iter().flat_map(Frame::bytes).collect();
        self.0.write_all(&bytes).await.unwrap();
    }

    async fn try_next(&mut self) -> Option<Frame> {
        let reading = async {
            let mut head = [0; 9];
            self.0.read_exact(&mut head).await.ok()?;
            let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
            let mut payload = vec![0; length as usize];
            self.0.read_exact(&mut payload).await.ok()?;
            let stream = u32::from_be_bytes(head[5..].try_into().unwrap());
            Some(Frame { kind: head[3], flags: head[4], stream, payload })
        };
        timeout(Duration::from_secs(20), reading).await.expect("the node to speak")
    }

    /// The next frame of one of these kinds.
    async fn next(&mut self, kinds: &[u8]) -> Frame {
        loop {
            let frame = self.try_next().await.expect("a frame, not the end of the connection");
            if kinds.contains(&frame.kind) {
                return frame;
            }
        }
    }
}

#[tokio::test]
async fn requests_that_come_together_are_all_answered() {
    let node = Node::plain().await;
    let mut agent = Agent::connect(&node, 65_535).await;
    for turn in 0..3 {
        let streams: Vec<u32> = (0..50).map(|number| 1 + 2 * (50 * turn + number)).collect();
        let requests: Vec<_> =
            streams.iter().map(|stream| Frame::request(*stream, "GET", &format!("/v1/things/{stream}"))).collect();
        agent.say(&requests).await;
        let mut bodies = std::collections::BTreeMap::<u32, String>::new();
        let mut ended = 0;
        while ended < streams.len() {
            let frame = agent.next(&[DATA, RESET, GOAWAY]).await;
            assert_eq!(frame.kind, DATA, "{frame:?}");
            ended += usize::from(frame.ends());
            bodies.entry(frame.stream).or_default().push_str(&String::from_utf8_lossy(&frame.payload));
        }
        for stream in streams {
            assert!(bodies[&stream].starts_with(&format!("Get things /v1/things/{stream} ")), "{bodies:?}");
        }
        agent.say(&[window_update(0, 60_000)]).await;
    }
    node.until("all are counted", |node| node.count("things", "hit") == 150).await;
}

fn window_update(stream: u32, by: u32) -> Frame {
    Frame::new(8, 0, stream, by.to_be_bytes())
}

#[tokio::test]
async fn a_flood_of_resets_ends_its_connection_and_no_other() {
    let node = Node::plain().await;
    let mut other = http2::plain(&node).await;
    let mut agent = Agent::connect(&node, 65_535).await;
    let flood = (0..500).map(|number| 1 + 2 * number);
    let flood: Vec<_> =
        flood.flat_map(|stream| [Frame::request(stream, "GET", "/v1/things/a"), Frame::reset(stream)]).collect();
    agent.say(&flood).await;
    let end = agent.next(&[GOAWAY]).await;
    assert_eq!(end.code(), ENHANCE_YOUR_CALM);
    while agent.try_next().await.is_some() {}
    assert_eq!(http2::send(&mut other, "GET", "/v1/things/a", "").await.0, 200);
    node.until("nothing of it is left", |node| node.metrics.requests_in_flight.get() == 0 && node.drain.open() == 1)
        .await;
}

#[tokio::test]
async fn streams_past_the_bound_are_refused_and_the_connection_goes_on() {
    let node = Node::start("max_http2_streams = 2", "").await;
    let mut agent = Agent::connect(&node, 65_535).await;
    // What has not been acknowledged does not bind yet.
    agent.next(&[SETTINGS]).await;
    agent.say(&[Frame::new(SETTINGS, 1, 0, [])]).await;
    agent.say(&[1, 3, 5].map(|stream| Frame::request(stream, "GET", "/v1/hold/a"))).await;
    let refused = agent.next(&[HEADERS, RESET]).await;
    assert_eq!((refused.kind, refused.stream, refused.code()), (RESET, 5, REFUSED_STREAM));
    node.held.add_permits(3);
    let mut ended = 0;
    while ended < 2 {
        ended += u32::from(agent.next(&[DATA]).await.ends());
    }
    agent.say(&[Frame::request(7, "GET", "/v1/hold/a")]).await;
    assert_eq!(agent.next(&[HEADERS, RESET]).await.kind, HEADERS);
    node.until("all but one are counted", |node| node.count("hold", "hit") == 3).await;
}

#[tokio::test]
async fn a_window_that_is_never_opened_costs_its_stream_and_not_the_connection() {
    let node = Node::start("body_timeout = \"1s\"", "").await;
    let mut agent = Agent::connect(&node, 0).await;
    agent.say(&[Frame::request(1, "GET", "/v1/things/a"), Frame::request(3, "HEAD", "/v1/things/a")]).await;
    for _ in 0..2 {
        let frame = agent.next(&[HEADERS, DATA, RESET]).await;
        assert_eq!((frame.kind, frame.ends()), (HEADERS, frame.stream == 3));
    }
    let given_up = agent.next(&[HEADERS, DATA, RESET]).await;
    assert_eq!((given_up.kind, given_up.stream), (RESET, 1), "it does not look whole");
    node.until("it is counted", |node| node.count("things", "abandoned") == 1).await;
    agent.say(&[Frame::request(5, "GET", "/v1/things/a"), window_update(5, 1_000)]).await;
    assert_eq!(agent.next(&[HEADERS, RESET]).await.stream, 5);
    assert!(agent.next(&[DATA, RESET]).await.ends(), "a window that opens is enough");
    node.until("both are counted", |node| node.count("things", "hit") == 2).await;
}

#[tokio::test]
async fn an_agent_that_resets_what_is_under_way_leaves_nothing_behind() {
    let node = Node::plain().await;
    let mut agent = Agent::connect(&node, 0).await;
    let streams = [1, 3, 5, 7];
    agent.say(&streams.map(|stream| Frame::request(stream, "GET", "/v1/hold/a"))).await;
    node.until("all are held", |node| node.metrics.requests_in_flight.get() == 4).await;
    agent.say(&[Frame::request(9, "GET", "/v1/things/a")]).await;
    assert_eq!(agent.next(&[HEADERS]).await.stream, 9, "its body waits for a window");
    agent.say(&streams.map(Frame::reset)).await;
    agent.say(&[Frame::reset(9)]).await;
    node.until("the last is given up", |node| node.count("things", "abandoned") == 1).await;
    node.held.add_permits(4);
    node.until("nothing is under way", |node| node.metrics.requests_in_flight.get() == 0).await;
    assert_eq!(node.count("hold", "abandoned"), 4);
    agent.say(&[Frame::request(11, "HEAD", "/v1/things/a")]).await;
    let answered = agent.next(&[HEADERS, RESET, GOAWAY]).await;
    assert_eq!((answered.kind, answered.stream), (HEADERS, 11));
}
