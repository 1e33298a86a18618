//! What a fleet is started with, and what it refuses.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use crate::compression::Compression;

/// What a fleet is started with. The defaults are the standard mix from a thousand agents for ten seconds, plaintext.
#[derive(Debug, Clone)]
pub struct FleetOptions {
    /// Where the agents connect, in turn when there are several.
    pub targets: Vec<SocketAddr>,
    /// Whether targets off this machine are allowed. A load generator pointed at somebody else's machine is an attack.
    pub allow_remote: bool,
    /// TLS 1.3; plaintext without.
    pub tls: Option<FleetTls>,
    /// The value of `Host`.
    pub host: String,
    /// Agents, each with one connection. 1 to 1,000,000; each takes one file descriptor.
    pub agents: u32,
    /// The number of the first agent, which is in its name and says its tenant: fleets whose numbers differ have nobody in common.
    pub first_agent: u32,
    /// Requests a second of all agents together, spread evenly. The schedule does not wait for slow answers.
    pub requests_per_second: f64,
    /// How long the schedule runs, from the end of the ramp. At most a day.
    pub duration: Duration,
    /// Connections opened a second before the schedule starts.
    pub handshakes_per_second: f64,
    /// What the agents ask for.
    pub mix: Mix,
    /// Where they ask for it.
    pub paths: Paths,
    /// How they name themselves.
    pub identity: Identity,
    /// Agents of one tenant.
    pub agents_per_tenant: u32,
    /// What their uploads are made of.
    pub uploads: Uploads,
    /// How long an answer may take before it counts as a timeout and the connection is given up.
    pub request_timeout: Duration,
    /// How long a connection may take to open, handshake included.
    pub connect_timeout: Duration,
    /// The longest pause after failed connections; pauses grow from 250 ms with full jitter.
    pub max_backoff: Duration,
    /// Whether agents heed `Retry-After`. What they then do not send is counted as held.
    pub obey_retry_after: bool,
    /// The seed of every choice; the same seed gives the same requests.
    pub seed: u64,
    /// Whether to remember which records were acknowledged, and by which fields they repeat one another.
    pub remember: Option<Remember>,
}

/// TLS 1.3 with HTTP/1.1 inside.
#[derive(Debug, Clone)]
pub struct FleetTls {
    /// The name expected in the server's certificate, sent as SNI.
    pub server_name: String,
    /// The authorities that may have signed it, in PEM; without, any certificate is taken.
    pub authorities: Option<Vec<u8>>,
    /// A certificate chain and its key in PEM, shown by every agent.
    pub client_certificate: Option<(Vec<u8>, Vec<u8>)>,
}

/// The parts of the traffic; only their ratios count.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Mix {
    /// Update checks, 50 distinct keys drawn by Zipf, one key per agent.
    pub update: f64,
    /// Config fetches, one key per tenant.
    pub config: f64,
    /// Tasking polls, one key per agent.
    pub tasks: f64,
    /// Uploads.
    pub upload: f64,
}

/// Paths with `{channel}`, `{platform}`, `{arch}`, `{agent}` and `{tenant}` filled in.
#[derive(Debug, Clone)]
pub struct Paths {
    /// `GET`
    pub update: String,
    /// `GET`
    pub config: String,
    /// `GET`
    pub tasks: String,
    /// `POST`
    pub upload: String,
}

/// How agents name themselves in requests.
#[derive(Debug, Clone)]
pub enum Identity {
    /// In two headers of these names.
    Headers {
        /// The agent's name goes here.
        agent: String,
        /// The tenant's name goes here.
        tenant: String,
    },
    /// Not at all: the client certificate or the path says it.
    Silent,
}

/// What uploads are made of.
#[derive(Debug, Clone)]
pub struct Uploads {
    /// Events in one upload, 1 to 10,000.
    pub events: u32,
    /// The share of events that repeat one of the agent's last minute, 0 to 1.
    pub repeats: f64,
    /// Whether every event carries a unique `eid`.
    pub with_eid: bool,
    /// A file of JSON objects, one a line, to draw from; the vocabulary that ships with the crate without.
    pub file: Option<PathBuf>,
    /// How their bodies are compressed; not at all without.
    pub compression: Option<Compression>,
}

/// What to remember of acknowledged records, for tests of what arrived.
#[derive(Debug, Clone)]
pub struct Remember {
    /// The fields that make repeats of one another.
    pub key_fields: Vec<String>,
    /// Records and keys remembered, at most; later ones are counted as forgotten.
    pub max: usize,
}

