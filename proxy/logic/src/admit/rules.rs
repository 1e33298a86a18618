//! All limits of admission in one value, and what they say of a request.

use std::collections::HashMap;
use std::time::Duration;

use weir_config::{Class, Limits, Route};

use super::{Admission, Damping, FairShare, Rate};
use crate::retry_after::WindowBounds;
use crate::{Refusal, TenantId};

/// A limit, as metrics name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Limit {
    /// The agent does not wait as it was told.
    Damping,
    /// The agent's token bucket.
    AgentRate,
    /// The tenant's share of the requests under way.
    TenantRequests,
    /// The tenant's share of the requests a second.
    TenantRate,
    /// The tenant's share of the memory for bodies.
    TenantMemory,
    /// The room of the request's class.
    Class,
    /// The requests a second that all share.
    NodeRate,
}

impl Limit {
    /// All limits.
    pub const ALL: [Self; 7] = [
        Self::Damping,
        Self::AgentRate,
        Self::TenantRequests,
        Self::TenantRate,
        Self::TenantMemory,
        Self::Class,
        Self::NodeRate,
    ];

    /// The label in metrics.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Damping => "damping",
            Self::AgentRate => "agent_rate",
            Self::TenantRequests => "tenant_requests",
            Self::TenantRate => "tenant_rate",
            Self::TenantMemory => "tenant_memory",
            Self::Class => "class",
            Self::NodeRate => "node_rate",
        }
    }

    /// What an agent is told that is past it: 429 where it is the agent's or its tenant's doing, else 503.
    pub const fn refusal(self) -> Refusal {
        match self {
            Self::Damping | Self::AgentRate => Refusal::TooOften,
            Self::TenantRequests | Self::TenantRate | Self::TenantMemory => Refusal::OverShare,
            Self::Class | Self::NodeRate => Refusal::Overloaded,
        }
    }

    /// The same for people.
    pub const fn detail(self) -> &'static str {
        match self {
            Self::Damping => "come back as Retry-After says",
            Self::AgentRate => "the agent asks too often",
            Self::TenantRequests => "too many requests of the tenant are under way",
            Self::TenantRate => "the tenant asks too often",
            Self::TenantMemory => "too many bodies of the tenant are in memory",
            Self::Class => "the node is busy",
            Self::NodeRate => "the node is asked too often",
        }
    }
}

/// The limits in force.
#[derive(Clone, Debug)]
pub struct Rules {
    room: Admission,
    max_requests: usize,
    class_shadow: bool,
    share: FairShare,
    max_rate: Option<f64>,
    weights: HashMap<String, u32>,
    tenant_shadow: bool,
    rate: Rate,
    agent_shadow: bool,
    damping: Damping,
    damping_shadow: bool,
    pause: Duration,
    waits: weir_config::RetryAfterLimits,
}

/// What is under way and was of late, when a request comes.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Load {
    /// Requests that are worked on.
    pub requests: usize,
    /// Those of the tenant.
    pub of_tenant: usize,
    /// Requests of late, as [`super::Recent`] counts them.
    pub rate: f64,
    /// Those of the tenant.
    pub tenant_rate: f64,
}

impl Rules {
    /// The rules that these limits make.
    pub fn new(limits: &Limits) -> Self {
        let tenants = &limits.tenants;
        let weight = |tenant: &weir_config::TenantWeight| (tenant.tenant.clone(), tenant.weight);
        Self {
            room: Admission::new(limits),
            max_requests: limits.max_requests,
            class_shadow: limits.classes.shadow,
            share: FairShare::new(tenants.share),
            max_rate: tenants.max_requests_per_second.map(f64::from),
            weights: tenants.weights.iter().map(weight).collect(),
            tenant_shadow: tenants.shadow,
            rate: Rate::new(limits.agents.requests_per_minute, limits.agents.burst),
            agent_shadow: limits.agents.shadow,
            damping: Damping {
                after: u8::try_from(limits.damping.after).unwrap_or(u8::MAX),
                longest: limits.damping.longest,
            },
            damping_shadow: limits.damping.shadow,
            pause: limits.damping.pause,
            waits: limits.retry_after,
        }
    }

    /// Whether the limit only counts.
    pub fn is_shadow(&self, limit: Limit) -> bool {
        match limit {
            Limit::Damping => self.damping_shadow,
            Limit::AgentRate => self.agent_shadow,
            Limit::TenantRequests | Limit::TenantRate => self.tenant_shadow,
            Limit::Class => self.class_shadow,
            Limit::TenantMemory | Limit::NodeRate => false,
        }
    }

    /// When agents are damped.
    pub fn damping(&self) -> Damping {
        self.damping
    }

    /// How long a request that is past the limit waits for its refusal, where `paused` others do.
    pub fn pause(&self, limit: Limit, paused: usize) -> Duration {
        if limit == Limit::Damping && paused < self.max_requests { self.pause } else { Duration::ZERO }
    }

    /// How often an agent may ask on that route, and whether the route has a bucket of its own.
    pub fn rate(&self, route: &Route) -> (Rate, bool) {
        match route.agent_limit {
            Some(own) => (Rate::new(own.requests_per_minute, own.burst), true),
            None => (self.rate, false),
        }
    }

    /// Whether the requests of late count at all.
    pub fn bounds_rate(&self) -> bool {
        self.max_rate.is_some()
    }

    /// The tenant's weight.
    pub fn weight(&self, tenant: Option<&TenantId>) -> u32 {
        tenant.and_then(|tenant| self.weights.get(tenant.as_str())).copied().unwrap_or(1)
    }

