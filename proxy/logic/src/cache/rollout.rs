//! How a release reaches the agents: a growing part of them, each at a place of its own in the order.
//!
//! A release is a change of a kept answer, such as an update manifest. When every agent sees it at once, all of them download at
//! once, and a bad release is everywhere before anybody knows. So an agent is given the new answer when its place, a number from
//! 0 to 1 drawn from its name and the release's digest, is below the fraction that the rollout has reached; until then it is
//! given the previous one. The place is the same on every node, and another one for each release, so that not the same agents
//! go first each time. The fraction only grows while a release stands, so that no agent falls back, unless the operator aborts.
//!
//! [`Releases`] keeps the two answers of a key apart. Not here: what the answers are and where they are kept.

mod releases;

use std::time::Duration;

use serde::{Deserialize, Serialize};
use weir_config::{Pacing, Ratio};
use xxhash_rust::xxh3::Xxh3;

use crate::Millis;
use crate::digest::Digest;

pub use releases::{Arrival, Candidate, Choice, Release, Releases};

/// How far one release has come. The fraction is counted from an anchor: what it was when something last changed, and when that
/// was. So no change of the pace, pause or resumption makes it jump.
///
/// What is kept of it on disk says besides how far it may have come before it is kept anew ([`Rollout::promise`]). A node that starts
/// goes on from there, whatever its clock says by then: the fraction never falls, and a restart takes it ahead by less than a
/// hundredth, or by half a minute of its time where that is more.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Rollout {
    /// When the release was first seen, in milliseconds since 1970.
    begun: u64,
    stage: Stage,
    pace: Pace,
    /// The pace that the configuration said last: the operator's word by hand holds until that changes.
    configured: Pace,
    reached: f64,
    since: u64,
    /// The fraction that agents may have met before this is kept anew.
    promised: f64,
}

/// Where a rollout stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Stage {
    /// The fraction grows with time.
    Going,
    /// The fraction stands still.
    Paused,
    /// Everybody is given the previous release.
    Aborted,
    /// Everybody is given this one.
    Finished,
}

/// The time from none to all, and the part of the agents that is reached at most.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
struct Pace {
    over_ms: u64,
    share: f64,
}

/// What an operator can do with a rollout.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Step {
    /// No further agent is reached until it goes on.
    Pause,
    /// Goes on from where it stands; from the beginning if it was aborted.
    Resume,
    /// The part of the agents that is reached at most, from now on. Those reached already stay so.
    Share(Ratio),
    /// Everybody is given the new release now.
    Finish,
    /// Everybody is given the previous release until the core brings another one.
    Abort,
}

impl From<Pacing> for Pace {
    fn from(pacing: Pacing) -> Self {
        let over_ms = u64::try_from(pacing.over.as_millis()).unwrap_or(u64::MAX);
        Self { over_ms, share: pacing.share.value() }
    }
}

impl Rollout {
    /// The rollout of a release that is first seen now.
    pub fn begin(pacing: Pacing, now: Millis) -> Self {
        let pace = Pace::from(pacing);
        let (begun, since) = (now.0, now.0);
        let mut rollout =
            Self { begun, stage: Stage::Going, pace, configured: pace, reached: 0.0, since, promised: 0.0 };
        rollout.promise(now);
        rollout
    }

    /// Goes on after a restart, from as far as agents may have met it before.
    pub fn resume_at(&mut self, now: Millis) {
        if self.stage == Stage::Going {
            self.reached = self.fraction(now).max(self.promised);
            self.since = now.0;
        }
    }

    /// Whether it comes close to what it is said to stay below until it is kept anew. With half the time to that left it should be.
    pub fn nears_its_promise(&self, now: Millis) -> bool {
        self.stage == Stage::Going && self.promised < self.ahead(now, 0.5)
    }

    /// Says for some time ahead how far it will have come, to be kept before then.
    pub fn promise(&mut self, now: Millis) {
        self.promised = self.ahead(now, 1.0);
    }

