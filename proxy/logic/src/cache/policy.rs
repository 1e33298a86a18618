//! What may be kept and for how long it serves.

use std::time::Duration;

use http::HeaderMap;
use http::header::{AUTHORIZATION, CONTENT_ENCODING, CONTENT_TYPE, ETAG, LAST_MODIFIED, SET_COOKIE, VARY};
use weir_config::{CacheRoute, FreshnessMode, KeyPart};

use super::Lease;
use super::directives::{Directives, Named};
use super::terms::Terms;
use crate::Millis;
use crate::time::scaled;

/// The policy of one cached route. It holds nothing of its own: a reload brings new TTLs and another mode to answers kept under
/// the old ones.
#[derive(Clone, Copy, Debug)]
pub struct CachePolicy<'a> {
    route: &'a CacheRoute,
}

/// What is known of a kept answer that its use depends on.
#[derive(Clone, Copy, Debug)]
pub struct Arrival {
    /// The answer's status.
    pub status: u16,
    /// What the core said with it.
    pub terms: Terms,
    /// When it came.
    pub stored: Millis,
    /// What was drawn for its jitter, from 0 to 1.
    pub draw: f64,
}

impl Arrival {
    /// The answer's age (RFC 9111, section 4.2.3).
    pub fn age(&self, now: Millis) -> Duration {
        self.terms.age.saturating_add(now.since(self.stored))
    }
}

/// How a kept answer may be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Freshness {
    /// As it is, for that much longer.
    Fresh {
        /// The time left.
        left: Duration,
    },
    /// Past its TTL, but of use.
    Stale {
        /// The time since it was fresh.
        past: Duration,
        /// Whether it is served while it is fetched anew.
        while_revalidate: bool,
        /// Whether it is served while the core fails.
        if_error: bool,
    },
    /// Only good to ask the core whether it is still current.
    Expired {
        /// The time since it was fresh.
        past: Duration,
    },
}

/// What a core's answer to a fill means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Meaning {
    /// An answer to keep.
    Store,
    /// A good answer that may not be kept; what was kept before is out of date.
    PassOn(Unstorable),
    /// What is kept is current (304).
    Confirmed,
    /// The core finds fault with the request (a 4xx of no other meaning). Passed on when nothing usable is kept; never kept.
    Refused,
    /// The core finds fault with the node's credentials: 401, 403 or 407. The agent's own are never sent, so this says nothing
    /// about the agent; it is a failure and never shown as what it is.
    Denied,
    /// The core failed: 5xx, 408, 425, 429, or a status that makes no sense here.
    Failed,
}

/// Whether an answer's body is what its media type says, as far as that is cheap to tell: a 200 or 203 that calls itself JSON
/// must be one JSON value. A core behind a broken proxy or deployment answers 200 with the half of a page, and that is as much a
/// failure as a 500. Time: one pass over the body; no memory.
pub fn is_intact(status: u16, headers: &HeaderMap, body: &[u8]) -> bool {
    let encoded = headers.get(CONTENT_ENCODING).is_some_and(|encoding| encoding != "identity");
    if encoded || !matches!(status, 200 | 203) {
        return true;
    }
    let media_type = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let media_type = media_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    let json = media_type == "application/json" || media_type.ends_with("+json");
    !json || serde_json::from_slice::<serde::de::IgnoredAny>(body).is_ok()
}

/// Why a good answer may not be kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Unstorable {
    /// The operator gives its status no TTL.
    Status,
    /// `Cache-Control: no-store`.
    NoStore,
    /// `Cache-Control: private`, and the key does not name the agent.
    Private,
    /// `Vary: *`.
    Vary,
    /// It sets a cookie.
    SetCookie,
    /// The core was sent an agent's credentials, which the key names, and does not say that the answer is for others as well
    /// (RFC 9111, section 3.5).
    Authorization,
    /// It is never fresh, never of use when stale, and the core cannot be asked to confirm it.
    NeverFresh,
    /// The agent said `no-store`, and the route obeys its agents.
    AgentSaysSo,
    /// It is larger than one stored answer may be.
    TooLarge,
}

