//! From the operator's words to a connector and its peers: TLS files, protocols, timeouts, pools.
//!
//! pingora's rustls connector builds its TLS configuration once when the authorities and the client certificate are given to the
//! connector, and clones it for each connection (a handful of reference counts; sessions are resumed). Given with a peer, as
//! forwarded requests need it because pingora's proxy has one connector for all cores, it is built anew for each connection:
//! some tens of microseconds, and no resumption. It panics on files it cannot read, so they are read and tried here before.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use pingora::connectors::ConnectorOptions;
use pingora::connectors::http::Connector;
use pingora::protocols::ALPN;
use pingora::tls::{
    RootCertStore, load_ca_file_into_store, load_certs_and_key_files, load_platform_certs_incl_env_into_store,
};
use pingora::upstreams::peer::HttpPeer;
use pingora::utils::tls::{CertKey, WrappedX509, parse_x509};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use weir_config::{Core, CoreTls, Protocol};

use super::peers::{Target, authority};

/// Why a core cannot be dialled: a TLS file of its section.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("core {core}: {problem}")]
pub struct DialError {
    /// The core's name.
    pub core: String,
    /// What is wrong with which file.
    pub problem: String,
}

/// Everything needed to reach the machines of one core.
pub(super) struct Dialer {
    pub(super) connector: Connector,
    /// What goes with each peer of a forwarded request.
    forward_tls: Option<ForwardTls>,
    tls: Option<CoreTls>,
    /// The TLS files' contents, hashed: a reload takes new ones.
    files: u64,
}

struct ForwardTls {
    authorities: Option<Arc<[WrappedX509]>>,
    client: Option<Arc<CertKey>>,
}

/// Streams that one HTTP/2 connection to the core carries at once, at most.
const MAX_HTTP2_STREAMS: usize = 100;

impl Dialer {
    /// Reads the TLS files and makes a connector with its own pool, of as many idle connections as may
    /// be in flight (a later change of that number leaves the pool as it is).
    pub(super) fn new(core: &Core) -> Result<Self, DialError> {
        let explain = |problem| DialError { core: core.name.clone(), problem };
        let mut options = ConnectorOptions::new(core.max_in_flight);
        let mut forward_tls = None;
        if let Some(tls) = &core.tls {
            check_files(tls).map_err(explain)?;
            forward_tls = Some(ForwardTls::read(tls).map_err(explain)?);
            options.ca_file = tls.ca.as_deref().map(text_path).transpose().map_err(explain)?;
            options.cert_key_file = match &tls.client {
                Some((certificate, key)) => {
                    Some((text_path(certificate).map_err(explain)?, text_path(key).map_err(explain)?))
                }
                None => None,
            };
        } else {
            // Without a file the connector would read the system's authorities, for nothing.
            options.ca_file = Some("/dev/null".to_owned());
        }
        let connector = Connector::new(Some(options));
        Ok(Self { connector, forward_tls, tls: core.tls.clone(), files: files_hash(core) })
    }

    /// Whether this dialer, with the connections in its pool, still does for `core`.
    pub(super) fn serves(&self, core: &Core) -> bool {
        self.tls == core.tls && self.files == files_hash(core)
    }

    /// The peer for a request of our own.
    pub(super) fn peer(&self, core: &Core, target: &Target) -> HttpPeer {
        http_peer(core, target)
    }

    /// The peer for a forwarded request, which carries its TLS material with it.
    pub(super) fn forward_peer(&self, core: &Core, target: &Target) -> HttpPeer {
        let mut peer = http_peer(core, target);
        if let Some(tls) = &self.forward_tls {
            peer.options.ca = tls.authorities.clone();
            peer.client_cert_key = tls.client.clone();
        }
        peer.options.read_timeout = Some(core.request_timeout);
        peer.options.write_timeout = Some(core.request_timeout);
        peer
    }
}

impl ForwardTls {
    fn read(tls: &CoreTls) -> Result<Self, String> {
        let authorities = match &tls.ca {
            Some(path) => {
                let wrap = |raw| WrappedX509::new(raw, parse_x509);
                Some(certificates(path)?.into_iter().map(wrap).collect::<Vec<_>>().into())
            }
            None => None,
        };
        let client = match &tls.client {
            Some((certificate, key)) => Some(Arc::new(CertKey::new(certificates(certificate)?, private_key(key)?))),
            None => None,
        };
        Ok(Self { authorities, client })
    }
}