    /// The fraction after a part of the time for which it is promised.
    fn ahead(&self, now: Millis, part: f64) -> f64 {
        if self.stage != Stage::Going {
            return self.fraction(now);
        }
        let over = Duration::from_millis(self.pace.over_ms);
        let time = PROMISED_TIME.max(over.mul_f64(PROMISED_PART)).mul_f64(part);
        self.fraction(now.after(time))
    }

    /// The fraction of the agents that it has reached, from 0 to 1. It never falls as `now` grows.
    pub fn fraction(&self, now: Millis) -> f64 {
        match self.stage {
            Stage::Aborted => 0.0,
            Stage::Finished => 1.0,
            Stage::Paused => self.reached.clamp(0.0, 1.0),
            Stage::Going => self.grown(now).clamp(0.0, 1.0),
        }
    }

    fn grown(&self, now: Millis) -> f64 {
        let passed = now.since(Millis(self.since)).as_secs_f64();
        let over = Duration::from_millis(self.pace.over_ms).as_secs_f64();
        let grown = if over > 0.0 { self.reached + passed / over } else { 1.0 };
        grown.min(self.pace.share).max(self.reached)
    }

    /// Whether the agent is given the release now. One without a name comes last.
    pub fn reaches(&self, agent: Option<&str>, release: &Digest, now: Millis) -> bool {
        let fraction = self.fraction(now);
        fraction >= 1.0 || agent.is_some_and(|agent| place(agent, release) < fraction)
    }

    /// Whether the configuration says another pace than it did.
    pub fn is_paced_by(&self, pacing: Pacing) -> bool {
        self.configured == Pace::from(pacing)
    }

    /// Goes on at the pace that the configuration says, if that is another than it was.
    pub fn adopt(&mut self, pacing: Pacing, now: Millis) {
        if !self.is_paced_by(pacing) {
            self.anchor(now);
            self.configured = pacing.into();
            self.pace = self.configured;
            self.promise(now);
        }
    }

    /// Does what the operator says.
    pub fn step(&mut self, step: Step, now: Millis) {
        self.anchor(now);
        match step {
            Step::Pause if self.stage == Stage::Going => self.stage = Stage::Paused,
            Step::Resume if self.stage != Stage::Finished => self.stage = Stage::Going,
            Step::Pause | Step::Resume => {}
            Step::Share(share) => self.pace.share = share.value(),
            Step::Finish => self.stage = Stage::Finished,
            Step::Abort => self.stage = Stage::Aborted,
        }
        self.promise(now);
    }

    fn anchor(&mut self, now: Millis) {
        self.reached = self.fraction(now);
        self.since = now.0;
    }

    /// Where it stands.
    pub fn stage(&self) -> Stage {
        self.stage
    }

    /// When the release was first seen.
    pub fn begun(&self) -> Millis {
        Millis(self.begun)
    }

    /// The time from none to all.
    pub fn over(&self) -> Duration {
        Duration::from_millis(self.pace.over_ms)
    }

    /// The part of the agents that is reached at most.
    pub fn share(&self) -> f64 {
        self.pace.share
    }
}

/// How far ahead a fraction is promised: at least so long, and at least such a part of the time from none to all. It is kept twice in
/// that time.
const PROMISED_TIME: Duration = Duration::from_secs(30);
const PROMISED_PART: f64 = 0.01;

/// The agent's place in the order in which a release reaches agents, at least 0 and below 1.
#[expect(clippy::cast_precision_loss, reason = "53 bits fit a float exactly")]
fn place(agent: &str, release: &Digest) -> f64 {
    let mut hasher = Xxh3::new();
    hasher.update(&release.0);
    hasher.update(agent.as_bytes());
    (hasher.digest() >> 11) as f64 / (1_u64 << 53) as f64
}

#[cfg(test)]
mod tests;
