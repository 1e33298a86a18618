//! Batch files, read back and damaged.

use proptest::prelude::*;

use super::*;
use crate::encoder::Payload;
use crate::row::{Origin, Repeat, write_event, write_repeat};

fn sample(compression: Compression, events: u64) -> (BatchMeta, Payload) {
    let origin = Origin { tenant: Some("t-1"), agent: Some("a-1") };
    let mut encoder = BatchEncoder::new(compression).unwrap();
    let mut row = Vec::new();
    for pid in 0..events {
        row.clear();
        write_event(&mut row, origin, 1_700_000_000_123, format!(r#"{{"pid":{pid}}}"#).as_bytes());
        encoder.push(&row).unwrap();
    }
    row.clear();
    let key: [(&str, &[u8]); 1] = [("image_path", br#""C:\\Windows\\System32\\svchost.exe""#)];
    let exemplars = [br#"{"pid":7}"#.as_slice().into()];
    write_repeat(
        &mut row,
        &Repeat {
            origin,
            first_seen: 1_700_000_000_123,
            last_seen: 1_700_000_059_000,
            count: 5,
            key: &key,
            exemplars: &exemplars,
            early: false,
        },
    );
    encoder.push_repeat(&row, 5).unwrap();
    let payload = encoder.finish().unwrap();
    let meta = BatchMeta {
        id: BatchId::new("edge-1", "process", 1_700_000_000_000, 0),
        core: "core".to_owned(),
        path: "/v1/bulk/process".to_owned(),
        compression,
        format: payload.format,
        counts: payload.counts,
        sealed_at: 1_700_000_060_000,
        shards: u64::MAX,
        refusal: None,
    };
    (meta, payload)
}

#[test]
fn every_form_reads_back() {
    for compression in [Compression::Lz4, Compression::Zstd, Compression::Gzip] {
        let (meta, payload) = sample(compression, 3);
        let file = BatchFile::encode(&meta, &payload.bytes);
        let from_file = Batch::open(&file).unwrap();
        let bare = Batch::open(&payload.bytes).unwrap();
        assert_eq!(from_file.meta, Some(meta));
        assert_eq!(from_file.rows(10_000).unwrap(), bare.rows(10_000).unwrap());
        let rows = bare.rows(10_000).unwrap();
        assert_eq!(Batch::open(&rows).unwrap().rows(10_000).unwrap(), rows);
    }
}

/// Version 1 is read for ever: the fixture was written by the first release and is never written again.
#[test]
fn the_golden_file_of_version_1_reads_as_ever() {
    let golden: &[u8] = include_bytes!("golden-v1.batch");
    let batch = Batch::open(golden).unwrap();
    let (meta, _) = sample(Compression::Lz4, 2);
    assert_eq!(batch.meta, Some(meta));
    let rows = String::from_utf8(batch.rows(10_000).unwrap().into_owned()).unwrap();
    assert_eq!(rows, include_str!("golden-v1.ndjson"));
}

#[test]
fn a_peek_tells_the_meta_and_the_length_of_the_file() {
    let (meta, payload) = sample(Compression::Gzip, 9);
    let file = BatchFile::encode(&meta, &payload.bytes);
    let prefix = &file[..file.len() - payload.bytes.len() - 4];
    assert_eq!(BatchFile::peek(prefix), Ok((meta.clone(), file.len() as u64)));
    assert_eq!(BatchFile::peek(&file), Ok((meta, file.len() as u64)));
    assert_eq!(BatchFile::peek(&prefix[..prefix.len() - 1]), Err(FileError::Short));
}

#[test]
fn a_later_version_is_refused_by_name() {
    let (meta, payload) = sample(Compression::Lz4, 1);
    let mut file = BatchFile::encode(&meta, &payload.bytes);
    file[8] = 2;
    assert_eq!(Batch::open(&file), Err(FileError::Newer { version: 2, features: 0 }));
    (file[8], file[10]) = (1, 2);
    assert_eq!(Batch::open(&file), Err(FileError::Newer { version: 1, features: 2 }));
    let lines = b"{\"kind\":\"format\",\"format\":\"shapes/2\"}\n{}\n";
    assert_eq!(Batch::open(lines).unwrap().rows(100), Err(FileError::NewerFormat("shapes/2".to_owned())));
}

#[test]
fn a_file_cut_short_or_flipped_anywhere_is_no_batch() {
    let (meta, payload) = sample(Compression::Lz4, 2);
    let file = BatchFile::encode(&meta, &payload.bytes);
    for at in 0..file.len() {
        assert!(BatchFile::decode(&file[..at]).is_err(), "cut at {at}");
        let mut flipped = file.clone();
        flipped[at] ^= 0x10;
        assert!(BatchFile::decode(&flipped).is_err(), "flipped at {at}");
    }
}

#[test]
fn halves_hold_the_whole_between_them() {
    let (mut meta, payload) = sample(Compression::Zstd, 4);
    meta.shards = 1 << 63 | 5;
    let whole = BatchFile { meta: meta.clone(), payload: &payload.bytes };
    let [first, second] = whole.halve().unwrap().unwrap();
    assert_eq!((first.meta.counts.rows, second.meta.counts.rows), (3, 2));
    assert_eq!(second.meta.id.to_string(), "edge-1/process/1700000000000/0.1");
    assert_eq!(second.meta.counts.merged, 5);
    assert_eq!((first.meta.shards, second.meta.shards), (meta.shards, meta.shards));
    let mut counts = first.meta.counts;
    counts += second.meta.counts;
    assert_eq!(counts, meta.counts);
    let rows =
        [first, second].map(|half| Batch::open(&half.payload).unwrap().rows(10_000).unwrap().into_owned()).concat();
    assert_eq!(rows, &*Batch::open(&payload.bytes).unwrap().rows(10_000).unwrap());
}

#[test]
fn rows_are_picked_by_their_numbers() {
    let (meta, payload) = sample(Compression::Lz4, 5);
    let whole = BatchFile { meta: meta.clone(), payload: &payload.bytes };
    let part = whole.pick(meta.id.rows(1, 9), |row| row == 1 || row == 5).unwrap();
    assert_eq!((part.meta.counts.rows, part.meta.counts.records, part.meta.counts.merged), (2, 6, 5));
    let rows = Batch::open(&part.payload).unwrap().rows(10_000).unwrap().into_owned();
    let rows = String::from_utf8(rows).unwrap();
    assert!(rows.contains(r#"{"pid":1}"#) && rows.contains(r#""count":5"#), "{rows}");
}

#[test]
fn a_refusal_stays_within_the_meta_however_much_the_core_says() {
    let long = "\"\u{1}\u{fc}".repeat(1000);
    let (mut meta, payload) = sample(Compression::Lz4, 1);
    for refusal in [Refused::whole(422, &long), Refused::of_rows(207, std::iter::repeat_n(long.as_str(), 9999))] {
        assert!(refusal.reason.len() <= Refused::MAX_REASON_BYTES);
        meta.refusal = Some(refusal);
        let file = BatchFile::encode(&meta, &payload.bytes);
        assert_eq!(BatchFile::peek(&file[..BatchFile::MAX_META_BYTES.min(file.len())]).unwrap().0, meta);
    }
}

#[test]
fn a_batch_of_one_row_cannot_be_halved() {
    let (meta, payload) = sample(Compression::Lz4, 0);
    assert_eq!(BatchFile { meta, payload: &payload.bytes }.halve(), Ok(None));
}

proptest! {
    #[test]
    fn any_bytes_open_or_fail_within_bounds(tail in proptest::collection::vec(any::<u8>(), 0..300)) {
        for head in [&b""[..], MAGIC, b"WEIRBAT\0\x01\0\0\0", b"\x04\x22\x4d\x18\x60\x40\x82"] {
            let bytes = [head, &tail].concat();
            if let Ok(rows) = Batch::open(&bytes).and_then(|batch| batch.rows(64).map(|rows| rows.len())) {
                prop_assert!(rows <= 64);
            }
        }
    }
}
