//! `weir check`: whether this machine gives what a right configuration asks for.
//!
//! Everything is tried and put back: certificates are loaded, a file is written to the data directory and removed, origins are
//! resolved, addresses are bound and let go. An address in use is a warning only, because `check` is mostly asked while the node
//! runs, before a reload; `weir run` refuses it. An origin that does not resolve is an error here, although `weir run` starts without
//! it: whoever asks wants to hear of a misspelt name, and an edge must come up while its core's names are gone.

use std::collections::HashSet;
use std::fmt;
use std::io;
use std::net::{SocketAddr, TcpListener, ToSocketAddrs};
use std::path::Path;

use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use weir_config::{Config, Core};

use crate::accept::certificates;
use crate::app::{data_dir, descriptors};
use crate::clock::Clock;

/// Something that this machine does not give.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// How bad it is.
    pub severity: Severity,
    /// The configuration's key.
    pub key: String,
    /// What is wrong.
    pub message: String,
}

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// The node would not start, or not do what it is for.
    Error,
    /// The node would start.
    Warning,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let severity = match self.severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
        };
        write!(f, "{severity}: {}: {}", self.key, self.message)
    }
}

/// Everything that this machine does not give, in the order of the configuration.
pub fn environment(config: &Config) -> Vec<Finding> {
    let mut findings = Findings::default();
    findings.data_dir(&config.edge.data_dir);
    findings.listeners(config);
    findings.address("admin.address", config.admin.address);
    for core in &config.cores {
        findings.core(core);
    }
    findings.descriptors(config);
    findings.0
}

#[derive(Default)]
struct Findings(Vec<Finding>);

impl Findings {
    fn error(&mut self, key: impl Into<String>, message: impl Into<String>) {
        self.0.push(Finding { severity: Severity::Error, key: key.into(), message: message.into() });
    }

    fn warning(&mut self, key: impl Into<String>, message: impl Into<String>) {
        self.0.push(Finding { severity: Severity::Warning, key: key.into(), message: message.into() });
    }

    fn data_dir(&mut self, path: &Path) {
        if let Err(error) = data_dir::probe(path) {
            self.error("edge.data_dir", error.to_string());
        }
    }

    fn listeners(&mut self, config: &Config) {
        let now = Clock::start().now();
        for listener in &config.listeners {
            let key = format!("listener.{}", listener.name);
            self.address(&format!("{key}.address"), listener.address);
            let Some(tls) = &listener.tls else { continue };
            if let Err(error) = certificates::load(tls, now) {
                self.error(format!("{key}.tls"), error.to_string());
            }
            for warning in certificates::warnings(tls) {
                self.warning(format!("{key}.tls.ticket_keys"), warning);
            }
        }
    }

    fn address(&mut self, key: &str, address: SocketAddr) {
        let Err(error) = TcpListener::bind(address) else { return };
        match error.kind() {
            io::ErrorKind::AddrInUse => {
                self.warning(key, format!("{address} is in use: right if a node runs here, else it cannot start"));
            }
            _ => self.error(key, format!("{address} cannot be bound: {error}")),
        }
    }

    fn core(&mut self, core: &Core) {
        let key = format!("core.{}", core.name);
        let mut seen = HashSet::new();
        for peer in core.peers.iter().filter(|peer| seen.insert((*peer).clone())) {
            if let Err(error) = resolve(&peer.host, peer.port) {
                self.error(format!("{key}.peers"), format!("{}: {error}", peer.host));
            }
        }
        let Some(tls) = &core.tls else { return };
        if let Some(ca) = &tls.ca {
            self.certificates(&format!("{key}.tls.ca"), ca);
        }
        if let Some((certificate, private_key)) = &tls.client {
            self.certificates(&format!("{key}.tls.certificate"), certificate);
            if let Err(error) = PrivateKeyDer::from_pem_file(private_key) {
                self.error(format!("{key}.tls.key"), format!("{}: {error}", private_key.display()));
            }
        }
    }

    fn certificates(&mut self, key: &str, path: &Path) {
        let certificates = CertificateDer::pem_file_iter(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
        match certificates {
            Err(error) => self.error(key, format!("{}: {error}", path.display())),
            Ok(certificates) if certificates.is_empty() => {
                self.error(key, format!("{}: no certificate in it", path.display()));
            }
            Ok(_) => {}
        }
    }

    fn descriptors(&mut self, config: &Config) {
        let needed = descriptors::needed(config);
        let Some(granted) = descriptors::hard_limit() else { return };
        if granted < needed {
            let message = format!("may need {needed} open files, the system's limit for a process is {granted}");
            self.warning("listener.max_connections", message);
        }
    }
}

fn resolve(host: &str, port: u16) -> Result<(), String> {
    let mut addresses = (host, port).to_socket_addrs().map_err(|error| error.to_string())?;
    addresses.next().map(|_| ()).ok_or_else(|| "resolves to no address".to_owned())
}
