//! What to do with which request.

use std::time::Duration;

use super::CoreId;
use crate::{AgentRate, ByteSize, Ratio};

/// `[[route]]`: a matcher plus an action.
#[derive(Clone, Debug, PartialEq)]
pub struct Route {
    /// The name in metrics, logs and `weir explain`. Unique.
    pub name: String,
    /// The methods matched; never empty. `Get` also matches `HEAD` unless `Head` stands on a route of its own.
    pub methods: Vec<Method>,
    /// The path matched.
    pub path: PathPattern,
    /// The host matched, in lower case without port; `None` for any.
    pub host: Option<String>,
    /// The route's rank under overload.
    pub class: Class,
    /// The core behind the route.
    pub core: CoreId,
    /// The bucket that each agent has for this route alone; `None`: its requests count in the agent's own.
    pub agent_limit: Option<AgentRate>,
    /// What is done.
    pub action: Action,
}

/// A request method that a route can name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Method {
    /// `GET`
    Get,
    /// `HEAD`
    Head,
    /// `POST`
    Post,
    /// `PUT`
    Put,
    /// `PATCH`
    Patch,
    /// `DELETE`
    Delete,
    /// `OPTIONS`
    Options,
}

/// A path with named parameters: `/v1/agents/{agent}/tasks`, `/packages/{file*}`. A parameter is one whole segment; one that
/// ends in `*` stands last and takes the rest, slashes included.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PathPattern {
    /// The pattern as written.
    pub text: String,
    /// Its segments in order.
    pub segments: Vec<Segment>,
}

/// One segment of a path pattern.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Segment {
    /// These bytes.
    Literal(String),
    /// Any one segment that is not empty, under this name.
    Parameter(String),
    /// The rest of the path, one character at least, under this name; always last.
    Rest(String),
}

/// A route's rank under overload, highest first: the lowest class sheds first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Class {
    /// Health probes.
    Probe,
    /// Orders to an agent: never cached, never paced.
    Tasking,
    /// Signs of life.
    Checkin,
    /// Configuration.
    Config,
    /// Update checks.
    Update,
    /// Packages.
    Download,
    /// Uploads of events.
    Telemetry,
}

/// What a route does.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Answer here; fill, revalidate, serve stale.
    Cache(CacheRoute),
    /// Join a bulk lookup.
    Lookup(LookupRoute),
    /// Take records in.
    Aggregate(AggregateRoute),
    /// Pass through.
    Forward(ForwardRoute),
}

/// A cached route.
#[derive(Clone, Debug, PartialEq)]
pub struct CacheRoute {
    /// What tells answers apart. Nothing is in the key unless it is named, but the route and, unless `shared`, the tenant.
    pub key: Vec<KeyPart>,
    /// Request headers that the core may choose an answer by, which it then says in `Vary`. Lower case; never one of the key's,
    /// nor one that says who asks.
    pub vary: Vec<String>,
    /// Answers of one key that are kept side by side, chosen between by these headers; 1 to 64.
    pub max_variants: usize,
    /// Whether one tenant's answer may go to another.
    pub shared: bool,
    /// Who decides how long an answer is fresh.
    pub freshness: FreshnessMode,
    /// How long an answer is fresh; where the core decides, one of which it says nothing.
    pub ttl: StatusTtl,
    /// `clamp`: the shortest time for which an answer is fresh that the core says it of.
    pub min_ttl: Duration,
    /// `clamp`: the longest such time; never less than `min_ttl`.
    pub max_ttl: Duration,
    /// The part of a TTL that is drawn at random and taken off, so that keys filled together do not expire together.
    pub jitter: Ratio,
    /// The time past its TTL for which an answer is served while it is fetched anew.
    pub stale_while_revalidate: Duration,
    /// The time past its TTL for which an answer is served while the core fails.
    pub stale_if_error: Duration,
    /// The answer when the core fails and nothing is stored. `None`: 503 with `Retry-After`.
    pub calm: Option<Calm>,
    /// Whether what agents say of caching counts.
    pub obey_agents: bool,
    /// Bytes of a `POST` body that the key is taken from, at most.
    pub max_body_bytes: ByteSize,
    /// Where a `POST` body names the entity tag that the agent holds. `None`: agents say so in `If-None-Match` only.
    pub etag: Option<BodyEtag>,
    /// Which payloads an answer names, that must be there before it is used. `None`: none.
    pub payload: Option<Payload>,
    /// How changes of an answer reach the agents. `None`: all of them at once.
    pub rollout: Option<Pacing>,
    /// Where answers are kept.
    pub store: AnswerStore,
    /// Bytes a second that one answer on disk is given to all agents together; zero: no bound.
    pub max_bytes_per_second: ByteSize,
}

/// `payload = { url = "body./packages/*/url", sha256 = "body./packages/*/sha256" }`: what a manifest names. `*` is every member of a
/// list or an object; up to the last one both are the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Payload {
    /// Where an answer says where a payload is.
    pub url: BodyPointer,
    /// Where it says what the payload's SHA-256 is.
    pub sha256: BodyPointer,
    /// Payloads of one answer, at most.
    pub max: usize,
}

impl Payload {
    /// The pointers from the whole to the first list, from a member of it to the next, and so on; and what leads from a member of the
    /// last one to the URL and to the digest.
    pub fn parted(&self) -> (Vec<&str>, &str, &str) {
        let (url, sha256) = (parts(&self.url.0), parts(&self.sha256.0));
        let stem = url[..url.len() - 1].to_vec();
        (stem, url[url.len() - 1], sha256[sha256.len() - 1])
    }
}

