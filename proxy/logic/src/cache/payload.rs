//! What a manifest names: the places of its payloads and the digests that they must have.
//!
//! A manifest that reaches agents before its payload does, or beside another payload than it means, makes every agent download in
//! vain. So a route can say where its answers name payloads; the caller then has them fetched and compared before the answer is
//! used. Here is what a manifest says, read so that no other reader of the same bytes can find other payloads. Not here: fetching.

use weir_config::Payload;

use crate::digest::Digest;
use crate::key::{Pointed, members_in, pointed_in};
use crate::strict::target::Target;

/// A payload that a manifest names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Named {
    /// Where it is, as the manifest says it.
    pub url: String,
    /// What it must be.
    pub digest: Digest,
}

/// Why a manifest's payloads are not known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Unclear {
    /// It is not one JSON value, or can be read in two ways.
    Body,
    /// It names a payload without a digest, or a digest without a payload, or something that is no text.
    Incomplete,
    /// What should be a SHA-256 in hexadecimal is none.
    Digest,
    /// It names more payloads than it may.
    TooMany,
}

/// The payloads that a manifest names, each once; none where it has nothing at the places in question. Time: the manifest's length
/// times the depth of the pointers times its payloads. Memory: the texts found.
pub fn named(manifest: &[u8], rule: &Payload) -> Result<Vec<Named>, Unclear> {
    let (stem, url, digest) = rule.parted();
    let mut bases = vec![manifest];
    for part in stem {
        let mut next = Vec::new();
        for base in bases {
            for member in members_in(base, part).map_err(|_| Unclear::Body)? {
                if next.len() >= MAX_VISITED {
                    return Err(Unclear::TooMany);
                }
                next.push(member.as_bytes());
            }
        }
        bases = next;
    }
    let mut list: Vec<Named> = Vec::new();
    for base in bases {
        let text = |pointer| pointed_in(base, pointer).map_err(|_| Unclear::Body);
        let named = match (text(url)?, text(digest)?) {
            (None, None) => continue,
            (Some(Pointed::Text(url)), Some(Pointed::Text(digest))) => {
                Named { url, digest: Digest::parse(&digest).ok_or(Unclear::Digest)? }
            }
            _ => return Err(Unclear::Incomplete),
        };
        if list.contains(&named) {
            continue;
        }
        if list.len() >= rule.max {
            return Err(Unclear::TooMany);
        }
        list.push(named);
    }
    Ok(list)
}

/// The target that agents of `host` (without a port) would ask this node for to get what `url` names; `None` when it is somewhere
/// else, or no URL of HTTP. A URL is a path with a query, or has the same host.
pub fn target_on<'a>(url: &'a str, host: &'a str) -> Option<Target<'a>> {
    if url.starts_with('/') && !url.starts_with("//") {
        return Target::parse(url.as_bytes(), host.as_bytes()).ok();
    }
    let (scheme, rest) = url.split_once("://")?;
    if !scheme.eq_ignore_ascii_case("https") && !scheme.eq_ignore_ascii_case("http") {
        return None;
    }
    let authority = rest.split(['/', '?']).next()?;
    let target = Target::parse(url.as_bytes(), authority.as_bytes()).ok()?;
    target.host.eq_ignore_ascii_case(host).then_some(target)
}

/// Members that are looked at below `*`, at most: far more than a manifest has payloads.
const MAX_VISITED: usize = 16_384;

#[cfg(test)]
mod tests {
    use super::*;

    const A: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    const B: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    fn rule(url: &str, sha256: &str) -> Payload {
        Payload { url: url.parse().unwrap(), sha256: sha256.parse().unwrap(), max: 3 }
    }

    fn read(manifest: &str, url: &str, sha256: &str) -> Result<Vec<(String, String)>, Unclear> {
        let list = named(manifest.as_bytes(), &rule(url, sha256))?;
        Ok(list.into_iter().map(|named| (named.url, named.digest.to_string())).collect())
    }

