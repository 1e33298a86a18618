//! A request that found nothing fresh.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use weir_config::CacheRoute;
use weir_logic::cache::purge::Marks;
use weir_logic::cache::{Asking, CACHE_STATUS, CachePolicy, CacheStatus, FillRequest, Freshness, Hold, Selection};
use weir_logic::key::KeyError;
use weir_logic::{CacheKey, Call, Cause, Millis, Outcome, Refusal, TenantId, calm};

use super::agreement::{Asker, Expecting};
use super::entry::Entry;
use super::fill::{Failure, Landing, Order};
use super::flight::{Bounds, Joined, Ticket, Told};
use super::handout::Handout;
use super::rollouts::Asked;
use super::shelf::Found;
use super::{Shell, refused};
use crate::answer::{Answer, Body};
use crate::task;

/// One request with what the store holds for it: nothing, or something that will not do as it is.
pub(super) struct Visit<'a> {
    pub(super) shell: &'a Arc<Shell>,
    pub(super) call: &'a Call<'a>,
    pub(super) route: &'a CacheRoute,
    pub(super) key: &'a CacheKey,
    /// What it says in the headers that the core may choose by.
    pub(super) selection: Selection,
    /// The key of the fill that it shares with others.
    pub(super) lane: Cow<'a, CacheKey>,
    pub(super) found: Found,
    /// What the agent asks for besides; the default where the route does not obey its agents.
    pub(super) asking: Asking,
}

/// What made a fill needless between a request's look at the store and its turn.
enum Settled {
    /// Another fill has stored a fresh answer.
    Fresh(Arc<Entry>),
    /// Another fill has failed.
    Held(Hold),
}

/// Whether this request started the fill whose answer it gets.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Role {
    Leader,
    Follower,
}

