use std::time::Duration;

use rcgen::{CertificateParams, KeyPair};
use tempfile::TempDir;
use weir_config::{TlsCipher, TlsVersion};

use super::*;
use crate::clock::Clock;

struct Files {
    folder: TempDir,
    tls: ListenerTls,
}

impl Files {
    fn new() -> Self {
        let folder = TempDir::new().unwrap();
        let tls = ListenerTls {
            certificate: folder.path().join("edge.pem"),
            key: folder.path().join("edge.key"),
            client_ca: None,
            client_auth: ClientAuth::Off,
            min_version: TlsVersion::V1_2,
            cipher: TlsCipher::default(),
            handshake_timeout: Duration::from_secs(10),
            max_handshakes: 8,
            tickets: true,
            ticket_keys: None,
            ticket_lifetime: Duration::from_hours(12),
            denied_certificates: None,
        };
        let files = Self { folder, tls };
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec!["localhost".into()]).unwrap();
        files.write("edge.pem", &params.self_signed(&key).unwrap().pem());
        files.write("edge.key", &key.serialize_pem());
        files
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.folder.path().join(name), text).unwrap();
    }

    fn problem(&self) -> String {
        let problem = load(&self.tls, Clock::start().now()).unwrap_err().to_string();
        problem.replace(&format!("{}/", self.folder.path().display()), "")
    }
}

#[test]
fn a_good_pair_loads_with_its_expiry() {
    let files = Files::new();
    let loaded = load(&files.tls, Clock::start().now()).unwrap();
    assert!(loaded.expires > i64::try_from(Clock::start().now().0 / 1000).unwrap());
}

#[test]
fn each_broken_file_is_named_with_what_is_wrong() {
    let files = Files::new();
    files.write("edge.key", &KeyPair::generate().unwrap().serialize_pem());
    assert_eq!(files.problem(), "edge.key: the key does not belong to the certificate in edge.pem");
    files.write("edge.key", "");
    assert_eq!(files.problem(), "edge.key: holds no private key");
    std::fs::remove_file(&files.tls.key).unwrap();
    assert_eq!(files.problem(), "edge.key: cannot be read: No such file or directory (os error 2)");
    files.write("edge.pem", "nothing");
    assert_eq!(files.problem(), "edge.pem: holds no certificate");
    files.write("edge.pem", "-----BEGIN CERTIFICATE-----\n*\n-----END CERTIFICATE-----\n");
    assert!(files.problem().starts_with("edge.pem: not PEM: "), "{}", files.problem());
    files.write("edge.pem", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n");
    assert!(files.problem().starts_with("edge.pem: the certificate cannot be used: "), "{}", files.problem());
}

#[test]
fn a_certificate_out_of_its_time_is_refused() {
    let files = Files::new();
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(vec!["localhost".into()]).unwrap();
    params.not_after = rcgen::date_time_ymd(2020, 1, 1);
    params.not_before = rcgen::date_time_ymd(2019, 1, 1);
    files.write("edge.pem", &params.self_signed(&key).unwrap().pem());
    assert!(files.problem().starts_with("edge.pem: the certificate expired on "), "{}", files.problem());
    params.not_before = rcgen::date_time_ymd(2999, 1, 1);
    params.not_after = rcgen::date_time_ymd(3000, 1, 1);
    files.write("edge.pem", &params.self_signed(&key).unwrap().pem());
    assert!(files.problem().starts_with("edge.pem: the certificate is not valid before "), "{}", files.problem());
}

#[test]
fn client_authorities_must_be_certificates() {
    let mut files = Files::new();
    files.tls.client_auth = ClientAuth::Required;
    files.tls.client_ca = Some(files.folder.path().join("agents.pem"));
    files.write("agents.pem", "nothing");
    assert_eq!(files.problem(), "agents.pem: holds no certificate");
}
