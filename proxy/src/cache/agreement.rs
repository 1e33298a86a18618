//! Before a new manifest is used: its payloads are fetched and compared with what it says of them.
//!
//! A payload goes through its own route's key, fill and store, as when an agent asks for it. One that takes the place of what the
//! manifest before it names is kept apart until the manifest is used. Whatever goes wrong, the fill of the manifest has failed, and
//! what is stored stays in use.

use std::borrow::Cow;
use std::sync::Arc;

use futures::{StreamExt, TryStreamExt};
use http::{HeaderMap, StatusCode};
use weir_config::{Action, AnswerStore, CacheRoute, KeyPart, Method, Payload, Route};
use weir_logic::cache::payload::{Named, named, target_on};
use weir_logic::cache::{Asking, CachePolicy, Meaning, Selection, is_intact};
use weir_logic::key::Scope;
use weir_logic::strict::target::Target;
use weir_logic::{
    CacheKey, Call, Digest, Found, Identity, Millis, Parameters, Refusal, RequestView, RouteTable, TenantId,
};

use super::Shell;
use super::entry::Entry;
use super::fill::{Heard, Landing, Order};
use super::flight::{Bounds, Joined};
use super::payloads::Claims;
use super::shelf::Found as Held;
use super::visit::Visit;
use crate::purging::Departure;
use crate::upstream::OriginAnswer;

/// Who asks for a manifest: its payloads are asked for in the same name.
#[derive(Clone, Debug)]
pub(super) struct Asker {
    pub(super) host: String,
    pub(super) tenant: Option<TenantId>,
}

/// What a fill must bring.
#[derive(Clone, Copy, Debug)]
pub(super) struct Expecting {
    pub(super) digest: Digest,
    /// Whether it is kept apart for now.
    pub(super) apart: bool,
}

/// Why a manifest is not used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Disagreement {
    /// What it names cannot be read.
    Unclear,
    /// A payload is somewhere else, or no cached route takes a request for it.
    Elsewhere,
    /// A payload's route tells answers apart by more than path, query and tenant, or paces their changes.
    Unfit,
    /// Another manifest in use says something else of a payload, or this one's previous release does, which some agents are still given.
    Contradiction,
    /// A payload cannot be fetched, may not be kept, or is not what the manifest says.
    NotThere,
}

impl Disagreement {
    /// The label in metrics.
    pub(super) const fn label(self) -> &'static str {
        match self {
            Self::Unclear => "unclear",
            Self::Elsewhere => "elsewhere",
            Self::Unfit => "unfit",
            Self::Contradiction => "contradiction",
            Self::NotThere => "not_there",
        }
    }
}

/// A manifest that is to be used.
pub(super) struct Manifest<'a> {
    pub(super) body: &'a [u8],
    pub(super) rule: &'a Payload,
    /// The route of the manifest.
    pub(super) route: &'a CacheRoute,
    pub(super) asker: &'a Asker,
    /// What the manifest in its place claims.
    pub(super) before: Option<&'a Claims>,
    /// The release before it, where that claims nothing: a start has found it on disk.
    pub(super) previous: Option<Arc<Entry>>,
    /// What its releases are known by.
    pub(super) variant: CacheKey,
}

/// Where a payload is on this node.
struct Place<'a> {
    route: &'a Arc<Route>,
    cached: &'a CacheRoute,
    target: Target<'a>,
    parameters: Parameters<'a>,
    headers: HeaderMap,
    identity: Identity,
}

/// A payload that is what it should be.
struct Secured {
    key: CacheKey,
    digest: Digest,
    store: AnswerStore,
    /// The answer, where it is not in the store yet.
    apart: Option<Arc<Entry>>,
}

