//! `[core]` or `[[core]]`: the origins and the gates before them.

use std::path::PathBuf;
use std::time::Duration;

use crate::form::Form;
use crate::key::{Key, Kind};
use crate::section::{Context, Names, Reader, Section, Setting, read_table, section, table_settings, write_table};
use crate::setting::choice_settings;
use crate::tree::{Node, Value};
use crate::{Core, CoreTls, HealthCheck, Peer, Protocol, Ratio};

section! { Core, "[[core]]",
    "An origin, and the gate that all traffic to it passes. `[core]` declares one; several are `[[core]]` with \
     names, the first of which is the default.", core_agrees, {
    name: String = Key::default("core",
        "The name in metrics, in logs and in `route.core`.").form(Form::Name);
    peers: Vec<Peer> = Key::required("[\"core-a:443\", \"core-b:443\"]",
        "The machines that serve this core, each `host:port`; IPv6 addresses stand in brackets.").filled();
    tls: Option<CoreTls> = Key::optional("true",
        "TLS towards the core: `true`, or a table. Left out, plaintext.");
    protocol: Protocol = Key::default("http1",
        "The protocol spoken with the core.");
    host: Option<String> = Key::optional("core.example.com",
        "The `Host` that the core sees. Left out, the peer's own name.").form(Form::Authority);
    connect_timeout: Duration = Key::default("3s",
        "The time that a connection, TLS included, may take.").between("10ms", "5m");
    request_timeout: Duration = Key::default("10s",
        "The time to the last byte of an answer, for fills, lookups and batches; between two reads for forwarded \
         requests.")
        .between("10ms", "1h");
    idle_timeout: Duration = Key::default("60s",
        "The time that an unused pooled connection is kept.").between("1s", "1d");
    max_in_flight: usize = Key::default("256",
        "Requests in flight to this core at once, at most.").between("1", "1000000");
    min_in_flight: usize = Key::default("8",
        "Requests that may be in flight however slow the core is, up to max_in_flight: what it always copes with.")
        .between("1", "1000000");
    adaptive: bool = Key::default("true",
        "Whether the limit on requests in flight follows the core between min_in_flight and max_in_flight: cut when \
         answers become slow, on 429, 503 and timeouts, raised while requests wait for it. `false`: max_in_flight.");
    max_route_share: Ratio = Key::default("0.5",
        "The part of the requests in flight that one route or stream may have, so that one whose requests the core \
         swallows leaves room to the others. The only one that goes to a core has all of it.");
    max_requests_per_second: u32 = Key::default("500",
        "Requests started a second, at most. What does not fit waits up to max_wait, is answered stale, or is told \
         when to come back.").between("1", "10000000");
    max_wait: Duration = Key::default("1s",
        "The longest time that a request waits for a place at the gate.").between("0s", "5m");
    breaker_failures: u32 = Key::default("5",
        "Failures in a row after which the breaker opens.").between("1", "100000");
    breaker_cooldown: Duration = Key::default("1s",
        "The time that an open breaker waits before its single probe; doubled after each failed probe up to eight \
         times, jittered.").between("10ms", "10m");
    ramp: Duration = Key::default("30s",
        "The time over which the admitted rate climbs back from a tenth to the whole after a recovery.")
        .between("0s", "1h");
    retry_budget: Ratio = Key::default("0.1",
        "Retries over first attempts, at most, counted when a retry is scheduled.");
    eject_after: u32 = Key::default("5",
        "Failures in a row (no connection, no answer, 5xx) after which a peer is left out while others of the core \
         answer: for 5 seconds, doubled from one time to the next up to 160, jittered. Never are all of them left out.")
        .between("1", "100000");
    health_check: Option<HealthCheck> = Key::optional("{ path = \"/healthz\" }",
        "Active checks of each peer. Left out, or `false`, there are none: a peer is judged by the answers to \
         requests alone.");
}}

/// `core.tls` as it stands in the file: the client's certificate and key apart.
#[derive(Default)]
struct TlsKeys {
    ca: Option<PathBuf>,
    server_name: Option<String>,
    certificate: Option<PathBuf>,
    key: Option<PathBuf>,
}

