//! What a core is started with.

use std::net::SocketAddr;

use crate::script::Behaviour;

/// What a core is started with. The defaults are a plaintext core on a free loopback port that tracks nothing.
#[derive(Debug, Clone)]
pub struct CoreOptions {
    /// Where to listen. Port 0 takes a free one, which stays taken while the core is down.
    pub address: SocketAddr,
    /// A certificate chain and its key, in PEM; plaintext without.
    pub tls: Option<CoreTls>,
    /// The behaviour at the start.
    pub behaviour: Behaviour,
    /// Whether an answer with a status that a script has ordered ends its connection, as that of many servers does.
    pub closes_on_failure: bool,
    /// Request headers that may name the tenant of `GET /v1/config`, lower case; the first one present counts.
    pub tenant_headers: Vec<String>,
    /// Bytes of an update manifest, about.
    pub manifest_bytes: usize,
    /// Bytes of a tenant's config, about.
    pub config_bytes: usize,
    /// `ttl` in seconds of each answer of a config lookup; left out where `None`.
    pub config_ttl: Option<u64>,
    /// One agent in so many has a task; 0 for none.
    pub agents_per_task: u64,
    /// Bytes of a request's body as sent, at most; more is answered 413.
    pub max_body_bytes: usize,
    /// Bytes of a request's body after inflation, at most; more is answered 413.
    pub max_inflated_bytes: usize,
    /// Reads batches of formats other than `rows/1`, which are refused without.
    pub read_format: Option<ReadFormat>,
    /// Whether the rows of batches are read and counted. Without, batches go by their ids and bytes alone, whatever their format:
    /// for measurements in which the core should cost little.
    pub read_rows: bool,
    /// Batch ids remembered, at most; the oldest leave first. About 64 bytes each.
    pub max_batch_ids: usize,
    /// The field of a record that names it uniquely. Where set, the core remembers how often it has seen each value.
    pub track_field: Option<String>,
    /// The fields that make repeats of one another. Where not empty, the core sums counts per (tenant, agent, fields).
    pub key_fields: Vec<String>,
    /// Values remembered for each of `track_field` and `key_fields`, at most; later ones are counted as overflow.
    pub max_tracked: usize,
}

/// Turns the inflated body of a batch of a format (as `Weir-Format` names it) into lines of `rows/1`, of so many bytes at most; or says
/// what is wrong with it.
pub type ReadFormat = fn(&str, &[u8], usize) -> Result<Vec<u8>, String>;

/// A certificate chain and its key, both in PEM.
#[derive(Debug, Clone)]
pub struct CoreTls {
    /// The chain, leaf first.
    pub certificates: Vec<u8>,
    /// The private key.
    pub key: Vec<u8>,
}

impl Default for CoreOptions {
    fn default() -> Self {
        Self {
            address: SocketAddr::from(([127, 0, 0, 1], 0)),
            tls: None,
            behaviour: Behaviour::Up,
            closes_on_failure: false,
            tenant_headers: vec!["weir-tenant".to_owned(), "x-tenant-id".to_owned()],
            manifest_bytes: 1024,
            config_bytes: 2048,
            config_ttl: None,
            agents_per_task: 1000,
            max_body_bytes: 64 << 20,
            max_inflated_bytes: 256 << 20,
            read_format: None,
            read_rows: true,
            max_batch_ids: 1_000_000,
            track_field: None,
            key_fields: Vec::new(),
            max_tracked: 1_000_000,
        }
    }
}