/// Why a fleet did not start.
#[derive(Debug, thiserror::Error)]
pub enum FleetError {
    /// An option is out of its bounds.
    #[error("{0}")]
    Option(&'static str),
    /// A target is not on this machine and that was not allowed.
    #[error("{0} is not a loopback address; aiming a fleet at another machine must be allowed explicitly")]
    Remote(SocketAddr),
    /// Certificates, keys or names are no good.
    #[error("TLS: {0}")]
    Tls(String),
    /// The file of events cannot be used.
    #[error("events: {0}")]
    Events(io::Error),
}

impl Default for FleetOptions {
    fn default() -> Self {
        Self {
            targets: vec![SocketAddr::from(([127, 0, 0, 1], 8443))],
            allow_remote: false,
            tls: None,
            host: "localhost".to_owned(),
            agents: 1000,
            first_agent: 0,
            requests_per_second: 400.0,
            duration: Duration::from_secs(10),
            handshakes_per_second: 500.0,
            mix: Mix::default(),
            paths: Paths::default(),
            identity: Identity::Headers { agent: "x-agent-id".to_owned(), tenant: "x-tenant-id".to_owned() },
            agents_per_tenant: 17,
            uploads: Uploads { events: 24, repeats: 0.7, with_eid: true, file: None, compression: None },
            request_timeout: Duration::from_secs(30),
            connect_timeout: Duration::from_secs(10),
            max_backoff: Duration::from_secs(30),
            obey_retry_after: true,
            seed: 1,
            remember: None,
        }
    }
}

impl Default for Mix {
    fn default() -> Self {
        Self { update: 0.25, config: 0.25, tasks: 0.25, upload: 0.25 }
    }
}

impl Default for Paths {
    fn default() -> Self {
        Self {
            update: "/v1/updates/{channel}/manifest.json?platform={platform}&arch={arch}".to_owned(),
            config: "/v1/config".to_owned(),
            tasks: "/v1/agents/{agent}/tasks".to_owned(),
            upload: "/v1/events/process".to_owned(),
        }
    }
}

impl FleetOptions {
    /// Holds every option to its bounds, targets included.
    ///
    /// # Errors
    /// The first option found out of bounds.
    pub fn check(&self) -> Result<(), FleetError> {
        let in_bounds = |holds: bool, rule| if holds { Ok(()) } else { Err(FleetError::Option(rule)) };
        let positive = |rate: f64| rate.is_finite() && rate > 0.0 && rate <= 1e6;
        let Mix { update, config, tasks, upload } = self.mix;
        let weights = [update, config, tasks, upload];
        in_bounds(!self.targets.is_empty(), "at least one target is needed")?;
        in_bounds((1..=1_000_000).contains(&self.agents), "agents: 1 to 1,000,000")?;
        in_bounds(positive(self.requests_per_second), "requests per second: more than 0, at most 1,000,000")?;
        in_bounds(positive(self.handshakes_per_second), "handshakes per second: more than 0, at most 1,000,000")?;
        in_bounds(!self.duration.is_zero() && self.duration <= DAY, "duration: more than 0, at most a day")?;
        in_bounds(weights.iter().all(|weight| weight.is_finite() && *weight >= 0.0), "the mix holds a bad weight")?;
        in_bounds(weights.iter().sum::<f64>() > 0.0, "the mix is empty")?;
        in_bounds(self.agents_per_tenant > 0, "agents per tenant: at least 1")?;
        in_bounds((1..=10_000).contains(&self.uploads.events), "events an upload: 1 to 10,000")?;
        in_bounds((0.0..=1.0).contains(&self.uploads.repeats), "repeats: 0 to 1")?;
        match self.targets.iter().find(|target| !target.ip().is_loopback()) {
            Some(target) if !self.allow_remote => Err(FleetError::Remote(*target)),
            _ => Ok(()),
        }
    }
}

const DAY: Duration = Duration::from_secs(86_400);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_off_this_machine_is_refused_unless_allowed() {
        let mut options = FleetOptions { targets: vec!["192.0.2.1:443".parse().unwrap()], ..FleetOptions::default() };
        assert!(matches!(options.check(), Err(FleetError::Remote(_))));
        options.allow_remote = true;
        options.check().unwrap();
    }

    #[test]
    fn a_fleet_without_an_end_is_refused() {
        let options = FleetOptions { duration: Duration::MAX, ..FleetOptions::default() };
        assert_eq!(options.check().unwrap_err().to_string(), "duration: more than 0, at most a day");
    }
}
