//! What is lost is told to the core, once, and the gauges say what a walk over the directory finds.

use super::*;
use crate::inspect::Inventory;

/// Whether a row in it tells of a loss.
pub(super) fn tells(parcel: &Parcel) -> bool {
    let rows = Batch::open(&parcel.payload).unwrap().rows(1 << 20).unwrap().into_owned();
    rows.windows(14).any(|text| text == br#"{"kind":"loss""#)
}

/// What the core has been told of a reason.
#[derive(Clone, Copy, Debug, Default)]
struct Told {
    records: u64,
    parts: u64,
    /// The greatest total.
    total: u64,
}

fn told(core: &Core) -> BTreeMap<String, Told> {
    let mut told = BTreeMap::new();
    for (id, rows) in &core.batches {
        let partial = core.partial.get(id).cloned().unwrap_or_default();
        let rows = rows.split(|byte| *byte == b'\n').filter(|row| !row.is_empty());
        for (_, row) in (0..).zip(rows).filter(|(number, _)| !partial.retry.contains(number)) {
            let row: serde_json::Value = serde_json::from_slice(row).unwrap();
            if row["kind"] == "loss" {
                let told: &mut Told = told.entry(row["reason"].as_str().unwrap().to_owned()).or_default();
                told.records += row["records"].as_u64().unwrap();
                told.parts += row["parts"].as_u64().unwrap_or_default();
                told.total = told.total.max(row["total"].as_u64().unwrap());
                assert!(row["since"].as_u64() <= row["until"].as_u64());
            }
        }
    }
    told
}

/// The rows at the core tell of exactly what the ledger has lost.
pub(super) fn check(node: &Node) {
    let told = told(&node.core);
    let lost = node.spool.outbox.ledger().lost();
    for reason in LossReason::ALL {
        let Lost { records, parts } = *lost.of(reason);
        let told = told.get(reason.name()).copied().unwrap_or_default();
        assert_eq!(told.total, records, "{reason:?}");
        let exact = (told.records, told.parts) == (records, parts);
        // What was told in a batch that was given up, and that the core has all the same, is told again.
        assert!(exact || node.doubted && told.records >= records && told.parts >= parts, "{reason:?}: {told:?}");
    }
    assert_eq!(node.spool.outbox.losses().untold(), PerReason::default());
}

/// Every gauge is what a walk over the directory finds.
pub(super) fn compare_with_a_walk(node: &Node) {
    let walked = node.files.undisturbed(|files| Inventory::walk(files, Path::new(ROOT)));
    let Inventory { journal, outbox, dead, ledger, .. } = walked.unwrap();
    assert_eq!(ledger, node.spool.outbox.ledger());
    let content = node.spool.outbox.balance().0;
    assert_eq!((content.batches, content.bytes), (outbox.files, outbox.bytes));
    assert_eq!((Some(content.counts.records), content.oldest), (outbox.records, outbox.oldest));
    assert_eq!((content.dead_files, content.dead_bytes), (dead.files + dead.damaged, dead.bytes + dead.damaged_bytes));
    let counted = node.spool.journal.meters().journal_bytes();
    let room = node.files.undisturbed(spares::room_in_newest);
    assert!(counted == journal.bytes || counted + room == journal.bytes, "{counted} of {} and {room}", journal.bytes);
}

fn recover_again(node: &mut Node) {
    node.reopen();
}

#[test]
fn a_batch_expires_when_nobody_works_on_it_and_the_core_is_told() {
    let mut node = node_with(&[&[1, 2, 2]]);
    node.seal().unwrap();
    let [waiting] = node.spool.outbox.waiting().try_into().unwrap();
    let lent = node.spool.outbox.lend(&waiting.name()).unwrap();
    assert!(node.spool.outbox.lend(&waiting.name()).is_none());
    assert_eq!(node.spool.outbox.expire(Millis(START + 1)).unwrap().records, 0);
    drop(lent);
    assert_eq!(node.spool.outbox.expire(Millis(START)).unwrap().records, 0);
    assert_eq!(node.spool.outbox.expire(Millis(START + 1)).unwrap().records, 2);
    assert!(node.spool.outbox.lend(&waiting.name()).is_none());
    node.spool.outbox.deliver(&waiting).unwrap();
    assert_eq!(node.spool.outbox.ledger().delivered.records, 0);
    assert_eq!(node.files.count(&Path::new(ROOT).join("outbox")), 0);
    recover_again(&mut node);
    assert_eq!(node.spool.outbox.ledger().expired.records, 2);
    node.finish();
}

#[test]
fn a_loss_row_that_expires_is_told_again() {
    let mut node = node_with(&[&[1]]);
    node.seal().unwrap();
    node.spool.outbox.expire(Millis(START + 1)).unwrap();
    node.commit().unwrap();
    node.seal().unwrap();
    let [waiting] = node.spool.outbox.waiting().try_into().unwrap();
    assert_eq!((waiting.counts().rows, waiting.counts().records), (1, 0));
    assert_eq!(node.spool.outbox.losses().untold(), PerReason::default());
    assert_eq!(node.spool.outbox.expire(Millis(START + 1)).unwrap().rows, 1);
    assert_eq!(node.spool.outbox.losses().untold().of(LossReason::Expired).records, 1);
    recover_again(&mut node);
    node.finish();
}

#[test]
fn the_oldest_dead_letters_make_room_and_stay_counted() {
    let mut node = node_with(&[&[1]]);
    for image in 2..6 {
        node.seal().unwrap();
        node.upload(0, 1, &[image]);
        node.commit().unwrap();
    }
    node.seal().unwrap();
    for waiting in node.spool.outbox.waiting() {
        node.spool.outbox.bury(&waiting, Refused::whole(422, "no")).unwrap();
    }
    let outbox = &node.spool.outbox;
    let (files, bytes) = (outbox.balance().0.dead_files, outbox.balance().0.dead_bytes);
    assert!(files == 5 && outbox.has_too_many_dead(4, u64::MAX) && !outbox.has_too_many_dead(5, bytes));
    assert_eq!(outbox.drop_dead(4, u64::MAX).unwrap(), Lost::records(1));
    assert_eq!(outbox.drop_dead(4, bytes / 2).unwrap(), Lost::records(2));
    assert_eq!(outbox.drop_dead(4, bytes / 2).unwrap(), Lost::default());
    assert_eq!((outbox.ledger().buried.records, outbox.ledger().dropped.records), (5, 3));
    let images: Vec<String> = node.dead().into_keys().map(|(_, image)| image).collect();
    assert_eq!(images, ["4", "5"]);
    recover_again(&mut node);
    compare_with_a_walk(&node);
    node.finish();
}

#[test]
fn dead_letters_that_people_have_removed_are_not_missed() {
    let mut node = node_with(&[&[1]]);
    node.seal().unwrap();
    let [waiting] = node.spool.outbox.waiting().try_into().unwrap();
    node.spool.outbox.bury(&waiting, Refused::whole(422, "no")).unwrap();
    node.files.remove(&Path::new(ROOT).join("dead").join(format!("{}.batch", waiting.name()))).unwrap();
    assert_eq!(node.spool.outbox.drop_dead(9, u64::MAX).unwrap(), Lost::default());
    assert_eq!(node.spool.outbox.balance().0.dead_files, 0);
}

#[test]
fn a_damaged_entry_is_counted_once_however_often_it_is_read() {
    let mut node = node_with(&[&[1], &[2, 2], &[3]]);
    let path = only_segment(&node);
    node.files.damage(&path, |bytes| {
        let at = bytes.windows(11).position(|window| window == br#"{"image":"2"#.as_slice()).unwrap();
        bytes[at] ^= 1;
    });
    for _ in 0..3 {
        recover_again(&mut node);
        assert_eq!(node.spool.outbox.ledger().damaged, Lost { records: 0, parts: 1 });
    }
    node.commit().unwrap();
    node.seal().unwrap();
    node.deliver().unwrap();
    check(&node);
}

#[test]
fn repeats_that_waited_in_a_damaged_segment_are_lost_by_their_number() {
    let mut node = node_with(&[&[1, 1, 1], &[1, 2]]);
    node.seal().unwrap();
    let path = only_segment(&node);
    node.files.damage(&path, |bytes| {
        let at = bytes.windows(11).position(|window| window == br#"{"image":"1"#.as_slice()).unwrap();
        bytes[at] ^= 1;
    });
    // Without the first entry, the second's sight of 1 is taken for the one that has left.
    for _ in 0..2 {
        recover_again(&mut node);
        assert_eq!(node.spool.outbox.ledger().damaged, Lost { records: 3, parts: 1 });
    }
    node.now += 100 * WINDOW;
    for _ in 0..2 {
        node.commit().unwrap();
        node.seal().unwrap();
    }
    node.deliver().unwrap();
    check(&node);
    let ledger = node.spool.outbox.ledger();
    assert_eq!((ledger.accepted, ledger.emitted.records, ledger.delivered.records), (5, 5, 2));
}

#[test]
fn a_damaged_batch_is_lost_with_as_many_records_as_are_missing() {
    let mut node = node_with(&[&[1, 2]]);
    node.seal().unwrap();
    let [waiting] = node.spool.outbox.waiting().try_into().unwrap();
    node.files.damage(&Path::new(ROOT).join("outbox").join(format!("{}.batch", waiting.name())), |bytes| bytes[0] = 0);
    for _ in 0..2 {
        recover_again(&mut node);
        assert_eq!(node.spool.outbox.ledger().damaged, Lost { records: 2, parts: 1 });
        compare_with_a_walk(&node);
    }
    node.commit().unwrap();
    node.seal().unwrap();
    node.deliver().unwrap();
    check(&node);
}

#[test]
fn notes_of_a_later_version_are_refused_and_left_alone() {
    let node = node_with(&[&[1]]);
    let path = Path::new(ROOT).join("progress");
    let text = r#"{"note":"moved","batch":"a"}"#;
    let later = format!("{:08x} {text}\n", crc32fast::hash(text.as_bytes()));
    node.files.damage(&path, |bytes| bytes.extend_from_slice(later.as_bytes()));
    let before = node.files.read(&path, usize::MAX).unwrap();
    let refused = recover(node.files.clone(), Path::new(ROOT), Some(plan()), Millis(node.now));
    assert!(matches!(refused, Err(SpoolError::Later { later, .. }) if later.contains("moved")));
    assert_eq!(node.files.read(&path, usize::MAX).unwrap(), before);
}
