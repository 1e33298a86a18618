//! A cache as one would write it who cares for nothing but that it is right: a list of answers, looked through from end to end.
//!
//! Times are in milliseconds, what the core says in seconds. It answers one request at a time.

use std::collections::HashMap;

use weir_config::FreshnessMode;
use weir_logic::Outcome;

use super::core::{Answered, CONTROLS, Control, Mood, Question, Word, same};
use crate::upstream::OriginError;

/// An agent's request.
#[derive(Clone, Debug)]
pub(super) struct Agent {
    pub(super) os: &'static str,
    pub(super) language: Option<&'static str>,
    pub(super) encoding: Option<&'static str>,
    pub(super) control: &'static str,
    /// Its `If-None-Match`.
    pub(super) holds: Option<String>,
}

/// The headers that an answer was chosen by, in order, with what the request said.
pub(super) type Chosen = Vec<(&'static str, Option<&'static str>)>;

/// All who share a fill.
type Lane = (&'static str, Chosen);

#[derive(Clone, Debug)]
pub(super) struct Stored {
    pub(super) os: &'static str,
    pub(super) chosen: Chosen,
    pub(super) answered: Answered,
    arrived: u64,
    outdated: Option<u64>,
    used: usize,
}

/// What an agent is given. No body where the node speaks for itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Given {
    pub(super) status: u16,
    pub(super) body: Option<String>,
    pub(super) age: Option<u64>,
    pub(super) outcome: Option<Outcome>,
}

#[derive(Clone, Debug)]
pub(super) struct Naive {
    pub(super) mode: FreshnessMode,
    pub(super) obeys: bool,
    pub(super) stored: Vec<Stored>,
    /// Since when, and how often in a row, the fills of these requests have failed.
    rests: HashMap<Lane, (u64, u32)>,
    /// What the core was asked.
    pub(super) asked: Vec<Question>,
    /// The version of the core's content.
    pub(super) version: usize,
    uses: usize,
}

/// Whether a rest that may be over or not, as it is drawn at random, is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Draw {
    Long,
    Short,
}

/// How an answer may be used: the time past its lifetime, below zero while it is fresh, and whether it may be served past it.
#[derive(Clone, Copy)]
struct Use {
    past: i64,
    while_revalidate: bool,
    if_error: bool,
}

/// How a fill ended.
enum End {
    Brought(Stored, Outcome),
    Refused(Stored),
    Failed(u16),
}

impl Naive {
    pub(super) fn new(mode: FreshnessMode, obeys: bool) -> Self {
        let (stored, asked) = (Vec::new(), Vec::new());
        Self { mode, obeys, stored, rests: HashMap::new(), asked, version: 0, uses: 0 }
    }

    /// Answers a request at a time, in front of a core in that mood.
    pub(super) fn answer(&mut self, agent: &Agent, now: u64, mood: &Mood, draw: Draw) -> Given {
        let says = |directive: &str| self.obeys && agent.control.starts_with(directive);
        let number =
            |directive: &str| says(directive).then(|| agent.control[directive.len()..].parse::<i64>().unwrap());
        let (no_cache, only_stored) = (says("no-cache"), says("only-if-cached"));
        let (max_age, min_fresh) = (number("max-age="), number("min-fresh="));
        let max_stale = if self.obeys && agent.control == "max-stale" { Some(i64::MAX) } else { number("max-stale=") };
        let storing = !says("no-store");

        let held = self.held(agent);
        let lane = self.lane(agent, held.as_ref());
        let rest = self.rests.get(&lane).copied();
        let resting = rest.is_some_and(|rest| rests(rest, now, draw));
        if let Some(held) = &held {
            let (usable, age) = (self.usable(held, now), held.age(now) as i64);
            let young = !no_cache && max_age.is_none_or(|most| age <= most * 1_000);
            if usable.past < 0 && young && min_fresh.is_none_or(|least| -usable.past >= least * 1_000) {
                return held.given(agent, now, Outcome::Hit);
            }
            let at_once = usable.while_revalidate && young && min_fresh.is_none();
            let failing = usable.if_error && rest.is_some();
            let taken = max_stale.is_some_and(|most| usable.past <= most.saturating_mul(1_000));
            let stale = usable.past >= 0 && (usable.while_revalidate || usable.if_error);
            if stale && (at_once || failing || taken) {
                if !resting && !only_stored {
                    self.fill(agent, now, mood, storing);
                }
                return held.given(agent, now, Outcome::Stale);
            }
        }
        let in_place_of_an_error = held.filter(|held| {
            let usable = self.usable(held, now);
            usable.past < 0 || usable.if_error
        });
        if only_stored {
            return refused(504);
        }
        let end = if resting { End::Failed(503) } else { self.fill(agent, now, mood, storing) };
        match (end, in_place_of_an_error) {
            (End::Brought(answer, outcome), _) => answer.given(agent, now, outcome),
            (End::Refused(_) | End::Failed(_), Some(held)) => {
                // Fresh, where the agent has insisted on another answer.
                let outcome = if self.usable(&held, now).past < 0 { Outcome::Hit } else { Outcome::Stale };
                held.given(agent, now, outcome)
            }
            (End::Refused(answer), None) => answer.given(agent, now, Outcome::Bypass),
            (End::Failed(status), None) => refused(status),
        }
    }

