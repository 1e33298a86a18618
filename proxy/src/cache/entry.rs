//! A kept answer, ready to be given again.

use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;
use http::header::{AGE, CONTENT_ENCODING, CONTENT_RANGE, ETAG, HeaderValue, RANGE};
use weir_logic::cache::conditional;
use weir_logic::cache::purge::Marks;
use weir_logic::cache::range::{Part, Recognised, content_range, part};
use weir_logic::cache::sieve::Sieve;
use weir_logic::cache::{
    Arrival, CACHE_STATUS, CachePolicy, CacheStatus, Census, Freshness, Kept, Lease, Selection, TagFrom, Validators,
    age, kept, merged,
};
use weir_logic::heap::{allocation, shared, table_place};
use weir_logic::{CacheKey, Digest, Field, Fields, Lender, Millis, Outcome, RequestView};

use super::handout::Handout;
use super::packages::Package;
use super::payloads::Claims;
use super::shelf::Shelf;
use crate::answer::{Answer, Body, Hit};
use crate::purging::Stamp;

/// A core's answer as agents are given it. It never changes; a confirmation makes a new one that shares the body.
#[derive(Debug)]
pub(super) struct Entry {
    arrival: Arrival,
    kept: Kept,
    content: Content,
    /// Of a body in memory; made when it is first asked for, which may be long after it was stored. So it has its place from the start,
    /// and the footprint stays what it was.
    digest: OnceLock<Digest>,
    /// What it says of its payloads, where it is a manifest.
    claims: Option<Arc<Claims>>,
    stamp: Stamp,
    /// The headers of the request that the core has chosen it by.
    selection: Selection,
    /// Whether it was asked for since the evictor last looked.
    visited: AtomicBool,
}

/// Where the body is.
#[derive(Clone, Debug)]
enum Content {
    Memory(Bytes),
    Disk(Arc<Package>),
}

impl Entry {
    /// The answer that has arrived, its body in memory of its own. Headers are copied, so that no network buffer is held on to.
    pub(super) fn new(arrival: Arrival, headers: &HeaderMap, body: Bytes, stamp: Stamp, selection: Selection) -> Self {
        let body = if body.len() < KEPT_AS_READ { Bytes::copy_from_slice(&body) } else { body };
        Self::with(arrival, headers, Content::Memory(body), stamp, selection)
    }

    /// The answer of status 200 to everyone with its key whose body is on disk, or on its way there.
    pub(super) fn on_disk(arrival: Arrival, headers: &HeaderMap, package: Arc<Package>, stamp: Stamp) -> Self {
        Self::with(arrival, headers, Content::Disk(package), stamp, Selection::default())
    }

    /// The same answer, whose headers from the core are `headers`, with what is known of its body by now: without an `ETag` of the core
    /// agents are given one of the node.
    pub(super) fn settled(self: &Arc<Self>, headers: &HeaderMap) -> Arc<Self> {
        if self.kept.etag().is_some() {
            return Arc::clone(self);
        }
        let (content, claims) = (self.content.clone(), self.claims.clone());
        let entry = Self::with(self.arrival, headers, content, self.stamp.clone(), self.selection.clone());
        Arc::new(entry.claiming(claims))
    }

    /// This answer, confirmed by the core for a request that says `selection`. `headers` is what [`Entry::merged`] gave, and `arrival`
    /// that of the confirmation.
    pub(super) fn confirmed(&self, arrival: Arrival, headers: &HeaderMap, stamp: Stamp, selection: Selection) -> Self {
        let (digest, claims) = (self.digest.clone(), self.claims.clone());
        Self { digest, claims, ..Self::with(arrival, headers, self.content.clone(), stamp, selection) }
    }

    fn with(arrival: Arrival, headers: &HeaderMap, content: Content, stamp: Stamp, selection: Selection) -> Self {
        let tag = match &content {
            Content::Memory(body) if arrival.status == 200 => TagFrom::Bytes(body),
            Content::Memory(_) => TagFrom::Nowhere,
            Content::Disk(package) => package.digest().map_or(TagFrom::Later, TagFrom::Digest),
        };
        let kept = kept(headers, tag);
        Self {
            arrival,
            kept,
            content,
            digest: OnceLock::new(),
            claims: None,
            stamp,
            selection,
            visited: AtomicBool::new(false),
        }
    }

    /// The same with what it says of its payloads.
    pub(super) fn claiming(self, claims: Option<Arc<Claims>>) -> Self {
        Self { claims, ..self }
    }

    pub(super) fn claims(&self) -> Option<&Arc<Claims>> {
        self.claims.as_ref()
    }

    /// Its body, where that is on disk.
    pub(super) fn package(&self) -> Option<&Arc<Package>> {
        match &self.content {
            Content::Memory(_) => None,
            Content::Disk(package) => Some(package),
        }
    }

    /// It is in a store.
    pub(super) fn placed(&self) {
        if let Some(package) = self.package() {
            package.placed();
        }
    }

