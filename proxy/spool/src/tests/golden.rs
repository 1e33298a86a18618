//! The files of a spool, held to such that were written once: they decode for ever.
//!
//! A file that this version cannot write byte for byte belongs to an earlier one, and only has to decode. One that is
//! missing is written when `WEIR_BLESS` is set.

use std::path::PathBuf;

use weir_batch::Counts;
use weir_logic::merge::{Eviction, ShardWindow};
use weir_logic::state::StatePlan;

use super::*;
use crate::ledger::Mark;
use crate::losses::Book;
use crate::progress::{self, Note, Standing};
use crate::segment;
use crate::tables::Place;
use crate::tape::{Found, Tape};
use crate::trial::Trial;

const AT: Millis = Millis(1_700_000_000_123);

/// A golden file; made of `content` when it is missing and that is wanted.
fn golden(name: &str, content: &[u8]) -> Vec<u8> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("golden").join(name);
    if !path.exists() && std::env::var_os("WEIR_BLESS").is_some() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, content).unwrap();
    }
    std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn read_segment(bytes: &[u8]) -> (u64, Plan, Vec<Entry>) {
    let (files, path) = (Memory::default(), Path::new("/segment"));
    files.create(path).unwrap().append(bytes).unwrap();
    let mut tape = Tape::open(files, path.to_owned()).unwrap().unwrap();
    let mut entries = Vec::new();
    loop {
        match tape.read(bytes.len() as u64).unwrap() {
            Found::Entry(entry) => entries.push(entry),
            Found::Damage => panic!("damage after {entries:?}"),
            Found::Nothing => return (tape.generation(), Plan::clone(tape.plan()), entries),
        }
    }
}

fn upload(tenant: Option<&str>, agent: Option<&str>, lines: &'static [u8]) -> Entry {
    let [tenant, agent] = [tenant, agent].map(|name| name.map(str::to_owned));
    let records = u32::try_from(lines.iter().filter(|byte| **byte == b'\n').count()).unwrap();
    Entry::Upload(Upload { time: AT, tenant, agent, records, lines: Bytes::from_static(lines) })
}

/// Every kind of entry.
fn entries() -> Vec<Entry> {
    let flush = |which| Entry::Flush { time: AT, which };
    let loss = |reason| {
        let lost = Lost { records: 7, parts: 1 };
        Entry::Loss(Loss { reason, lost, total: 12, since: AT.0 - 9, until: AT.0 })
    };
    let mut entries = vec![
        upload(Some("t-1"), Some("a-1"), b"{\"image\":\"a\"}\n{\"image\":\"b\",\"pid\":7}\n"),
        upload(None, None, b"{}\n"),
        upload(Some(""), Some("\u{e4}"), b"[1]\n"),
        flush(Eviction::Window(ShardWindow { shard: 63, window: 1_700_000 })),
        flush(Eviction::Tenant(Some("t-1".to_owned()))),
        flush(Eviction::Tenant(None)),
        Entry::FlushAll { time: AT },
    ];
    entries.extend(LossReason::ALL.map(loss));
    entries.push(Entry::End { time: AT, reason: EndReason::Age });
    entries
}

fn golden_entries() -> Vec<u8> {
    let mut written = segment::encode_head(1_700_000_000_000, &plan());
    entries().iter().for_each(|entry| entry.encode(&mut written));
    golden("entries-1.segment", &written)
}

/// Which kind it is: a new one does not compile here, and belongs into [`entries`] and a golden file.
fn kind(entry: &Entry) -> usize {
    match entry {
        Entry::Upload(_) => 0,
        Entry::Flush { .. } => 1,
        Entry::FlushAll { .. } => 2,
        Entry::Loss(_) => 3,
        Entry::End { .. } => 4,
    }
}

fn state_plan() -> Plan {
    let mode = PlanMode::State(StatePlan {
        key: vec!["unit".to_owned()],
        window_ms: 1000,
        refresh_ms: 60_000,
        max_keys: 100,
        max_bytes: 1 << 20,
    });
    Plan { mode, format: Format::Rows, ..plan() }
}

