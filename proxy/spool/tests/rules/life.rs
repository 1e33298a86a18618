//! A spool on disk, driven as a node drives it, and what a core would then hold.

use std::num::NonZeroU64;

use serde_json::Value;
use tempfile::TempDir;
use weir_batch::{Batch, Compression, Format};
use weir_logic::Millis;
use weir_logic::merge::{Load, MergePlan};
use weir_spool::{Disk, Durability, EndReason, Plan, PlanMode, Recovered, recover};

pub(crate) const SAME: [&str; 6] = ["image_path", "cmdline", "sha256", "user", "parent_image", "parent_cmdline"];
pub(crate) const START: u64 = 1_700_000_000_000;

/// An upload of one agent.
#[derive(Clone, Debug)]
pub(crate) struct Sent {
    pub(crate) tenant: Option<String>,
    pub(crate) agent: String,
    /// Records, each the text of a JSON object.
    pub(crate) records: Vec<String>,
}

/// What a node is told to do.
#[derive(Clone, Debug)]
pub(crate) enum Act {
    Upload(Sent),
    /// So many milliseconds pass.
    Wait(u64),
    Seal,
    Restart,
}

/// A row as the core takes it.
pub(crate) struct Row {
    pub(crate) tenant: Option<String>,
    pub(crate) agent: String,
    /// The record, or the key of repeats.
    pub(crate) fields: Value,
    /// Records that it stands for.
    pub(crate) count: u64,
    pub(crate) early: bool,
}

/// Merging on these fields with room for so many keys.
pub(crate) fn plan(same: &[&str], keys: usize) -> Plan {
    let merge = MergePlan {
        same: same.iter().map(|field| (*field).to_owned()).collect(),
        exemplars: vec!["pid".to_owned(), "ts".to_owned()],
        max_exemplars: 3,
        window_ms: NonZeroU64::new(60_000).expect("it is not zero"),
        max: Load { keys, bytes: 1 << 30 },
        max_tenant: Load { keys: keys.div_ceil(2), bytes: 1 << 30 },
    };
    Plan {
        edge: "edge-1".to_owned(),
        stream: "process".to_owned(),
        core: "core".to_owned(),
        path: "/v1/batches/process".to_owned(),
        mode: PlanMode::Events(merge),
        max_batch_bytes: 64 << 10,
        max_batch_rows: 100,
        lanes: 2,
        compression: Compression::Lz4,
        format: Format::Rows,
    }
}

/// What the core holds after all of it, when every batch has arrived once.
pub(crate) fn live(plan: &Plan, acts: &[Act]) -> Vec<Row> {
    let dir = tempfile::tempdir().expect("a directory");
    let mut life = Life { spool: open(&dir, plan, START), dir, plan, now: START };
    for act in acts {
        life.act(act);
    }
    life.seal();
    life.now += 120_000;
    life.seal();
    assert_eq!((life.spool.emitter.load(), life.spool.journal.meters().imbalance()), (Load::default(), 0));
    let batches = life.spool.outbox.waiting();
    let rows = batches.iter().map(|waiting| {
        let file = life.spool.outbox.load(waiting).expect("what waits is there");
        Batch::open(&file).expect("a batch").rows(1 << 28).expect("its rows").into_owned()
    });
    rows.flat_map(|rows| {
        rows.split(|byte| *byte == b'\n').filter(|row| !row.is_empty()).filter_map(read).collect::<Vec<_>>()
    })
    .collect()
}

struct Life<'p> {
    spool: Recovered<Disk>,
    dir: TempDir,
    plan: &'p Plan,
    now: u64,
}

fn open(dir: &TempDir, plan: &Plan, now: u64) -> Recovered<Disk> {
    let mut spool = recover(Disk, dir.path(), Some(plan.clone()), Millis(now)).expect("a spool");
    spool.journal.set_durability(Durability::Os);
    spool
}

impl Life<'_> {
    fn act(&mut self, act: &Act) {
        match act {
            Act::Upload(sent) => {
                for eviction in self.spool.emitter.overfull() {
                    self.spool.journal.push_flush(Millis(self.now), eviction);
                }
                let records = u32::try_from(sent.records.len()).expect("a few");
                let lines: String = sent.records.iter().map(|record| format!("{record}\n")).collect();
                let (tenant, agent) = (sent.tenant.as_deref(), Some(sent.agent.as_str()));
                self.spool.journal.push(Millis(self.now), tenant, agent, records, lines.as_bytes());
                self.spool.journal.commit().expect("the disk is well");
                self.spool.catch_up().expect("the disk is well");
            }
            Act::Wait(time) => self.now += time,
            Act::Seal => self.seal(),
            Act::Restart => {
                self.spool = open(&self.dir, self.plan, self.now);
            }
        }
    }

    fn seal(&mut self) {
        self.spool.journal.seal(Millis(self.now), EndReason::Age).expect("the disk is well");
        self.spool.catch_up().expect("the disk is well");
    }
}

/// `None` for a row that stands for no record.
fn read(row: &[u8]) -> Option<Row> {
    let mut row: Value = serde_json::from_slice(row).expect("a row is JSON");
    let (fields, count) = match row["kind"].as_str() {
        Some("event") => (row["record"].take(), 1),
        Some("repeat") => (row["key"].take(), row["count"].as_u64().expect("a repeat has a count")),
        Some("loss") => return None,
        other => panic!("a row of kind {other:?}"),
    };
    Some(Row {
        tenant: row["tenant"].as_str().map(str::to_owned),
        agent: row["agent"].as_str().expect("all agents have names").to_owned(),
        fields,
        count,
        early: row["early"] == true,
    })
}
