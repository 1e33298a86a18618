//! How many bytes go to the core for each byte that agents upload.
//!
//! The uploads of the standard mix, or of recorded events, go through a spool as a node has it: journal, merging,
//! batches. Time is counted and not waited for. Each batch is then written in every way that a batch can be written.
//! What is compared is the bodies of uploads, uncompressed as the fleet sends them, with the bodies of batches.
//!
//! Not here: the heads of requests, TLS, and how fast anything is.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::num::NonZeroU64;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use clap::Parser;
use weir_batch::{
    Batch, BatchEncoder, Compression, Counts, Encoding, Format, Framing, InflateLimits, Upload, UploadLimits,
};
use weir_fleet::{Rehearsal, Uploads};
use weir_logic::Millis;
use weir_logic::merge::{Load, MergePlan};
use weir_spool::{Disk, Durability, EndReason, Outbox, Plan, PlanMode, recover};

/// Bytes to the core over bytes from agents, for every way to write a batch.
#[derive(Debug, Parser)]
#[command(name = "ratios")]
struct Arguments {
    /// Agents.
    #[arg(long, default_value_t = 12_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    agents: u32,
    /// Seconds from one upload of an agent to its next.
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u32).range(1..=3600))]
    every: u32,
    /// Seconds of traffic.
    #[arg(long, default_value_t = 120, value_parser = clap::value_parser!(u32).range(1..=3600))]
    duration: u32,
    /// Recorded events, one JSON object a line, instead of the vocabulary that ships with the fleet.
    #[arg(long)]
    events: Option<PathBuf>,
    /// The fields that make two events the same.
    #[arg(long, value_delimiter = ',', default_value = "image_path,cmdline,sha256,user,parent_image,parent_cmdline")]
    same: Vec<String>,
}

type Failure = Box<dyn std::error::Error>;

/// Runs with these arguments.
pub fn main(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let arguments = match Arguments::try_parse_from(arguments) {
        Ok(arguments) => arguments,
        Err(error) => {
            // There is nobody to tell that nobody can be told.
            error.print().ok();
            return ExitCode::from(2);
        }
    };
    match run(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("ratios: {error}");
            ExitCode::from(3)
        }
    }
}

fn run(arguments: &Arguments) -> Result<(), Failure> {
    let dir = tempfile::tempdir()?;
    let (uploaded, outbox) = fill(arguments, dir.path())?;
    let mut sizes = Sizes::default();
    let mut counts = Counts::default();
    let mut batches = 0;
    for waiting in outbox.waiting() {
        let parcel = outbox.parcel(&waiting)?;
        let rows = Batch::open(&parcel.payload)?.rows(usize::try_from(parcel.meta.counts.raw_bytes)?)?;
        sizes.add(&rows, &arguments.same)?;
        counts += parcel.meta.counts;
        batches += 1;
    }
    let share = |bytes: u64| bytes as f64 / uploaded as f64;
    println!(
        "{} agents, an upload of {EVENTS} events each {} s for {} s: {} records, {uploaded} bytes",
        arguments.agents, arguments.every, arguments.duration, counts.records
    );
    println!(
        "{} rows in {batches} batches, {:.3} rows a record",
        counts.rows,
        counts.rows as f64 / counts.records as f64
    );
    println!("{:<12}{:>10}{:>10}", "", "rows/1", "shapes/1");
    for (name, [rows, shapes]) in &sizes.0 {
        println!("{name:<12}{:>10.4}{:>10.4}", share(*rows), share(*shapes));
    }
    Ok(())
}

