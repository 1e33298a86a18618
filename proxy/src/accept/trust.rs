//! Which agents' certificates a listener takes: signed by its authorities, in their time, not denied.

use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;

use rustls::client::danger::HandshakeSignatureValid;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{CertificateError, DigitallySignedStruct, DistinguishedName, SignatureScheme};
use rustls_pki_types::{CertificateDer, UnixTime};
use weir_config::ClientAuth;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::proof::{self, Fingerprint, Proof, fingerprint};

/// rustls's verifier, the certificates denied besides, and a note of what was proven for the session's tickets.
pub(super) struct Trust {
    authorities: Arc<dyn ClientCertVerifier>,
    denied: HashSet<Fingerprint>,
    digest: Fingerprint,
}

impl Trust {
    /// Trust in what `authorities` verifies, which was made of the certificates `roots`.
    pub(super) fn new(
        authorities: Arc<dyn ClientCertVerifier>,
        mode: ClientAuth,
        roots: &[CertificateDer<'_>],
        denied: HashSet<Fingerprint>,
    ) -> Self {
        Self { authorities, denied, digest: digest(mode, roots) }
    }

    /// The same for two listeners only if a session of the one would have come about on the other: by the authorities and by
    /// whether a certificate is asked for. Those denied are not part of it.
    pub(super) fn digest(&self) -> Fingerprint {
        self.digest
    }

    /// Whether the certificate is denied.
    pub(super) fn denies(&self, certificate: &Fingerprint) -> bool {
        self.denied.contains(certificate)
    }
}

/// The order of the authorities' file and what stands between them make no difference.
fn digest(mode: ClientAuth, roots: &[CertificateDer<'_>]) -> Fingerprint {
    let mut roots: Vec<Fingerprint> = roots.iter().map(|root| fingerprint(root)).collect();
    roots.sort_unstable();
    roots.dedup();
    fingerprint(&[mode.as_str().as_bytes(), roots.as_flattened()].concat())
}

impl fmt::Debug for Trust {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Trust").field("denied", &self.denied.len()).finish_non_exhaustive()
    }
}

impl ClientCertVerifier for Trust {
    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        let verified = self.authorities.verify_client_cert(end_entity, intermediates, now)?;
        let certificate = fingerprint(end_entity);
        if self.denies(&certificate) {
            return Err(CertificateError::Revoked.into());
        }
        let at = now.as_secs();
        let ends = std::iter::once(end_entity).chain(intermediates).map(|certificate| end(certificate).unwrap_or(at));
        proof::note(Proof { at, until: ends.min().unwrap_or(at), certificate });
        Ok(verified)
    }

    fn offer_client_auth(&self) -> bool {
        self.authorities.offer_client_auth()
    }

    fn client_auth_mandatory(&self) -> bool {
        self.authorities.client_auth_mandatory()
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.authorities.root_hint_subjects()
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.authorities.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.authorities.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.authorities.supported_verify_schemes()
    }
}

/// The end of a certificate's validity, in seconds since the Unix epoch.
fn end(certificate: &CertificateDer<'_>) -> Option<u64> {
    let (_, certificate) = X509Certificate::from_der(certificate).ok()?;
    u64::try_from(certificate.validity().not_after.timestamp()).ok()
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::time::Duration;

    use rcgen::{BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair};
    use weir_logic::Millis;

    use super::*;
    use crate::accept::certificates::verifier;

    #[tokio::test]
    async fn what_is_proven_ends_with_the_first_certificate_of_the_chain() {
        let key = KeyPair::generate().unwrap();
        let roots = [root_params().self_signed(&key).unwrap().der().clone()];
        let verifier = verifier(Path::new("ca.pem"), &roots, ClientAuth::Required).unwrap();
        let trust = Trust::new(verifier, ClientAuth::Required, &roots, HashSet::new());
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.not_after = rcgen::date_time_ymd(2037, 1, 1);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        let agent = params.signed_by(&KeyPair::generate().unwrap(), &Issuer::new(root_params(), key)).unwrap();
        let now = 1_800_000_000;
        let proof = proof::scope(Millis(now * 1000), async {
            trust.verify_client_cert(agent.der(), &[], UnixTime::since_unix_epoch(Duration::from_secs(now))).unwrap();
            proof::current().unwrap()
        });
        let expected = Proof { at: now, until: 2_114_380_800, certificate: fingerprint(agent.der()) };
        assert_eq!(proof.await, expected);
    }

    fn root_params() -> CertificateParams {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params
    }

    #[test]
    fn the_digest_tells_authorities_and_modes_apart_and_nothing_else() {
        let (a, b) = (CertificateDer::from(vec![1]), CertificateDer::from(vec![2]));
        let required = digest(ClientAuth::Required, &[a.clone(), b.clone()]);
        assert_eq!(required, digest(ClientAuth::Required, &[b.clone(), a.clone(), b.clone()]));
        assert_ne!(required, digest(ClientAuth::Optional, &[a.clone(), b]));
        assert_ne!(required, digest(ClientAuth::Required, &[a]));
        assert_ne!(digest(ClientAuth::Off, &[]), digest(ClientAuth::Optional, &[]));
    }
}
