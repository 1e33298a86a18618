use std::path::Path;
use std::sync::Arc;

use pingora::connectors::ConnectorOptions;
use pingora::connectors::http::Connector;
use rustls::server::WebPkiClientVerifier;
use rustls::{HandshakeKind, RootCertStore, ServerConfig};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use weir_core_sim::CoreOptions;
use weir_testkit::Authority;
use weir_testkit::certificates::Pair;

use super::*;

fn tls_options(pair: &Pair) -> CoreOptions {
    let tls = weir_core_sim::CoreTls {
        certificates: std::fs::read(&pair.certificate).unwrap(),
        key: std::fs::read(&pair.key).unwrap(),
    };
    CoreOptions { tls: Some(tls), ..CoreOptions::default() }
}

fn tls_section(ca: &Path, more: &str) -> String {
    format!("protocol = \"auto\"\ntls = {{ ca = {ca:?}, server_name = \"core.test\"{more} }}")
}

#[tokio::test]
async fn a_core_is_known_by_its_certificate() {
    let directory = tempfile::tempdir().unwrap();
    let authority = Authority::new(directory.path());
    let sim = started(tls_options(&authority.server("core", &["core.test"]))).await;
    let client = authority.agent("edge", "weir");
    let pair = format!(", certificate = {:?}, key = {:?}", client.certificate, client.key);
    for more in ["", &pair] {
        let (upstream, _) = upstream(&one_core(&sim, &tls_section(&authority.file(), more)));
        let answer = upstream.send(get("/v1/echo")).await.unwrap();
        assert_eq!(told(&answer)["version"], "HTTP/2.0", "agreed on by ALPN");
        let (peer, ..) = upstream.peer(CoreId(0)).await.unwrap();
        assert_eq!(peer.sni, "core.test");
        assert!(peer.options.ca.is_some());
        assert_eq!(peer.client_cert_key.is_some(), !more.is_empty());
    }
}

#[tokio::test]
async fn a_core_with_another_name_or_authority_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let authority = Authority::new(directory.path());
    let sim = started(tls_options(&authority.server("core", &["other.test"]))).await;
    let (wrong_name, _) = upstream(&one_core(&sim, &tls_section(&authority.file(), "")));
    assert_eq!(wrong_name.send(get("/v1/echo")).await.unwrap_err(), OriginError::Connect);

    let elsewhere = tempfile::tempdir().unwrap();
    let stranger = Authority::new(elsewhere.path());
    let section = format!("tls = {{ ca = {:?}, server_name = \"other.test\" }}", stranger.file());
    let (stranger, _) = upstream(&one_core(&sim, &section));
    assert_eq!(stranger.send(get("/v1/echo")).await.unwrap_err(), OriginError::Connect);
    assert_eq!(sim.snapshot().requests, 0);
}

#[test]
fn a_wrong_tls_file_is_an_error_and_no_panic() {
    let directory = tempfile::tempdir().unwrap();
    let authority = Authority::new(directory.path());
    let (one, other) = (authority.agent("one", "t"), authority.agent("other", "t"));
    let empty = directory.path().join("empty.pem");
    std::fs::write(&empty, "").unwrap();
    let missing = directory.path().join("missing.pem");
    let pair = format!("certificate = {:?}, key = {:?}", one.certificate, other.key);
    let cases = [
        (format!("ca = {missing:?}"), "missing.pem"),
        (format!("ca = {empty:?}"), "no certificate in it"),
        (format!("ca = {:?}", one.key), "un-loadable certificate type"),
        (format!("ca = {:?}, {pair}", authority.file()), "one.pem"),
    ];
    for (tls, expected) in cases {
        let config = config(&format!("[core]\npeers = [\"core.test:443\"]\ntls = {{ {tls} }}\n"));
        let Err(error) = Upstream::new(&config, Metrics::new(), Clock::start()) else { panic!("{tls} was taken") };
        assert!(error.to_string().contains(expected), "{error}");
    }
}

/// A core that wants a certificate, and answers each connection once: with 200 after a full handshake, 203 after a resumed one.
async fn demanding_core(authority: &Authority, pair: &Pair) -> std::net::SocketAddr {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(authority.file()).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone()).build().unwrap();
    let chain = vec![CertificateDer::from_pem_file(&pair.certificate).unwrap()];
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_client_cert_verifier(verifier)
        .with_single_cert(chain, PrivateKeyDer::from_pem_file(&pair.key).unwrap())
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    crate::task::spawn("demanding core", async move {
        while let Ok((stream, _)) = listener.accept().await {
            let Ok(mut stream) = acceptor.accept(stream).await else { continue };
            let mut request = Vec::new();
            while !request.ends_with(b"\r\n\r\n") && stream.read_buf(&mut request).await.is_ok_and(|read| read > 0) {}
            let resumed = stream.get_ref().1.handshake_kind() == Some(HandshakeKind::Resumed);
            let status = if resumed { "203 Resumed" } else { "200 OK" };
            let answer = format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
            stream.write_all(answer.as_bytes()).await.unwrap();
            stream.shutdown().await.unwrap();
        }
    });
    address
}

#[tokio::test]
async fn a_core_that_wants_a_certificate_gets_it_and_sessions_are_resumed() {
    let directory = tempfile::tempdir().unwrap();
    let authority = Authority::new(directory.path());
    let address = demanding_core(&authority, &authority.server("core", &["core.test"])).await;
    let section = |more: &str| format!("[core]\npeers = [\"{address}\"]\n{}\n", tls_section(&authority.file(), more));

    let (anonymous, _) = upstream(&section(""));
    assert!(anonymous.send(get("/")).await.is_err());

    let own = authority.agent("edge", "weir");
    let (known, _) = upstream(&section(&format!(", certificate = {:?}, key = {:?}", own.certificate, own.key)));
    assert_eq!(known.send(get("/")).await.unwrap().status.as_u16(), 200);
    assert_eq!(known.send(get("/")).await.unwrap().status.as_u16(), 203, "one TLS configuration for all connections");

    // A forwarded request goes through a connector that knows neither authority nor certificate: its peer brings both.
    let mut options = ConnectorOptions::new(1);
    options.ca_file = Some("/dev/null".to_owned());
    let (peer, ..) = known.peer(CoreId(0)).await.unwrap();
    let (mut session, _) = Connector::<()>::new(Some(options)).get_http_session(&peer).await.unwrap();
    let head = exchange::head(&get("/"), "core.test").unwrap();
    let begun = exchange::begin(&mut session, head, true, &Bytes::new(), Clock::start()).await.ok().unwrap();
    assert_eq!(begun.status.as_u16(), 200);
}
