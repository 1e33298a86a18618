//! What would happen to a request on a cached route, as data for people.

use serde::Serialize;
use weir_config::{CacheRoute, KeyPart};

use super::{FillRequest, Selection};
use crate::Call;
use crate::key::{self, CacheKey, KeyError, NamedValue, Scope};

/// What a cached route makes of one request. Times are in seconds.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Explanation {
    /// The parts of the key with their values; `null` where the request lacks one.
    pub key: Vec<NamedValue>,
    /// The key's hash, in hexadecimal.
    pub digest: String,
    /// The headers by which the core may choose between several answers of the key, with the request's values as they are compared and
    /// sent; `null` where it lacks one.
    pub vary: Vec<NamedValue>,
    /// Whether one tenant's answer may go to another.
    pub shared: bool,
    /// Who decides how long an answer is fresh: `override`, `clamp` or `honor`.
    pub freshness: &'static str,
    /// How long 200, 203 and 204 are fresh; under `clamp` and `honor`, when the core does not say.
    pub ttl_ok: f64,
    /// How long 301 and 308 are fresh.
    pub ttl_redirect: f64,
    /// How long 404 and 410 are fresh.
    pub ttl_not_found: f64,
    /// The part of a TTL that is drawn at random and taken off.
    pub jitter: f64,
    /// The time past its TTL for which an answer is served while it is fetched anew.
    pub stale_while_revalidate: f64,
    /// The time past its TTL for which an answer is served while the core fails.
    pub stale_if_error: f64,
    /// The status of the calm answer; `null` when there is none.
    pub calm: Option<u16>,
    /// What the core would be asked.
    pub fill: FillPreview,
    /// Query parameters of the request that are not in the key: they are dropped.
    pub dropped_query: Vec<String>,
}

/// What the core would be asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FillPreview {
    /// The method.
    pub method: String,
    /// The path and query.
    pub target: String,
    /// The headers besides those that the sender sets.
    pub headers: Vec<(String, String)>,
    /// Bytes of the body.
    pub body_bytes: usize,
}

/// What `route` makes of `call`.
pub fn explain(call: &Call<'_>, route: &CacheRoute) -> Result<Explanation, KeyError> {
    let scope = Scope::of(route.shared);
    let fill = FillRequest::of(call, route)?;
    Ok(Explanation {
        key: key::parts(&route.key, scope, call)?,
        digest: format!("{:032x}", CacheKey::of(&route.key, scope, call)?.digest()),
        vary: Selection::of(call, &route.vary)?.readable(),
        shared: route.shared,
        freshness: route.freshness.as_str(),
        ttl_ok: route.ttl.ok.as_secs_f64(),
        ttl_redirect: route.ttl.redirect.as_secs_f64(),
        ttl_not_found: route.ttl.not_found.as_secs_f64(),
        jitter: route.jitter.value(),
        stale_while_revalidate: route.stale_while_revalidate.as_secs_f64(),
        stale_if_error: route.stale_if_error.as_secs_f64(),
        calm: route.calm.as_ref().map(|calm| calm.status),
        fill: FillPreview {
            method: fill.method.to_string(),
            target: fill.target,
            headers: fill.headers.iter().map(readable).collect(),
            body_bytes: fill.body.len(),
        },
        dropped_query: dropped_query(call, route),
    })
}

fn readable((name, value): &(http::HeaderName, http::HeaderValue)) -> (String, String) {
    (name.as_str().to_owned(), String::from_utf8_lossy(value.as_bytes()).into_owned())
}

fn dropped_query(call: &Call<'_>, route: &CacheRoute) -> Vec<String> {
    let declared = |name: &str| route.key.iter().any(|part| matches!(part, KeyPart::Query(known) if known == name));
    let pairs = call.request.query.unwrap_or_default().split('&').filter(|pair| !pair.is_empty());
    let mut names: Vec<_> = pairs.map(|pair| pair.split('=').next().unwrap_or(pair)).collect();
    names.retain(|name| !declared(name));
    names.dedup();
    names.into_iter().map(str::to_owned).collect()
}
