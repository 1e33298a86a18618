//! Records that are rows already.

use super::*;

fn rows_plan() -> Plan {
    Plan { mode: PlanMode::Rows, max_batch_bytes: 1 << 16, max_batch_rows: 1000, format: Format::Rows, ..plan() }
}

const ROWS: &str = "{\"kind\":\"presence\",\"tenant\":null,\"agent\":\"a-1\",\"last_seen\":1}\n\
    {\"kind\":\"presence\",\"tenant\":\"t\",\"agent\":\"a-2\",\"last_seen\":2}\n";

#[test]
fn rows_are_packed_as_they_are_and_are_a_record_each() {
    let mut node = Node::start_with(Memory::default(), rows_plan());
    node.spool.journal.push(Millis(node.now), None, None, 2, ROWS.as_bytes());
    node.commit().unwrap();
    node.seal().unwrap();
    let [waiting] = node.spool.outbox.waiting().try_into().unwrap();
    let parcel = node.spool.outbox.parcel(&waiting).unwrap();
    let rows = Batch::open(&parcel.payload).unwrap().rows(1 << 20).unwrap().into_owned();
    assert_eq!(String::from_utf8(rows).unwrap(), ROWS);
    let counts = parcel.meta.counts;
    assert_eq!((counts.rows, counts.records, counts.merged), (2, 2, 0));
    assert_eq!(node.spool.emitter.waiting(), 0);
}
