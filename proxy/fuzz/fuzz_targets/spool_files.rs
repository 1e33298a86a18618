//! A spool's files as a start may find them: notes, a segment and a batch whose checksums are right and whose content is
//! anyone's. Four sections: notes, one a line; the segment's plan; its entries, a line each, or anything; the name of one
//! more file, and below it the meta and the payload of a batch that is in it. The start ends, whatever then waits can be
//! read, and a second start finds in order what the first has left.
//!
//! Numbers and times of notes and batches stay within what this program can have written: a checksum vouches for those.
//! A segment's may be any.

#![no_main]

use std::path::{Path, PathBuf};

use libfuzzer_sys::fuzz_target;
use serde_json::Value;
use weir_batch::BatchFile;
use weir_fuzz::{Memory, batch_file};
use weir_logic::Millis;
use weir_spool::{Plan, Recovered, SpoolError, recover};

const ROOT: &str = "/spool";
const NOW: Millis = Millis(1_700_000_100_000);
const GENERATION: u64 = 1_700_000_000_000;

fuzz_target!(|input: &[u8]| {
    let [notes, plan, entries, more] = four(input);
    let files = Memory::default();
    files.put(Path::new(ROOT).join("progress"), notes_file(notes));
    let segment = Path::new(ROOT).join(format!("journal/{GENERATION:020}.segment"));
    files.put(segment, segment_file(plan, entries));
    if let Some((path, content)) = one_more(more) {
        files.put(path, content);
    }
    let first = match recover(files.clone(), Path::new(ROOT), None, NOW) {
        Ok(mut first) => {
            first.catch_up().expect("nothing fails");
            first
        }
        // Notes that are none with right checksums are a later version's.
        Err(SpoolError::NoPlan { .. } | SpoolError::Later { .. }) => return,
        Err(error) => panic!("a start fails: {error}"),
    };
    let left = seen(&first);
    drop(first);
    let mut second = recover(files.clone(), Path::new(ROOT), None, NOW).unwrap_or_else(|error| match error {
        // Nothing of the first start is lost: the segment may have been all there was, and have gone.
        SpoolError::NoPlan { .. } => {
            recover(files, Path::new(ROOT), Some(some_plan()), NOW).expect("a start with a plan")
        }
        error => panic!("a second start fails: {error}"),
    });
    second.catch_up().expect("nothing fails");
    assert_eq!(second.follower.report().damaged_files, 0, "damage is found twice");
    assert_eq!(second.follower.report().torn_bytes, 0, "a torn write is found twice");
    assert_eq!(seen(&second), left);
});

/// What an operator sees of the outbox, and that the merging adds up.
fn seen(spool: &Recovered<Memory>) -> String {
    assert_eq!(spool.journal.meters().imbalance(), 0, "records went astray");
    let waiting = spool.outbox.waiting();
    assert_eq!(waiting.iter().map(|batch| batch.bytes).sum::<u64>(), spool.outbox.bytes());
    for batch in &waiting {
        let bytes = spool.outbox.load(batch).expect("what waits is there");
        assert_eq!(BatchFile::decode(&bytes).expect("its checksums are right").meta, batch.meta);
    }
    format!("{:?} {waiting:?}", spool.outbox.balance())
}

fn four(input: &[u8]) -> [&[u8]; 4] {
    const CUT: &[u8] = b"\n---\n";
    let mut rest = input;
    let mut next = || match rest.windows(CUT.len()).position(|bytes| bytes == CUT) {
        Some(at) => {
            let part = &rest[..at];
            rest = &rest[at + CUT.len()..];
            part
        }
        None => std::mem::take(&mut rest),
    };
    [next(), next(), next(), next()]
}

