//! What the core's answers to batches mean.

use std::time::Duration;

/// `stream.delivery`: what becomes of a batch by the status that the core answers. A status stands in one list at most;
/// one that stands in none is tried again, and a number outranks the class it belongs to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeliveryPlan {
    /// The age up to which a batch counts as live; an older one is backlog.
    pub live_for: Duration,
    /// It may be taken later, as it is.
    pub retry: Vec<StatusPattern>,
    /// It is too large: its halves may be taken.
    pub split: Vec<StatusPattern>,
    /// A row in it is at fault: it is looked for.
    pub bisect: Vec<StatusPattern>,
    /// All of it is at fault: it is put aside.
    pub dead_letter: Vec<StatusPattern>,
    /// The configuration or the credentials are at fault: all deliveries of the stream rest.
    pub pause: Vec<StatusPattern>,
}

/// Statuses that a core may answer and that are no success: 400 to 599.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum StatusPattern {
    /// This one.
    Exact(u16),
    /// All of 400 to 499 that are not named.
    ClientErrors,
    /// All of 500 to 599 that are not named.
    ServerErrors,
}

impl StatusPattern {
    /// The statuses that it stands for.
    pub const fn statuses(self) -> std::ops::RangeInclusive<u16> {
        match self {
            Self::Exact(status) => status..=status,
            Self::ClientErrors => 400..=499,
            Self::ServerErrors => 500..=599,
        }
    }
}
