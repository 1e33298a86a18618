//! The door: who is let in, and when those who are not shall come back.
//!
//! The rules are in [`weir_logic::admit`] and [`weir_logic::retry_after`]; here are the tables behind locks, the counts and the metrics. Everything
//! is asked after a request is known to be for a route and to come from an agent, and before its body is read, cheap questions first:
//! does the agent wait as it was told, has it a token, has its class room, has its tenant. Agents and tenants are told apart by hashes
//! under a secret of the process.
//!
//! Memory, all of it from the start: 48 bytes for each of `limits.agents.max_agents` and 2 MiB; and 16 bytes for each tenant with
//! something under way.

mod lines;
mod page;
mod requests;
mod shards;
#[cfg(test)]
mod tests;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use ahash::RandomState;
use parking_lot::Mutex;
use weir_config::{Class, Route};
use weir_logic::admit::{Bucket, Conduct, Damping, Limit, Load, Recent, Rules, TopVersions};
use weir_logic::answer::Wait;
use weir_logic::retry_after::{Window, agent_hash};
use weir_logic::whatif::mixed;
use weir_logic::{Identity, Millis};
use xxhash_rust::xxh3::xxh3_64;

pub use page::{AgentsPage, AgentsStatus};
pub use requests::Admitted;

use self::lines::Lines;
use self::requests::Requests;
use self::shards::Shards;
use crate::hashing::secret;
use crate::metrics::Metrics;

/// Lets requests in or turns them away.
pub struct Door {
    hashing: RandomState,
    conduct: Shards<Conduct>,
    buckets: Shards<Bucket>,
    requests: Requests,
    tenant_rates: Shards<Recent>,
    rate: Mutex<Recent>,
    lines: Lines,
    versions: Mutex<TopVersions>,
    /// Those who wait for their refusal.
    paused: AtomicUsize,
    metrics: Metrics,
}

/// Who knocks.
pub struct Knock<'a> {
    /// The agent and its tenant.
    pub identity: &'a Identity,
    /// What an agent without a name is told apart by: the number of its connection.
    pub connection: u64,
    /// What it wants.
    pub route: &'a Route,
    /// What it says its version is.
    pub version: Option<&'a str>,
}

/// What the door remembers of a request until it has ended.
#[derive(Clone, Copy, Debug)]
pub struct Asked {
    class: Class,
    /// The agent by itself; `None` without a name.
    name: Option<u64>,
    /// The agent on this route; `None` without a name.
    agent: Option<u64>,
    /// Where the agent stands in every window of `Retry-After`.
    place: u64,
    /// Whether the agent had been told to wait.
    was_told: bool,
}

/// A request that was turned away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TurnedAway {
    /// Why.
    pub limit: Limit,
    /// When to come back.
    pub wait: Wait,
}

/// Versions of which the misbehaviour is told.
const VERSIONS: usize = 32;

/// Tenants whose requests of the last second are counted.
const TENANTS: usize = 65_536;

impl Door {
    /// A door in front of an idle node, with room for `max_agents`.
    pub fn new(max_agents: usize, metrics: Metrics, now: Millis) -> Self {
        Self {
            hashing: secret(),
            conduct: Shards::new(max_agents),
            buckets: Shards::new(max_agents),
            requests: Requests::new(metrics.requests_in_flight.clone()),
            tenant_rates: Shards::new(TENANTS),
            rate: Mutex::default(),
            lines: Lines::new(now),
            versions: Mutex::new(TopVersions::new(VERSIONS)),
            paused: AtomicUsize::new(0),
            metrics,
        }
    }

    /// Who asks, as the door knows it: to be asked first, so that whatever is said to the request is said to its agent.
    pub fn asked(&self, knock: &Knock<'_>) -> Asked {
        // Spread, so that connections that came one after the other do not stand side by side in a window.
        let number = knock.connection.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let agent = knock.identity.agent.as_ref();
        let name = agent.map(|agent| self.hashing.hash_one(agent.as_str()));
        Asked {
            class: knock.route.class,
            name,
            agent: name.map(|name| on_route(name, knock.route)),
            place: agent_hash(knock.identity, number),
            was_told: false,
        }
    }

    /// Lets a request in, or turns it away.
    ///
    /// # Errors
    ///
    /// Why it is turned away, and when it may come back.
    pub fn enter(
        &self,
        knock: &Knock<'_>,
        asked: &mut Asked,
        rules: &Rules,
        now: Millis,
    ) -> Result<Admitted, TurnedAway> {
        let entered = self.judge(knock, asked, rules, now);
        match &entered {
            Ok(_) => self.lines.let_in(asked.class),
            Err(turned) => {
                self.metrics.shed.with_label_values(&[knock.route.class.as_str(), turned.limit.label()]).inc();
            }
        }
        entered
    }

    fn judge(&self, knock: &Knock<'_>, asked: &mut Asked, rules: &Rules, now: Millis) -> Result<Admitted, TurnedAway> {
        let bound = |limit, wait| {
            if rules.is_shadow(limit) {
                self.shadow(limit);
                return Ok(());
            }
            Err(TurnedAway { limit, wait })
        };
        if let Some(left) = self.behaves(knock, asked, rules, now) {
            bound(Limit::Damping, Wait::Exactly(left))?;
        }
        if let Err(wait) = self.take_token(knock, asked, rules, now) {
            bound(Limit::AgentRate, Wait::AtLeast(wait))?;
        }
        self.find_room(knock, rules, now).map_err(|limit| TurnedAway { limit, wait: Wait::AtLeast(Duration::ZERO) })
    }

