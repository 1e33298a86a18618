//! How fast an outbox empties, and when it will be empty.
//!
//! Fed with running totals at any moments; no moment needs to be met. Memory: at most a sample a second of the window.

use std::collections::VecDeque;
use std::time::Duration;

use crate::Millis;

/// Running totals at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Drain {
    /// Records that the core has taken so far.
    pub records: u64,
    /// Bytes that it has taken so far, as they travelled.
    pub bytes: u64,
    /// Bytes that wait.
    pub waiting: u64,
}

/// Rates over the last minute, or over the time since the start where that is shorter.
#[derive(Clone, Debug, Default)]
pub struct DrainRate {
    samples: VecDeque<(Millis, Drain)>,
}

/// The time that rates are taken over.
const WINDOW: Duration = Duration::from_secs(60);

/// The least time between two samples that are kept.
const SPACING: Duration = Duration::from_secs(1);

impl DrainRate {
    /// Notes the totals. To be called whenever they may have changed.
    pub fn note(&mut self, totals: Drain, now: Millis) {
        // The last sample is always the latest; those before it are apart from each other.
        if let [.., (before, _), (last, _)] = self.samples.make_contiguous()
            && last.since(*before) < SPACING
        {
            self.samples.pop_back();
        }
        // One sample at or before the window's beginning is kept: it says what held at that moment.
        while self.samples.get(1).is_some_and(|(second, _)| now.since(*second) >= WINDOW) {
            self.samples.pop_front();
        }
        self.samples.push_back((now, totals));
    }

    /// Records a second that the core took.
    pub fn records_per_second(&self, totals: Drain, now: Millis) -> f64 {
        self.per_second(now, |base| totals.records.saturating_sub(base.records))
    }

    /// Bytes a second that the core took, as they travelled.
    pub fn bytes_per_second(&self, totals: Drain, now: Millis) -> f64 {
        self.per_second(now, |base| totals.bytes.saturating_sub(base.bytes))
    }

    /// The time until nothing waits, if it goes on as it did over the window; `None` when what waits does not get less.
    pub fn time_left(&self, totals: Drain, now: Millis) -> Option<Duration> {
        if totals.waiting == 0 {
            return Some(Duration::ZERO);
        }
        let fall = self.per_second(now, |base| base.waiting.saturating_sub(totals.waiting));
        #[expect(clippy::cast_precision_loss, reason = "an estimate")]
        let seconds = totals.waiting as f64 / fall;
        // A fall too slow to matter is none.
        (seconds < LONGEST).then(|| Duration::from_secs_f64(seconds))
    }

    #[expect(clippy::cast_precision_loss, reason = "a rate for people")]
    fn per_second(&self, now: Millis, since: impl Fn(&Drain) -> u64) -> f64 {
        let begun = self.samples.iter().take_while(|(at, _)| now.since(*at) >= WINDOW).last();
        let Some((at, base)) = begun.or(self.samples.front()) else { return 0.0 };
        let span = now.since(*at).clamp(SPACING, WINDOW);
        since(base) as f64 / span.as_secs_f64()
    }
}

/// Seconds after which an estimate is no longer one: some three years.
const LONGEST: f64 = 1e8;

#[cfg(test)]
mod tests {
    use super::*;

    const START: u64 = 1_700_000_000_000;

    fn at(seconds: u64) -> Millis {
        Millis(START + seconds * 1_000)
    }

    fn totals(records: u64, waiting: u64) -> Drain {
        Drain { records, bytes: records * 100, waiting }
    }

    fn close(one: f64, other: f64) -> bool {
        (one - other).abs() < 1e-6
    }

    #[test]
    fn rates_are_right_from_the_first_second_on() {
        let mut drain = DrainRate::default();
        assert!(close(drain.records_per_second(totals(0, 9), at(0)), 0.0));
        drain.note(totals(0, 1_000), at(0));
        let now = totals(50, 900);
        assert!(close(drain.records_per_second(now, at(2)), 25.0));
        assert!(close(drain.bytes_per_second(now, at(2)), 2_500.0));
        assert_eq!(drain.time_left(now, at(2)), Some(Duration::from_secs(18)));
    }

    #[test]
    fn only_the_last_minute_counts() {
        let mut drain = DrainRate::default();
        for second in 0..=600 {
            drain.note(totals(second * 10, 1_000_000 - second * 100), at(second));
            assert!(drain.samples.len() <= 62);
        }
        assert!(close(drain.records_per_second(totals(6_000, 940_000), at(600)), 10.0));
        // Nothing has happened for half a minute, then for an hour.
        assert!(close(drain.records_per_second(totals(6_000, 940_000), at(630)), 5.0));
        assert!(close(drain.records_per_second(totals(6_000, 940_000), at(4_200)), 0.0));
        assert_eq!(drain.time_left(totals(6_000, 940_000), at(4_200)), None);
    }

    #[test]
    fn an_outbox_that_grows_has_no_end_and_an_empty_one_is_at_it() {
        let mut drain = DrainRate::default();
        drain.note(totals(0, 1_000), at(0));
        assert_eq!(drain.time_left(totals(500, 1_500), at(10)), None);
        assert_eq!(drain.time_left(totals(500, 1_000), at(10)), None);
        assert_eq!(drain.time_left(totals(500, 0), at(10)), Some(Duration::ZERO));
    }
}