impl Unstorable {
    /// The token in `Cache-Status`.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Status => "no-ttl",
            Self::NoStore => "no-store",
            Self::Private => "private",
            Self::Vary => "vary",
            Self::SetCookie => "set-cookie",
            Self::Authorization => "authorization",
            Self::NeverFresh => "never-fresh",
            Self::AgentSaysSo => "agent-no-store",
            Self::TooLarge => "too-large",
        }
    }
}

impl Freshness {
    /// Whole seconds for which the answer is still fresh, below zero when it is not: `ttl` of `Cache-Status`.
    pub fn ttl(&self) -> i64 {
        match self {
            Self::Fresh { left } => seconds(*left),
            Self::Stale { past, .. } | Self::Expired { past } => -seconds(*past),
        }
    }

    /// Whether the answer may be served while the core fails.
    pub fn serves_errors(&self) -> bool {
        matches!(self, Self::Fresh { .. } | Self::Stale { if_error: true, .. })
    }
}

fn seconds(duration: Duration) -> i64 {
    i64::try_from(duration.as_secs()).unwrap_or(i64::MAX)
}

impl<'a> CachePolicy<'a> {
    /// The policy of `route`.
    pub const fn of(route: &'a CacheRoute) -> Self {
        Self { route }
    }

    /// What the policy grants an answer with these terms, from its arrival on.
    pub fn lease(&self, status: u16, terms: &Terms) -> Lease {
        let StaleBounds { while_revalidate, if_error } = self.stale_bounds(terms);
        let ttl = self.ttl(status, terms).unwrap_or_default().saturating_sub(self.age_that_counts(terms));
        Lease { ttl, jitter: self.route.jitter.value(), while_revalidate, if_error, refresh_ahead: 0.0 }
    }

    /// The time for which an answer is fresh, less the part of the jitter that was drawn. It counts from the answer's arrival
    /// where the operator decides, else from its making.
    pub fn lifetime(&self, arrival: &Arrival) -> Duration {
        let kept_part = 1.0 - self.route.jitter.value() * arrival.draw.clamp(0.0, 1.0);
        scaled(self.ttl(arrival.status, &arrival.terms).unwrap_or_default(), kept_part)
    }

    /// How an answer may be used. It is stale since `outdated`, whatever its lifetime.
    pub fn freshness(&self, arrival: &Arrival, outdated: Option<Millis>, now: Millis) -> Freshness {
        let before = self.age_that_counts(&arrival.terms);
        let purged = outdated.map_or(Duration::MAX, |at| before.saturating_add(at.since(arrival.stored)));
        let lifetime = self.lifetime(arrival).min(purged);
        let age = before.saturating_add(now.since(arrival.stored));
        if age < lifetime {
            return Freshness::Fresh { left: lifetime - age };
        }
        let past = age - lifetime;
        let bounds = self.stale_bounds(&arrival.terms);
        let (while_revalidate, if_error) = (past < bounds.while_revalidate, past < bounds.if_error);
        if while_revalidate || if_error {
            Freshness::Stale { past, while_revalidate, if_error }
        } else {
            Freshness::Expired { past }
        }
    }

    /// What an answer means. `conditional` says whether the fill named a validator, without which 304 makes no sense.
    pub fn meaning(&self, status: u16, headers: &HeaderMap, conditional: bool) -> Meaning {
        match status {
            304 if conditional => Meaning::Confirmed,
            401 | 403 | 407 => Meaning::Denied,
            404 | 410 => self.good(status, headers),
            206 | 304 | 408 | 416 | 425 | 429 => Meaning::Failed,
            200..=399 => self.good(status, headers),
            400..=499 => Meaning::Refused,
            _ => Meaning::Failed,
        }
    }

