//! The right to one request whose answer streams, passed through by pingora's proxy phases or read piece by piece: what they tell
//! it is what the gate learns.

use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;
use weir_logic::gate::Attempt;

use super::judge::{is_well, judge_error, judge_status, status_label};
use super::turnstile::Permit;
use super::{Machine, OriginError};
use crate::clock::Clock;
use crate::metrics::Metrics;

/// The right to one request. Tell it what came of the request; dropped without a word, whoever wanted the answer has left.
#[must_use]
pub struct ForwardPermit {
    permit: Permit,
    core: String,
    label: Arc<str>,
    metrics: Metrics,
    clock: Clock,
    started: Duration,
    /// How much of the request has gone, for the time that the core takes to answer it.
    sent: Sent,
    /// The machine that has it.
    machine: Option<Machine>,
}

/// How much of a forwarded request has gone to the core.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sent {
    /// Nothing: no connection yet.
    Nothing,
    /// All that has come from the agent, which is not all.
    Partly,
    /// All of it, at this time.
    Whole(Duration),
}

impl ForwardPermit {
    pub(super) fn new(permit: Permit, core: String, label: Arc<str>, metrics: Metrics, clock: Clock) -> Self {
        Self { permit, core, label, metrics, clock, started: clock.elapsed(), sent: Sent::Nothing, machine: None }
    }

    /// The request goes to this machine.
    pub fn given_to(&mut self, machine: Machine) {
        self.machine = Some(machine);
    }

    /// The machine took no connection.
    pub fn not_taken(&mut self) {
        if let Some(machine) = self.machine.take() {
            machine.note_request(false);
        }
    }

    /// There is a connection, and the header section goes over it; `body` says whether a body follows.
    pub fn begun(&mut self, body: bool) {
        self.sent = if body { Sent::Partly } else { Sent::Whole(self.clock.elapsed()) };
    }

    /// The last of the body goes.
    pub fn sent(&mut self) {
        self.sent = Sent::Whole(self.clock.elapsed());
    }

    /// The core answered with this status, and this `Retry-After`.
    pub fn answered(self, status: StatusCode, retry_after: Option<&[u8]>) {
        if let Some(machine) = &self.machine {
            machine.note_request(is_well(Ok(status)));
        }
        let waited = match self.sent {
            Sent::Whole(at) => Some(self.clock.elapsed().saturating_sub(at)),
            // What the agent has yet to say is not the core's delay.
            Sent::Partly | Sent::Nothing => None,
        };
        let attempt = judge_status(status, retry_after, waited, self.clock);
        let latency = self.latency();
        self.end(attempt, status_label(status), latency);
    }

    /// The head of a core's answer has come, and its body is read piece by piece: a good one shows that the core works.
    pub(super) fn head_came(&self, status: StatusCode) {
        if matches!(judge_status(status, None, None, self.clock), Attempt::Works) {
            self.permit.head_came();
        }
    }

    /// The last of a core's answer has come, whose head took `waited`: what the rest takes says more of its length.
    pub(super) fn read(self, status: StatusCode, retry_after: Option<&[u8]>, waited: Duration) {
        let attempt = judge_status(status, retry_after, Some(waited), self.clock);
        self.end(attempt, status_label(status), waited);
    }

    /// The core answered well, after `latency`.
    pub fn succeeded(self, latency: Duration) {
        self.end(Attempt::Succeeded(latency), "2xx", latency);
    }

    /// There was no usable answer.
    pub fn failed(self, error: OriginError) {
        if let Some(machine) = &self.machine {
            machine.note_request(is_well(Err(&error)));
        }
        let latency = self.latency();
        self.end(judge_error(error), error.label(), latency);
    }

    /// Takes one retry of the forwarded request out of the core's budget, counted at once; `false` when there is none left.
    #[must_use]
    pub fn try_retry(&self) -> bool {
        self.permit.try_retry()
    }

    fn latency(&self) -> Duration {
        self.clock.elapsed().saturating_sub(self.started)
    }

    fn end(self, attempt: Attempt, result: &'static str, latency: Duration) {
        self.permit.finish(attempt);
        self.metrics.core_requests.with_label_values(&[self.core.as_str(), &self.label, result]).inc();
        self.metrics.core_duration.with_label_values(&[self.core.as_str()]).observe(latency.as_secs_f64());
    }
}
