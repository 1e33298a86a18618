//! A core that speaks every contract, counts everything and fails on command.
//!
//! [`CoreSim`] listens on loopback in plaintext (HTTP/1.1, and HTTP/2 with prior knowledge) or TLS and answers update
//! manifests, configs and tasks with ETags; bulk lookups; batches, of which it drops those whose id it has accepted
//! before; presence; agents' own uploads; and a few endpoints for traffic that is passed through. What arrived is in
//! [`Snapshot`]. [`CoreSim::script`] makes it slow, wrong or gone at once.
//!
//! It knows the contracts and no product, so that anything which claims to speak them can be put in front of it. It
//! keeps nothing across a restart and checks no identity.

mod admin;
mod answer;
mod balance;
mod content;
mod counters;
mod endpoints;
mod inflate;
mod listener;
mod objections;
mod options;
mod rows;
mod script;
mod server;

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use serde_json::Value;
use tokio::task::AbortHandle;

pub use crate::admin::Admin;
pub use crate::balance::record_key;
pub use crate::content::KeyFault;
pub use crate::counters::{
    BatchCounts, EndpointCounts, LookupCounts, LossCounts, Snapshot, StreamCounts, TrackedCounts, UploadCounts,
};
pub use crate::endpoints::package_bytes;
pub use crate::options::{CoreOptions, CoreTls, ReadFormat};
pub use crate::script::{Behaviour, EndpointKind};

use crate::listener::{Gate, accept_loop, acceptor};
use crate::server::State;

/// A running core. Dropping it closes its listener and all its connections.
#[derive(Debug)]
pub struct CoreSim {
    gate: Arc<Gate>,
    state: Arc<State>,
    accepting: AbortHandle,
}

impl CoreSim {
    /// Starts a core on the caller's tokio runtime. It listens before this returns.
    ///
    /// # Errors
    /// The address is taken or not ours, or the certificate and key are no pair.
    pub async fn start(options: CoreOptions) -> io::Result<Self> {
        let tls = options.tls.as_ref().map(acceptor).transpose()?;
        let gate = Arc::new(Gate::reserve(options.address)?);
        let state = Arc::new(State::new(options));
        if !state.script.lock().is_down() {
            gate.open()?;
        }
        let accepting = tokio::spawn(accept_loop(Arc::clone(&gate), Arc::clone(&state), tls)).abort_handle();
        Ok(Self { gate, state, accepting })
    }

    /// Where the core listens, and will listen again when it is down.
    pub fn address(&self) -> SocketAddr {
        self.gate.address()
    }

    /// `http://` or `https://` and the address.
    pub fn url(&self) -> String {
        let scheme = if self.state.options.tls.is_some() { "https" } else { "http" };
        format!("{scheme}://{}", self.address())
    }

    /// Everything counted so far.
    pub fn snapshot(&self) -> Snapshot {
        let mut snapshot = self.state.counters.lock().snapshot();
        self.state.balance.lock().fill(&mut snapshot);
        snapshot
    }

    /// One behaviour for everything, from the next request on; forgets every order given before. When this returns from
    /// `Up` after `Down`, connections are taken; after `Down`, no request is answered any more.
    ///
    /// # Errors
    /// The core was down and cannot listen again; it stays down.
    pub fn script(&self, behaviour: Behaviour) -> io::Result<()> {
        let mut script = self.state.script.lock();
        let was_down = script.is_down();
        if was_down && behaviour != Behaviour::Down {
            self.gate.open()?;
        }
        script.set(behaviour);
        if !was_down && script.is_down() {
            self.gate.close();
        }
        Ok(())
    }

    /// One behaviour for one kind of endpoint, until the next [`CoreSim::script`].
    pub fn script_for(&self, kind: EndpointKind, behaviour: Behaviour) {
        self.state.script.lock().set_for(kind, behaviour);
    }

    /// One behaviour for the next `count` requests, of `kind` where one is given, ahead of every other order.
    pub fn fail_next(&self, kind: Option<EndpointKind>, count: u64, behaviour: Behaviour) {
        self.state.script.lock().fail_next(kind, count, behaviour);
    }

    /// A new version of every update manifest.
    pub fn bump_manifest(&self) {
        self.state.content.lock().bump_manifest();
    }

    /// A new version of one tenant's config, or of all.
    pub fn bump_config(&self, tenant: Option<&str>) {
        self.state.content.lock().bump_config(tenant);
    }

    /// Gives an agent a task (any JSON), or with `None` makes sure that it has none. Kept until the core stops.
    pub fn set_task(&self, agent: &str, task: Option<Value>) {
        self.state.content.lock().set_task(agent, task);
    }

    /// Every key of a bulk lookup with a part of this value meets `fault`; `None` lifts it.
    pub fn set_key_fault(&self, value: &str, fault: Option<KeyFault>) {
        self.state.content.lock().set_fault(value, fault);
    }

    /// How often the record came whose `track_field` is `id`, repeated batches not counted.
    pub fn times_seen(&self, id: &str) -> u64 {
        self.state.balance.lock().times_seen(id)
    }

    /// Every tracked record and how often it came.
    pub fn tracked_ids(&self) -> HashMap<String, u64> {
        self.state.balance.lock().ids().clone()
    }

    /// The sum of counts of every key, named by [`record_key`].
    pub fn tracked_keys(&self) -> HashMap<String, u64> {
        self.state.balance.lock().keys().clone()
    }

    /// When an agent was last seen according to presence, in milliseconds of the Unix epoch.
    pub fn last_seen(&self, agent: &str) -> Option<u64> {
        self.state.balance.lock().last_seen(agent)
    }
}

impl Drop for CoreSim {
    fn drop(&mut self) {
        // Ends upgraded connections, which are not the accept loop's any more.
        self.state.script.lock().set(Behaviour::Down);
        self.accepting.abort();
    }
}
