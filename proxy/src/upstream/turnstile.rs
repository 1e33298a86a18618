//! The queue before a core's gate: who waits, in which order, and for how long. The gate's own rules are [`weir_logic::gate`]'s.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use prometheus::{IntCounter, IntGauge};
use tokio::sync::{Notify, oneshot};
use weir_config::Class;
use weir_logic::Millis;
use weir_logic::gate::{Attempt, BreakerState, Call, Cuts, Entry, Gate, GateLimits, Line, Ticket};

use super::{OriginError, Patience, Rank, Sending};
use crate::clock::Clock;
use crate::metrics::Metrics;
use crate::task;

/// A gate that many requests stand at. Those that cannot go at once wait in line ([`Line`] says who goes before whom), none
/// longer than the core's `max_wait`. The line is as long as the gate can let through within that time, and at least as long as
/// what may be in flight. Who would wait in vain is turned away at once; and a line that stands for longer than `max_wait` is
/// none that a burst explains: then newcomers join only if they get through within a quarter of it, so that all of them wait
/// less and none of the rate is lost.
pub(super) struct Turnstile {
    line: Mutex<Queue>,
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
    /// By class, the highest first; the backlog counts as telemetry.
    pub(super) waiting_of: [usize; CLASSES.len()],
    pub(super) cuts: Cuts,
    pub(super) admitted_rate: f64,
}

struct Queue {
    gate: Gate,
    waiting: Line<Waiter>,
    max_wait: Duration,
    max_waiting: usize,
    /// Whether a task is calling those who wait.
    calling: bool,
}

/// Somebody in line.
type Waiter = oneshot::Sender<Result<Permit, OriginError>>;

/// A word to somebody in line, spoken after the line is unlocked.
type Word = (Waiter, Result<Ticket, OriginError>);

/// The task that calls those who wait has nobody to call, or must come back.
enum Next {
    Nobody,
    At(Millis),
    WhenFreed,
}

