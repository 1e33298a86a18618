//! `[[listener]]`, its `tls`, and `[identity]`.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;

use crate::form::Form;
use crate::key::Key;
use crate::section::{Reader, section, table_settings};
use crate::setting::choice_settings;
use crate::{ClientAuth, Identity, IdentitySource, Listener, ListenerTls, ProxyProtocol, TlsCipher, TlsVersion};

section! { Listener, "[[listener]]", "An address that agents connect to.", listener_agrees, {
    name: String = Key::computed("0.0.0.0:8443",
        "The name in metrics and logs. Left out, the address.").form(Form::Name).restart();
    address: SocketAddr = Key::required("0.0.0.0:8443",
        "The address and port to bind. Port 0 takes any free port.").restart();
    tls: Option<ListenerTls> = Key::optional(
        "{ certificate = \"/etc/weir/tls/server.pem\", key = \"/etc/weir/tls/server.key\" }",
        "TLS. Left out, the listener speaks plaintext.").restart();
    proxy_protocol: ProxyProtocol = Key::default("off",
        "Whether a load balancer in front begins each connection with a PROXY protocol header.").restart();
    proxy_sources: Vec<IpNet> = Key::default(
        "[\"10.0.0.0/8\", \"172.16.0.0/12\", \"192.168.0.0/16\", \"127.0.0.0/8\", \"fc00::/7\", \"::1/128\"]",
        "The networks whose PROXY protocol header is believed; a connection from elsewhere is closed when \
         proxy_protocol is on.").restart();
    trusted_headers: bool = Key::default("false",
        "Whether identity headers are believed here. Only for networks that nobody but a trusted proxy can reach: \
         whoever reaches such a listener is whoever the header says.").restart();
    http2: bool = Key::default("true",
        "Whether HTTP/2 is spoken besides HTTP/1.1: by ALPN over TLS, with prior knowledge in plaintext.").restart();
    max_http2_streams: u32 = Key::default("128",
        "Streams that one HTTP/2 connection may have open at once.").between("1", "65535").restart();
    plain_requests: bool = Key::default("true",
        "Whether requests in which nothing is unusual are answered by the node's own code, at a part of the cost. With false \
         all go through the HTTP framework. Answers are the same.").restart();
    max_connections: usize = Key::default("100000",
        "Connections open at once, at most; one more is closed as soon as it is accepted.").between("1", "10000000").restart();
    idle_timeout: Duration = Key::default("5m",
        "The time a kept-alive connection may stay without a request.").between("1s", "1d").restart();
    max_age: Duration = Key::default("1h",
        "The age after which a connection ends with its next answer, so that no agent stays on one node for good. The last \
         quarter of it is spread over the connections.").between("1s", "365d").restart();
    header_timeout: Duration = Key::default("10s",
        "The time from the first byte of a request to the end of its headers.").between("100ms", "10m").restart();
    body_timeout: Duration = Key::default("30s",
        "The time from the end of a request's headers to the end of its body.").between("100ms", "1h").restart();
}}

section! { ListenerTls, "listener.tls", "How agents' TLS connections are terminated.", tls_agrees, {
    certificate: PathBuf = Key::required("/etc/weir/tls/server.pem",
        "The certificate chain, PEM, leaf first.").restart();
    key: PathBuf = Key::required("/etc/weir/tls/server.key",
        "The private key of the leaf, PEM.").restart();
    client_ca: Option<PathBuf> = Key::optional("/etc/weir/tls/agents-ca.pem",
        "The authorities that sign agents' certificates, PEM. Needed unless client_auth is \"off\".").restart();
    client_auth: ClientAuth = Key::default("off",
        "Whether agents must show a certificate.").restart();
    min_version: TlsVersion = Key::default("1.2",
        "The oldest TLS version spoken.").restart();
    cipher: TlsCipher = Key::default("aes-128-gcm",
        "The cipher of a connection where the agent knows it; another that both know where it does not. With AES-256 a \
         handshake costs more processor time, as processors have no instruction for its hash.").restart();
    handshake_timeout: Duration = Key::default("10s",
        "The time that a handshake may take, from the accepted connection on.").between("100ms", "5m").restart();
    max_handshakes: usize = Key::default("256",
        "Handshakes running at once, at most; the next ones wait in the kernel's accept queue. Bounds the processor \
         time and memory that a herd of new connections can take.").between("1", "100000").restart();
    tickets: bool = Key::default("true",
        "Whether session tickets are issued, so that a returning agent resumes without a full handshake.").restart();
    ticket_keys: Option<PathBuf> = Key::optional("/etc/weir/tls/ticket.keys",
        "The keys that seal session tickets, the same on all nodes of a region, so that an agent resumes on any of them and after a \
         restart. One a line, 64 hexadecimal digits each (openssl rand -hex 32); the first seals, the others only open. The \
         file is read again on reload. Left out, keys are made in memory.").restart();
    ticket_lifetime: Duration = Key::default("12h",
        "The time after a full handshake in which the agent can resume; resuming does not lengthen it. Ends sooner with \
         the agent's certificate.").between("1m", "7d").restart();
    denied_certificates: Option<PathBuf> = Key::optional("/etc/weir/tls/denied.txt",
        "SHA-256 fingerprints of agents' certificates that are no longer taken, neither in a handshake nor for a ticket. One a \
         line, in hexadecimal, as openssl x509 -fingerprint -sha256 prints them. The file is read again on reload.").restart();
}}

