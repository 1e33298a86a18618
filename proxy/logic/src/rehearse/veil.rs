//! Values made unreadable, equal ones alike.

use std::collections::BTreeSet;

use sha2::{Digest, Sha256};
use weir_config::{Action, KeyPart, PathPattern, Route, Segment};

use crate::cache::purge::Mark;

/// Puts marks in the place of values. A value's mark is made with a secret: once that is forgotten nobody can find a value by
/// trying. The names of query parameters are agents' words too, but a rehearsal must find those that another key names: a name
/// that the configuration in force does not spell out has a mark made with a salt that the trace tells.
pub struct Veil {
    secret: [u8; 32],
    salt: String,
    /// The names of query parameters that the configuration spells out.
    words: BTreeSet<String>,
}

impl Veil {
    /// A veil of its own for each trace, of which `secret` must be drawn anew and forgotten.
    pub fn new(secret: [u8; 32], salt: String, routes: &[Route]) -> Self {
        let parts = routes.iter().flat_map(|route| key_parts(&route.action));
        let words = parts.filter_map(|part| match part {
            KeyPart::Query(name) => Some(name.clone()),
            _ => None,
        });
        Self { secret, salt, words: words.collect() }
    }

    /// The mark of a value. It is a name, a path segment and a header value alike.
    pub fn over(&self, value: &str) -> String {
        written(Sha256::new().chain_update(self.secret).chain_update(value))
    }

    /// The mark of a mark by which answers can be purged.
    pub fn mark(&self, mark: Mark) -> String {
        // No text has that byte in it.
        written(Sha256::new().chain_update(self.secret).chain_update([0xff]).chain_update(mark.to_bytes()))
    }

    /// A path: what the pattern of the route that takes it spells out as it is, the rest segment by segment.
    pub fn path(&self, pattern: &PathPattern, path: &str) -> String {
        let mut veiled = String::with_capacity(path.len() + 64);
        let segments = path.strip_prefix('/').unwrap_or_default().split('/');
        for (place, segment) in segments.enumerate() {
            veiled.push('/');
            match pattern.segments.get(place) {
                Some(Segment::Literal(text)) if text == segment => veiled.push_str(text),
                _ if segment.is_empty() => {}
                _ => veiled.push_str(&self.over(segment)),
            }
        }
        veiled
    }

    /// What the path is in the trace for each of the routes whose pattern it fits.
    pub fn paths<'a>(&self, routes: &'a [Route], path: &'a str) -> impl Iterator<Item = String> + use<'_, 'a> {
        let fitting = routes.iter().filter(move |route| fits(&route.path, path));
        fitting.map(move |route| self.path(&route.path, path))
    }

    /// What begins the paths in the trace of requests that a route takes and whose paths begin with `prefix`; `None` where the route takes
    /// none, or where the prefix ends within a segment that is veiled.
    pub fn prefix(&self, route: &Route, prefix: &str) -> Option<String> {
        let pattern = &route.path.segments;
        let goes_on = matches!(pattern.last(), Some(Segment::Rest(_)));
        let segments: Vec<&str> = prefix.strip_prefix('/')?.split('/').collect();
        let (last, whole) = segments.split_last()?;
        let mut veiled = String::from("/");
        for (place, segment) in whole.iter().enumerate() {
            match pattern.get(place) {
                Some(Segment::Literal(text)) if text == segment => veiled.push_str(text),
                Some(Segment::Literal(_)) => return None,
                None if !goes_on => return None,
                _ if segment.is_empty() => {}
                _ => veiled.push_str(&self.over(segment)),
            }
            veiled.push('/');
        }
        match pattern.get(whole.len()) {
            _ if last.is_empty() => {}
            Some(Segment::Literal(text)) if text.starts_with(last) => veiled.push_str(last),
            _ => return None,
        }
        Some(veiled)
    }

    /// The query, part by part.
    pub(super) fn query(&self, query: &str) -> String {
        let pairs = query.split('&').filter(|pair| !pair.is_empty()).map(|pair| match pair.split_once('=') {
            Some((name, value)) => format!("{}={}", self.name(name), self.over(value)),
            None => self.name(pair),
        });
        pairs.collect::<Vec<_>>().join("&")
    }

    fn name(&self, name: &str) -> String {
        if self.words.contains(name) { name.to_owned() } else { mark(&self.salt, name) }
    }
}

/// The mark of a query parameter's name under a trace's salt.
pub fn mark(salt: &str, name: &str) -> String {
    written(Sha256::new().chain_update(salt).chain_update([0]).chain_update(name))
}

fn written(hash: Sha256) -> String {
    hash.finalize().iter().take(MARK_BYTES).fold("~".to_owned(), |mark, byte| mark + &format!("{byte:02x}"))
}

fn fits(pattern: &PathPattern, path: &str) -> bool {
    let mut segments = path.strip_prefix('/').unwrap_or_default().split('/');
    for expected in &pattern.segments {
        let fits = match (expected, segments.next()) {
            (_, None) => false,
            (Segment::Literal(text), Some(segment)) => text == segment,
            (Segment::Parameter(_), Some(segment)) => !segment.is_empty(),
            (Segment::Rest(_), Some(segment)) => return !segment.is_empty() || segments.next().is_some(),
        };
        if !fits {
            return false;
        }
    }
    segments.next().is_none()
}

/// What tells requests of a route apart.
pub(super) fn key_parts(action: &Action) -> &[KeyPart] {
    match action {
        Action::Cache(cache) => &cache.key,
        Action::Lookup(lookup) => &lookup.key,
        Action::Aggregate(_) | Action::Forward(_) => &[],
    }
}

/// Two of a million values share a mark once in forty million traces.
const MARK_BYTES: usize = 8;
