//! One fetch that stores an answer. It runs in a task of its own: the request that started it may leave.

use std::sync::Arc;
use std::time::Duration;

use http::HeaderMap;
use http::header::{ETAG, RETRY_AFTER};
use weir_config::{Action, AnswerStore, CacheRoute, Route};
use weir_logic::cache::purge::{Mark, Marks};
use weir_logic::cache::tags::{TAG_HEADERS, tags};
use weir_logic::cache::{
    Arrival, CachePolicy, FillRequest, Hold, Lease, Meaning, Selection, Terms, Unstorable, is_intact,
};
use weir_logic::{CacheKey, Millis, Refusal, retry};

use super::Shell;
use super::agreement::{Asker, Expecting};
use super::candidates::Candidates;
use super::entry::Entry;
use super::flight::Ticket;
use super::payloads::Claims;
use super::rollouts::Asked;
use crate::purging::Departure;
use crate::upstream::{OriginAnswer, OriginError, OriginRequest, Patience, Rank, Sending};

/// How a fill ended, for everyone who waited. Cloning shares the answer.
#[derive(Clone, Debug)]
pub(super) enum Landing {
    /// An answer, now stored.
    Stored(Arc<Entry>),
    /// What was stored is current; it is fresh again.
    Confirmed(Arc<Entry>),
    /// A good answer that is not stored. It goes to everyone who waited: one key is one answer.
    PassedOn(Arc<Entry>, Unstorable),
    /// The core finds fault with the request.
    Refused(Arc<Entry>),
    /// No answer.
    Failed(Failure),
}

/// Why there is no answer.
#[derive(Clone, Copy, Debug)]
pub(super) struct Failure {
    /// What agents are told when there is nothing better.
    pub(super) refusal: Refusal,
    /// What the core answered, if it did.
    pub(super) status: Option<u16>,
    /// The rest that the key gets.
    pub(super) hold: Hold,
}

/// A fill to be done.
pub(super) struct Order {
    pub(super) key: CacheKey,
    /// What is said for the request in the headers that the core may choose by.
    pub(super) selection: Selection,
    /// The key of the fill: of all for whom these make no difference, as far as is known.
    pub(super) lane: CacheKey,
    pub(super) route: Arc<Route>,
    pub(super) request: FillRequest,
    /// What the answer can be purged by, but for the tags that the core gives it.
    pub(super) marks: Marks,
    /// What is stored: the core is asked to confirm it where it can be.
    pub(super) held: Option<Arc<Entry>>,
    /// How many answers of the key are stored side by side, at most.
    pub(super) max_variants: usize,
    /// Whether the answer may be stored, for all that the agent says.
    pub(super) storing: bool,
    /// What it must bring, where a manifest that is not in use yet says so.
    pub(super) expecting: Option<Expecting>,
    pub(super) asker: Asker,
}

/// What the core said, and when it was asked.
pub(super) struct Heard {
    pub(super) answer: OriginAnswer,
    pub(super) asked: Millis,
    /// What the answer says of its payloads, once these are in use.
    pub(super) claims: Option<Arc<Claims>>,
}

impl Order {
    /// Does the fill and tells everyone who waits. Bounded by the gate's and the core's times, and by five minutes in any case.
    pub(super) async fn run(self, shell: Arc<Shell>, ticket: Ticket) {
        let Action::Cache(route) = &self.route.action else { return };
        let departure = shell.purging.depart();
        let started = shell.clock.elapsed();
        // In memory of its own, as a task's is aligned: what an allocator cuts off to align eight kilobytes is a hole in which only small
        // things settle, and each fill leaves its body behind it.
        let fetched = match route.store {
            AnswerStore::Memory => ticket.fly(Box::pin(self.fetch(&shell, route, &departure)), MAX_FILL).await,
            AnswerStore::Disk => {
                let fetch = Box::pin(self.fetch_to_disk(&shell, route, &departure, &ticket));
                ticket.fly(fetch, shell.packages.max_fill_time()).await
            }
        };
        let landing = fetched.unwrap_or_else(|| self.failed(&shell, Refusal::CoreTimeout, None, None));
        shell.metrics.cache_fills.with_label_values(&[self.route.name.as_str(), landing.label()]).inc();
        if let Some(lease) = landing.lease(CachePolicy::of(route)) {
            let took = shell.clock.elapsed().saturating_sub(started);
            let lane = landing.entry().map_or_else(|| self.lane.clone(), |entry| entry.selection().key(&self.key));
            let (route, now) = (&self.route.name, shell.clock.now());
            shell.what_if.filled(route, &lane, now, lease, took);
            if lane != self.lane {
                shell.what_if.brought(route, &lane, now, lease);
            }
        }
        ticket.land(landing);
        if shell.rollouts.is_unsaved() {
            let saving = tokio::task::spawn_blocking(move || shell.rollouts.save_soon());
            if let Err(error) = saving.await {
                tracing::error!(%error, "the saving of releases panicked");
            }
        }
    }