    /// Whether the agent waits as it was told; else, where it is damped, how long it has still to wait.
    fn behaves(&self, knock: &Knock<'_>, asked: &mut Asked, rules: &Rules, now: Millis) -> Option<Duration> {
        let manner = self.conduct.find(asked.agent?, |conduct| conduct.comes(rules.damping(), now))?;
        asked.was_told = true;
        if manner.strikes_now {
            self.metrics.agents_early.inc();
            self.versions.lock().count(knock.version.unwrap_or("unknown"));
        }
        manner.damped
    }

    fn take_token(&self, knock: &Knock<'_>, asked: &Asked, rules: &Rules, now: Millis) -> Result<(), Duration> {
        let (Some(name), Some(agent)) = (asked.name, asked.agent) else { return Ok(()) };
        let (rate, of_route) = rules.rate(knock.route);
        self.buckets.of(if of_route { agent } else { name }, now, |bucket| bucket.take(rate, now))
    }

    fn find_room(&self, knock: &Knock<'_>, rules: &Rules, now: Millis) -> Result<Admitted, Limit> {
        let owner = self.owner(knock.identity);
        let weight = rules.weight(knock.identity.tenant.as_ref());
        let enter = |rate, tenant_rate| {
            let entered = self.requests.enter(owner, |requests, of_tenant, shadows| {
                let load = Load { requests, of_tenant, rate, tenant_rate };
                rules.admits(knock.route.class, weight, load, |limit| shadows.add(limit))
            });
            entered.map(|(admitted, shadows)| {
                shadows.iter().for_each(|limit| self.shadow(limit));
                admitted
            })
        };
        if !rules.bounds_rate() {
            return enter(0.0, 0.0);
        }
        self.tenant_rates.of(owner, now, |of_tenant| {
            let mut all = self.rate.lock();
            let admitted = enter(all.level(now), of_tenant.level(now))?;
            all.add(now);
            of_tenant.add(now);
            Ok(admitted)
        })
    }

    /// The tenant; an agent without a tenant stands for itself, and all without either for one.
    fn owner(&self, identity: &Identity) -> u64 {
        let owner = match &identity.tenant {
            Some(tenant) => (0, tenant.as_str()),
            None => (1, identity.agent.as_ref().map_or("", |agent| agent.as_str())),
        };
        self.hashing.hash_one(owner)
    }

    fn shadow(&self, limit: Limit) {
        self.metrics.limit_shadow.with_label_values(&[limit.label()]).inc();
    }

    /// Returns when somebody who was turned away is to be told so: at once, but for a damped agent. One that asks again as soon as it is
    /// refused would else cost the node whatever its connection carries.
    pub async fn hold_back(&self, turned: &TurnedAway, rules: &Rules) {
        // Most who are turned away have nothing to wait for, and the count is one for all.
        if rules.pause(turned.limit, 0).is_zero() {
            return;
        }
        let paused = Paused::new(&self.paused);
        let pause = rules.pause(turned.limit, paused.others);
        if !pause.is_zero() {
            tokio::time::sleep(pause).await;
        }
    }

    /// The seconds of `Retry-After` for a request that is told to come back, whoever has turned it away. A request of which nothing is
    /// known counts as the lowest class's.
    pub fn seconds(&self, asked: Option<&Asked>, wait: Wait, rules: &Rules, now: Millis) -> u64 {
        let place = asked.map_or(0, |asked| asked.place);
        let lead = match wait {
            Wait::Exactly(left) => return whole_seconds(left),
            Wait::Calm(lead) => return Window::of_calm(lead).second_of(place),
            Wait::AtLeast(lead) => lead,
        };
        let class = asked.map_or(Class::Telemetry, |asked| asked.class);
        let seconds = self.lines.promise(class, place, lead, rules.waits(class), now);
        let seconds = asked.and_then(|asked| asked.agent).map_or(seconds, |agent| {
            let shadow = rules.is_shadow(Limit::Damping);
            let damping = if shadow { Damping { after: u8::MAX, ..rules.damping() } } else { rules.damping() };
            let told = self.conduct.of(agent, now, |conduct| conduct.told(Duration::from_secs(seconds), damping, now));
            whole_seconds(told)
        });
        #[expect(clippy::cast_precision_loss, reason = "hours at most")]
        self.metrics.retry_after.with_label_values(&[class.as_str()]).observe(seconds as f64);
        seconds
    }

    /// The request was answered as its agent hoped.
    pub fn answered(&self, asked: &Asked, now: Millis) {
        if let Some(agent) = asked.agent.filter(|_| asked.was_told) {
            self.conduct.find(agent, |conduct| conduct.let_in(now));
        }
    }

    /// Brings the gauges up to date: to be called before metrics are rendered.
    pub fn refresh_metrics(&self, now: Millis) {
        for (class, returning) in self.lines.returning(now) {
            let gauge = self.metrics.agents_returning.with_label_values(&[class.as_str()]);
            gauge.set(i64::try_from(returning).unwrap_or(i64::MAX));
        }
    }
}

/// The hash of an agent on a route, from the agent's: routes are the operator's, so only the agent's needs a secret.
fn on_route(agent: u64, route: &Route) -> u64 {
    mixed(agent ^ xxh3_64(route.name.as_bytes()))
}

/// One who waits for its refusal, until this is dropped.
struct Paused<'a> {
    count: &'a AtomicUsize,
    others: usize,
}

impl<'a> Paused<'a> {
    fn new(count: &'a AtomicUsize) -> Self {
        Self { count, others: count.fetch_add(1, Ordering::AcqRel) }
    }
}

impl Drop for Paused<'_> {
    fn drop(&mut self) {
        self.count.fetch_sub(1, Ordering::AcqRel);
    }
}

/// Whole seconds, rounded up, at least one (RFC 9110, section 10.2.3).
fn whole_seconds(duration: Duration) -> u64 {
    (duration.as_secs() + u64::from(duration.subsec_nanos() > 0)).max(1)
}
