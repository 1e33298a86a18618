//! Requests in flight to a core: how many, and how much room each class has.
//!
//! The limit follows the core. It grows while requests wait for it and answers come as fast as usual, falls when they become
//! slow, and falls at once when the core says that it is overloaded or does not answer in time. What is usual is measured, and
//! measured again: a core that is slower than yesterday for reasons of its own must not be starved for it.
//!
//! A cut is also the way to find out. When the core's queue was our doing, answers come sooner after it. When they do not, for
//! as long as it takes all nodes of a fleet to have cut as well, the core has become slower by itself: the cut is taken back,
//! and what is measured now is usual from then on.

#[cfg(test)]
mod tests;

use std::time::Duration;

use weir_config::Class;

use super::FlowId;
use super::latency::Latencies;
use crate::Millis;

/// How many requests may be in flight.
#[derive(Clone, Debug)]
pub struct ConcurrencyLimit {
    rules: Rules,
    bounds: LimitBounds,
    limit: f64,
    latencies: Latencies,
    /// Whether the limit grows by half, as it does until answers become slow for the first time.
    climbing: bool,
    round: Round,
    trial: Option<Trial>,
    probes: Probes,
    cuts: Cuts,
}

/// Between what a limit moves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LimitBounds {
    /// So many may be in flight whatever happens. At least one, at most `ceiling`.
    pub floor: usize,
    /// So many at most. At least one.
    pub ceiling: usize,
    /// Whether the limit follows the core; otherwise it is `ceiling`.
    pub adaptive: bool,
}

/// How often the limit was cut, by cause.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cuts {
    /// Answers came slower than usual.
    pub latency: u64,
    /// The core said that it has too much to do: 429 or 503.
    pub overload: u64,
    /// The core did not answer in time.
    pub timeout: u64,
}

/// Why the limit is cut at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Strain {
    /// 429 or 503.
    Overload,
    /// No answer in time.
    Timeout,
}

/// The time from one change of the limit to the next: only requests that left after a change tell what came of it.
#[derive(Clone, Copy, Debug, Default)]
struct Round {
    since: Millis,
    /// The most that was in flight.
    peak: usize,
    /// Whether somebody had to wait for the limit.
    pressed: bool,
}

/// A cut whose effect is being watched.
#[derive(Clone, Copy, Debug)]
struct Trial {
    /// The limit before it.
    limit: f64,
    /// How slow answers were before it.
    ratio: f64,
    /// When to conclude that it was in vain.
    until: Millis,
    /// Made to measure what is usual, not because answers were slow.
    probe: bool,
}

/// When to measure anew what is usual.
#[derive(Clone, Copy, Debug, Default)]
struct Probes {
    next: Option<Millis>,
    made: u32,
}

/// What a limit goes by.
#[derive(Clone, Copy, Debug)]
struct Rules {
    /// Answers in a round, at least.
    min_answers: u32,
    /// A round that has seen too few answers for so long says nothing.
    max_round: Duration,
    /// Slow answers are not for want of a lower limit while less than this part of it is in flight.
    idle: f64,
    /// The time that a cut may take to show an effect: drawn from here to twice of it. Long enough for all nodes that feel the
    /// same queue to have cut as well, so that none of them takes what the others cause for the core's own.
    patience: Duration,
    /// From one measurement to the next at first, and in the long run: drawn from here to twice of it.
    first_probes: Duration,
    later_probes: Duration,
}

impl Rules {
    const USUAL: Self = Self {
        min_answers: 16,
        max_round: Duration::from_secs(10),
        idle: 0.25,
        patience: Duration::from_secs(2),
        first_probes: Duration::from_secs(2),
        later_probes: Duration::from_secs(30),
    };
}

/// The limit at the start, unless its bounds say otherwise.
const INITIAL: f64 = 32.0;

/// A round's length, at least.
const MIN_ROUND: Duration = Duration::from_millis(100);

/// Answers that take up to so many times the usual are fine; more of them are in flight then than the core works on.
const TOLERANCE: f64 = 1.5;

