//! The queue before a core's gate: who waits, in which order, and for how long. The gate's own rules are [`weir_logic::gate`]'s.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use prometheus::{IntCounter, IntGauge};
use tokio::sync::{Notify, oneshot};
use weir_config::Class;
use weir_logic::Millis;
use weir_logic::gate::{Attempt, BreakerState, Cuts, Entry, FlowId, Gate, GateLimits, Ticket, Until};

use super::{OriginError, Rank};
use crate::clock::Clock;
use crate::metrics::Metrics;
use crate::task;

/// A gate that many requests stand at. Those that cannot go at once wait in line: higher ranks first, first come first served
/// within a rank, none longer than the core's `max_wait`. The line is as long as the gate can let through within that time,
/// and at least as long as what may be in flight; past it, the newest of the lowest rank is turned away.
pub(super) struct Turnstile {
    line: Mutex<Line>,
    freed: Notify,
    clock: Clock,
    gauges: Gauges,
    core: String,
}

/// The right to send one request to a core. It tells the gate what came of it; dropped without a word, the request counts as
/// abandoned.
#[must_use]
pub(super) struct Permit {
    turnstile: Arc<Turnstile>,
    ticket: Option<Ticket>,
}

/// What operators see of a gate.
#[derive(Clone, Copy, Debug)]
pub(super) struct GateStatus {
    pub(super) breaker: BreakerState,
    pub(super) in_flight: usize,
    pub(super) limit: usize,
    pub(super) waiting: usize,
    pub(super) admitted_rate: f64,
}

struct Line {
    gate: Gate,
    /// One line for each rank, the highest first.
    waiting: [VecDeque<Waiter>; RANKS.len()],
    max_wait: Duration,
    max_waiting: usize,
    /// Whether a task is calling those who wait.
    calling: bool,
}

/// Somebody in line.
struct Waiter {
    flow: FlowId,
    word: oneshot::Sender<Result<Permit, OriginError>>,
}

/// A word to somebody in line, spoken after the line is unlocked.
type Call = (Waiter, Result<Ticket, OriginError>);

/// The task that calls those who wait has nobody to call, or must come back.
enum Next {
    Nobody,
    At(Millis),
    WhenFreed,
}

impl Turnstile {
    pub(super) fn new(core: &weir_config::Core, flows: &[&str], metrics: &Metrics, clock: Clock) -> Arc<Self> {
        let line = Line {
            gate: Gate::new(&GateLimits::from(core), flows.iter().copied()),
            waiting: Default::default(),
            max_wait: core.max_wait,
            max_waiting: max_waiting(core),
            calling: false,
        };
        let turnstile = Self {
            line: Mutex::new(line),
            freed: Notify::new(),
            clock,
            gauges: Gauges::new(metrics, &core.name),
            core: core.name.clone(),
        };
        turnstile.gauges.show(&turnstile.line.lock().gate, clock.now());
        Arc::new(turnstile)
    }

    pub(super) fn reconfigure(&self, core: &weir_config::Core, flows: &[&str]) {
        let mut line = self.line.lock();
        line.gate.reconfigure(&GateLimits::from(core), flows.iter().copied(), self.clock.now());
        line.max_wait = core.max_wait;
        line.max_waiting = max_waiting(core);
        drop(line);
        self.freed.notify_one();
    }

    /// Passes the gate, in line if need be.
    pub(super) async fn enter(self: &Arc<Self>, rank: Rank, label: &str) -> Result<Permit, OriginError> {
        let result = self.enter_or_wait(rank, label).await;
        match result {
            Err(OriginError::Resting(_)) => self.gauges.resting.inc(),
            Err(_) => self.gauges.full.inc(),
            Ok(_) => {}
        }
        result
    }

    async fn enter_or_wait(self: &Arc<Self>, rank: Rank, label: &str) -> Result<Permit, OriginError> {
        let (max_wait, turn) = match self.stand(rank, label) {
            Stand::Go(ticket) => return Ok(self.permit(ticket)),
            Stand::Away(error) => return Err(error),
            Stand::InLine { max_wait, turn, calling } => {
                if let Some(calling) = calling {
                    task::spawn("gate", calling.call_those_who_wait());
                }
                (max_wait, turn)
            }
        };
        match tokio::time::timeout(max_wait, turn).await {
            Ok(Ok(result)) => result,
            Ok(Err(_)) | Err(_) => Err(OriginError::Full),
        }
    }

    /// Takes one retry out of the core's budget.
    pub(super) fn try_retry(&self) -> bool {
        self.line.lock().gate.try_retry()
    }

    pub(super) fn status(&self) -> GateStatus {
        let line = self.line.lock();
        let now = self.clock.now();
        self.gauges.show(&line.gate, now);
        GateStatus {
            breaker: line.gate.breaker(now),
            in_flight: line.gate.in_flight(),
            limit: line.gate.limit(),
            waiting: line.waiting.iter().map(VecDeque::len).sum(),
            admitted_rate: line.gate.admitted_rate(now),
        }
    }

