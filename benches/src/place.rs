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
        let authority = certify(&path).map_err(io::Error::other)??;
        Ok(Self { path, temporary, authority })
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

/// Makes an authority and has it sign a certificate for `localhost`; gives the authority's certificate.
fn certify(directory: &Path) -> Result<io::Result<Vec<u8>>, rcgen::Error> {
    let mut authority = CertificateParams::new(Vec::new())?;
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    authority.distinguished_name.push(DnType::CommonName, "weir bench authority");
    authority.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
    let authority_key = KeyPair::generate()?;
    let authority_pem = authority.self_signed(&authority_key)?.pem();
    let issuer = Issuer::new(authority, authority_key);

    let mut server = CertificateParams::new(vec!["localhost".to_owned()])?;
    server.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    server.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    server.use_authority_key_identifier_extension = true;
    let key = KeyPair::generate()?;
    let certificate = server.signed_by(&key, &issuer)?.pem();
    let written = std::fs::write(directory.join("server.pem"), certificate)
        .and_then(|()| std::fs::write(directory.join("server.key"), key.serialize_pem()));
    Ok(written.map(|()| authority_pem.into_bytes()))
}
