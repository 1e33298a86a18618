//! Where the node of a run lives: a directory with its certificate and its configuration.

use std::io;
use std::path::{Path, PathBuf};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
};
use tempfile::TempDir;
use weir_fleet::FleetTls;

/// A directory for one run: removed with the value, unless it is to be kept.
#[derive(Debug)]
pub(crate) struct Place {
    path: PathBuf,
    temporary: Option<TempDir>,
    issuer: Box<Issuer<'static, KeyPair>>,
    /// The certificate of the authority that signed the node's, PEM.
    pub(crate) authority: Vec<u8>,
}

impl Place {
    /// Makes the directory and a certificate for `localhost` in it.
    pub(crate) fn new(keep: Option<&Path>) -> io::Result<Self> {
        let (path, temporary) = match keep {
            Some(path) => {
                std::fs::create_dir_all(path)?;
                if path.join("data").exists() {
                    let taken = format!("{} holds the data of an earlier run; name another directory", path.display());
                    return Err(io::Error::new(io::ErrorKind::AlreadyExists, taken));
                }
                (path.to_owned(), None)
            }
            None => {
                let temporary = tempfile::Builder::new().prefix("weir-run-").tempdir()?;
                (temporary.path().to_owned(), Some(temporary))
            }
        };
        let (issuer, authority) = authority().map_err(io::Error::other)?;
        let place = Self { path, temporary, issuer: Box::new(issuer), authority };
        place.renew()?;
        Ok(place)
    }

    /// Writes a new certificate for the node and its key. A node that reads them meanwhile may find the one without the other.
    pub(crate) fn renew(&self) -> io::Result<()> {
        let names = vec!["localhost".to_owned()];
        let (certificate, key) = self.sign(names, ExtendedKeyUsagePurpose::ServerAuth).map_err(io::Error::other)?;
        std::fs::write(self.path.join("server.pem"), certificate)?;
        std::fs::write(self.path.join("server.key"), key)
    }

    /// A certificate for an agent and its key, PEM.
    pub(crate) fn agent(&self) -> io::Result<(Vec<u8>, Vec<u8>)> {
        let (certificate, key) =
            self.sign(Vec::new(), ExtendedKeyUsagePurpose::ClientAuth).map_err(io::Error::other)?;
        Ok((certificate.into_bytes(), key.into_bytes()))
    }

    fn sign(&self, names: Vec<String>, usage: ExtendedKeyUsagePurpose) -> Result<(String, String), rcgen::Error> {
        let mut params = CertificateParams::new(names)?;
        params.extended_key_usages = vec![usage];
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.use_authority_key_identifier_extension = true;
        let key = KeyPair::generate()?;
        Ok((params.signed_by(&key, &self.issuer)?.pem(), key.serialize_pem()))
    }

    /// What a client needs to believe the node's certificate.
    pub(crate) fn tls(&self) -> FleetTls {
        FleetTls {
            server_name: "localhost".to_owned(),
            authorities: Some(self.authority.clone()),
            client_certificate: None,
        }
    }

    /// Writes the node's configuration and says where it is.
    pub(crate) fn write_config(&self, text: &str) -> io::Result<PathBuf> {
        let file = self.path.join("weir.toml");
        std::fs::write(&file, text)?;
        Ok(file)
    }

    /// The directory.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Leaves the directory where it is, for people to look at, and says where that is.
    pub(crate) fn keep(self) -> PathBuf {
        if let Some(temporary) = self.temporary {
            // Its path is known; what matters is that it is not removed.
            drop(temporary.keep());
        }
        self.path
    }

    /// Removes the directory if it is temporary. Nobody may use it any more.
    pub(crate) fn leave(self) -> io::Result<()> {
        self.temporary.map_or(Ok(()), TempDir::close)
    }
}

/// Makes an authority; gives what signs and its certificate.
fn authority() -> Result<(Issuer<'static, KeyPair>, Vec<u8>), rcgen::Error> {
    let mut params = CertificateParams::new(Vec::new())?;
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name.push(DnType::CommonName, "weir bench authority");
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
    let key = KeyPair::generate()?;
    let pem = params.self_signed(&key)?.pem();
    Ok((Issuer::new(params, key), pem.into_bytes()))
}