    fn stand(self: &Arc<Self>, rank: Rank, label: &str) -> Stand {
        let mut line = self.line.lock();
        let flow = line.gate.flow(label);
        let now = self.clock.now();
        if line.waiting[..=line_of(rank)].iter().all(VecDeque::is_empty) {
            match line.gate.try_enter(rank.class(), flow, now) {
                Entry::Go(ticket) => {
                    self.gauges.show(&line.gate, now);
                    return Stand::Go(ticket);
                }
                Entry::Resting(rest) => return Stand::Away(OriginError::Resting(rest)),
                Entry::Wait(Until::Time(until)) if until > now.after(line.max_wait) => {
                    return Stand::Away(OriginError::Full);
                }
                Entry::Wait(_) => {}
            }
        }
        let pushed_out = match line.make_room(rank) {
            Ok(pushed_out) => pushed_out,
            Err(error) => return Stand::Away(error),
        };
        let (waiter, turn) = oneshot::channel();
        line.waiting[line_of(rank)].push_back(Waiter { flow, word: waiter });
        let is_first = !std::mem::replace(&mut line.calling, true);
        let max_wait = line.max_wait;
        drop(line);
        if let Some(waiter) = pushed_out {
            tell(waiter, Err(OriginError::Full));
        }
        Stand::InLine { max_wait, turn, calling: is_first.then(|| Calling(Some(Arc::clone(self)))) }
    }

    /// Everyone whose turn it is now, and when to look again.
    fn next_calls(&self) -> (Vec<Call>, Next) {
        let mut line = self.line.lock();
        let now = self.clock.now();
        let mut calls = Vec::new();
        let next = loop {
            let Some((rank, flow)) = line.first() else {
                line.calling = false;
                break Next::Nobody;
            };
            match line.gate.try_enter(rank.class(), flow, now) {
                Entry::Go(ticket) => calls.extend(line.pop(rank).map(|waiter| (waiter, Ok(ticket)))),
                Entry::Resting(rest) => {
                    calls.extend(line.pop(rank).map(|waiter| (waiter, Err(OriginError::Resting(rest)))));
                }
                Entry::Wait(Until::Time(time)) => break Next::At(time),
                Entry::Wait(Until::Release) => break Next::WhenFreed,
            }
        };
        self.gauges.show(&line.gate, now);
        (calls, next)
    }

    fn permit(self: &Arc<Self>, ticket: Ticket) -> Permit {
        Permit { turnstile: Arc::clone(self), ticket: Some(ticket) }
    }

    fn give_back(&self, ticket: Ticket, attempt: Attempt) {
        let mut line = self.line.lock();
        let now = self.clock.now();
        let before = line.gate.breaker(now);
        line.gate.on_result(ticket, attempt, now, rand::random());
        let after = line.gate.breaker(now);
        self.gauges.show(&line.gate, now);
        drop(line);
        self.freed.notify_one();
        self.log_turn(before, after);
    }

    /// A line for each time that the core is given up and is back; failed probes in between say nothing new.
    fn log_turn(&self, before: BreakerState, after: BreakerState) {
        match (before, after) {
            (BreakerState::Closed, BreakerState::Open) => {
                tracing::warn!(core = %self.core, "the core fails or asks for rest: its breaker is open");
            }
            (BreakerState::HalfOpen, BreakerState::Closed) => {
                tracing::info!(core = %self.core, "the core is back: its breaker is closed, the ramp begins");
            }
            _ => {}
        }
    }
}

enum Stand {
    Go(Ticket),
    Away(OriginError),
    InLine { max_wait: Duration, turn: oneshot::Receiver<Result<Permit, OriginError>>, calling: Option<Calling> },
}

impl Line {
    /// Who still waits in the highest rank; those who have left are forgotten on the way.
    fn first(&mut self) -> Option<(Rank, FlowId)> {
        for (line, rank) in self.waiting.iter_mut().zip(RANKS) {
            while line.front().is_some_and(|waiter| waiter.word.is_closed()) {
                line.pop_front();
            }
            if let Some(waiter) = line.front() {
                return Some((rank, waiter.flow));
            }
        }
        None
    }

    fn pop(&mut self, rank: Rank) -> Option<Waiter> {
        self.waiting[line_of(rank)].pop_front()
    }

    /// A place for one more of `rank`: free, or taken from the newest of a lower one, which is given back.
    fn make_room(&mut self, rank: Rank) -> Result<Option<Waiter>, OriginError> {
        if self.waiting.iter().map(VecDeque::len).sum::<usize>() < self.max_waiting {
            return Ok(None);
        }
        let lower = &mut self.waiting[line_of(rank) + 1..];
        lower.iter_mut().rev().find_map(VecDeque::pop_back).map(Some).ok_or(OriginError::Full)
    }
}

