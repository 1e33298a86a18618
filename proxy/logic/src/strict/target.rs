//! The request target and the host: what both protocol versions share (RFC 9110, section 7; RFC 9112, section 3.2).
//!
//! Nothing is decoded or resolved: `..` and `%2e` stay as they came and match no route that does not say so.

use memchr::memchr;

use super::Fault;
use super::bytes::{NAME, TARGET, are_all, count};

/// A target taken apart, as sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Target<'a> {
    /// The path; starts with `/`.
    pub path: &'a str,
    /// The query without its `?`; `None` without one.
    pub query: Option<&'a str>,
    /// The host, without port; empty when the request names none.
    pub host: &'a str,
    /// The host with its port, as sent; empty when the request names none.
    pub authority: &'a str,
}

/// An authority that is `host[:port]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Authority<'a> {
    text: &'a str,
    host: &'a str,
}

impl<'a> Authority<'a> {
    /// Takes a `Host` or an `:authority` apart.
    ///
    /// # Errors
    /// A [`Fault`] of 400 where it is anything else.
    pub fn parse(authority: &'a [u8]) -> Result<Self, Fault> {
        let text = std::str::from_utf8(authority).map_err(|_| BAD_HOST)?;
        Ok(Self { text, host: host_of(text)? })
    }
}

impl<'a> Target<'a> {
    /// Takes a target apart. `authority` is the `Host` or `:authority`.
    ///
    /// The origin form is taken, and the absolute form when it names the same authority.
    ///
    /// # Errors
    /// A [`Fault`] of 400: any other form, a fragment, a byte that does not belong, an authority that is not
    /// `host[:port]`.
    pub fn parse(target: &'a [u8], authority: &'a [u8]) -> Result<Self, Fault> {
        Self::at(target, Authority::parse(authority)?)
    }

    /// The same where the authority has been taken apart.
    ///
    /// # Errors
    /// A [`Fault`] of 400, as above.
    pub fn at(target: &'a [u8], authority: Authority<'a>) -> Result<Self, Fault> {
        let target = plain(target)?;
        let Authority { text, host } = authority;
        let origin = if target.starts_with('/') { target } else { after_authority(target, text)? };
        Ok(Self::split(origin, host, text))
    }

    /// Takes the target of a request apart that names no host, as only HTTP/1.0 may.
    ///
    /// # Errors
    /// A [`Fault`] of 400, as above; the absolute form is not taken.
    pub fn without_host(target: &'a [u8]) -> Result<Self, Fault> {
        let target = plain(target)?;
        if !target.starts_with('/') {
            return Err(NOT_A_PATH);
        }
        Ok(Self::split(target, "", ""))
    }

    fn split(origin: &'a str, host: &'a str, authority: &'a str) -> Self {
        let (path, query) = match memchr(b'?', origin.as_bytes()) {
            Some(at) => (&origin[..at], Some(&origin[at + 1..])),
            None => (origin, None),
        };
        Self { path: if path.is_empty() { "/" } else { path }, query, host, authority }
    }
}

/// The target as text, when every byte may stand in one (RFC 3986) and none is read differently by others.
fn plain(target: &[u8]) -> Result<&str, Fault> {
    const FORBIDDEN: Fault = Fault::malformed("forbidden byte in the request target");
    if !are_all(target, TARGET) {
        return Err(FORBIDDEN);
    }
    std::str::from_utf8(target).map_err(|_| FORBIDDEN)
}

/// What follows `http://authority` in an absolute form.
fn after_authority<'a>(target: &'a str, authority: &str) -> Result<&'a str, Fault> {
    let rest = ["http://", "https://"].iter().find_map(|scheme| {
        let (start, rest) = target.split_at_checked(scheme.len())?;
        start.eq_ignore_ascii_case(scheme).then_some(rest)
    });
    let Some(rest) = rest else { return Err(NOT_A_PATH) };
    let end = rest.find(['/', '?']).unwrap_or(rest.len());
    if &rest[..end] != authority {
        return Err(Fault::malformed("request target names another host"));
    }
    Ok(&rest[end..])
}

/// The host of `host[:port]`: a name, an IPv4 address, or an IPv6 address in brackets.
fn host_of(authority: &str) -> Result<&str, Fault> {
    let (host, port) = match authority.strip_prefix('[') {
        Some(rest) => {
            let close = rest.find(']').ok_or(BAD_HOST)?;
            let address = &rest[..close];
            if address.is_empty() || !address.bytes().all(|byte| byte.is_ascii_hexdigit() || b":.".contains(&byte)) {
                return Err(BAD_HOST);
            }
            (&authority[..close + 2], &rest[close + 1..])
        }
        // A name is ASCII, so that what ends it is the beginning of a character.
        None => authority.split_at_checked(count(authority.as_bytes(), NAME)).ok_or(BAD_HOST)?,
    };
    let port_is_good = match port.strip_prefix(':') {
        Some(digits) => digits.len() <= 5 && digits.bytes().all(|byte| byte.is_ascii_digit()),
        None => port.is_empty(),
    };
    if port_is_good && !host.is_empty() { Ok(host) } else { Err(BAD_HOST) }
}

const BAD_HOST: Fault = Fault::malformed("bad Host");
const NOT_A_PATH: Fault = Fault::malformed("request target is not a path");

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
    fn a_request_without_a_host_has_a_path_all_the_same() {
        let target = Target::without_host(b"/a?b").unwrap();
        assert_eq!((target.path, target.query, target.host), ("/a", Some("b"), ""));
        assert!(Target::without_host(b"http:///a").is_err());
    }

    #[test]
    fn other_targets_are_refused() {
        for target in ["*", "", "a", "edge:443", "?a", "/a#b", "/a b", "/a\\b", "/\u{0}", "/\u{e9}", "/\r\n", "http:/a"]
            .into_iter()
            .chain(["/\"", "/?\"", "/<", "/?>", "/`", "/?`"])
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