#[test]
fn every_kind_of_entry_is_read_as_it_was_written() {
    let entries = entries();
    assert_eq!(entries.iter().map(kind).collect::<BTreeSet<_>>(), BTreeSet::from([0, 1, 2, 3, 4]));
    assert_eq!(read_segment(&golden_entries()), (1_700_000_000_000, plan(), entries));
}

#[test]
fn every_reason_to_close_a_generation_and_every_mode_is_read_as_it_was_written() {
    let reasons = [
        EndReason::Bytes,
        EndReason::Records,
        EndReason::Age,
        EndReason::Due,
        EndReason::Plan,
        EndReason::Stop,
        EndReason::Recovered,
        EndReason::Pressure,
        EndReason::Probe,
    ];
    for (name, plan) in [("raw-1.segment", Plan { mode: PlanMode::Raw, ..plan() }), ("state-1.segment", state_plan())] {
        let ends: Vec<Entry> = reasons.iter().map(|reason| Entry::End { time: AT, reason: *reason }).collect();
        let mut written = segment::encode_head(7, &plan);
        ends.iter().for_each(|entry| entry.encode(&mut written));
        assert_eq!(read_segment(&golden(name, &written)), (7, plan, ends));
    }
}

/// Every kind of note.
fn notes() -> Vec<Note> {
    let counts = Counts { rows: 3, records: 5, merged: 3, raw_bytes: 700 };
    let lost = Lost { records: 5, parts: 2 };
    let mark = Mark { generation: 9, sealed_at: AT.0 };
    let ledger = Ledger { accepted: 40, emitted: counts, buried: counts, damaged: lost, early: 1, ..Ledger::default() };
    let loss = Loss { reason: LossReason::Expired, lost, total: 5, since: AT.0 - 1, until: AT.0 };
    let place = Place { shard: 5, generation: 9, length: 1234 };
    let batch = || "00000000000000000009-000000".to_owned();
    let part = |suffix: &str| format!("{}.{suffix}", batch());
    let mut trial = Trial::new(counts);
    assert_eq!(trial.refuse(Refused::whole(422, "no")), None);
    trial.again.push(part("r"));
    let (trials, revived) = (BTreeMap::from([(batch(), trial.clone())]), BTreeSet::from([part("d")]));
    let damage = BTreeMap::from([("00000000000000000008.segment".to_owned(), 2)]);
    vec![
        Note::Sum { mark: Some(mark), ledger, told: Book::new(AT), damage, trials, tables: vec![place], revived },
        Note::Emitted { mark, accepted: 8, counts, early: 1, told: vec![loss], tables: vec![place] },
        Note::Delivered { batch: batch(), counts },
        Note::Buried { batch: batch(), counts },
        Note::Expired { batches: vec![batch(), part("0")], counts, untold: PerReason::default() },
        Note::Dropped { files: vec![part("0-2.batch")], lost },
        Note::Damaged { file: "00000000000000000008.segment".to_owned(), parts: 3, lost },
        Note::Missing { records: 4 },
        Note::Revived { letter: batch(), batch: part("d"), counts },
        Note::Halved { batch: batch() },
        Note::Tried { batch: batch(), trial, delivered: counts, buried: counts, dead: Some(part("0-1")) },
    ]
}

/// Which kind it is: a new one does not compile here, and belongs into [`notes`] and a golden file.
fn kind_of_note(note: &Note) -> usize {
    match note {
        Note::Sum { .. } => 0,
        Note::Emitted { .. } => 1,
        Note::Delivered { .. } => 2,
        Note::Buried { .. } => 3,
        Note::Expired { .. } => 4,
        Note::Dropped { .. } => 5,
        Note::Damaged { .. } => 6,
        Note::Missing { .. } => 7,
        Note::Revived { .. } => 8,
        Note::Halved { .. } => 9,
        Note::Tried { .. } => 10,
    }
}

#[test]
fn every_kind_of_note_is_read_as_it_was_written() {
    let notes = notes();
    assert_eq!(notes.iter().map(kind_of_note).collect::<Vec<_>>(), (0..=10).collect::<Vec<_>>());
    let bytes = golden("progress-1", &progress::encode_all(&notes));
    let text = String::from_utf8(bytes.clone()).unwrap();
    let read: Vec<Note> =
        text.lines().skip(1).map(|line| serde_json::from_str(line.split_once(' ').unwrap().1).unwrap()).collect();
    assert_eq!(read, notes);
    let standing = Standing::read(&bytes).unwrap();
    assert_eq!((standing.damaged, standing.mark.unwrap().generation), (0, 9));
}

