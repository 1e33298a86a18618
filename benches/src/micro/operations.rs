//! The operations: each is prepared once and then run as often as wanted, with other inputs each time where that is how it goes in a
//! node.

use std::hint::black_box;
use std::path::Path;
use std::time::Duration;

use weir::admission::{Door, Knock};
use weir::metrics::Metrics;
use weir_batch::{BatchEncoder, Compression, Encoding, Framing, Upload};
use weir_config::{Class, Config, EXAMPLE, MemoryEnvironment, Method, Ratio};
use weir_fleet::{Rehearsal, Uploads};
use weir_logic::admit::Rules;
use weir_logic::gate::{Attempt, Entry, Gate, GateLimits};
use weir_logic::lookup::{LookupWindows, WindowBounds};
use weir_logic::merge::{Applied, Load, Merger, Origin};
use weir_logic::retry::{RetryBudget, RetrySchedule};
use weir_logic::strict::head::{Bounds, Scan, scan};
use weir_logic::strict::section::Section;
use weir_logic::strict::target::Target;
use weir_logic::{AgentId, CacheKey, Headers, Identity, Millis, RouteTable, TenantId};
use weir_spool::{Disk, Durability, PlanMode, recover};

use super::Failure;
use crate::books::SAME;
use crate::cache::scene::{Asker, Scene};
use crate::ratios;

/// An operation.
pub(super) struct Operation {
    pub(super) name: &'static str,
    /// What is counted.
    pub(super) about: &'static str,
    run: fn(u64) -> Result<(), Failure>,
}

/// All of them.
pub(super) const OPERATIONS: &[Operation] = &[
    Operation {
        name: "head-scan",
        about: "a request's header section checked and cut, its target taken apart",
        run: head_scan,
    },
    Operation { name: "route-match", about: "a route of the reference configuration found", run: route_match },
    Operation { name: "admission", about: "a request of one of 1,000 agents let in and out", run: admission },
    Operation { name: "cache-hit", about: "a fresh answer of 1 KiB out of 1,000", run: cache_hit },
    Operation { name: "gate-passage", about: "a request through a core's gate and its result", run: gate_passage },
    Operation {
        name: "lookup-join",
        about: "a waiter into a window of 50 keys, its share of the window's end",
        run: lookup_join,
    },
    Operation { name: "retry", about: "a delay and a withdrawal from the budget", run: retry },
    Operation { name: "upload-cut", about: "an upload of 24 events cut into records", run: upload_cut },
    Operation { name: "merge-first", about: "a record with a new key", run: merge_first },
    Operation { name: "merge-repeat", about: "a record seen before", run: merge_repeat },
    Operation { name: "journal-append", about: "an upload of 24 events appended and committed", run: journal_append },
    Operation { name: "batch-rows", about: "a row into a batch, LZ4", run: batch_rows },
    Operation { name: "batch-shapes", about: "a row into a batch in columns, LZ4", run: batch_shapes },
];

pub(super) fn find(name: &str) -> Option<&'static Operation> {
    OPERATIONS.iter().find(|operation| operation.name == name)
}

/// Runs one.
pub(super) fn run(name: &str, times: u64) -> Result<(), Failure> {
    let operation = find(name).ok_or_else(|| format!("there is no operation {name}"))?;
    (operation.run)(times)
}

const HEAD: &[u8] = b"GET /v1/updates/stable/manifest.json HTTP/1.1\r\nhost: edge.example.com\r\nuser-agent: agent/7.1.0\r\n\
    accept: application/json\r\nx-agent-id: agent-000017\r\nx-tenant-id: tenant-00003\r\nif-none-match: \"5f2b9323c39b3ad2\"\r\n\r\n";

fn head_scan(times: u64) -> Result<(), Failure> {
    let bounds = Bounds { head: 32 << 10, target: 8 << 10, fields: 128 };
    for _ in 0..times {
        let scanned = scan(black_box(HEAD), 0, bounds).map_err(|fault| fault.detail)?;
        let Scan::Complete(head) = black_box(scanned) else { return Err("a section has no end".into()) };
        let section = Section::new(black_box(HEAD), &head);
        let host = section.first("host").unwrap_or_default();
        let target = Target::parse(section.target(), host);
        black_box(&target).as_ref().map_err(|fault| fault.detail)?;
    }
    Ok(())
}

fn example() -> Result<Config, Failure> {
    let file = Path::new("weir.toml");
    let parsed = weir_config::parse(&MemoryEnvironment::new().file(file, EXAMPLE), file);
    Ok(parsed.map_err(|problems| problems.to_string())?.config)
}

fn route_match(times: u64) -> Result<(), Failure> {
    let table = RouteTable::new(&example()?.routes);
    for _ in 0..times {
        black_box(table.find(
            Method::Get,
            black_box("edge.example.com"),
            black_box("/v1/updates/stable/manifest.json"),
        ));
    }
    Ok(())
}

