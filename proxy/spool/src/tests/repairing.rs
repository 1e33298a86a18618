//! A damaged spool is made whole, and what was lost with it is counted once.

use super::*;
use crate::repair::rehearsal::Rehearsal;
use crate::repair::repair_on;

fn journal(node: &Node) -> Vec<String> {
    let mut names: Vec<String> =
        node.files.list(&Path::new(ROOT).join("journal")).unwrap().into_iter().map(|listed| listed.name).collect();
    names.sort_unstable();
    names
}

#[test]
fn damage_in_a_segment_is_left_out_and_counted_once() {
    let mut node = node_with(&[&[1], &[2, 2], &[3]]);
    let path = only_segment(&node);
    node.files.damage(&path, |bytes| {
        let at = bytes.windows(11).position(|window| window == br#"{"image":"2"#.as_slice()).unwrap();
        bytes[at] ^= 1;
        bytes.extend_from_slice(b"torn");
    });
    let before = node.files.read(&path, usize::MAX).unwrap();
    let rehearsed = repair_on(Rehearsal::new(node.files.clone()), Path::new(ROOT), Millis(node.now)).unwrap();
    assert_eq!(only_segment(&node), path);
    assert_eq!(node.files.read(&path, usize::MAX).unwrap(), before);
    let deeds = repair_on(node.files.clone(), Path::new(ROOT), Millis(node.now)).unwrap();
    assert_eq!((deeds.len(), &rehearsed), (1, &deeds));
    assert!(journal(&node)[1].ends_with(".segment.damaged"), "{:?}", journal(&node));
    assert_eq!(repair_on(node.files.clone(), Path::new(ROOT), Millis(node.now)).unwrap(), []);
    node.spool = recover(node.files.clone(), Path::new(ROOT), Some(plan()), Millis(node.now)).unwrap();
    node.spool.catch_up().unwrap();
    let report = node.spool.follower.report();
    assert_eq!((report.damaged_entries, report.torn_bytes, report.replayed), (0, 0, 2));
    assert_eq!(node.spool.outbox.ledger().damaged, Lost { records: 0, parts: 1 });
}

#[test]
fn a_batch_whose_rows_are_damaged_is_given_up_and_put_aside() {
    let mut node = node_with(&[&[1, 2]]);
    node.seal().unwrap();
    let [waiting] = node.spool.outbox.waiting().try_into().unwrap();
    let path = Path::new(ROOT).join("outbox").join(format!("{}.batch", waiting.name()));
    node.files.damage(&path, |bytes| *bytes.last_mut().unwrap() ^= 1);
    let deeds = repair_on(node.files.clone(), Path::new(ROOT), Millis(node.now)).unwrap();
    assert!(deeds[0].done.starts_with("given up with 2 records: "), "{deeds:?}");
    assert_eq!(node.files.count(&Path::new(ROOT).join("outbox")), 0);
    node.spool = recover(node.files.clone(), Path::new(ROOT), Some(plan()), Millis(node.now)).unwrap();
    let ledger = node.spool.outbox.ledger();
    assert_eq!((ledger.buried.records, ledger.damaged), (2, Lost::default()));
    assert_eq!(repair_on(node.files.clone(), Path::new(ROOT), Millis(node.now)).unwrap(), []);
}

#[test]
fn a_whole_spool_is_left_as_it_is() {
    let mut node = node_with(&[&[1, 2], &[2]]);
    node.seal().unwrap();
    node.upload(1, 2, &[1]);
    node.commit().unwrap();
    assert_eq!(repair_on(node.files.clone(), Path::new(ROOT), Millis(node.now)).unwrap(), []);
    node.restart(7, std::iter::empty());
    node.finish();
}

#[test]
fn what_a_later_version_wrote_is_refused_and_left_alone() {
    let node = node_with(&[&[1]]);
    let path = only_segment(&node);
    node.files.damage(&path, |bytes| bytes[8] = 2);
    let refused = repair_on(node.files.clone(), Path::new(ROOT), Millis(node.now));
    assert!(matches!(refused, Err(SpoolError::Newer { version: 2, .. })));
    assert_eq!(only_segment(&node), path);
}

#[test]
fn a_repair_that_dies_is_repeated_and_nothing_is_lost() {
    for calls in 0..60 {
        let node = node_with(&[&[1], &[2, 2], &[3]]);
        let path = only_segment(&node);
        node.files.damage(&path, |bytes| {
            let at = bytes.windows(11).position(|window| window == br#"{"image":"2"#.as_slice()).unwrap();
            bytes[at] ^= 1;
        });
        node.files.die_after(calls);
        let died = repair_on(node.files.clone(), Path::new(ROOT), Millis(node.now)).is_err();
        let files = node.files.after_power_loss(calls);
        let mut spool = recover(files, Path::new(ROOT), Some(plan()), Millis(node.now)).unwrap();
        spool.catch_up().unwrap();
        assert_eq!(spool.follower.report().replayed, 2, "after {calls} calls");
        assert_eq!(spool.outbox.ledger().damaged, Lost { records: 0, parts: 1 }, "after {calls} calls");
        if !died {
            return;
        }
    }
    panic!("it takes fewer calls than that");
}
