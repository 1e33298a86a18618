//! What merging costs: nanoseconds a record by how many are repeats, and what a flood of distinct keys holds.
//!
//! `cargo bench -p weir-spool --bench merge [-- KEYS]`; KEYS are the flood's, 10,000,000 by default.

use std::num::NonZeroU64;
use std::time::Duration;

use weir_logic::Millis;
use weir_logic::merge::{Applied, Load, MergePlan, Merger, Origin};

const START: u64 = 1_700_000_000_000;
const AGENTS: u64 = 20_000;

fn main() {
    // First: what a process has given back it does not take again.
    let keys = std::env::args().skip(1).find_map(|argument| argument.parse().ok());
    flood(keys.unwrap_or(10_000_000));
    for (name, distinct_percent) in [("repeats only", 0), ("30 % new", 30), ("new only", 100)] {
        let ns = speed(distinct_percent);
        println!("{name:<14} {ns:>6.0} ns of processor time a record");
    }
}

/// Distinct keys in a minute, in groups of 10,000, from 20,000 agents, under the bounds of a node's default.
fn flood(keys: u64) {
    const GROUP: u64 = 10_000;
    let mut merger = Merger::new(plan());
    let before = resident();
    let (mut most, mut most_resident, mut firsts, mut early) = (Load::default(), 0, 0, 0);
    let mut record = Vec::new();
    for group in 0..keys / GROUP {
        assert_eq!(merger.advance(Millis(START + group * GROUP * 60_000 / keys)).count(), 0, "nothing repeats");
        for number in group * GROUP..(group + 1) * GROUP {
            write_record(&mut record, number, number % 1000);
            let names = names(number % AGENTS);
            firsts += u64::from(merger.apply(&origin(&names), &record) == Applied::First);
        }
        let load = merger.load();
        most = Load { keys: most.keys.max(load.keys), bytes: most.bytes.max(load.bytes) };
        most_resident = most_resident.max(resident().saturating_sub(before));
        for eviction in merger.overfull() {
            early += 1;
            assert_eq!(merger.evict(&eviction).count(), 0, "nothing repeats");
        }
    }
    assert_eq!(firsts, keys / GROUP * GROUP);
    let mib = |bytes: u64| bytes >> 20;
    println!(
        "flood of {firsts} keys: at most {} keys and {} MiB counted ({} MiB allowed), {} MiB more resident, {early} left early",
        most.keys,
        mib(most.bytes),
        mib(plan().max.bytes),
        mib(most_resident),
    );
}

/// Resident memory of this process in bytes.
fn resident() -> u64 {
    let text = std::fs::read_to_string("/proc/self/statm").expect("a Linux machine");
    let pages: u64 = text.split(' ').nth(1).and_then(|pages| pages.parse().ok()).expect("a number");
    pages * 4096
}

/// Processor time, which other programs on the machine do not lengthen.
fn processor_time() -> Duration {
    let text = std::fs::read_to_string("/proc/self/schedstat").expect("a Linux machine");
    let nanos = text.split(' ').next().and_then(|nanos| nanos.parse().ok()).expect("a number");
    Duration::from_nanos(nanos)
}

fn speed(distinct_percent: u64) -> f64 {
    let mut merger = Merger::new(plan());
    assert_eq!(merger.advance(Millis(START)).count(), 0);
    let mut record = Vec::new();
    for agent in 0..AGENTS {
        let names = names(agent);
        let origin = origin(&names);
        for process in 0..10 {
            write_record(&mut record, process, 0);
            let _applied = merger.apply(&origin, &record);
        }
    }
    let mut taken = Duration::ZERO;
    let mut records = 0;
    for upload in 0..40_000u64 {
        let agent = upload * 7919 % AGENTS;
        let lines: Vec<Vec<u8>> = (0..24)
            .map(|number| {
                let mut record = Vec::new();
                let fresh = (upload * 24 + number) * 37 % 100 < distinct_percent;
                let process = if fresh { 1_000_000 + upload * 24 + number } else { number % 10 };
                write_record(&mut record, process, number);
                record
            })
            .collect();
        let names = names(agent);
        let started = processor_time();
        let origin = origin(&names);
        for line in &lines {
            let _applied = merger.apply(&origin, line);
        }
        taken += processor_time() - started;
        records += lines.len();
    }
    let started = processor_time();
    let left = merger.flush_all().map(|repeat| repeat.count).sum::<u64>();
    taken += processor_time() - started;
    assert_eq!(merger.counted(), 0);
    std::hint::black_box(left);
    taken.as_nanos() as f64 / records as f64
}

fn plan() -> MergePlan {
    MergePlan {
        same: ["image_path", "cmdline", "sha256", "user", "parent_image", "parent_cmdline"].map(str::to_owned).to_vec(),
        exemplars: ["pid", "ppid", "ts"].map(str::to_owned).to_vec(),
        max_exemplars: 3,
        window_ms: NonZeroU64::new(60_000).expect("it is not zero"),
        max: Load { keys: 2_000_000, bytes: 256 << 20 },
        max_tenant: Load { keys: 500_000, bytes: 64 << 20 },
    }
}

fn names(agent: u64) -> (String, String) {
    (format!("tenant-{}", agent / 17), format!("agent-{agent:08}"))
}

fn origin((tenant, agent): &(String, String)) -> Origin<'_> {
    Origin::new(Some(tenant), Some(agent))
}

/// About 400 bytes.
fn write_record(record: &mut Vec<u8>, process: u64, pid: u64) {
    use std::io::Write;
    record.clear();
    write!(
        record,
        r#"{{"ts":"2026-11-01T08:00:00.{pid:03}Z","pid":{pid},"ppid":{process},"image_path":"C:\\Program Files\\Vendor\\App {process}\\bin\\service-host.exe","cmdline":"\"C:\\Program Files\\Vendor\\App {process}\\bin\\service-host.exe\" --run --profile default --tick 1000","sha256":"{process:064x}","user":"CORP\\user","parent_image":"C:\\Windows\\explorer.exe","parent_cmdline":"C:\\Windows\\explorer.exe /factory,{process}"}}"#
    )
    .expect("memory can be written");
}
