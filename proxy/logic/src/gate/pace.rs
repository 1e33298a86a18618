//! Requests a second: a token bucket whose rate follows the ramp and whose last tokens are kept for the higher classes.

use std::time::Duration;

use weir_config::Class;

use super::line::Ahead;
use super::ramp::Ramp;
use crate::Millis;

/// A token bucket. Over any span of `t` milliseconds it lets at most `rate * t / 1000` requests start plus its burst, which is a
/// twentieth of a second's worth and at least one. `probe` and `tasking` never wait for it: they take their tokens in advance,
/// so that the other classes make room for them.
///
/// Of the other classes, higher ones come first; but each has a small part of the rate for itself, as long as it asks for it, so
/// that none starves while there is less than all of them want. What a class leaves of its part the others have.
#[derive(Clone, Debug)]
pub struct Pace {
    rate: f64,
    tokens: f64,
    filled: Millis,
    /// What each class has to come of its part.
    dues: [f64; CLASSES.len()],
    /// Which classes wait.
    waiting: [bool; CLASSES.len()],
}

const CLASSES: [Class; 7] =
    [Class::Probe, Class::Tasking, Class::Checkin, Class::Config, Class::Update, Class::Download, Class::Telemetry];

/// The most that a class has to come: more would be a burst over those above it.
const MAX_DUE: f64 = 2.0;

/// The burst, in milliseconds' worth of the rate.
const BURST_MS: f64 = 50.0;

/// The most that the classes which never wait may have taken in advance, in milliseconds' worth of the rate.
const ADVANCE_MS: f64 = 1_000.0;

impl Pace {
    /// A bucket for `rate` requests a second, at least one, full at the start.
    pub fn new(rate: u32) -> Self {
        let rate = per_millisecond(rate);
        Self { rate, tokens: burst(rate), filled: Millis(0), dues: Default::default(), waiting: Default::default() }
    }

    /// Changes the rate; what has been taken stays taken.
    pub fn reconfigure(&mut self, rate: u32, ramp: &Ramp, now: Millis) {
        self.refill(ramp, now);
        self.rate = per_millisecond(rate);
        self.tokens = self.tokens.min(burst(self.rate));
    }

    /// Empties the bucket: after a recovery nothing is saved up.
    pub fn empty(&mut self, ramp: &Ramp, now: Millis) {
        self.refill(ramp, now);
        self.tokens = self.tokens.min(0.0);
    }

    /// Takes a token for a request of `class`, or says when there may be one.
    pub fn take(&mut self, class: Class, ramp: &Ramp, now: Millis) -> Result<(), Millis> {
        self.refill(ramp, now);
        let rate = self.rate * ramp.part(now);
        if never_waits(class) {
            self.tokens = (self.tokens - 1.0).max(-rate * ADVANCE_MS);
            return Ok(());
        }
        let wanted = self.wanted(class, rate);
        // A hair of tolerance: sums of parts of tokens must not cost a whole millisecond of waiting.
        if self.tokens + HAIR >= wanted {
            self.tokens -= 1.0;
            self.dues[class as usize] = (self.dues[class as usize] - 1.0).max(0.0);
            return Ok(());
        }
        let by_rank = (wanted - self.tokens) / rate;
        let by_part = ((1.0 - self.dues[class as usize]) / part(class)).max(1.0 - self.tokens) / rate;
        let wait = by_rank.min(by_part).ceil().max(1.0);
        Err(now.after(Duration::from_secs_f64(wait / 1_000.0)))
    }

    /// Whether a class goes before those above it: it is owed a token of its part. The classes that never wait always do.
    pub(super) fn is_due(&mut self, class: Class, ramp: &Ramp, now: Millis) -> bool {
        self.refill(ramp, now);
        never_waits(class) || self.owes(class)
    }

    /// Says which classes wait; tokens that these are owed are not given to others.
    pub(super) fn note_waiting(&mut self, waits: impl Fn(Class) -> bool) {
        self.waiting = CLASSES.map(waits);
    }

