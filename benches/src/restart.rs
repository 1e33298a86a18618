//! What a large spool costs a node that starts: the time until it acknowledges an upload, the time until its journal has
//! been replayed, and memory.
//!
//! The spool is what a long outage of the core and a `kill -9` leave behind: batches that wait, and a journal of which
//! nothing has been emitted. The node is the product, as a process of its own; its core is not there.

use std::ffi::OsString;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant, SystemTime};

use clap::{Parser, Subcommand};
use rand::RngCore;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use weir_batch::{BatchEncoder, BatchFile, BatchId, BatchMeta, Compression, Format};
use weir_fleet::{Rehearsal, Uploads};
use weir_logic::Millis;
use weir_logic::merge::Load;
use weir_spool::{Disk, Durability, EndReason, Plan, recover};

use crate::books::SAME;
use crate::node::{self, Node, NodeArguments, Usage};
use crate::place::Place;
use crate::ratios;
use crate::text::{bytes, print};

/// Makes a large spool, starts a node on it, and says what that cost.
#[derive(Debug, Parser)]
#[command(name = "restart", args_conflicts_with_subcommands = true)]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    size: Size,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Be the node
    #[command(hide = true)]
    Node(NodeArguments),
}

#[derive(Debug, clap::Args)]
struct Size {
    /// Gibibytes of batches that wait.
    #[arg(long, default_value_t = 9, value_parser = clap::value_parser!(u64).range(1..=100))]
    outbox_gib: u64,
    /// Kibibytes of one batch.
    #[arg(long, default_value_t = 512, value_parser = clap::value_parser!(u64).range(1..=65536))]
    batch_kib: u64,
    /// Mebibytes of journal that were not emitted.
    #[arg(long, default_value_t = 1024, value_parser = clap::value_parser!(u64).range(1..=65536))]
    journal_mib: u64,
}

/// Runs with these arguments.
pub fn main(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let arguments = Arguments::parse_from(arguments);
    if let Some(Command::Node(arguments)) = arguments.command {
        return node::run(&arguments);
    }
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("restart: {error}");
            return ExitCode::FAILURE;
        }
    };
    match runtime.block_on(run(&arguments.size)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("restart: {error}");
            ExitCode::FAILURE
        }
    }
}

type Failure = Box<dyn std::error::Error>;

async fn run(size: &Size) -> Result<(), Failure> {
    let idle = start(&Place::new(None)?).await?;
    let place = Place::new(None)?;
    let made = make(&place.path().join("data").join("spool").join("process"), size)?;
    print(&format!(
        "a spool of {} in {} batches and {} of journal with {} records\n",
        bytes(made.outbox_bytes),
        made.batches,
        bytes(made.journal_bytes),
        made.records
    ));
    let large = start(&place).await?;
    let line = |name: &str, start: &Started| {
        let [ready, kept, replayed] = [start.ready, start.kept, start.replayed].map(|time| time.as_secs_f64());
        let [at_kept, at_replayed] = [start.peak_when_kept, start.peak_when_replayed].map(bytes);
        format!("{name:<12}{ready:>10.2} s{kept:>10.2} s{replayed:>10.2} s{at_kept:>12}{at_replayed:>12}\n")
    };
    print(&format!(
        "{:<12}{:>12}{:>12}{:>12}{:>12}{:>12}\n",
        "", "ready", "first 202", "replayed", "peak then", "peak at end"
    ));
    print(&line("empty spool", &idle));
    print(&line("this spool", &large));
    let extra = large.peak_when_kept.saturating_sub(idle.peak_when_kept);
    print(&format!("extra memory until the first 202: {}\n", bytes(extra)));
    place.leave()?;
    Ok(())
}

/// What was made.
struct Made {
    batches: u64,
    outbox_bytes: u64,
    journal_bytes: u64,
    records: u64,
}

/// How a start went; times from the start of the process.
struct Started {
    ready: Duration,
    /// The first upload was acknowledged.
    kept: Duration,
    /// Nothing of the journal of the last life was left to read.
    replayed: Duration,
    peak_when_kept: u64,
    peak_when_replayed: u64,
}

/// Nobody listens there.
const NO_CORE: &str = "127.0.0.1:9";

const CONFIG: &str = r#"
[edge]
name = "edge-restart"
data_dir = "data"
log_format = "json"

[[listener]]
name = "agents"
address = "127.0.0.1:0"
trusted_headers = true

[admin]
address = "127.0.0.1:0"

[identity]
agent = "header.x-agent-id"
tenant = "header.x-tenant-id"

[core]
peers = ["{{core}}"]

[[route]]
name = "process-events"
match = { method = "POST", path = "/v1/events/process" }
class = "telemetry"
action = "aggregate"
stream = "process"

[[stream]]
name = "process"
mode = "events"
same = [{{same}}]
spool = { max_journal_bytes = "1 TiB", max_outbox_bytes = "1 TiB" }
"#;

/// Starts a node in the place, waits for its first acknowledgement and for the end of its replay, and kills it.
async fn start(place: &Place) -> Result<Started, Failure> {
    let same = SAME.map(|field| format!("{field:?}")).join(", ");
    let values = [("core", NO_CORE.to_owned()), ("same", same)];
    let config = place.write_config(&crate::text::fill(CONFIG, &values))?;
    let begun = Instant::now();
    let mut node = Node::start(&config).await?;
    let ready = begun.elapsed();
    upload(node.agents()?).await?;
    let kept = begun.elapsed();
    let peak_when_kept = peak(&node);
    while is_replaying(node.admin()?).await? {
        tokio::time::sleep(POLL).await;
    }
    let started = Started { ready, kept, replayed: begun.elapsed(), peak_when_kept, peak_when_replayed: peak(&node) };
    node.kill().await;
    Ok(started)
}