    async fn fetch(&self, shell: &Arc<Shell>, route: &CacheRoute, departure: &Departure) -> Landing {
        let policy = CachePolicy::of(route);
        let candidates = self.candidates(shell);
        if let Some(request) = candidates.request(&self.request) {
            let heard = match self.send(shell, request).await {
                Ok(heard) => heard,
                Err(error) => return self.unanswered(shell, error),
            };
            let answer = &heard.answer;
            let confirmed = policy.meaning(answer.status.as_u16(), &answer.headers, true) == Meaning::Confirmed;
            if !confirmed {
                return self.taken(shell, route, departure, heard).await;
            }
            if let Some(held) = candidates.confirmed(answer.headers.get(ETAG)) {
                return self.confirmed(shell, policy, departure, held, &heard);
            }
            // The core confirmed something else than what is stored: ask for it as a whole.
        }
        match self.send(shell, self.request.clone()).await {
            Ok(heard) => self.taken(shell, route, departure, heard).await,
            Err(error) => self.unanswered(shell, error),
        }
    }

    /// What the core can be asked to confirm. What was purged before the departure cannot come back.
    pub(super) fn candidates(&self, shell: &Shell) -> Candidates {
        // A manifest that was stored before its route said where it names payloads is asked for as a whole.
        let names_payloads = matches!(&self.route.action, Action::Cache(CacheRoute { payload: Some(_), .. }));
        let usable = |entry: &Arc<Entry>| {
            shell.purging.allows(&self.key, entry.stamp())
                && (!names_payloads || entry.status() != 200 || entry.claims().is_some())
        };
        match self.held.clone().filter(usable) {
            Some(held) => Candidates::Held(held),
            None if self.selection.is_empty() => Candidates::Others(Vec::new()),
            None => Candidates::Others(shell.store.variants(&self.key).into_iter().filter(usable).collect()),
        }
    }

    async fn send(&self, shell: &Shell, request: FillRequest) -> Result<Heard, OriginError> {
        let max_bytes = shell.limits.load().max_object_bytes.as_usize().max(MAX_PASSED_ON_BYTES);
        let asked = shell.clock.now();
        let request = OriginRequest { patience: self.patience(shell), ..self.to_core(request, max_bytes) };
        Ok(Heard { answer: shell.origin.send(request).await?, asked, claims: None })
    }

    /// The fill's request, whose answer may have a body of that length.
    pub(super) fn to_core(&self, request: FillRequest, max_answer_bytes: usize) -> OriginRequest {
        OriginRequest {
            core: self.route.core,
            label: Arc::from(self.route.name.as_str()),
            rank: Rank::Class(self.route.class),
            method: request.method,
            target: request.target,
            headers: request.headers,
            body: request.body,
            max_answer_bytes,
            patience: Patience::Whole,
            repeatable: true,
            sending: Sending::First,
        }
    }

    /// What can be served instead of a fresh answer makes waiting for one pointless.
    fn patience(&self, shell: &Shell) -> Patience {
        let Action::Cache(route) = &self.route.action else { return Patience::Whole };
        let serves = |held: &Arc<Entry>| held.freshness(CachePolicy::of(route), shell.clock.now()).serves_errors();
        if self.held.as_ref().is_some_and(serves) { Patience::Short } else { Patience::Whole }
    }