    /// Purges what carries the tag, or everything.
    pub(super) fn purge(&mut self, tag: Option<&str>, hard: bool, now: u64) {
        let meant = |stored: &Stored| tag.is_none_or(|tag| stored.answered.surrogate == Some(tag));
        if hard {
            return self.stored.retain(|stored| !meant(stored));
        }
        for stored in self.stored.iter_mut().filter(|stored| meant(stored)) {
            stored.outdated = Some(stored.outdated.map_or(now, |at| at.min(now)));
        }
    }

    /// The answer that serves this request, noted as used.
    fn held(&mut self, agent: &Agent) -> Option<Stored> {
        self.uses += 1;
        let held = self.stored.iter_mut().find(|stored| stored.os == agent.os && stored.serves(agent))?;
        held.used = self.uses;
        Some(held.clone())
    }

    /// All for whom a fill of this request is made, as far as one can know.
    fn lane(&self, agent: &Agent, held: Option<&Stored>) -> Lane {
        let sibling = held.or_else(|| self.stored.iter().find(|stored| stored.os == agent.os));
        let names = sibling.map_or_else(|| NAMES.to_vec(), |sibling| names(&sibling.chosen));
        (agent.os, agent.says(&names))
    }

    fn fill(&mut self, agent: &Agent, now: u64, mood: &Mood, storing: bool) -> End {
        let held = self.stored.iter().find(|stored| stored.os == agent.os && stored.serves(agent)).cloned();
        let lane = self.lane(agent, held.as_ref());
        let others = self.stored.iter().filter(|stored| stored.os == agent.os && !stored.serves(agent));
        let others: Vec<Stored> = others.filter(|stored| stored.tag_for_others().is_some()).cloned().collect();
        let mut tags: Vec<String> = match &held {
            Some(held) => held.answered.etag.clone().into_iter().collect(),
            None => others.iter().filter_map(Stored::tag_for_others).collect(),
        };
        tags.sort();
        tags.dedup();
        let conditional = !tags.is_empty();
        let mut word = self.ask(agent, mood, tags);
        if let Word::Answer(said @ Answered { status: 304, .. }) = &word
            && conditional
        {
            let meant = match &held {
                Some(held) => {
                    Some(held).filter(|held| both(&held.answered.etag, &said.etag).is_none_or(|(a, b)| same(a, b)))
                }
                None => others.iter().find(|other| said.etag.is_some() && other.tag_for_others() == said.etag),
            };
            if let Some(confirmed) = meant {
                let answered = confirmed.answered.after(said);
                return self.good(agent, answered, now, storing, &lane, Outcome::Revalidated);
            }
            word = self.ask(agent, mood, Vec::new());
        }
        let said = match word {
            Word::Nothing(OriginError::Timeout) => return self.failed(lane, now, 504),
            Word::Nothing(_) => return self.failed(lane, now, 502),
            Word::Answer(said) => said,
        };
        match said.status {
            _ if !said.intact => self.failed(lane, now, 502),
            304 | 401 => self.failed(lane, now, 502),
            400 => {
                let usable = held.as_ref().map(|held| self.usable(held, now));
                if usable.is_some_and(|usable| usable.past < 0 || usable.if_error) {
                    self.failed(lane, now, 0);
                } else {
                    self.rests.remove(&lane);
                }
                End::Refused(Stored::new(agent, said, now))
            }
            500.. => self.failed(lane, now, 503),
            _ => self.good(agent, said, now, storing, &lane, Outcome::Miss),
        }
    }

