//! A listener's certificate, key and client authorities: read from their files and found fit to serve with, or refused
//! with the file and what is wrong with it.

use std::io;
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

/// What a listener serves TLS with.
#[derive(Debug)]
pub struct Loaded {
    /// The chain and its key, which match.
    pub(super) key: Arc<CertifiedKey>,
    /// Who checks agents' certificates.
    pub(super) verifier: Arc<dyn ClientCertVerifier>,
    /// The authorities' file as read; empty without one.
    pub(super) client_ca: Vec<u8>,
    /// The end of the leaf's validity, in seconds since the Unix epoch.
    pub expires: i64,
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
    let (chain, _) = certificates(&tls.certificate)?;
    let expires = check_validity(&chain[0], &tls.certificate, now)?;
    let key = private_key(&tls.key)?;
    let key = certified_key(chain, key, tls)?;
    let (verifier, client_ca) = verifier(tls)?;
    Ok(Loaded { key: Arc::new(key), verifier, client_ca, expires })
}

fn read(path: &Path) -> Result<Vec<u8>, CertificateError> {
    std::fs::read(path).map_err(|source| CertificateError::Unreadable { path: path.into(), source })
}

fn certificates(path: &Path) -> Result<(Vec<CertificateDer<'static>>, Vec<u8>), CertificateError> {
    let bytes = read(path)?;
    let chain = CertificateDer::pem_slice_iter(&bytes)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| CertificateError::NotPem { path: path.into(), reason: error.to_string() })?;
    if chain.is_empty() {
        return Err(CertificateError::NoCertificate { path: path.into() });
    }
    Ok((chain, bytes))
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

fn verifier(tls: &ListenerTls) -> Result<(Arc<dyn ClientCertVerifier>, Vec<u8>), CertificateError> {
    let path = match (&tls.client_ca, tls.client_auth) {
        (_, ClientAuth::Off) => return Ok((WebPkiClientVerifier::no_client_auth(), Vec::new())),
        (None, _) => return Err(CertificateError::Unusable("client_auth needs client_ca".into())),
        (Some(path), _) => path,
    };
    let (authorities, bytes) = certificates(path)?;
    let mut roots = RootCertStore::empty();
    for authority in authorities {
        roots
            .add(authority)
            .map_err(|error| CertificateError::BadCertificate { path: path.clone(), reason: error.to_string() })?;
    }
    let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::new(ring::default_provider()));
    let builder = if tls.client_auth == ClientAuth::Optional { builder.allow_unauthenticated() } else { builder };
    let verifier = builder.build().map_err(|error| CertificateError::Unusable(error.to_string()))?;
    Ok((verifier, bytes))
}

#[cfg(test)]
mod tests;
