//! A certificate authority for one test, and the certificates that it signs.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
};
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};

/// A certificate authority whose files lie in a directory.
pub struct Authority {
    directory: PathBuf,
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

/// A signed certificate and its key, PEM, as files.
#[derive(Clone, Debug)]
pub struct Pair {
    /// The certificate.
    pub certificate: PathBuf,
    /// The key.
    pub key: PathBuf,
}

impl Authority {
    /// A new authority; its certificate is written to `ca.pem` in `directory`.
    pub fn new(directory: &Path) -> Self {
        let mut params = CertificateParams::new(Vec::new()).expect("no names, no wrong names");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "weir test authority");
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
        let key = KeyPair::generate().expect("the system has randomness");
        let pem = params.self_signed(&key).expect("an authority signs itself").pem();
        std::fs::write(directory.join("ca.pem"), &pem).expect("the test directory is writable");
        Self { directory: directory.to_owned(), issuer: Issuer::new(params, key), pem }
    }

    /// The file with the authority's certificate.
    pub fn file(&self) -> PathBuf {
        self.directory.join("ca.pem")
    }

    /// A certificate for a server of these names, as `NAME.pem` and `NAME.key`.
    pub fn server(&self, file_name: &str, names: &[&str]) -> Pair {
        let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
        let mut params = CertificateParams::new(names).expect("the test's names are valid");
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        self.sign(file_name, &mut params)
    }

    /// A certificate for an agent (common name) of a tenant (organization).
    pub fn agent(&self, agent: &str, tenant: &str) -> Pair {
        let mut params = CertificateParams::new(Vec::new()).expect("no names, no wrong names");
        params.distinguished_name.push(DnType::CommonName, agent);
        params.distinguished_name.push(DnType::OrganizationName, tenant);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        self.sign(agent, &mut params)
    }

    /// A TLS client that trusts this authority and offers these protocols by ALPN.
    pub fn client(&self, identity: Option<&Pair>, protocols: &[&str]) -> Arc<ClientConfig> {
        let mut roots = RootCertStore::empty();
        let certificate = CertificateDer::from_pem_slice(self.pem.as_bytes()).expect("written here");
        roots.add(certificate).expect("a certificate of our own");
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("the provider speaks them")
            .with_root_certificates(roots);
        let mut config = match identity {
            None => builder.with_no_client_auth(),
            Some(pair) => {
                let chain = vec![CertificateDer::from_pem_file(&pair.certificate).expect("signed here")];
                let key = PrivateKeyDer::from_pem_file(&pair.key).expect("made here");
                builder.with_client_auth_cert(chain, key).expect("the key is the certificate's")
            }
        };
        config.alpn_protocols = protocols.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
        Arc::new(config)
    }

    fn sign(&self, file_name: &str, params: &mut CertificateParams) -> Pair {
        params.use_authority_key_identifier_extension = true;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        let key = KeyPair::generate().expect("the system has randomness");
        let certificate = params.clone().signed_by(&key, &self.issuer).expect("the parameters are complete");
        let pair = Pair {
            certificate: self.directory.join(format!("{file_name}.pem")),
            key: self.directory.join(format!("{file_name}.key")),
        };
        std::fs::write(&pair.certificate, certificate.pem()).expect("the test directory is writable");
        std::fs::write(&pair.key, key.serialize_pem()).expect("the test directory is writable");
        pair
    }
}
