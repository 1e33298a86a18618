//! Compression of uploads and batches: gzip (RFC 1952), Zstandard (RFC 8878) and LZ4 frames.
//!
//! Inflation is bounded by the bytes it may yield, whatever the input claims. Memory beside the output: 8 MiB of window
//! for Zstandard, 4 MiB blocks twice for LZ4, 32 KiB for gzip. Several members or frames in a row are one body; a body
//! that is cut short or goes on after its end is an error, never a shorter body.

use std::borrow::Cow;
use std::io::{self, Read, Write};

use flate2::read::MultiGzDecoder;
use flate2::write::GzEncoder;
use lz4_flex::frame::{BlockSize, FrameDecoder, FrameEncoder, FrameInfo};

/// How a batch is packed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Compression {
    /// An LZ4 frame.
    #[default]
    Lz4,
    /// Zstandard, level 3.
    Zstd,
    /// gzip, the fastest level.
    Gzip,
}

impl Compression {
    /// The name in `Content-Encoding`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Lz4 => "lz4",
            Self::Zstd => "zstd",
            Self::Gzip => "gzip",
        }
    }
}

/// How an upload's body is packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    /// As it is.
    Identity,
    /// In this compression.
    Compressed(Compression),
}

/// A `Content-Encoding` that is not spoken here: answered 415.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the content encoding is none of identity, gzip, zstd, lz4")]
pub struct UnknownEncoding;

impl Encoding {
    /// Reads the value of a `Content-Encoding` header (RFC 9110, section 8.4); `None` when the request has none.
    pub fn from_header(value: Option<&str>) -> Result<Self, UnknownEncoding> {
        let name = value.unwrap_or("identity").trim();
        [
            ("identity", Self::Identity),
            ("", Self::Identity),
            ("gzip", Self::Compressed(Compression::Gzip)),
            ("x-gzip", Self::Compressed(Compression::Gzip)),
            ("zstd", Self::Compressed(Compression::Zstd)),
            ("lz4", Self::Compressed(Compression::Lz4)),
        ]
        .into_iter()
        .find_map(|(known, encoding)| name.eq_ignore_ascii_case(known).then_some(encoding))
        .ok_or(UnknownEncoding)
    }

    /// Unpacks `body` into at most `max_bytes` bytes.
    pub fn inflate(self, body: &[u8], max_bytes: usize) -> Result<Cow<'_, [u8]>, InflateError> {
        match self {
            Self::Identity if body.len() > max_bytes => Err(InflateError::TooLarge { max_bytes }),
            Self::Identity => Ok(Cow::Borrowed(body)),
            Self::Compressed(compression) => inflate(compression, body, max_bytes).map(Cow::Owned),
        }
    }
}

/// Why a body could not be unpacked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InflateError {
    /// More bytes came out than may: 413.
    #[error("the body is longer than {max_bytes} bytes once unpacked")]
    TooLarge {
        /// The bound.
        max_bytes: usize,
    },
    /// The bytes are not what the encoding says: 400.
    #[error("the body is no valid {encoding}: {cause}")]
    Corrupt {
        /// The encoding's name.
        encoding: &'static str,
        /// What the decoder says.
        cause: String,
    },
}

fn inflate(compression: Compression, body: &[u8], max_bytes: usize) -> Result<Vec<u8>, InflateError> {
    let mut output = Bounded { bytes: Vec::new(), max_bytes, overrun: false };
    match copy_inflated(compression, body, &mut output) {
        _ if output.overrun => Err(InflateError::TooLarge { max_bytes }),
        Ok(()) => Ok(output.bytes),
        Err(cause) => Err(InflateError::Corrupt { encoding: compression.name(), cause: cause.to_string() }),
    }
}

fn copy_inflated(compression: Compression, body: &[u8], output: &mut Bounded) -> io::Result<()> {
    match compression {
        Compression::Gzip => io::copy(&mut MultiGzDecoder::new(body), output).map(drop),
        Compression::Zstd => {
            let mut decoder = zstd::stream::read::Decoder::with_buffer(body)?;
            decoder.window_log_max(ZSTD_WINDOW_LOG)?;
            io::copy(&mut decoder, output).map(drop)
        }
        Compression::Lz4 => copy_lz4(body, output),
    }
}