/// The one task that calls those who wait. When it ends before its time, as with a runtime that stops (perhaps before the task
/// has run at all), the flag is lowered, and the next to wait starts another.
struct Calling(Option<Arc<Turnstile>>);

impl Calling {
    async fn call_those_who_wait(mut self) {
        let Some(turnstile) = self.0.clone() else { return };
        loop {
            let (calls, next) = turnstile.next_calls();
            if matches!(next, Next::Nobody) {
                // The flag was lowered in the same breath in which the line was seen empty; by now it may be another's.
                self.0 = None;
            }
            for (waiter, result) in calls {
                tell(waiter, result.map(|ticket| turnstile.permit(ticket)));
            }
            match next {
                Next::Nobody => return,
                Next::WhenFreed => turnstile.freed.notified().await,
                Next::At(time) => {
                    let wait = tokio::time::sleep(time.since(turnstile.clock.now()));
                    tokio::select! {
                        () = wait => {}
                        () = turnstile.freed.notified() => {}
                    }
                }
            }
        }
    }
}

impl Drop for Calling {
    fn drop(&mut self) {
        if let Some(turnstile) = &self.0 {
            turnstile.line.lock().calling = false;
        }
    }
}

impl Permit {
    /// Takes one retry out of the core's budget.
    pub(super) fn try_retry(&self) -> bool {
        self.turnstile.try_retry()
    }

    /// Tells the gate what came of the request.
    pub(super) fn finish(mut self, attempt: Attempt) {
        if let Some(ticket) = self.ticket.take() {
            self.turnstile.give_back(ticket, attempt);
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if let Some(ticket) = self.ticket.take() {
            self.turnstile.give_back(ticket, Attempt::Abandoned);
        }
    }
}

/// One who has left in the meantime does not hear it; a permit in the word goes back to the gate by itself.
fn tell(waiter: Waiter, result: Result<Permit, OriginError>) {
    drop(waiter.word.send(result));
}

fn max_waiting(core: &weir_config::Core) -> usize {
    let let_through = u128::from(core.max_requests_per_second) * core.max_wait.as_millis() / 1_000;
    usize::try_from(let_through).unwrap_or(usize::MAX).max(core.max_in_flight)
}

/// The line that a rank stands in.
const fn line_of(rank: Rank) -> usize {
    match rank {
        Rank::Class(class) => class as usize,
        Rank::Backlog => RANKS.len() - 1,
    }
}

const RANKS: [Rank; 8] = [
    Rank::Class(Class::Probe),
    Rank::Class(Class::Tasking),
    Rank::Class(Class::Checkin),
    Rank::Class(Class::Config),
    Rank::Class(Class::Update),
    Rank::Class(Class::Download),
    Rank::Class(Class::Telemetry),
    Rank::Backlog,
];

/// A core's series, looked up once.
struct Gauges {
    in_flight: IntGauge,
    limit: IntGauge,
    breaker: IntGauge,
    admitted_rate: IntGauge,
    resting: IntCounter,
    full: IntCounter,
    cuts: [IntCounter; 3],
}

impl Gauges {
    fn new(metrics: &Metrics, core: &str) -> Self {
        Self {
            in_flight: metrics.core_gate_inflight.with_label_values(&[core]),
            limit: metrics.core_gate_limit.with_label_values(&[core]),
            breaker: metrics.breaker_state.with_label_values(&[core]),
            admitted_rate: metrics.core_admitted_rate.with_label_values(&[core]),
            resting: metrics.core_gate_refused.with_label_values(&[core, "resting"]),
            full: metrics.core_gate_refused.with_label_values(&[core, "full"]),
            cuts: ["latency", "overload", "timeout"]
                .map(|cause| metrics.core_gate_cuts.with_label_values(&[core, cause])),
        }
    }

    fn show(&self, gate: &Gate, now: Millis) {
        self.in_flight.set(i64::try_from(gate.in_flight()).unwrap_or(i64::MAX));
        self.limit.set(i64::try_from(gate.limit()).unwrap_or(i64::MAX));
        let Cuts { latency, overload, timeout } = gate.cuts();
        for (counter, count) in self.cuts.iter().zip([latency, overload, timeout]) {
            counter.inc_by(count.saturating_sub(counter.get()));
        }
        self.breaker.set(match gate.breaker(now) {
            BreakerState::Closed => 0,
            BreakerState::HalfOpen => 1,
            BreakerState::Open => 2,
        });
        #[expect(clippy::cast_possible_truncation, reason = "a rate is at most what a u32 holds")]
        self.admitted_rate.set(gate.admitted_rate(now) as i64);
    }
}