/// The limit grows as long as answers take no longer than this many times the usual.
const FLUENT: f64 = 1.2;

/// The most that is cut in one round because answers are slow, and the least.
const MAX_CUT: f64 = 0.5;
const MIN_CUT: f64 = 0.9;

/// What is left after an overload was told, and after a timeout.
const OVERLOAD_CUT: f64 = 0.7;
const TIMEOUT_CUT: f64 = 0.5;

/// What is left of the limit for a measurement. Times [`TOLERANCE`] it is less than one: so a baseline that was measured in a
/// queue of our own making is lower the next time, not higher.
const PROBE_CUT: f64 = 0.5;

/// A trial is worth an opinion when so much of the limit or less is left.
const TELLING: f64 = 0.7;

impl ConcurrencyLimit {
    /// A limit within `bounds`, to a core that nothing is known of.
    pub fn new(bounds: LimitBounds) -> Self {
        Self::with(Rules::USUAL, bounds)
    }

    fn with(rules: Rules, bounds: LimitBounds) -> Self {
        let mut limit = Self {
            rules,
            bounds,
            limit: INITIAL,
            latencies: Latencies::default(),
            climbing: true,
            round: Round::default(),
            trial: None,
            probes: Probes::default(),
            cuts: Cuts::default(),
        };
        limit.reconfigure(bounds);
        limit
    }

    /// Changes the bounds and keeps what is known of the core.
    pub fn reconfigure(&mut self, bounds: LimitBounds) {
        let ceiling = bounds.ceiling.max(1);
        self.bounds = LimitBounds { floor: bounds.floor.clamp(1, ceiling), ceiling, ..bounds };
        self.set(if bounds.adaptive { self.limit } else { float(ceiling) });
        self.trial = None;
    }

    /// The limit for all classes together.
    pub fn limit(&self) -> usize {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between the bounds")]
        let whole = self.limit as usize;
        whole.clamp(self.bounds.floor, self.bounds.ceiling)
    }

    /// What may be in flight at most when a request of `class` joins: the room above it stays with the classes over it. At
    /// least one, so that a small limit starves nobody for good.
    pub fn room(&self, class: Class) -> usize {
        let percent = match class {
            Class::Probe | Class::Tasking => 100,
            Class::Checkin => 95,
            Class::Config => 90,
            Class::Update => 85,
            Class::Download => 80,
            Class::Telemetry => 75,
        };
        (self.limit().saturating_mul(percent) / 100).max(1)
    }

    /// How often the limit was cut.
    pub fn cuts(&self) -> Cuts {
        self.cuts
    }

    /// So many are in flight now that one more has left.
    pub(super) fn on_entry(&mut self, in_flight: usize) {
        self.round.peak = self.round.peak.max(in_flight);
    }

    /// A request must wait for the end of another.
    pub(super) fn on_wait(&mut self) {
        self.round.pressed = true;
    }

    /// The core is back: what it takes now is found out as at the start, from where the limit stands.
    pub(super) fn on_recovery(&mut self, now: Millis) {
        self.climbing = true;
        self.begin_round(now);
    }

    /// An answer has begun to come, `latency` after its request had left. The attempt began at `started`.
    pub(super) fn on_answer(&mut self, flow: FlowId, latency: Duration, started: Millis, now: Millis, random: f64) {
        if !self.bounds.adaptive || started < self.round.since {
            return;
        }
        self.latencies.note(flow, latency);
        let length = now.since(self.round.since);
        let enough = self.latencies.count() >= self.rules.min_answers && self.latencies.are_telling();
        if enough && length >= MIN_ROUND {
            self.judge(now, random);
        } else if length > self.rules.max_round {
            self.begin_round(now);
        }
    }