/// A stream of states whose windows have ended: its tables, and the notes that name them.
#[test]
fn a_spool_with_tables_is_opened_as_it_was_left() {
    let (root, now) = (Path::new(ROOT), Millis(START + 3000));
    let names = ["tables-1.table", "tables-1.progress"];
    let files = Memory::default();
    let mut spool = recover(files.clone(), root, Some(state_plan()), Millis(START)).unwrap();
    spool.journal.push(Millis(START), None, Some("a-1"), 1, b"{\"unit\":\"x\",\"up\":1}\n");
    for now in [START + 1, START + 2000] {
        spool.journal.seal(Millis(now), EndReason::Due).unwrap();
        spool.catch_up().unwrap();
    }
    drop(spool);
    let tables = files.list(&root.join("tables")).unwrap();
    let [listed] = &tables[..] else { panic!("{tables:?}") };
    let table = root.join("tables").join(&listed.name);
    let written = [table.clone(), root.join("progress")].map(|path| files.read(&path, usize::MAX).unwrap());
    let [table_bytes, notes] = [0, 1].map(|file| golden(names[file], &written[file]));

    let files = Memory::default();
    for (path, bytes) in [(table.clone(), table_bytes), (root.join("progress"), notes)] {
        let mut file = files.create(&path).unwrap();
        file.append(&bytes).unwrap();
        file.sync().unwrap();
    }
    let reopen = || recover(files.clone(), root, None, now);
    let spool = reopen().unwrap();
    let damaged = spool.follower.report().damaged_files;
    assert_eq!((damaged, spool.journal.plan(), spool.emitter.load().keys), (0, &state_plan(), 1));
    drop(spool);
    for newer in [8, 10] {
        files.damage(&table, |bytes| bytes[newer] += 2);
        assert!(matches!(reopen(), Err(SpoolError::Newer { .. })));
        files.damage(&table, |bytes| bytes[newer] -= 2);
        assert!(reopen().is_ok(), "it was left alone");
    }
}

#[test]
fn a_segment_that_needs_what_this_version_does_not_know_is_refused() {
    let whole = golden_entries();
    for (at, what) in [(8, "a later version"), (10, "a feature")] {
        let files = Memory::default();
        let path = Path::new(ROOT).join("journal").join(segment::file_name(1_700_000_000_000));
        let mut file = files.create(&path).unwrap();
        let mut bytes = whole.clone();
        bytes[at] += 2;
        file.append(&bytes).unwrap();
        let refused = recover(files.clone(), Path::new(ROOT), Some(plan()), AT);
        assert!(matches!(refused, Err(SpoolError::Newer { .. })), "{what}");
        assert_eq!(files.read(&path, usize::MAX).unwrap(), bytes, "{what}");
    }
}

#[test]
fn a_batch_that_needs_what_this_version_does_not_know_is_refused() {
    let mut node = node_with(&[&[1]]);
    node.seal().unwrap();
    let [waiting] = node.spool.outbox.waiting().try_into().unwrap();
    let path = Path::new(ROOT).join("outbox").join(format!("{}.batch", waiting.name()));
    let magic = node.files.read(&path, 16).unwrap().iter().position(|byte| *byte == 0).unwrap() + 1;
    for (at, what) in [(magic, "a later version"), (magic + 2, "a feature")] {
        node.files.damage(&path, |bytes| bytes[at] += 2);
        let before = node.files.read(&path, usize::MAX).unwrap();
        let refused = recover(node.files.clone(), Path::new(ROOT), Some(plan()), AT);
        assert!(
            matches!(&refused, Err(SpoolError::Io { error, .. }) if error.to_string().contains("later version")),
            "{what}"
        );
        assert_eq!(node.files.read(&path, usize::MAX).unwrap(), before, "{what}");
        node.files.damage(&path, |bytes| bytes[at] -= 2);
    }
}
