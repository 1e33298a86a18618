//! When to try again: delays, and the budget of retries. What agents are told is in [`crate::retry_after`].
//!
//! Nothing here waits or sends. Randomness is an argument: `random` is a number drawn evenly from 0 (included) to 1 (excluded).

use std::time::Duration;

use weir_config::Ratio;

use crate::Millis;

/// Delays between attempts: exponential with full jitter (every delay is drawn evenly from zero to its bound, also where the
/// bound no longer grows, so that callers that failed together never return together).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetrySchedule {
    initial: Duration,
    max: Duration,
}

impl RetrySchedule {
    /// A schedule whose first delay is at most `initial` and whose every delay is at most `max`. It cannot be invalid: `initial`
    /// is raised to a millisecond, `max` to `initial`.
    pub fn new(initial: Duration, max: Duration) -> Self {
        let initial = initial.max(Duration::from_millis(1));
        Self { initial, max: max.max(initial) }
    }

    /// The delay before the retry that follows `failures` failed attempts, the first counted as one.
    pub fn delay(&self, failures: u32, random: f64) -> Duration {
        self.bound(failures).mul_f64(unit(random))
    }

    /// The delay when the core has asked for one: never shorter than `asked`, which is obeyed up to ten times the schedule's
    /// longest delay, with the usual jitter on top.
    pub fn delay_after(&self, failures: u32, asked: Option<Duration>, random: f64) -> Duration {
        let asked = asked.unwrap_or(Duration::ZERO).min(self.max.saturating_mul(10));
        asked.saturating_add(self.delay(failures, random))
    }

    /// The delay where trying again soon makes no sense: drawn from the upper half of the longest, and never shorter than
    /// `asked`.
    pub fn longest(&self, asked: Option<Duration>, random: f64) -> Duration {
        let half = self.max / 2;
        self.delay_after(u32::MAX, asked, 0.0).max(half + half.mul_f64(unit(random)))
    }

    fn bound(&self, failures: u32) -> Duration {
        let doublings = failures.saturating_sub(1).min(31);
        self.initial.saturating_mul(1 << doublings).min(self.max)
    }
}

impl From<&weir_config::Retry> for RetrySchedule {
    fn from(retry: &weir_config::Retry) -> Self {
        Self::new(retry.initial, retry.max)
    }
}

/// How many retries the first attempts pay for. A retry is counted when it is scheduled, not when it is sent: retries that wait
/// are as good as sent. Over any span, retries are at most `ratio` times the first attempts plus [`RetryBudget::RESERVE`].
#[derive(Clone, Debug)]
pub struct RetryBudget {
    ratio: f64,
    balance: f64,
}

impl RetryBudget {
    /// Retries in hand at the start and the most that are saved up, so that a rare failure is repaired when traffic is thin.
    pub const RESERVE: u32 = 10;

    /// A budget of `ratio` retries for each first attempt.
    pub fn new(ratio: Ratio) -> Self {
        Self { ratio: ratio.value(), balance: f64::from(Self::RESERVE) }
    }

    /// Changes the ratio; what has been saved stays.
    pub fn reconfigure(&mut self, ratio: Ratio) {
        self.ratio = ratio.value();
    }

    /// A first attempt was made.
    pub fn deposit(&mut self) {
        self.balance = (self.balance + self.ratio).min(f64::from(Self::RESERVE));
    }

    /// Takes one retry out of the budget; `false` when there is none, and the caller must give up. A ratio of zero forbids all.
    #[must_use]
    pub fn withdraw(&mut self) -> bool {
        let granted = self.ratio > 0.0 && self.balance >= 1.0;
        if granted {
            self.balance -= 1.0;
        }
        granted
    }
}

/// The wait that a `Retry-After` header asks for (RFC 9110, section 10.2.3): seconds, or a date, which may have passed. `None`
/// when it is neither.
pub fn asked_wait(header: &[u8], now: Millis) -> Option<Duration> {
    if let Some(seconds) = delta_seconds(header) {
        return Some(seconds);
    }
    let date = httpdate::parse_http_date(std::str::from_utf8(header).ok()?.trim()).ok()?;
    let since_epoch = date.duration_since(std::time::UNIX_EPOCH).ok()?;
    Some(since_epoch.saturating_sub(Duration::from_millis(now.0)))
}