impl Visit<'_> {
    pub(super) async fn answer(&self) -> Answer {
        let now = self.call.now;
        if let Some(waiting) = self.while_payloads_come(CacheStatus::NONE) {
            return waiting;
        }
        let hold = self.shell.holds.find(&self.lane);
        let held_back = hold.is_some_and(|hold| hold.holds(now));
        if let Some((entry, freshness)) = self.held(now)
            && let Freshness::Stale { past, while_revalidate, if_error } = freshness
            && ((while_revalidate && self.asking.waits_for_nothing(entry.age(now)))
                || (if_error && hold.is_some())
                || self.asking.takes_stale(past))
        {
            if !held_back && !self.asking.only_if_cached {
                self.fill_behind();
            }
            let detail = hold.map(|_| "core-failing");
            let status = CacheStatus { detail, ..CacheStatus::hit(freshness.ttl()) };
            let cause = if hold.is_some() { Cause::CoreFailing } else { Cause::Revalidating };
            return self.give(entry, now, &status, Outcome::Stale).because(cause);
        }
        if self.asking.only_if_cached {
            return self.not_stored();
        }
        if held_back {
            return self.without_the_core(Refusal::CoreUnavailable, Cause::CoreFailing, CacheStatus::NONE, hold);
        }
        self.wait().await
    }

    /// Joins a fill, or starts it, and answers with what it brings. A fill that dies, or that brings an answer chosen for somebody
    /// else, is followed by another once, which only those share who say the same in all that the core may choose by.
    pub(super) async fn wait(&self) -> Answer {
        for round in 1..=MAX_FILLS_AWAITED {
            let lane = if round == 1 { Cow::Borrowed(&*self.lane) } else { Cow::Owned(self.selection.key(self.key)) };
            let (role, mut seat) = match self.join(&lane, self.shell.limits.load().max_keys) {
                Joined::Lead(ticket, seat) => match self.launch(CacheKey::clone(&lane), ticket, None) {
                    Ok(()) => (Role::Leader, seat),
                    Err(error) => return refused(error.into(), error.detail()),
                },
                Joined::Follow(seat) => (Role::Follower, seat),
                Joined::Crowded => {
                    return self.without_the_core(Refusal::Overloaded, Cause::Crowded, CacheStatus::NONE, None);
                }
                Joined::Settled(Settled::Fresh(entry)) => return self.just_filled(&entry),
                Joined::Settled(Settled::Held(hold)) => {
                    return self.without_the_core(
                        Refusal::CoreUnavailable,
                        Cause::CoreFailing,
                        CacheStatus::NONE,
                        Some(hold),
                    );
                }
            };
            if seat.is_overdue()
                && let Some(stale) = self.stale(Cause::FillOverdue, self.forwarded(role))
            {
                return stale;
            }
            match seat.landing(self.patience()).await {
                // What a purge has hit on its way is not for those who came after the purge: they ask once more.
                Told::Landing(landing, _) if round < MAX_FILLS_AWAITED && !self.is_for_me(landing) => {
                    seat.part(&self.shell.flights, &lane);
                }
                Told::Landing(landing, handout) => return self.landed(landing, role, handout),
                Told::Death => {}
                Told::Overdue => {
                    seat.call_overdue();
                    if let Some(waiting) = self.while_payloads_come(self.forwarded(role)) {
                        return waiting;
                    }
                    return self.without_the_core(Refusal::CoreTimeout, Cause::FillOverdue, self.forwarded(role), None);
                }
            }
        }
        self.without_the_core(Refusal::CoreBroken, Cause::FillFailed, self.forwarded(Role::Leader), None)
    }

    /// Starts the key's fill, unless it is under way, without waiting for it.
    fn fill_behind(&self) {
        if let Joined::Lead(ticket, _seat) = self.join(&self.lane, self.shell.limits.load().max_waiters)
            && let Err(error) = self.launch(CacheKey::clone(&self.lane), ticket, None)
        {
            tracing::debug!(route = self.call.route.name, cause = error.detail(), "no fill for a stale answer");
        }
    }

    fn join(&self, lane: &CacheKey, flights: usize) -> Joined<Settled> {
        let bounds = Bounds { seats: self.shell.limits.load().max_waiters, flights };
        self.shell.flights.join(lane, bounds, || {
            let now = self.shell.clock.now();
            if let Some(hold) = self.shell.holds.find(lane).filter(|hold| hold.holds(now)) {
                return Some(Settled::Held(hold));
            }
            let found = self.shell.held(self.key, &self.selection, self.route.store);
            let entry = found.entry()?;
            let freshness = entry.freshness(CachePolicy::of(self.route), now);
            let fresh = matches!(freshness, Freshness::Fresh { .. });
            (fresh && self.asking.accepts(&freshness, entry.age(now))).then(|| Settled::Fresh(Arc::clone(entry)))
        })
    }

    /// Starts the fill of a lane. One that expects something brings that or fails.
    pub(super) fn launch(&self, lane: CacheKey, ticket: Ticket, expecting: Option<Expecting>) -> Result<(), KeyError> {
        let order = Order {
            key: self.key.clone(),
            selection: self.selection.clone(),
            lane,
            route: Arc::clone(self.call.route),
            request: FillRequest::of(self.call, self.route)?,
            marks: self.marks(),
            held: self.found.entry().cloned(),
            max_variants: self.route.max_variants,
            // What a manifest names is put in use together with it.
            storing: !self.asking.no_store || self.route.payload.is_some(),
            expecting,
            asker: self.asker(),
        };
        // The ticket tells the end of the fill, and its death as well.
        drop(task::spawn("fill", order.run(Arc::clone(self.shell), ticket)));
        Ok(())
    }

    fn asker(&self) -> Asker {
        let tenant = self.call.identity.tenant.clone().filter(|_| !self.route.shared);
        Asker { host: self.call.request.host.to_owned(), tenant }
    }

    /// What is stored, whatever its age, while a newer answer waits for what it names.
    fn while_payloads_come(&self, status: CacheStatus) -> Option<Answer> {
        if self.route.payload.is_none() || !self.shell.payloads.are_awaited(&self.lane) {
            return None;
        }
        let now = self.shell.clock.now();
        let (entry, freshness) = self.held(now)?;
        let (hit, ttl) = (status.fwd.is_none(), Some(freshness.ttl()));
        let status = CacheStatus { hit, ttl, detail: Some(Cause::PayloadPending.label()), ..status };
        Some(self.give(entry, now, &status, Outcome::Stale).because(Cause::PayloadPending))
    }

    fn landed(&self, landing: &Landing, role: Role, handout: &Handout) -> Answer {
        let forwarded = self.forwarded(role);
        match *landing {
            Landing::Stored(ref entry) => {
                let status = CacheStatus { fwd_status: Some(entry.status()), stored: true, ..forwarded };
                self.filled(entry, status, role.outcome(Outcome::Miss), handout)
            }
            Landing::Confirmed(ref entry) => {
                let status = CacheStatus { fwd_status: Some(304), ..forwarded };
                self.filled(entry, status, role.outcome(Outcome::Revalidated), handout)
            }
            Landing::PassedOn(ref entry, why) => {
                let status = CacheStatus { fwd_status: Some(entry.status()), detail: Some(why.label()), ..forwarded };
                self.passed_on(entry, status, role, Cause::Unstorable(why))
            }
            Landing::Refused(ref entry) => {
                let status = CacheStatus { fwd_status: Some(entry.status()), detail: Some("refused"), ..forwarded };
                let stale = self.stale(Cause::CoreRefuses, CacheStatus { detail: None, ..status });
                stale.unwrap_or_else(|| self.passed_on(entry, status, role, Cause::Refused))
            }
            Landing::Failed(Failure { refusal, status, hold }) => {
                let status = CacheStatus { fwd_status: status, ..forwarded };
                self.without_the_core(refusal, Cause::FillFailed, status, Some(hold))
            }
        }
    }

    /// What the agent is given who would be given `entry`: that, or the release before it while it is not the agent's turn.
    pub(super) fn give(&self, entry: &Arc<Entry>, now: Millis, status: &CacheStatus, outcome: Outcome) -> Answer {
        let Some(previous) = self.previous(entry, now) else {
            return entry.answer(&self.call.request, now, status, outcome);
        };
        let status = CacheStatus { detail: Some("rollout-previous"), ..*status };
        previous.answer(&self.call.request, now, &status, outcome)
    }

    fn previous(&self, entry: &Entry, now: Millis) -> Option<Arc<Entry>> {
        let agent = self.call.identity.agent.as_ref();
        let asked = Asked { key: self.key, route: &self.call.route.name, pacing: self.route.rollout?, agent, now };
        let previous = self.shell.rollouts.instead(&asked, entry)?;
        let usable = self.shell.purging.allows(self.key, previous.stamp());
        if !usable {
            self.shell.rollouts.forget(&entry.selection().key(self.key));
        }
        usable.then_some(previous)
    }

    fn filled(&self, entry: &Arc<Entry>, status: CacheStatus, outcome: Outcome, handout: &Handout) -> Answer {
        let now = self.shell.clock.now();
        let ttl = entry.freshness(CachePolicy::of(self.route), now).ttl();
        let status = CacheStatus { ttl: Some(ttl), ..status };
        // Who has started the fill is told so.
        if outcome == Outcome::Coalesced && self.route.rollout.is_none() {
            return entry.handed_out(&self.call.request, now, &status, outcome, handout);
        }
        self.give(entry, now, &status, outcome)
    }

    fn passed_on(&self, entry: &Arc<Entry>, status: CacheStatus, role: Role, cause: Cause) -> Answer {
        let outcome = role.outcome(Outcome::Bypass);
        self.give(entry, self.shell.clock.now(), &status, outcome).because(cause)
    }

    fn just_filled(&self, entry: &Arc<Entry>) -> Answer {
        let now = self.shell.clock.now();
        let ttl = entry.freshness(CachePolicy::of(self.route), now).ttl();
        self.give(entry, now, &CacheStatus::hit(ttl), Outcome::Hit)
    }

    /// What there is to say when the core does not help: the stale answer, the calm one, or when to come back.
    fn without_the_core(&self, refusal: Refusal, cause: Cause, status: CacheStatus, hold: Option<Hold>) -> Answer {
        if let Some(stale) = self.stale(cause, status) {
            return stale;
        }
        if let Some(calm) = &self.route.calm {
            let status = CacheStatus { detail: Some("calm"), ..status };
            return calm::answer(calm).with(CACHE_STATUS, status.value()).map_body(Body::from);
        }
        let status = CacheStatus { detail: Some(refusal.label()), ..status };
        let rest = hold.map_or(Duration::ZERO, |hold| hold.until.since(self.shell.clock.now()));
        let answer = refusal.answer("nothing stored can stand in for the core", rest);
        answer.with(CACHE_STATUS, status.value()).map_body(Body::from)
    }

    /// The agent wants nothing that has to be asked for (RFC 9111, section 5.2.1.7).
    fn not_stored(&self) -> Answer {
        let status = CacheStatus { detail: Some(Refusal::NotStored.label()), ..CacheStatus::NONE };
        refused(Refusal::NotStored, "only-if-cached").with(CACHE_STATUS, status.value())
    }

    /// What is stored, if it may be served while the core fails. For an agent that insisted on another it may still be fresh.
    fn stale(&self, cause: Cause, status: CacheStatus) -> Option<Answer> {
        let now = self.shell.clock.now();
        let (entry, freshness) = self.held(now).filter(|(_, freshness)| freshness.serves_errors())?;
        let hit = status.fwd.is_none();
        let status = CacheStatus { hit, ttl: Some(freshness.ttl()), ..status };
        if matches!(freshness, Freshness::Fresh { .. }) {
            let status = CacheStatus { detail: Some("core-failing"), ..status };
            return Some(self.give(entry, now, &status, Outcome::Hit));
        }
        let status = CacheStatus { detail: Some("stale-if-error"), ..status };
        Some(self.give(entry, now, &status, Outcome::Stale).because(cause))
    }

    /// Whether what a fill has brought is chosen by what this request says, and not purged meanwhile.
    fn is_for_me(&self, landing: &Landing) -> bool {
        landing.entry().is_none_or(|entry| {
            entry.selection().answers(&self.selection) && self.shell.purging.allows(self.key, entry.stamp())
        })
    }

    /// What the answer can be purged by, whatever tags it will have.
    fn marks(&self) -> Marks {
        let tenant = self.call.identity.tenant.as_ref().filter(|_| !self.route.shared).map(TenantId::as_str);
        Marks::of_answer(&self.call.route.name, tenant, self.call.request.path, [])
    }

    fn held(&self, now: Millis) -> Option<(&Arc<Entry>, Freshness)> {
        let entry = self.found.entry().filter(|entry| self.shell.purging.allows(self.key, entry.stamp()))?;
        Some((entry, entry.freshness(CachePolicy::of(self.route), now)))
    }

    fn forwarded(&self, role: Role) -> CacheStatus {
        let why = match self.held(self.call.now) {
            None if self.found.entry().is_none() => CacheStatus::miss(),
            Some((_, Freshness::Fresh { .. })) => CacheStatus::request(),
            _ => CacheStatus::stale(),
        };
        CacheStatus { collapsed: role == Role::Follower, ..why }
    }

    /// The time to wait for a fill: shorter for an agent that can be given something stale.
    fn patience(&self) -> Duration {
        let held = self.held(self.shell.clock.now());
        let stale = held.is_some_and(|(_, freshness)| freshness.serves_errors() || self.route.payload.is_some());
        if stale { PATIENCE_WITH_STALE } else { PATIENCE }
    }
}

impl Role {
    fn outcome(self, of_leader: Outcome) -> Outcome {
        match self {
            Self::Leader => of_leader,
            Self::Follower => Outcome::Coalesced,
        }
    }
}

/// A fill that died may have died of this very key; two are enough to know.
const MAX_FILLS_AWAITED: usize = 2;

/// The gate's and the core's own times are shorter; this one holds when they are set very long.
const PATIENCE: Duration = Duration::from_secs(60);

/// A core that takes longer counts as failing for agents that can be given something stale: the first of them wait this long,
/// the next ones not at all.
const PATIENCE_WITH_STALE: Duration = Duration::from_secs(10);