    /// The time in which so many tokens come for a class, of which `same` are for the class itself: by its rank, or of its part
    /// if that is sooner.
    pub(super) fn time_for(&self, class: Class, ahead: Ahead, ramp: &Ramp, now: Millis) -> Duration {
        if never_waits(class) {
            return Duration::ZERO;
        }
        let by_rank = float(ahead.all) + self.wanted(class, self.rate * ramp.part(now)) - self.tokens;
        let by_part = (float(ahead.same) + 1.0 - self.dues[class as usize]) / part(class);
        ramp.time_for(by_rank.min(by_part) / self.rate, now)
    }

    fn owes(&self, class: Class) -> bool {
        self.dues[class as usize] + HAIR >= 1.0
    }

    /// The tokens that must be there for a class to take one.
    fn wanted(&self, class: Class, rate: f64) -> f64 {
        if self.owes(class) {
            return 1.0;
        }
        let owed = CLASSES.iter().filter(|&&other| self.waiting[other as usize] && self.owes(other)).count();
        1.0 + reserved_above(class) * (burst(rate) - 1.0) + float(owed)
    }

    /// Requests a second that are admitted at `now`.
    pub fn admitted_rate(&self, ramp: &Ramp, now: Millis) -> f64 {
        self.rate * ramp.part(now) * 1_000.0
    }

    fn refill(&mut self, ramp: &Ramp, now: Millis) {
        let gained = self.rate * ramp.admitted(self.filled, now);
        let room = burst(self.rate * ramp.part(now));
        self.tokens = (self.tokens + gained).min(room);
        self.filled = self.filled.max(now);
        for class in CLASSES {
            let due = &mut self.dues[class as usize];
            *due = (*due + gained * part(class)).min(MAX_DUE);
        }
    }
}

fn per_millisecond(rate: u32) -> f64 {
    f64::from(rate.max(1)) / 1_000.0
}

fn burst(rate_per_ms: f64) -> f64 {
    (rate_per_ms * BURST_MS).max(1.0)
}

fn never_waits(class: Class) -> bool {
    class <= Class::Tasking
}

/// The part of the burst that this class leaves to those above it.
fn reserved_above(class: Class) -> f64 {
    match class {
        Class::Probe | Class::Tasking | Class::Checkin => 0.0,
        Class::Config => 0.1,
        Class::Update => 0.2,
        Class::Download => 0.3,
        Class::Telemetry => 0.5,
    }
}

/// The part of the rate that a class has for itself.
fn part(class: Class) -> f64 {
    match class {
        Class::Probe | Class::Tasking => 0.0,
        Class::Checkin | Class::Config => 0.1,
        Class::Update | Class::Download | Class::Telemetry => 0.05,
    }
}

const HAIR: f64 = 1e-9;

