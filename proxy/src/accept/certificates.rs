//! A listener's files of TLS, its certificate, key, client authorities, ticket keys and denied certificates: read and found
//! fit to serve with, or refused with the file and what is wrong with it.

use std::collections::HashSet;
use std::fmt;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::crypto::ring;
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use rustls::sign::CertifiedKey;
use rustls::{InconsistentKeys, RootCertStore};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use weir_config::{ClientAuth, ListenerTls};
use weir_logic::Millis;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::hex_lines;
use super::tickets::keys::Secret;
use super::trust::Trust;

/// What a listener serves TLS with.
#[derive(Debug)]
pub struct Loaded {
    /// The chain and its key, which match.
    pub(super) key: Arc<CertifiedKey>,
    /// Who checks agents' certificates.
    pub(super) trust: Arc<Trust>,
    /// The keys of tickets that the nodes of a region share, if they do.
    pub(super) ticket_keys: Option<TicketKeys>,
    /// The end of the leaf's validity, in seconds since the Unix epoch.
    pub expires: i64,
}

/// The keys of a file, at least one.
pub(super) struct TicketKeys(pub(super) Vec<Secret>);

impl fmt::Debug for TicketKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("TicketKeys").field(&self.0.len()).finish()
    }
}

/// Why a listener cannot serve TLS with its files.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    /// A file cannot be read.
    #[error("{}: cannot be read: {source}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file is not PEM.
    #[error("{}: not PEM: {reason}", path.display())]
    NotPem {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// A file holds no certificate.
    #[error("{}: holds no certificate", path.display())]
    NoCertificate {
        /// The file.
        path: PathBuf,
    },
    /// A file holds no private key.
    #[error("{}: holds no private key", path.display())]
    NoKey {
        /// The file.
        path: PathBuf,
    },
    /// A file holds no ticket key.
    #[error("{}: holds no ticket key; openssl rand -hex 32 makes one", path.display())]
    NoTicketKey {
        /// The file.
        path: PathBuf,
    },
    /// A line of a file of keys or fingerprints is not one.
    #[error("{}:{line}: {reason}", path.display())]
    BadLine {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// Why.
        reason: String,
    },
    /// A certificate cannot be understood.
    #[error("{}: the certificate cannot be used: {reason}", path.display())]
    BadCertificate {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// A key cannot be used.
    #[error("{}: the key cannot be used: {reason}", path.display())]
    BadKey {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// Certificate and key do not belong together.
    #[error("{}: the key does not belong to the certificate in {}", key.display(), certificate.display())]
    KeyMismatch {
        /// The certificate's file.
        certificate: PathBuf,
        /// The key's file.
        key: PathBuf,
    },
    /// The certificate is no longer valid.
    #[error("{}: the certificate expired on {on}", path.display())]
    Expired {
        /// The file.
        path: PathBuf,
        /// When.
        on: String,
    },
    /// The certificate is not yet valid.
    #[error("{}: the certificate is not valid before {from}", path.display())]
    NotYetValid {
        /// The file.
        path: PathBuf,
        /// When it will be.
        from: String,
    },
    /// TLS cannot be set up with what was read.
    #[error("TLS cannot be set up: {0}")]
    Unusable(String),
}

/// Reads a listener's files and checks them: chain and key are there and match, the leaf is valid at `now`, the
/// authorities are certificates. Blocks on the disk.
///
/// # Errors
/// The first [`CertificateError`]; its text names the file.
pub fn load(tls: &ListenerTls, now: Millis) -> Result<Loaded, CertificateError> {
    let chain = certificates(&tls.certificate)?;
    let expires = check_validity(&chain[0], &tls.certificate, now)?;
    let key = private_key(&tls.key)?;
    let key = certified_key(chain, key, tls)?;
    let ticket_keys = tls.ticket_keys.as_deref().map(ticket_keys).transpose()?;
    Ok(Loaded { key: Arc::new(key), trust: Arc::new(trust(tls)?), ticket_keys, expires })
}

/// What is probably not meant about files that can be served with, as sentences that name the file.
pub fn warnings(tls: &ListenerTls) -> Vec<String> {
    let exposed = tls.ticket_keys.as_deref().and_then(|path| {
        let mode = std::fs::metadata(path).ok()?.permissions().mode() & 0o777;
        (mode & EXPOSED != 0).then(|| {
            let path = path.display();
            format!("{path}: open to others (mode {mode:03o}): whoever reads it can take over the sessions of agents")
        })
    });
    exposed.into_iter().collect()
}

/// Permissions that a file of keys has no use for: all of others', and writing by its group.
const EXPOSED: u32 = 0o027;

fn read(path: &Path) -> Result<Vec<u8>, CertificateError> {
    std::fs::read(path).map_err(|source| CertificateError::Unreadable { path: path.into(), source })
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, CertificateError> {
    let chain = CertificateDer::pem_slice_iter(&read(path)?)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| CertificateError::NotPem { path: path.into(), reason: error.to_string() })?;
    if chain.is_empty() {
        return Err(CertificateError::NoCertificate { path: path.into() });
    }
    Ok(chain)
}

fn ticket_keys(path: &Path) -> Result<TicketKeys, CertificateError> {
    let keys = hex_lines::read(path, MAX_TICKET_KEYS)?;
    if keys.is_empty() { Err(CertificateError::NoTicketKey { path: path.into() }) } else { Ok(TicketKeys(keys)) }
}

fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, CertificateError> {
    use rustls_pki_types::pem::Error;
    PrivateKeyDer::from_pem_slice(&read(path)?).map_err(|error| match error {
        Error::NoItemsFound => CertificateError::NoKey { path: path.into() },
        error => CertificateError::NotPem { path: path.into(), reason: error.to_string() },
    })
}

fn certified_key(
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    tls: &ListenerTls,
) -> Result<CertifiedKey, CertificateError> {
    CertifiedKey::from_der(chain, key, &ring::default_provider()).map_err(|error| match error {
        rustls::Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => {
            CertificateError::KeyMismatch { certificate: tls.certificate.clone(), key: tls.key.clone() }
        }
        rustls::Error::InvalidCertificate(error) => {
            CertificateError::BadCertificate { path: tls.certificate.clone(), reason: format!("{error:?}") }
        }
        error => CertificateError::BadKey { path: tls.key.clone(), reason: error.to_string() },
    })
}

fn check_validity(leaf: &CertificateDer<'_>, path: &Path, now: Millis) -> Result<i64, CertificateError> {
    let (_, leaf) = X509Certificate::from_der(leaf)
        .map_err(|error| CertificateError::BadCertificate { path: path.into(), reason: error.to_string() })?;
    let validity = leaf.validity();
    let now = i64::try_from(now.0 / 1000).unwrap_or(i64::MAX);
    if validity.not_after.timestamp() < now {
        return Err(CertificateError::Expired { path: path.into(), on: validity.not_after.to_string() });
    }
    if validity.not_before.timestamp() > now {
        return Err(CertificateError::NotYetValid { path: path.into(), from: validity.not_before.to_string() });
    }
    Ok(validity.not_after.timestamp())
}

fn trust(tls: &ListenerTls) -> Result<Trust, CertificateError> {
    let path = match (&tls.client_ca, tls.client_auth) {
        (_, ClientAuth::Off) => {
            let nobody = WebPkiClientVerifier::no_client_auth();
            return Ok(Trust::new(nobody, ClientAuth::Off, &[], HashSet::new()));
        }
        (None, _) => return Err(CertificateError::Unusable("client_auth needs client_ca".into())),
        (Some(path), _) => path,
    };
    let authorities = certificates(path)?;
    let denied = match &tls.denied_certificates {
        Some(path) => hex_lines::read(path, MAX_DENIED)?.into_iter().collect(),
        None => HashSet::new(),
    };
    Ok(Trust::new(verifier(path, &authorities, tls.client_auth)?, tls.client_auth, &authorities, denied))
}

pub(super) fn verifier(
    path: &Path,
    authorities: &[CertificateDer<'static>],
    mode: ClientAuth,
) -> Result<Arc<dyn ClientCertVerifier>, CertificateError> {
    let mut roots = RootCertStore::empty();
    for authority in authorities {
        roots
            .add(authority.clone())
            .map_err(|error| CertificateError::BadCertificate { path: path.into(), reason: error.to_string() })?;
    }
    let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::new(ring::default_provider()));
    let builder = if mode == ClientAuth::Optional { builder.allow_unauthenticated() } else { builder };
    builder.build().map_err(|error| CertificateError::Unusable(error.to_string()))
}

/// Keys of tickets in a file; one seals, the others only open.
const MAX_TICKET_KEYS: usize = 16;

/// Certificates that are denied one by one; 100 bytes of memory each.
const MAX_DENIED: usize = 1_000_000;

#[cfg(test)]
mod tests;