impl Manifest<'_> {
    /// Has all payloads fetched, a few at a time, and puts them in use. The claims are to be held by the manifest's entry, which is to
    /// be stored at once: nothing may be awaited in between. Bounded by the caller's patience. Memory: the payloads that are kept
    /// apart, at most as many as the rule allows.
    pub(super) async fn agree(&self, shell: &Arc<Shell>) -> Result<Claims, Disagreement> {
        let list = named(self.body, self.rule).map_err(|unclear| {
            tracing::warn!(?unclear, "what a manifest names cannot be read");
            Disagreement::Unclear
        })?;
        let secured = futures::stream::iter(list).map(async |named| self.secure(shell, &named).await);
        let secured: Vec<Secured> = secured.buffer_unordered(AT_ONCE).try_collect().await?;
        let contradicts =
            |one: &Secured| secured.iter().any(|other| other.key == one.key && other.digest != one.digest);
        if secured.iter().any(contradicts) {
            return Err(Disagreement::Contradiction);
        }
        let mut claims: Vec<_> = secured.iter().map(|secured| (secured.key.clone(), secured.digest)).collect();
        claims.sort_unstable();
        claims.dedup();
        self.add_unclaimed(shell, &mut claims);
        let claims = shell.payloads.claim(claims, self.before).ok_or(Disagreement::Contradiction)?;
        let is_in_use = |Secured { key, digest, store, apart }: &Secured| match apart {
            Some(entry) => shell.keep(key, entry, 1),
            // While the others came it may have been replaced. From the claim on it cannot be.
            None => shell.held(key, &Selection::default(), *store).entry().is_some_and(|entry| is_it(entry, *digest)),
        };
        if secured.iter().all(is_in_use) { Ok(claims) } else { Err(Disagreement::NotThere) }
    }

    /// Claims what the release before it names and nobody claims. Where the two name different digests for one URL the payload of that
    /// release is gone: then nobody is given it any more.
    fn add_unclaimed(&self, shell: &Shell, claims: &mut Vec<(CacheKey, Digest)>) {
        let Some(previous) = &self.previous else { return };
        let table = shell.table.load();
        for Named { url, digest } in named(previous.body(), self.rule).unwrap_or_default() {
            let key = self.asker.place(&table, &url).and_then(|place| place.key(&place.call(Millis::default())));
            let Ok(key) = key else { continue };
            match claims.iter().find(|(known, _)| *known == key) {
                Some((_, claimed)) if *claimed == digest => {}
                Some(_) => {
                    tracing::warn!(url, "a release that a start has found is given up: its payload has been replaced");
                    shell.rollouts.forget(&self.variant);
                    return;
                }
                None => claims.push((key, digest)),
            }
        }
    }

    async fn secure(&self, shell: &Arc<Shell>, named: &Named) -> Result<Secured, Disagreement> {
        let secured = self.secured(shell, named).await;
        if let Err(why) = &secured {
            tracing::warn!(url = named.url, digest = %named.digest, cause = why.label(), "a manifest waits for its payload");
        }
        secured
    }

    async fn secured(&self, shell: &Arc<Shell>, named: &Named) -> Result<Secured, Disagreement> {
        let table = shell.table.load_full();
        let place = self.asker.place(&table, &named.url)?;
        let (cached, call) = (place.cached, place.call(shell.clock.now()));
        let key = place.key(&call)?;
        let (lane, found) = (Cow::Borrowed(&key), Held::Nothing);
        let (selection, asking) = (Selection::default(), Asking::default());
        let visit = Visit { shell, call: &call, route: cached, key: &key, selection, lane, found, asking };
        let apart = self.fetched(&visit, named.digest).await?;
        Ok(Secured { key, digest: named.digest, store: cached.store, apart })
    }

    /// Sees to it that the payload is in the store, or gives it where it must be kept apart.
    async fn fetched(&self, visit: &Visit<'_>, digest: Digest) -> Result<Option<Arc<Entry>>, Disagreement> {
        let shell = visit.shell;
        for round in 1..=2 {
            let held = shell.held_sound(visit.key, &visit.selection, visit.route.store).await;
            if held.entry().is_some_and(|entry| is_it(entry, digest)) {
                return Ok(None);
            }
            let (claimed, by_others) = shell.payloads.stands_against(visit.key, digest, self.before);
            // While a release is on its way some agents are given the manifest before it.
            if by_others || (claimed && self.route.rollout.is_some()) {
                return Err(Disagreement::Contradiction);
            }
            let expecting = Expecting { digest, apart: claimed };
            let named = ("weir-payload", Some(&digest.0[..]));
            let lane = if claimed { visit.key.variant([named].into_iter()) } else { visit.key.clone() };
            let limits = shell.limits.load_full();
            let bounds = Bounds { seats: limits.max_waiters, flights: limits.max_keys };
            let (mut seat, mine) = match shell.flights.join(&lane, bounds, || None::<()>) {
                Joined::Lead(ticket, seat) => {
                    visit.launch(lane, ticket, Some(expecting)).map_err(|_| Disagreement::Unfit)?;
                    (seat, true)
                }
                Joined::Follow(seat) => (seat, false),
                Joined::Crowded | Joined::Settled(()) => return Err(Disagreement::NotThere),
            };
            match seat.end().await {
                Some(Landing::Stored(entry)) if is_it(entry, digest) => {
                    return Ok(claimed.then(|| Arc::clone(entry)));
                }
                // Somebody else's fill, which did not know what to bring.
                _ if !mine && round == 1 => {}
                _ => return Err(Disagreement::NotThere),
            }
        }
        Err(Disagreement::NotThere)
    }
}

fn is_it(entry: &Entry, digest: Digest) -> bool {
    entry.status() == 200 && entry.has_digest(digest)
}

