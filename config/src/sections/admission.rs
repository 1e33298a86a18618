//! `[limits.agents]`, `[limits.tenants]`, `[limits.damping]`, `[limits.retry_after]` and `route.agent_limit`.

use std::time::Duration;

use crate::key::Key;
use crate::section::{Reader, section, table_settings};
use crate::{AgentLimits, AgentRate, DampingLimits, Ratio, RetryAfterLimits, TenantLimits, TenantWeight};

/// The key that makes a limit count instead of refuse.
pub(super) const SHADOW: Key = Key::default(
    "false",
    "Whether this refuses nothing and only counts what it would refuse, in weir_limit_shadow_total.",
);

const PER_MINUTE: Key =
    Key::default("600", "Requests of one agent a minute, at most; more is answered 429.").between("1", "60000000");

const BURST: Key =
    Key::default("300", "Requests of one agent at once, after a silence, at most.").between("1", "1000000");

section! { AgentLimits, "[limits.agents]",
    "How often one agent may ask: a token bucket for each agent, over all routes that have none of their own. The agent \
     counts, not its address: ten thousand agents behind one address are ten thousand. Requests without an agent's name have no \
     bucket.", |_, _| {}, {
    requests_per_minute: u32 = PER_MINUTE;
    burst: u32 = BURST;
    max_agents: usize = Key::default("500000",
        "Agents remembered at once, at most, each with 16 bytes while its bucket is not full and 32 for each route that has told \
         it to wait; the memory is taken at the start. Past it, whoever is nearest to a full bucket or to the end of its \
         wait is forgotten and starts anew.").between("1000", "100000000").restart();
    shadow: bool = SHADOW;
}}

section! { AgentRate, "route.agent_limit",
    "A bucket that each agent has for this route alone, instead of that of `[limits.agents]`.", |_, _| {}, {
    requests_per_minute: u32 = PER_MINUTE;
    burst: u32 = BURST;
}}

section! { TenantLimits, "[limits.tenants]",
    "What one tenant may take of the node: of the requests that are worked on at once (max_requests, by class) and of those a \
     second. A tenant may use what others leave, and is turned away with 429 once it has more than its weight times so much of what is \
     still free. Agents without a tenant stand for themselves, all requests without either for one tenant.", |_, _| {}, {
    share: Ratio = Key::default("0.8",
        "The part that a lone tenant of weight 1 may take. Two that want everything get 44 % each at 0.8, and 11 % stay free for \
         others; four get 23 % each. `1`: no tenant is bound.");
    max_requests_per_second: Option<u32> = Key::optional("50000",
        "Requests a second that are let in, at most, with up to as many at once; each class has its part of them as of \
         max_requests, and each tenant its share. More is answered 503. Left out, the rate is not bound.")
        .between("1", "100000000");
    weights: Vec<TenantWeight> = Key::default("[]",
        "Tenants that may take more than others: `acme=4` may take four times as much. Others have a weight of 1.");
    shadow: bool = SHADOW;
}}

section! { DampingLimits, "[limits.damping]",
    "What becomes of agents that do not wait as Retry-After tells them. Who comes back to a route before nine tenths of its time, \
     and not within a second of the refusal, has come early. An agent that does so again and again is answered 429 without \
     a look at its request until its time has come, and its times double. Waiting as told once halves what counts against it, and \
     so do ten minutes.", |_, _| {}, {
    after: u32 = Key::default("3",
        "Early returns to a route after which an agent is damped there.").between("1", "100");
    longest: Duration = Key::default("10m",
        "The longest time that a damped agent is told to wait. Once in that time it is heard.").between("1s", "1d");
    pause: Duration = Key::default("1s",
        "How long the early request of a damped agent waits for its refusal, so that one which asks again at once comes no more \
         often than that on each connection. `0s`: no time; so it is for more of them than max_requests at once.")
        .between("0s", "10s");
    shadow: bool = SHADOW;
}}

section! { RetryAfterLimits, "[limits.retry_after]",
    "How long agents that are turned away are told to wait. Each gets its own second of a window, by the hash of its name. The \
     window is as wide as it takes to let in all who wait, at a fifth of the rate at which requests of the class are let in, \
     and opens after as long as it is wide. For each class the longest time.", bounds_agree, {
    shortest: Duration = Key::default("5s",
        "The shortest time, and the least width of a window.").between("1s", "10m");
    probe: Duration = Key::default("15s", "Health probes.").between("2s", "30m");
    tasking: Duration = Key::default("60s", "Orders to an agent.").between("2s", "30m");
    checkin: Duration = Key::default("2m", "Signs of life.").between("2s", "30m");
    config: Duration = Key::default("5m", "Configuration.").between("2s", "30m");
    update: Duration = Key::default("10m", "Update checks.").between("2s", "30m");
    download: Duration = Key::default("10m", "Packages.").between("2s", "30m");
    telemetry: Duration = Key::default("10m", "Uploads of events.").between("2s", "30m");
}}

table_settings!(AgentLimits, AgentRate, TenantLimits, DampingLimits, RetryAfterLimits);

fn bounds_agree(limits: &mut RetryAfterLimits, reader: &mut Reader<'_, '_>) {
    let longest = [
        ("probe", limits.probe),
        ("tasking", limits.tasking),
        ("checkin", limits.checkin),
        ("config", limits.config),
        ("update", limits.update),
        ("download", limits.download),
        ("telemetry", limits.telemetry),
    ];
    let shortest = limits.shortest;
    for (class, _) in longest.iter().filter(|(_, longest)| *longest < shortest.saturating_mul(2)) {
        let key = if reader.has(class) { class } else { "shortest" };
        reader
            .error(key, format!("`{class}` is less than twice `shortest`"))
            .label(format!("`shortest` is {}", crate::duration_to_text(shortest)))
            .note("agents could not be spread");
    }
}
