//! The fields of a client certificate that an identity can come from.
//!
//! Read once per connection, when the handshake is done; who asks is then decided per request by
//! [`Identity::read`](weir_logic::Identity::read).

use weir_logic::CertificateFields;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};
use x509_parser::x509::AttributeTypeAndValue;

/// Reads the fields of a certificate in DER. Of several common names, organizations or units the first counts. A field
/// that is not text is left out; a certificate that cannot be read has no fields.
pub fn certificate_fields(der: &[u8]) -> CertificateFields {
    let Ok((_, certificate)) = X509Certificate::from_der(der) else { return CertificateFields::default() };
    let subject = certificate.subject();
    CertificateFields {
        common_name: first_text(subject.iter_common_name()),
        organization: first_text(subject.iter_organization()),
        organizational_unit: first_text(subject.iter_organizational_unit()),
        alternative_name: alternative_name(&certificate),
    }
}

fn first_text<'a>(mut attributes: impl Iterator<Item = &'a AttributeTypeAndValue<'a>>) -> Option<String> {
    attributes.next()?.as_str().ok().map(str::to_owned)
}

fn alternative_name(certificate: &X509Certificate<'_>) -> Option<String> {
    let names = &certificate.subject_alternative_name().ok()??.value.general_names;
    names.iter().find_map(|name| match name {
        GeneralName::DNSName(name) | GeneralName::URI(name) => Some((*name).to_owned()),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, DnType, KeyPair, SanType};

    use super::*;

    #[test]
    fn the_subject_and_the_first_alternative_name_are_read() {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name.push(DnType::CommonName, "a-1");
        params.distinguished_name.push(DnType::OrganizationName, "t-1");
        params.distinguished_name.push(DnType::OrganizationalUnitName, "unit");
        params.subject_alt_names = vec![
            SanType::IpAddress("127.0.0.1".parse().unwrap()),
            SanType::URI("spiffe://fleet/a-1".try_into().unwrap()),
        ];
        let certificate = params.self_signed(&KeyPair::generate().unwrap()).unwrap();
        let expected = CertificateFields {
            common_name: Some("a-1".into()),
            organization: Some("t-1".into()),
            organizational_unit: Some("unit".into()),
            alternative_name: Some("spiffe://fleet/a-1".into()),
        };
        assert_eq!(certificate_fields(certificate.der()), expected);
    }

    #[test]
    fn what_is_not_a_certificate_has_no_fields() {
        assert_eq!(certificate_fields(b"not DER"), CertificateFields::default());
    }
}
