//! A request of a trace as a configuration meets it: its route, its key, and what its answer is granted.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use http::header::{AGE, CACHE_CONTROL};
use http::{HeaderMap, HeaderName, HeaderValue};
use serde_json::{Map, Value};
use weir_config::{Action, CacheRoute, KeyPart, Route};

use super::Line;
use super::reader::method;
use super::veil::{key_parts, mark};
use crate::cache::purge::Mark;
use crate::cache::{CachePolicy, Lease, Terms, Unstorable};
use crate::key::Scope;
use crate::route::{Found, RouteTable};
use crate::{AgentId, CacheKey, Call, Cause, Identity, Millis, Outcome, RequestView, TenantId, lookup};

/// A configuration that lines are met under.
pub(super) struct Stage {
    table: RouteTable,
    /// The names of query parameters that keys name, by their marks.
    names: HashMap<String, String>,
}

/// What a line is under a configuration.
pub(super) struct Scene {
    pub(super) route: Arc<Route>,
    /// `None` where the route keeps nothing, or the request lacks what the key is made of.
    pub(super) key: Option<Keyed>,
    /// What the answer is granted; `None` where the line tells nothing of that.
    pub(super) granted: Option<Lease>,
}

/// What an answer is kept under.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Keyed {
    /// The digest of its key, and of what the core chose it by.
    pub(super) digest: u128,
    /// The mark of its key, which it has in common with other variants.
    pub(super) mark: Mark,
}

impl Stage {
    /// `salt` is the trace's.
    pub(super) fn new(routes: &[Route], salt: &str) -> Self {
        let parts = routes.iter().flat_map(|route| key_parts(&route.action));
        let names = parts.filter_map(|part| match part {
            KeyPart::Query(name) => Some((mark(salt, name), name.clone())),
            _ => None,
        });
        Self { table: RouteTable::new(routes), names: names.collect() }
    }

    /// `None` where no route takes the request.
    pub(super) fn meet(&self, line: &Line) -> Option<Scene> {
        let method = method(&line.method)?;
        let host = line.host.as_deref().unwrap_or_default();
        let Found::Route { route, parameters, .. } = self.table.find(method, host, &line.path) else { return None };
        let identity = Identity {
            agent: line.agent.as_deref().and_then(AgentId::new),
            tenant: line.tenant.as_deref().and_then(TenantId::new),
        };
        let query = line.query.as_deref().map(|query| self.named(query));
        let (headers, body) = (headers(&line.headers), body(&line.body));
        let request =
            RequestView { method, path: &line.path, query: query.as_deref(), host, headers: &headers, body: &body };
        let call = Call { request, route, parameters: &parameters, identity: &identity, now: Millis(0) };
        let key = |parts: &[KeyPart], shared| CacheKey::of(parts, Scope::of(shared), &call).ok();
        let keyed = match &route.action {
            Action::Cache(cache) => {
                let chosen = told_apart_by(cache, line);
                key(&cache.key, cache.shared).zip(key(&chosen, cache.shared))
            }
            Action::Lookup(lookup) => key(&lookup.key, lookup.shared).map(|key| (key.clone(), key)),
            Action::Aggregate(_) | Action::Forward(_) => None,
        };
        let key = keyed.map(|(key, chosen)| Keyed { digest: chosen.digest(), mark: Mark::key(&key) });
        Some(Scene { route: Arc::clone(route), key, granted: granted(route, line) })
    }

    /// The query with those names readable that a key may name.
    fn named(&self, query: &str) -> String {
        let pairs = query.split('&').map(|pair| {
            let (name, rest) = pair.split_at(pair.find('=').unwrap_or(pair.len()));
            self.names.get(name).map_or_else(|| pair.to_owned(), |known| format!("{known}{rest}"))
        });
        pairs.collect::<Vec<_>>().join("&")
    }
}

