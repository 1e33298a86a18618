//! The examples in `proxy/CONTRACTS.md` are the rows and ids that this crate writes.

use weir_batch::BatchId;
use weir_batch::row::{
    Loss, Origin, Repeat, State, Unchanged, write_event, write_loss, write_presence, write_repeat, write_state,
    write_unchanged,
};

const DOCUMENT: &str = include_str!("../../CONTRACTS.md");

const ORIGIN: Origin<'_> = Origin { tenant: Some("t-1"), agent: Some("a-1") };

const IMAGE: &[u8] = br#""C:\\Windows\\System32\\cmd.exe""#;

fn assert_documented(row: &[u8]) {
    let row = std::str::from_utf8(row).expect("rows are UTF-8").trim_end();
    assert!(DOCUMENT.lines().any(|line| line == row), "{row}");
}

#[test]
fn documented_rows_are_the_codes() {
    let mut row = Vec::new();
    let record = [br#"{"image_path":"#, IMAGE, br#","pid":1}"#].concat();
    write_event(&mut row, ORIGIN, 1_700_000_000_123, &record);
    assert_documented(&row);

    row.clear();
    let repeat = Repeat {
        origin: ORIGIN,
        first_seen: 1_700_000_000_123,
        last_seen: 1_700_000_042_000,
        count: 3,
        key: &[("image_path", IMAGE)],
        exemplars: &[br#"{"pid":2}"#.to_vec().into_boxed_slice()],
        early: false,
    };
    write_repeat(&mut row, &repeat);
    assert_documented(&row);

    row.clear();
    let (received, first_seen, record) = (1_700_000_042_000, 1_700_000_000_123, br#"{"disk":"c","free":17}"#);
    write_state(&mut row, &State { origin: ORIGIN, received, first_seen, count: 3, record });
    assert_documented(&row);

    row.clear();
    let (first_seen, last_seen, key) = (1_700_000_043_000, 1_700_000_099_000, [("disk", br#""c""#.as_slice())]);
    write_unchanged(&mut row, &Unchanged { origin: ORIGIN, first_seen, last_seen, count: 5, key: &key });
    assert_documented(&row);

    row.clear();
    write_presence(&mut row, ORIGIN, 1_700_000_000_123, Some("1.2"));
    assert_documented(&row);

    row.clear();
    let (since, until) = (1_700_000_000_123, 1_700_000_060_000);
    write_loss(&mut row, &Loss { reason: "expired", records: 1200, parts: 0, total: 3100, since, until });
    assert_documented(&row);
}

#[test]
fn the_documented_id_is_the_codes() {
    let header = format!("Idempotency-Key: {}", BatchId::new("edge-1", "process", 17, 0));
    assert!(DOCUMENT.lines().any(|line| line == header), "{header}");
}