fn identity(number: u64) -> Identity {
    Identity {
        agent: AgentId::new(&format!("agent-{:06}", number % 1000)),
        tenant: TenantId::new(&format!("tenant-{:05}", number % 60)),
    }
}

fn admission(times: u64) -> Result<(), Failure> {
    let config = example()?;
    let route = config.routes.first().ok_or("the reference configuration has no route")?;
    let rules = Rules::new(&config.limits);
    let door = Door::new(10_000, Metrics::new(), Millis(0));
    let identities: Vec<Identity> = (0..1000).map(identity).collect();
    for (number, identity) in (0..times).zip(identities.iter().cycle()) {
        // A node's second has thousands of requests; an agent's bucket fills meanwhile.
        let now = Millis(number * 10);
        let knock = Knock { identity, connection: number, route, version: Some("agent/7.1.0") };
        let mut asked = door.asked(&knock);
        let admitted = door.enter(&knock, &mut asked, &rules, now);
        drop(black_box(admitted.map_err(|turned| turned.limit.detail())?));
    }
    Ok(())
}

fn cache_hit(times: u64) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let scene = Scene::new(1 << 30, 1024)?;
    let mut asker = Asker::new(60);
    runtime.block_on(async {
        scene.fill(&mut asker, 0..KEYS).await?;
        for item in (0..KEYS).cycle().take(usize::try_from(times)?) {
            drop(black_box(scene.answer(asker.of(item)).await));
        }
        Ok(())
    })
}

const KEYS: u32 = 1000;

fn gate_passage(times: u64) -> Result<(), Failure> {
    let mut config = example()?;
    let core = config.cores.first_mut().ok_or("the reference configuration has no core")?;
    core.max_requests_per_second = 1_000_000;
    let mut gate = Gate::new(&GateLimits::from(&*core), ["updates", "config"]);
    let flow = gate.flow("config");
    for number in 0..times {
        let now = Millis(1_000 + number);
        let Entry::Go(ticket) = gate.try_enter(Class::Config, flow, now) else {
            return Err("an idle gate lets a request wait".into());
        };
        gate.on_result(ticket, Attempt::Succeeded(Duration::from_millis(5)), now, 0.5);
    }
    Ok(())
}

fn lookup_join(times: u64) -> Result<(), Failure> {
    let bounds = WindowBounds { max_keys: 50, max_waiters: 1_000_000, joins_under_way: false };
    let keys: Vec<CacheKey> =
        (0..200_u32).map(|number| CacheKey::restored(format!("tasks/agent-{number:06}").into_bytes())).collect();
    let mut windows = LookupWindows::new();
    for (number, key) in (0..times).zip(keys.iter().cycle()) {
        let joined = windows.join(key.clone(), (), number, bounds).map_err(|_| "the windows are full")?;
        if let Some(window) = joined.full {
            for entry in window.entries {
                windows.land(&entry.key);
                entry.waiters.iter().for_each(|_| windows.leave());
            }
        }
    }
    Ok(())
}

fn retry(times: u64) -> Result<(), Failure> {
    let schedule = RetrySchedule::new(Duration::from_millis(100), Duration::from_secs(60));
    let mut budget = RetryBudget::new(Ratio::new(0.1).ok_or("a tenth is a ratio")?);
    for number in 0..times {
        budget.deposit();
        black_box(budget.withdraw());
        black_box(schedule.delay(black_box(u32::try_from(number % 12)?), 0.5));
    }
    Ok(())
}

/// Uploads of the standard mix by a few agents.
fn bodies(count: u32, repeats: f64) -> Result<Vec<Vec<u8>>, Failure> {
    let uploads = Uploads { events: 24, repeats, with_eid: false, file: None, compression: None };
    let mut fleet = Rehearsal::new(uploads, 8, 17, 1)?;
    Ok((0..count).map(|number| fleet.upload(number % 8, 1_700_000_000_000 + u64::from(number) * 1000)).collect())
}

/// The same, cut.
fn uploads(count: u32, repeats: f64) -> Result<Vec<Upload>, Failure> {
    let parse =
        |body: Vec<u8>| Upload::parse(&body, Encoding::Identity, Framing::Json, &ratios::LIMITS).map_err(Failure::from);
    bodies(count, repeats)?.into_iter().map(parse).collect()
}

fn upload_cut(times: u64) -> Result<(), Failure> {
    let bodies = bodies(32, 0.7)?;
    for body in bodies.iter().cycle().take(usize::try_from(times)?) {
        black_box(Upload::parse(black_box(body), Encoding::Identity, Framing::Json, &ratios::LIMITS)?);
    }
    Ok(())
}

