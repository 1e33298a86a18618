//! After a failed fill: for how long the core is not asked for that key again.

use std::time::Duration;

use crate::Millis;

/// The rest that one key gets after its fills failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hold {
    /// When the core may be asked again.
    pub until: Millis,
    /// Fills that failed in a row.
    pub failures: u32,
}

impl Hold {
    /// The hold after one more failure. It lasts a second, doubled with each failure in a row up to 16 seconds, less up to half
    /// of it by `draw` (from 0 to 1), so that keys that failed together do not ask together. A `hint` of the core that is longer
    /// counts instead, up to a minute, and up to a quarter more by `draw`.
    pub fn after(previous: Option<Self>, hint: Option<Duration>, now: Millis, draw: f64) -> Self {
        let failures = previous.map_or(0, |hold| hold.failures).saturating_add(1);
        let doublings = (failures - 1).min(MAX_DOUBLINGS);
        let draw = draw.clamp(0.0, 1.0);
        let own = (FIRST * 2_u32.pow(doublings)).mul_f64(1.0 - draw / 2.0);
        let asked = hint.unwrap_or_default().min(MAX_HINT).mul_f64(1.0 + draw / 4.0);
        Self { until: now.after(own.max(asked)), failures }
    }

    /// The hold after the gate turned a fill away: as after a first failure, however often it happens. That the gate is shut says
    /// nothing about the key, and when it opens the key shall not rest longer than others.
    pub fn turned_away(hint: Option<Duration>, now: Millis, draw: f64) -> Self {
        Self::after(None, hint, now, draw)
    }

    /// Whether the core is not to be asked yet.
    pub fn holds(&self, now: Millis) -> bool {
        now < self.until
    }
}

const FIRST: Duration = Duration::from_secs(1);
const MAX_DOUBLINGS: u32 = 4;
const MAX_HINT: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;

    fn length(hold: Hold) -> Duration {
        hold.until.since(Millis(0))
    }

    #[test]
    fn holds_double_up_to_sixteen_seconds() {
        let mut hold = None;
        let mut lengths = Vec::new();
        for _ in 0..7 {
            let next = Hold::after(hold, None, Millis(0), 0.0);
            lengths.push(length(next).as_secs());
            hold = Some(next);
        }
        assert_eq!(lengths, [1, 2, 4, 8, 16, 16, 16]);
    }

    #[test]
    fn the_draw_takes_off_up_to_half() {
        assert_eq!(length(Hold::after(None, None, Millis(0), 1.0)), Duration::from_millis(500));
    }

    #[test]
    fn a_longer_hint_counts_up_to_a_minute() {
        let hinted = |seconds, draw| length(Hold::after(None, Some(Duration::from_secs(seconds)), Millis(0), draw));
        assert_eq!((hinted(20, 0.0), hinted(20, 1.0)), (Duration::from_secs(20), Duration::from_secs(25)));
        assert_eq!(hinted(3600, 0.0), Duration::from_secs(60));
        assert_eq!(hinted(0, 0.5), Duration::from_millis(750));
    }
}