    /// The bounds of what agents are told in `Retry-After`.
    pub fn waits(&self, class: Class) -> WindowBounds {
        WindowBounds { shortest: self.waits.shortest, longest: self.waits.longest(class) }
    }

    /// Requests that may be worked on at once when one more of that class comes.
    pub fn room(&self, class: Class) -> usize {
        if self.class_shadow { self.max_requests } else { self.room.room(class) }
    }

    /// Whether a request is let in: `Err` names the limit that it is past. `shadow` is told of those that it would be past if they did more
    /// than count.
    pub fn admits(&self, class: Class, weight: u32, load: Load, mut shadow: impl FnMut(Limit)) -> Result<(), Limit> {
        let room = self.room(class);
        if load.requests >= room {
            return Err(Limit::Class);
        }
        if load.requests >= self.room.room(class) {
            shadow(Limit::Class);
        }
        let mut bound = |limit: Limit| {
            if self.is_shadow(limit) {
                shadow(limit);
                Ok(())
            } else {
                Err(limit)
            }
        };
        if !self.share.admits(count(load.of_tenant), weight, count(room - load.requests)) {
            bound(Limit::TenantRequests)?;
        }
        let Some(max) = self.max_rate else { return Ok(()) };
        let room = if self.class_shadow { max } else { max * self.room.part(class) };
        if load.rate >= room {
            return Err(Limit::NodeRate);
        }
        if !self.share.admits(load.tenant_rate, weight, room - load.rate) {
            bound(Limit::TenantRate)?;
        }
        Ok(())
    }
}

#[expect(clippy::cast_precision_loss, reason = "counts of requests")]
fn count(requests: usize) -> f64 {
    requests as f64
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use weir_config::{EXAMPLE, MemoryEnvironment, parse};

    use super::*;

    fn rules(change: impl FnOnce(&mut Limits)) -> Rules {
        let environment = MemoryEnvironment::new().file("weir.toml", EXAMPLE);
        let mut limits = parse(&environment, Path::new("weir.toml")).unwrap().config.limits;
        limits.max_requests = 1000;
        change(&mut limits);
        Rules::new(&limits)
    }

    fn asked(rules: &Rules, class: Class, load: Load) -> (Result<(), Limit>, Vec<Limit>) {
        let mut shadows = Vec::new();
        let verdict = rules.admits(class, 1, load, |limit| shadows.push(limit));
        (verdict, shadows)
    }

    #[test]
    fn the_class_room_binds_before_the_share() {
        let rules = rules(|_| {});
        let load = |requests, of_tenant| Load { requests, of_tenant, ..Load::default() };
        assert_eq!(asked(&rules, Class::Telemetry, load(600, 0)).0, Err(Limit::Class));
        assert_eq!(asked(&rules, Class::Tasking, load(600, 0)).0, Ok(()));
        assert_eq!(asked(&rules, Class::Telemetry, load(480, 480)).0, Err(Limit::TenantRequests));
        assert_eq!(asked(&rules, Class::Telemetry, load(480, 400)).0, Ok(()));
    }

    #[test]
    fn the_rate_is_shared_by_the_same_law() {
        let rules = rules(|limits| limits.tenants.max_requests_per_second = Some(100));
        let load = |rate, tenant_rate| Load { rate, tenant_rate, ..Load::default() };
        assert_eq!(asked(&rules, Class::Tasking, load(100.0, 0.0)).0, Err(Limit::NodeRate));
        assert_eq!(asked(&rules, Class::Tasking, load(85.0, 80.0)).0, Err(Limit::TenantRate));
        assert_eq!(asked(&rules, Class::Tasking, load(85.0, 1.0)).0, Ok(()));
        assert_eq!(asked(&rules, Class::Telemetry, load(60.0, 0.0)).0, Err(Limit::NodeRate));
    }

    #[test]
    fn a_shadow_counts_and_refuses_nothing() {
        let rules = rules(|limits| {
            limits.classes.shadow = true;
            limits.tenants.shadow = true;
        });
        let load = |requests| Load { requests, of_tenant: requests, ..Load::default() };
        assert_eq!(asked(&rules, Class::Telemetry, load(500)), (Ok(()), vec![]));
        assert_eq!(asked(&rules, Class::Telemetry, load(900)), (Ok(()), vec![Limit::Class, Limit::TenantRequests]));
        assert_eq!(asked(&rules, Class::Telemetry, load(1000)), (Err(Limit::Class), vec![]), "the bound itself holds");
    }

    #[test]
    fn a_damped_agent_waits_for_its_refusal_and_no_more_of_them_than_the_node_works_on() {
        let rules = rules(|limits| limits.damping.pause = Duration::from_secs(2));
        assert_eq!(rules.pause(Limit::Damping, 999), Duration::from_secs(2));
        assert_eq!(rules.pause(Limit::Damping, 1_000), Duration::ZERO);
        assert_eq!(rules.pause(Limit::Class, 0), Duration::ZERO, "who waits as told is answered at once");
    }

    #[test]
    fn a_tenant_has_the_weight_that_the_file_gives_it() {
        let rules = rules(|limits| limits.tenants.weights = vec!["acme=4".parse().unwrap()]);
        let weight = |name| rules.weight(TenantId::new(name).as_ref());
        assert_eq!((weight("acme"), weight("other"), rules.weight(None)), (4, 1, 1));
    }

    #[test]
    fn every_limit_is_answered_429_where_it_is_the_askers_doing() {
        for limit in Limit::ALL {
            let ours = matches!(limit, Limit::Class | Limit::NodeRate);
            assert_eq!(limit.refusal().status(), if ours { 503 } else { 429 }, "{limit:?}");
            assert!(limit.refusal().is_retryable());
        }
    }
}
