//! The breaker: stop asking a core that fails, find out with one request whether it is back.

use std::time::Duration;

use crate::Millis;

/// A circuit breaker. Closed, it counts failures in a row; at its bound it opens. Open, it lets nothing through until its
/// cooldown is over. Half open, it lets exactly one request through, the probe, and everything hangs on that one's result.
#[derive(Clone, Debug)]
pub struct CircuitBreaker {
    state: State,
    /// Counts openings: a result that belongs to an earlier time says nothing about now.
    epoch: u64,
    failures_to_open: u32,
    cooldown: Duration,
}

/// The breaker as metrics and operators see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BreakerState {
    /// Requests pass.
    Closed,
    /// One probe passes.
    HalfOpen,
    /// Nothing passes.
    Open,
}

/// What the breaker says to a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Passage {
    /// It may pass.
    Free,
    /// It may pass as the probe; [`CircuitBreaker::send_probe`] makes it so.
    AsProbe,
    /// It may not, for this long.
    Blocked(Duration),
}

/// What came of a request, as far as the breaker cares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sign {
    /// The core works.
    Works,
    /// The core fails.
    Fails,
    /// The core has asked for rest.
    WantsRest(Duration),
    /// No result: the caller went away.
    Nothing,
}

#[derive(Clone, Copy, Debug)]
enum State {
    Closed { failures: u32 },
    Open { until: Millis, failed_probes: u32, asked: bool },
    Probing { since: Millis, failed_probes: u32 },
}

/// The cooldown doubles this often at most: eight times the first.
const MAX_DOUBLINGS: u32 = 3;

/// Rest that a core asks for is granted up to this, whatever the number it sends.
const MAX_REST: Duration = Duration::from_secs(600);

impl CircuitBreaker {
    /// A closed breaker that opens after `failures_to_open` failures in a row (at least one).
    pub fn new(failures_to_open: u32, cooldown: Duration) -> Self {
        Self { state: State::Closed { failures: 0 }, epoch: 0, failures_to_open: failures_to_open.max(1), cooldown }
    }

    /// Changes the bounds; the state stays.
    pub fn reconfigure(&mut self, failures_to_open: u32, cooldown: Duration) {
        self.failures_to_open = failures_to_open.max(1);
        self.cooldown = cooldown;
    }

    /// The state at `now`.
    pub fn state(&self, now: Millis) -> BreakerState {
        match self.state {
            State::Closed { .. } => BreakerState::Closed,
            State::Open { until, .. } if now < until => BreakerState::Open,
            State::Open { .. } | State::Probing { .. } => BreakerState::HalfOpen,
        }
    }

    /// The number that a request carries, so that its result is not taken for one of another time.
    pub(super) fn epoch(&self) -> u64 {
        self.epoch
    }

    /// Whether a request may pass at `now`.
    pub(super) fn passage(&self, now: Millis) -> Passage {
        match self.state {
            State::Closed { .. } => Passage::Free,
            State::Open { until, .. } if now < until => Passage::Blocked(until.since(now)),
            State::Open { .. } => Passage::AsProbe,
            // The probe will be answered or time out; until then the best guess is another cooldown from its start.
            State::Probing { since, .. } => {
                let left = self.cooldown.saturating_sub(now.since(since));
                Passage::Blocked(left.max(Duration::from_millis(100)))
            }
        }
    }

    /// The probe leaves.
    pub(super) fn send_probe(&mut self, now: Millis) {
        if let State::Open { failed_probes, .. } = self.state {
            self.epoch += 1;
            self.state = State::Probing { since: now, failed_probes };
        }
    }

    /// A request that left in `epoch` has come back. `true` when it was the probe and the core is back.
    pub(super) fn on_sign(&mut self, epoch: u64, sign: Sign, now: Millis, random: f64) -> bool {
        if epoch != self.epoch {
            self.note_late_rest(sign, now);
            return false;
        }
        match self.state {
            State::Closed { failures } => {
                self.on_sign_closed(failures, sign, now, random);
                false
            }
            State::Probing { failed_probes, .. } => self.on_probe(failed_probes, sign, now, random),
            State::Open { .. } => {
                self.note_late_rest(sign, now);
                false
            }
        }
    }

    fn on_sign_closed(&mut self, failures: u32, sign: Sign, now: Millis, random: f64) {
        match sign {
            Sign::Works => self.state = State::Closed { failures: 0 },
            Sign::Nothing => {}
            Sign::WantsRest(rest) => self.open(now.after(rest.min(MAX_REST)), 0, true),
            Sign::Fails if failures + 1 < self.failures_to_open => {
                self.state = State::Closed { failures: failures + 1 };
            }
            Sign::Fails => self.open(now.after(self.jittered(0, random)), 0, false),
        }
    }

    fn on_probe(&mut self, failed_probes: u32, sign: Sign, now: Millis, random: f64) -> bool {
        match sign {
            Sign::Works => {
                self.epoch += 1;
                self.state = State::Closed { failures: 0 };
                return true;
            }
            // The probe got lost: the next request is the probe.
            Sign::Nothing => self.open(now, failed_probes, false),
            Sign::WantsRest(rest) => self.open(now.after(rest.min(MAX_REST)), failed_probes, true),
            Sign::Fails => {
                let failed_probes = failed_probes.saturating_add(1);
                self.open(now.after(self.jittered(failed_probes, random)), failed_probes, false);
            }
        }
        false
    }

    /// Requests that were on their way when the breaker opened may bring a longer wish for rest; nothing else they say counts.
    fn note_late_rest(&mut self, sign: Sign, now: Millis) {
        if let (State::Open { until, asked, .. }, Sign::WantsRest(rest)) = (&mut self.state, sign) {
            *until = (*until).max(now.after(rest.min(MAX_REST)));
            *asked = true;
        }
    }

    /// Ends the cooldown, unless the core has asked for it.
    pub(super) fn hasten(&mut self, now: Millis) {
        if let State::Open { until, asked: false, .. } = &mut self.state {
            *until = (*until).min(now);
        }
    }

    fn open(&mut self, until: Millis, failed_probes: u32, asked: bool) {
        self.epoch += 1;
        self.state = State::Open { until, failed_probes, asked };
    }

    /// The cooldown after so many failed probes: doubled for each, then drawn from its upper half, so that nodes which lost the
    /// core together do not probe together.
    fn jittered(&self, failed_probes: u32, random: f64) -> Duration {
        let whole = self.cooldown.saturating_mul(1 << failed_probes.min(MAX_DOUBLINGS));
        whole.mul_f64(0.5 + 0.5 * random.clamp(0.0, 1.0))
    }
}
