//! A spool's life, then damage, then a start. Each pair of bytes is a step: an upload, a commit, a seal, a flush, a
//! batch delivered, buried, halved, divided or searched for a bad row, a restart, or, last, bytes changed or cut off in
//! some file. Undamaged, every record is in exactly one place; damaged, the start ends and nothing is found damaged
//! twice.

#![no_main]

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU64;
use std::path::Path;

use libfuzzer_sys::fuzz_target;
use weir_batch::{PartialAnswer, Refused};
use weir_fuzz::Memory;
use weir_logic::Millis;
use weir_logic::merge::{Eviction, Load, MergePlan, ShardWindow};
use weir_spool::{EndReason, Plan, Recovered, recover};

const ROOT: &str = "/spool";
const START: u64 = 1_700_000_000_000;

fuzz_target!(|input: &[u8]| {
    let files = Memory::default();
    let mut life = Life { spool: open(&files, START), files, now: START, pushed: 0, accepted: 0 };
    let mut steps = input.chunks_exact(2).take(200);
    for step in steps.by_ref() {
        if step[0] == b'!' {
            break;
        }
        life.step(step[0], step[1]);
    }
    life.seal();
    let undamaged = life.restart();
    assert_eq!(undamaged.accounted(), undamaged.accepted, "records are lost or doubled");
    let mut damaged = false;
    for step in steps {
        let (place, byte) = (usize::from(step[0]), step[1]);
        undamaged.files.damage(place, |content| {
            damaged = true;
            match content.len() {
                0 => content.push(byte),
                length if byte.is_multiple_of(4) => content.truncate(length * usize::from(byte) / 256),
                length => content[(usize::from(byte) * 31 + place) % length] ^= 1 << (byte >> 5),
            }
        });
    }
    if damaged {
        let Life { files, now, .. } = undamaged;
        let Ok(mut first) = recover(files.clone(), Path::new(ROOT), Some(plan()), Millis(now)) else { return };
        first.catch_up().expect("nothing fails");
        let left = (first.outbox.balance(), first.outbox.waiting());
        drop(first);
        let second = open(&files, now);
        assert_eq!((second.outbox.balance(), second.outbox.waiting()), left, "two starts see two spools");
        let report = second.follower.report();
        assert_eq!((report.damaged_files, report.torn_bytes), (0, 0), "damage is found twice");
    }
});

struct Life {
    files: Memory,
    spool: Recovered<Memory>,
    now: u64,
    pushed: u64,
    accepted: u64,
}

fn open(files: &Memory, now: u64) -> Recovered<Memory> {
    let mut spool = recover(files.clone(), Path::new(ROOT), Some(plan()), Millis(now)).expect("the files are in order");
    spool.catch_up().expect("nothing fails");
    assert_eq!(spool.journal.meters().imbalance(), 0, "records went astray");
    spool
}

impl Life {
    fn step(&mut self, what: u8, how: u8) {
        match what % 10 {
            0..3 => self.push(how),
            3 => {
                self.spool.journal.push_losses(Millis(self.now));
                self.commit();
            }
            4 => self.seal(),
            5 => self.now += u64::from(how) * 1000,
            6 => self.flush(how),
            7 => self.leave(how),
            8 => {
                // A plan that changes nothing on disk leaves what was pushed to the next commit.
                self.commit();
                let plan = Plan { max_batch_rows: 1 + u64::from(how % 4), ..plan() };
                self.spool.journal.replan(Millis(self.now), plan).expect("nothing fails");
                self.committed();
            }
            _ => {
                self.pushed = 0;
                self.spool = open(&self.files, self.now);
            }
        }
    }

    fn push(&mut self, how: u8) {
        let records = 1 + how % 3;
        let lines: String =
            (0..records).map(|number| format!("{{\"image\":\"{}\",\"pid\":{number}}}\n", how >> 5)).collect();
        let agent = format!("a-{}", how >> 2 & 3);
        let tenant = (how & 0x10 == 0).then_some("t");
        self.spool.journal.push(Millis(self.now), tenant, Some(&agent), u32::from(records), lines.as_bytes());
        self.pushed += u64::from(records);
    }