fn http_peer(core: &Core, target: &Target) -> HttpPeer {
    let server_name = core.tls.as_ref().and_then(|tls| tls.server_name.clone());
    let server_name = server_name.unwrap_or_else(|| target.state.peer.host.clone());
    let address: SocketAddr = target.address;
    let mut peer = HttpPeer::new(address, core.tls.is_some(), server_name);
    let options = &mut peer.options;
    options.connection_timeout = Some(core.connect_timeout);
    options.total_connection_timeout = Some(core.connect_timeout);
    options.idle_timeout = Some(core.idle_timeout);
    options.max_h2_streams = MAX_HTTP2_STREAMS;
    options.h2_ping_interval = (core.protocol != Protocol::Http1).then_some(HTTP2_PING_INTERVAL);
    options.alpn = match core.protocol {
        Protocol::Http1 => ALPN::H1,
        Protocol::Auto => ALPN::H2H1,
        Protocol::Http2 => ALPN::H2,
    };
    peer
}

/// A silent HTTP/2 connection is asked whether it lives; without this, one that vanished holds requests until they time out.
const HTTP2_PING_INTERVAL: Duration = Duration::from_secs(20);

/// The `Host` that a core sees: the operator's, or the peer's own name, with its port where it is not the scheme's.
pub(super) fn host(core: &Core, target: &Target) -> String {
    if let Some(host) = &core.host {
        return host.clone();
    }
    let peer = &target.state.peer;
    let usual_port = if core.tls.is_some() { 443 } else { 80 };
    let with_port = authority(&peer.host, peer.port);
    if peer.port == usual_port { with_port.trim_end_matches(&format!(":{usual_port}")).to_owned() } else { with_port }
}

/// Tries what pingora would panic on.
fn check_files(tls: &CoreTls) -> Result<(), String> {
    let mut store = RootCertStore::empty();
    match &tls.ca {
        Some(path) => {
            let text = text_path(path)?;
            load_ca_file_into_store(text, &mut store).map_err(|error| format!("ca {}: {error}", path.display()))?;
            if store.is_empty() {
                return Err(format!("ca {}: no certificate in it", path.display()));
            }
        }
        None => load_platform_certs_incl_env_into_store(&mut store)
            .map_err(|error| format!("the system's certificate authorities: {error}"))?,
    }
    let Some((certificate, key)) = &tls.client else { return Ok(()) };
    let pair = load_certs_and_key_files(&text_path(certificate)?, &text_path(key)?)
        .map_err(|error| format!("client certificate {}: {error}", certificate.display()))?;
    let Some((chain, private_key)) = pair else {
        return Err(format!(
            "client certificate {}, key {}: nothing in one of them",
            certificate.display(),
            key.display()
        ));
    };
    pingora::tls::install_default_crypto_provider();
    pingora::tls::ClientConfig::builder()
        .with_root_certificates(store)
        .with_client_auth_cert(chain, private_key)
        .map(|_| ())
        .map_err(|error| format!("client certificate {}: {error}", certificate.display()))
}

fn certificates(path: &Path) -> Result<Vec<Vec<u8>>, String> {
    let explain = |error| format!("{}: {error}", path.display());
    let found = CertificateDer::pem_file_iter(path).map_err(explain)?;
    let found: Vec<_> = found.map(|one| one.map(|one| one.to_vec())).collect::<Result<_, _>>().map_err(explain)?;
    for (index, raw) in found.iter().enumerate() {
        if x509_parser::parse_x509_certificate(raw).is_err() {
            return Err(format!("{}: certificate {} cannot be read", path.display(), index + 1));
        }
    }
    if found.is_empty() { Err(format!("{}: no certificate in it", path.display())) } else { Ok(found) }
}

fn private_key(path: &Path) -> Result<Vec<u8>, String> {
    let key = rustls_pki_types::PrivateKeyDer::from_pem_file(path);
    key.map(|key| key.secret_der().to_vec()).map_err(|error| format!("{}: {error}", path.display()))
}

fn text_path(path: &Path) -> Result<String, String> {
    path.to_str().map(str::to_owned).ok_or_else(|| format!("{}: the path is not text", path.display()))
}

/// Zero where a file cannot be read: the next [`Dialer::new`] says why.
fn files_hash(core: &Core) -> u64 {
    let Some(tls) = &core.tls else { return 0 };
    let client = tls.client.iter().flat_map(|(certificate, key)| [certificate, key]);
    let contents = tls.ca.iter().chain(client).map(|path| std::fs::read(path).unwrap_or_default());
    contents.fold(0, |hash, content| xxhash_rust::xxh3::xxh3_64_with_seed(&content, hash))
}
