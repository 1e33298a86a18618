//! The one way in which each request ended.

use crate::cache::Unstorable;

/// How a request ended. Every request ends in exactly one; the counts of all outcomes add up to the requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Outcome {
    /// Answered from a fresh stored answer.
    Hit,
    /// Answered from a stale stored answer.
    Stale,
    /// Answered after the core confirmed the stored answer.
    Revalidated,
    /// Answered from a fill or a lookup that another request had started.
    Coalesced,
    /// Answered from a fill or a lookup that this request started.
    Miss,
    /// A cached route that could not use the cache for this request, answered by the core.
    Bypass,
    /// Answered with the operator's harmless answer.
    Calm,
    /// An upload accepted, in whole or in part.
    Accepted,
    /// Passed through to the core and answered by it.
    Forwarded,
    /// Turned away to protect the node or the core; the agent may come back.
    Shed,
    /// Refused for what the request is: malformed, too large, unauthorised, unknown.
    Refused,
    /// The core failed and there was nothing else to say.
    Failed,
    /// The agent left before its answer.
    Abandoned,
}

impl Outcome {
    /// All outcomes, in order.
    pub const ALL: [Self; 13] = [
        Self::Hit,
        Self::Stale,
        Self::Revalidated,
        Self::Coalesced,
        Self::Miss,
        Self::Bypass,
        Self::Calm,
        Self::Accepted,
        Self::Forwarded,
        Self::Shed,
        Self::Refused,
        Self::Failed,
        Self::Abandoned,
    ];

    /// The label in metrics and logs.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Hit => "hit",
            Self::Stale => "stale",
            Self::Revalidated => "revalidated",
            Self::Coalesced => "coalesced",
            Self::Miss => "miss",
            Self::Bypass => "bypass",
            Self::Calm => "calm",
            Self::Accepted => "accepted",
            Self::Forwarded => "forwarded",
            Self::Shed => "shed",
            Self::Refused => "refused",
            Self::Failed => "failed",
            Self::Abandoned => "abandoned",
        }
    }
}

/// Why an answer was stale, or did not go through the cache: the detail of [`Outcome::Stale`] and [`Outcome::Bypass`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Cause {
    /// Stale: within `stale_while_revalidate`, and fetched anew behind the agent's back.
    Revalidating,
    /// Stale: the key's last fill failed, so that the core was not waited for.
    CoreFailing,
    /// Stale: the fill that the agent waited for failed.
    FillFailed,
    /// Stale: the fill took longer than an agent should wait.
    FillOverdue,
    /// Stale: the core found fault with a request that it had answered before.
    CoreRefuses,
    /// Stale: the node had no room for another fill, or there is a line at the core's gate.
    Crowded,
    /// Stale: a newer answer is there, and waits for the payloads that it names.
    PayloadPending,
    /// Bypass: the core found fault with the request.
    Refused,
    /// Bypass: the answer may not be kept.
    Unstorable(Unstorable),
}

impl Cause {
    /// The label in metrics.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Revalidating => "revalidating",
            Self::CoreFailing => "core-failing",
            Self::FillFailed => "fill-failed",
            Self::FillOverdue => "fill-overdue",
            Self::CoreRefuses => "core-refuses",
            Self::Crowded => "crowded",
            Self::PayloadPending => "payload-pending",
            Self::Refused => "refused",
            Self::Unstorable(why) => why.label(),
        }
    }
}