impl Turnstile {
    pub(super) fn new(core: &weir_config::Core, flows: &[&str], metrics: &Metrics, clock: Clock) -> Arc<Self> {
        let line = Queue {
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
    pub(super) async fn enter(
        self: &Arc<Self>,
        rank: Rank,
        label: &str,
        patience: Patience,
        sending: Sending,
    ) -> Result<Permit, OriginError> {
        let permit = self.pass(rank, label, patience).await?;
        if sending == Sending::First {
            self.line.lock().gate.note_first_attempt();
        }
        Ok(permit)
    }

    async fn pass(self: &Arc<Self>, rank: Rank, label: &str, patience: Patience) -> Result<Permit, OriginError> {
        let (max_wait, turn) = match self.stand(rank, label, patience) {
            Stand::Go(ticket) => return Ok(self.permit(ticket)),
            Stand::Away(error) => return Err(self.turn_away(error, label)),
            Stand::InLine { max_wait, turn, calling } => {
                if let Some(calling) = calling {
                    task::spawn("gate", calling.call_those_who_wait());
                }
                (max_wait, turn)
            }
        };
        match tokio::time::timeout(max_wait, turn).await {
            Ok(Ok(result)) => result.map_err(|error| self.turn_away(error, label)),
            Ok(Err(_)) | Err(_) => Err(self.turn_away(OriginError::Full, label)),
        }
    }

    /// Counts who does not pass.
    fn turn_away(&self, error: OriginError, label: &str) -> OriginError {
        let line = self.line.lock();
        let share_used_up = line.gate.is_share_used_up(line.gate.flow(label));
        drop(line);
        match error {
            OriginError::Resting(_) => self.gauges.resting.inc(),
            _ if share_used_up => self.gauges.share.inc(),
            _ => self.gauges.full.inc(),
        }
        error
    }

    /// The time until a request of `class` that comes now is let through; see [`Gate::time_through`].
    pub(super) fn time_through(&self, class: Class) -> Duration {
        let line = self.line.lock();
        line.gate.time_through(class, line.waiting.ahead(Rank::Class(class)), self.clock.now())
    }

    /// Whether a request of `class` that has another answer to fall back on would be turned away now.
    pub(super) fn is_crowded(&self, class: Class) -> bool {
        let line = self.line.lock();
        let (rank, now) = (Rank::Class(class), self.clock.now());
        let max_wait = line.max_wait(Patience::Short, now);
        line.is_too_long(rank, max_wait, now)
    }

    /// Takes one retry out of the core's budget.
    pub(super) fn try_retry(&self) -> bool {
        let granted = self.line.lock().gate.try_retry();
        let [yes, no] = &self.gauges.retries;
        let counter = if granted { yes } else { no };
        counter.inc();
        granted
    }

    /// A machine of the core is well again: what the breaker waits for may have come.
    pub(super) fn hasten_probe(&self) {
        self.line.lock().gate.hasten_probe(self.clock.now());
    }

    pub(super) fn status(&self) -> GateStatus {
        let line = self.line.lock();
        let now = self.clock.now();
        self.gauges.show(&line.gate, now);
        GateStatus {
            breaker: line.gate.breaker(now),
            in_flight: line.gate.in_flight(),
            limit: line.gate.limit(),
            waiting: line.waiting.len(),
            waiting_of: CLASSES.map(|class| line.waiting.waiting(class)),
            cuts: line.gate.cuts(),
            admitted_rate: line.gate.admitted_rate(now),
        }
    }

    fn stand(self: &Arc<Self>, rank: Rank, label: &str, patience: Patience) -> Stand {
        let mut line = self.line.lock();
        let now = self.clock.now();
        let flow = line.gate.flow(label);
        let ahead = line.waiting.ahead(rank);
        if ahead.all == 0 {
            match line.gate.try_enter(rank.class(), flow, now) {
                Entry::Go(ticket) => {
                    self.gauges.show(&line.gate, now);
                    return Stand::Go(ticket);
                }
                Entry::Resting(rest) => return Stand::Away(OriginError::Resting(rest)),
                Entry::Wait(_) => {}
            }
        }
        let max_wait = line.max_wait(patience, now);
        if line.is_too_long(rank, max_wait, now) {
            return Stand::Away(OriginError::Full);
        }
        let max = line.max_waiting;
        let Ok(pushed_out) = line.waiting.make_room(rank, flow, max) else { return Stand::Away(OriginError::Full) };
        let (waiter, turn) = oneshot::channel();
        line.waiting.push(rank, flow, waiter, now);
        let is_first = !std::mem::replace(&mut line.calling, true);
        drop(line);
        if let Some(waiter) = pushed_out {
            tell(waiter, Err(OriginError::Full));
        }
        // Those before it may wait for something that it need not wait for.
        if !is_first && ahead.all > 0 {
            self.freed.notify_one();
        }
        Stand::InLine { max_wait, turn, calling: is_first.then(|| Calling(Some(Arc::clone(self)))) }
    }

    /// Everyone whose turn it is now, and when to look again.
    fn next_calls(&self) -> (Vec<Word>, Next) {
        let mut line = self.line.lock();
        let now = self.clock.now();
        let Queue { gate, waiting, calling, .. } = &mut *line;
        let mut words = Vec::new();
        let next = loop {
            match waiting.call(gate, Waiter::is_closed, now) {
                Call::Go(waiter, ticket) => words.push((waiter, Ok(ticket))),
                Call::Away(waiter, rest) => words.push((waiter, Err(OriginError::Resting(rest)))),
                Call::At(time) => break Next::At(time),
                Call::WhenFreed => break Next::WhenFreed,
                Call::Nobody => {
                    *calling = false;
                    break Next::Nobody;
                }
            }
        };
        self.gauges.show(gate, now);
        (words, next)
    }

    fn permit(self: &Arc<Self>, ticket: Ticket) -> Permit {
        Permit { turnstile: Arc::clone(self), ticket: Some(ticket) }
    }

    fn give_back(&self, ticket: Ticket, attempt: Attempt) {
        self.tell_gate(|gate, now| gate.on_result(ticket, attempt, now, rand::random()));
    }

    fn tell_gate(&self, word: impl FnOnce(&mut Gate, Millis)) {
        let mut line = self.line.lock();
        let now = self.clock.now();
        let before = line.gate.breaker(now);
        word(&mut line.gate, now);
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

impl Queue {
    /// Whether somebody who joins would wait for longer than that.
    fn is_too_long(&self, rank: Rank, max_wait: Duration, now: Millis) -> bool {
        self.gate.time_through(rank.class(), self.waiting.ahead(rank), now) > max_wait
    }

    /// How long somebody who joins may wait.
    fn max_wait(&self, patience: Patience, now: Millis) -> Duration {
        match patience {
            Patience::Short => self.max_wait / 8,
            Patience::Whole if self.waiting.standing(now) > self.max_wait => self.max_wait / 4,
            Patience::Whole => self.max_wait,
        }
    }
}

/// The one task that calls those who wait. When it ends before its time, as with a runtime that stops (perhaps before the task
/// has run at all), the flag is lowered, and the next to wait starts another.
struct Calling(Option<Arc<Turnstile>>);

impl Calling {
    async fn call_those_who_wait(mut self) {
        let Some(turnstile) = self.0.clone() else { return };
        loop {
            let (words, next) = turnstile.next_calls();
            if matches!(next, Next::Nobody) {
                // The flag was lowered in the same breath in which the line was seen empty; by now it may be another's.
                self.0 = None;
            }
            for (waiter, result) in words {
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

    /// Tells the gate that a good answer has begun.
    pub(super) fn head_came(&self) {
        if let Some(ticket) = &self.ticket {
            self.turnstile.tell_gate(|gate, now| gate.on_head(ticket, now, rand::random()));
        }
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
    drop(waiter.send(result));
}

fn max_waiting(core: &weir_config::Core) -> usize {
    let let_through = u128::from(core.max_requests_per_second) * core.max_wait.as_millis() / 1_000;
    usize::try_from(let_through).unwrap_or(usize::MAX).max(core.max_in_flight)
}

/// All classes, the highest first.
pub(super) const CLASSES: [Class; 7] =
    [Class::Probe, Class::Tasking, Class::Checkin, Class::Config, Class::Update, Class::Download, Class::Telemetry];

/// A core's series, looked up once.
struct Gauges {
    in_flight: IntGauge,
    limit: IntGauge,
    breaker: IntGauge,
    admitted_rate: IntGauge,
    resting: IntCounter,
    full: IntCounter,
    share: IntCounter,
    retries: [IntCounter; 2],
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
            share: metrics.core_gate_refused.with_label_values(&[core, "share"]),
            retries: ["granted", "refused"].map(|result| metrics.core_retries.with_label_values(&[core, result])),
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