/// Windows of up to 8 MiB, as RFC 8878 section 3.1.1.1.2 asks every decoder to support.
const ZSTD_WINDOW_LOG: u32 = 23;

/// The frame decoder takes the end of the input for the end of the frame. It asks past the input's end only when it
/// still expects something, which is how a frame that was cut between two blocks is told from a whole one.
fn copy_lz4(body: &[u8], output: &mut Bounded) -> io::Result<()> {
    let mut input = Watched { rest: body, ran_out: false };
    loop {
        io::copy(&mut Plain(FrameDecoder::new(&mut input)), output)?;
        if input.ran_out {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the frame is cut short"));
        }
        if input.rest.is_empty() {
            return Ok(());
        }
    }
}

struct Watched<'a> {
    rest: &'a [u8],
    ran_out: bool,
}

impl Read for &mut Watched<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.ran_out |= self.rest.is_empty() && !buffer.is_empty();
        self.rest.read(buffer)
    }
}

/// Hides what else the frame decoder is but a reader: it must not be asked again once it has said that a frame has
/// ended.
struct Plain<R>(R);

impl<R: Read> Read for Plain<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer)
    }
}

struct Bounded {
    bytes: Vec<u8>,
    max_bytes: usize,
    overrun: bool,
}

impl Write for Bounded {
    fn write(&mut self, chunk: &[u8]) -> io::Result<usize> {
        if chunk.len() > self.max_bytes - self.bytes.len() {
            self.overrun = true;
            return Err(io::Error::other("too large"));
        }
        self.bytes.extend_from_slice(chunk);
        Ok(chunk.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A compressor into memory.
pub(crate) enum Deflater {
    Lz4(FrameEncoder<Vec<u8>>),
    Zstd(zstd::stream::write::Encoder<'static, Vec<u8>>),
    Gzip(GzEncoder<Vec<u8>>),
}

impl Deflater {
    pub(crate) fn new(compression: Compression) -> io::Result<Self> {
        Ok(match compression {
            Compression::Lz4 => {
                let info = FrameInfo::new().block_size(BlockSize::Max256KB).content_checksum(true);
                Self::Lz4(FrameEncoder::with_frame_info(info, Vec::new()))
            }
            Compression::Zstd => {
                let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), 3)?;
                encoder.include_checksum(true)?;
                Self::Zstd(encoder)
            }
            Compression::Gzip => Self::Gzip(GzEncoder::new(Vec::new(), flate2::Compression::fast())),
        })
    }

    pub(crate) fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Self::Lz4(encoder) => encoder.write_all(bytes),
            Self::Zstd(encoder) => encoder.write_all(bytes),
            Self::Gzip(encoder) => encoder.write_all(bytes),
        }
    }

    pub(crate) fn finish(self) -> io::Result<Vec<u8>> {
        match self {
            Self::Lz4(encoder) => encoder.finish().map_err(io::Error::other),
            Self::Zstd(encoder) => encoder.finish(),
            Self::Gzip(encoder) => encoder.finish(),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

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

    #[test]
    fn a_body_of_exactly_the_bound_passes() {
        for compression in ALL {
            let body = deflate(compression, b"12345678");
            assert!(Encoding::Compressed(compression).inflate(&body, 8).is_ok());
            assert!(Encoding::Compressed(compression).inflate(&body, 7).is_err());
        }
    }

    #[test]
    fn encodings_are_named_in_any_case() {
        assert_eq!(Encoding::from_header(None), Ok(Encoding::Identity));
        assert_eq!(Encoding::from_header(Some(" GZip ")), Ok(Encoding::Compressed(Compression::Gzip)));
        assert_eq!(Encoding::from_header(Some("br")), Err(UnknownEncoding));
        assert_eq!(Encoding::from_header(Some("gzip, gzip")), Err(UnknownEncoding));
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
}