    fn ask(&mut self, agent: &Agent, mood: &Mood, tags: Vec<String>) -> Word {
        let said = agent.says(&NAMES);
        let text = |at: usize| said[at].1.map(str::to_owned);
        let question = Question { os: agent.os.to_owned(), language: text(1), encoding: text(0), tags };
        self.asked.push(question.clone());
        mood.says(self.version, &question)
    }

    fn good(
        &mut self,
        agent: &Agent,
        answered: Answered,
        now: u64,
        storing: bool,
        lane: &Lane,
        outcome: Outcome,
    ) -> End {
        self.rests.remove(lane);
        let new = Stored { used: self.uses, ..Stored::new(agent, answered, now) };
        let may_be_stored = self.may_be_stored(&new);
        if may_be_stored && !storing {
            return End::Brought(new, Outcome::Bypass);
        }
        // What it takes the place of, and what was chosen by other headers than the newest answer.
        self.stored
            .retain(|old| old.os != new.os || (names(&old.chosen) == names(&new.chosen) && old.chosen != new.chosen));
        if !may_be_stored {
            return End::Brought(new, Outcome::Bypass);
        }
        let siblings = self.stored.iter().enumerate().filter(|(_, stored)| stored.os == new.os);
        let oldest = siblings.clone().min_by_key(|(_, stored)| stored.used).map(|(at, _)| at);
        if siblings.count() >= 2 {
            self.stored.remove(oldest.unwrap());
        }
        self.stored.push(new.clone());
        End::Brought(new, outcome)
    }

    fn failed(&mut self, lane: Lane, now: u64, status: u16) -> End {
        let failures = self.rests.get(&lane).map_or(0, |(_, failures)| *failures);
        self.rests.insert(lane, (now, failures + 1));
        End::Failed(status)
    }

    /// Section 3, and what the operator adds to it.
    fn may_be_stored(&self, new: &Stored) -> bool {
        let control = new.control();
        let lifetime = self.lifetime(new);
        let known = match self.mode {
            FreshnessMode::Override => lifetime.is_some_and(|lifetime| lifetime > 0),
            FreshnessMode::Clamp | FreshnessMode::Honor => lifetime.is_some(),
        };
        let (while_revalidate, if_error) = self.stale_times(new);
        let of_use = lifetime > Some(0) || new.answered.etag.is_some() || while_revalidate > 0 || if_error > 0;
        known && of_use && !control.forbidden && new.answered.vary != Some("*")
    }

    /// Section 4.2.1; `None` where nobody says how long.
    fn lifetime(&self, stored: &Stored) -> Option<u64> {
        let table = match stored.answered.status {
            200 => Some(60),
            301 => Some(0),
            404 => Some(5),
            _ => None,
        };
        let understood = [200, 301, 302, 404].contains(&stored.answered.status);
        let said = stored.control().lifetime.filter(|_| understood);
        match self.mode {
            FreshnessMode::Override => table,
            FreshnessMode::Clamp => said.map(|said| said.clamp(5, 40)).or(table),
            FreshnessMode::Honor => said.or(table),
        }
    }

    /// For how long past its lifetime an answer may be served while it is fetched anew, and while the core fails.
    fn stale_times(&self, stored: &Stored) -> (u64, u64) {
        let control = stored.control();
        let operators = (30, 300);
        let unless_said = match self.mode {
            FreshnessMode::Override => return operators,
            _ if control.never_stale => return (0, 0),
            FreshnessMode::Clamp => operators,
            FreshnessMode::Honor if control.shared_lifetime => (0, 0),
            FreshnessMode::Honor => (0, operators.1),
        };
        let while_revalidate = control.while_revalidate.unwrap_or(unless_said.0).min(operators.0);
        (while_revalidate, control.if_error.unwrap_or(unless_said.1).min(operators.1))
    }

