//! The actions as the gateway asks them. They do not know the gateway; this is where they meet.

use async_trait::async_trait;
use weir_logic::{Answer, Call};

use crate::cache::CacheAction;
use crate::gateway::Action;
use crate::lookup::LookupAction;

#[async_trait]
impl Action for CacheAction {
    async fn answer(&self, call: &Call<'_>) -> Answer {
        Self::answer(self, call).await
    }
}

#[async_trait]
impl Action for LookupAction {
    async fn answer(&self, call: &Call<'_>) -> Answer {
        Self::answer(self, call).await
    }
}