/// Bytes of all batches, by how they are compressed: as rows and as shapes.
#[derive(Default)]
struct Sizes(BTreeMap<&'static str, [u64; 2]>);

/// Levels of Zstandard other than the product's.
const LEVELS: [(&str, i32); 3] = [("zstd -1", 1), ("zstd -6", 6), ("zstd -9", 9)];

impl Sizes {
    fn add(&mut self, rows: &[u8], same: &[String]) -> Result<(), Failure> {
        for (place, format) in [Format::Rows, Format::Shapes].into_iter().enumerate() {
            let mut lines = Vec::new();
            for (name, compression) in
                [("lz4", Compression::Lz4), ("zstd -3", Compression::Zstd), ("gzip", Compression::Gzip)]
            {
                let mut encoder = match format {
                    Format::Rows => BatchEncoder::new(compression)?,
                    Format::Shapes => BatchEncoder::shapes(compression, same.to_vec()),
                };
                rows.split_inclusive(|byte| *byte == b'\n').try_for_each(|row| encoder.push(row))?;
                let payload = encoder.finish()?.bytes;
                self.0.entry(name).or_default()[place] += payload.len() as u64;
                lines = Batch::open(&payload)?.lines(rows.len())?.into_owned();
            }
            for (name, level) in LEVELS {
                self.0.entry(name).or_default()[place] += zstd::bulk::compress(&lines, level)?.len() as u64;
            }
            self.0.entry("as they are").or_default()[place] += lines.len() as u64;
        }
        Ok(())
    }
}

const EVENTS: u32 = 24;
const REPEATS: f64 = 0.7;
const START: u64 = 1_700_000_000_000;
/// The age at which a generation is closed, as in the reference configuration.
const MAX_AGE_MS: u64 = 1000;
const WINDOW_MS: u64 = 60_000;
/// Room for all keys: nothing leaves early.
const ROOM: Load = Load { keys: 2_000_000, bytes: 1 << 30 };

/// Wider than any upload of the simulated agents.
pub(crate) const LIMITS: UploadLimits = UploadLimits {
    inflate: InflateLimits { max_bytes: 16 << 20, max_ratio: 1000 },
    max_records: 10_000,
    max_record_bytes: 1 << 20,
    max_string_bytes: 1 << 20,
    max_depth: 64,
};

/// Sends all uploads through a spool, until every window has ended; gives their bytes.
fn fill(arguments: &Arguments, dir: &Path) -> Result<(u64, Arc<Outbox<Disk>>), Failure> {
    let mut spool = recover(Disk, dir, Some(plan("edge-1", &arguments.same, ROOM, ROOM)), Millis(START))?;
    // Nothing here is to survive.
    spool.journal.set_durability(Durability::Os);
    let uploads = Uploads {
        events: EVENTS,
        repeats: REPEATS,
        with_eid: false,
        file: arguments.events.clone(),
        compression: None,
    };
    let mut fleet = Rehearsal::new(uploads, arguments.agents, 17, 1)?;
    let (mut uploaded, mut sealed) = (0, START);
    let turns = turns(arguments);
    for (time, agent) in turns {
        let now = Millis(START + time);
        if now.0 >= sealed + MAX_AGE_MS || spool.journal.is_full().is_some() {
            sealed = now.0;
            spool.journal.seal(now, EndReason::Age)?;
            spool.catch_up()?;
        }
        let body = fleet.upload(agent, now.0);
        uploaded += body.len() as u64;
        let upload = Upload::parse(&body, Encoding::Identity, Framing::Json, &LIMITS)?;
        let (tenant, name) = fleet.names(agent);
        let records = u32::try_from(upload.accepted)?;
        spool.journal.push(now, Some(&tenant), Some(&name), records, &upload.lines);
        spool.journal.commit()?;
        spool.catch_up()?;
    }
    // The windows that are still open end one after the other, as they would without further traffic.
    let end = START + u64::from(arguments.duration) * 1000;
    for time in (end..=end + WINDOW_MS + MAX_AGE_MS).step_by(1000) {
        spool.journal.seal(Millis(time), EndReason::Due)?;
        spool.catch_up()?;
    }
    Ok((uploaded, spool.outbox))
}

/// When each agent uploads, in order: spread evenly, each at its own fraction of the interval.
fn turns(arguments: &Arguments) -> Vec<(u64, u32)> {
    let (every, end) = (u64::from(arguments.every) * 1000, u64::from(arguments.duration) * 1000);
    let turns_of = |agent: u32| {
        // A step that shares no factor with most intervals scatters neighbours.
        let first = u64::from(agent) * 2_654_435_761 % every;
        (first..end).step_by(usize::try_from(every).unwrap_or(usize::MAX)).map(move |time| (time, agent))
    };
    let mut turns: Vec<(u64, u32)> = (0..arguments.agents).flat_map(turns_of).collect();
    turns.sort_unstable();
    turns
}

/// The plan of a stream of process events as the reference configuration has it, but for these bounds of merging.
pub(crate) fn plan(edge: &str, same: &[String], max: Load, max_tenant: Load) -> Plan {
    Plan {
        edge: edge.to_owned(),
        stream: "process".to_owned(),
        core: "core".to_owned(),
        path: "/v1/batches/process".to_owned(),
        mode: PlanMode::Events(MergePlan {
            same: same.to_vec(),
            exemplars: ["pid", "ppid", "ts"].map(str::to_owned).to_vec(),
            max_exemplars: 3,
            window_ms: NonZeroU64::new(WINDOW_MS).expect("it is not zero"),
            max,
            max_tenant,
        }),
        max_batch_bytes: 4 << 20,
        max_batch_rows: 50_000,
        lanes: 4,
        compression: Compression::Lz4,
        format: Format::Rows,
    }
}
