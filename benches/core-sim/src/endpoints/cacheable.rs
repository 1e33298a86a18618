//! Documents that an agent asks for alone: manifests, configs, tasks.

use http::StatusCode;
use http::request::Parts;

use super::{header, segment};
use crate::answer::{Answer, conditional, empty, refusal};
use crate::server::State;

pub(super) fn manifest(state: &State, parts: &Parts) -> Answer {
    let content = state.content.lock();
    let document = content.manifest(segment(parts, 2), parts.uri.query().unwrap_or(""));
    let changed = httpdate::fmt_http_date(content.manifest_changed());
    drop(content);
    conditional(&parts.headers, document, Some(&changed))
}

pub(super) fn config(state: &State, parts: &Parts) -> Answer {
    let of_path = (segment(parts, 1) == "tenants").then(|| segment(parts, 2));
    let tenant = of_path.or_else(|| tenant_header(state, parts));
    let Some(tenant) = tenant else {
        return refusal(StatusCode::BAD_REQUEST, "no header names the tenant");
    };
    let document = state.content.lock().config(tenant);
    conditional(&parts.headers, document, None)
}

pub(super) fn task(state: &State, parts: &Parts) -> Answer {
    let task = state.content.lock().task(segment(parts, 2));
    match task {
        Some(document) => conditional(&parts.headers, document, None),
        None => empty(StatusCode::NO_CONTENT),
    }
}

/// The tenant as the first of the configured headers names it.
pub(super) fn tenant_header<'a>(state: &State, parts: &'a Parts) -> Option<&'a str> {
    state.options.tenant_headers.iter().find_map(|name| header(parts, name))
}
