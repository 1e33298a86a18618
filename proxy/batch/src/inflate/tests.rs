//! Bodies of every encoding against their bounds.

use lz4_flex::frame::{BlockSize, FrameEncoder, FrameInfo};
use proptest::prelude::*;

use super::*;
use crate::compression::Deflater;

const ALL: [Compression; 3] = [Compression::Lz4, Compression::Zstd, Compression::Gzip];

fn deflate(compression: Compression, bytes: &[u8]) -> Vec<u8> {
    let mut deflater = Deflater::new(compression).unwrap();
    deflater.write(bytes).unwrap();
    deflater.finish().unwrap()
}

#[test]
fn frames_in_a_row_are_one_body() {
    for compression in ALL {
        let body = [deflate(compression, b"one,"), deflate(compression, b"two")].concat();
        let inflated = Encoding::Compressed(compression).inflate(&body, 100).unwrap();
        assert_eq!(&*inflated, b"one,two", "{compression:?}");
    }
}

#[test]
fn a_body_cut_short_is_an_error_at_every_length() {
    let text: Vec<u8> = (0..600_000u32).flat_map(|number| number.to_string().into_bytes()).take(600_000).collect();
    for compression in ALL {
        let whole = deflate(compression, &text);
        for length in (1..200).chain((200..whole.len()).step_by(9973)).chain(whole.len() - 20..whole.len()) {
            let cut = Encoding::Compressed(compression).inflate(&whole[..length], 1 << 20);
            assert!(matches!(cut, Err(InflateError::Corrupt { .. })), "{compression:?} at {length}");
        }
    }
}

#[test]
fn a_bomb_is_stopped_at_the_bound() {
    for compression in ALL {
        let bomb = deflate(compression, &vec![b'a'; 8 << 20]);
        let inflated = Encoding::Compressed(compression).inflate(&bomb, 1 << 20);
        assert_eq!(inflated, Err(InflateError::TooLarge { max_bytes: 1 << 20 }), "{compression:?}");
    }
}

/// Grants up to so many bytes, and knows the most that were granted at once.
struct Metered {
    left: usize,
    taken: usize,
    most: usize,
}

impl Metered {
    fn new(left: usize) -> Self {
        Self { left, taken: 0, most: 0 }
    }
}

impl Allowance for Metered {
    fn grow(&mut self, bytes: usize) -> bool {
        let granted = bytes <= self.left - self.taken;
        self.taken += if granted { bytes } else { 0 };
        self.most = self.most.max(self.taken);
        granted
    }

    fn shrink(&mut self, bytes: usize) {
        self.taken = self.taken.checked_sub(bytes).expect("nobody gives back what was not granted");
    }
}

const LIMITS: InflateLimits = InflateLimits { max_bytes: 4 << 20, max_ratio: 1_000_000 };

/// Either way of unpacking, as an upload takes them.
fn unpack(
    encoding: Encoding,
    body: &[u8],
    limits: &InflateLimits,
    memory: &mut Metered,
) -> Result<Vec<u8>, InflateError> {
    match encoding.unpack_small(body, limits, memory)? {
        Some(unpacked) => Ok(unpacked),
        None => encoding.unpack(body, limits, memory),
    }
}

#[test]
fn what_is_kept_is_what_was_granted_and_nothing_else() {
    for compression in ALL {
        for bytes in [0, 10, SMALL_BYTES - 1, SMALL_BYTES, SMALL_BYTES + 1, 3 << 20] {
            let body = deflate(compression, &vec![b'a'; bytes]);
            let mut memory = Metered::new(64 << 20);
            let unpacked = unpack(Encoding::Compressed(compression), &body, &LIMITS, &mut memory).unwrap();
            assert_eq!(unpacked.len(), bytes);
            assert!(unpacked.capacity() > bytes, "room for one byte more");
            assert_eq!(memory.taken, unpacked.capacity(), "{compression:?} {bytes}");
            assert!(memory.most <= DECODER_BYTES + bytes.max(2 * SMALL_BYTES) + 1, "{compression:?} {}", memory.most);
        }
    }
    let mut memory = Metered::new(100);
    let copy = unpack(Encoding::Identity, b"{}", &LIMITS, &mut memory).unwrap();
    assert_eq!((memory.taken, copy.capacity()), (3, 3));
}