fn merger() -> Result<Merger, Failure> {
    let room = Load { keys: 2_000_000, bytes: 1 << 30 };
    match ratios::plan("edge-1", &SAME.map(str::to_owned), room, room).mode {
        PlanMode::Events(plan) => {
            let mut merger = Merger::new(plan);
            drop(merger.advance(Millis(1_700_000_000_000)));
            Ok(merger)
        }
        _ => Err("the plan is none of events".into()),
    }
}

fn merge_first(times: u64) -> Result<(), Failure> {
    // As many however often it is run, so that making them is no part of the count.
    let records: Vec<String> = (0..NEW_RECORDS)
        .map(|number| {
            format!(
                r#"{{"ts":1700000000000,"image_path":"C:\\Windows\\System32\\svchost.exe","cmdline":"svchost.exe -s {number:08}","pid":4242,"user":"SYSTEM"}}"#
            )
        })
        .collect();
    apply(&mut merger()?, records.iter().map(String::as_bytes).take(usize::try_from(times)?), Some(Applied::First))
}

const NEW_RECORDS: u32 = 4000;

fn merge_repeat(times: u64) -> Result<(), Failure> {
    let mut merger = merger()?;
    let uploads = uploads(8, 0.0)?;
    let records: Vec<&[u8]> =
        uploads.iter().flat_map(|upload| upload.lines.split_inclusive(|byte| *byte == b'\n')).collect();
    // Each often enough that its repeat has all the examples that it keeps.
    apply(&mut merger, records.iter().copied().cycle().take(8 * records.len()), None)?;
    apply(&mut merger, records.iter().copied().cycle().take(usize::try_from(times)?), Some(Applied::Repeat))
}

/// Gives the merger these records of one agent; what it takes each for may be known beforehand.
fn apply<'a>(
    merger: &mut Merger,
    records: impl Iterator<Item = &'a [u8]>,
    wanted: Option<Applied>,
) -> Result<(), Failure> {
    let origin = Origin::new(Some("tenant-00003"), Some("agent-000017"));
    for record in records {
        let applied = merger.apply(&origin, black_box(record));
        if wanted.is_some_and(|wanted| wanted != applied) {
            return Err(format!("{applied:?} of {}", String::from_utf8_lossy(record)).into());
        }
    }
    Ok(())
}

fn journal_append(times: u64) -> Result<(), Failure> {
    let dir = tempfile::tempdir()?;
    let room = Load { keys: 2_000_000, bytes: 1 << 30 };
    let plan = ratios::plan("edge-1", &SAME.map(str::to_owned), room, room);
    let mut spool = recover(Disk, dir.path(), Some(plan), Millis(1))?;
    spool.journal.set_durability(Durability::Os);
    let uploads = uploads(8, 0.7)?;
    for (number, upload) in (0..times).zip(uploads.iter().cycle()) {
        let (tenant, agent) = (Some("tenant-00003"), Some("agent-000017"));
        spool.journal.push(Millis(2 + number), tenant, agent, 24, &upload.lines);
        spool.journal.commit()?;
    }
    Ok(())
}

fn batch_rows(times: u64) -> Result<(), Failure> {
    encode(BatchEncoder::new(Compression::Lz4)?, times)
}

fn batch_shapes(times: u64) -> Result<(), Failure> {
    encode(BatchEncoder::shapes(Compression::Lz4, SAME.map(str::to_owned).to_vec()), times)
}

fn encode(mut encoder: BatchEncoder, times: u64) -> Result<(), Failure> {
    let uploads = uploads(8, 0.7)?;
    let records: Vec<&[u8]> =
        uploads.iter().flat_map(|upload| upload.lines.split_inclusive(|byte| *byte == b'\n')).collect();
    let origin = weir_batch::row::Origin { tenant: Some("tenant-00003"), agent: Some("agent-000017") };
    let mut row = Vec::new();
    for record in records.iter().cycle().take(usize::try_from(times)?) {
        row.clear();
        weir_batch::row::write_event(&mut row, origin, 1_700_000_000_000, record.trim_ascii_end());
        encoder.push(&row)?;
    }
    black_box(encoder.finish()?);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_operation_runs() {
        for operation in OPERATIONS {
            if let Err(error) = (operation.run)(120) {
                panic!("{}: {error}", operation.name);
            }
        }
    }

    #[test]
    fn the_baseline_names_the_operations_that_there_are() {
        let stored: std::collections::BTreeMap<String, u64> =
            serde_json::from_str(include_str!("../../instructions.json")).unwrap();
        let mut names: Vec<&str> = OPERATIONS.iter().map(|operation| operation.name).collect();
        names.sort_unstable();
        assert_eq!(stored.keys().collect::<Vec<_>>(), names);
    }
}
