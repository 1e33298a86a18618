//! Who waits before a gate, in which order they go, and who must leave when the line is full.

use std::collections::VecDeque;
use std::time::Duration;

use weir_config::Class;

use super::{Entry, FlowId, Gate, Ticket, Until};
use crate::Millis;

/// Who goes before whom at a core's gate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rank {
    /// The rank of a class of agents' requests.
    Class(Class),
    /// Behind all classes, with the room that [`Class::Telemetry`] has: what an outage has left.
    Backlog,
}

/// Those who wait. Higher ranks go first, but for a rank whose share of the pace is due; within a rank the flows take turns, so
/// that a flow which floods the line, or whose place in the core's room is used up, holds up no other; within a flow, first come
/// first served. The caller bounds it, see [`Line::make_room`].
#[derive(Clone, Debug)]
pub struct Line<W> {
    ranks: [VecDeque<Flow<W>>; Rank::ALL.len()],
    /// Since when there was always somebody.
    since: Option<Millis>,
}

/// Those of one flow, never empty.
#[derive(Clone, Debug)]
struct Flow<W> {
    id: FlowId,
    waiting: VecDeque<W>,
}

/// What is to be done with a line.
#[derive(Debug, PartialEq, Eq)]
#[must_use]
pub enum Call<W> {
    /// This one goes.
    Go(W, Ticket),
    /// This one is told that the core rests.
    Away(W, Duration),
    /// Look again at this time, or when a request has ended.
    At(Millis),
    /// Look again when a request has ended.
    WhenFreed,
    /// Nobody waits.
    Nobody,
}

/// How many are before somebody in line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ahead {
    /// Of the same rank.
    pub same: usize,
    /// Of this rank and those above.
    pub all: usize,
}

impl Rank {
    /// All ranks, the highest first.
    pub const ALL: [Self; 8] = [
        Self::Class(Class::Probe),
        Self::Class(Class::Tasking),
        Self::Class(Class::Checkin),
        Self::Class(Class::Config),
        Self::Class(Class::Update),
        Self::Class(Class::Download),
        Self::Class(Class::Telemetry),
        Self::Backlog,
    ];

    /// A batch of fresh records.
    pub const BATCH: Self = Self::Class(Class::Telemetry);

    /// The class whose room it shares.
    pub const fn class(self) -> Class {
        match self {
            Self::Class(class) => class,
            Self::Backlog => Class::Telemetry,
        }
    }

    const fn index(self) -> usize {
        match self {
            Self::Class(class) => class as usize,
            Self::Backlog => Rank::ALL.len() - 1,
        }
    }
}

impl<W> Default for Line<W> {
    fn default() -> Self {
        Self { ranks: Default::default(), since: None }
    }
}

impl<W> Line<W> {
    /// How many wait, those who have left unnoticed included.
    pub fn len(&self) -> usize {
        self.ranks.iter().map(count).sum()
    }

    /// Whether nobody waits.
    pub fn is_empty(&self) -> bool {
        self.ranks.iter().all(VecDeque::is_empty)
    }

    /// How many of a class wait; the backlog counts as telemetry.
    pub fn waiting(&self, class: Class) -> usize {
        Rank::ALL.iter().zip(&self.ranks).filter(|(rank, _)| rank.class() == class).map(|(_, flows)| count(flows)).sum()
    }

    /// How many a newcomer of `rank` would have before it.
    pub fn ahead(&self, rank: Rank) -> Ahead {
        let counts = self.ranks[..=rank.index()].iter().map(count);
        Ahead { same: count(&self.ranks[rank.index()]), all: counts.sum() }
    }

    /// For how long there has always been somebody.
    pub fn standing(&self, now: Millis) -> Duration {
        self.since.map_or(Duration::ZERO, |since| now.since(since))
    }

    /// Somebody joins.
    pub fn push(&mut self, rank: Rank, id: FlowId, who: W, now: Millis) {
        self.since.get_or_insert(now);
        let flows = &mut self.ranks[rank.index()];
        match flows.iter_mut().find(|flow| flow.id == id) {
            Some(flow) => flow.waiting.push_back(who),
            None => flows.push_back(Flow { id, waiting: VecDeque::from([who]) }),
        }
    }