    /// It is not in that store any more.
    pub(super) fn displaced(&self) {
        if let Some(package) = self.package() {
            package.displaced();
        }
    }

    /// The headers after the core's confirmation.
    pub(super) fn merged(&self, confirmation: &HeaderMap) -> HeaderMap {
        merged(&self.kept, confirmation)
    }

    pub(super) fn status(&self) -> u16 {
        self.arrival.status
    }

    pub(super) fn age(&self, now: Millis) -> Duration {
        self.arrival.age(now)
    }

    /// The length of the body; zero while it is not known.
    pub(super) fn body_len(&self) -> usize {
        self.length().unwrap_or(0)
    }

    /// The SHA-256 of a body in memory. The first call takes a pass over it.
    pub(super) fn digest(&self) -> Digest {
        *self.digest.get_or_init(|| Digest::of(self.body()))
    }

    /// Whether the body is whole and has that SHA-256.
    pub(super) fn has_digest(&self, digest: Digest) -> bool {
        match &self.content {
            Content::Memory(_) => self.digest() == digest,
            Content::Disk(package) => package.digest() == Some(&digest),
        }
    }

    /// The body, where that is in memory.
    pub(super) fn body(&self) -> &[u8] {
        match &self.content {
            Content::Memory(body) => body,
            Content::Disk(_) => &[],
        }
    }

    pub(super) fn arrival(&self) -> &Arrival {
        &self.arrival
    }

    /// What agents are given besides the body.
    pub(super) fn headers(&self) -> &[Field] {
        &self.kept.headers
    }

    /// The same without an entity tag that is the node's own.
    pub(super) fn headers_of_core(&self) -> impl Iterator<Item = &Field> {
        self.kept.headers.iter().filter(|(name, _)| !(self.kept.own_tag && *name == ETAG))
    }

    pub(super) fn validators(&self) -> Validators {
        self.kept.validators()
    }

    /// What it was chosen by; empty where it serves everyone with the key.
    pub(super) fn selection(&self) -> &Selection {
        &self.selection
    }

    /// The entity tag by which the core may choose it for another request: a strong one of a body that is in no encoding, as there
    /// are servers that give all encodings of a body the same.
    pub(super) fn tag_for_others(&self) -> Option<&HeaderValue> {
        let encoded = || self.kept.headers.iter().any(|(name, _)| *name == CONTENT_ENCODING);
        self.kept.strong_etag().filter(|_| self.status() == 200 && !encoded())
    }

    pub(super) fn freshness(&self, policy: CachePolicy<'_>, now: Millis) -> Freshness {
        policy.freshness(&self.arrival, self.stamp.outdated(), now)
    }

    /// What the policy grants it, whatever its age.
    pub(super) fn lease(&self, policy: CachePolicy<'_>) -> Lease {
        policy.lease(self.arrival.status, &self.arrival.terms)
    }

    /// The memory that this entry takes under a key of `key_len` bytes, places in tables and the census included, and with the body on disk the room there. Never less than the truth, in an
    /// allocator that is not in pieces: `cargo run --release --bin cache` weighs it.
    pub(super) fn footprint(&self, key_len: usize) -> usize {
        let marks = self.stamp.marks();
        let own = [
            OWN_BYTES,
            shared(self.body_len()),
            self.kept.bytes(),
            allocation(COUNTS + size_of::<Marks>()) + marks.bytes(),
            shared(key_len),
            self.selection.bytes(),
            self.claims.as_ref().map_or(0, |claims| claims.bytes()),
        ];
        let shelf = if self.selection.is_empty() { 0 } else { Shelf::VARIANT_BYTES };
        own.into_iter().sum::<usize>() + shelf + marks.iter().count() * Census::PLACE_BYTES
    }

    /// What it can be purged by.
    pub(super) fn stamp(&self) -> &Stamp {
        &self.stamp
    }

    pub(super) fn visit(&self) {
        if !self.visited.load(Ordering::Relaxed) {
            self.visited.store(true, Ordering::Relaxed);
        }
    }

    /// Whether it was asked for since this was last called.
    pub(super) fn take_visit(&self) -> bool {
        self.visited.swap(false, Ordering::Relaxed)
    }

    /// The answer to `request`: 304 when the agent says that it holds this one, 206 or 416 when it asks for a part.
    pub(super) fn answer(
        self: &Arc<Self>,
        request: &RequestView<'_>,
        now: Millis,
        status: &CacheStatus,
        outcome: Outcome,
    ) -> Answer {
        let Given { status: code, headers, body, range } = self.given(request);
        let headers = Fields::lent(Arc::clone(self) as Arc<dyn Lender>, headers, MAX_OWN_FIELDS);
        let mut answer = Answer { status: code, headers, body, outcome, cause: None, wait: None };
        answer.headers.extend(range.map(|range| (CONTENT_RANGE, range)));
        let total_age = self.age(now);
        let from_the_core_itself = matches!(outcome, Outcome::Miss | Outcome::Bypass) && total_age.as_secs() == 0;
        if !from_the_core_itself {
            answer.headers.push((AGE, age(total_age)));
        }
        answer.headers.push((CACHE_STATUS, status.value()));
        answer
    }