section! { Identity, "[identity]",
    "Where an agent's and a tenant's names come from. Sources are tried in order; the first that is there counts: \
     certificate.cn, certificate.o, certificate.ou, certificate.san, header.NAME (on listeners with trusted_headers \
     only) and path.NAME.", |_, _| {}, {
    agent: Vec<IdentitySource> = Key::default("[]",
        "Sources of the agent's name.");
    tenant: Vec<IdentitySource> = Key::default("[]",
        "Sources of the tenant's name. No answer for one tenant ever goes to another.");
}}

table_settings!(Listener, ListenerTls, Identity);

choice_settings! {
    pub ProxyProtocol {
        "off" => Off: "no header";
        "v2" => V2: "a version 2 header is mandatory";
    }
    pub ClientAuth {
        "off" => Off: "not asked for";
        "optional" => Optional: "asked for, checked when shown";
        "required" => Required: "a handshake without one fails";
    }
    pub TlsVersion {
        "1.2" => V1_2: "TLS 1.2 (RFC 5246)";
        "1.3" => V1_3: "TLS 1.3 (RFC 8446)";
    }
    pub TlsCipher {
        "aes-128-gcm" => Aes128Gcm: "AES of 128 bits, with SHA-256";
        "aes-256-gcm" => Aes256Gcm: "AES of 256 bits, with SHA-384";
        "chacha20-poly1305" => Chacha20Poly1305: "ChaCha20, with SHA-256";
        "agent" => Agent: "the one that the agent likes best";
    }
}

fn listener_agrees(listener: &mut Listener, reader: &mut Reader<'_, '_>) {
    if listener.name.is_empty() {
        listener.name = listener.address.to_string();
    }
    let on = listener.proxy_protocol != ProxyProtocol::Off;
    if on && listener.proxy_sources.is_empty() {
        reader
            .error("proxy_sources", "with no `proxy_sources` every connection would be closed")
            .note("`proxy_protocol` is on, and only connections from `proxy_sources` are taken then")
            .help("name the networks of the load balancer, as in `proxy_sources = [\"10.0.0.0/8\"]`");
    }
    if on && !reader.has("proxy_sources") {
        reader
            .warning("proxy_protocol", "`proxy_protocol` without `proxy_sources` believes every private network")
            .note("whoever reaches the listener from a private address can claim any other address")
            .help("name the networks of the load balancer, as in `proxy_sources = [\"10.0.0.0/8\"]`");
    }
}

fn tls_agrees(tls: &mut ListenerTls, reader: &mut Reader<'_, '_>) {
    if tls.client_auth != ClientAuth::Off && tls.client_ca.is_none() {
        reader
            .error("client_auth", format!("`client_auth = \"{}\"` needs `client_ca`", tls.client_auth.as_str()))
            .note("without authorities no certificate can be checked")
            .help("add `client_ca = \"/etc/weir/tls/agents-ca.pem\"`");
    }
    if tls.client_auth == ClientAuth::Off && tls.client_ca.is_some() {
        reader
            .warning("client_ca", "`client_ca` does nothing while `client_auth` is \"off\"")
            .help("add `client_auth = \"required\"` or \"optional\"");
    }
    if tls.client_auth == ClientAuth::Off && tls.denied_certificates.is_some() {
        reader
            .warning("denied_certificates", "`denied_certificates` does nothing while `client_auth` is \"off\"")
            .help("add `client_auth = \"required\"` or \"optional\"");
    }
    if !tls.tickets && tls.ticket_keys.is_some() {
        reader
            .warning("ticket_keys", "`ticket_keys` does nothing while `tickets` is false")
            .help("remove one of the two");
    }
}
