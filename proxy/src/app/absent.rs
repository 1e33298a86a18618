//! An action that is not part of this build.

use std::time::Duration;

use async_trait::async_trait;
use weir_logic::{Answer, Call, Refusal};

use crate::gateway::Action;

/// Tells agents to come back.
pub(super) struct Absent;

#[async_trait]
impl Action for Absent {
    async fn answer(&self, _call: &Call<'_>) -> Answer {
        Refusal::Overloaded.answer("this node does not know the route's action", Duration::from_secs(60))
    }
}
