//! An agent's upload: one byte that says how it comes, then its body. Whatever comes, the bounds hold and every accepted
//! record is one line with one JSON object; a body that a JSON parser takes is taken, and packing changes nothing.

#![no_main]

use libfuzzer_sys::fuzz_target;
use serde_json::value::RawValue;
use weir_batch::{
    Allowance, BatchEncoder, Compression, Encoding, Framing, InflateError, InflateLimits, SMALL_BYTES, Upload,
    UploadError, UploadLimits,
};

const LIMITS: UploadLimits = UploadLimits {
    inflate: InflateLimits { max_bytes: 512 * 1024, max_ratio: 64 },
    max_records: 64,
    max_record_bytes: 512,
    max_depth: 16,
    max_string_bytes: 64,
};

/// Memory that is granted up to a bound; whatever becomes of the body, what was taken and what is kept must be the same.
struct Memory {
    bound: usize,
    taken: usize,
}

impl Allowance for Memory {
    fn grow(&mut self, bytes: usize) -> bool {
        let granted = bytes <= self.bound - self.taken;
        self.taken += if granted { bytes } else { 0 };
        granted
    }

    fn shrink(&mut self, bytes: usize) {
        self.taken = self.taken.checked_sub(bytes).expect("what is given back was taken");
    }
}

fuzz_target!(|input: &[u8]| {
    let Some((how, body)) = input.split_first() else { return };
    let framing = if how & 1 == 0 { Framing::Json } else { Framing::Lines };
    let packed = [None, Some(Compression::Gzip), Some(Compression::Zstd), Some(Compression::Lz4)];
    let Some(compression) = packed[usize::from(how >> 1 & 3)] else {
        let upload = Upload::parse(body, Encoding::Identity, framing, &LIMITS);
        holds(&upload);
        if framing == Framing::Json {
            agrees_with_a_json_parser(body, &upload);
        }
        return;
    };
    let encoding = Encoding::Compressed(compression);
    holds(&Upload::parse(body, encoding, framing, &LIMITS));
    if let Ok(inflated) = encoding.inflate(body, 100) {
        assert!(inflated.len() <= 100);
    }
    let ratio = LIMITS.inflate.max_ratio * body.len();
    for bound in [64 << 20, usize::from(*how) << 14] {
        unpacks_within(encoding, body, bound, ratio);
    }
    // The same body, packed here, is the same upload; cut short, it is none.
    let mut encoder = BatchEncoder::new(compression).expect("memory");
    encoder.push(body).expect("memory");
    let packed = encoder.finish().expect("memory").bytes;
    let plain = Upload::parse(body, Encoding::Identity, framing, &LIMITS);
    let unpacked = Upload::parse(&packed, encoding, framing, &LIMITS);
    if unpacked != Err(InflateError::TooDense { max_ratio: LIMITS.inflate.max_ratio }.into()) {
        assert_eq!(unpacked, plain);
    }
    let short = &packed[..body.len() % packed.len()];
    assert!(short.is_empty() || encoding.inflate(short, LIMITS.inflate.max_bytes).is_err(), "a cut body is a body");
});

/// Both ways of unpacking take what was granted and keep no more of it than they give back.
fn unpacks_within(encoding: Encoding, body: &[u8], bound: usize, ratio: usize) {
    let mut memory = Memory { bound, taken: 0 };
    let unpacked = match encoding.unpack_small(body, &LIMITS.inflate, &mut memory) {
        Ok(Some(unpacked)) => Ok(unpacked),
        Ok(None) => {
            assert_eq!(memory.taken, 0);
            encoding.unpack(body, &LIMITS.inflate, &mut memory)
        }
        Err(error) => Err(error),
    };
    let Ok(unpacked) = unpacked else { return assert_eq!(memory.taken, 0) };
    assert_eq!(memory.taken, unpacked.capacity());
    assert!(unpacked.len() < unpacked.capacity());
    assert!(unpacked.len() <= LIMITS.inflate.max_bytes.min(ratio.max(SMALL_BYTES)));
}

fn holds(upload: &Result<Upload, UploadError>) {
    let upload = match upload {
        Ok(upload) => upload,
        Err(error) => return assert!(matches!(error.status(), Some(400 | 413)), "there is memory for any"),
    };
    assert!(upload.accepted + upload.refused_count() <= LIMITS.max_records);
    assert_eq!(upload.refused.len(), upload.refused_count().min(Upload::LISTED));
    assert!(upload.lines.len() <= LIMITS.inflate.max_bytes + 1);
    assert!(upload.refused.windows(2).all(|pair| pair[0].index < pair[1].index));
    let mut lines = 0;
    for line in upload.lines.split_inclusive(|byte| *byte == b'\n') {
        let record = line.strip_suffix(b"\n").expect("every record ends its line");
        assert!(record.len() <= LIMITS.max_record_bytes);
        assert!(longest_string(record) <= LIMITS.max_string_bytes);
        assert!(!record.contains(&b'\r'));
        let object: &RawValue = serde_json::from_slice(record).expect("an accepted record is JSON");
        assert!(object.get().starts_with('{'));
        lines += 1;
    }
    assert_eq!(lines, upload.accepted);
    let report: serde_json::Value = serde_json::from_slice(&upload.report()).expect("the report is JSON");
    assert_eq!(report["accepted"], upload.accepted);
    assert_eq!(report["refused"].as_array().map(Vec::len), Some(upload.refused.len()));
}

/// Bytes of the longest string of a valid JSON text as it is written.
fn longest_string(record: &[u8]) -> usize {
    let (mut longest, mut begun, mut escaped) = (0, None, false);
    for (at, byte) in record.iter().enumerate() {
        match (begun, byte) {
            (None, b'"') => begun = Some(at + 1),
            (None, _) => {}
            (Some(_), _) if escaped => escaped = false,
            (Some(_), b'\\') => escaped = true,
            (Some(start), b'"') => {
                longest = longest.max(at - start);
                begun = None;
            }
            (Some(_), _) => {}
        }
    }
    longest
}

/// What is JSON to both, both cut into the same records.
fn agrees_with_a_json_parser(body: &[u8], upload: &Result<Upload, UploadError>) {
    let Ok(whole) = serde_json::from_slice::<&RawValue>(body) else {
        // It checks that strings are UTF-8 where the scanner leaves that to the records; beyond that they must agree.
        assert!(upload.is_err() || std::str::from_utf8(body).is_err(), "no JSON, but taken");
        return;
    };
    let records: Vec<&RawValue> = match serde_json::from_str(whole.get()) {
        Ok(elements) => elements,
        Err(_) if whole.get().starts_with('{') => vec![whole],
        Err(_) => return assert_eq!(*upload, Err(UploadError::NotRecords)),
    };
    match upload {
        Ok(upload) => assert_eq!(upload.accepted + upload.refused_count(), records.len()),
        Err(UploadError::TooManyRecords { .. }) => assert!(records.len() > LIMITS.max_records),
        Err(error) => assert!(body.len() > LIMITS.inflate.max_bytes, "JSON, but refused: {error}"),
    }
}