fn float(count: usize) -> f64 {
    u32::try_from(count).map_or(f64::from(u32::MAX), f64::from)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn flat() -> Ramp {
        Ramp::new(Duration::ZERO)
    }

    fn class(index: u8) -> Class {
        [Class::Checkin, Class::Config, Class::Update, Class::Download, Class::Telemetry][usize::from(index)]
    }

    #[test]
    fn the_last_tokens_are_kept_for_the_higher_classes() {
        let mut pace = Pace::new(1_000);
        let taken = (0..1_000).filter(|_| pace.take(Class::Telemetry, &flat(), Millis(0)).is_ok()).count();
        assert_eq!(taken, 25);
        let taken = (0..1_000).filter(|_| pace.take(Class::Checkin, &flat(), Millis(0)).is_ok()).count();
        assert_eq!(taken, 25);
    }

    #[test]
    fn tasking_never_waits_and_the_others_make_room() {
        let mut pace = Pace::new(100);
        assert!((0..50).all(|_| pace.take(Class::Tasking, &flat(), Millis(0)).is_ok()));
        // 45 in advance: 450 ms until the bucket is level, 10 ms more for a token.
        assert_eq!(pace.take(Class::Checkin, &flat(), Millis(0)), Err(Millis(460)));
        assert_eq!(pace.take(Class::Checkin, &flat(), Millis(460)), Ok(()));
    }

    #[test]
    fn the_slowest_rate_still_admits_every_class() {
        let mut pace = Pace::new(1);
        assert_eq!(pace.take(Class::Telemetry, &flat(), Millis(0)), Ok(()));
        assert_eq!(pace.take(Class::Telemetry, &flat(), Millis(0)), Err(Millis(1_000)));
        assert_eq!(pace.take(Class::Telemetry, &flat(), Millis(1_000)), Ok(()));
    }

    /// Higher classes want more than there is, for a minute: each class still has its part, and the rate is used up.
    #[test]
    fn no_class_starves_while_those_above_want_everything() {
        let mut pace = Pace::new(100);
        let mut taken = [0_u32; CLASSES.len()];
        pace.note_waiting(|class| class > Class::Tasking);
        for now in 0..60_000 {
            let (due, others): (Vec<Class>, Vec<Class>) =
                CLASSES[2..].iter().partition(|class| pace.is_due(**class, &flat(), Millis(now)));
            for class in due.into_iter().chain(others) {
                taken[class as usize] += u32::from(pace.take(class, &flat(), Millis(now)).is_ok());
            }
        }
        assert!((6_000..6_010).contains(&taken.iter().sum::<u32>()), "{taken:?}");
        for (class, least) in
            [(Class::Config, 590), (Class::Update, 290), (Class::Download, 290), (Class::Telemetry, 290)]
        {
            assert!((least..least + 20).contains(&taken[class as usize]), "{class:?} of {taken:?}");
        }
    }

    #[test]
    fn what_a_class_leaves_of_its_part_the_others_have() {
        let mut pace = Pace::new(100);
        let taken = (0..10_000).filter(|&now| pace.take(Class::Checkin, &flat(), Millis(now)).is_ok()).count();
        assert!((1_000..1_010).contains(&taken), "{taken}");
    }

    proptest! {
        /// Invariant 7: whatever is asked and whenever, no span of time sees more than the ramp allows plus one burst.
        #[test]
        fn no_span_admits_more_than_the_ramp_allows(
            rate in 1_u32..3_000,
            ramp_ms in 0_u64..3_000,
            asks in prop::collection::vec((0_u64..40, 0_u8..5, 1_u8..60), 1..150),
        ) {
            let mut ramp = Ramp::new(Duration::from_millis(ramp_ms));
            ramp.start(Millis(0));
            let mut pace = Pace::new(rate);
            pace.empty(&ramp, Millis(0));
            let mut now = Millis(0);
            let mut starts: Vec<(Millis, f64)> = Vec::new();
            for (later, index, tries) in asks {
                now = Millis(now.0 + later);
                let taken = (0..tries).filter(|_| pace.take(class(index), &ramp, now).is_ok()).count();
                starts.push((now, f64::from(u32::try_from(taken).unwrap())));
            }
            for (first, &(from, _)) in starts.iter().enumerate() {
                let mut sum = 0.0;
                for &(to, count) in &starts[first..] {
                    sum += count;
                    let allowed = f64::from(rate) / 1_000.0 * ramp.admitted(from, to) + burst(f64::from(rate) / 1_000.0);
                    prop_assert!(sum <= allowed + 1e-6, "{sum} from {from:?} to {to:?}, {allowed} allowed");
                }
            }
        }

        /// Who comes back at the time named gets in, so that nobody polls.
        #[test]
        fn the_named_time_is_enough(rate in 1_u32..3_000, index in 0_u8..5, drained in 0_u32..200) {
            let mut pace = Pace::new(rate);
            for _ in 0..drained {
                let _ignored = pace.take(class(index), &flat(), Millis(0));
            }
            if let Err(until) = pace.take(class(index), &flat(), Millis(0)) {
                prop_assert_eq!(pace.take(class(index), &flat(), until), Ok(()));
            }
        }
    }
}
