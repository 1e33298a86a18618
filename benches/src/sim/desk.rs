//! What everybody in a run shares: the time, what will happen, the core, the counts, chance, and answers on their way to agents.

use std::time::Duration;

use rand::rngs::SmallRng;
use weir_logic::Millis;

use super::agents::{Activity, Told};
use super::calendar::Calendar;
use super::origin::{Ending, Origin};
use super::patience::Patience;
use super::series::Series;

/// Shared by all parts of a run.
#[derive(Debug)]
pub(super) struct Desk {
    pub(super) now: Millis,
    pub(super) calendar: Calendar<Event>,
    pub(super) origin: Origin,
    pub(super) series: Series,
    pub(super) rng: SmallRng,
    /// Of the nodes; `None` where there are none.
    pub(super) patience: Option<Patience>,
    /// What agents have been told and not taken in yet.
    pub(super) told: Vec<(Activity, Told)>,
}

/// Something that happens.
#[derive(Clone, Copy, Debug)]
pub(super) enum Event {
    /// An agent asks.
    Turn(Activity),
    /// The core's word to an agent that asked it without a node between, in the core's life of that number.
    Direct { activity: Activity, ending: Ending, life: u32 },
    /// The core's word to a node.
    Core { node: u16, order: u32, ending: Ending },
    /// Those who wait at a node's gate are called.
    Call { node: u16 },
    /// Somebody has waited at a gate since then for as long as one may.
    Patience { node: u16, order: u32, since: Millis },
    /// A window of lookups closes.
    Window { node: u16, route: Looked, number: u64 },
    /// A node looks for kept answers that are due.
    Refresh { node: u16 },
    /// A node closes a generation of uploads.
    Seal { node: u16 },
    /// A node looks for batches to send.
    Send { node: u16 },
    /// The core dies, or is back.
    Outage { is_up: bool },
    /// The core works so many times slower than usual.
    Slow { times: u16 },
}

/// The routes that are answered by lookups.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Looked {
    Config,
    Tasks,
}

impl Desk {
    /// An agent is turned away, and should not come back before `lead`.
    pub(super) fn turn_away(&mut self, activity: Activity, lead: Duration) {
        let seconds = self.patience.as_mut().map(|patience| patience.told(activity, lead, self.now));
        self.tell(activity, Told::Refused(seconds));
    }

    pub(super) fn tell(&mut self, activity: Activity, told: Told) {
        self.told.push((activity, told));
    }

    /// A request to the core; counted unless nobody is there.
    pub(super) fn ask_core(&mut self, cost: f64, patience_ms: u64) -> (Millis, Ending) {
        let (at, ending) = self.origin.take(cost, patience_ms, self.now);
        if ending != Ending::Unreachable {
            self.series.at(self.now.0).at_core += 1;
        }
        (at, ending)
    }
}
