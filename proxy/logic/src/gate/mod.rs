//! The gate that all traffic to one core passes: breaker, concurrency, pace, ramp and retry budget, in one place and without a
//! clock. It says go, wait or not now; the queue of those who wait is the caller's.
//!
//! What the core is promised (invariant 7): over any span of time it sees no more requests than the rate, scaled by the ramp,
//! plus a burst of a twentieth of a second; `probe` and `tasking` alone may pass over the rate, and the others make up for it.

mod breaker;
mod ejection;
mod flows;
mod latency;
mod limit;
mod line;
mod pace;
mod ramp;
#[cfg(test)]
mod tests;

use std::time::Duration;

use weir_config::{Class, Ratio};

pub use breaker::{BreakerState, CircuitBreaker};
pub use ejection::Ejection;
pub use limit::{ConcurrencyLimit, Cuts, LimitBounds};
pub use line::{Ahead, Call, Full, Line, Rank};
pub use pace::Pace;
pub use ramp::Ramp;

use crate::Millis;
use crate::retry::RetryBudget;
use breaker::{Passage, Sign};
use flows::Flows;
use limit::Strain;

/// One core's gate.
#[derive(Clone, Debug)]
pub struct Gate {
    breaker: CircuitBreaker,
    limit: ConcurrencyLimit,
    pace: Pace,
    ramp: Ramp,
    budget: RetryBudget,
    flows: Flows,
    in_flight: usize,
    /// How long the core takes to answer, in milliseconds: a mean over the last ones.
    typical: Option<f64>,
}

/// The bounds of a gate, as the operator wrote them.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct GateLimits {
    /// Requests in flight at once, between what bounds.
    pub in_flight: LimitBounds,
    /// Requests started a second, at most.
    pub max_requests_per_second: u32,
    /// Failures in a row that open the breaker.
    pub breaker_failures: u32,
    /// The time from the opening to the first probe.
    pub breaker_cooldown: Duration,
    /// The length of the climb after a recovery.
    pub ramp: Duration,
    /// Retries over first attempts.
    pub retry_budget: Ratio,
    /// The part of the requests in flight that one flow may have.
    pub flow_share: Ratio,
}

impl From<&weir_config::Core> for GateLimits {
    fn from(core: &weir_config::Core) -> Self {
        Self {
            in_flight: LimitBounds { floor: core.min_in_flight, ceiling: core.max_in_flight, adaptive: core.adaptive },
            max_requests_per_second: core.max_requests_per_second,
            breaker_failures: core.breaker_failures,
            breaker_cooldown: core.breaker_cooldown,
            ramp: core.ramp,
            retry_budget: core.retry_budget,
            flow_share: core.max_route_share,
        }
    }
}

/// The gate's word to a request.
#[derive(Debug, PartialEq, Eq)]
#[must_use]
pub enum Entry {
    /// Go; bring the ticket back with the result.
    Go(Ticket),
    /// Not yet.
    Wait(Until),
    /// The core rests: come back after this time at the earliest.
    Resting(Duration),
}

/// What a request waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Until {
    /// This point in time.
    Time(Millis),
    /// The end of another request.
    Release,
}

/// The right to send one request. It must come back to [`Gate::on_result`], exactly once.
#[derive(Debug, PartialEq, Eq)]
#[must_use]
pub struct Ticket {
    epoch: u64,
    flow: FlowId,
    started: Millis,
}

/// One of the streams of requests that go to a core: what one route or one stream of records asks of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct FlowId(pub usize);

/// What came of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attempt {
    /// The core answered, and not with an error of its own; so long after the request had been sent the answer began to come.
    Succeeded(Duration),
    /// The core answered well, and how soon says nothing of it.
    Works,
    /// No answer, or an answer that says that the core is broken.
    Failed,
    /// No answer in time.
    TimedOut,
    /// The core answered that it has too much to do (429 or 503), and not for how long.
    Overloaded,
    /// The core answered that it wants to be left alone for this time (the same, with `Retry-After`).
    RestAsked(Duration),
    /// The caller went away before there was a result.
    Abandoned,
}

