//! Compression of uploads and batches: gzip (RFC 1952), Zstandard (RFC 8878) and LZ4 frames. Unpacking is in `inflate`.

use std::io::{self, Write};

use flate2::write::GzEncoder;
use lz4_flex::frame::{BlockSize, FrameEncoder, FrameInfo};

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
    use super::*;

    #[test]
    fn encodings_are_named_in_any_case() {
        assert_eq!(Encoding::from_header(None), Ok(Encoding::Identity));
        assert_eq!(Encoding::from_header(Some(" GZip ")), Ok(Encoding::Compressed(Compression::Gzip)));
        assert_eq!(Encoding::from_header(Some("br")), Err(UnknownEncoding));
        assert_eq!(Encoding::from_header(Some("gzip, gzip")), Err(UnknownEncoding));
    }
}