    #[test]
    fn payloads_are_found_one_by_one_in_lists_and_under_names() {
        let one = vec![("/a".to_owned(), A.to_owned())];
        let both = vec![("/a".to_owned(), A.to_owned()), ("/b".to_owned(), B.to_owned())];
        let plain = format!(r#"{{"file":{{"url":"/a","sha":"{A}"}}}}"#);
        assert_eq!(read(&plain, "body./file/url", "body./file/sha"), Ok(one.clone()));
        let list = format!(r#"{{"p":[{{"url":"/a","sha":"{A}"}},{{"note":1}},{{"url":"/b","sha":"{B}"}}]}}"#);
        assert_eq!(read(&list, "body./p/*/url", "body./p/*/sha"), Ok(both.clone()));
        let by_name = format!(r#"{{"p":{{"win":{{"url":"/a","h":["{A}"]}},"mac":{{"url":"/b","h":["{B}"]}}}}}}"#);
        assert_eq!(read(&by_name, "body./p/*/url", "body./p/*/h/0"), Ok(both.clone()));
        let nested = format!(r#"[[{{"u":"/a","s":"{A}"}}],[{{"u":"/b","s":"{B}"}},{{"u":"/a","s":"{A}"}}]]"#);
        assert_eq!(read(&nested, "body./*/*/u", "body./*/*/s"), Ok(both));
        assert_eq!(read("{}", "body./p/*/url", "body./p/*/sha"), Ok(vec![]));
        assert_eq!(read(r#"{"p":7}"#, "body./p/*/url", "body./p/*/sha"), Ok(vec![]));
    }

    #[test]
    fn what_is_unclear_is_not_guessed() {
        let of = |manifest: &str| read(manifest, "body./p/*/url", "body./p/*/sha");
        let one = |url: &str| format!(r#"{{"url":"{url}","sha":"{A}"}}"#);
        for (manifest, expected) in [
            ("{".to_owned(), Unclear::Body),
            (format!(r#"{{"p":[{0}],"p":[]}}"#, one("/a")), Unclear::Body),
            (format!(r#"{{"p":[{0}],"P":[]}}"#, one("/a")), Unclear::Body),
            (format!(r#"{{"p":{{"x":{0},"x":{1}}}}}"#, one("/a"), one("/b")), Unclear::Body),
            (format!(r#"{{"p":[{{"url":"/a","url":"/b","sha":"{A}"}}]}}"#), Unclear::Body),
            (r#"{"p":[{"url":"/a"}]}"#.to_owned(), Unclear::Incomplete),
            (format!(r#"{{"p":[{{"sha":"{A}"}}]}}"#), Unclear::Incomplete),
            (format!(r#"{{"p":[{{"url":1,"sha":"{A}"}}]}}"#), Unclear::Incomplete),
            (r#"{"p":[{"url":"/a","sha":"abc"}]}"#.to_owned(), Unclear::Digest),
            (format!(r#"{{"p":[{},{},{},{}]}}"#, one("/a"), one("/b"), one("/c"), one("/d")), Unclear::TooMany),
        ] {
            assert_eq!(of(&manifest), Err(expected), "{manifest}");
        }
    }

    #[test]
    fn a_url_counts_when_agents_would_ask_this_node_for_it() {
        let on = |url| {
            target_on(url, "edge.example").map(|target| (target.path.to_owned(), target.query.map(str::to_owned)))
        };
        let expected = Some(("/p/a".to_owned(), Some("v=1".to_owned())));
        for url in ["/p/a?v=1", "https://edge.example/p/a?v=1", "HTTP://Edge.Example:8443/p/a?v=1"] {
            assert_eq!(on(url), expected, "{url}");
        }
        for url in [
            "p/a",
            "//edge.example/p",
            "https://other.example/p",
            "ftp://edge.example/p",
            "/p a",
            "https://u@edge.example/p",
            "",
        ] {
            assert_eq!(on(url), None, "{url}");
        }
    }
}
