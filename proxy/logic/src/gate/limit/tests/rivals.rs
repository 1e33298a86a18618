//! Other ways to move a limit, to compare ours with: in a simulation, not by taste. The usual parameters of each; all of them with
//! the same bounds as ours.

use super::super::*;
use super::simulation::Limiter;

const FLOOR: f64 = 8.0;
const CEILING: f64 = 256.0;

/// The limit follows the ratio of a long to a short mean of latencies, plus room for a queue of its square root.
pub(super) struct Gradient {
    limit: f64,
    long: f64,
}

/// The limit moves by a step, up while the queue that the least latency implies is short, down while it is long.
pub(super) struct Vegas {
    limit: f64,
    least: f64,
    answers: u32,
}

/// The limit grows by one a round trip, and shrinks by a tenth when an answer takes twice the least latency.
pub(super) struct Aimd {
    limit: f64,
    least: f64,
    cut: Millis,
}

impl Gradient {
    pub(super) fn new() -> Self {
        Self { limit: 32.0, long: 0.0 }
    }
}

impl Vegas {
    pub(super) fn new() -> Self {
        Self { limit: 32.0, least: f64::MAX, answers: 0 }
    }
}

impl Aimd {
    pub(super) fn new() -> Self {
        Self { limit: 32.0, least: f64::MAX, cut: Millis(0) }
    }
}

impl Limiter for Gradient {
    fn limit(&self) -> usize {
        whole(self.limit)
    }

    fn on_entry(&mut self, _in_flight: usize) {}

    fn on_wait(&mut self) {}

    fn on_answer(&mut self, latency: Duration, in_flight: usize, _started: Millis, _now: Millis, _random: f64) {
        let short = latency.as_secs_f64();
        self.long = if self.long == 0.0 { short } else { self.long + (short - self.long) * 2.0 / 601.0 };
        if self.long / short > 2.0 {
            self.long *= 0.95;
        }
        if float(in_flight) < self.limit / 2.0 {
            return;
        }
        let gradient = (1.5 * self.long / short).clamp(0.5, 1.0);
        let wanted = self.limit * gradient + 4.0;
        self.limit = (self.limit * 0.8 + wanted * 0.2).clamp(FLOOR, CEILING);
    }

    fn on_strain(&mut self, _strain: Strain, _started: Millis, _now: Millis) {
        self.limit = (self.limit * 0.9).max(FLOOR);
    }
}

impl Limiter for Vegas {
    fn limit(&self) -> usize {
        whole(self.limit)
    }

    fn on_entry(&mut self, _in_flight: usize) {}

    fn on_wait(&mut self) {}

    fn on_answer(&mut self, latency: Duration, in_flight: usize, _started: Millis, _now: Millis, random: f64) {
        let latency = latency.as_secs_f64();
        self.answers += 1;
        // Measured anew after some thirty round trips, spread over half of that.
        if f64::from(self.answers) > 30.0 * self.limit * (0.75 + random / 4.0) {
            self.answers = 0;
            self.least = latency;
            return;
        }
        self.least = self.least.min(latency);
        if float(in_flight) * 2.0 < self.limit {
            return;
        }
        let queue = (self.limit * (1.0 - self.least / latency)).ceil();
        let step = self.limit.log10().max(1.0);
        if queue < 3.0 * step {
            self.limit += step;
        } else if queue > 6.0 * step {
            self.limit -= step;
        }
        self.limit = self.limit.clamp(FLOOR, CEILING);
    }

    fn on_strain(&mut self, _strain: Strain, _started: Millis, _now: Millis) {
        self.limit = (self.limit - self.limit.log10().max(1.0)).max(FLOOR);
    }
}

impl Limiter for Aimd {
    fn limit(&self) -> usize {
        whole(self.limit)
    }

    fn on_entry(&mut self, _in_flight: usize) {}

    fn on_wait(&mut self) {}

    fn on_answer(&mut self, latency: Duration, in_flight: usize, started: Millis, now: Millis, _random: f64) {
        let latency = latency.as_secs_f64();
        self.least = self.least.min(latency);
        if latency > 2.0 * self.least {
            self.shrink(started, now);
        } else if float(in_flight) * 2.0 >= self.limit {
            self.limit = (self.limit + 1.0 / self.limit).min(CEILING);
        }
    }

    fn on_strain(&mut self, _strain: Strain, started: Millis, now: Millis) {
        self.shrink(started, now);
    }
}

impl Aimd {
    fn shrink(&mut self, started: Millis, now: Millis) {
        if started >= self.cut {
            self.limit = (self.limit * 0.9).max(FLOOR);
            self.cut = now;
        }
    }
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between floor and ceiling")]
fn whole(limit: f64) -> usize {
    limit as usize
}
