//! What failures do to the queue: rests, pauses, suspicion.

use std::sync::Arc;
use std::time::Duration;

use super::{DeliveryQueue, DeliveryRules, Setback, Waiting};
use crate::Millis;
use crate::retry::RetrySchedule;

impl DeliveryQueue {
    /// The batch was not taken. `random` is a number from 0 (included) to 1 (excluded). Gives for how long nothing, or
    /// only this batch where it is stuck, is not tried.
    pub fn fail(&mut self, name: &str, setback: Setback, rules: &DeliveryRules, now: Millis, random: f64) -> Duration {
        self.in_flight.remove(name);
        if let Some(batch) = self.batches.get_mut(name) {
            batch.going = None;
        }
        if let Setback::Failed(asked) = setback {
            let was_stuck = self.is_stuck(name);
            let delay = self.set_back(name, asked, rules, now, random);
            if was_stuck && !self.is_failing() {
                return delay;
            }
            if !was_stuck && !std::mem::replace(&mut self.struck, true) {
                self.strike(name);
            }
        }
        let delay = self.note_failure(setback, &rules.schedule, random);
        self.pause_until = now.after(delay);
        delay
    }

    /// The core wants this batch later than now: it holds rows that it asked for again.
    pub fn defer(&mut self, name: &str, asked: Option<Duration>, rules: &DeliveryRules, now: Millis, random: f64) {
        self.set_back(name, asked, rules, now, random);
    }

    /// Whether a batch that has not failed is to be the probe instead of this one, which may be why the core fails.
    pub(super) fn wants_scout(&self, name: &str) -> bool {
        let is_suspect = self.batches.get(name).is_some_and(|batch| batch.strikes > 0);
        is_suspect && self.failures >= 4 && self.failures.is_power_of_two()
    }

    /// Notes that a batch was the first to fail after a success.
    fn strike(&mut self, name: &str) {
        let Some(batch) = self.batches.get_mut(name) else { return };
        batch.strikes += 1;
        if !batch.is_stuck() {
            return;
        }
        let (lane, until) = (batch.lane, batch.rests_until);
        self.change_lane(name);
        if let Some(name) = self.order_mut(lane).take(name) {
            let entry = (until, name);
            self.rested.remove(&entry);
            self.stuck.insert(entry);
        }
    }

    /// Has a batch rest after one more failure; gives for how long.
    fn set_back(
        &mut self,
        name: &str,
        asked: Option<Duration>,
        rules: &DeliveryRules,
        now: Millis,
        random: f64,
    ) -> Duration {
        let Some(batch) = self.batches.get_mut(name) else { return Duration::ZERO };
        batch.failures = batch.failures.saturating_add(1);
        let delay = rules.schedule.delay_after(batch.failures, asked, random);
        self.rest(name, now.after(delay));
        delay
    }

    /// Notes a failure of the stream; gives the pause that follows.
    fn note_failure(&mut self, setback: Setback, schedule: &RetrySchedule, random: f64) -> Duration {
        match setback {
            Setback::Failed(asked) => {
                self.failures = self.failures.saturating_add(1);
                schedule.delay_after(self.failures, asked, random)
            }
            Setback::Held(asked) => {
                self.failures = self.failures.max(1);
                schedule.delay_after(1, asked, random)
            }
            Setback::Blamed(status, asked) => {
                self.failures = self.failures.saturating_add(1);
                self.paused = Some(status);
                schedule.longest(asked, random)
            }
        }
    }

    /// Has a batch rest until then; one that is not stuck and need not rest is in no list.
    pub(super) fn rest(&mut self, name: &str, until: Millis) {
        let Some(batch) = self.batches.get_mut(name) else { return };
        let list = if batch.is_stuck() { &mut self.stuck } else { &mut self.rested };
        let name: Arc<str> = Arc::from(name);
        list.remove(&(batch.rests_until, Arc::clone(&name)));
        batch.rests_until = until;
        if batch.is_stuck() || until > Millis::default() {
            list.insert((until, name));
        }
    }

    pub(super) fn is_stuck(&self, name: &str) -> bool {
        self.batches.get(name).is_some_and(Waiting::is_stuck)
    }

    pub(super) fn reopen(&mut self) {
        (self.failures, self.struck) = (0, false);
        (self.pause_until, self.paused) = (Millis::default(), None);
    }
}

impl Waiting {
    pub(super) fn is_stuck(&self) -> bool {
        self.strikes >= STRIKES
    }
}

/// How often a batch must be the first to fail after a success before it is no longer waited for.
pub const STRIKES: u32 = 4;