#[test]
fn a_bomb_takes_no_memory_but_its_decoders() {
    for compression in ALL {
        let bomb = deflate(compression, &vec![b'a'; 8 << 20]);
        let mut memory = Metered::new(64 << 20);
        let error = unpack(Encoding::Compressed(compression), &bomb, &LIMITS, &mut memory).unwrap_err();
        assert_eq!(error, InflateError::TooLarge { max_bytes: 4 << 20 });
        assert_eq!(memory.taken, 0);
        assert!(memory.most <= DECODER_BYTES + 2 * SMALL_BYTES, "{compression:?} {}", memory.most);
    }
}

#[test]
fn without_room_nothing_is_unpacked_and_nothing_stays_taken() {
    for compression in ALL {
        let body = deflate(compression, &vec![b'a'; 1 << 20]);
        for room in [0, 1000, 200_000, 500_000, 1 << 20] {
            let mut memory = Metered::new(room);
            let unpacked = unpack(Encoding::Compressed(compression), &body, &LIMITS, &mut memory);
            assert_eq!(unpacked, Err(InflateError::NoRoom), "{compression:?} {room}");
            assert_eq!(memory.taken, 0);
        }
    }
    assert_eq!(unpack(Encoding::Identity, b"{}", &LIMITS, &mut Metered::new(2)), Err(InflateError::NoRoom));
}

#[test]
fn a_body_within_the_ratio_passes_and_one_past_it_is_refused() {
    for compression in ALL {
        let encoding = Encoding::Compressed(compression);
        let body = deflate(compression, &vec![b'a'; 1 << 20]);
        let ratio = (1usize << 20).div_ceil(body.len());
        let limits = |max_ratio| InflateLimits { max_bytes: 8 << 20, max_ratio };
        let mut memory = Metered::new(64 << 20);
        assert!(unpack(encoding, &body, &limits(ratio), &mut memory).is_ok(), "{compression:?}");
        let refused = unpack(encoding, &body, &limits(ratio - 1), &mut Metered::new(64 << 20));
        assert_eq!(refused, Err(InflateError::TooDense { max_ratio: ratio - 1 }), "{compression:?}");
    }
    let limits = InflateLimits { max_bytes: 8 << 20, max_ratio: 100 };
    assert_eq!(limits.bound(10_000).0, 1_000_000);
    assert_eq!(limits.bound(100).0, SMALL_BYTES, "small bodies are not asked");
    assert_eq!(limits.bound(1 << 20).0, 8 << 20);
}

#[test]
fn the_blocks_of_a_frame_count_though_it_is_small() {
    let mut frame = FrameEncoder::with_frame_info(FrameInfo::new().block_size(BlockSize::Max4MB), Vec::new());
    frame.write_all(b"{}").unwrap();
    let frame = frame.finish().unwrap();
    let encoding = Encoding::Compressed(Compression::Lz4);
    assert_eq!(encoding.unpack_small(&frame, &LIMITS, &mut Metered::new(12 << 20)), Err(InflateError::NoRoom));
    assert!(encoding.unpack_small(&frame, &LIMITS, &mut Metered::new(13 << 20)).is_ok());
    let legacy = b"\x02\x21\x4c\x18\x00\x00\x00\x00";
    assert!(matches!(encoding.inflate(legacy, 100), Err(InflateError::Corrupt { .. })));
}

#[test]
fn a_body_of_exactly_the_bound_passes() {
    for compression in ALL {
        let body = deflate(compression, b"12345678");
        assert!(Encoding::Compressed(compression).inflate(&body, 8).is_ok());
        assert!(Encoding::Compressed(compression).inflate(&body, 7).is_err());
    }
}

proptest! {
    #[test]
    fn any_bytes_inflate_to_the_bound_or_an_error(body in proptest::collection::vec(any::<u8>(), 0..200), which in 0..3usize) {
        let magic: [&[u8]; 3] = [b"\x04\x22\x4d\x18\x64\x40\xa7", b"\x28\xb5\x2f\xfd", b"\x1f\x8b\x08\x00"];
        let body = [magic[which], &body].concat();
        if let Ok(inflated) = Encoding::Compressed(ALL[which]).inflate(&body, 64) {
            prop_assert!(inflated.len() <= 64);
        }
    }
}