/// The parts of a pointer between its `*`; never empty.
fn parts(pointer: &str) -> Vec<&str> {
    let mut parts = Vec::new();
    let mut rest = pointer;
    while let Some(at) = star(rest) {
        parts.push(&rest[..at]);
        rest = &rest[at + 2..];
    }
    parts.push(rest);
    parts
}

/// Where the first `/*` stands that is a whole token.
fn star(pointer: &str) -> Option<usize> {
    pointer.match_indices("/*").map(|(at, _)| at).find(|at| matches!(pointer.as_bytes().get(at + 2), None | Some(b'/')))
}

/// `rollout = { over = "4h" }`: the pace at which a changed answer reaches the agents.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Pacing {
    /// The time from no agent to all.
    pub over: Duration,
    /// The part of the agents that is reached, at most.
    pub share: Ratio,
}

/// `etag = { request = "body./etag" }`: the in-body dialect of conditional requests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BodyEtag {
    /// Where the agent's body names the entity tag that it holds.
    pub request: BodyPointer,
    /// Where an answer's body holds a tag of its own, which agents may name as well as its `ETag`.
    pub answer: Option<BodyPointer>,
    /// What an agent is told that holds the answer.
    pub unchanged: Unchanged,
}

/// A place in a JSON body: a pointer (RFC 6901) to anything but the whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BodyPointer(pub String);

/// The operator's word that nothing has changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unchanged {
    /// 200 to 299, or 304.
    pub status: u16,
    /// The body; empty for 204, 205 and 304.
    pub body: String,
    /// The body's media type.
    pub content_type: String,
}

/// Where answers of a cached route are kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum AnswerStore {
    /// In memory, within `[limits.cache]`.
    #[default]
    Memory,
    /// Bodies of 200 in files, within `[limits.packages]`; never as a whole in memory.
    Disk,
}

/// Who decides how long an answer of a cached route is fresh.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum FreshnessMode {
    /// The operator: `ttl`.
    #[default]
    Override,
    /// The core, between `min_ttl` and `max_ttl`.
    Clamp,
    /// The core.
    Honor,
}

/// `ttl = { ok = "60s", not_found = "5s" }`: how long an answer is fresh, by its status. Zero: not stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StatusTtl {
    /// 200 and 203, and 204.
    pub ok: Duration,
    /// 301 and 308.
    pub redirect: Duration,
    /// 404 and 410.
    pub not_found: Duration,
}

/// A harmless answer that the operator wrote: "no update", "no task".
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Calm {
    /// The status, 200 to 299.
    pub status: u16,
    /// The body; empty for 204.
    pub body: String,
    /// The body's media type.
    pub content_type: String,
    /// The time after which the agent should ask again, sent as `Retry-After`, spread over half of itself. `None`: not sent.
    pub retry_after: Option<Duration>,
}

/// One part of a key.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum KeyPart {
    /// `identity.agent`
    Agent,
    /// `identity.tenant`
    Tenant,
    /// `path.NAME`: a parameter of the route's path.
    Path(String),
    /// `query.NAME`: the values of a query parameter, in order.
    Query(String),
    /// `header.NAME`: the values of a request header, in order. Lower case.
    Header(String),
    /// `body./POINTER`: a value of the JSON body by its pointer (RFC 6901), `POST` only.
    Body(String),
}

/// A route answered through bulk lookups.
#[derive(Clone, Debug, PartialEq)]
pub struct LookupRoute {
    /// The path at the core that takes bulk requests.
    pub path: String,
    /// What tells requests apart; identical keys join.
    pub key: Vec<KeyPart>,
    /// Whether one tenant's answer may go to another.
    pub shared: bool,
    /// The time that the first request of a window waits for company.
    pub window: Duration,
    /// Keys in one bulk request, at most.
    pub max_keys: usize,
    /// Requests waiting at once over all windows, at most; the next is answered calm or 503.
    pub max_waiters: usize,
    /// The time for which an answer is kept when the core names none. Zero: nothing is kept, as tasking wants it.
    pub ttl: Duration,
    /// The longest time for which the core may ask that an answer be kept.
    pub max_ttl: Duration,
    /// The part of a TTL that is drawn at random and taken off.
    pub jitter: Ratio,
    /// The time past its TTL for which a kept answer is served while it is fetched anew.
    pub stale_while_revalidate: Duration,
    /// The time past its TTL for which a kept answer is served while the core fails.
    pub stale_if_error: Duration,
    /// The part of a TTL before its end at which a kept answer that was asked for is fetched anew. Zero: none is.
    pub refresh_ahead: Ratio,
    /// The time for which keys gather that are fetched anew while nobody waits, unless a window takes them along.
    pub refresh_window: Duration,
    /// The answer when the core fails and nothing is kept. `None`: 503 with `Retry-After`.
    pub calm: Option<Calm>,
}

/// A route that takes records in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AggregateRoute {
    /// The stream's name; always one of [`super::Config::streams`].
    pub stream: String,
}

/// A route that passes through.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ForwardRoute {
    /// Whether `Upgrade: websocket` is passed on.
    pub websocket: bool,
    /// Bytes of a request body, at most; more is answered 413.
    pub max_body_bytes: ByteSize,
}

/// Headers that may be part of a key but that a fill of a cached route does not take from the agent: the connection's, the sender's,
/// the node's own, and those that would make the answer anything but whole.
pub const FILL_HEADERS_OF_ITS_OWN: [&str; 22] = [
    "connection",
    "content-encoding",
    "content-length",
    "content-type",
    "expect",
    "host",
    "if-match",
    "if-modified-since",
    "if-none-match",
    "if-range",
    "if-unmodified-since",
    "keep-alive",
    "proxy-authorization",
    "proxy-connection",
    "range",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "via",
    "weir-agent",
    "weir-tenant",
];
