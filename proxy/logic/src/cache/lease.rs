//! What a policy grants one answer, apart from the answer: for those who ask what would have been.

use std::time::Duration;

use super::Freshness;
use crate::time::scaled;

/// For how long an answer is of use. [`CachePolicy::lease`](super::CachePolicy::lease) gives it.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Lease {
    /// The time for which it is fresh, before jitter. Zero: it is not kept.
    pub ttl: Duration,
    /// The part of it that is drawn at random and taken off, from 0 to 1.
    pub jitter: f64,
    /// The time past it for which the answer is served while it is fetched anew.
    pub while_revalidate: Duration,
    /// The time past it for which the answer is served while the core fails.
    pub if_error: Duration,
    /// The part of the TTL before its end at which an answer that was asked for is fetched anew, from 0 to 1. Zero: it is not.
    pub refresh_ahead: f64,
}

impl Lease {
    /// The same with another TTL.
    #[must_use]
    pub fn times(self, factor: f64) -> Self {
        Self { ttl: scaled(self.ttl, factor), ..self }
    }

    /// The time for which the answer is fresh, less the part of the jitter that `draw` says, from 0 to 1.
    pub fn lifetime(&self, draw: f64) -> Duration {
        scaled(self.ttl, 1.0 - self.jitter * draw.clamp(0.0, 1.0))
    }

    /// The time after which an answer that was asked for by then is fetched anew, if any is.
    pub fn due(&self, draw: f64) -> Option<Duration> {
        (self.refresh_ahead > 0.0).then(|| scaled(self.lifetime(draw), (1.0 - self.refresh_ahead).clamp(0.0, 1.0)))
    }

    /// How the answer may be used when it has been kept for so long.
    pub fn freshness(&self, resident: Duration, draw: f64) -> Freshness {
        let lifetime = self.lifetime(draw);
        if resident < lifetime {
            return Freshness::Fresh { left: lifetime - resident };
        }
        let past = resident - lifetime;
        let (while_revalidate, if_error) = (past < self.while_revalidate, past < self.if_error);
        if while_revalidate || if_error {
            Freshness::Stale { past, while_revalidate, if_error }
        } else {
            Freshness::Expired { past }
        }
    }
}