/// A field's number of seconds: digits alone, without a sign. What is greater than any time counts as the greatest (RFC 9111,
/// section 1.2.2).
pub(crate) fn delta_seconds(value: &[u8]) -> Option<Duration> {
    let digits = value.trim_ascii();
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let append = |sum: u64, digit: &u8| sum.saturating_mul(10).saturating_add(u64::from(digit - b'0'));
    Some(Duration::from_secs(digits.iter().fold(0, append)))
}

/// Any number, brought into the range that randomness must have.
fn unit(random: f64) -> f64 {
    if random.is_nan() { 0.0 } else { random.clamp(0.0, 1.0) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SCHEDULE: fn() -> RetrySchedule = || RetrySchedule::new(Duration::from_millis(100), Duration::from_secs(30));

    #[test]
    fn the_bound_doubles_up_to_the_cap() {
        let bounds: Vec<_> = [1, 2, 3, 9, 10, 1_000, u32::MAX].map(|n| SCHEDULE().bound(n).as_millis()).into();
        assert_eq!(bounds, [100, 200, 400, 25_600, 30_000, 30_000, 30_000]);
    }

    #[test]
    fn the_jitter_is_whole_at_the_cap() {
        let delays: Vec<_> = [0.0, 0.25, 0.5, 0.75].map(|random| SCHEDULE().delay(50, random).as_secs_f64()).into();
        assert_eq!(delays, [0.0, 7.5, 15.0, 22.5]);
    }

    #[test]
    fn a_wrong_schedule_cannot_be_built() {
        let schedule = RetrySchedule::new(Duration::ZERO, Duration::ZERO);
        assert_eq!(schedule.delay(5, 1.0), Duration::from_millis(1));
        let schedule = RetrySchedule::new(Duration::from_secs(9), Duration::from_secs(1));
        assert_eq!(schedule.delay(1, 1.0), Duration::from_secs(9));
        assert_eq!(schedule.delay(1, f64::NAN), Duration::ZERO);
    }

    #[test]
    fn an_asked_wait_is_obeyed_up_to_ten_times_the_cap() {
        let seconds = |asked| SCHEDULE().delay_after(1, Some(Duration::from_secs(asked)), 0.0).as_secs();
        assert_eq!([seconds(7), seconds(300), seconds(301), seconds(u64::MAX)], [7, 300, 300, 300]);
    }

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let now = Millis(784_111_767_000);
        assert_eq!(asked_wait(b" 120 ", now), Some(Duration::from_secs(120)));
        assert_eq!(asked_wait(b"Sun, 06 Nov 1994 08:49:37 GMT", now), Some(Duration::from_secs(10)));
        assert_eq!(asked_wait(b"Sat, 05 Nov 1994 08:49:37 GMT", now), Some(Duration::ZERO));
        assert_eq!(asked_wait(b"soon", now), None);
        assert_eq!(asked_wait(b"-5", now), None);
        assert_eq!(asked_wait(b"+5", now), None);
        assert_eq!(asked_wait(b"99999999999999999999", now), Some(Duration::from_secs(u64::MAX)));
    }

    proptest! {
        #[test]
        fn retries_never_pass_the_budget(ratio in 0.0_f64..=1.0, asks in prop::collection::vec(0_u8..5, 0..400)) {
            let mut budget = RetryBudget::new(Ratio::new(ratio).unwrap());
            let mut retries = 0;
            for (first_attempts, wanted) in (1_u32..).zip(&asks) {
                budget.deposit();
                retries += (0..*wanted).filter(|_| budget.withdraw()).count();
                let allowed = f64::from(first_attempts) * ratio + f64::from(RetryBudget::RESERVE);
                prop_assert!(f64::from(u32::try_from(retries).unwrap()) <= allowed + 1e-6);
            }
        }

        #[test]
        fn a_delay_is_within_its_bound(failures in 0_u32..100, random in 0.0_f64..1.0) {
            let delay = SCHEDULE().delay(failures, random);
            prop_assert!(delay <= SCHEDULE().bound(failures));
        }
    }
}
