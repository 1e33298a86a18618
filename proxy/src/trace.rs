//! Traces: the requests that the node meets, written down on request for [`weir_logic::rehearse`], and nothing that names anyone.
//!
//! Off, it costs a request one relaxed load. On, every request takes a lock for as long as it takes to count it; one whose key is in
//! the sample has its values hashed, and its line added when it has ended. Sampled are keys, not requests: of a key in the sample every
//! request is there, so that a rehearsal finds the hits that there were. Lines wait for whoever reads the trace, in memory and within
//! a bound; nothing is written to disk. Requests that are turned away before it is known who asks are not in a trace.

mod page;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use parking_lot::Mutex;
use serde::Serialize;
use weir_config::{Action, Admin, KeyPart, Route};
use weir_logic::cache::invalidation::Change;
use weir_logic::cache::purge::Mark;
use weir_logic::key::Scope;
use weir_logic::rehearse::{Asked, End, Head, Line, MAX_LINE_BYTES, Purge, VERSION, Veil};
use weir_logic::route::Found;
use weir_logic::whatif::mixed;
use weir_logic::{Answer, CacheKey, Call, Millis, Outcome, TenantId};

pub use page::TracePage;

use crate::clock::Clock;
use crate::snapshot::ConfigSnapshot;

/// Writes down what the node meets, while somebody wants it. One trace at a time.
pub struct Recorder {
    on: AtomicBool,
    recording: ArcSwapOption<Recording>,
    edge: String,
    clock: Clock,
}

/// What is wanted of a trace.
#[derive(Clone, Debug, PartialEq)]
pub struct Wanted {
    /// The part of the keys whose requests are to be in it, over 0 and at most 1.
    pub sample: f64,
    /// Headers to be recorded besides those that a key names, in lower case.
    pub headers: Vec<String>,
}

/// A trace that is being recorded.
struct Recording {
    veil: Veil,
    /// So that nobody can choose keys that are in the sample.
    secret: u64,
    /// Digests up to here are in the sample.
    threshold: u64,
    headers: Vec<String>,
    began: Millis,
    max_bytes: u64,
    max_waiting: usize,
    clock: Clock,
    pages: Mutex<Pages>,
}

/// What has been written.
#[derive(Default)]
struct Pages {
    /// What waits to be read.
    waiting: Vec<u8>,
    /// Bytes of all lines.
    bytes: u64,
    lines: u64,
    too_long: u64,
    requests: BTreeMap<String, u64>,
    ended: bool,
}

/// A request in the sample that has not ended. It is written when it is dropped with its end told.
pub(crate) struct Sketch {
    line: Line,
    recording: Arc<Recording>,
}

impl Recorder {
    /// Nothing is recorded yet. `edge` is the node's name in traces.
    pub fn new(edge: impl Into<String>, clock: Clock) -> Self {
        Self { on: AtomicBool::new(false), recording: ArcSwapOption::empty(), edge: edge.into(), clock }
    }

    /// Whether a trace is recorded.
    #[inline]
    pub(crate) fn is_on(&self) -> bool {
        self.on.load(Ordering::Relaxed)
    }

