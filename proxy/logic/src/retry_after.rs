//! When an agent that is turned away shall come back: the contract of `Retry-After`.
//!
//! All who are turned away together must not come back together. Each gets its own second of a **window**, by the hash of its name: the same
//! on every node, without anyone asking anyone. The window is as wide as it takes to let in all who have been told to come back, beside
//! the ordinary traffic: so many that have been told ([`Demand`]), over a fifth of the rate at which the node lets requests in. It opens
//! after as long as it is wide, so that those who were told before come first and no window lies on another.

use std::time::Duration;

use xxhash_rust::xxh3::xxh3_64;

use crate::{Identity, Millis};

/// The span in which agents are told to come back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// Whole seconds before it opens.
    lead: u64,
    /// Whole seconds that it is long; at least 1.
    width: u64,
}

/// The bounds of all windows of a class.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WindowBounds {
    /// The shortest lead and the shortest width.
    pub shortest: Duration,
    /// The longest time that an agent is told.
    pub longest: Duration,
}

impl Window {
    /// A window for `returning` agents, of whom `per_second` requests can be let in besides what comes anyway. It opens after its width
    /// or `lead`, whichever is longer, where the bounds leave it the room: rather than gather agents at the bound it opens earlier, until it has
    /// half of the longest time.
    ///
    /// Its width is the shortest, doubled until it is wide enough: nodes in about the same need give an agent the same second.
    pub fn new(lead: Duration, returning: u64, per_second: f64, bounds: WindowBounds) -> Self {
        let longest = whole_seconds(bounds.longest).max(2);
        let shortest = whole_seconds(bounds.shortest).clamp(1, longest / 2);
        let mut width = shortest;
        while width < needed(returning, per_second).min(longest) {
            width *= 2;
        }
        let lead = whole_seconds(lead).max(width).min(longest - width.min(longest / 2));
        Self { lead, width: width.min(longest - lead) }
    }

    /// A window with the lead and half of it more, for answers that the operator has written.
    pub fn of_calm(lead: Duration) -> Self {
        let lead = whole_seconds(lead).max(1);
        Self { lead, width: (lead / 2).max(1) }
    }

    /// The second of the agent with this hash: from the lead to the window's end, both included.
    pub fn second_of(self, hash: u64) -> u64 {
        let seconds = u128::from(self.width) + 1;
        self.lead + u64::try_from((u128::from(hash) * seconds) >> 64).unwrap_or(0)
    }

    /// The first and the last second that it gives.
    pub fn span(self) -> (u64, u64) {
        (self.lead, self.lead + self.width)
    }
}

/// Where an agent stands in every window: by its own name, or `random` bits for one without.
pub fn agent_hash(identity: &Identity, random: u64) -> u64 {
    identity.agent.as_ref().map_or(random, |agent| xxh3_64(agent.as_str().as_bytes()))
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "`as` saturates, also where the rate is zero"
)]
fn needed(returning: u64, per_second: f64) -> u64 {
    (returning as f64 / per_second.max(f64::MIN_POSITIVE)).ceil() as u64
}

fn whole_seconds(duration: Duration) -> u64 {
    duration.as_secs() + u64::from(duration.subsec_nanos() > 0)
}

/// Who has been told to come back, and how many are let in.
///
/// Memory: 8 KiB.
#[derive(Clone, Debug)]
pub struct Demand {
    /// Promises by the second in which they end, a ring.
    promises: Vec<u32>,
    /// Their sum.
    standing: u64,
    /// The second up to which the ring has been cleared.
    second: u64,
    /// Requests let in a second, of late.
    rate: f64,
    /// What was let in up to `measured`.
    admitted: u64,
    measured: Millis,
}

/// Seconds that the ring spans; later promises count as made for its end.
const SPAN: u64 = 2048;

/// The part of the rate let in that those who come back may take, so that they are a fifth more load and not a second stampede.
const PART_FOR_RETURNING: f64 = 0.2;

/// Those who may come back a second, at least: a node that has let in nobody of late does not send a single agent away for long.
const LEAST_RETURNING: f64 = 1.0;

impl Demand {
    /// Nobody has been told anything.
    pub fn new(now: Millis) -> Self {
        let ring = vec![0; usize::try_from(SPAN).unwrap_or(0)];
        Self { promises: ring, standing: 0, second: now.0 / 1000, rate: 0.0, admitted: 0, measured: now }
    }

    /// The window for one more who is turned away now. `admitted` counts all requests of the class that were ever let in.
    pub fn window(&mut self, lead: Duration, admitted: u64, bounds: WindowBounds, now: Millis) -> Window {
        self.pass(now);
        self.measure(admitted, now);
        Window::new(lead, self.standing + 1, (self.rate * PART_FOR_RETURNING).max(LEAST_RETURNING), bounds)
    }

    /// An agent has been told to come back after so many seconds.
    pub fn promise(&mut self, seconds: u64, now: Millis) {
        self.pass(now);
        let due = self.second + seconds.clamp(1, SPAN - 1);
        let place = &mut self.promises[slot(due)];
        *place = place.saturating_add(1);
        self.standing += 1;
    }

    /// Agents that have been told to come back and whose time has not come.
    pub fn returning(&mut self, now: Millis) -> u64 {
        self.pass(now);
        self.standing
    }

    /// Clears the seconds that have passed.
    fn pass(&mut self, now: Millis) {
        let now = (now.0 / 1000).max(self.second);
        for second in (self.second + 1)..=now.min(self.second + SPAN) {
            let ended = std::mem::take(&mut self.promises[slot(second)]);
            self.standing -= u64::from(ended);
        }
        self.second = now;
    }

    /// Measures the rate over at least a second, and forgets old ones within a few.
    #[expect(clippy::cast_precision_loss, reason = "a rate")]
    fn measure(&mut self, admitted: u64, now: Millis) {
        let passed = now.since(self.measured).as_secs_f64();
        if passed < 1.0 {
            return;
        }
        let rate = admitted.saturating_sub(self.admitted) as f64 / passed;
        let weight = 1.0 - (-passed / RATE_MEMORY).exp();
        self.rate += weight * (rate - self.rate);
        (self.admitted, self.measured) = (admitted, now);
    }
}

/// Seconds over which the rate is averaged.
const RATE_MEMORY: f64 = 5.0;

fn slot(second: u64) -> usize {
    usize::try_from(second % SPAN).unwrap_or(0)
}

#[cfg(test)]
mod tests;
