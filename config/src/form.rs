//! What the texts of names, paths and headers must look like.

/// The form of a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// Any text.
    Any,
    /// A name in metrics, logs and paths of the configuration.
    Name,
    /// The name of a stream: it is a directory's name and part of every batch id.
    StreamName,
    /// The name of an edge: it is part of every batch id.
    EdgeName,
    /// A path that is sent to the core.
    RequestPath,
    /// A header's name, lower case.
    Header,
    /// A host without port, lower case.
    Host,
    /// A host with or without port, lower case.
    Authority,
    /// A media type.
    MediaType,
    /// A field of a record.
    Field,
    /// The name of a declared stream.
    Stream,
}

impl Form {
    /// Whether the text has the form.
    pub(crate) fn accepts(self, text: &str) -> bool {
        match self {
            Self::Any => true,
            Self::Name => within(text, 64) && text.chars().all(|c| c.is_ascii_alphanumeric() || "-_.:[]".contains(c)),
            Self::EdgeName => within(text, 64) && text.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c)),
            Self::StreamName | Self::Stream => {
                within(text, 32) && text.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-')
            }
            Self::RequestPath => {
                text.starts_with('/') && within(text, 1024) && text.chars().all(|c| c.is_ascii_graphic())
            }
            Self::Header => {
                within(text, 64) && text.bytes().all(is_token) && !text.contains(|c: char| c.is_ascii_uppercase())
            }
            Self::Host => is_host(text),
            Self::Authority => match text.rsplit_once(':') {
                Some((host, port)) if !text.ends_with(']') => {
                    is_host(host) && port.parse().is_ok_and(|port: u16| port > 0)
                }
                _ => is_host(text),
            },
            Self::MediaType => {
                within(text, 128) && text.contains('/') && text.chars().all(|c| c == ' ' || c.is_ascii_graphic())
            }
            Self::Field => within(text, 256) && !text.chars().any(char::is_control),
        }
    }

    /// What is expected, in words.
    pub(crate) const fn expected(self) -> &'static str {
        match self {
            Self::Any => "a string",
            Self::Name => "a name: 1 to 64 letters, digits, `-`, `_`, `.`, `:` or brackets",
            Self::EdgeName => "a name: 1 to 64 letters, digits, `-`, `_` or `.`",
            Self::StreamName | Self::Stream => "a stream's name: 1 to 32 lower-case letters, digits or `-`",
            Self::RequestPath => "a path that begins with `/`, without spaces",
            Self::Header => "a header's name in lower case",
            Self::Host => "a host in lower case, without a port",
            Self::Authority => "a host in lower case, with or without a port",
            Self::MediaType => "a media type such as `application/json`",
            Self::Field => "a field's name or JSON pointer, 1 to 256 characters",
        }
    }

    /// A regular expression of the form for the JSON Schema; `None` where any text is allowed.
    pub(crate) const fn pattern(self) -> Option<&'static str> {
        match self {
            Self::Any => None,
            Self::Name => Some("^[A-Za-z0-9_.:\\[\\]-]{1,64}$"),
            Self::EdgeName => Some("^[A-Za-z0-9_.-]{1,64}$"),
            Self::StreamName | Self::Stream => Some("^[a-z0-9-]{1,32}$"),
            Self::RequestPath => Some("^/[!-~]{0,1023}$"),
            Self::Header => Some("^[a-z0-9!#$%&'*+.^_`|~-]{1,64}$"),
            Self::Host => Some("^([a-z0-9._-]{1,253}|\\[[0-9a-f:.]+\\])$"),
            Self::Authority => Some("^([a-z0-9._-]{1,253}|\\[[0-9a-f:.]+\\])(:[0-9]{1,5})?$"),
            Self::MediaType => Some("^[ -~]{0,126}/[ -~]{0,126}$"),
            Self::Field => Some("^.{1,256}$"),
        }
    }
}

fn within(text: &str, most: usize) -> bool {
    !text.is_empty() && text.len() <= most
}

/// A character of a token (RFC 9110, section 5.6.2).
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// A name or an IPv4 address, or an IPv6 address in brackets.
fn is_host(text: &str) -> bool {
    if let Some(inside) = text.strip_prefix('[') {
        let address = inside.strip_suffix(']').filter(|inside| !inside.contains(|c: char| c.is_ascii_uppercase()));
        return address.is_some_and(|address| address.parse::<std::net::Ipv6Addr>().is_ok());
    }
    within(text, 253) && text.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || "-._".contains(c))
}
