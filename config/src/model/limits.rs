//! Bounds that hold for the node as a whole.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use crate::{ByteSize, Class, Ratio};

/// `[limits]`: what one request may cost and what all of them together may.
#[derive(Clone, Debug, PartialEq)]
pub struct Limits {
    /// Bytes of a request's header section, at most; more is answered 431.
    pub max_header_bytes: ByteSize,
    /// Bytes of a request target, at most; more is answered 414.
    pub max_target_bytes: ByteSize,
    /// Bytes of a body that the node reads itself (uploads, keyed POSTs), on the wire; more is answered 413.
    pub max_body_bytes: ByteSize,
    /// Bytes of such a body after decompression, at most; more is answered 413.
    pub max_inflated_bytes: ByteSize,
    /// Bytes of an upload after decompression for each byte on the wire, at most; more is answered 413. Uploads of up to
    /// 256 KiB after decompression are not asked.
    pub max_inflation_ratio: usize,
    /// Records in one upload, at most; more is answered 413.
    pub max_upload_records: usize,
    /// Bytes of one record, at most; a longer one is refused by its index.
    pub max_record_bytes: ByteSize,
    /// Bytes of one string in a record as written, names of members included, at most; a record with a longer one is
    /// refused by its index.
    pub max_string_bytes: ByteSize,
    /// Depth of nesting of a record or a keyed POST body, at most.
    pub max_json_depth: usize,
    /// Bytes of request bodies held in memory at once over all requests, as they came, unpacked and waiting for their
    /// journal, with what decoders need, at most; more is answered 503.
    pub max_buffered_bytes: ByteSize,
    /// The part of `max_buffered_bytes` that one tenant's requests may hold; more is answered 429.
    pub tenant_share: Ratio,
    /// Whether `tenant_share` only counts what it would refuse.
    pub tenant_share_shadow: bool,
    /// Requests worked on at once, at most, and the room that each class has of its own.
    pub max_requests: usize,
    /// The room that each class may use.
    pub classes: ClassLimits,
    /// How often one agent may ask.
    pub agents: AgentLimits,
    /// What one tenant may take of the node.
    pub tenants: TenantLimits,
    /// What becomes of agents that do not wait as they are told.
    pub damping: DampingLimits,
    /// How long agents that are turned away are told to wait.
    pub retry_after: RetryAfterLimits,
    /// What a refusal does to its connection.
    pub refusals: Refusals,
    /// The cache's bounds.
    pub cache: CacheLimits,
    /// The bounds of what routes with `rollout` keep besides.
    pub rollouts: RolloutLimits,
    /// The bounds of what the cache keeps on disk.
    pub packages: PackageLimits,
}

impl Limits {
    /// Bytes that all requests of one tenant may hold.
    pub fn tenant_bytes(&self) -> usize {
        self.tenant_share.of(self.max_buffered_bytes).as_usize()
    }

    /// Bytes that one upload holds, at most: its body as it came, twice where it goes to another thread, its body
    /// unpacked, and what its decoder needs.
    pub fn upload_bytes(&self) -> ByteSize {
        let bodies = self.max_body_bytes.bytes().saturating_mul(2).saturating_add(self.max_inflated_bytes.bytes());
        ByteSize::new(bodies.saturating_add(Self::DECODER_BYTES))
    }

    /// Bytes that the decoder of an upload needs, at most.
    pub const DECODER_BYTES: u64 = 13 << 20;
}

/// `[limits.classes]`: for each class the part of `max_requests` that it may fill, falling from probe to telemetry, so that
/// the lowest class sheds first and the room above its part stays with those over it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ClassLimits {
    /// `probe`
    pub probe: Ratio,
    /// `tasking`
    pub tasking: Ratio,
    /// `checkin`
    pub checkin: Ratio,
    /// `config`
    pub config: Ratio,
    /// `update`
    pub update: Ratio,
    /// `download`
    pub download: Ratio,
    /// `telemetry`
    pub telemetry: Ratio,
    /// Whether the parts only count what they would shed; `max_requests` holds all the same.
    pub shadow: bool,
}

/// `[limits.agents]`: how often one agent may ask, whatever it asks for: a token bucket for each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AgentLimits {
    /// Requests a minute; more is answered 429.
    pub requests_per_minute: u32,
    /// Requests at once after a silence.
    pub burst: u32,
    /// Buckets, and as many promises of `Retry-After`, that are remembered at once, at most.
    pub max_agents: usize,
    /// Whether it only counts what it would refuse.
    pub shadow: bool,
}

/// `route.agent_limit`: a bucket that each agent has for this route alone, instead of the one of `[limits.agents]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AgentRate {
    /// Requests a minute; more is answered 429.
    pub requests_per_minute: u32,
    /// Requests at once after a silence.
    pub burst: u32,
}

