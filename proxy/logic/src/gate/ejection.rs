//! Leaving out a machine that fails while others of its core work.

use std::time::Duration;

use crate::Millis;

/// What is known of one machine from the requests it was given. After so many failures in a row it is left out for a time that is
/// doubled from one ejection to the next, and jittered; then it is given requests again, and one failure more puts it out
/// again. Whether others work is the caller's to say: where none does the machine stays, since it is the core that fails.
#[derive(Clone, Copy, Debug, Default)]
pub struct Ejection {
    failures: u32,
    times: u32,
    until: Option<Millis>,
}

/// The first time out. Doubled for each ejection that no success came between, up to 32 times.
const FIRST: Duration = Duration::from_secs(5);
const MAX_DOUBLINGS: u32 = 5;

impl Ejection {
    /// Whether the machine is left out at `now`.
    pub fn is_out(&self, now: Millis) -> bool {
        self.until.is_some_and(|until| now < until)
    }

    /// Whether the machine is in, and nothing speaks against it.
    pub fn is_well(&self, now: Millis) -> bool {
        self.failures == 0 && !self.is_out(now)
    }

    /// The machine has answered.
    pub fn on_success(&mut self) {
        *self = Self::default();
    }

    /// It has not, or said that it is broken. `true` when it is put out by that, after `failures_to_eject` in a row (at least one).
    /// `random` is a number from 0 (included) to 1 (excluded).
    pub fn on_failure(&mut self, failures_to_eject: u32, others_work: bool, now: Millis, random: f64) -> bool {
        self.failures = self.failures.saturating_add(1);
        if self.is_out(now) || !others_work || self.failures < failures_to_eject {
            return false;
        }
        let longest = FIRST.saturating_mul(1 << self.times.min(MAX_DOUBLINGS));
        self.until = Some(now.after(longest.mul_f64(0.5 + 0.5 * random.clamp(0.0, 1.0))));
        self.times = self.times.saturating_add(1);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_is_left_out_for_longer_each_time_until_it_works() {
        let mut machine = Ejection::default();
        assert_eq!([1, 2, 3].map(|_| machine.on_failure(3, true, Millis(0), 1.0)), [false, false, true]);
        assert!(machine.is_out(Millis(4_999)) && !machine.is_out(Millis(5_000)));
        assert!(machine.on_failure(3, true, Millis(5_000), 1.0), "one failure more is enough");
        assert!(machine.is_out(Millis(14_999)) && !machine.is_out(Millis(15_000)) && !machine.is_well(Millis(15_000)));
        machine.on_success();
        assert!(machine.is_well(Millis(0)) && !machine.on_failure(3, true, Millis(15_000), 1.0));
    }

    #[test]
    fn late_failures_of_a_machine_that_is_out_do_not_prolong_it() {
        let mut machine = Ejection::default();
        assert!(machine.on_failure(1, true, Millis(0), 0.0));
        assert!(!machine.on_failure(1, true, Millis(2_000), 1.0));
        assert!(!machine.is_out(Millis(2_500)));
    }

    #[test]
    fn nobody_is_put_out_where_no_other_works() {
        let mut machine = Ejection::default();
        assert!((0..100).all(|_| !machine.on_failure(3, false, Millis(0), 0.5)));
        assert!(machine.on_failure(3, true, Millis(0), 0.5));
    }
}
