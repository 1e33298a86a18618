//! Dead letters that come back.

use super::*;

fn dead_letters(node: &Node) -> usize {
    node.files.count(&Path::new(ROOT).join("dead"))
}

fn reopen(node: &mut Node) {
    node.reopen();
}

/// A node one of whose batches was refused as a whole; gives its id.
fn refused() -> (Node, String) {
    let mut node = node_with(&[&[1, 2]]);
    node.seal().unwrap();
    let [waiting] = node.spool.outbox.waiting().try_into().unwrap();
    node.spool.outbox.bury(&waiting, Refused::whole(422, "no")).unwrap();
    (node, waiting.meta.id.to_string())
}

#[test]
fn what_was_refused_as_a_whole_comes_back_under_its_id() {
    let (mut node, id) = refused();
    let revived = node.spool.outbox.revive(u64::MAX).unwrap();
    assert_eq!(revived, Revived { batches: 1, records: 2, ..Revived::default() });
    assert_eq!((dead_letters(&node), node.spool.outbox.ledger().buried.records), (0, 0));
    reopen(&mut node);
    let [waiting] = node.spool.outbox.waiting().try_into().unwrap();
    assert_eq!((waiting.meta.id.to_string(), waiting.meta.refusal), (id, None));
    node.finish();
    assert_eq!(node.core.tally().values().sum::<u64>(), 2);
}

#[test]
fn rows_rejected_of_a_batch_that_was_taken_come_back_under_an_id_of_their_own_each_time() {
    let mut node = node_with(&[&[1, 2, 3]]);
    node.seal().unwrap();
    let [waiting] = node.spool.outbox.waiting().try_into().unwrap();
    let reject = |node: &mut Node, waiting: &Waiting, row: u64| {
        let parcel = node.spool.outbox.parcel(waiting).unwrap();
        let mut answer = PartialAnswer::default();
        answer.rejected.insert(row, "bad".to_owned());
        node.core.accept(&parcel);
        node.core.partial.insert(parcel.meta.id.to_string(), answer.clone());
        node.spool.outbox.divide(waiting, 207, &answer).unwrap();
    };
    reject(&mut node, &waiting, 1);
    for suffix in [".d", ".d2"] {
        assert_eq!(node.spool.outbox.revive(u64::MAX).unwrap().batches, 1);
        reopen(&mut node);
        let [waiting] = node.spool.outbox.waiting().try_into().unwrap();
        assert!(waiting.meta.id.to_string().ends_with(suffix), "{}", waiting.meta.id);
        if suffix == ".d" {
            reject(&mut node, &waiting, 0);
        }
    }
    node.finish();
    assert_eq!(node.core.tally().values().sum::<u64>(), 3);
}

#[test]
fn rows_put_back_stand_beside_the_batch_that_they_were_taken_of() {
    let mut node = node_with(&[&[1, 2, 3, 4]]);
    node.seal().unwrap();
    let whole = node.spool.outbox.waiting().remove(0).name();
    while dead_letters(&node) == 0 {
        let waiting = node.spool.outbox.find(&whole).unwrap();
        node.spool.outbox.isolate(&waiting, Refused::whole(422, "no")).unwrap();
    }
    assert_eq!(node.spool.outbox.revive(u64::MAX).unwrap().records, 1);
    for _ in 0..2 {
        reopen(&mut node);
        assert_eq!(node.spool.outbox.waiting().len(), 2);
    }
    node.finish();
    assert_eq!(node.core.tally().values().sum::<u64>(), 4);
}

#[test]
fn what_was_put_back_may_be_refused_again() {
    let (mut node, _) = refused();
    node.spool.outbox.revive(u64::MAX).unwrap();
    let [waiting] = node.spool.outbox.waiting().try_into().unwrap();
    node.spool.outbox.bury(&waiting, Refused::whole(422, "still not")).unwrap();
    reopen(&mut node);
    let ledger = node.spool.outbox.ledger();
    assert_eq!((dead_letters(&node), ledger.buried.records, ledger.revived.records), (1, 2, 2));
    node.finish();
}

#[test]
fn a_dead_letter_is_put_back_once_wherever_the_node_dies() {
    for calls in 0..30 {
        let (mut node, _) = refused();
        node.files.die_after(calls);
        let died = node.spool.outbox.revive(u64::MAX).is_err() || node.files.is_dead();
        node.restart(calls, std::iter::empty());
        losses::compare_with_a_walk(&node);
        let waits = node.spool.outbox.waiting().len();
        assert_eq!(waits + dead_letters(&node), 1, "after {calls} calls");
        if !died {
            return assert_eq!(waits, 1);
        }
        node.finish();
    }
    panic!("it takes fewer calls than that");
}

#[test]
fn what_has_no_room_or_cannot_be_read_stays_a_dead_letter() {
    let (node, _) = refused();
    assert_eq!(node.spool.outbox.revive(10).unwrap(), Revived { no_room: 1, ..Revived::default() });
    let dead = Path::new(ROOT).join("dead");
    let name = node.files.list(&dead).unwrap().remove(0).name;
    node.files.damage(&dead.join(name), |bytes| *bytes.last_mut().unwrap() ^= 1);
    assert_eq!(node.spool.outbox.revive(u64::MAX).unwrap(), Revived { unreadable: 1, ..Revived::default() });
    assert_eq!((node.spool.outbox.waiting().len(), dead_letters(&node)), (0, 1));
}

#[test]
fn what_was_put_back_is_not_given_up_for_its_age() {
    let (node, _) = refused();
    node.spool.outbox.revive(u64::MAX).unwrap();
    assert_eq!(node.spool.outbox.expire(Millis(START + 100_000)).unwrap().rows, 0);
    assert_eq!(node.spool.outbox.waiting().len(), 1);
}