    /// The beginning of the request's line, if a trace is recorded and the request's key is in its sample.
    #[inline]
    pub(crate) fn sketch<'a>(&self, call: impl FnOnce() -> Call<'a>) -> Option<Box<Sketch>> {
        if !self.is_on() {
            return None;
        }
        let (recording, call) = (self.recording.load_full()?, &call());
        recording.pages.lock().count(&call.route.name);
        let digest = mixed(digest(call) ^ recording.secret);
        if digest > recording.threshold {
            return None;
        }
        let line = Line::of(call, &recording.veil, &recording.headers, recording.began);
        Some(Box::new(Sketch { line, recording }))
    }

    /// What a request asks for, veiled, whose answer is to be purged; `None` while no trace is recorded.
    pub(crate) fn asked(&self, call: &Call<'_>) -> Option<Asked> {
        let recording = self.recording.load_full()?;
        Some(Asked::of(call, &recording.veil, &recording.headers))
    }

    /// Writes down a purge of that kind, of what is named so, or of the answer to `request`.
    pub(crate) fn purged(&self, kind: &str, of: Option<&str>, request: Option<Asked>, soft: bool, routes: &[Route]) {
        let Some(recording) = self.recording.load_full() else { return };
        let veil = &recording.veil;
        let of = match (kind, of) {
            ("request", _) if request.is_none() => return,
            ("route", Some(name)) => vec![name.to_owned()],
            ("tenant", Some(tenant)) => vec![veil.over(tenant)],
            ("tag", Some(tag)) => vec![veil.mark(Mark::tag(tag))],
            ("prefix", Some(prefix)) => {
                let mut of: Vec<_> = routes.iter().filter_map(|route| veil.prefix(route, prefix)).collect();
                of.sort_unstable();
                of.dedup();
                of
            }
            _ => Vec::new(),
        };
        recording.write(&Purge { purge: kind.to_owned(), at: recording.at(), of, soft, request });
    }

    /// Writes down what a request that was passed through has put out of date, whether it is in the sample or not. Of a tenant that
    /// is named its own answers are meant as well.
    pub(crate) fn changed(
        &self,
        change: &Change<'_>,
        paths: &[String],
        tenant: Option<&TenantId>,
        by: &ConfigSnapshot,
    ) {
        let Some(recording) = self.recording.load_full() else { return };
        let veil = &recording.veil;
        let Found::Route { route, .. } = by.table.find(change.method, change.host(), change.path) else { return };
        let mut of: Vec<_> = paths.iter().flat_map(|path| veil.paths(&by.config.routes, path)).collect();
        of.sort_unstable();
        of.dedup();
        let request = Asked {
            method: change.method.as_str().to_owned(),
            host: route.host.clone(),
            path: veil.path(&route.path, change.path),
            tenant: tenant.map(|tenant| veil.over(tenant.as_str())),
            ..Asked::default()
        };
        let at = recording.at();
        recording.write(&Purge { purge: "change".to_owned(), at, of, soft: false, request: Some(request) });
    }

    /// Begins a trace; `None` while another is recorded.
    fn begin(&self, wanted: Wanted, routes: &[Route], bounds: &Admin) -> Option<Arc<Recording>> {
        if self.on.swap(true, Ordering::AcqRel) {
            return None;
        }
        let began = self.clock.now();
        let salt = format!("{:016x}", rand::random::<u64>());
        let head = Head { weir_trace: VERSION, edge: self.edge.clone(), began: began.0, sample: wanted.sample, salt };
        let mut headers = wanted.headers;
        headers.extend(headers_told_apart_by(routes));
        headers.sort_unstable();
        headers.dedup();
        let mut pages = Pages::default();
        pages.put(&head);
        let recording = Arc::new(Recording {
            veil: Veil::new(rand::random(), head.salt, routes),
            secret: rand::random(),
            threshold: threshold(wanted.sample),
            headers,
            began,
            max_bytes: bounds.max_trace_bytes.bytes(),
            max_waiting: bounds.max_trace_waiting.as_usize(),
            clock: self.clock,
            pages: Mutex::new(pages),
        });
        self.recording.store(Some(Arc::clone(&recording)));
        Some(recording)
    }

    /// Forgets the trace and with it the secret.
    fn forget(&self) {
        self.recording.store(None);
        self.on.store(false, Ordering::Release);
    }
}

/// A part of all 64-bit numbers.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a float saturates, which is what is meant"
)]
fn threshold(sample: f64) -> u64 {
    (sample * u64::MAX as f64) as u64
}

/// Headers that a key names, or that a core may choose by.
fn headers_told_apart_by(routes: &[Route]) -> impl Iterator<Item = String> {
    let parts = routes.iter().flat_map(|route| key_parts(route).map_or(&[][..], |(parts, _)| parts));
    let of_keys = parts.filter_map(|part| match part {
        KeyPart::Header(name) => Some(name.clone()),
        _ => None,
    });
    let of_vary = routes.iter().flat_map(|route| match &route.action {
        Action::Cache(cache) => &cache.vary[..],
        _ => &[],
    });
    of_keys.chain(of_vary.cloned())
}

