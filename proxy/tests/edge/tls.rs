//! TLS: versions, client certificates, tickets, certificates that change.

use std::path::Path;
use std::sync::Arc;

use rustls::{ClientConfig, HandshakeKind};
use tempfile::TempDir;
use weir::clock::Clock;
use weir_testkit::Authority;

use crate::client::Raw;
use crate::node::Node;

/// A node with TLS and the authority that signed its certificate.
pub(crate) struct Secure {
    pub(crate) node: Node,
    pub(crate) authority: Authority,
    pub(crate) folder: TempDir,
}

impl Secure {
    pub(crate) async fn start(client_auth: &str, extra: &str) -> Self {
        let folder = TempDir::new().unwrap();
        let authority = Authority::new(folder.path());
        authority.server("edge", &["localhost"]);
        let node = Node::start(&tls_table(folder.path(), client_auth, extra), "").await;
        Self { node, authority, folder }
    }

    fn handshakes(&self, kind: &str) -> u64 {
        self.node.metrics.handshakes.with_label_values(&[kind]).get()
    }

    async fn connect(&self, client: &Arc<ClientConfig>) -> Raw<tokio_rustls::client::TlsStream<tokio::net::TcpStream>> {
        Raw::connect_tls(self.node.address, Arc::clone(client)).await.unwrap()
    }
}

pub(crate) fn tls_table(folder: &Path, client_auth: &str, extra: &str) -> String {
    let path = |name: &str| folder.join(name).display().to_string();
    let (certificate, key, ca) = (path("edge.pem"), path("edge.key"), path("ca.pem"));
    let files = format!("certificate = \"{certificate}\", key = \"{key}\", client_ca = \"{ca}\"");
    format!("tls = {{ {files}, client_auth = \"{client_auth}\" {extra} }}")
}

