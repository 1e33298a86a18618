//! A journal that writes over zeros: the same promises, and the zeros are never taken for anything.

use super::*;
use crate::tape::{Found, Tape};

fn journal() -> std::path::PathBuf {
    Path::new(ROOT).join("journal")
}

/// The zeros at the end of the newest segment.
pub(super) fn room_in_newest(files: &Memory) -> u64 {
    let listed = files.list(&journal()).unwrap().into_iter();
    let Some(newest) = listed.filter(|file| file.name.ends_with(".segment")).max() else { return 0 };
    let Ok(mut tape) = Tape::open(files.clone(), journal().join(newest.name)).unwrap() else { return 0 };
    while tape.read(newest.bytes).unwrap() != Found::Nothing {}
    newest.bytes - tape.written()
}

/// The lengths of the segments, and of the spare file if there is one.
fn lengths(node: &Node) -> (Vec<u64>, Option<u64>) {
    let mut listed = node.files.list(&journal()).unwrap();
    listed.sort_unstable();
    let spare = listed.iter().position(|file| file.name == "spare").map(|at| listed.remove(at).bytes);
    (listed.into_iter().map(|file| file.bytes).collect(), spare)
}

/// A node whose open generation is written over zeros and holds two uploads of the images 1 and 2.
fn node_with_room() -> Node {
    let mut node = Node::start(Memory::default());
    for _ in 0..3 {
        node.upload(1, 1, &[1]);
        node.commit().unwrap();
    }
    node.seal().unwrap();
    let (segments, spare) = lengths(&node);
    assert!(spare.is_some_and(|spare| spare > 100), "{segments:?} {spare:?}");
    for image in [1, 2] {
        node.upload(1, 1, &[image]);
        node.commit().unwrap();
    }
    assert_eq!((lengths(&node).0[1], lengths(&node).1), (spare.unwrap(), None), "it has become the segment");
    node
}

#[test]
fn what_is_left_of_the_room_goes_when_the_generation_is_closed() {
    let mut node = node_with_room();
    let open = lengths(&node).0[1];
    node.seal().unwrap();
    assert!(lengths(&node).0[1] < open);
    node.finish();
}

#[test]
fn room_that_was_not_used_is_no_torn_write() {
    let mut node = node_with_room();
    node.files = node.files.after_kill();
    node.reopen();
    let report = node.spool.follower.report();
    assert_eq!((report.torn_bytes, report.damaged_entries, report.replayed), (0, 0, 2));
    assert_eq!(node.spool.journal.meters().unread_bytes(), 0);
    node.finish();
}

#[test]
fn a_write_that_was_cut_short_over_zeros_is_torn_and_nothing_else() {
    let mut node = node_with_room();
    let newest = node.files.list(&journal()).unwrap().into_iter().max().unwrap().name;
    node.files.damage(&journal().join(newest), |bytes| {
        let written = bytes.iter().rposition(|byte| *byte != 0).unwrap() + 1;
        bytes[written..written + 7].copy_from_slice(b"torn\0\0!");
    });
    node.reopen();
    let report = node.spool.follower.report();
    assert_eq!((report.torn_bytes, report.damaged_entries, report.replayed), (7, 0, 2));
    node.finish();
}

#[test]
fn a_group_that_lost_its_middle_with_the_power_loses_nothing_that_was_acknowledged() {
    let mut node = node_with_room();
    let newest = journal().join(node.files.list(&journal()).unwrap().into_iter().max().unwrap().name);
    let before = node.files.read(&newest, usize::MAX).unwrap();
    for image in [3, 4, 5] {
        node.upload(1, 1, &[image]);
    }
    node.spool.journal.commit().unwrap();
    node.unanswered.clear();
    // Of three uploads that were written together and never acknowledged, the second did not get to the disk.
    node.files.damage(&newest, |bytes| {
        let first = bytes.iter().zip(&before).position(|(one, other)| one != other).unwrap();
        let last = bytes.iter().rposition(|byte| *byte != 0).unwrap();
        let third = (last + 1 - first) / 3;
        bytes[first + third..first + 2 * third].fill(0);
    });
    node.reopen();
    let report = node.spool.follower.report();
    // Nobody can tell it from an upload that was acknowledged and then damaged: it is reported.
    assert_eq!((report.damaged_entries, report.replayed), (1, 4));
}

#[test]
fn a_spare_file_that_cannot_be_made_is_done_without() {
    let mut node = Node::start(Memory::default());
    node.files.leave_room(Some(70_000));
    for _ in 0..3 {
        node.upload(1, 1, &[1]);
        node.commit().unwrap();
    }
    node.files.leave_room(Some(400));
    node.seal().unwrap();
    assert_eq!(lengths(&node).1, None);
    node.files.leave_room(None);
    node.finish();
}
