//! What a fill asks the core: nothing but what the key declares, so that an answer cannot depend on what the key does not tell
//! apart.
//!
//! The exceptions are the headers of the route's `vary`, by which the core may choose if it says so (`vary`), the path, which is sent whole even where a parameter is not in the key, and the body of a `POST`, of which
//! the key sees the declared pointers: naming a route's key says that the rest makes no difference. The entity tag that a body
//! names, where the route has such a dialect, is left out of it.

use bytes::Bytes;
use http::header::{self, HeaderName, HeaderValue};
use weir_config::{CacheRoute, FILL_HEADERS_OF_ITS_OWN, KeyPart, Method};

use super::vary::Selection;
use crate::Call;
use crate::key::{self, KeyError, Scope};

/// A request to the core that stores an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FillRequest {
    /// `GET`, also for an agent's `HEAD`, or `POST`.
    pub method: http::Method,
    /// The path as sent and the declared query parameters in the key's order, each with its values as sent.
    pub target: String,
    /// The declared headers, those of the route's `vary`, `Weir-Tenant` and `Weir-Agent` where they are part of the key, and a
    /// `POST`'s media type. Never credentials or cookies, unless the key names their header.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// A `POST`'s body as sent, but for the entity tag that it names.
    pub body: Bytes,
}

/// What the core can be asked to confirm: validators of its own making.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Validators {
    /// `ETag`.
    pub etag: Option<HeaderValue>,
    /// `Last-Modified`.
    pub last_modified: Option<HeaderValue>,
}

impl FillRequest {
    /// The request that fills the key of `call`.
    pub fn of(call: &Call<'_>, route: &CacheRoute) -> Result<Self, KeyError> {
        let mut headers = Vec::new();
        identity_headers(call, route, &mut headers)?;
        for part in &route.key {
            let KeyPart::Header(name) = part else { continue };
            let (Some(value), Ok(name)) = (key::header_text(call, name)?, name.parse::<HeaderName>()) else { continue };
            if !FILL_HEADERS_OF_ITS_OWN.contains(&name.as_str()) {
                headers.push((name, HeaderValue::from_bytes(value.as_bytes()).map_err(|_| KeyError::NotText)?));
            }
        }
        headers.extend(Selection::of(call, &route.vary)?.sent());
        let target = target(call, route);
        if call.request.method != Method::Post {
            return Ok(Self { method: http::Method::GET, target, headers, body: Bytes::new() });
        }
        key::require_plain_body(call)?;
        headers.push((header::CONTENT_TYPE, JSON));
        let body = match &route.etag {
            Some(dialect) => key::emptied(call.request.body, &dialect.request.0)?,
            None => Bytes::copy_from_slice(call.request.body),
        };
        Ok(Self { method: http::Method::POST, target, headers, body })
    }

    /// The same request, asking whether what is kept is still current; `None` when the core cannot be asked. A `POST` cannot:
    /// its `If-None-Match` means 412 (RFC 9110, section 13.1.2).
    pub fn conditional(&self, validators: &Validators) -> Option<Self> {
        if self.method != http::Method::GET || *validators == Validators::default() {
            return None;
        }
        let mut request = self.clone();
        let etag = validators.etag.clone().map(|tag| (header::IF_NONE_MATCH, tag));
        let modified = validators.last_modified.clone().map(|date| (header::IF_MODIFIED_SINCE, date));
        request.headers.extend(etag.into_iter().chain(modified));
        Some(request)
    }
}

impl Validators {
    /// The validators of whichever of several answers the core would choose (RFC 9111, section 4.3.1): the entity tags of all of
    /// them.
    pub fn any_of<'a>(tags: impl Iterator<Item = &'a HeaderValue>) -> Self {
        let mut list: Vec<&[u8]> = tags.map(HeaderValue::as_bytes).collect();
        list.sort_unstable();
        list.dedup();
        let etag = (!list.is_empty()).then(|| HeaderValue::from_bytes(&list.join(&b", "[..])).ok()).flatten();
        Self { etag, last_modified: None }
    }

    /// Whether a confirmation is about what is kept: it names no entity tag or an equal one (RFC 9111, section 4.3.4).
    pub fn match_confirmation(&self, etag: Option<&HeaderValue>) -> bool {
        match (&self.etag, etag) {
            (Some(kept), Some(named)) => super::conditional::weakly_equal(kept.as_bytes(), named.as_bytes()),
            _ => true,
        }
    }
}

/// The path and the declared query parameters.
fn target(call: &Call<'_>, route: &CacheRoute) -> String {
    let mut target = call.request.path.to_owned();
    let mut separator = '?';
    for part in &route.key {
        let KeyPart::Query(name) = part else { continue };
        for value in key::query_values(call.request.query, name) {
            target.push(separator);
            target.push_str(name);
            target.push('=');
            target.push_str(value);
            separator = '&';
        }
    }
    target
}

fn identity_headers(
    call: &Call<'_>,
    route: &CacheRoute,
    headers: &mut Vec<(HeaderName, HeaderValue)>,
) -> Result<(), KeyError> {
    if Scope::of(route.shared) == Scope::Tenant || route.key.contains(&KeyPart::Tenant) {
        let tenant = call.identity.tenant.as_ref().ok_or(KeyError::Unidentified)?;
        headers.push((TENANT, HeaderValue::from_bytes(tenant.as_str().as_bytes()).map_err(|_| KeyError::NotText)?));
    }
    if route.key.contains(&KeyPart::Agent) {
        let agent = call.identity.agent.as_ref().ok_or(KeyError::Unidentified)?;
        headers.push((AGENT, HeaderValue::from_bytes(agent.as_str().as_bytes()).map_err(|_| KeyError::NotText)?));
    }
    Ok(())
}

/// The tenant for whom the node asks.
const TENANT: HeaderName = HeaderName::from_static("weir-tenant");
/// The agent for whom the node asks.
const AGENT: HeaderName = HeaderName::from_static("weir-agent");

const JSON: HeaderValue = HeaderValue::from_static("application/json");

#[cfg(test)]
pub(super) mod tests;