/// `[limits.tenants]`: what one tenant may take of the node.
#[derive(Clone, Debug, PartialEq)]
pub struct TenantLimits {
    /// The part of its class's room that a lone tenant of weight 1 may take. 1: no tenant is bound.
    pub share: Ratio,
    /// Requests a second that all tenants share by the same law; `None`: the rate is not bound.
    pub max_requests_per_second: Option<u32>,
    /// Tenants with another weight than 1.
    pub weights: Vec<TenantWeight>,
    /// Whether it only counts what it would refuse.
    pub shadow: bool,
}

/// A tenant's weight, written `acme=4`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TenantWeight {
    /// The tenant's name.
    pub tenant: String,
    /// 1 to 1,000.
    pub weight: u32,
}

impl FromStr for TenantWeight {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, &'static str> {
        const EXPECTED: &str = "not a tenant's name, `=` and a weight from 1 to 1000";
        let (tenant, weight) = text.rsplit_once('=').ok_or(EXPECTED)?;
        let weight = weight.parse().ok().filter(|weight| (1..=1000).contains(weight)).ok_or(EXPECTED)?;
        if tenant.is_empty() || tenant.len() > 256 {
            return Err(EXPECTED);
        }
        Ok(Self { tenant: tenant.to_owned(), weight })
    }
}

impl fmt::Display for TenantWeight {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}={}", self.tenant, self.weight)
    }
}

/// `[limits.damping]`: what becomes of agents that do not wait as they are told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DampingLimits {
    /// Early returns after which an agent is damped on a route.
    pub after: u32,
    /// The longest time that a damped agent is told to wait.
    pub longest: Duration,
    /// How long the early request of a damped agent waits for its refusal.
    pub pause: Duration,
    /// Whether it only counts what it would refuse.
    pub shadow: bool,
}

/// `[limits.retry_after]`: how long agents that are turned away are told to wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetryAfterLimits {
    /// The shortest time.
    pub shortest: Duration,
    /// The longest time of class `probe`.
    pub probe: Duration,
    /// The longest time of class `tasking`.
    pub tasking: Duration,
    /// The longest time of class `checkin`.
    pub checkin: Duration,
    /// The longest time of class `config`.
    pub config: Duration,
    /// The longest time of class `update`.
    pub update: Duration,
    /// The longest time of class `download`.
    pub download: Duration,
    /// The longest time of class `telemetry`.
    pub telemetry: Duration,
}

impl RetryAfterLimits {
    /// The longest time of that class.
    pub fn longest(&self, class: Class) -> Duration {
        match class {
            Class::Probe => self.probe,
            Class::Tasking => self.tasking,
            Class::Checkin => self.checkin,
            Class::Config => self.config,
            Class::Update => self.update,
            Class::Download => self.download,
            Class::Telemetry => self.telemetry,
        }
    }
}

/// `limits.refusals`: what a refusal does to its connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Refusals {
    /// Nothing: the agent can ask again without a handshake.
    #[default]
    Keep,
    /// It closes it.
    Close,
}

/// `[limits.cache]`: the cache's bounds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CacheLimits {
    /// Bytes of memory for stored answers, keys and headers included, at most; the least recently used leave first.
    pub max_bytes: ByteSize,
    /// Bytes of one stored answer's body, at most; a larger one is passed on without being stored.
    pub max_object_bytes: ByteSize,
    /// Requests that wait for one fill, at most; the next is answered stale, calm or 503.
    pub max_waiters: usize,
    /// Keys kept for `POST` bodies' and lookups' answers count here as well.
    pub max_keys: usize,
    /// Keys of each route that are watched for what other TTLs would mean, at most; 0: none.
    pub what_if_keys: usize,
}

/// `[limits.rollouts]`: the bounds of what is kept, in memory and on disk, to pace releases.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RolloutLimits {
    /// Keys whose releases are remembered, at most. Those on which nothing is on its way leave first, the oldest before the others.
    pub max_keys: usize,
    /// Bytes of their answers, at most.
    pub max_bytes: ByteSize,
}

/// `[limits.packages]`: the bounds of what cached routes with `store = "disk"` keep.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PackageLimits {
    /// Bytes on disk, of whole bodies and of those on their way, at most; the least recently used leave first.
    pub max_bytes: ByteSize,
    /// Bytes of one body, at most; a larger one is a failure of the core.
    pub max_object_bytes: ByteSize,
    /// Bodies, at most. Each that is in use since the start takes a file descriptor.
    pub max_objects: usize,
    /// Bytes of memory for reading them, shared by those who read.
    pub max_read_bytes: ByteSize,
    /// The time that one fill may take.
    pub max_fill_time: Duration,
}
