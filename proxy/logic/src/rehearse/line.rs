//! The lines of a trace.

use std::collections::BTreeMap;
use std::time::Duration;

use http::header::{AGE, CACHE_CONTROL, CONTENT_RANGE, ETAG, EXPIRES, VARY};
use http::{HeaderMap, HeaderName};
use serde::{Deserialize, Serialize};
use weir_config::{Action, KeyPart};

use super::Veil;
use super::veil::key_parts;
use crate::cache::purge::{Mark, Marks};
use crate::cache::{CACHE_STATUS, Census, field_bytes, is_own_tag, said};
use crate::heap::{allocation, shared};
use crate::key::{self, CacheKey, Scope};
use crate::retry::delta_seconds;
use crate::{Answer, Call, Cause, Millis, Outcome, TenantId};

/// The version of the format.
pub const VERSION: u32 = 1;

/// The first line of a trace.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Head {
    /// [`VERSION`].
    pub weir_trace: u32,
    /// The node that recorded it.
    pub edge: String,
    /// When it was begun, in milliseconds since 1970.
    pub began: u64,
    /// The part of the keys whose requests are in it, over 0 and at most 1.
    pub sample: f64,
    /// What the names of query parameters were marked with that the configuration does not spell out.
    pub salt: String,
}

/// The last line of a trace.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct End {
    /// Why it ended: `time`, `bytes`, `reader` (who read it was too slow) or `stopped` (the node was).
    pub weir_trace_end: String,
    /// Milliseconds that it covers.
    pub covered: u64,
    /// Lines between the first and this one.
    pub lines: u64,
    /// Lines left out because they were longer than a line may be.
    pub too_long: u64,
    /// All requests of each route, whether they are in the trace or not.
    pub requests: BTreeMap<String, u64>,
}

/// One request. Values of the path's parameters, the query, headers, body and identity are veiled.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Line {
    /// Milliseconds since the trace was begun.
    pub at: u64,
    /// The route that took it.
    pub route: String,
    /// The route's class.
    pub class: String,
    /// Its method.
    pub method: String,
    /// Its host, only where its route asks for one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// Its path.
    pub path: String,
    /// Its query.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub query: Option<String>,
    /// The headers that are recorded, by their names in lower case.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, String>,
    /// The values of its body that are part of its key, by their pointers.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub body: BTreeMap<String, String>,
    /// Its tenant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant: Option<String>,
    /// Its agent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent: Option<String>,
    /// What it was answered; `None` where the agent left before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// Bytes of the answer's body.
    pub bytes: u64,
    /// Bytes of memory that the answer takes where it is kept, beside its body: its key, what it can be purged by, and, where this is the
    /// whole answer, its headers.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub kept: u64,
    /// How it ended: the label of an [`Outcome`].
    pub outcome: String,
    /// Why the answer was stale or went past the cache: the label of a [`Cause`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cause: Option<String>,
    /// Milliseconds that it waited for a fill or a lookup of its own, or for the core that it was passed through to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub core: Option<u64>,
    /// What the core said about keeping the answer, in the words of `Cache-Control`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub said: Option<String>,
    /// The answer's age in seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub age: Option<u64>,
    /// The headers by which the core chose the answer, of those that are recorded.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub vary: Vec<String>,
    /// The core's entity tag of the answer, veiled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tag: Option<String>,
    /// The tags that the core has given the answer, by which it can be purged: at most [`Marks::MAX_TAGS`], veiled.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<String>,
}

/// A purge, or a change by an agent that puts answers out of use. Its line begins with its kind.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Purge {
    /// `all`, `route`, `tenant`, `prefix`, `tag`, `request`, or `change`.
    pub purge: String,
    /// Milliseconds since the trace was begun.
    pub at: u64,
    /// Of a route its name, of a tenant or a tag its mark, of a prefix what begins the paths of each route in the trace, of a change the
    /// paths that it put out of date.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub of: Vec<String>,
    /// Whether the answers count as stale since then; otherwise they are not used again.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub soft: bool,
    /// The request whose answer was purged, or that was passed through and changed something.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request: Option<Asked>,
}

/// What a request asks for, veiled as in a [`Line`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Asked {
    /// See [`Line::method`].
    pub method: String,
    /// See [`Line::host`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// See [`Line::path`].
    pub path: String,
    /// See [`Line::query`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub query: Option<String>,
    /// See [`Line::headers`].
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, String>,
    /// See [`Line::body`].
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub body: BTreeMap<String, String>,
    /// See [`Line::tenant`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant: Option<String>,
    /// See [`Line::agent`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent: Option<String>,
}

impl Asked {
    /// The request, of whose headers those are recorded that `headers` names in lower case.
    pub fn of(call: &Call<'_>, veil: &Veil, headers: &[String]) -> Self {
        let (tenant, agent) = (call.identity.tenant.as_ref(), call.identity.agent.as_ref());
        Self {
            method: call.request.method.as_str().to_owned(),
            host: call.route.host.clone(),
            path: veil.path(&call.route.path, call.request.path),
            query: call.request.query.map(|query| veil.query(query)),
            headers: recorded_headers(call, veil, headers),
            body: recorded_body(call, veil),
            tenant: tenant.map(|tenant| veil.over(tenant.as_str())),
            agent: agent.map(|agent| veil.over(agent.as_str())),
        }
    }

    /// A line of the request that tells nothing of its end.
    pub(super) fn line(&self) -> Line {
        let Self { method, host, path, query, headers, body, tenant, agent } = self.clone();
        Line { method, host, path, query, headers, body, tenant, agent, ..Line::default() }
    }
}

