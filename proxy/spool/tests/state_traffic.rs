//! What the core is spared by sending states only when they have changed: bytes of batches before and after, of a fleet that
//! reports every hour and changes one state in a hundred a day. Time is virtual, journal, tables and batches are real.
//! `cargo test -p weir-spool --test state_traffic -- --nocapture` prints the figures.

#![expect(clippy::unwrap_used, reason = "a test has no better use for an error")]
#![expect(clippy::print_stdout, reason = "the figures are what it is for")]

use weir_batch::{Compression, Format};
use weir_logic::Millis;
use weir_logic::state::StatePlan;
use weir_spool::{Disk, EndReason, Plan, PlanMode, Recovered, recover};

const AGENTS: u64 = 400;
const DAYS: u64 = 3;
const HOUR: u64 = 3_600_000;
const START: u64 = 1_700_000_000_000;

struct Traffic {
    records: u64,
    rows: u64,
    bytes: u64,
}

/// Runs the fleet for a few days and adds up what would go to the core.
fn traffic(mode: PlanMode) -> Traffic {
    let directory = tempfile::tempdir().unwrap();
    let plan = Plan {
        edge: "edge-1".to_owned(),
        stream: "inventory".to_owned(),
        core: "core".to_owned(),
        path: "/v1/batches/inventory".to_owned(),
        mode,
        max_batch_bytes: 4 << 20,
        max_batch_rows: 50_000,
        compression: Compression::Lz4,
        format: Format::Rows,
        lanes: 1,
    };
    let mut spool = recover(Disk, directory.path(), Some(plan), Millis(START)).unwrap();
    for hour in 0..DAYS * 24 {
        let now = START + hour * HOUR;
        for agent in 0..AGENTS {
            let record = record(agent, hour / 24) + "\n";
            let (tenant, name) = (format!("t-{}", agent / 20), format!("a-{agent}"));
            spool.journal.push(Millis(now), Some(&tenant), Some(&name), 1, record.as_bytes());
        }
        spool.journal.commit().unwrap();
        spool.catch_up().unwrap();
        close(&mut spool, now);
    }
    close(&mut spool, START + DAYS * 24 * HOUR);
    let content = spool.outbox.balance().0;
    Traffic { records: content.counts.records, rows: content.counts.rows, bytes: content.bytes }
}

fn close(spool: &mut Recovered<Disk>, now: u64) {
    spool.journal.seal(Millis(now), EndReason::Age).unwrap();
    spool.catch_up().unwrap();
}

/// An agent's software, some 1.5 KB; one agent in a hundred gets an update each day.
fn record(agent: u64, day: u64) -> String {
    let updates = (0..=day).filter(|day| (agent + day * 37).is_multiple_of(100)).count();
    let package = |index: u64| {
        let hash = (agent * 1000 + index).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        format!(r#"{{"name":"package-{index}","version":"1.{}.{}","hash":"{hash:016x}"}}"#, hash % 20, updates)
    };
    let packages: Vec<String> = (0..24).map(package).collect();
    format!(r#"{{"os":"windows 11","packages":[{}]}}"#, packages.join(","))
}

#[test]
fn a_fleet_that_changes_one_state_in_a_hundred_a_day_costs_the_core_a_twentieth() {
    let state = |refresh_days: u64| {
        PlanMode::State(StatePlan {
            key: Vec::new(),
            window_ms: 60_000,
            refresh_ms: refresh_days * 24 * HOUR,
            max_keys: 100_000,
            max_bytes: 1 << 30,
        })
    };
    let raw = traffic(PlanMode::Raw);
    println!("{AGENTS} agents, a report an hour for {DAYS} days, 1 % changed a day; LZ4 batches to the core:");
    println!("  raw:                {:>9} bytes in {:>6} rows", raw.bytes, raw.rows);
    for (refresh_days, least) in [(1, 20), (7, 50)] {
        let sent = traffic(state(refresh_days));
        let ratio = raw.bytes as f64 / sent.bytes as f64;
        println!("  state, refresh {refresh_days}d:  {:>9} bytes in {:>6} rows: 1/{ratio:.0}", sent.bytes, sent.rows);
        assert!(raw.bytes > least * sent.bytes, "only {ratio:.1}");
        assert!(sent.records <= raw.records && sent.rows >= AGENTS);
    }
}
