//! A core in virtual time behind a limit: so many requests are worked on at once, the others queue in it, and agents ask whatever
//! becomes of them.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

use super::super::*;

/// What moves a limit, so that others can be put in the place of ours.
pub(super) trait Limiter {
    fn limit(&self) -> usize;
    fn on_entry(&mut self, in_flight: usize);
    fn on_wait(&mut self);
    fn on_answer(&mut self, latency: Duration, in_flight: usize, started: Millis, now: Millis, random: f64);
    fn on_strain(&mut self, strain: Strain, started: Millis, now: Millis);
}

impl Limiter for ConcurrencyLimit {
    fn limit(&self) -> usize {
        self.limit()
    }

    fn on_entry(&mut self, in_flight: usize) {
        self.on_entry(in_flight);
    }

    fn on_wait(&mut self) {
        self.on_wait();
    }

    fn on_answer(&mut self, latency: Duration, _in_flight: usize, started: Millis, now: Millis, random: f64) {
        self.on_answer(FlowId(0), latency, started, now, random);
    }

    fn on_strain(&mut self, strain: Strain, started: Millis, now: Millis) {
        self.on_strain(strain, started, now);
    }
}

/// The core and those who ask it, at one time.
#[derive(Clone, Copy, Debug)]
pub(super) struct Weather {
    /// Requests that arrive a second.
    pub(super) asked: f64,
    /// The mean time that the core works on a request, in milliseconds.
    pub(super) work_ms: f64,
    /// How many it works on at once.
    pub(super) workers: usize,
    /// Part of the requests that are refused at once with 503.
    pub(super) refused: f64,
    /// The spread of the time that it works: the deviation of its logarithm.
    pub(super) noise: f64,
}

/// What was seen in one second.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Second {
    pub(super) limit: usize,
    /// Requests that the core has answered, over what it could have answered of those that came.
    pub(super) used: f64,
    /// The most that waited inside the core.
    pub(super) queue: usize,
}

/// Requests in line before the gate, at most; the oldest leaves.
const MAX_LINE: usize = 200;

/// The time after which an answer is not waited for any more.
const TIMEOUT_US: u64 = 10_000_000;

pub(super) struct Simulation<'a> {
    limiter: &'a mut dyn Limiter,
    random: u64,
    now: u64,
    line: usize,
    in_flight: usize,
    /// Requests in the core's queue, by the time at which they left us.
    queue: VecDeque<u64>,
    /// Requests being worked on: when they will be done and when they left us.
    working: BinaryHeap<Reverse<(u64, u64)>>,
    next_arrival: u64,
}

impl<'a> Simulation<'a> {
    pub(super) fn new(limiter: &'a mut dyn Limiter, seed: u64) -> Self {
        Self {
            limiter,
            random: seed,
            now: 1_000_000,
            line: 0,
            in_flight: 0,
            queue: VecDeque::new(),
            working: BinaryHeap::new(),
            next_arrival: 1_000_000,
        }
    }

    /// Lives through so many seconds, whose weather is told by their number.
    pub(super) fn run(&mut self, seconds: u64, weather: impl Fn(u64) -> Weather) -> Vec<Second> {
        (0..seconds).map(|second| self.second(weather(second))).collect()
    }

    fn second(&mut self, weather: Weather) -> Second {
        let end = self.now + 1_000_000;
        let (mut answered, mut queue) = (0.0, 0);
        while let Some(at) = self.next_event().filter(|&at| at < end) {
            self.now = at;
            if at == self.next_arrival {
                self.arrive(weather);
            } else {
                answered += 1.0;
                self.answer();
            }
            self.let_go(weather);
            self.work(weather);
            queue = queue.max(self.queue.len());
        }
        self.now = end;
        let capacity = f64::from(u32::try_from(weather.workers).unwrap()) * 1_000.0 / weather.work_ms;
        Second { limit: self.limiter.limit(), used: answered / capacity.min(weather.asked), queue }
    }

    fn next_event(&self) -> Option<u64> {
        let done = self.working.peek().map_or(u64::MAX, |Reverse((done, _))| *done);
        Some(done.min(self.next_arrival))
    }

    fn arrive(&mut self, weather: Weather) {
        self.line = (self.line + 1).min(MAX_LINE);
        let pause = -self.unit().ln() * 1_000_000.0 / weather.asked;
        self.next_arrival = self.now + micros(pause).max(1);
    }

    fn answer(&mut self) {
        let Some(Reverse((_, started))) = self.working.pop() else { return };
        let latency = self.now - started;
        let (at, now, random) = (Millis(started / 1_000), Millis(self.now / 1_000), self.unit());
        if latency >= TIMEOUT_US {
            self.limiter.on_strain(Strain::Timeout, at, now);
        } else {
            self.limiter.on_answer(Duration::from_micros(latency), self.in_flight, at, now, random);
        }
        self.in_flight -= 1;
    }

    fn let_go(&mut self, weather: Weather) {
        while self.line > 0 && self.in_flight < self.limiter.limit() {
            self.line -= 1;
            self.in_flight += 1;
            self.limiter.on_entry(self.in_flight);
            if self.unit() < weather.refused {
                let now = Millis(self.now / 1_000);
                self.in_flight -= 1;
                self.limiter.on_strain(Strain::Overload, now, now);
            } else {
                self.queue.push_back(self.now);
            }
        }
        if self.line > 0 {
            self.limiter.on_wait();
        }
    }

    fn work(&mut self, weather: Weather) {
        while self.working.len() < weather.workers {
            let Some(started) = self.queue.pop_front() else { return };
            let spread = (self.normal() * weather.noise - weather.noise * weather.noise / 2.0).exp();
            let done = self.now + micros(weather.work_ms * 1_000.0 * spread).max(1);
            self.working.push(Reverse((done, started)));
        }
    }

    fn normal(&mut self) -> f64 {
        (-2.0 * self.unit().ln()).sqrt() * (std::f64::consts::TAU * self.unit()).cos()
    }

    /// From 0 (excluded) to 1 (excluded).
    fn unit(&mut self) -> f64 {
        self.random = self.random.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.random;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        #[expect(clippy::cast_precision_loss, reason = "53 bits")]
        let unit = ((mixed ^ (mixed >> 31)) >> 11) as f64 / (1_u64 << 53) as f64;
        unit.max(f64::MIN_POSITIVE)
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "times of a simulation are small and positive"
)]
fn micros(time: f64) -> u64 {
    time as u64
}
