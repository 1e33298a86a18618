//! The actions as the gateway asks them. They do not know the gateway; this is where they meet.

use async_trait::async_trait;
use weir_logic::{Call, Identity, Millis};

use crate::aggregate::Aggregate;
use crate::answer::{Answer, Body, Hit};
use crate::cache::CacheAction;
use crate::gateway::{Action, Attendance};
use crate::lookup::LookupAction;
use crate::presence::Presence;

#[async_trait]
impl Action for CacheAction {
    async fn answer(&self, call: &Call<'_>) -> Answer {
        Self::answer(self, call).await
    }

    fn at_once(&self, call: &Call<'_>) -> Option<Hit> {
        Self::at_once(self, call)
    }
}

#[async_trait]
impl Action for LookupAction {
    async fn answer(&self, call: &Call<'_>) -> Answer {
        Self::answer(self, call).await.map_body(Body::from)
    }
}

#[async_trait]
impl Action for Aggregate {
    async fn answer(&self, call: &Call<'_>) -> Answer {
        self.handle(call).await.map_body(Body::from)
    }
}

impl Attendance for Presence {
    fn seen(&self, identity: &Identity, version: Option<&str>, now: Millis) {
        Self::seen(self, identity, version, now);
    }
}