impl Line {
    /// The request, of which `began` is when the trace was and `headers` names those that are recorded, in lower case. How it ended
    /// is not yet told.
    pub fn of(call: &Call<'_>, veil: &Veil, headers: &[String], began: Millis) -> Self {
        Self {
            at: millis(call.now.since(began)),
            route: call.route.name.clone(),
            class: call.route.class.as_str().to_owned(),
            kept: kept_bytes(call) as u64,
            ..Asked::of(call, veil, headers).line()
        }
    }

    /// Adds what the request is answered `now`, after so long. `headers` are those that are recorded.
    pub fn answered<B>(&mut self, answer: &Answer<B>, veil: &Veil, headers: &[String], now: Millis, took: Duration) {
        let waited = matches!(answer.outcome, Outcome::Miss | Outcome::Revalidated | Outcome::Bypass);
        self.status = Some(answer.status);
        self.cause = answer.cause.map(|cause| cause.label().to_owned());
        self.core = waited.then(|| millis(took));
        if matches!(answer.status, 200 | 203 | 204 | 404 | 410) {
            let kept = answer.headers.iter().filter(|(name, _)| !OF_EACH_ANSWER.contains(name));
            let count = kept.clone().count();
            self.kept += field_bytes(kept.map(|(name, value)| (name, value)), count) as u64;
        }
        self.age = answer.header(&AGE).and_then(|value| delta_seconds(value.as_bytes())).map(|age| age.as_secs());
        self.vary = chosen_by(answer, headers);
        let tag = answer.header(&ETAG).filter(|tag| !is_own_tag(tag));
        self.tag = tag.map(|tag| veil.over(&String::from_utf8_lossy(tag.as_bytes())));
        self.tags = answer.headers.marks().into_iter().flat_map(Marks::tags).map(|tag| veil.mark(tag)).collect();
        self.kept += (self.tags.len() * (size_of::<Mark>() + Census::PLACE_BYTES)) as u64;
        let speaks = [CACHE_CONTROL, EXPIRES, said::CDN_CACHE_CONTROL];
        let spoken: HeaderMap = answer.headers.iter().filter(|(name, _)| speaks.contains(name)).cloned().collect();
        let made = Millis(now.0.saturating_sub(self.age.unwrap_or_default().saturating_mul(1000)));
        self.said = Some(said::said(&spoken, made)).filter(|said| !said.is_empty());
    }

    /// Whether it tells that the core fails: `None` where it says nothing about the core.
    pub fn core_fails(&self) -> Option<bool> {
        let cause = |cause: Cause| self.cause.as_deref() == Some(cause.label());
        let outcome = |outcome: Outcome| self.outcome == outcome.label();
        if [Cause::CoreFailing, Cause::FillFailed, Cause::FillOverdue].into_iter().any(cause) {
            return Some(true);
        }
        if outcome(Outcome::Calm) || outcome(Outcome::Failed) {
            return Some(true);
        }
        self.core.map(|_| false)
    }
}

/// The memory of the key, and of what the answer can be purged by.
fn kept_bytes(call: &Call<'_>) -> usize {
    let (parts, is_shared, copies) = match &call.route.action {
        Action::Cache(cache) => (&cache.key, cache.shared, 1),
        // Theirs are kept with the answer, and with what asks for it again.
        Action::Lookup(lookup) => (&lookup.key, lookup.shared, 2),
        Action::Aggregate(_) | Action::Forward(_) => return 0,
    };
    let key = CacheKey::of(parts, Scope::of(is_shared), call).map_or(0, |key| key.len());
    let tenant = call.identity.tenant.as_ref().filter(|_| !is_shared).map(TenantId::as_str);
    let marks = Marks::of_answer(&call.route.name, tenant, call.request.path, []);
    let own = allocation(2 * size_of::<usize>() + size_of::<Marks>()) + marks.bytes();
    shared(key) + copies * own + marks.iter().count() * Census::PLACE_BYTES
}

/// Headers that are not kept, as each answer has its own.
const OF_EACH_ANSWER: [HeaderName; 3] = [AGE, CACHE_STATUS, CONTENT_RANGE];

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks so")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

fn chosen_by<B>(answer: &Answer<B>, recorded: &[String]) -> Vec<String> {
    let fields = answer.headers.iter().filter(|(name, _)| *name == VARY).filter_map(|(_, value)| value.to_str().ok());
    let named: Vec<_> = fields.flat_map(|text| text.split(',').map(str::trim)).collect();
    let chosen = recorded.iter().filter(|name| named.iter().any(|known| known.eq_ignore_ascii_case(name)));
    chosen.cloned().collect()
}

fn recorded_headers(call: &Call<'_>, veil: &Veil, names: &[String]) -> BTreeMap<String, String> {
    let value = |name: &String| Some((name.clone(), veil.over(&key::header_text(call, name).ok()??)));
    names.iter().filter_map(value).collect()
}

fn recorded_body(call: &Call<'_>, veil: &Veil) -> BTreeMap<String, String> {
    let parts = key_parts(&call.route.action);
    let of_body: Vec<_> = parts.iter().filter(|part| matches!(part, KeyPart::Body(_))).cloned().collect();
    let values = key::parts(&of_body, Scope::Shared, call).unwrap_or_default();
    let named = values.into_iter().filter_map(|(name, value)| {
        let pointer = name.strip_prefix("body.")?.to_owned();
        Some((pointer, veil.over(&value?)))
    });
    named.collect()
}

fn millis(duration: Duration) -> u64 {
    Millis::default().after(duration).0
}