    fn seal(&mut self) {
        self.spool.journal.seal(Millis(self.now), EndReason::Age).expect("nothing fails");
        self.committed();
    }

    fn flush(&mut self, how: u8) {
        let mut evictions = self.spool.emitter.overfull();
        evictions.push(match how % 4 {
            0 => Eviction::Tenant((how >= 128).then(|| "t".to_owned())),
            _ => Eviction::Window(ShardWindow { shard: how, window: self.now / 60_000 }),
        });
        for eviction in evictions {
            self.spool.journal.push_flush(Millis(self.now), eviction);
        }
    }

    fn commit(&mut self) {
        self.spool.journal.commit().expect("nothing fails");
        self.committed();
    }

    fn committed(&mut self) {
        self.accepted += std::mem::take(&mut self.pushed);
        self.spool.catch_up().expect("nothing fails");
        assert_eq!(self.spool.journal.meters().imbalance(), 0, "records went astray");
    }

    fn leave(&mut self, how: u8) {
        let waiting = self.spool.outbox.waiting();
        let Some(batch) = waiting.get(usize::from(how / 6) % waiting.len().max(1)) else { return };
        let refusal = || Refused::whole(422, "no");
        match how % 8 {
            6 => {
                self.spool.outbox.expire(Millis(batch.meta.sealed_at + 1)).expect("nothing fails");
                return;
            }
            7 => {
                self.spool.outbox.drop_dead(1, u64::MAX).expect("nothing fails");
                return;
            }
            0 | 1 => self.spool.outbox.deliver(batch),
            2 => self.spool.outbox.bury(batch, refusal()),
            3 => self.spool.outbox.isolate(batch, refusal()).map(drop),
            4 => self.spool.outbox.halve(batch).map(drop),
            _ => {
                let rows = self.spool.outbox.parcel(batch).expect("it can be read").meta.counts.rows;
                let some = |shift: u8| -> BTreeSet<u64> {
                    (0..rows).filter(|row| how >> (shift + *row as u8 % 4) & 1 == 1).collect()
                };
                let rejected: BTreeMap<u64, String> = some(4).into_iter().map(|row| (row, "no".to_owned())).collect();
                let retry = some(2).into_iter().filter(|row| !rejected.contains_key(row)).collect();
                self.spool.outbox.divide(batch, 207, &PartialAnswer { rejected, retry }).map(drop)
            }
        }
        .expect("nothing fails");
    }

    fn restart(mut self) -> Self {
        self.spool = open(&self.files, self.now);
        let report = self.spool.follower.report();
        assert_eq!((report.damaged_entries, report.damaged_files, report.torn_bytes), (0, 0, 0));
        // Windows that are still open end.
        self.now += 200_000;
        self.seal();
        self
    }

    /// Records in the outbox and past it; the journal holds none any more.
    fn accounted(&self) -> u64 {
        let (content, ledger) = self.spool.outbox.balance();
        content.counts.records + ledger.delivered.records + ledger.buried.records + ledger.expired.records
    }
}

fn plan() -> Plan {
    let merge = MergePlan {
        same: vec!["image".to_owned()],
        exemplars: vec!["pid".to_owned()],
        max_exemplars: 2,
        window_ms: NonZeroU64::new(60_000).expect("not zero"),
        max: Load { keys: 6, bytes: 1 << 20 },
        max_tenant: Load { keys: 4, bytes: 1 << 20 },
    };
    Plan {
        edge: "edge".to_owned(),
        stream: "process".to_owned(),
        core: "core".to_owned(),
        path: "/v1".to_owned(),
        mode: weir_spool::PlanMode::Events(merge),
        max_batch_bytes: 600,
        max_batch_rows: 5,
        lanes: 2,
        compression: weir_batch::Compression::Lz4,
        format: weir_batch::Format::Shapes,
    }
}
