//! The small languages inside strings: path patterns, parts of keys, sources of identity, peers.

use std::fmt;
use std::str::FromStr;

use crate::form::Form;
use crate::{BodyPointer, IdentitySource, KeyPart, PathPattern, Peer, Segment};

/// Why a text is not what its key takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GrammarError(String);

impl fmt::Display for GrammarError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for GrammarError {}

fn wrong<T>(why: impl Into<String>) -> Result<T, GrammarError> {
    Err(GrammarError(why.into()))
}

impl FromStr for PathPattern {
    type Err = GrammarError;

    /// Segments are what stands between slashes after the first one; `/` has one empty literal, as has the end of
    /// `/a/`.
    fn from_str(text: &str) -> Result<Self, GrammarError> {
        let Some(rest) = text.strip_prefix('/') else { return wrong("no path: it does not begin with `/`") };
        if text.len() > 1024 {
            return wrong("longer than 1,024 bytes");
        }
        if let Some(odd) = text.chars().find(|c| !c.is_ascii_graphic() || "?#".contains(*c)) {
            return wrong(format!("no path: {odd:?} cannot stand in it"));
        }
        let parts: Vec<&str> = rest.split('/').collect();
        let mut segments = Vec::with_capacity(parts.len());
        for (index, part) in parts.iter().enumerate() {
            let last = index + 1 == parts.len();
            let segment = segment(part, last)?;
            if let Some(name) = segment.name()
                && segments.iter().any(|other: &Segment| other.name() == Some(name))
            {
                return wrong(format!("ambiguous: `{{{name}}}` stands in it twice"));
            }
            segments.push(segment);
        }
        Ok(Self { text: text.to_owned(), segments })
    }
}

fn segment(part: &str, last: bool) -> Result<Segment, GrammarError> {
    let Some(inside) = part.strip_prefix('{').and_then(|part| part.strip_suffix('}')) else {
        return match () {
            () if part.contains(['{', '}']) => {
                wrong(format!("no pattern: a parameter is a whole segment, unlike `{part}`"))
            }
            () if part.is_empty() && !last => wrong("no pattern: it has an empty segment"),
            () if part == "." || part == ".." => wrong(format!("no pattern: it has the segment `{part}`")),
            () => Ok(Segment::Literal(part.to_owned())),
        };
    };
    let (name, rest) = match inside.strip_suffix('*') {
        Some(name) => (name, true),
        None => (inside, false),
    };
    if name.is_empty() || !name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') {
        return wrong(format!("no pattern: `{name}` cannot be a parameter's name; use letters, digits and `_`"));
    }
    match rest {
        true if !last => wrong(format!("no pattern: `{{{name}*}}` takes the rest of the path, so it must stand last")),
        true => Ok(Segment::Rest(name.to_owned())),
        false => Ok(Segment::Parameter(name.to_owned())),
    }
}

impl Segment {
    /// The name of the parameter, if it is one.
    pub fn name(&self) -> Option<&str> {
        match self {
            Self::Literal(_) => None,
            Self::Parameter(name) | Self::Rest(name) => Some(name),
        }
    }
}

impl PathPattern {
    /// The names of its parameters, in order.
    pub fn parameters(&self) -> impl Iterator<Item = &str> {
        self.segments.iter().filter_map(Segment::name)
    }
}

impl fmt::Display for PathPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl FromStr for KeyPart {
    type Err = GrammarError;

    fn from_str(text: &str) -> Result<Self, GrammarError> {
        let Some((place, name)) = text.split_once('.') else { return wrong("no part of a request") };
        match (place, name) {
            ("identity", "agent") => Ok(Self::Agent),
            ("identity", "tenant") => Ok(Self::Tenant),
            ("path", name) if is_parameter(name) => Ok(Self::Path(name.to_owned())),
            ("query", name) if Form::Field.accepts(name) => Ok(Self::Query(name.to_owned())),
            ("header", name) => header(name).map(Self::Header),
            ("body", pointer) => pointer_of(pointer).map(Self::Body),
            _ => wrong("no part of a request"),
        }
    }
}

