//! What was lost, and what of it the core has been told.
//!
//! The ledger counts every loss when it happens, and each is told once: by a row in the stream itself, made from an
//! [`crate::Entry`] of the journal. What was told is therefore what the journal's loss entries add up to, and
//! what is still to be told is the difference between the ledger and them. Nothing else is kept, so there is nothing
//! that a crash could forget or double. A batch that expires takes the rows in it along: what they told is untold again.
//!
//! Not here: when the journal is written, and what a loss is.

use std::time::Duration;

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use weir_batch::row;
use weir_logic::Millis;

/// Why something was lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LossReason {
    /// The core did not take the records while they were young enough.
    Expired,
    /// The core refused the records; they are dead letters.
    DeadLetter,
    /// Dead letters that were removed for want of room. They have been counted as [`Self::DeadLetter`] before.
    Dropped,
    /// What stood on disk could not be read.
    Damaged,
    /// Nothing but precision: a window's counts left before its end. Counted in rows.
    EarlyFlush,
}

impl LossReason {
    /// All of them, in the order of their codes.
    pub const ALL: [Self; 5] = [Self::Expired, Self::DeadLetter, Self::Dropped, Self::Damaged, Self::EarlyFlush];

    /// The name in rows and metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Expired => "expired",
            Self::DeadLetter => "dead_letter",
            Self::Dropped => "dropped",
            Self::Damaged => "damaged",
            Self::EarlyFlush => "early_flush",
        }
    }

    pub(crate) fn code(self) -> u8 {
        match self {
            Self::Expired => 0,
            Self::DeadLetter => 1,
            Self::Dropped => 2,
            Self::Damaged => 3,
            Self::EarlyFlush => 4,
        }
    }

    pub(crate) fn from_code(code: u8) -> Option<Self> {
        Self::ALL.get(usize::from(code)).copied()
    }
}

/// How much.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Lost {
    /// Records, as far as they can be counted; rows where the reason is [`LossReason::EarlyFlush`].
    pub records: u64,
    /// Entries, notes and files of which nobody can say how many records they held.
    pub parts: u64,
}

impl Lost {
    /// So many records.
    pub fn records(records: u64) -> Self {
        Self { records, parts: 0 }
    }

    pub(crate) fn is_zero(&self) -> bool {
        *self == Self::default()
    }

    pub(crate) fn saturating_add(self, other: Self) -> Self {
        Self { records: self.records.saturating_add(other.records), parts: self.parts.saturating_add(other.parts) }
    }

    pub(crate) fn saturating_sub(self, other: Self) -> Self {
        Self { records: self.records.saturating_sub(other.records), parts: self.parts.saturating_sub(other.parts) }
    }
}

/// A value for each reason.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PerReason<T> {
    expired: T,
    dead_letter: T,
    dropped: T,
    damaged: T,
    early_flush: T,
}

impl<T> PerReason<T> {
    /// The value for one reason.
    pub fn of(&self, reason: LossReason) -> &T {
        match reason {
            LossReason::Expired => &self.expired,
            LossReason::DeadLetter => &self.dead_letter,
            LossReason::Dropped => &self.dropped,
            LossReason::Damaged => &self.damaged,
            LossReason::EarlyFlush => &self.early_flush,
        }
    }

    pub(crate) fn of_mut(&mut self, reason: LossReason) -> &mut T {
        match reason {
            LossReason::Expired => &mut self.expired,
            LossReason::DeadLetter => &mut self.dead_letter,
            LossReason::Dropped => &mut self.dropped,
            LossReason::Damaged => &mut self.damaged,
            LossReason::EarlyFlush => &mut self.early_flush,
        }
    }
}

/// What a loss entry holds, and the row that is made of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Loss {
    /// Why.
    pub reason: LossReason,
    /// What was lost since the row before it of the same reason.
    pub lost: Lost,
    /// Records lost for this reason since the spool was made.
    pub total: u64,
    /// Not before this time was it lost: milliseconds since 1970.
    pub since: u64,
    /// When it was written down: milliseconds since 1970.
    pub until: u64,
}

impl Loss {
    /// Appends the row.
    pub(crate) fn write(&self, output: &mut Vec<u8>) {
        let row = row::Loss {
            reason: self.reason.name(),
            records: self.lost.records,
            parts: self.lost.parts,
            total: self.total,
            since: self.since,
            until: self.until,
        };
        row::write_loss(output, &row);
    }
}

/// What the core was told of one reason.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Told {
    lost: Lost,
    /// What was lost before this time, in milliseconds since 1970, is told.
    until: u64,
}

/// What the core was told.
pub(crate) type Book = PerReason<Told>;

impl Book {
    /// Nothing told, of a spool made at that time.
    pub(crate) fn new(made: Millis) -> Self {
        let told = Told { lost: Lost::default(), until: made.0 };
        Self { expired: told, dead_letter: told, dropped: told, damaged: told, early_flush: told }
    }

    /// An entry was written.
    pub(crate) fn tell(&mut self, loss: &Loss) {
        let told = self.of_mut(loss.reason);
        told.lost = told.lost.saturating_add(loss.lost);
        told.until = told.until.max(loss.until);
    }

    /// Rows that told of so much never reached the core.
    pub(crate) fn take_back(&mut self, untold: &PerReason<Lost>) {
        for reason in LossReason::ALL {
            let told = self.of_mut(reason);
            told.lost = told.lost.saturating_sub(*untold.of(reason));
        }
    }
}

/// What was lost and told so far, shared by the parts of a spool.
#[derive(Debug)]
pub struct Losses(Mutex<State>);