/// A file in the journal or the outbox under any name, with a batch in it.
fn one_more(input: &[u8]) -> Option<(PathBuf, Vec<u8>)> {
    let end = input.iter().position(|byte| *byte == b'\n')?;
    let (name, batch) = (std::str::from_utf8(&input[..end]).ok()?, &input[end + 1..]);
    let meta = batch.split(|byte| *byte == b'\n').next().unwrap_or_default();
    let plausible = serde_json::from_slice::<Value>(meta).is_ok_and(|meta| is_plausible(&meta));
    let (dir, name) = name.split_once('/')?;
    let named = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-._".contains(&byte));
    let known = matches!(dir, "journal" | "outbox" | "dead");
    (plausible && named && known).then(|| (Path::new(ROOT).join(dir).join(name), batch_file(batch)))
}

/// Notes with their checksums; a line that is no JSON stays as it is, damage.
fn notes_file(notes: &[u8]) -> Vec<u8> {
    let mut file = Vec::new();
    for line in notes.split(|byte| *byte == b'\n') {
        match serde_json::from_slice::<Value>(line) {
            Ok(note) if is_plausible(&note) => {
                file.extend_from_slice(format!("{:08x} ", crc32fast::hash(line)).as_bytes());
            }
            Ok(_) => continue,
            Err(_) => {}
        }
        file.extend_from_slice(line);
        file.push(b'\n');
    }
    file
}

fn is_plausible(value: &Value) -> bool {
    match value {
        Value::Number(number) => number.as_u64().is_some_and(|number| number < 1 << 48),
        Value::Array(values) => values.iter().all(is_plausible),
        Value::Object(members) => members.values().all(is_plausible),
        Value::Null | Value::Bool(_) | Value::String(_) => true,
    }
}

/// A segment under the plan, if it is one, with an entry for each line: its first byte is the kind.
fn segment_file(plan: &[u8], entries: &[u8]) -> Vec<u8> {
    let plan = match serde_json::from_slice::<Plan>(plan) {
        Ok(mut plan) => {
            // The configuration sees to names that a batch's id can hold.
            (plan.edge, plan.stream) = ("e".to_owned(), "s".to_owned());
            serde_json::to_vec(&plan).expect("a plan is JSON")
        }
        Err(_) => plan.to_vec(),
    };
    let mut file = b"WEIRSEG\0\x01\0\0\0".to_vec();
    file.extend_from_slice(&GENERATION.to_le_bytes());
    file.extend_from_slice(&u32::try_from(plan.len()).expect("inputs are short").to_le_bytes());
    file.extend_from_slice(&plan);
    file.extend_from_slice(&crc32fast::hash(&file).to_le_bytes());
    for line in entries.split_inclusive(|byte| *byte == b'\n') {
        match line.split_first() {
            Some((b'!', garbage)) => file.extend_from_slice(garbage),
            Some((kind, body)) => entry(&mut file, kind % 7, body),
            None => {}
        }
    }
    file
}

/// An entry whose first body byte is a delay after the generation began, in seconds.
fn entry(file: &mut Vec<u8>, kind: u8, body: &[u8]) {
    let (delay, rest) = body.split_first().unwrap_or((&0, &[]));
    // The last two delays lead to the end of time.
    let time = match *delay {
        254.. => u64::MAX - u64::from(255 - *delay),
        delay => GENERATION + u64::from(delay) * 1000,
    };
    let body = [&time.to_le_bytes(), rest].concat();
    let mut head = u32::try_from(body.len()).expect("inputs are short").to_le_bytes().to_vec();
    head.extend_from_slice(&[kind, 0, 0, 0]);
    head.extend_from_slice(&crc32fast::hash(&head).to_le_bytes());
    head.extend_from_slice(&crc32fast::hash(&body).to_le_bytes());
    file.extend_from_slice(&head);
    file.extend_from_slice(&body);
}

fn some_plan() -> Plan {
    serde_json::from_str(
        r#"{"edge":"e","stream":"s","core":"c","path":"/","mode":"raw","max_batch_bytes":1,"max_batch_rows":1,"lanes":1,"compression":"lz4"}"#,
    )
    .expect("a plan")
}
