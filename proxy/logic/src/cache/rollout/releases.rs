//! The answers of one key: the release that all agents have, and the one that is on its way to them.

use weir_config::Pacing;

use super::{Rollout, Stage, Step};
use crate::Millis;
use crate::digest::Digest;

/// What is known of one key's releases. At most two answers are kept: of a release that comes while another is on its way, the
/// newer takes that one's place, and agents it has not reached are given what was settled before both.
#[derive(Clone, Debug)]
pub struct Releases<T> {
    settled: Release<T>,
    candidate: Option<Candidate<T>>,
}

/// An answer and the digest of its body.
#[derive(Clone, Debug)]
pub struct Release<T> {
    /// The digest.
    pub digest: Digest,
    /// The answer.
    pub answer: T,
}

/// A release on its way.
#[derive(Clone, Debug)]
pub struct Candidate<T> {
    /// The digest of its body.
    pub digest: Digest,
    /// The answer; `None` after a restart until the core has given it again.
    pub answer: Option<T>,
    /// How far it has come.
    pub rollout: Rollout,
}

/// What an answer of the core means to the releases of its key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arrival {
    /// A release that is known.
    Known,
    /// A new release.
    Begun,
    /// A new release before the last one had reached everybody.
    Replaced,
    /// The core has gone back to the settled release: nobody is given the other one any more.
    Withdrawn,
}

/// Which release an agent is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Choice {
    /// The one that everybody has: nothing is on its way.
    Settled,
    /// The one that is on its way: it has reached this agent.
    Candidate,
    /// The one before, which is the settled one.
    Previous,
}

impl<T: Clone> Releases<T> {
    /// A key of which this is the first answer that is known: it counts as long since everybody's.
    pub fn settled(digest: Digest, answer: T) -> Self {
        Self { settled: Release { digest, answer }, candidate: None }
    }

    /// What has been kept of a key, taken up now.
    pub fn restored(settled: Release<T>, candidate: Option<(Digest, Rollout)>, now: Millis) -> Self {
        let candidate = candidate.map(|(digest, mut rollout)| {
            rollout.resume_at(now);
            Candidate { digest, answer: None, rollout }
        });
        Self { settled, candidate }
    }

    /// The core has given this answer.
    pub fn arrive(&mut self, digest: Digest, answer: T, pacing: Pacing, now: Millis) -> Arrival {
        self.settle(now);
        if digest == self.settled.digest {
            self.settled.answer = answer;
            return if self.candidate.take().is_some() { Arrival::Withdrawn } else { Arrival::Known };
        }
        if let Some(candidate) = &mut self.candidate
            && candidate.digest == digest
        {
            candidate.answer = Some(answer);
            return Arrival::Known;
        }
        let rollout = Rollout::begin(pacing, now);
        let replaced = self.candidate.replace(Candidate { digest, answer: Some(answer), rollout });
        if replaced.is_some() { Arrival::Replaced } else { Arrival::Begun }
    }

    /// Which release an agent is given who would be given the answer with this digest. An answer that is neither of the two is
    /// on its way out or not yet settled as to its place: the settled one stands in for it.
    pub fn choice(&self, digest: &Digest, agent: Option<&str>, now: Millis) -> Choice {
        match &self.candidate {
            None => Choice::Settled,
            Some(candidate) if candidate.digest == *digest && candidate.rollout.reaches(agent, digest, now) => {
                Choice::Candidate
            }
            Some(_) => Choice::Previous,
        }
    }

    /// Makes a release that has reached everybody the settled one; gives whether there was one.
    pub fn settle(&mut self, now: Millis) -> bool {
        let there = |candidate: &mut Candidate<T>| candidate.rollout.fraction(now) >= 1.0 && candidate.answer.is_some();
        let Some(Candidate { digest, answer: Some(answer), .. }) = self.candidate.take_if(there) else { return false };
        self.settled = Release { digest, answer };
        true
    }

    /// Says how far the release on its way will have come before this is kept anew, where that is due; gives whether it was.
    pub fn promise(&mut self, now: Millis) -> bool {
        let Some(candidate) = self.candidate.as_mut().filter(|known| known.rollout.nears_its_promise(now)) else {
            return false;
        };
        candidate.rollout.promise(now);
        true
    }

    /// Does what the operator says to the release on its way; gives whether there is one.
    pub fn step(&mut self, step: Step, now: Millis) -> bool {
        let Some(candidate) = &mut self.candidate else { return false };
        candidate.rollout.step(step, now);
        if candidate.rollout.stage() == Stage::Finished {
            self.settle(now);
        }
        true
    }

    /// Goes on at this pace; gives whether that is another.
    pub fn adopt(&mut self, pacing: Pacing, now: Millis) -> bool {
        let Some(candidate) = self.candidate.as_mut().filter(|known| !known.rollout.is_paced_by(pacing)) else {
            return false;
        };
        candidate.rollout.adopt(pacing, now);
        true
    }

    /// The release that all agents have, or had before the one on its way.
    pub fn previous(&self) -> &Release<T> {
        &self.settled
    }

    /// The release on its way.
    pub fn candidate(&self) -> Option<&Candidate<T>> {
        self.candidate.as_ref()
    }
}