/// What requests are sampled by: their key, or, where there is none, who asks, or for what.
fn digest(call: &Call<'_>) -> u64 {
    let key = key_parts(call.route).and_then(|(parts, scope)| CacheKey::of(parts, scope, call).ok());
    if let Some(key) = key {
        #[expect(clippy::cast_possible_truncation, reason = "half of the digest is enough to sample by")]
        return key.digest() as u64;
    }
    let agent = call.identity.agent.as_ref().map(weir_logic::AgentId::as_str);
    let tenant = call.identity.tenant.as_ref().map(weir_logic::TenantId::as_str);
    xxhash_rust::xxh3::xxh3_64(agent.or(tenant).unwrap_or(call.request.path).as_bytes())
}

fn key_parts(route: &Route) -> Option<(&[KeyPart], Scope)> {
    match &route.action {
        Action::Cache(cache) => Some((&cache.key, Scope::of(cache.shared))),
        Action::Lookup(lookup) => Some((&lookup.key, Scope::of(lookup.shared))),
        Action::Aggregate(_) | Action::Forward(_) => None,
    }
}

impl Sketch {
    /// The request is answered, after so long.
    pub(crate) fn answered<B>(&mut self, answer: &Answer<B>, took: Duration) {
        let Recording { veil, headers, clock, .. } = &*self.recording;
        self.line.answered(answer, veil, headers, clock.now(), took);
    }

    /// The core has answered a request that was passed through, after so long.
    pub(crate) fn forwarded(&mut self, status: u16, took: Duration) {
        self.line.status = Some(status);
        self.line.core = Some(Millis::default().after(took).0);
    }

    /// The request has ended.
    pub(crate) fn ended(mut self, outcome: Outcome, bytes: u64) {
        outcome.label().clone_into(&mut self.line.outcome);
        self.line.bytes = bytes;
        self.recording.write(&self.line);
    }
}

impl Recording {
    /// Milliseconds since it was begun.
    fn at(&self) -> u64 {
        Millis::default().after(self.clock.now().since(self.began)).0
    }

    fn write(&self, line: &impl Serialize) {
        let Ok(text) = serde_json::to_vec(line) else { return };
        let mut pages = self.pages.lock();
        if pages.ended {
            return;
        }
        if text.len() > MAX_LINE_BYTES {
            pages.too_long += 1;
        } else if pages.waiting.len() + text.len() > self.max_waiting {
            self.close(&mut pages, "reader");
        } else if pages.bytes + text.len() as u64 > self.max_bytes {
            self.close(&mut pages, "bytes");
        } else {
            pages.lines += 1;
            pages.add(&text);
        }
    }

    fn end(&self, why: &str) {
        self.close(&mut self.pages.lock(), why);
    }

    fn close(&self, pages: &mut Pages, why: &str) {
        if pages.ended {
            return;
        }
        pages.ended = true;
        let end = End {
            weir_trace_end: why.to_owned(),
            covered: self.at(),
            lines: pages.lines,
            too_long: pages.too_long,
            requests: std::mem::take(&mut pages.requests),
        };
        pages.put(&end);
    }

    /// What has been written since the last time; `None` when all has been read and nothing follows.
    fn take(&self) -> Option<Vec<u8>> {
        let mut pages = self.pages.lock();
        let waiting = std::mem::take(&mut pages.waiting);
        (!waiting.is_empty() || !pages.ended).then_some(waiting)
    }
}

impl Pages {
    fn count(&mut self, route: &str) {
        match self.requests.get_mut(route) {
            Some(count) => *count += 1,
            None => drop(self.requests.insert(route.to_owned(), 1)),
        }
    }

    fn put(&mut self, line: &impl Serialize) {
        if let Ok(text) = serde_json::to_vec(line) {
            self.add(&text);
        }
    }

    fn add(&mut self, text: &[u8]) {
        self.waiting.extend_from_slice(text);
        self.waiting.push(b'\n');
        self.bytes += text.len() as u64 + 1;
    }
}

#[cfg(test)]
mod tests;
