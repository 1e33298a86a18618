//! Deliveries of batches to a core: what its statuses mean, which batch goes next, how fast an outbox empties.
//!
//! Nothing here reads a file or sends a request.

mod drain;
mod queue;

use weir_config::DeliveryPlan;

pub use drain::{Drain, DrainRate};
pub use queue::{Arrival, DeliveryQueue, DeliveryRules, LOOK_AHEAD, Lane, LaneContent, STRIKES, Setback};

/// What to do with a batch after one attempt to deliver it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Delivery {
    /// The core has it for good.
    Accepted,
    /// It may be taken later, as it is.
    Retry,
    /// It is too large: its halves may be taken.
    Halve,
    /// The answer says which rows the core has, which it refuses and which it wants again.
    Partial,
    /// Some row in it is at fault: it is looked for, and the others may be taken.
    Isolate,
    /// It will never be taken: all of it is at fault.
    Bury,
    /// The configuration or the credentials are at fault: nothing of the stream will be taken before that is mended.
    Pause,
}

impl Delivery {
    /// The label in metrics.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::Retry => "retried",
            Self::Halve => "halved",
            Self::Partial => "partial",
            Self::Isolate => "isolating",
            Self::Bury => "buried",
            Self::Pause => "paused",
        }
    }
}

/// The table from status to fate of one stream. Only a status that the operator's file gives to the content gives a batch
/// up; success is not for the file to say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeliveryTable {
    /// For the statuses from [`FIRST_REFUSAL`] on.
    refusals: [Delivery; 200],
}

/// The least status that a table can give a meaning to.
const FIRST_REFUSAL: u16 = 400;

impl DeliveryTable {
    /// What a status asks for. 1xx, 3xx and what is no status in HTTP are not for batches: neither success nor the
    /// batch's fault, so that it waits until that is mended.
    pub fn of(&self, status: u16) -> Delivery {
        match status {
            207 => Delivery::Partial,
            200..=299 => Delivery::Accepted,
            _ => self.refusals.get(place(status)).copied().unwrap_or(Delivery::Retry),
        }
    }
}

impl From<&DeliveryPlan> for DeliveryTable {
    fn from(plan: &DeliveryPlan) -> Self {
        let lists = [
            (&plan.retry, Delivery::Retry),
            (&plan.split, Delivery::Halve),
            (&plan.bisect, Delivery::Isolate),
            (&plan.dead_letter, Delivery::Bury),
            (&plan.pause, Delivery::Pause),
        ];
        let mut named: Vec<_> =
            lists.iter().flat_map(|(list, fate)| list.iter().map(move |pattern| (pattern.statuses(), *fate))).collect();
        // Classes first, so that what is exact has the last word.
        named.sort_by_key(|(statuses, _)| statuses.start() == statuses.end());
        let mut refusals = [Delivery::Retry; 200];
        for (status, fate) in named.into_iter().flat_map(|(statuses, fate)| statuses.map(move |one| (one, fate))) {
            if let Some(refusal) = refusals.get_mut(place(status)) {
                *refusal = fate;
            }
        }
        Self { refusals }
    }
}

/// The table of a configuration that says nothing of statuses.
impl Default for DeliveryTable {
    fn default() -> Self {
        use weir_config::StatusPattern::Exact;
        Self::from(&DeliveryPlan {
            live_for: std::time::Duration::ZERO,
            retry: Vec::new(),
            split: vec![Exact(413)],
            bisect: vec![Exact(400), Exact(422)],
            dead_letter: vec![Exact(406), Exact(415)],
            pause: vec![Exact(401), Exact(403), Exact(404), Exact(405)],
        })
    }
}

fn place(status: u16) -> usize {
    usize::from(status).wrapping_sub(usize::from(FIRST_REFUSAL))
}

/// What a status that pauses a stream blames, for metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Blame {
    /// What the node shows to the core: 401, 403, 407.
    Credentials,
    /// Where the batches are sent: 404, 405, 410, 421.
    Address,
    /// Anything else that the operator's file has pause.
    Other,
}

impl Blame {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Credentials, Self::Address, Self::Other];

    /// What this status blames.
    pub const fn of(status: u16) -> Self {
        match status {
            401 | 403 | 407 => Self::Credentials,
            404 | 405 | 410 | 421 => Self::Address,
            _ => Self::Other,
        }
    }

    /// The label in metrics.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Credentials => "credentials",
            Self::Address => "address",
            Self::Other => "other",
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use weir_config::{EXAMPLE, MemoryEnvironment, StatusPattern, parse};

    use super::*;

    #[test]
    fn the_default_table_is_the_one_in_the_reference() {
        let environment = MemoryEnvironment::new().file("weir.toml", EXAMPLE);
        let streams = parse(&environment, Path::new("weir.toml")).unwrap().config.streams;
        assert_eq!(DeliveryTable::from(&streams[0].delivery), DeliveryTable::default());
    }

    #[test]
    fn only_a_status_that_blames_the_content_gives_a_batch_up() {
        let table = DeliveryTable::default();
        for status in [0, 100, 199, 301, 399, 402, 408, 409, 425, 429, 500, 502, 503, 504, 599, 600, 999, u16::MAX] {
            assert_eq!(table.of(status), Delivery::Retry, "{status}");
        }
        assert_eq!(
            [415, 413, 204].map(|status| table.of(status)),
            [Delivery::Bury, Delivery::Halve, Delivery::Accepted]
        );
        assert_eq!(
            [400, 422, 207].map(|status| table.of(status)),
            [Delivery::Isolate, Delivery::Isolate, Delivery::Partial]
        );
        assert!([401, 403, 404, 405].iter().all(|status| table.of(*status) == Delivery::Pause));
    }

    #[test]
    fn a_number_outranks_its_class_and_no_list_reaches_a_success() {
        let plan = DeliveryPlan {
            live_for: std::time::Duration::ZERO,
            retry: vec![StatusPattern::Exact(429)],
            split: vec![StatusPattern::Exact(200), StatusPattern::Exact(302)],
            bisect: Vec::new(),
            dead_letter: vec![StatusPattern::ClientErrors],
            pause: vec![StatusPattern::Exact(401), StatusPattern::ServerErrors],
        };
        let table = DeliveryTable::from(&plan);
        assert_eq!(
            [429, 401, 418, 503].map(|status| table.of(status)),
            [Delivery::Retry, Delivery::Pause, Delivery::Bury, Delivery::Pause]
        );
        assert_eq!([200, 302].map(|status| table.of(status)), [Delivery::Accepted, Delivery::Retry]);
    }
}
