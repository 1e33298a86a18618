//! What the gateway asks of an action, and nothing more: a plain view of a request in, a prepared answer out.

use async_trait::async_trait;
use weir_logic::{Call, Identity, Millis};

use crate::answer::{Answer, Hit};

/// One of the actions that answer here: cache, lookup, aggregate. It knows nothing of pingora's session.
#[async_trait]
pub trait Action: Send + Sync {
    /// Answers a request that has been identified, routed and admitted, its body read. May be dropped at any await when
    /// the agent leaves.
    async fn answer(&self, call: &Call<'_>) -> Answer;

    /// The answer, where it is stored, fresh, and nobody need be asked or told: what [`Action::answer`] would give, without waiting. To
    /// be asked first; `None` says nothing, and nothing has been noted then.
    fn at_once(&self, _call: &Call<'_>) -> Option<Hit> {
        None
    }
}

/// Who keeps count of the agents that are alive.
pub trait Attendance: Send + Sync {
    /// An agent has asked for something.
    fn seen(&self, identity: &Identity, version: Option<&str>, now: Millis);
}