    /// A place for one more of `rank` and `id` in a line of `max`: free; or taken from the newest of the lowest rank below; or
    /// from the newest of the longest flow of the same rank, when that is longer than the newcomer's. Who has lost the place is
    /// given back. `Err` when there is none.
    pub fn make_room(&mut self, rank: Rank, id: FlowId, max: usize) -> Result<Option<W>, Full> {
        if self.len() < max {
            return Ok(None);
        }
        let (upper, lower) = self.ranks.split_at_mut(rank.index() + 1);
        if let Some(flows) = lower.iter_mut().rev().find(|flows| !flows.is_empty()) {
            return pop_newest(flows, 0).map(Some).ok_or(Full);
        }
        let Some(flows) = upper.last_mut() else { return Err(Full) };
        let own = flows.iter().find(|flow| flow.id == id).map_or(0, |flow| flow.waiting.len());
        pop_newest(flows, own + 1).map(Some).ok_or(Full)
    }

    /// Forgets those of whom `stays` is false.
    pub fn retain(&mut self, stays: impl Fn(&W) -> bool) {
        for flows in &mut self.ranks {
            flows.iter_mut().for_each(|flow| flow.waiting.retain(&stays));
            flows.retain(|flow| !flow.waiting.is_empty());
        }
    }

    /// Who is next. Those of whom `has_left` is true are forgotten on the way.
    pub fn call(&mut self, gate: &mut Gate, has_left: impl Fn(&W) -> bool, now: Millis) -> Call<W> {
        for flows in &mut self.ranks {
            for flow in &mut *flows {
                while flow.waiting.front().is_some_and(&has_left) {
                    flow.waiting.pop_front();
                }
            }
            flows.retain(|flow| !flow.waiting.is_empty());
        }
        if self.is_empty() {
            self.since = None;
            return Call::Nobody;
        }
        gate.note_waiting(|class| self.waiting(class) > 0);
        let mut earliest = None;
        let (due, others): (Vec<Rank>, Vec<Rank>) = Rank::ALL.iter().partition(|rank| gate.is_due(rank.class(), now));
        for rank in due.into_iter().chain(others) {
            match self.call_one_of(rank, gate, now) {
                Call::At(time) => earliest = Some(earliest.map_or(time, |other: Millis| other.min(time))),
                Call::WhenFreed | Call::Nobody => {}
                call => return call,
            }
        }
        earliest.map_or(Call::WhenFreed, Call::At)
    }

    /// The first of the flows in turn that may go.
    fn call_one_of(&mut self, rank: Rank, gate: &mut Gate, now: Millis) -> Call<W> {
        let flows = &mut self.ranks[rank.index()];
        for at in 0..flows.len() {
            let entry = match gate.try_enter(rank.class(), flows[at].id, now) {
                Entry::Wait(Until::Time(time)) => return Call::At(time),
                Entry::Wait(Until::Release) => continue,
                entry => entry,
            };
            let Some(mut flow) = flows.remove(at) else { break };
            let Some(who) = flow.waiting.pop_front() else { break };
            if !flow.waiting.is_empty() {
                flows.push_back(flow);
            }
            return match entry {
                Entry::Go(ticket) => Call::Go(who, ticket),
                Entry::Resting(rest) => Call::Away(who, rest),
                Entry::Wait(_) => break,
            };
        }
        Call::WhenFreed
    }
}

/// There is no place in line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full;

fn count<W>(flows: &VecDeque<Flow<W>>) -> usize {
    flows.iter().map(|flow| flow.waiting.len()).sum()
}

/// Takes out the newest of the longest flow, if it is longer than `least`.
fn pop_newest<W>(flows: &mut VecDeque<Flow<W>>, least: usize) -> Option<W> {
    let at = (0..flows.len()).max_by_key(|&at| flows[at].waiting.len())?;
    if flows[at].waiting.len() <= least {
        return None;
    }
    let newest = flows[at].waiting.pop_back();
    flows.retain(|flow| !flow.waiting.is_empty());
    newest
}

#[cfg(test)]
mod tests;