impl fmt::Display for KeyPart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Agent => f.write_str("identity.agent"),
            Self::Tenant => f.write_str("identity.tenant"),
            Self::Path(name) => write!(f, "path.{name}"),
            Self::Query(name) => write!(f, "query.{name}"),
            Self::Header(name) => write!(f, "header.{name}"),
            Self::Body(pointer) => write!(f, "body.{pointer}"),
        }
    }
}

impl FromStr for BodyPointer {
    type Err = GrammarError;

    fn from_str(text: &str) -> Result<Self, GrammarError> {
        match text.split_once('.') {
            Some(("body", pointer)) if !pointer.is_empty() => pointer_of(pointer).map(Self),
            _ => wrong("no place in a body"),
        }
    }
}

impl fmt::Display for BodyPointer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "body.{}", self.0)
    }
}

impl FromStr for IdentitySource {
    type Err = GrammarError;

    fn from_str(text: &str) -> Result<Self, GrammarError> {
        match text.split_once('.') {
            Some(("certificate", "cn")) => Ok(Self::CertificateCommonName),
            Some(("certificate", "o")) => Ok(Self::CertificateOrganization),
            Some(("certificate", "ou")) => Ok(Self::CertificateOrganizationalUnit),
            Some(("certificate", "san")) => Ok(Self::CertificateAlternativeName),
            Some(("certificate", _)) => wrong("no field of a certificate; there are cn, o, ou and san"),
            Some(("header", name)) => header(name).map(Self::Header),
            Some(("path", name)) if is_parameter(name) => Ok(Self::Path(name.to_owned())),
            _ => wrong("no source; there are certificate.cn, .o, .ou and .san, header.NAME and path.NAME"),
        }
    }
}

impl fmt::Display for IdentitySource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::CertificateCommonName => f.write_str("certificate.cn"),
            Self::CertificateOrganization => f.write_str("certificate.o"),
            Self::CertificateOrganizationalUnit => f.write_str("certificate.ou"),
            Self::CertificateAlternativeName => f.write_str("certificate.san"),
            Self::Header(name) => write!(f, "header.{name}"),
            Self::Path(name) => write!(f, "path.{name}"),
        }
    }
}

fn is_parameter(name: &str) -> bool {
    !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

/// A header's name; case does not count in the file.
fn header(name: &str) -> Result<String, GrammarError> {
    let lower = name.to_ascii_lowercase();
    if Form::Header.accepts(&lower) { Ok(lower) } else { wrong("no header: its name has odd characters") }
}

/// A JSON pointer (RFC 6901) below the root.
fn pointer_of(pointer: &str) -> Result<String, GrammarError> {
    if !pointer.starts_with('/') || pointer.len() > 256 {
        return wrong("no JSON pointer: it does not begin with `/`, as in `body./policy/version`");
    }
    let mut rest = pointer;
    while let Some(tilde) = rest.find('~') {
        rest = &rest[tilde + 1..];
        if !rest.starts_with(['0', '1']) {
            return wrong("no JSON pointer: `~` is written `~0` and `/` in a name `~1`");
        }
    }
    Ok(pointer.to_owned())
}

impl FromStr for Peer {
    type Err = GrammarError;

    fn from_str(text: &str) -> Result<Self, GrammarError> {
        let Some((host, port)) = text.rsplit_once(':') else { return wrong("no peer: it has no port") };
        let bracketed = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
        let host = bracketed.unwrap_or(host);
        let Some(port) = port.parse().ok().filter(|port| *port != 0) else {
            return wrong("no peer: its port is not a number from 1 to 65535");
        };
        if host.contains(':') != bracketed.is_some() {
            return wrong("no peer: an IPv6 address stands in brackets, as in `[::1]:443`, and nothing else does");
        }
        if bracketed.is_some() && host.parse::<std::net::Ipv6Addr>().is_err() {
            return wrong("no peer: no IPv6 address stands in the brackets");
        }
        if host.is_empty() || host.len() > 253 || !host.chars().all(|c| c.is_ascii_alphanumeric() || "-._:".contains(c))
        {
            return wrong("no peer: its host is neither a name nor an address");
        }
        Ok(Self { host: host.to_owned(), port })
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}