impl Gate {
    /// An open gate to a core that nothing is known of, and what asks of it, by name.
    pub fn new<'a>(limits: &GateLimits, flows: impl IntoIterator<Item = &'a str>) -> Self {
        Self {
            breaker: CircuitBreaker::new(limits.breaker_failures, limits.breaker_cooldown),
            limit: ConcurrencyLimit::new(limits.in_flight),
            pace: Pace::new(limits.max_requests_per_second),
            ramp: Ramp::new(limits.ramp),
            budget: RetryBudget::new(limits.retry_budget),
            flows: Flows::new(limits.flow_share, flows),
            in_flight: 0,
            typical: None,
        }
    }

    /// Changes the bounds and what asks, and keeps everything known of the core.
    pub fn reconfigure<'a>(&mut self, limits: &GateLimits, flows: impl IntoIterator<Item = &'a str>, now: Millis) {
        self.breaker.reconfigure(limits.breaker_failures, limits.breaker_cooldown);
        self.limit.reconfigure(limits.in_flight);
        self.pace.reconfigure(limits.max_requests_per_second, &self.ramp, now);
        self.ramp.reconfigure(limits.ramp);
        self.budget.reconfigure(limits.retry_budget);
        self.flows.share(limits.flow_share);
        self.flows.rename(flows);
    }

    /// The flow of this name: a route's or a stream's.
    pub fn flow(&self, name: &str) -> FlowId {
        self.flows.id(name)
    }

    /// Asks for a request of `class` to be let through.
    pub fn try_enter(&mut self, class: Class, flow: FlowId, now: Millis) -> Entry {
        match self.breaker.passage(now) {
            Passage::Blocked(left) => return Entry::Resting(left),
            Passage::AsProbe => {
                self.breaker.send_probe(now);
                return self.admit(flow, now);
            }
            Passage::Free => {}
        }
        if self.in_flight >= self.limit.room(class) {
            self.limit.on_wait();
            return Entry::Wait(Until::Release);
        }
        if self.flows.is_full(flow, self.limit.limit()) {
            // A share that is used up is a reason for a higher limit, unless the flow has lost a part of it.
            if !self.flows.is_at_fault(flow) {
                self.limit.on_wait();
            }
            return Entry::Wait(Until::Release);
        }
        match self.pace.take(class, &self.ramp, now) {
            Ok(()) => self.admit(flow, now),
            Err(until) => Entry::Wait(Until::Time(until)),
        }
    }

    /// Takes a ticket back. `random` is a number from 0 (included) to 1 (excluded), for the jitter of the cooldown.
    #[expect(clippy::needless_pass_by_value, reason = "a ticket is used up")]
    pub fn on_result(&mut self, ticket: Ticket, attempt: Attempt, now: Millis, random: f64) {
        self.in_flight = self.in_flight.saturating_sub(1);
        self.flows.on_exit(ticket.flow);
        let sign = match attempt {
            Attempt::Succeeded(latency) => {
                self.limit.on_answer(ticket.flow, latency, ticket.started, now, random);
                self.flows.on_answer(ticket.flow, self.limit.limit(), now);
                self.note_latency(latency);
                Sign::Works
            }
            Attempt::Works => {
                self.flows.on_answer(ticket.flow, self.limit.limit(), now);
                Sign::Works
            }
            Attempt::Failed => Sign::Fails,
            Attempt::TimedOut => {
                if !self.flows.on_timeout(ticket.flow, ticket.started, now) {
                    self.limit.on_strain(Strain::Timeout, ticket.started, now);
                }
                Sign::Fails
            }
            Attempt::Overloaded => {
                self.limit.on_strain(Strain::Overload, ticket.started, now);
                Sign::Fails
            }
            Attempt::RestAsked(rest) => {
                self.limit.on_strain(Strain::Overload, ticket.started, now);
                Sign::WantsRest(rest)
            }
            Attempt::Abandoned => Sign::Nothing,
        };
        self.on_sign(ticket.epoch, sign, now, random);
    }

    /// The head has come of a good answer whose body may take long: that the core works is known, and a probe has done its work. The
    /// ticket comes back when the body has come, and says what became of that.
    pub fn on_head(&mut self, ticket: &Ticket, now: Millis, random: f64) {
        self.on_sign(ticket.epoch, Sign::Works, now, random);
    }

    fn on_sign(&mut self, epoch: u64, sign: Sign, now: Millis, random: f64) {
        if self.breaker.on_sign(epoch, sign, now, random) {
            self.ramp.start(now);
            self.pace.empty(&self.ramp, now);
            self.limit.on_recovery(now);
        }
    }

    /// Something else than a request has shown that the core may be back: the next request is the probe. A rest that the core has
    /// asked for is not cut short.
    pub fn hasten_probe(&mut self, now: Millis) {
        self.breaker.hasten(now);
    }

    /// A request that was not sent before goes to the core: it pays for a part of a retry.
    pub fn note_first_attempt(&mut self) {
        self.budget.deposit();
    }

    /// Whether a retry may be scheduled now; it still has to enter. Counted at once.
    #[must_use]
    pub fn try_retry(&mut self) -> bool {
        self.budget.withdraw()
    }

    /// Requests in flight.
    pub fn in_flight(&self) -> usize {
        self.in_flight
    }

    /// Requests that may be in flight.
    pub fn limit(&self) -> usize {
        self.limit.limit()
    }

    /// How often that was cut.
    pub fn cuts(&self) -> Cuts {
        self.limit.cuts()
    }

    /// The breaker's state.
    pub fn breaker(&self, now: Millis) -> BreakerState {
        self.breaker.state(now)
    }

    /// Requests a second that are admitted now; zero while the breaker is not closed.
    pub fn admitted_rate(&self, now: Millis) -> f64 {
        match self.breaker.state(now) {
            BreakerState::Closed => self.pace.admitted_rate(&self.ramp, now),
            BreakerState::HalfOpen | BreakerState::Open => 0.0,
        }
    }

    /// Whether a flow has all the room that it may have.
    pub fn is_share_used_up(&self, flow: FlowId) -> bool {
        self.flows.is_full(flow, self.limit.limit())
    }

    /// The time until a request of `class` is let through that has so many before it in line, by the pace and its ramp, and by how
    /// soon the core answers. An estimate from below: who comes later with a higher class goes first. Zero when it may go now;
    /// a breaker that is not closed is not taken into account.
    pub fn time_through(&self, class: Class, ahead: Ahead, now: Millis) -> Duration {
        let paced = self.pace.time_for(class, ahead, &self.ramp, now);
        let room = self.limit.room(class);
        let free = room.saturating_sub(self.in_flight);
        if ahead.all < free {
            return paced;
        }
        let turns = (ahead.all - free) / room + 1;
        let typical = Duration::from_secs_f64(self.typical.unwrap_or(0.0) / 1_000.0);
        // Half a round until the first place is free, then one place after the other.
        paced.max(typical.saturating_mul(u32::try_from(turns).unwrap_or(u32::MAX)).div_f64(2.0))
    }

    /// Says which classes wait.
    fn note_waiting(&mut self, waits: impl Fn(Class) -> bool) {
        self.pace.note_waiting(waits);
    }

    /// Whether a class is owed some of its part of the pace.
    fn is_due(&mut self, class: Class, now: Millis) -> bool {
        self.pace.is_due(class, &self.ramp, now)
    }

    fn note_latency(&mut self, latency: Duration) {
        let ms = latency.as_secs_f64() * 1_000.0;
        let typical = self.typical.get_or_insert(ms);
        *typical += (ms - *typical) * 0.05;
    }

    fn admit(&mut self, flow: FlowId, now: Millis) -> Entry {
        self.in_flight += 1;
        self.flows.on_entry(flow);
        self.limit.on_entry(self.in_flight);
        Entry::Go(Ticket { epoch: self.breaker.epoch(), flow, started: now })
    }
}
