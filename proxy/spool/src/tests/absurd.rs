//! Segments whose checksums are right and whose numbers are absurd: a start ends, panics nowhere and loses no record.

use super::*;
use crate::segment;

const GENERATION: u64 = START - 1_000_000;

/// Numbers of which many are at an end of what there is.
fn number() -> impl Strategy<Value = u64> {
    prop_oneof![0..3u64, any::<u64>(), (0..3u64).prop_map(|less| u64::MAX - less), START..START + 5 * WINDOW]
}

fn absurd_plan() -> impl Strategy<Value = Plan> {
    let size = || number().prop_map(|number| usize::try_from(number).unwrap_or(usize::MAX));
    let load = || (size(), number()).prop_map(|(keys, bytes)| Load { keys, bytes });
    let merge = (number(), size(), load(), load()).prop_map(|(window, max_exemplars, max, max_tenant)| {
        let window_ms = NonZeroU64::new(window).unwrap_or(NonZeroU64::MIN);
        MergePlan { window_ms, max_exemplars, max, max_tenant, ..merge_plan(WINDOW) }
    });
    (merge, number(), number()).prop_map(|(merge, max_batch_bytes, max_batch_rows)| Plan {
        mode: PlanMode::Events(merge),
        max_batch_bytes,
        max_batch_rows,
        ..plan()
    })
}

fn absurd_entry() -> impl Strategy<Value = Entry> {
    let upload = (number(), 0..3u8, proptest::collection::vec(0..3u8, 0..4), any::<u32>());
    prop_oneof![
        4 => upload.prop_map(|(time, name, images, records)| {
            let lines: String = images.iter().map(|image| format!("{{\"image\":\"{image}\"}}\n")).collect();
            let agent = Some("a".to_owned());
            Entry::Upload(Upload { time: Millis(time), tenant: tenant(name), agent, records, lines: lines.into() })
        }),
        1 => (number(), any::<u8>(), number()).prop_map(|(time, shard, window)| {
            Entry::Flush { time: Millis(time), which: Eviction::Window(ShardWindow { shard, window }) }
        }),
        1 => (number(), 0..4u8).prop_map(|(time, name)| {
            Entry::Flush { time: Millis(time), which: Eviction::Tenant(tenant(name)) }
        }),
        1 => number().prop_map(|time| Entry::FlushAll { time: Millis(time) }),
    ]
}

fn files_with(head: &[u8], entries: &[Entry]) -> Memory {
    let files = Memory::default();
    let dir = Path::new(ROOT).join("journal");
    files.create_dir(&dir).unwrap();
    let mut bytes = head.to_vec();
    entries.iter().for_each(|entry| entry.encode(&mut bytes));
    files.create(&dir.join(segment::file_name(GENERATION))).unwrap().append(&bytes).unwrap();
    files
}

proptest! {
    #[test]
    fn a_start_survives_them_and_delivers_every_record(
        plan in absurd_plan(),
        entries in proptest::collection::vec(absurd_entry(), 0..12),
    ) {
        let files = files_with(&segment::encode_head(GENERATION, &plan), &entries);
        let mut spool = recover(files, Path::new(ROOT), None, Millis(START)).unwrap();
        spool.journal.replan(Millis(START), super::plan()).unwrap();
        spool.catch_up().unwrap();
        prop_assert_eq!(spool.follower.report().damaged_files, 0);
        let lines = entries.iter().map(|entry| match entry {
            Entry::Upload(upload) => upload.lines.iter().filter(|byte| **byte == b'\n').count() as u64,
            _ => 0,
        });
        prop_assert_eq!(spool.outbox.balance().0.counts.records, lines.sum::<u64>());
        prop_assert_eq!((spool.emitter.load(), spool.journal.meters().imbalance()), (Load::default(), 0));
    }
}

#[test]
fn a_segment_whose_window_is_nothing_is_put_aside_as_damaged() {
    let mut head = segment::encode_head(GENERATION, &plan());
    let digits = format!("\"window_ms\":{WINDOW}").into_bytes();
    let at = head.windows(digits.len()).position(|window| window == digits).unwrap();
    head[at..at + digits.len()].copy_from_slice(b"\"window_ms\":   0");
    let body = head.len() - 4;
    let checksum = crc32fast::hash(&head[..body]).to_le_bytes();
    head[body..].copy_from_slice(&checksum);
    let upload = Entry::Upload(Upload {
        time: Millis(START),
        tenant: None,
        agent: None,
        records: 1,
        lines: Bytes::from_static(b"{\"image\":1}\n"),
    });
    let spool = recover(files_with(&head, &[upload]), Path::new(ROOT), Some(plan()), Millis(START)).unwrap();
    let report = spool.follower.report();
    assert_eq!((report.damaged_files, report.segments), (1, 0));
}