/// The key's parts, and the headers by which the core chose the answer where the route lets it.
fn told_apart_by<'a>(route: &'a CacheRoute, line: &Line) -> Cow<'a, [KeyPart]> {
    let chosen = line.vary.iter().filter(|name| route.vary.contains(name));
    let mut parts = Cow::Borrowed(&route.key[..]);
    chosen.for_each(|name| parts.to_mut().push(KeyPart::Header(name.clone())));
    parts
}

/// What a route grants an answer of which nothing is known.
pub(super) fn usual(route: &Route) -> Lease {
    match &route.action {
        Action::Cache(cache) => CachePolicy::of(cache).lease(200, &Terms::default()),
        Action::Lookup(lookup) => lookup::lease(lookup, None),
        Action::Aggregate(_) | Action::Forward(_) => Lease::default(),
    }
}

fn granted(route: &Route, line: &Line) -> Option<Lease> {
    let Action::Cache(cache) = &route.action else { return Some(usual(route)) };
    if !is_from_the_core(line) {
        return None;
    }
    // What an agent is told that has the answer, or wants a part of it.
    let status = line.status.map(|status| if matches!(status, 206 | 304 | 416) { 200 } else { status })?;
    let cause = |why: Unstorable| line.cause.as_deref() == Some(Cause::Unstorable(why).label());
    if UNSTORABLE_ANYWHERE.into_iter().any(cause) {
        return Some(Lease::default());
    }
    let mut headers = HeaderMap::new();
    headers.extend(line.said.as_deref().and_then(|said| Some((CACHE_CONTROL, said.parse().ok()?))));
    // Of an answer that was stored before, the age on arrival is not known.
    headers.extend(line.age.filter(|_| line.core.is_some()).map(|age| (AGE, HeaderValue::from(age))));
    let policy = CachePolicy::of(cache);
    if policy.unstorable(status, &headers).is_some_and(|why| why != Unstorable::NeverFresh) {
        return Some(Lease::default());
    }
    Some(policy.lease(status, &Terms::of(&headers, Millis(0), Millis(0))))
}

fn headers(list: &BTreeMap<String, String>) -> HeaderMap {
    let pair = |(name, value): (&String, &String)| {
        Some((name.parse::<HeaderName>().ok()?, value.parse::<HeaderValue>().ok()?))
    };
    list.iter().filter_map(pair).collect()
}

/// A JSON body that has these values at these pointers (RFC 6901).
fn body(list: &BTreeMap<String, String>) -> Vec<u8> {
    if list.is_empty() {
        return b"{}".to_vec();
    }
    let mut body = Value::Object(Map::new());
    for (pointer, value) in list {
        let mut place = &mut body;
        for token in pointer.split('/').skip(1) {
            let token = token.replace("~1", "/").replace("~0", "~");
            if !place.is_object() {
                *place = Value::Object(Map::new());
            }
            place = &mut place[token];
        }
        *place = Value::String(value.clone());
    }
    body.to_string().into_bytes()
}

/// Whether what was answered is the core's, now or from before.
pub(super) fn is_from_the_core(line: &Line) -> bool {
    FROM_THE_CORE.into_iter().any(|outcome| line.outcome == outcome.label())
}

/// Outcomes whose answer is the core's, now or from before.
const FROM_THE_CORE: [Outcome; 6] =
    [Outcome::Hit, Outcome::Stale, Outcome::Revalidated, Outcome::Coalesced, Outcome::Miss, Outcome::Bypass];

/// What forbids keeping an answer whatever the route says, and is not in the words of `Cache-Control`.
const UNSTORABLE_ANYWHERE: [Unstorable; 3] = [Unstorable::SetCookie, Unstorable::Vary, Unstorable::TooLarge];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_has_its_values_where_they_were() {
        let list = BTreeMap::from([("/a/b".to_owned(), "~1".to_owned()), ("/a/c~1d".to_owned(), "~2".to_owned())]);
        assert_eq!(String::from_utf8(body(&list)).unwrap(), r#"{"a":{"b":"~1","c/d":"~2"}}"#);
    }
}