    /// Whether an answer with these headers may be kept; the reason when not.
    pub fn unstorable(&self, status: u16, headers: &HeaderMap) -> Option<Unstorable> {
        let directives = Directives::of(headers);
        // An `Expires` without a `Date` counts as ahead: at worst the answer is kept in vain.
        let terms = Terms::of(headers, Millis(0), Millis(0));
        let Some(ttl) = self.ttl(status, &terms) else { return Some(Unstorable::Status) };
        if self.route.freshness == FreshnessMode::Override && ttl.is_zero() {
            return Some(Unstorable::Status);
        }
        // `must-understand` takes the place of `no-store` for whoever knows the status (RFC 9111, section 5.2.2.3); what has a
        // TTL is known.
        if directives.no_store && !directives.must_understand {
            return Some(Unstorable::NoStore);
        }
        if directives.private == Named::Whole && !self.route.key.contains(&KeyPart::Agent) {
            return Some(Unstorable::Private);
        }
        if headers.contains_key(SET_COOKIE) {
            return Some(Unstorable::SetCookie);
        }
        if headers.get_all(VARY).iter().any(|value| value.as_bytes().contains(&b'*')) {
            return Some(Unstorable::Vary);
        }
        let for_others = directives.public || directives.must_revalidate || directives.s_maxage.is_some();
        if self.sends_credentials() && self.route.freshness != FreshnessMode::Override && !for_others {
            return Some(Unstorable::Authorization);
        }
        let confirmable = headers.contains_key(ETAG) || headers.contains_key(LAST_MODIFIED);
        let of_use = !ttl.is_zero() || confirmable || self.stale_bounds(&terms) != StaleBounds::default();
        (!of_use).then_some(Unstorable::NeverFresh)
    }

    fn good(&self, status: u16, headers: &HeaderMap) -> Meaning {
        self.unstorable(status, headers).map_or(Meaning::Store, Meaning::PassOn)
    }

    /// The age on arrival that counts towards staleness: the operator's TTLs begin when an answer arrives, the core's when it was
    /// made.
    fn age_that_counts(&self, terms: &Terms) -> Duration {
        match self.route.freshness {
            FreshnessMode::Override => Duration::ZERO,
            FreshnessMode::Clamp | FreshnessMode::Honor => terms.age,
        }
    }

    fn ttl(&self, status: u16, terms: &Terms) -> Option<Duration> {
        let said = terms.lifetime.filter(|_| is_understood(status));
        let said = match self.route.freshness {
            FreshnessMode::Override => None,
            FreshnessMode::Clamp => said.map(|said| said.min(self.route.max_ttl).max(self.route.min_ttl)),
            FreshnessMode::Honor => said,
        };
        said.or_else(|| self.table(status))
    }

    /// The operator's TTL.
    fn table(&self, status: u16) -> Option<Duration> {
        match status {
            200 | 203 | 204 => Some(self.route.ttl.ok),
            301 | 308 => Some(self.route.ttl.redirect),
            404 | 410 => Some(self.route.ttl.not_found),
            _ => None,
        }
    }

    /// How far an answer is of use when stale. The route's bounds hold in every mode; where the core decides it may narrow or
    /// forbid, and under `honor` only its word allows staleness while the core could be asked (RFC 9111, section 4.2.4).
    fn stale_bounds(&self, terms: &Terms) -> StaleBounds {
        let route =
            StaleBounds { while_revalidate: self.route.stale_while_revalidate, if_error: self.route.stale_if_error };
        let (while_revalidate, if_error) = match self.route.freshness {
            FreshnessMode::Override => return route,
            FreshnessMode::Clamp | FreshnessMode::Honor if terms.never_stale => return StaleBounds::default(),
            FreshnessMode::Clamp => (route.while_revalidate, route.if_error),
            FreshnessMode::Honor if terms.for_shared_caches => (Duration::ZERO, Duration::ZERO),
            FreshnessMode::Honor => (Duration::ZERO, route.if_error),
        };
        StaleBounds {
            while_revalidate: terms.stale_while_revalidate.unwrap_or(while_revalidate).min(route.while_revalidate),
            if_error: terms.stale_if_error.unwrap_or(if_error).min(route.if_error),
        }
    }

    fn sends_credentials(&self) -> bool {
        self.route.key.iter().any(|part| matches!(part, KeyPart::Header(name) if name == AUTHORIZATION.as_str()))
    }
}

/// The times past its lifetime for which an answer is of use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct StaleBounds {
    while_revalidate: Duration,
    if_error: Duration,
}

/// The statuses that the node knows to keep where the core says for how long (RFC 9111, section 3). Errors are not among them,
/// although the RFC allows some: an error never takes the place of a good answer.
fn is_understood(status: u16) -> bool {
    matches!(status, 200 | 203 | 204 | 300..=303 | 307 | 308 | 404 | 410)
}

#[cfg(test)]
mod modes;
#[cfg(test)]
mod tests;
