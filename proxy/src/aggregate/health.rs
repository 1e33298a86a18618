//! Whether a stream's journal can be written.

use std::time::Duration;

use parking_lot::Mutex;
use weir_logic::Millis;

/// What the journal thread has seen of its disk. Uploads are turned away from a failed write to the next that succeeds;
/// the thread tries one each second by itself, so that a disk that works again is noticed though no upload comes.
#[derive(Debug, Default)]
pub(super) struct DiskHealth {
    seen: Mutex<Seen>,
}

#[derive(Debug, Default)]
struct Seen {
    shut: bool,
    /// When the trouble began, and its last failure.
    trouble: Option<(Millis, Millis)>,
}

impl DiskHealth {
    /// A trouble is over when no write has failed for this long: a disk that takes a small write and then fails at a
    /// large one is in one trouble, not in many.
    const CALM: Duration = Duration::from_secs(5);

    /// A write has failed. Gives whether that is news.
    pub(super) fn failed(&self, now: Millis) -> bool {
        let mut seen = self.seen.lock();
        let began = seen.trouble_at(now).map_or(now, |(began, _)| began);
        seen.trouble = Some((began, now));
        !std::mem::replace(&mut seen.shut, true)
    }

    /// A write has succeeded. Gives whether that is news.
    pub(super) fn worked(&self) -> bool {
        std::mem::replace(&mut self.seen.lock().shut, false)
    }

    /// Whether the last write failed.
    pub(super) fn is_shut(&self) -> bool {
        self.seen.lock().shut
    }

    /// How long the disk has been in trouble; `None` when it is not.
    pub(super) fn trouble(&self, now: Millis) -> Option<Duration> {
        self.seen.lock().trouble_at(now).map(|(began, _)| now.since(began))
    }
}

impl Seen {
    fn trouble_at(&self, now: Millis) -> Option<(Millis, Millis)> {
        self.trouble.filter(|(_, last)| self.shut || now.since(*last) < DiskHealth::CALM)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_that_works_now_and_then_is_in_one_trouble() {
        let health = DiskHealth::default();
        assert_eq!(health.trouble(Millis(0)), None);
        for now in [1_000, 2_000, 5_000] {
            assert!(health.failed(Millis(now)));
            assert!(!health.failed(Millis(now)) && health.is_shut());
            assert!(health.worked() && !health.worked() && !health.is_shut());
        }
        assert_eq!(health.trouble(Millis(9_000)), Some(Duration::from_secs(8)));
        assert_eq!(health.trouble(Millis(10_000)), None);
        health.failed(Millis(20_000));
        assert_eq!(health.trouble(Millis(90_000)), Some(Duration::from_secs(70)));
    }
}
