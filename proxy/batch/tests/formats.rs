//! The formats of batches, held to files that were written once and are never written again, and to `proxy/FORMAT.md`.

use weir_batch::row::{Origin, Repeat, write_event, write_repeat};
use weir_batch::{Batch, BatchEncoder, BatchFile, Compression, Format, Payload};

const PAGE: &str = include_str!("../../FORMAT.md");

const ROWS: &str = include_str!("golden/rows-1.ndjson");
const SHAPES: &str = include_str!("golden/shapes-1.ndjson");

/// The payload as `shapes/1` in each compression, and a batch file with the first of them.
const LZ4: &[u8] = include_bytes!("golden/shapes-1.lz4");
const ZSTD: &[u8] = include_bytes!("golden/shapes-1.zst");
const GZIP: &[u8] = include_bytes!("golden/shapes-1.gz");
const FILE: &[u8] = include_bytes!("golden/shapes-1.batch");

/// The rows of the page's example.
fn rows() -> Vec<(Vec<u8>, u64)> {
    const CMD: &str = r#""C:\\Windows\\System32\\cmd.exe""#;
    const SVCHOST: &str = r#""C:\\Windows\\System32\\svchost.exe""#;
    const SERVICES: &str = r#""C:\\Windows\\System32\\services.exe""#;
    const EXPLORER: &str = r#""C:\\Windows\\explorer.exe""#;
    let origin = |agent| Origin { tenant: Some("t-1"), agent: Some(agent) };
    let mut rows = Vec::new();
    for (agent, pid, image, parent) in [
        ("a-1", 1, CMD, EXPLORER),
        ("a-1", 2, SVCHOST, SERVICES),
        ("a-2", 7, CMD, EXPLORER),
        ("a-2", 8, SVCHOST, SERVICES),
    ] {
        let record = format!(r#"{{"pid":{pid},"image_path":{image},"parent_image":{parent}}}"#);
        let mut row = Vec::new();
        write_event(&mut row, origin(agent), 1_700_000_000_123 + pid, record.as_bytes());
        rows.push((row, 0));
    }
    for (agent, count, pids) in [("a-1", 3, [11, 12].as_slice()), ("a-2", 1, &[19])] {
        let exemplars: Vec<Box<[u8]>> =
            pids.iter().map(|pid| format!(r#"{{"pid":{pid}}}"#).into_bytes().into()).collect();
        let repeat = Repeat {
            origin: origin(agent),
            first_seen: 1_700_000_000_124,
            last_seen: 1_700_000_042_000,
            count,
            key: &[("image_path", CMD.as_bytes()), ("parent_image", EXPLORER.as_bytes())],
            exemplars: &exemplars,
            early: false,
        };
        let mut row = Vec::new();
        write_repeat(&mut row, &repeat);
        rows.push((row, count));
    }
    rows
}

fn encoded(compression: Compression) -> Payload {
    let same = ["image_path", "parent_image"].map(str::to_owned).to_vec();
    let mut encoder = BatchEncoder::shapes(compression, same);
    for (row, merged) in rows() {
        let pushed = if merged > 0 { encoder.push_repeat(&row, merged) } else { encoder.push(&row) };
        pushed.expect("memory");
    }
    encoder.finish().expect("memory")
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).expect("rows are UTF-8")
}

#[test]
fn every_golden_payload_decodes_for_ever() {
    for payload in [LZ4, ZSTD, GZIP, FILE, SHAPES.as_bytes(), ROWS.as_bytes()] {
        let batch = Batch::open(payload).unwrap();
        assert_eq!(text(&batch.rows(10_000).unwrap()), ROWS);
        if payload != ROWS.as_bytes() {
            assert_eq!(text(&batch.lines(10_000).unwrap()), SHAPES);
        }
    }
    let file = BatchFile::decode(FILE).unwrap();
    assert_eq!((file.meta.format, file.meta.counts.rows, file.meta.counts.records), (Format::Shapes, 6, 8));
}

#[test]
fn what_is_written_today_is_the_golden_format() {
    let rows: Vec<u8> = rows().into_iter().flat_map(|(row, _)| row).collect();
    assert_eq!(text(&rows), ROWS);
    let payload = encoded(Compression::Lz4);
    assert_eq!(payload.format, Format::Shapes);
    assert_eq!(text(&Batch::open(&payload.bytes).unwrap().lines(10_000).unwrap()), SHAPES);
}

#[test]
fn the_pages_examples_are_the_golden_ones() {
    assert!(PAGE.contains(ROWS), "the rows differ from tests/golden/rows-1.ndjson");
    assert!(PAGE.contains(SHAPES), "the tables differ from tests/golden/shapes-1.ndjson");
    for format in [Format::Rows, Format::Shapes] {
        assert!(PAGE.contains(&format!("`{}`", format.name())));
    }
}

#[test]
fn halves_of_shapes_hold_its_rows() {
    let file = BatchFile::decode(FILE).unwrap();
    let [first, second] = file.halve().unwrap().unwrap();
    let rows = [first, second].map(|half| {
        let file = BatchFile::encode(&half.meta, &half.payload);
        Batch::open(&file).unwrap().rows(10_000).unwrap().into_owned()
    });
    assert_eq!(text(&rows.concat()), ROWS);
}