    pub(super) fn understood(
        &self,
        shell: &Shell,
        policy: CachePolicy<'_>,
        departure: &Departure,
        heard: &Heard,
    ) -> Landing {
        let answer = &heard.answer;
        let status = answer.status.as_u16();
        if !is_intact(status, &answer.headers, &answer.body) {
            return self.failed(shell, Refusal::CoreBroken, Some(status), None);
        }
        let meaning = policy.meaning(status, &answer.headers, false);
        let entry = || {
            let stamp = departure.stamp(Arc::new(self.marks(&answer.headers)));
            let arrival = heard.arrival(status, &answer.headers, shell.clock.now());
            let selection = self.selection.chosen_by(&answer.headers);
            let entry = Entry::new(arrival, &answer.headers, answer.body.clone(), stamp, selection);
            Arc::new(entry.claiming(heard.claims.clone()))
        };
        match meaning {
            Meaning::Store | Meaning::PassOn(_) => {
                let entry = entry();
                match meaning {
                    _ if self.is_another(shell, &entry) => self.failed(shell, Refusal::CoreBroken, Some(status), None),
                    Meaning::PassOn(why) => self.pass_on(shell, entry, why),
                    _ => self.store(shell, entry, Landing::Stored),
                }
            }
            Meaning::Refused => {
                self.rest_if_stale_serves(shell, policy);
                Landing::Refused(entry())
            }
            Meaning::Denied | Meaning::Confirmed => self.failed(shell, Refusal::CoreBroken, Some(status), None),
            Meaning::Failed => {
                let now = shell.clock.now();
                let hint = answer.headers.get(RETRY_AFTER).and_then(|wait| retry::asked_wait(wait.as_bytes(), now));
                let refusal =
                    if status >= 500 || status == 429 { Refusal::CoreUnavailable } else { Refusal::CoreBroken };
                self.failed(shell, refusal, Some(status), hint)
            }
        }
    }

    pub(super) fn confirmed(
        &self,
        shell: &Shell,
        policy: CachePolicy<'_>,
        departure: &Departure,
        held: &Entry,
        heard: &Heard,
    ) -> Landing {
        let answer = &heard.answer;
        let headers = held.merged(&answer.headers);
        // A confirmation without tags leaves those that the answer came with.
        let retagged = TAG_HEADERS.iter().any(|name| answer.headers.contains_key(name));
        let marks = if retagged { Arc::new(self.marks(&answer.headers)) } else { Arc::clone(held.stamp().marks()) };
        let stamp = departure.stamp(marks);
        let arrival = heard.arrival(held.status(), &headers, shell.clock.now());
        let entry = Arc::new(held.confirmed(arrival, &headers, stamp, self.selection.chosen_by(&headers)));
        match policy.unstorable(held.status(), &headers) {
            None => self.store(shell, entry, Landing::Confirmed),
            Some(why) => self.pass_on(shell, entry, why),
        }
    }

    /// What an answer with these headers can be purged by.
    pub(super) fn marks(&self, headers: &HeaderMap) -> Marks {
        let tags = tags(headers).into_iter().map(Mark::tag);
        self.marks.with(self.marks.iter().chain(tags))
    }

    fn store(&self, shell: &Shell, entry: Arc<Entry>, landing: fn(Arc<Entry>) -> Landing) -> Landing {
        shell.holds.clear(&self.lane);
        if !self.storing {
            return Landing::PassedOn(entry, Unstorable::AgentSaysSo);
        }
        if self.expecting.is_some_and(|expecting| expecting.apart) {
            return landing(entry);
        }
        self.release(shell, &entry);
        if shell.keep(&self.key, &entry, self.max_variants) {
            // A manifest may have come into use since the last look, which has found what was stored before.
            if self.is_another(shell, &entry) {
                shell.store_of(&entry).remove_if(&self.key, |held| Arc::ptr_eq(held, &entry));
                return self.failed(shell, Refusal::CoreBroken, Some(entry.status()), None);
            }
            return landing(entry);
        }
        self.pass_on(shell, entry, Unstorable::TooLarge)
    }

    /// Has the answer reach the agents at the route's pace.
    fn release(&self, shell: &Shell, entry: &Arc<Entry>) {
        let Action::Cache(CacheRoute { rollout: Some(pacing), .. }) = &self.route.action else {
            shell.rollouts.forget(&entry.selection().key(&self.key));
            return;
        };
        let stays = |entry: &Entry| shell.purging.allows(&self.key, entry.stamp());
        shell.rollouts.prune(&self.key, entry.selection(), stays);
        let asked =
            Asked { key: &self.key, route: &self.route.name, pacing: *pacing, agent: None, now: shell.clock.now() };
        shell.rollouts.arrive(&asked, self.held.as_ref().filter(|held| stays(held)), entry);
    }

