//! A batch file: one byte that says what to make of the rest, then a meta and a payload, apart at the first line feed.
//! What is read is what was written, every byte is checked, and halves hold what the whole holds.

#![no_main]

use libfuzzer_sys::fuzz_target;
use weir_batch::{Batch, BatchEncoder, BatchFile, BatchId, BatchMeta, Compression, Payload};
use weir_fuzz::batch_file;

const MAX_BYTES: usize = 1 << 20;

fuzz_target!(|input: &[u8]| {
    let Some((how, rest)) = input.split_first() else { return };
    match how % 4 {
        0 => opens(rest),
        1 => opens(&batch_file(rest)),
        compression => made_here(if compression == 2 { Compression::Lz4 } else { Compression::Zstd }, *how, rest),
    }
});

/// Any bytes in any form.
fn opens(bytes: &[u8]) {
    if let Ok(batch) = Batch::open(bytes)
        && let Ok(rows) = batch.rows(MAX_BYTES)
    {
        assert!(rows.len() <= MAX_BYTES);
    }
    let peeked = BatchFile::peek(&bytes[..bytes.len().min(BatchFile::MAX_META_BYTES)]);
    let Ok(file) = BatchFile::decode(bytes) else { return };
    let (meta, length) = peeked.expect("a whole file begins well");
    assert_eq!((&meta, length), (&file.meta, bytes.len() as u64));
    let again = BatchFile::encode(&file.meta, file.payload);
    assert_eq!(BatchFile::decode(&again).as_ref(), Ok(&file), "what is read is written back as something else");
    if file.meta.counts.raw_bytes <= MAX_BYTES as u64
        && let Ok(Some([first, second])) = file.halve()
    {
        assert_eq!(first.meta.counts.rows + second.meta.counts.rows, file.meta.counts.rows);
    }
}

/// A file as a node makes it, of rows that are anyone's.
fn made_here(compression: Compression, how: u8, rows: &[u8]) {
    let mut encoder = if how & 4 == 0 {
        BatchEncoder::new(compression).expect("memory")
    } else {
        BatchEncoder::shapes(compression, ["a", "image", "/p"].map(str::to_owned).to_vec())
    };
    for row in lines(rows) {
        encoder.push(row).expect("memory");
    }
    let Payload { bytes: payload, compression, format, counts } = encoder.finish().expect("memory");
    let id = BatchId::new("edge", "stream", 1_700_000_000_000, 3);
    let (core, path) = ("core".to_owned(), "/v1".to_owned());
    let meta = BatchMeta { id, core, path, compression, format, counts, sealed_at: 17, shards: 9, refusal: None };
    let bytes = BatchFile::encode(&meta, &payload);
    let file = BatchFile::decode(&bytes).expect("what is written is read");
    assert_eq!((&file.meta, file.payload), (&meta, payload.as_slice()));
    let whole = Batch::open(&bytes).and_then(|batch| batch.rows(MAX_BYTES).map(|rows| rows.into_owned()));
    let whole = whole.expect("its rows are there");
    let written: Vec<u8> = lines(rows).collect::<Vec<_>>().concat();
    assert!(whole == written, "the rows come back as others");

    let mut damaged = bytes.clone();
    let at = (rows.len() * 31 + usize::from(how)) % damaged.len();
    damaged[at] ^= 1 << (how >> 5);
    assert!(BatchFile::decode(&damaged).is_err(), "a changed byte at {at} passes");
    assert!(BatchFile::decode(&bytes[..at]).is_err(), "a file cut at {at} passes");

    match file.halve().expect("a sound batch can be cut") {
        None => assert!(counts.rows < 2),
        Some(halves) => {
            let [first, second] = halves.each_ref().map(|half| half.meta.counts);
            assert_eq!(first.rows + second.rows, counts.rows);
            assert_eq!(first.raw_bytes + second.raw_bytes, counts.raw_bytes);
            assert!(first.rows > 0 && second.rows > 0);
            let rows = halves.map(|half| {
                let bytes = BatchFile::encode(&half.meta, &half.payload);
                Batch::open(&bytes).and_then(|batch| batch.rows(MAX_BYTES).map(|rows| rows.into_owned()))
            });
            assert_eq!(rows.map(|rows| rows.expect("a half's rows are there")).concat(), whole);
        }
    }
}

fn lines(rows: &[u8]) -> impl Iterator<Item = &[u8]> {
    rows.split_inclusive(|byte| *byte == b'\n').filter(|row| row.ends_with(b"\n"))
}