section! { TlsKeys, "core.tls", "TLS towards the core.", |_, _| {}, {
    ca: Option<PathBuf> = Key::optional("/etc/weir/tls/core-ca.pem",
        "The authorities that sign the core's certificate, PEM. Left out, the system's.");
    server_name: Option<String> = Key::optional("core.example.com",
        "The name that the core's certificate must carry. Left out, the peer's own name.").form(Form::Host);
    certificate: Option<PathBuf> = Key::optional("/etc/weir/tls/edge.pem",
        "The node's own certificate chain, PEM, for a core that asks for one. Needs `key`.");
    key: Option<PathBuf> = Key::optional("/etc/weir/tls/edge.key",
        "The private key of the node's certificate, PEM. Needs `certificate`.");
}}

impl Setting for CoreTls {
    const KIND: Kind = Kind::Either(&Kind::Boolean, &Kind::Table(TlsKeys::DESCRIPTION));
    const OFF: bool = true;

    fn read(node: &Node, key: &Key, context: &mut Context) -> Option<Self> {
        if matches!(node.value, Value::Boolean(true)) {
            return Some(Self { ca: None, server_name: None, client: None });
        }
        let keys: TlsKeys = read_table(node, key, context)?;
        let (given, other) = match (&keys.certificate, &keys.key) {
            (Some(_), None) => ("certificate", "key"),
            (None, Some(_)) => ("key", "certificate"),
            _ => {
                return Some(Self {
                    ca: keys.ca,
                    server_name: keys.server_name,
                    client: keys.certificate.zip(keys.key),
                });
            }
        };
        let at = node.table().and_then(|table| table.node(given)).map_or(node.at, |node| node.at);
        context
            .findings
            .error(at, format!("`{given}` needs `{other}`"))
            .note("a certificate is of no use without its private key");
        None
    }

    fn write(&self, names: &Names) -> Option<toml::Value> {
        let (certificate, key) = self.client.clone().unzip();
        let keys = TlsKeys { ca: self.ca.clone(), server_name: self.server_name.clone(), certificate, key };
        Some(match write_table(&keys, names) {
            toml::Value::Table(table) if table.is_empty() => toml::Value::Boolean(true),
            table => table,
        })
    }
}

section! { HealthCheck, "core.health_check", "Active checks of each peer.", |_, _| {}, {
    path: String = Key::required("/healthz",
        "The path asked for; any 2xx answer is healthy.").form(Form::RequestPath);
    interval: Duration = Key::default("5s",
        "The time between two checks of a peer.").between("100ms", "1h");
    failures: u32 = Key::default("3",
        "Failed checks in a row that take a peer out.").between("1", "1000");
    successes: u32 = Key::default("2",
        "Good checks in a row that bring it back.").between("1", "1000");
}}

impl Setting for HealthCheck {
    const KIND: Kind = Kind::Table(<Self as Section>::DESCRIPTION);
    const OFF: bool = true;

    fn read(node: &Node, key: &Key, context: &mut Context) -> Option<Self> {
        read_table(node, key, context)
    }

    fn write(&self, names: &Names) -> Option<toml::Value> {
        Some(write_table(self, names))
    }
}

table_settings!(Core);

choice_settings! {
    pub Protocol {
        "http1" => Http1: "HTTP/1.1 only";
        "auto" => Auto: "HTTP/2 where the core offers it by ALPN, else HTTP/1.1; only with TLS";
        "http2" => Http2: "HTTP/2 only; in plaintext with prior knowledge";
    }
}

fn core_agrees(core: &mut Core, reader: &mut Reader<'_, '_>) {
    if core.protocol == Protocol::Auto && core.tls.is_none() {
        reader
            .error("protocol", "`protocol = \"auto\"` needs `tls`")
            .note("HTTP/2 is agreed on during the TLS handshake; in plaintext there is nothing to agree with")
            .help("say \"http1\" or \"http2\", or add `tls = true`");
    }
}