#[derive(Debug)]
struct State {
    lost: PerReason<Lost>,
    told: Book,
    /// When the last entry was written by this process.
    last: PerReason<Option<Millis>>,
    /// Whether the whole journal was read: before that, `told` is too little.
    complete: bool,
}

impl Losses {
    /// The least time between two rows of the same reason.
    pub const INTERVAL: Duration = Duration::from_secs(5);

    /// `told` is what the notes say.
    pub(crate) fn new(lost: PerReason<Lost>, told: Book) -> Self {
        Self(Mutex::new(State { lost, told, last: PerReason::default(), complete: false }))
    }

    /// What was lost since the spool was made.
    pub fn lost(&self) -> PerReason<Lost> {
        self.0.lock().lost
    }

    /// What the core was not told yet.
    pub fn untold(&self) -> PerReason<Lost> {
        let state = self.0.lock();
        let mut untold = PerReason::default();
        for reason in LossReason::ALL {
            *untold.of_mut(reason) = state.untold(reason);
        }
        untold
    }

    /// Whether there is something to tell, now or after a while. To be asked often: that nothing was lost until now is the
    /// `since` of what is lost next.
    pub fn is_behind(&self, now: Millis) -> bool {
        let mut state = self.0.lock();
        let mut behind = false;
        for reason in LossReason::ALL {
            if !state.untold(reason).is_zero() {
                behind = true;
            } else if state.complete {
                let told = state.told.of_mut(reason);
                told.until = told.until.max(now.0);
            }
        }
        state.complete && behind
    }

    /// What is to be written now, one entry for each reason.
    pub(crate) fn due(&self, now: Millis) -> Vec<Loss> {
        let state = self.0.lock();
        let due = LossReason::ALL.into_iter().filter(|reason| state.is_due(*reason, now));
        due.map(|reason| {
            let (told, lost) = (state.told.of(reason), state.untold(reason));
            let total = state.lost.of(reason).records;
            Loss { reason, lost, total, since: told.until.min(now.0), until: now.0 }
        })
        .collect()
    }

    /// The ledger has changed.
    pub(crate) fn set_lost(&self, lost: PerReason<Lost>) {
        self.0.lock().lost = lost;
    }

    /// Entries were written, or found to be.
    pub(crate) fn tell<'a>(&self, losses: impl IntoIterator<Item = &'a Loss>) {
        let mut losses = losses.into_iter().peekable();
        if losses.peek().is_none() {
            return;
        }
        let mut state = self.0.lock();
        for loss in losses {
            state.told.tell(loss);
            *state.last.of_mut(loss.reason) = Some(Millis(loss.until));
        }
    }

    pub(crate) fn take_back(&self, untold: &PerReason<Lost>) {
        self.0.lock().told.take_back(untold);
    }

    /// The whole journal was read.
    pub(crate) fn complete(&self) {
        self.0.lock().complete = true;
    }
}

impl State {
    fn untold(&self, reason: LossReason) -> Lost {
        self.lost.of(reason).saturating_sub(self.told.of(reason).lost)
    }

    fn is_due(&self, reason: LossReason, now: Millis) -> bool {
        let rested = self.last.of(reason).is_none_or(|last| now >= last.after(Losses::INTERVAL));
        self.complete && rested && !self.untold(reason).is_zero()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lost(records: u64) -> PerReason<Lost> {
        PerReason { expired: Lost::records(records), ..PerReason::default() }
    }

    fn at(seconds: u64) -> Millis {
        Millis(1_700_000_000_000 + seconds * 1000)
    }

    fn told(losses: &Losses, now: Millis) -> Vec<(u64, u64)> {
        let due = losses.due(now);
        losses.tell(&due);
        due.iter().map(|loss| (loss.lost.records, loss.total)).collect()
    }

    #[test]
    fn a_flood_of_losses_is_a_trickle_of_rows_that_add_up() {
        let losses = Losses::new(PerReason::default(), Book::new(at(0)));
        losses.complete();
        assert!(!losses.is_behind(at(100)));
        losses.set_lost(lost(3));
        assert!(losses.is_behind(at(100)));
        assert_eq!(told(&losses, at(100)), [(3, 3)]);
        for more in 1..=10 {
            losses.set_lost(lost(3 + more));
        }
        assert_eq!(told(&losses, at(102)), []);
        assert_eq!(told(&losses, at(105)), [(10, 13)]);
        assert_eq!(told(&losses, at(200)), []);
    }

    #[test]
    fn a_loss_lies_between_the_last_moment_without_one_and_its_row() {
        let losses = Losses::new(PerReason::default(), Book::new(at(0)));
        losses.complete();
        assert!(!losses.is_behind(at(100)));
        losses.set_lost(lost(1));
        let [loss] = losses.due(at(101)).try_into().unwrap();
        assert_eq!((loss.since, loss.until), (at(100).0, at(101).0));
    }

    #[test]
    fn what_an_expired_batch_told_is_told_again() {
        let losses = Losses::new(lost(4), Book::new(at(0)));
        losses.complete();
        assert_eq!(told(&losses, at(10)), [(4, 4)]);
        losses.take_back(&lost(4));
        losses.set_lost(lost(9));
        assert_eq!(told(&losses, at(20)), [(9, 9)]);
    }

    #[test]
    fn nothing_is_told_before_the_journal_is_read() {
        let losses = Losses::new(lost(4), Book::new(at(0)));
        assert!(!losses.is_behind(at(100)) && losses.due(at(100)).is_empty());
    }

    #[test]
    fn codes_name_reasons() {
        for reason in LossReason::ALL {
            assert_eq!(LossReason::from_code(reason.code()), Some(reason));
        }
        assert_eq!(LossReason::from_code(5), None);
    }
}