impl Asker {
    /// Where the payload with this URL is, if on this node at all.
    fn place<'a>(&'a self, table: &'a RouteTable, url: &'a str) -> Result<Place<'a>, Disagreement> {
        let target = target_on(url, &self.host).ok_or(Disagreement::Elsewhere)?;
        let Found::Route { route, parameters, .. } = table.find(Method::Get, target.host, target.path) else {
            return Err(Disagreement::Elsewhere);
        };
        let Action::Cache(cached) = &route.action else { return Err(Disagreement::Elsewhere) };
        if !is_fit(cached) {
            return Err(Disagreement::Unfit);
        }
        let identity = Identity { agent: None, tenant: self.tenant.clone() };
        Ok(Place { route, cached, target, parameters, headers: HeaderMap::new(), identity })
    }
}

impl Place<'_> {
    /// The request for it, as an agent that says nothing else sends it.
    fn call(&self, now: Millis) -> Call<'_> {
        let request = RequestView {
            method: Method::Get,
            path: self.target.path,
            query: self.target.query,
            host: self.target.host,
            headers: &self.headers,
            body: b"",
        };
        Call { request, route: self.route, parameters: &self.parameters, identity: &self.identity, now }
    }

    fn key(&self, call: &Call<'_>) -> Result<CacheKey, Disagreement> {
        CacheKey::of(&self.cached.key, Scope::of(self.cached.shared), call).map_err(|_| Disagreement::Unfit)
    }
}

/// Whether all agents of a tenant that ask for the same target get the same answer at the same time.
fn is_fit(route: &CacheRoute) -> bool {
    let told_apart = |part: &KeyPart| matches!(part, KeyPart::Path(_) | KeyPart::Query(_) | KeyPart::Tenant);
    route.vary.is_empty() && route.rollout.is_none() && route.key.iter().all(told_apart)
}

/// Payloads of one manifest that are fetched at once.
const AT_ONCE: usize = 4;

impl Order {
    /// Understands an answer, once the payloads that it names are there.
    pub(super) async fn taken(
        &self,
        shell: &Arc<Shell>,
        route: &CacheRoute,
        departure: &Departure,
        mut heard: Heard,
    ) -> Landing {
        if let Some(rule) = &route.payload {
            match self.agreed(shell, route, rule, &heard.answer).await {
                Ok(claims) => heard.claims = claims,
                Err(why) => {
                    let faults = &shell.metrics.payload_faults;
                    faults.with_label_values(&[self.route.name.as_str(), why.label()]).inc();
                    return self.failed(shell, Refusal::CoreBroken, Some(heard.answer.status.as_u16()), None);
                }
            }
        }
        self.understood(shell, CachePolicy::of(route), departure, &heard)
    }

    /// What a manifest claims, with all of it in use; `None` for what is no manifest.
    async fn agreed(
        &self,
        shell: &Arc<Shell>,
        route: &CacheRoute,
        rule: &Payload,
        answer: &OriginAnswer,
    ) -> Result<Option<Arc<Claims>>, Disagreement> {
        let OriginAnswer { status, headers, body } = answer;
        let meaning = CachePolicy::of(route).meaning(status.as_u16(), headers, false);
        let good = matches!(meaning, Meaning::Store | Meaning::PassOn(_)) && is_intact(status.as_u16(), headers, body);
        if *status != StatusCode::OK || !good {
            return Ok(None);
        }
        let held = self.held.as_ref().filter(|held| shell.purging.allows(&self.key, held.stamp()));
        let before = held.and_then(|held| held.claims());
        if before.is_some() && held.is_some_and(|held| held.digest() == Digest::of(body)) {
            return Ok(before.cloned());
        }
        let _waiting = shell.payloads.wait_for(&self.lane);
        let before = before.map(|claims| &**claims);
        let variant = self.selection.chosen_by(headers).key(&self.key);
        let unclaimed = |previous: &Arc<Entry>| previous.claims().is_none() && previous.digest() != Digest::of(body);
        let previous = route.rollout.and_then(|_| shell.rollouts.previous(&variant)).filter(unclaimed);
        let manifest = Manifest { body, rule, route, asker: &self.asker, before, previous, variant };
        manifest.agree(shell).await.map(|claims| Some(Arc::new(claims)))
    }

    /// What a manifest says that the answer is, if one names it. What is not kept apart must be what those in use say.
    pub(super) fn expected(&self, shell: &Shell) -> Option<Digest> {
        match self.expecting {
            Some(Expecting { digest, apart: true }) => Some(digest),
            Some(Expecting { digest, .. }) => shell.payloads.claimed(&self.key).or(Some(digest)),
            None => shell.payloads.expected(&self.key),
        }
    }

    /// Whether a manifest says that the answer is another: one in use, or the one that has it fetched.
    pub(super) fn is_another(&self, shell: &Shell, entry: &Entry) -> bool {
        let Some(expected) = self.expected(shell) else { return false };
        let another = entry.status() != 200 || !entry.has_digest(expected);
        if another {
            shell.metrics.payload_faults.with_label_values(&[self.route.name.as_str(), "another"]).inc();
            tracing::warn!(route = self.route.name, path = entry.stamp().marks().path(), %expected, "a payload is another");
        }
        another
    }
}