    /// Section 4.2: the operator's times run from the arrival, the core's from the making.
    fn usable(&self, stored: &Stored, now: u64) -> Use {
        let age_on_arrival = if self.mode == FreshnessMode::Override { 0 } else { stored.answered.age * 1_000 };
        let age = age_on_arrival + now - stored.arrived;
        let purged = stored.outdated.map_or(u64::MAX, |at| age_on_arrival + at - stored.arrived);
        let lifetime = (self.lifetime(stored).unwrap_or(0) * 1_000).min(purged);
        let past = age as i64 - lifetime as i64;
        let (while_revalidate, if_error) = self.stale_times(stored);
        let within = |seconds: u64| past >= 0 && past < seconds as i64 * 1_000;
        Use { past, while_revalidate: within(while_revalidate), if_error: within(if_error) }
    }
}

impl Agent {
    /// What it says in these headers, in the one spelling.
    fn says(&self, names: &[&'static str]) -> Chosen {
        let normal = |value| match value {
            "DE" => "de",
            "gzip,br" => "br, gzip",
            other => other,
        };
        let value = |name| if name == NAMES[0] { self.encoding } else { self.language };
        names.iter().map(|name| (*name, value(*name).map(normal))).collect()
    }
}

impl Stored {
    fn new(agent: &Agent, answered: Answered, arrived: u64) -> Self {
        let vary = answered.vary.unwrap_or_default();
        let named: Vec<_> =
            NAMES.into_iter().filter(|name| vary == "*" || vary.to_lowercase().contains(name)).collect();
        Self { os: agent.os, chosen: agent.says(&named), answered, arrived, outdated: None, used: 0 }
    }

    fn serves(&self, agent: &Agent) -> bool {
        agent.says(&names(&self.chosen)) == self.chosen
    }

    fn control(&self) -> &'static Control {
        &CONTROLS[self.answered.control]
    }

    fn tag_for_others(&self) -> Option<String> {
        let offered = self.answered.status == 200 && !self.answered.encoded;
        self.answered.etag.clone().filter(|tag| offered && !tag.starts_with("W/"))
    }

    fn age(&self, now: u64) -> u64 {
        self.answered.age * 1_000 + now - self.arrived
    }

    fn given(&self, agent: &Agent, now: u64, outcome: Outcome) -> Given {
        let age = self.age(now) / 1_000;
        let age = (age > 0 || !matches!(outcome, Outcome::Miss | Outcome::Bypass)).then_some(age);
        let holds = |held: &String| held == "*" || self.answered.etag.as_ref().is_some_and(|tag| same(tag, held));
        let current = (200..300).contains(&self.answered.status) && agent.holds.as_ref().is_some_and(holds);
        let (status, body) = if current { (304, "") } else { (self.answered.status, self.answered.body.as_str()) };
        Given { status, body: Some(body.to_owned()), age, outcome: Some(outcome) }
    }
}

impl Answered {
    /// Section 4.3.4: the fields of the confirmation replace those that are there, but for what describes the body.
    fn after(&self, confirmation: &Self) -> Self {
        let mut after = self.clone();
        if confirmation.control > 0 {
            after.control = confirmation.control;
        }
        after.age = confirmation.age;
        after.vary = confirmation.vary.or(self.vary);
        after.etag = confirmation.etag.clone().or_else(|| self.etag.clone());
        after.surrogate = confirmation.surrogate.or(self.surrogate);
        after
    }
}

/// Whether a rest holds: a second, doubled with each failure up to sixteen, less up to half of it.
fn rests((since, failures): (u64, u32), now: u64, draw: Draw) -> bool {
    let longest = 1_000 << (failures - 1).min(4);
    let length = if draw == Draw::Long { longest } else { longest / 2 };
    now < since + length
}

fn refused(status: u16) -> Given {
    Given { status, body: None, age: None, outcome: None }
}

fn both<'a, T>(left: &'a Option<T>, right: &'a Option<T>) -> Option<(&'a T, &'a T)> {
    left.as_ref().zip(right.as_ref())
}

fn names(chosen: &Chosen) -> Vec<&'static str> {
    chosen.iter().map(|(name, _)| *name).collect()
}

const NAMES: [&str; 2] = ["accept-encoding", "accept-language"];
