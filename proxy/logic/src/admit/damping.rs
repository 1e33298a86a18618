//! Agents that do not wait as they were told.
//!
//! An answer with `Retry-After` is a promise: come back then and you will be heard like everyone else. A [`Conduct`] remembers the
//! last one given to an agent on a route, and counts **strikes**: promises after which the agent came back early. One that
//! does so again and again is damped: until its time has come it is answered from the table alone, and its times double. When its
//! time has come it is heard once, however it behaved, so that a faulty version can still be told of its successor.
//!
//! Not a strike: what comes within a second of the refusal, since it may have been on its way; what comes up to a tenth of
//! the time too early, since clocks differ; and what another route has refused.

use std::time::Duration;

use super::slots::Keep;
use crate::Millis;

/// What is known of an agent on a route. 24 bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Conduct {
    /// When the agent was told to wait: the first time, of several refusals at once.
    told: u64,
    /// When it was asked to come back; where no promise stands, when anything was last heard of it.
    due: u64,
    strikes: u8,
    /// Whether a promise stands.
    standing: bool,
    /// Whether the agent has come back early since the promise was given.
    early: bool,
}

/// When agents are damped, and how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Damping {
    /// Strikes from which an agent is damped.
    pub after: u8,
    /// The longest time that a damped agent is told to wait.
    pub longest: Duration,
}

/// How an agent has come back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub struct Manner {
    /// This request is one more strike.
    pub strikes_now: bool,
    /// The agent is damped, and its time has not come: so long it has still to wait.
    pub damped: Option<Duration>,
}

impl Conduct {
    /// An agent comes back.
    pub fn comes(&mut self, rules: Damping, now: Millis) -> Manner {
        self.forgive(now);
        let mut manner = Manner { strikes_now: false, damped: None };
        if !self.standing {
            return manner;
        }
        let tolerance = (self.due.saturating_sub(self.told) / 10).max(GRACE);
        if now.0.saturating_add(tolerance) >= self.due {
            if !self.early {
                self.strikes /= 2;
            }
            self.end_promise(now);
            return manner;
        }
        if !self.early && now.0 >= self.told.saturating_add(GRACE) {
            self.early = true;
            self.strikes = (self.strikes + 1).min(MAX_STRIKES);
            manner.strikes_now = true;
        }
        if self.strikes >= rules.after {
            manner.damped = Some(Duration::from_millis(self.due - now.0));
        }
        manner
    }

    /// The agent is to be told to come back after `wait`. Gives what it is told indeed: longer for one that is damped.
    pub fn told(&mut self, wait: Duration, rules: Damping, now: Millis) -> Duration {
        self.forgive(now);
        let wait = match self.strikes.checked_sub(rules.after) {
            None => wait,
            Some(over) => {
                let doubled = wait.saturating_mul(2_u32.saturating_pow(u32::from(over) + 1));
                doubled.min(rules.longest).max(wait)
            }
        };
        let is_burst = self.standing && !self.early && now.0 < self.told.saturating_add(GRACE);
        if !is_burst {
            self.told = now.0;
        }
        self.due = now.after(wait).0;
        (self.standing, self.early) = (true, false);
        wait
    }

    /// The agent was let in although its time had not come: it owes nothing for this promise any more.
    pub fn let_in(&mut self, now: Millis) {
        if self.standing {
            self.end_promise(now);
        }
    }

    /// Whether it has a promise to wait for, and is damped until then.
    pub fn is_damped(&self, after: u8, now: Millis) -> bool {
        self.standing && self.strikes >= after && now.0 < self.due
    }

    /// Times that the agent has come back early, as far as they are not forgiven.
    pub fn strikes(&self) -> u8 {
        self.strikes
    }

    fn end_promise(&mut self, now: Millis) {
        self.standing = false;
        self.due = now.0;
    }

    fn forgive(&mut self, now: Millis) {
        let halvings = now.0.saturating_sub(self.due) / HALF_LIFE;
        if self.strikes > 0 && halvings > 0 {
            self.strikes = halved(self.strikes, halvings);
            self.end_promise(now);
        }
    }
}

fn halved(strikes: u8, times: u64) -> u8 {
    u32::try_from(times).ok().and_then(|times| strikes.checked_shr(times)).unwrap_or(0)
}

impl Keep for Conduct {
    fn worth(&self, now: Millis) -> u64 {
        let left = self.due.saturating_sub(now.0).min(u64::from(u32::MAX));
        let strikes = halved(self.strikes, now.0.saturating_sub(self.due) / HALF_LIFE);
        (u64::from(strikes) << 32) + if self.standing { left } else { 0 }
    }
}

/// Milliseconds after a refusal in which a request counts as sent before it, and before the time in which it counts as on time.
const GRACE: u64 = 1_000;
/// Strikes that are counted: as many as a configuration may ask for.
const MAX_STRIKES: u8 = 100;
/// Milliseconds without a strike after which half of them are forgiven.
const HALF_LIFE: u64 = 600_000;

#[cfg(test)]
mod tests;
