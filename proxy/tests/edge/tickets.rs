//! Tickets that several nodes open, and what no ticket brings back.

use std::sync::Arc;

use futures::StreamExt;
use rustls::{ClientConfig, HandshakeKind};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use tempfile::TempDir;
use weir::clock::Clock;
use weir_testkit::Authority;
use weir_testkit::certificates::Pair;

use crate::client::Raw;
use crate::node::Node;
use crate::tls::{only_tls12, tls_table};

/// What the nodes of a region share: authority, certificate, ticket keys.
struct Region {
    folder: TempDir,
    authority: Authority,
}

/// Three keys, as lines of a file.
const KEYS: [&str; 3] = [
    "7c1de6a2b0f4583917ac6ed02b95f8147c1de6a2b0f4583917ac6ed02b95f801",
    "02f1a0be4c7d93e6581f02dd9a6b7c3e02f1a0be4c7d93e6581f02dd9a6b7c02",
    "e3b07c419a5d62f0d8143cfe57a9b682e3b07c419a5d62f0d8143cfe57a9b603",
];

impl Region {
    fn new() -> Self {
        let folder = TempDir::new().unwrap();
        let authority = Authority::new(folder.path());
        authority.server("edge", &["localhost"]);
        let region = Self { folder, authority };
        region.write("ticket.keys", KEYS[0]);
        region.write("denied.txt", "");
        region
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.folder.path().join(name), text).unwrap();
    }

    async fn node(&self, client_auth: &str) -> Node {
        let path = |name: &str| self.folder.path().join(name).display().to_string();
        let (keys, denied) = (path("ticket.keys"), path("denied.txt"));
        let more = format!(", ticket_keys = \"{keys}\", denied_certificates = \"{denied}\"");
        Node::start(&tls_table(self.folder.path(), client_auth, &more), "").await
    }

    fn agent(&self, name: &str) -> (Pair, Arc<ClientConfig>) {
        let pair = self.authority.agent(name, "t-1");
        let client = self.authority.client(Some(&pair), &[]);
        (pair, client)
    }
}

/// Connects, has a request answered that says who asks, and gives how the handshake went.
async fn visit(node: &Node, client: &Arc<ClientConfig>, name: &str) -> HandshakeKind {
    let mut agent = Raw::connect_tls(node.address, Arc::clone(client)).await.unwrap();
    let answer = agent.get("/v1/things/a").await;
    assert!(answer.body.contains(&format!("agent={name:?} ")), "{name}: {}", answer.body);
    agent.stream.get_ref().1.handshake_kind().unwrap()
}

fn handshakes(node: &Node, kind: &str) -> u64 {
    node.metrics.handshakes.with_label_values(&[kind]).get()
}

fn reload(node: &Node) -> Vec<String> {
    let problems = node.certificates.reload(Clock::start().now());
    problems.into_iter().map(|(_, problem)| problem.to_string()).collect()
}

#[tokio::test]
async fn six_hundred_agents_resume_on_another_node_and_each_is_still_itself() {
    let region = Region::new();
    let (one, other) = (region.node("required").await, region.node("required").await);
    let visits = futures::stream::iter(0..600).map(|number| {
        let (region, one, other) = (&region, &one, &other);
        async move {
            let name = format!("a-{number}");
            let (_, client) = region.agent(&name);
            assert_eq!(visit(one, &client, &name).await, HandshakeKind::Full);
            visit(other, &client, &name).await
        }
    });
    let kinds: Vec<_> = visits.buffer_unordered(16).collect().await;
    let resumed = kinds.iter().filter(|kind| **kind == HandshakeKind::Resumed).count();
    assert_eq!(resumed, 600);
    assert_eq!((handshakes(&other, "resumed"), handshakes(&other, "full"), handshakes(&one, "full")), (600, 0, 600));
}

#[tokio::test]
async fn an_agent_with_tls_1_2_resumes_on_another_node() {
    let region = Region::new();
    let pair = region.authority.agent("a-1", "t-1");
    let client = Arc::new(only_tls12(&region.authority, &pair));
    let (one, other) = (region.node("required").await, region.node("required").await);
    assert_eq!(visit(&one, &client, "a-1").await, HandshakeKind::Full);
    assert_eq!(visit(&other, &client, "a-1").await, HandshakeKind::Resumed);
}