    /// A good answer that is not stored puts what was stored out of date.
    fn pass_on(&self, shell: &Shell, entry: Arc<Entry>, why: Unstorable) -> Landing {
        shell.holds.clear(&self.lane);
        shell.outdate(&self.key, entry.selection());
        shell.rollouts.forget(&entry.selection().key(&self.key));
        Landing::PassedOn(entry, why)
    }

    pub(super) fn unanswered(&self, shell: &Shell, error: OriginError) -> Landing {
        let refusal = match error {
            OriginError::Resting(rest) => return self.turned_away(shell, Some(rest)),
            OriginError::Full => return self.turned_away(shell, None),
            OriginError::Connect => Refusal::CoreUnavailable,
            OriginError::Timeout => Refusal::CoreTimeout,
            OriginError::Broken | OriginError::TooLarge(_) => Refusal::CoreBroken,
        };
        self.failed(shell, refusal, None, None)
    }

    /// The gate let nothing through.
    fn turned_away(&self, shell: &Shell, hint: Option<Duration>) -> Landing {
        let now = shell.clock.now();
        let hold = shell.holds.note(&self.lane, |_| Hold::turned_away(hint, now, rand::random()));
        Landing::Failed(Failure { refusal: Refusal::CoreUnavailable, status: None, hold })
    }

    /// The core finds fault with a request that it once answered, and agents are served what is stored: ask it less often.
    fn rest_if_stale_serves(&self, shell: &Shell, policy: CachePolicy<'_>) {
        let now = shell.clock.now();
        if self.held.as_ref().is_some_and(|held| held.freshness(policy, now).serves_errors()) {
            shell.holds.note(&self.lane, |previous| Hold::after(previous, None, now, rand::random()));
        } else {
            shell.holds.clear(&self.lane);
        }
    }

    /// A failure leaves what is stored alone and gives the key some rest.
    pub(super) fn failed(
        &self,
        shell: &Shell,
        refusal: Refusal,
        status: Option<u16>,
        hint: Option<Duration>,
    ) -> Landing {
        let now = shell.clock.now();
        let hold = shell.holds.note(&self.lane, |previous| Hold::after(previous, hint, now, rand::random()));
        Landing::Failed(Failure { refusal, status, hold })
    }
}

impl Heard {
    /// The arrival of the answer that these headers, the core's or the merged ones, belong to.
    pub(super) fn arrival(&self, status: u16, headers: &HeaderMap, now: Millis) -> Arrival {
        Arrival { status, terms: Terms::of(headers, self.asked, now), stored: now, draw: rand::random() }
    }
}

impl Landing {
    /// The answer that it brought, if it did.
    pub(super) fn entry(&self) -> Option<&Arc<Entry>> {
        match self {
            Self::Stored(entry) | Self::Confirmed(entry) | Self::PassedOn(entry, _) | Self::Refused(entry) => {
                Some(entry)
            }
            Self::Failed(_) => None,
        }
    }

    /// What the policy grants the answer; `None` when the core gave none, or found fault with the request.
    fn lease(&self, policy: CachePolicy<'_>) -> Option<Lease> {
        match self {
            Self::Stored(entry) | Self::Confirmed(entry) => Some(entry.lease(policy)),
            Self::PassedOn(..) => Some(Lease::default()),
            Self::Refused(_) | Self::Failed(_) => None,
        }
    }

    /// The result in `weir_cache_fills_total`.
    fn label(&self) -> &'static str {
        match self {
            Self::Stored(_) => "stored",
            Self::Confirmed(_) => "confirmed",
            Self::PassedOn(..) => "passed_on",
            Self::Refused(_) => "refused",
            Self::Failed(Failure { status: Some(401 | 403 | 407), .. }) => "denied",
            Self::Failed(_) => "failed",
        }
    }
}

/// The time after which a fill that never ended counts as failed, so that no key is stuck.
const MAX_FILL: Duration = Duration::from_secs(300);

/// Answers up to this size are passed on, if not stored, even where `max_object_bytes` is smaller; a fill holds as much memory.
/// What is larger belongs on a `forward` route.
pub(super) const MAX_PASSED_ON_BYTES: usize = 16 * 1024 * 1024;