/// The time between two looks at a replay.
const POLL: Duration = Duration::from_millis(20);

fn peak(node: &Node) -> u64 {
    node.usage().map_or(0, |Usage { peak_rss_bytes, .. }| peak_rss_bytes)
}

/// Sends one record and waits until it is acknowledged.
async fn upload(agents: SocketAddr) -> io::Result<()> {
    let body = r#"{"image_path":"cmd.exe"}"#;
    let head = format!(
        "POST /v1/events/process HTTP/1.1\r\nHost: localhost\r\nX-Agent-Id: a-1\r\nX-Tenant-Id: t-1\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    );
    let mut stream = TcpStream::connect(agents).await?;
    stream.write_all(head.as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    let first = answer.lines().next().unwrap_or("no answer");
    if first.starts_with("HTTP/1.1 202") { Ok(()) } else { Err(io::Error::other(format!("an upload: {first}"))) }
}

async fn is_replaying(admin: SocketAddr) -> Result<bool, Failure> {
    let status: Value = serde_json::from_str(&crate::status::get(admin, "/status").await?)?;
    Ok(status["streams"]["process"]["replaying"].as_bool().unwrap_or(false))
}

/// Makes the spool: one generation that has been emitted, batches of earlier ones, and a journal behind it.
fn make(root: &Path, size: &Size) -> Result<Made, Failure> {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?;
    let now = Millis(u64::try_from(now.as_millis())?);
    let begin = Millis(now.0.saturating_sub(60_000));
    let mut spool = recover(Disk, root, Some(plan()), begin)?;
    spool.journal.set_durability(Durability::Os);
    spool.journal.push(begin, None, None, 1, b"{}\n");
    spool.journal.seal(begin, EndReason::Age)?;
    spool.catch_up()?;
    let (batches, outbox_bytes) = fill_outbox(&root.join("outbox"), size, begin)?;
    let mut fleet = Rehearsal::new(uploads(), AGENTS, 17, 1)?;
    let (mut journal_bytes, mut records) = (0, 0);
    while journal_bytes < size.journal_mib << 20 {
        let turn = u32::try_from(records / 24 % u64::from(AGENTS))?;
        let lines = fleet.upload(turn, now.0).to_vec();
        let lines = as_lines(&lines)?;
        let (tenant, agent) = fleet.names(turn);
        journal_bytes += lines.len() as u64;
        records += 24;
        spool.journal.push(now, Some(&tenant), Some(&agent), 24, &lines);
        spool.journal.commit()?;
        if spool.journal.is_full().is_some() {
            spool.journal.seal(now, EndReason::Bytes)?;
        }
    }
    Ok(Made { batches, outbox_bytes, journal_bytes, records })
}

const AGENTS: u32 = 10_000;

/// Batches of records that no compression makes smaller, so that their size is what was asked for.
fn fill_outbox(outbox: &Path, size: &Size, begin: Millis) -> Result<(u64, u64), Failure> {
    let mut random = rand::rng();
    let mut encoder = BatchEncoder::new(Compression::Lz4)?;
    while encoder.counts().raw_bytes < size.batch_kib << 10 {
        let mut noise = [0; 512];
        random.fill_bytes(&mut noise);
        let text: String = noise.iter().map(|byte| char::from(b'#' + byte % 57)).collect();
        let row = format!("{{\"kind\":\"event\",\"record\":{}}}\n", Value::from(text));
        encoder.push(row.as_bytes())?;
    }
    let payload = encoder.finish()?;
    let (mut batches, mut written) = (0, 0);
    while written < size.outbox_gib << 30 {
        batches += 1;
        let meta = BatchMeta {
            id: BatchId::new("edge-restart", "process", batches, 0),
            core: "core".to_owned(),
            path: "/v1/batches/process".to_owned(),
            compression: payload.compression,
            format: Format::Rows,
            counts: payload.counts,
            sealed_at: begin.0,
            shards: u64::MAX,
            refusal: None,
        };
        let file = BatchFile::encode(&meta, &payload.bytes);
        let name: PathBuf = outbox.join(format!("{}.batch", meta.id.file_stem()));
        std::fs::write(name, &file)?;
        written += file.len() as u64;
    }
    Ok((batches, written))
}

fn uploads() -> Uploads {
    Uploads { events: 24, repeats: 0.7, with_eid: false, file: None, compression: None }
}

/// The records of an upload, each on a line.
fn as_lines(upload: &[u8]) -> Result<Vec<u8>, Failure> {
    let records: Vec<&serde_json::value::RawValue> = serde_json::from_slice(upload)?;
    let mut lines = Vec::with_capacity(upload.len());
    for record in records {
        lines.extend_from_slice(record.get().as_bytes());
        lines.push(b'\n');
    }
    Ok(lines)
}

/// The plan of the stream above, so that the start does not begin with a change of it.
fn plan() -> Plan {
    let (max, max_tenant) = (Load { keys: 2_000_000, bytes: 256 << 20 }, Load { keys: 500_000, bytes: 64 << 20 });
    ratios::plan("edge-restart", &SAME.map(str::to_owned), max, max_tenant)
}