    /// The core cannot keep up. Requests that left before the last cut say nothing new, so that one overload is one cut.
    pub(super) fn on_strain(&mut self, strain: Strain, started: Millis, now: Millis) {
        if !self.bounds.adaptive || started < self.round.since {
            return;
        }
        let (part, cuts) = match strain {
            Strain::Overload => (OVERLOAD_CUT, &mut self.cuts.overload),
            Strain::Timeout => (TIMEOUT_CUT, &mut self.cuts.timeout),
        };
        *cuts += 1;
        self.climbing = false;
        self.trial = None;
        self.set(self.limit * part);
        self.begin_round(now);
    }

    /// A round has seen enough.
    fn judge(&mut self, now: Millis, random: f64) {
        let ratio = self.latencies.ratio();
        if let Some(trial) = self.trial {
            self.judge_trial(trial, ratio, now, random);
        } else if ratio > TOLERANCE {
            self.relieve(ratio, now, random);
        } else if self.round.pressed && !self.probe(ratio, now, random) {
            self.grow(ratio);
        }
        self.latencies.learn();
        self.begin_round(now);
    }

    /// Answers are slow. Where little is in flight, that is not for want of a lower limit.
    fn relieve(&mut self, ratio: f64, now: Millis, random: f64) {
        self.climbing = false;
        if float(self.round.peak) < self.limit * self.rules.idle {
            return;
        }
        let until = now.after(self.rules.patience.mul_f64(1.0 + random));
        self.trial = Some(Trial { limit: self.limit, ratio, until, probe: false });
        self.cut(ratio);
    }

    fn cut(&mut self, ratio: f64) {
        let before = self.limit;
        self.set(before * (TOLERANCE / ratio).clamp(MAX_CUT, MIN_CUT));
        self.cuts.latency += u64::from(self.limit < before);
    }

    fn judge_trial(&mut self, trial: Trial, ratio: f64, now: Millis, random: f64) {
        if trial.probe {
            self.latencies.accept();
            self.set(trial.limit);
            self.trial = None;
            return;
        }
        let at_floor = self.limit <= float(self.bounds.floor);
        let expected = (trial.ratio * self.limit / trial.limit).max(1.0);
        if ratio < f64::midpoint(trial.ratio, expected) && !at_floor {
            self.trial = None;
            if ratio > TOLERANCE {
                self.relieve(ratio, now, random);
            }
        } else if at_floor && ratio <= TOLERANCE {
            self.trial = None;
        } else if now >= trial.until {
            self.latencies.accept();
            self.trial = None;
            // What the floor costs is usual by definition; what a cut has not made better is taken back.
            if !at_floor || ratio > f64::midpoint(trial.ratio, expected) {
                self.set(trial.limit);
            }
        } else if self.limit > trial.limit * TELLING {
            self.cut(ratio);
        }
    }

    /// Starts a measurement when one is due. The first ones come soon, since the baseline may have been measured in a crowd.
    fn probe(&mut self, ratio: f64, now: Millis, random: f64) -> bool {
        let due = self.probes.next.is_some_and(|next| now >= next);
        if due || self.probes.next.is_none() {
            let pause =
                self.rules.first_probes.saturating_mul(1 << self.probes.made.min(16)).min(self.rules.later_probes);
            self.probes.next = Some(now.after(pause.mul_f64(1.0 + random)));
            self.probes.made = self.probes.made.saturating_add(1);
        }
        if due {
            self.trial = Some(Trial { limit: self.limit, ratio, until: now, probe: true });
            self.set(self.limit * PROBE_CUT);
        }
        due
    }

    fn grow(&mut self, ratio: f64) {
        self.climbing &= ratio < FLUENT;
        if self.climbing {
            self.set(self.limit * 1.5);
        } else if ratio < FLUENT {
            self.set(self.limit + self.limit.sqrt());
        }
    }

    fn set(&mut self, limit: f64) {
        self.limit = limit.clamp(float(self.bounds.floor), float(self.bounds.ceiling));
    }

    fn begin_round(&mut self, now: Millis) {
        self.round = Round { since: now, ..Round::default() };
        self.latencies.clear();
    }
}

fn float(count: usize) -> f64 {
    u32::try_from(count).map_or(f64::from(u32::MAX), f64::from)
}