#[tokio::test]
async fn a_client_certificate_names_the_agent_and_its_tenant() {
    let edge = Secure::start("required", "").await;
    let pair = edge.authority.agent("a-1", "t-1");
    let mut agent = edge.connect(&edge.authority.client(Some(&pair), &[])).await;
    let answer = agent.get("/v1/things/a").await;
    assert!(answer.body.contains(r#"agent="a-1" tenant="t-1""#), "{}", answer.body);
}

#[tokio::test]
async fn a_required_certificate_is_required() {
    let edge = Secure::start("required", "").await;
    let mut agent = edge.connect(&edge.authority.client(None, &[])).await;
    // In TLS 1.3 the client has shaken hands before the server has looked at its certificate.
    agent.write("GET /v1/things/a HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert!(agent.try_answer(true).await.is_none());
    edge.node.until("the handshake has failed", |_| edge.handshakes("failed") == 1).await;
    assert_eq!(edge.node.count("things", "hit"), 0);
}

#[tokio::test]
async fn an_optional_certificate_is_checked_when_shown() {
    let edge = Secure::start("optional", "").await;
    let mut nameless = edge.connect(&edge.authority.client(None, &[])).await;
    assert!(nameless.get("/v1/things/a").await.body.contains(r#"agent="" "#));
    let other_folder = TempDir::new().unwrap();
    let other = Authority::new(other_folder.path());
    let forged = other.agent("a-1", "t-1");
    drop(Raw::connect_tls(edge.node.address, edge.authority.client(Some(&forged), &[])).await);
    edge.node.until("the forger has failed", |_| edge.handshakes("failed") == 1).await;
}

#[tokio::test]
async fn a_returning_agent_resumes_and_is_still_known() {
    for version in [&rustls::version::TLS13, &rustls::version::TLS12] {
        let edge = Secure::start("required", "").await;
        let pair = edge.authority.agent("a-1", "t-1");
        let mut client = ClientConfig::clone(&edge.authority.client(Some(&pair), &[]));
        if version.version == rustls::ProtocolVersion::TLSv1_2 {
            client = only_tls12(&edge.authority, &pair);
        }
        let client = Arc::new(client);
        for (round, kind) in [(1, HandshakeKind::Full), (2, HandshakeKind::Resumed), (3, HandshakeKind::Resumed)] {
            let mut agent = edge.connect(&client).await;
            let answer = agent.get("/v1/things/a").await;
            assert!(answer.body.contains(r#"agent="a-1" tenant="t-1""#), "{round}: {}", answer.body);
            assert_eq!(agent.stream.get_ref().1.handshake_kind(), Some(kind), "{round}");
        }
        assert_eq!((edge.handshakes("full"), edge.handshakes("resumed")), (1, 2));
    }
}

pub(crate) fn only_tls12(authority: &Authority, pair: &weir_testkit::certificates::Pair) -> ClientConfig {
    use rustls_pki_types::pem::PemObject;
    use rustls_pki_types::{CertificateDer, PrivateKeyDer};
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(authority.file()).unwrap()).unwrap();
    ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_protocol_versions(&[&rustls::version::TLS12])
        .unwrap()
        .with_root_certificates(roots)
        .with_client_auth_cert(
            vec![CertificateDer::from_pem_file(&pair.certificate).unwrap()],
            PrivateKeyDer::from_pem_file(&pair.key).unwrap(),
        )
        .unwrap()
}

#[tokio::test]
async fn without_tickets_nobody_resumes() {
    let edge = Secure::start("off", ", tickets = false").await;
    let client = edge.authority.client(None, &[]);
    for _ in 0..2 {
        edge.connect(&client).await.get("/v1/things/a").await;
    }
    assert_eq!((edge.handshakes("full"), edge.handshakes("resumed")), (2, 0));
}

#[tokio::test]
async fn an_agent_older_than_the_oldest_version_is_refused() {
    let edge = Secure::start("optional", ", min_version = \"1.3\"").await;
    let pair = edge.authority.agent("a-1", "t-1");
    let old = Arc::new(only_tls12(&edge.authority, &pair));
    assert!(Raw::connect_tls(edge.node.address, old).await.is_err());
    edge.node.until("the handshake has failed", |_| edge.handshakes("failed") == 1).await;
}

#[tokio::test]
async fn the_cipher_is_the_one_of_the_configuration_where_the_agent_knows_it() {
    use rustls::CipherSuite::{TLS13_AES_128_GCM_SHA256, TLS13_AES_256_GCM_SHA384, TLS13_CHACHA20_POLY1305_SHA256};
    let (all, only) = (vec![], vec![TLS13_AES_256_GCM_SHA384]);
    let cases = [
        ("", &all, TLS13_AES_128_GCM_SHA256),
        ("", &only, TLS13_AES_256_GCM_SHA384),
        (", cipher = \"aes-256-gcm\"", &all, TLS13_AES_256_GCM_SHA384),
        (", cipher = \"chacha20-poly1305\"", &all, TLS13_CHACHA20_POLY1305_SHA256),
        // What rustls names first.
        (", cipher = \"agent\"", &all, TLS13_AES_256_GCM_SHA384),
    ];
    for (setting, known, expected) in cases {
        let edge = Secure::start("off", setting).await;
        let agent = Arc::new(who_knows(&edge.authority, known));
        let connection = Raw::connect_tls(edge.node.address, agent).await.unwrap();
        let cipher = connection.stream.get_ref().1.negotiated_cipher_suite().map(|suite| suite.suite());
        assert_eq!(cipher, Some(expected), "{setting:?} and {known:?}");
    }
}

/// An agent that knows these ciphers; all where there is none.
fn who_knows(authority: &Authority, ciphers: &[rustls::CipherSuite]) -> ClientConfig {
    use rustls_pki_types::CertificateDer;
    use rustls_pki_types::pem::PemObject;
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(authority.file()).unwrap()).unwrap();
    let mut provider = rustls::crypto::ring::default_provider();
    provider.cipher_suites.retain(|suite| ciphers.is_empty() || ciphers.contains(&suite.suite()));
    ClientConfig::builder_with_provider(Arc::new(provider))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth()
}

#[tokio::test]
async fn new_certificates_serve_new_connections_and_broken_ones_change_nothing() {
    let edge = Secure::start("off", "").await;
    let client = edge.authority.client(None, &[]);
    let serial = |agent: &Raw<tokio_rustls::client::TlsStream<tokio::net::TcpStream>>| {
        agent.stream.get_ref().1.peer_certificates().unwrap()[0].clone()
    };
    let mut standing = edge.connect(&client).await;
    standing.get("/v1/things/a").await;
    let first = serial(&standing);
    let expiry = edge.node.metrics.certificate_expiry.with_label_values(&["agents"]);
    assert!(expiry.get() > 0);

    edge.authority.server("edge", &["localhost"]);
    assert!(edge.node.certificates.reload(Clock::start().now()).is_empty());
    let fresh = edge.authority.client(None, &[]);
    let second = serial(&edge.connect(&fresh).await);
    assert_ne!(first, second);

    std::fs::write(edge.folder.path().join("edge.key"), "broken").unwrap();
    let problems = edge.node.certificates.reload(Clock::start().now());
    assert_eq!(problems.len(), 1);
    assert!(problems[0].1.to_string().ends_with("edge.key: holds no private key"), "{}", problems[0].1);
    assert_eq!(serial(&edge.connect(&edge.authority.client(None, &[])).await), second);
    assert_eq!(standing.get("/v1/things/a").await.status, 200);
}

#[tokio::test]
async fn changed_authorities_make_old_tickets_worthless() {
    let edge = Secure::start("required", "").await;
    let pair = edge.authority.agent("a-1", "t-1");
    let client = edge.authority.client(Some(&pair), &[]);
    edge.connect(&client).await.get("/v1/things/a").await;
    let other_folder = TempDir::new().unwrap();
    let other = Authority::new(other_folder.path());
    std::fs::copy(other.file(), edge.folder.path().join("ca.pem")).unwrap();
    assert!(edge.node.certificates.reload(Clock::start().now()).is_empty());
    let mut agent = edge.connect(&client).await;
    agent.write("GET /v1/things/a HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert!(agent.try_answer(true).await.is_none());
    assert_eq!(edge.handshakes("resumed"), 0);
}
