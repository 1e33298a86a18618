//! Who asks: the agent and its tenant, from what the operator trusts.

use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use arrayvec::ArrayString;
use weir_config::IdentitySource;

use crate::request::{Headers, Parameters};

/// The name of one endpoint's client, as its certificate, header or path gives it; 1 to 256 bytes.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AgentId(Name);

/// The name of the business that an agent belongs to; 1 to 256 bytes.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TenantId(Name);

/// What is known of who asks. Either part may be missing; a route that needs one refuses the request.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Identity {
    /// The agent.
    pub agent: Option<AgentId>,
    /// The tenant.
    pub tenant: Option<TenantId>,
}

/// The fields of a client certificate that an identity can come from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CertificateFields {
    /// The subject's common name.
    pub common_name: Option<String>,
    /// The subject's organization.
    pub organization: Option<String>,
    /// The subject's organizational unit.
    pub organizational_unit: Option<String>,
    /// The first DNS name or URI among the alternative names.
    pub alternative_name: Option<String>,
}

/// Where an identity may be read from, for one request.
pub struct Evidence<'a> {
    /// The client certificate that the connection showed and the listener checked.
    pub certificate: Option<&'a CertificateFields>,
    /// The request's headers when the listener trusts them, else `None`.
    pub trusted_headers: Option<&'a dyn Headers>,
    /// What the route's parameters took.
    pub parameters: &'a Parameters<'a>,
}

impl Identity {
    /// Reads the identity: for each part the first source that holds a valid name.
    pub fn read(rules: &weir_config::Identity, evidence: &Evidence<'_>) -> Self {
        Self {
            agent: first_name(&rules.agent, evidence, AgentId::new),
            tenant: first_name(&rules.tenant, evidence, TenantId::new),
        }
    }
}

fn first_name<N>(sources: &[IdentitySource], evidence: &Evidence<'_>, named: impl Fn(&str) -> Option<N>) -> Option<N> {
    sources.iter().find_map(|source| named(name_from(source, evidence)?))
}

fn name_from<'a>(source: &IdentitySource, evidence: &'a Evidence<'a>) -> Option<&'a str> {
    let certificate = evidence.certificate;
    match source {
        IdentitySource::CertificateCommonName => certificate?.common_name.as_deref(),
        IdentitySource::CertificateOrganization => certificate?.organization.as_deref(),
        IdentitySource::CertificateOrganizationalUnit => certificate?.organizational_unit.as_deref(),
        IdentitySource::CertificateAlternativeName => certificate?.alternative_name.as_deref(),
        IdentitySource::Header(name) => evidence.trusted_headers?.text(name),
        IdentitySource::Path(name) => {
            evidence.parameters.iter().find(|(known, _)| *known == name.as_str()).map(|(_, value)| *value)
        }
    }
}

/// Names are printable and bounded: they go into keys, rows and headers.
fn is_name(text: &str) -> bool {
    let plain = || text.bytes().all(|byte| matches!(byte, b' '..=b'~'));
    (1..=MAX_NAME_BYTES).contains(&text.len()) && (plain() || !text.chars().any(char::is_control))
}

const MAX_NAME_BYTES: usize = 256;

/// The text of a name. A request has two, and most are short enough to be no memory of their own: 48 bytes in all.
#[derive(Clone)]
enum Name {
    Short(ArrayString<SHORT_BYTES>),
    Long(Arc<str>),
}

/// A UUID as people write it has 36.
const SHORT_BYTES: usize = 36;

impl Name {
    fn new(text: &str) -> Self {
        ArrayString::from(text).map_or_else(|_| Self::Long(text.into()), Self::Short)
    }

    fn as_str(&self) -> &str {
        match self {
            Self::Short(text) => text,
            Self::Long(text) => text,
        }
    }
}

impl PartialEq for Name {
    fn eq(&self, other: &Self) -> bool {
        self.as_str() == other.as_str()
    }
}

impl Eq for Name {}

impl PartialOrd for Name {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Name {
    fn cmp(&self, other: &Self) -> Ordering {
        self.as_str().cmp(other.as_str())
    }
}

impl Hash for Name {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.as_str().hash(state);
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_str().fmt(f)
    }
}

macro_rules! name_type {
    ($name:ident) => {
        impl $name {
            /// The name, or `None` when it is empty, longer than 256 bytes or holds control characters.
            pub fn new(text: &str) -> Option<Self> {
                is_name(text).then(|| Self(Name::new(text)))
            }

            /// The name as text.
            pub fn as_str(&self) -> &str {
                self.0.as_str()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }
    };
}

name_type!(AgentId);
name_type!(TenantId);

#[cfg(test)]
mod tests {
    use super::*;

    fn rules() -> weir_config::Identity {
        weir_config::Identity {
            agent: vec![IdentitySource::CertificateCommonName, IdentitySource::Header("x-agent-id".into())],
            tenant: vec![IdentitySource::Path("tenant".into())],
        }
    }

    #[test]
    fn headers_count_only_where_the_listener_trusts_them() {
        let mut headers = http::HeaderMap::new();
        headers.insert("x-agent-id", "a-1".parse().unwrap());
        let parameters = vec![("tenant", "t-1")];
        let untrusted = Evidence { certificate: None, trusted_headers: None, parameters: &parameters };
        let trusted = Evidence { trusted_headers: Some(&headers), ..untrusted };
        assert_eq!(Identity::read(&rules(), &trusted).agent, AgentId::new("a-1"));
        let untrusted = Evidence { certificate: None, trusted_headers: None, parameters: &parameters };
        assert_eq!(Identity::read(&rules(), &untrusted), Identity { agent: None, tenant: TenantId::new("t-1") });
    }

    #[test]
    fn long_names_are_names_like_others() {
        let names = [1, 35, 36, 37, 256].map(|length| AgentId::new(&"a".repeat(length)).unwrap());
        assert!(names.is_sorted());
        for name in &names {
            assert_eq!(Some(name), AgentId::new(name.as_str()).as_ref());
        }
        assert_eq!([AgentId::new(""), AgentId::new(&"a".repeat(257)), AgentId::new("a\u{85}")], [None, None, None]);
        assert_eq!(AgentId::new("caf\u{e9}").unwrap().to_string(), "caf\u{e9}");
    }

    #[test]
    fn the_first_source_that_holds_a_valid_name_counts() {
        let mut headers = http::HeaderMap::new();
        headers.insert("x-agent-id", "a-1".parse().unwrap());
        let certificate = CertificateFields { common_name: Some("bad\u{7}name".into()), ..Default::default() };
        let evidence =
            Evidence { certificate: Some(&certificate), trusted_headers: Some(&headers), parameters: &Vec::new() };
        assert_eq!(Identity::read(&rules(), &evidence).agent, AgentId::new("a-1"));
    }
}
