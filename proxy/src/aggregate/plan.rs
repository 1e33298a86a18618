//! What the configuration says, as the pipeline's parts want it.

use std::num::NonZeroU64;
use std::time::Duration;

use weir_batch::{Compression, Format, InflateLimits, UploadLimits};
use weir_config::{Config, CoreId, Mode, Ratio, Stream};
use weir_logic::delivery::{DeliveryRules, DeliveryTable};
use weir_logic::merge::{Load, MergePlan};
use weir_logic::retry::RetrySchedule;
use weir_logic::state::StatePlan;
use weir_spool::{Durability, Plan, PlanMode};

/// The stream of presence reports. No configured stream has its name.
pub(crate) const PRESENCE: &str = "presence";

/// Bytes of rows in one presence report, at most: those of some 600,000 agents.
pub(crate) const MAX_REPORT_BYTES: usize = 64 << 20;

/// The row of an agent with long names; most take a quarter of it.
const MAX_PRESENCE_ROW_BYTES: u64 = 512;

/// The age at which a presence report is given up, so that one which the core never takes does not hold up the later ones
/// for ever.
const REPORT_AGE: Duration = Duration::from_secs(24 * 3600);

/// Presence reports that the core has refused and that are kept, at most.
const MAX_DEAD_REPORTS: usize = 16;

/// What a pipeline reads while it runs; replaced whole by a reload.
#[derive(Clone, Debug)]
pub(super) struct Settings {
    /// The plan for new generations; `None` for a stream that is no longer configured.
    pub(super) plan: Option<Plan>,
    pub(super) durability: Durability,
    pub(super) acknowledged: Acknowledged,
    pub(super) max_age: Duration,
    /// Uploads that wait for the journal, at most. Read once, when the stream starts.
    pub(super) max_queued: usize,
    pub(super) max_journal_bytes: u64,
    pub(super) max_outbox_bytes: u64,
    /// Which batch goes when.
    pub(super) rules: DeliveryRules,
    /// Whether open windows are to leave at once, because nothing more will come.
    pub(super) flush: bool,
    /// What the core's statuses mean.
    pub(super) table: DeliveryTable,
    /// The age at which a batch is given up; `None` for never.
    pub(super) expire_after: Option<Duration>,
    pub(super) max_dead_bytes: u64,
    pub(super) max_dead_files: usize,
    /// The cores by their names, for batches made under an earlier plan.
    pub(super) cores: Vec<String>,
    /// Where the stream's batches go, whatever the plan said under which they were made.
    pub(super) destination: Option<(CoreId, String)>,
}

/// When an agent is told that its upload is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Acknowledged {
    /// Once it is in the journal, as durable as the stream promises.
    Written,
    /// Once it waits for the journal.
    Queued,
}

impl Settings {
    /// The settings of what has that name; those of an abandoned stream when nothing has.
    pub(super) fn of(config: &Config, name: &str, edge: &str) -> Self {
        match (&config.presence, config.stream(name)) {
            (Some(presence), _) if name == PRESENCE => Self::presence(config, presence, edge),
            (_, Some(stream)) => Self::configured(config, stream, edge),
            _ => Self::abandoned(config),
        }
    }

    fn configured(config: &Config, stream: &Stream, edge: &str) -> Self {
        Self {
            plan: Some(plan(config, stream, edge)),
            durability: match stream.durability {
                weir_config::Durability::Fsync => Durability::Fsync,
                weir_config::Durability::Os | weir_config::Durability::Memory => Durability::Os,
            },
            acknowledged: match stream.durability {
                weir_config::Durability::Fsync | weir_config::Durability::Os => Acknowledged::Written,
                weir_config::Durability::Memory => Acknowledged::Queued,
            },
            max_age: stream.batch.max_age,
            max_queued: stream.spool.max_queued_uploads.max(1),
            max_journal_bytes: stream.spool.max_journal_bytes.bytes(),
            max_outbox_bytes: stream.spool.max_outbox_bytes.bytes(),
            rules: DeliveryRules::from(stream),
            flush: false,
            table: DeliveryTable::from(&stream.delivery),
            expire_after: Some(stream.spool.max_age).filter(|age| !age.is_zero()),
            max_dead_bytes: stream.spool.max_dead_bytes.bytes(),
            max_dead_files: stream.spool.max_dead_files,
            cores: core_names(config),
            destination: Some((stream.core, stream.path.clone())),
        }
    }

    /// The settings of presence reports: each is a batch of its own, made at once. They go one at a time and in their order.
    /// The operating system's word is enough: what a power loss takes, agents say again. The bounds on disk are what all
    /// agents' rows can take; in truth one report waits.
    fn presence(config: &Config, presence: &weir_config::Presence, edge: &str) -> Self {
        let max_bytes = (presence.max_agents as u64).saturating_mul(MAX_PRESENCE_ROW_BYTES);
        let plan = Plan {
            edge: edge.to_owned(),
            stream: PRESENCE.to_owned(),
            core: config.core(presence.core).name.clone(),
            path: presence.path.clone(),
            mode: PlanMode::Rows,
            max_batch_bytes: MAX_REPORT_BYTES as u64,
            max_batch_rows: presence.max_agents.max(1) as u64,
            lanes: 1,
            compression: Compression::Lz4,
            format: Format::Rows,
        };
        Self {
            plan: Some(plan),
            durability: Durability::Os,
            max_age: Duration::ZERO,
            // One report, and what wakes the journal thread.
            max_queued: 8,
            max_journal_bytes: max_bytes,
            max_outbox_bytes: max_bytes,
            rules: DeliveryRules {
                max_in_flight: 1,
                live_for: Duration::MAX,
                schedule: RetrySchedule::new(Duration::from_millis(500), presence.interval),
            },
            expire_after: Some(REPORT_AGE),
            max_dead_bytes: max_bytes,
            max_dead_files: MAX_DEAD_REPORTS,
            destination: Some((presence.core, presence.path.clone())),
            ..Self::abandoned(config)
        }
    }

