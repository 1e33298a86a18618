//! The request target and the host: what both protocol versions share (RFC 9110, section 7; RFC 9112, section 3.2).
//!
//! Nothing is decoded or resolved: `..` and `%2e` stay as they came and match no route that does not say so.

use super::Fault;

/// A target taken apart, as sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Target<'a> {
    /// The path; starts with `/`.
    pub path: &'a str,
    /// The query without its `?`; `None` without one.
    pub query: Option<&'a str>,
    /// The host, without port.
    pub host: &'a str,
    /// The host with its port, as sent.
    pub authority: &'a str,
}

impl<'a> Target<'a> {
    /// Takes a target apart. `authority` is the `Host` or `:authority`.
    ///
    /// The origin form is taken, and the absolute form when it names the same authority.
    ///
    /// # Errors
    /// A [`Fault`] of 400: any other form, a fragment, a byte that does not belong, an authority that is not `host[:port]`.
    pub fn parse(target: &'a [u8], authority: &'a [u8]) -> Result<Self, Fault> {
        if target.iter().any(|byte| !(0x21..0x7f).contains(byte) || *byte == b'#' || *byte == b'\\') {
            return Err(Fault::malformed("forbidden byte in the request target"));
        }
        let (Ok(target), Ok(authority)) = (std::str::from_utf8(target), std::str::from_utf8(authority)) else {
            return Err(Fault::malformed("bad Host"));
        };
        let host = host_of(authority)?;
        let origin = if target.starts_with('/') { target } else { after_authority(target, authority)? };
        let (path, query) = match origin.split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (origin, None),
        };
        Ok(Self { path: if path.is_empty() { "/" } else { path }, query, host, authority })
    }
}

/// What follows `http://authority` in an absolute form.
fn after_authority<'a>(target: &'a str, authority: &str) -> Result<&'a str, Fault> {
    let rest = ["http://", "https://"].iter().find_map(|scheme| {
        let (start, rest) = target.split_at_checked(scheme.len())?;
        start.eq_ignore_ascii_case(scheme).then_some(rest)
    });
    let Some(rest) = rest else { return Err(Fault::malformed("request target is not a path")) };
    let end = rest.find(['/', '?']).unwrap_or(rest.len());
    if &rest[..end] != authority {
        return Err(Fault::malformed("request target names another host"));
    }
    Ok(&rest[end..])
}

/// The host of `host[:port]`: a name, an IPv4 address, or an IPv6 address in brackets.
fn host_of(authority: &str) -> Result<&str, Fault> {
    const BAD: Fault = Fault::malformed("bad Host");
    let (host, port) = match authority.strip_prefix('[') {
        Some(rest) => {
            let close = rest.find(']').ok_or(BAD)?;
            let address = &rest[..close];
            if address.is_empty() || !address.bytes().all(|byte| byte.is_ascii_hexdigit() || b":.".contains(&byte)) {
                return Err(BAD);
            }
            (&authority[..close + 2], &rest[close + 1..])
        }
        None => authority.split_at(authority.find(':').unwrap_or(authority.len())),
    };
    let port_is_good = match port.strip_prefix(':') {
        Some(digits) => digits.len() <= 5 && digits.bytes().all(|byte| byte.is_ascii_digit()),
        None => port.is_empty(),
    };
    let is_name = host.starts_with('[')
        || (!host.is_empty() && host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte)));
    if port_is_good && is_name { Ok(host) } else { Err(BAD) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse<'a>(target: &'a str, authority: &'a str) -> Result<(&'a str, Option<&'a str>, &'a str), &'static str> {
        let parsed = Target::parse(target.as_bytes(), authority.as_bytes());
        parsed.map(|target| (target.path, target.query, target.host)).map_err(|fault| fault.detail)
    }

    #[test]
    fn paths_and_queries_stay_as_sent() {
        assert_eq!(parse("/a/../b//c?x=1?y", "edge:443"), Ok(("/a/../b//c", Some("x=1?y"), "edge")));
        assert_eq!(parse("/%2e%2E?", "edge"), Ok(("/%2e%2E", Some(""), "edge")));
        assert_eq!(parse("/", "[::1]:80"), Ok(("/", None, "[::1]")));
    }

    #[test]
    fn the_absolute_form_must_name_the_same_host() {
        assert_eq!(parse("http://edge:80/a?b", "edge:80"), Ok(("/a", Some("b"), "edge")));
        assert_eq!(parse("HTTPS://edge", "edge"), Ok(("/", None, "edge")));
        assert_eq!(parse("http://edge?q", "edge"), Ok(("/", Some("q"), "edge")));
        assert!(parse("http://other/a", "edge").is_err());
        assert!(parse("http://edge.other/a", "edge").is_err());
        assert!(parse("ftp://edge/a", "edge").is_err());
    }

    #[test]
    fn other_targets_are_refused() {
        for target in ["*", "", "a", "edge:443", "?a", "/a#b", "/a b", "/a\\b", "/\u{0}", "/\u{e9}", "/\r\n", "http:/a"]
        {
            assert!(parse(target, "edge").is_err(), "{target:?}");
        }
    }

    #[test]
    fn other_hosts_are_refused() {
        for host in [
            "",
            "a/b",
            "a,b",
            "user@edge",
            "a b",
            "a:b",
            "a:123456",
            "a:1:2",
            "[::1",
            "[]",
            "[::1]x",
            "[g]",
            ":80",
            "a?b",
        ] {
            assert!(parse("/", host).is_err(), "{host:?}");
        }
    }
}
