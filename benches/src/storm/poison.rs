//! A record that the core refuses among 10,000 that it would take.

use std::fmt::Write as _;
use std::time::Duration;

use weir_core_sim::{Behaviour, EndpointKind};

use super::config::NodeConfig;
use super::report::Report;
use super::stage::{Stage, on_sockets, until};
use super::{Failure, Order};
use crate::status;
use crate::text::grouped;
use crate::verdict::line;
use crate::wire::{self, Connection};

/// Records of an upload, of which about one is bad: which, the core draws from its text.
const RECORDS: u64 = 10_000;
/// Uploads in which none was bad, at most.
const UPLOADS: u64 = 30;
/// More requests than batches, for each bad record.
const EXTRA: u64 = 15;

const AGENT: &str = "x-agent-id: agent-1\r\nx-tenant-id: tenant-1\r\n";

const PATIENCE: Duration = Duration::from_secs(20);

/// Runs the scenario.
pub(super) fn play(order: &Order) -> Result<Report, Failure> {
    on_sockets(run(order))
}

async fn run(order: &Order) -> Result<Report, Failure> {
    let config = NodeConfig {
        batch_age: Duration::from_millis(100),
        retry_max: Duration::from_secs(2),
        ..NodeConfig::default()
    };
    let stage = Stage::set(config, order.switches).await?;
    stage.core.script_for(EndpointKind::Batch, Behaviour::BadRows { one_in: RECORDS });
    let mut connection = Connection::open(stage.node.agents()?).await?;
    let at_core = || stage.core.snapshot().streams.get("process").map_or(0, |stream| stream.records);
    let refused = || stage.core.snapshot().batches.refused;
    let mut uploads = 0;
    // Until the core has found a bad row.
    while uploads < UPLOADS && refused() == 0 {
        let (head, _) = connection.post("/v1/events/process", AGENT, &upload(uploads)).await?;
        if wire::status(&head) != 202 {
            return Err(format!("an upload was answered {}", wire::status(&head)).into());
        }
        uploads += 1;
        until(PATIENCE, || at_core() == uploads * RECORDS || refused() > 0).await;
    }
    let discarded = discarded_once_delivered(&stage, uploads * RECORDS).await?;
    let delivered = at_core();
    let seen = stage.core.snapshot();
    stage.clear().await?;
    let requests = seen.endpoints.get(&EndpointKind::Batch).map_or(0, |counts| counts.requests);
    // What was put aside the core is told in a batch of its own.
    let told: u64 = seen.streams.get("process").map_or(0, |stream| stream.losses.values().map(|loss| loss.rows).sum());
    let extra = requests.saturating_sub(uploads + told);
    let missing = (uploads * RECORDS).saturating_sub(delivered + discarded);
    Ok(Report {
        lines: vec![
            line("bad records put aside", discarded.to_string(), "1 or a few".to_owned(), (1..=5).contains(&discarded)),
            line("records neither delivered nor put aside", grouped(missing), "0".to_owned(), missing == 0),
            line(
                "requests more than batches, for each bad record",
                format!("{:.1}", extra as f64 / discarded.max(1) as f64),
                format!("at most {EXTRA}"),
                discarded > 0 && extra <= EXTRA * discarded,
            ),
        ],
        notes: vec![format!("{} records in {uploads} batches", grouped(uploads * RECORDS))],
        ..Report::default()
    })
}

/// Waits until everything is delivered or put aside; gives how much was put aside.
async fn discarded_once_delivered(stage: &Stage, records: u64) -> Result<u64, Failure> {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    loop {
        let stream = status::status(stage.node.admin()?).await?.process();
        let is_over = stream.held == 0 && stream.accepted == records;
        if is_over || tokio::time::Instant::now() >= deadline {
            return Ok(stream.discarded);
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Records that differ in every field that could make repeats of them.
fn upload(number: u64) -> String {
    let mut body = String::with_capacity(1 << 20);
    for record in 0..RECORDS {
        let separator = if record == 0 { '[' } else { ',' };
        // Writing to a string cannot fail.
        write!(body, "{separator}{{\"image_path\":\"p{number}-{record}\",\"cmdline\":\"c\",\"user\":\"u\"}}").ok();
    }
    body + "]"
}