    /// The same for one of many who waited for it, and who share what they are told alike.
    pub(super) fn handed_out(
        self: &Arc<Self>,
        request: &RequestView<'_>,
        now: Millis,
        status: &CacheStatus,
        outcome: Outcome,
        handout: &Handout,
    ) -> Answer {
        let whole = !conditional::has_condition(request) && request.headers.known(&RANGE).is_none();
        if let Content::Memory(body) = &self.content
            && whole
            && let Some((headers, body)) = handout.share(self, body, self.age(now), status)
        {
            return Answer { status: self.status(), headers, body: body.into(), outcome, cause: None, wait: None };
        }
        self.answer(request, now, status, outcome)
    }

    /// The answer to `request` as a hit that is fresh for `ttl` seconds more; `None` where it is on disk, or the request asks for a part.
    pub(super) fn hit(self: &Arc<Self>, request: &RequestView<'_>, now: Millis, ttl: i64) -> Option<Hit> {
        if self.package().is_some() || request.headers.known(&RANGE).is_some() {
            return None;
        }
        let Given { status, headers: fields, body: Body::Whole(body), range: None } = self.given(request) else {
            return None;
        };
        Some(Hit {
            status,
            age: self.age(now),
            length: body.len() as u64,
            lender: Arc::clone(self) as Arc<dyn Lender>,
            fields,
            body,
            ttl,
        })
    }

    fn given(&self, request: &RequestView<'_>) -> Given {
        let all = self.kept.headers.len();
        let whole = || Given { status: self.status(), headers: all, body: self.part(None), range: None };
        if !(200..300).contains(&self.status()) {
            return whole();
        }
        let conditional = conditional::has_condition(request);
        if conditional && conditional::is_current(request, self.kept.etag(), self.kept.last_modified()) {
            let headers = self.kept.in_not_modified;
            return Given { status: 304, headers, body: Body::Whole(Bytes::new()), range: None };
        }
        if self.status() != 200 || request.headers.known(&RANGE).is_none() {
            return whole();
        }
        let made = Millis(self.arrival.stored.0.saturating_sub(whole_millis(self.arrival.terms.age)));
        let recognised = Recognised { etag: self.kept.etag(), last_modified: self.kept.last_modified(), made };
        // A part of what is on its way, and whose length nobody knows yet, cannot be named.
        let Some(length) = self.length() else { return whole() };
        match part(request, length, recognised) {
            Part::Whole => whole(),
            Part::Bytes(bytes) => {
                let range = Some(content_range(Some(&bytes), length));
                Given { status: 206, headers: all, body: self.part(Some(bytes)), range }
            }
            Part::Unsatisfiable => {
                let range = Some(content_range(None, length));
                Given { status: 416, headers: 0, body: Body::Whole(Bytes::new()), range }
            }
        }
    }

    fn length(&self) -> Option<usize> {
        match &self.content {
            Content::Memory(body) => Some(body.len()),
            Content::Disk(package) => package.length().map(|length| usize::try_from(length).unwrap_or(usize::MAX)),
        }
    }

    /// The part of the body; all of it without a range.
    fn part(&self, range: Option<Range<usize>>) -> Body {
        match &self.content {
            Content::Memory(body) => Body::Whole(range.map_or_else(|| body.clone(), |range| body.slice(range))),
            Content::Disk(package) => {
                Body::Stream(package.read(range.map(|range| range.start as u64..range.end as u64)))
            }
        }
    }
}

impl Lender for Entry {
    fn fields(&self) -> &[Field] {
        &self.kept.headers
    }

    fn marks(&self) -> &Marks {
        self.stamp.marks()
    }
}

/// What a request is given of an entry.
struct Given {
    status: u16,
    /// How many of its headers, from the first on.
    headers: usize,
    body: Body,
    range: Option<HeaderValue>,
}

fn whole_millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// A smaller body is copied once more: what lies beside the first copy is gone after the fill, and would leave a hole that the next body
/// does not fit into. The hole of a larger one is what costs most, as smaller things settle in it.
const KEPT_AS_READ: usize = 4 * 1024;

/// `Content-Range`, `Age` and `Cache-Status`, and one that whoever writes the answer may add.
const MAX_OWN_FIELDS: usize = 4;

/// What an answer for everyone with its key takes, its body, headers and key and what it can be purged by left out.
pub(super) const OWN_BYTES: usize = allocation(COUNTS + size_of::<Entry>()) + PLACE_BYTES;

/// The reference counts beside what an `Arc` holds.
const COUNTS: usize = 2 * size_of::<usize>();

/// An entry's places in the map and in the evictor's list, which double when they are full.
const PLACE_BYTES: usize =
    table_place(size_of::<(CacheKey, Shelf)>()) + 2 * Sieve::<(CacheKey, Arc<Entry>)>::SLOT_BYTES;