    /// The settings of a stream that is only emptied: nothing comes in, batches go one at a time where their plan says, and
    /// nothing is given up, for nobody says any more after what time.
    fn abandoned(config: &Config) -> Self {
        Self {
            plan: None,
            durability: Durability::Fsync,
            acknowledged: Acknowledged::Written,
            max_age: Duration::from_secs(1),
            max_queued: 1,
            max_journal_bytes: 0,
            max_outbox_bytes: 0,
            rules: DeliveryRules {
                max_in_flight: 1,
                live_for: Duration::from_secs(5),
                schedule: RetrySchedule::new(Duration::from_millis(200), Duration::from_secs(30)),
            },
            flush: false,
            table: DeliveryTable::default(),
            expire_after: None,
            max_dead_bytes: u64::MAX,
            max_dead_files: usize::MAX,
            cores: core_names(config),
            destination: None,
        }
    }

    /// The settings of a spool that is emptied at once: nothing comes in, nothing waits for a window or is given up. The
    /// batches of a configured stream go where it sends its own.
    pub(super) fn emptying(config: &Config, name: &str, edge: &str) -> Self {
        Self {
            flush: true,
            max_outbox_bytes: u64::MAX,
            expire_after: None,
            max_dead_bytes: u64::MAX,
            max_dead_files: usize::MAX,
            ..Self::of(config, name, edge)
        }
    }

    /// Where a batch goes; `None` when the core that its plan names is no longer configured.
    pub(super) fn destination(&self, core: &str, path: &str) -> Option<(CoreId, String)> {
        if let Some(destination) = &self.destination {
            return Some(destination.clone());
        }
        let place = self.cores.iter().position(|name| name == core)?;
        Some((CoreId(place), path.to_owned()))
    }
}

fn core_names(config: &Config) -> Vec<String> {
    config.cores.iter().map(|core| core.name.clone()).collect()
}

fn mode(config: &Config, mode: &Mode) -> PlanMode {
    match mode {
        Mode::Raw => PlanMode::Raw,
        Mode::Events { same, exemplars, max_exemplars, window, max_keys, max_merge_bytes, max_tenant_share } => {
            let max = Load { keys: *max_keys, bytes: max_merge_bytes.bytes() };
            let has_tenants = !config.identity.tenant.is_empty();
            PlanMode::Events(MergePlan {
                same: same.clone(),
                exemplars: exemplars.clone(),
                max_exemplars: *max_exemplars,
                window_ms: NonZeroU64::new(millis(*window)).unwrap_or(NonZeroU64::MIN),
                max,
                max_tenant: if has_tenants { share(max, *max_tenant_share) } else { max },
            })
        }
        Mode::State { key, window, refresh, max_keys, max_bytes } => PlanMode::State(StatePlan {
            key: key.clone(),
            window_ms: millis(*window),
            refresh_ms: millis(*refresh),
            max_keys: *max_keys,
            max_bytes: max_bytes.bytes(),
        }),
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX).max(1)
}

fn plan(config: &Config, stream: &Stream, edge: &str) -> Plan {
    Plan {
        edge: edge.to_owned(),
        stream: stream.name.clone(),
        core: config.core(stream.core).name.clone(),
        path: stream.path.clone(),
        mode: mode(config, &stream.mode),
        max_batch_bytes: stream.batch.max_bytes.bytes(),
        max_batch_rows: stream.batch.max_records.max(1) as u64,
        lanes: u32::try_from(stream.max_in_flight).unwrap_or(MAX_LANES).clamp(1, MAX_LANES),
        compression: compression(stream.batch.compression),
        format: match stream.batch.encoding {
            weir_config::BatchEncoding::Rows => Format::Rows,
            weir_config::BatchEncoding::Shapes => Format::Shapes,
        },
    }
}

/// Batches for which the rows of one generation are gathered, at most: more would cost memory and gain nothing, as the
/// next generation's batches can be on their way as well.
const MAX_LANES: u32 = 16;

/// That part of `whole`, but room for a key.
fn share(whole: Load, part: Ratio) -> Load {
    let keys = usize::try_from(part.of_number(whole.keys as u64)).unwrap_or(whole.keys);
    Load { keys: keys.max(1), bytes: part.of_number(whole.bytes) }
}

fn compression(configured: weir_config::Compression) -> Compression {
    match configured {
        weir_config::Compression::Lz4 => Compression::Lz4,
        weir_config::Compression::Zstd => Compression::Zstd,
        weir_config::Compression::Gzip => Compression::Gzip,
    }
}

/// The bounds of one upload.
pub(crate) fn upload_limits(config: &Config) -> UploadLimits {
    UploadLimits {
        inflate: InflateLimits {
            max_bytes: config.limits.max_inflated_bytes.as_usize(),
            max_ratio: config.limits.max_inflation_ratio,
        },
        max_records: config.limits.max_upload_records,
        max_record_bytes: config.limits.max_record_bytes.as_usize(),
        max_depth: config.limits.max_json_depth,
        max_string_bytes: config.limits.max_string_bytes.as_usize(),
    }
}
