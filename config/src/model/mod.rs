//! What a configuration says once it has been found right: plain data, no half-valid state.
//!
//! Every type here is built by [`crate::parse()`]; the fields are public because each type makes wrong values impossible or the
//! parser has refused them. Units are in the types, bounds are in the docs.

mod core;
mod delivery;
mod edge;
mod limits;
mod listener;
mod route;
mod stream;

pub use self::core::{Core, CoreId, CoreTls, HealthCheck, Peer, Protocol};
pub use delivery::{DeliveryPlan, StatusPattern};
pub use edge::{Admin, Edge, LogFormat, Presence, Shutdown};
pub use limits::{
    AgentLimits, AgentRate, CacheLimits, ClassLimits, DampingLimits, Limits, PackageLimits, Refusals, RetryAfterLimits,
    RolloutLimits, TenantLimits, TenantWeight,
};
pub use listener::{ClientAuth, Identity, IdentitySource, Listener, ListenerTls, ProxyProtocol, TlsCipher, TlsVersion};
pub use route::{
    Action, AggregateRoute, AnswerStore, BodyEtag, BodyPointer, CacheRoute, Calm, Class, FILL_HEADERS_OF_ITS_OWN,
    ForwardRoute, FreshnessMode, KeyPart, LookupRoute, Method, Pacing, PathPattern, Payload, Route, Segment, StatusTtl,
    Unchanged,
};
pub use stream::{BatchEncoding, BatchPlan, Compression, Durability, Mode, Retry, SpoolLimits, Stream};

/// The whole of an operator's file and its includes.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// What this node is.
    pub edge: Edge,
    /// Where agents connect; at least one.
    pub listeners: Vec<Listener>,
    /// Where operators connect.
    pub admin: Admin,
    /// The cores behind this node; at least one, the first is the default. A [`CoreId`] is an index into this list.
    pub cores: Vec<Core>,
    /// Where an agent's and a tenant's names come from.
    pub identity: Identity,
    /// What to do with which request, the most specific pattern first.
    pub routes: Vec<Route>,
    /// The kinds of record that agents upload. Names are unique.
    pub streams: Vec<Stream>,
    /// The presence stream; `None` when it is switched off.
    pub presence: Option<Presence>,
    /// Bounds that hold for the node as a whole.
    pub limits: Limits,
    /// How the node stops.
    pub shutdown: Shutdown,
}

impl Config {
    /// The core that a route or stream names.
    pub fn core(&self, id: CoreId) -> &Core {
        &self.cores[id.0]
    }

    /// The stream of that name.
    pub fn stream(&self, name: &str) -> Option<&Stream> {
        self.streams.iter().find(|stream| stream.name == name)
    }
}
