//! What a change through the node puts out of use (RFC 9111, section 4.4).
//!
//! Agents' `POST`, `PUT`, `PATCH` and `DELETE` that are passed through may change what the core answers to a `GET`. When the
//! core says that all went well, the stored answers of that path are not used again. Not here: finding or forgetting them
//! (`purge`).

use http::header::{CONTENT_LOCATION, HeaderName, LOCATION};
use http::{HeaderMap, Uri};
use weir_config::Method;

/// A request that has been passed through.
#[derive(Clone, Copy, Debug)]
pub struct Change<'a> {
    /// Its method.
    pub method: Method,
    /// Its path, as sent.
    pub path: &'a str,
    /// The authority that it named, as sent.
    pub authority: &'a str,
}

impl Change<'_> {
    /// The paths whose answers have gone out of date when the core answers so: the request's, and those that `Location` and
    /// `Content-Location` name on the same authority. Empty for safe methods and for errors. At most three.
    pub fn paths(&self, status: u16, headers: &HeaderMap) -> Vec<String> {
        let unsafe_method = matches!(self.method, Method::Post | Method::Put | Method::Patch | Method::Delete);
        if !unsafe_method || !(200..400).contains(&status) {
            return Vec::new();
        }
        let mut paths = vec![self.path.to_owned()];
        for name in [LOCATION, CONTENT_LOCATION] {
            paths.extend(self.named(headers, &name).filter(|path| path != self.path));
        }
        paths.dedup();
        paths
    }

    /// The host that it named, without a port.
    pub fn host(&self) -> &str {
        let port = |port: &str| port.bytes().all(|byte| byte.is_ascii_digit());
        self.authority.rsplit_once(':').filter(|(_, after)| port(after)).map_or(self.authority, |(host, _)| host)
    }

    /// The path that a field names: absolute, or on the same authority. What is relative to the path is passed over.
    fn named(&self, headers: &HeaderMap, name: &HeaderName) -> Option<String> {
        let uri: Uri = headers.get(name)?.to_str().ok()?.parse().ok()?;
        let same = uri.authority().is_none_or(|authority| authority.as_str().eq_ignore_ascii_case(self.authority));
        (same && uri.path().starts_with('/')).then(|| uri.path().to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paths(method: Method, status: u16, fields: &[(&'static str, &'static str)]) -> Vec<String> {
        let headers = fields.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect();
        Change { method, path: "/v1/a", authority: "Edge:8443" }.paths(status, &headers)
    }

    #[test]
    fn changes_that_went_well_put_their_path_out_of_use() {
        for method in [Method::Post, Method::Put, Method::Patch, Method::Delete] {
            for status in [200, 201, 204, 303, 399] {
                assert_eq!(paths(method, status, &[]), ["/v1/a"], "{method:?} {status}");
            }
            for status in [100, 101, 199, 400, 404, 500] {
                assert!(paths(method, status, &[]).is_empty(), "{method:?} {status}");
            }
        }
        for method in [Method::Get, Method::Head, Method::Options] {
            assert!(paths(method, 200, &[]).is_empty(), "{method:?}");
        }
    }

    #[test]
    fn the_host_is_the_authority_without_its_port() {
        for (authority, host) in [("edge:8443", "edge"), ("edge", "edge"), ("[::1]:80", "[::1]"), ("[::1]", "[::1]")] {
            assert_eq!(Change { method: Method::Put, path: "/", authority }.host(), host);
        }
    }

    #[test]
    fn locations_count_on_the_same_authority() {
        let of = |location| paths(Method::Post, 201, &[("location", location)]);
        for same in ["/v1/b?x=1", "http://edge:8443/v1/b", "https://EDGE:8443/v1/b"] {
            assert_eq!(of(same), ["/v1/a", "/v1/b"], "{same}");
        }
        for other in ["https://elsewhere/v1/b", "https://edge:8443@elsewhere/v1/b", "b", "", "/v1/a"] {
            assert_eq!(of(other), ["/v1/a"], "{other}");
        }
        let both = [("location", "/v1/b"), ("content-location", "/v1/c")];
        assert_eq!(paths(Method::Post, 201, &both), ["/v1/a", "/v1/b", "/v1/c"]);
    }
}