#[tokio::test]
async fn a_ticket_outlives_one_change_of_keys_and_after_two_the_handshake_is_full() {
    let region = Region::new();
    let node = region.node("required").await;
    let (_, idle) = region.agent("a-1");
    let (_, busy) = region.agent("a-2");
    assert_eq!(visit(&node, &idle, "a-1").await, HandshakeKind::Full);
    assert_eq!(visit(&node, &busy, "a-2").await, HandshakeKind::Full);
    region.write("ticket.keys", &format!("{}\n{}\n", KEYS[1], KEYS[0]));
    assert_eq!(reload(&node), [""; 0]);
    assert_eq!(visit(&node, &busy, "a-2").await, HandshakeKind::Resumed);
    region.write("ticket.keys", &format!("{}\n{}\n", KEYS[2], KEYS[1]));
    assert_eq!(reload(&node), [""; 0]);
    assert_eq!(visit(&node, &busy, "a-2").await, HandshakeKind::Resumed);
    assert_eq!(visit(&node, &idle, "a-1").await, HandshakeKind::Full);
    assert_eq!(handshakes(&node, "failed"), 0);
    assert!(node.metrics.tickets_refused.with_label_values(&["key"]).get() > 0);
}

#[tokio::test]
async fn broken_keys_are_named_by_their_line_and_the_old_ones_stay() {
    let region = Region::new();
    let node = region.node("required").await;
    let (_, client) = region.agent("a-1");
    assert_eq!(visit(&node, &client, "a-1").await, HandshakeKind::Full);
    for (text, problem) in [
        (format!("{}\nsecret\n", KEYS[1]), "ticket.keys:2: 64 hexadecimal digits are expected, not these 6 characters"),
        ("# none\n".to_owned(), "ticket.keys: holds no ticket key; openssl rand -hex 32 makes one"),
    ] {
        region.write("ticket.keys", &text);
        let problems = reload(&node);
        assert!(problems.len() == 1 && problems[0].ends_with(problem), "{problems:?}");
        assert_eq!(visit(&node, &client, "a-1").await, HandshakeKind::Resumed);
    }
}

#[tokio::test]
async fn an_agent_whose_certificate_is_denied_comes_in_neither_by_a_ticket_nor_by_a_handshake() {
    let region = Region::new();
    let node = region.node("required").await;
    let (stolen, thief) = region.agent("a-1");
    let (_, honest) = region.agent("a-2");
    for (client, name) in [(&thief, "a-1"), (&honest, "a-2")] {
        assert_eq!(visit(&node, client, name).await, HandshakeKind::Full);
    }
    let certificate = CertificateDer::from_pem_file(&stolen.certificate).unwrap();
    let digest = ring::digest::digest(&ring::digest::SHA256, &certificate);
    let fingerprint: Vec<String> = digest.as_ref().iter().map(|byte| format!("{byte:02X}")).collect();
    region.write("denied.txt", &format!("sha256 Fingerprint={}\n", fingerprint.join(":")));
    assert_eq!(reload(&node), [""; 0]);
    let mut agent = Raw::connect_tls(node.address, Arc::clone(&thief)).await.unwrap();
    agent.write("GET /v1/things/a HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert!(agent.try_answer(true).await.is_none());
    node.until("it is refused", |node| handshakes(node, "failed") == 1).await;
    assert!(node.metrics.tickets_refused.with_label_values(&["denied"]).get() > 0);
    assert_eq!(visit(&node, &honest, "a-2").await, HandshakeKind::Resumed);
}

#[tokio::test]
async fn a_ticket_of_a_listener_that_asks_for_less_opens_nothing() {
    let region = Region::new();
    let (open, closed) = (region.node("optional").await, region.node("required").await);
    let nameless = region.authority.client(None, &[]);
    let mut agent = Raw::connect_tls(open.address, Arc::clone(&nameless)).await.unwrap();
    assert_eq!(agent.get("/v1/things/a").await.status, 200);
    let mut agent = Raw::connect_tls(closed.address, nameless).await.unwrap();
    agent.write("GET /v1/things/a HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert!(agent.try_answer(true).await.is_none());
    closed.until("it is refused", |node| handshakes(node, "failed") == 1).await;
    assert_eq!(handshakes(&closed, "resumed"), 0);
}
