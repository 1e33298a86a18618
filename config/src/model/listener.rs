//! Where agents connect and how they say who they are.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;

/// `[[listener]]`: one address that agents connect to.
#[derive(Clone, Debug, PartialEq)]
pub struct Listener {
    /// The name in metrics and logs; the address when the file gives none.
    pub name: String,
    /// The address to bind.
    pub address: SocketAddr,
    /// TLS; `None` for plaintext.
    pub tls: Option<ListenerTls>,
    /// Whether a load balancer in front sends a PROXY protocol header.
    pub proxy_protocol: ProxyProtocol,
    /// The networks whose PROXY protocol header is believed. A connection from elsewhere is closed when the protocol is on.
    pub proxy_sources: Vec<IpNet>,
    /// Whether identity headers are believed here. Only for networks that nobody but a trusted proxy can reach.
    pub trusted_headers: bool,
    /// Whether HTTP/2 is spoken: by ALPN over TLS, with prior knowledge in plaintext.
    pub http2: bool,
    /// Streams that one HTTP/2 connection may have open at once.
    pub max_http2_streams: u32,
    /// Whether plain requests are answered without the HTTP framework's proxy.
    pub plain_requests: bool,
    /// Connections open at once, at most; one more is closed as soon as it is accepted.
    pub max_connections: usize,
    /// The time a kept-alive connection may stay without a request.
    pub idle_timeout: Duration,
    /// The age after which a connection ends with its next answer.
    pub max_age: Duration,
    /// The time from the first byte of a request to the end of its headers.
    pub header_timeout: Duration,
    /// The time from the end of a request's headers to the end of its body.
    pub body_timeout: Duration,
}

/// `listener.tls`: how agents' TLS connections are terminated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListenerTls {
    /// The certificate chain, PEM, leaf first.
    pub certificate: PathBuf,
    /// The private key of the leaf, PEM.
    pub key: PathBuf,
    /// The authorities that sign agents' certificates, PEM. Always there when `client_auth` is not `Off`.
    pub client_ca: Option<PathBuf>,
    /// Whether agents must show a certificate.
    pub client_auth: ClientAuth,
    /// The oldest TLS version spoken.
    pub min_version: TlsVersion,
    /// The cipher of a connection, where the agent knows it.
    pub cipher: TlsCipher,
    /// The time that a handshake may take, from the accepted connection on.
    pub handshake_timeout: Duration,
    /// Handshakes running at once, at most; the next ones wait in the kernel's accept queue.
    pub max_handshakes: usize,
    /// Whether session tickets are issued, so that a returning agent resumes without a full handshake.
    pub tickets: bool,
    /// The file with the keys that seal tickets, shared by the nodes of a region. `None` for keys in memory.
    pub ticket_keys: Option<PathBuf>,
    /// The time after a full handshake in which its session can be resumed.
    pub ticket_lifetime: Duration,
    /// The file with the SHA-256 fingerprints of certificates that are no longer taken.
    pub denied_certificates: Option<PathBuf>,
}

/// `listener.tls.client_auth`: whether agents must show a certificate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ClientAuth {
    /// Not asked for.
    #[default]
    Off,
    /// Asked for, checked when shown.
    Optional,
    /// A handshake without one fails.
    Required,
}

/// `listener.tls.min_version`: a TLS version.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum TlsVersion {
    /// TLS 1.2 (RFC 5246).
    #[default]
    V1_2,
    /// TLS 1.3 (RFC 8446).
    V1_3,
}

/// `listener.tls.cipher`: the cipher of a connection, where the agent knows it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TlsCipher {
    /// AES of 128 bits in GCM, with SHA-256.
    #[default]
    Aes128Gcm,
    /// AES of 256 bits in GCM, with SHA-384.
    Aes256Gcm,
    /// ChaCha20 and Poly1305, with SHA-256.
    Chacha20Poly1305,
    /// The one that the agent names first.
    Agent,
}

/// `listener.proxy_protocol`: whether connections begin with a PROXY protocol header.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ProxyProtocol {
    /// No header.
    #[default]
    Off,
    /// A version 2 header is mandatory.
    V2,
}

/// `[identity]`: where an agent's and a tenant's names come from. Sources are tried in order; the first that is there counts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Identity {
    /// Sources of the agent's name.
    pub agent: Vec<IdentitySource>,
    /// Sources of the tenant's name.
    pub tenant: Vec<IdentitySource>,
}

/// One place where a name may stand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum IdentitySource {
    /// `certificate.cn`: the subject's common name of the client certificate.
    CertificateCommonName,
    /// `certificate.o`: the subject's organization.
    CertificateOrganization,
    /// `certificate.ou`: the subject's organizational unit.
    CertificateOrganizationalUnit,
    /// `certificate.san`: the first DNS name or URI among the alternative names.
    CertificateAlternativeName,
    /// `header.NAME`: a request header, on listeners with `trusted_headers` only. Lower case.
    Header(String),
    /// `path.NAME`: a parameter of the route's path.
    Path(String),
}
