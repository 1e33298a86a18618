//! A node's configuration for a scenario: the template `weir.toml` beside this file, filled in, with protections on or off.

use std::net::SocketAddr;
use std::time::Duration;

use weir_config::duration_to_text;

use super::protection::{Protection, Switches};
use crate::books::SAME;
use crate::text::fill;

/// What differs between scenarios. The defaults are a node in plaintext on a free port with a wide gate.
#[derive(Clone, Debug)]
pub(super) struct NodeConfig {
    pub(super) name: String,
    pub(super) agents: SocketAddr,
    /// The machines of the core.
    pub(super) peers: Vec<SocketAddr>,
    /// Whether agents connect with TLS, by the certificate in the node's directory.
    pub(super) tls: bool,
    /// More keys of its table.
    pub(super) tls_more: &'static str,
    pub(super) max_requests_per_second: u32,
    pub(super) ramp: Duration,
    pub(super) breaker_cooldown: Duration,
    pub(super) max_requests: u32,
    pub(super) ttl: Duration,
    /// Of both lookup routes.
    pub(super) window: Duration,
    pub(super) batch_age: Duration,
    pub(super) merge_window: Duration,
    pub(super) retry_max: Duration,
    /// The time over which connections are closed when the node stops.
    pub(super) drain: Duration,
    /// The parts of `max_requests` that classes may fill, where they differ from the defaults.
    pub(super) classes: &'static str,
    /// Whether agents that do not wait are damped.
    pub(super) damped: bool,
    /// More lines of the core's table.
    pub(super) core_more: String,
    /// More tables, at the end.
    pub(super) more: String,
}

const TEMPLATE: &str = include_str!("weir.toml");

/// More than anybody asks for: no pace at all.
const NO_PACE: u32 = 10_000_000;
const NEVER: u32 = 100_000;
/// A part that the paths of few requests have.
const NOBODY: &str = "\"path.agent\"";
/// Every class may fill the node.
const NO_LANES: &str = "checkin = 1, config = 1, update = 1, download = 1, telemetry = 1";
/// A batch that is refused for its content is tried again as it is.
const NO_SEARCH: &str = r#"bisect = [], retry = [400, 408, 422, 425, 429, "5xx"]"#;

impl Default for NodeConfig {
    fn default() -> Self {
        Self {
            name: "edge-storm".to_owned(),
            agents: SocketAddr::from(([127, 0, 0, 1], 0)),
            peers: vec![SocketAddr::from(([127, 0, 0, 1], 9))],
            tls: false,
            tls_more: "",
            max_requests_per_second: 5_000,
            ramp: Duration::from_secs(30),
            breaker_cooldown: Duration::from_secs(1),
            max_requests: 50_000,
            ttl: Duration::from_secs(60),
            window: Duration::from_millis(25),
            batch_age: Duration::from_secs(1),
            merge_window: Duration::from_secs(60),
            retry_max: Duration::from_secs(30),
            drain: Duration::from_secs(1),
            classes: "",
            damped: true,
            core_more: String::new(),
            more: String::new(),
        }
    }
}

impl NodeConfig {
    /// The text of the file.
    pub(super) fn render(&self, switches: Switches) -> String {
        let (stale, pace) = (switches.is_on(Protection::Stale), switches.is_on(Protection::Pace));
        let time = |duration: Duration| duration_to_text(duration);
        let on = |on: bool, text: &str, off: &str| if on { text.to_owned() } else { off.to_owned() };
        let tls = format!(r#"tls = {{ certificate = "server.pem", key = "server.key"{} }}"#, self.tls_more);
        let values = [
            ("name", self.name.clone()),
            ("data_dir", format!("data-{}", self.name)),
            ("agents", self.agents.to_string()),
            ("peers", self.peers.iter().map(|peer| format!("\"{peer}\"")).collect::<Vec<_>>().join(", ")),
            ("agent", on(switches.is_on(Protection::Identity), "\"header.x-agent-id\"", NOBODY)),
            ("tls", on(self.tls, &tls, "")),
            ("max_requests_per_second", if pace { self.max_requests_per_second } else { NO_PACE }.to_string()),
            ("ramp", time(if pace { self.ramp } else { Duration::ZERO })),
            ("breaker_failures", if switches.is_on(Protection::Breaker) { 5 } else { NEVER }.to_string()),
            ("adaptive", switches.is_on(Protection::Adaptive).to_string()),
            ("breaker_cooldown", time(self.breaker_cooldown)),
            ("core_more", self.core_more.clone()),
            ("max_requests", self.max_requests.to_string()),
            ("classes", on(switches.is_on(Protection::Lanes), self.classes, NO_LANES)),
            ("refusals", on(switches.is_on(Protection::KeepAlive), "keep", "close")),
            ("share", on(switches.is_on(Protection::Shares), "0.8", "1")),
            ("undamped", (!self.damped || !switches.is_on(Protection::Damping)).to_string()),
            ("delivery", on(switches.is_on(Protection::Bisect), "", NO_SEARCH)),
            ("ttl", time(self.ttl)),
            ("stale_while_revalidate", on(stale, "1m", "0s")),
            ("stale_if_error", on(stale, "1d", "0s")),
            ("calm", on(stale, "calm = { status = 204 }", "")),
            ("window", time(self.window)),
            ("max_keys", if switches.is_on(Protection::Lookups) { 1_000 } else { 1 }.to_string()),
            ("same", SAME.map(|field| format!("{field:?}")).join(", ")),
            ("merge_window", time(self.merge_window)),
            ("batch_age", time(self.batch_age)),
            ("retry_max", time(self.retry_max)),
            ("drain", time(self.drain)),
        ];
        fill(TEMPLATE, &values) + &self.more
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use weir_config::{MemoryEnvironment, parse};

    use super::*;

    #[test]
    fn every_switch_leaves_a_right_configuration() {
        let without = Protection::ALL.map(|protection| Switches::without(Some(protection)));
        for switches in without.into_iter().chain([Switches::default()]) {
            for tls in [true, false] {
                let text = NodeConfig { tls, ..NodeConfig::default() }.render(switches);
                assert!(!text.replace("`{{name}}`", "").contains("{{"), "{text}");
                let environment = MemoryEnvironment::new().file("weir.toml", &text);
                if let Err(problems) = parse(&environment, Path::new("weir.toml")) {
                    panic!("{switches:?}: {problems}");
                }
            }
        }
    }
}
