//! Uploads compressed as agents may: one `Content-Encoding` for all.

use std::io::{self, Write};
use std::str::FromStr;

/// How uploads are compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    /// gzip (RFC 1952), level 6.
    Gzip,
    /// Zstandard (RFC 8878), level 3.
    Zstd,
    /// An LZ4 frame.
    Lz4,
}

impl Compression {
    /// The name in `Content-Encoding`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Gzip => "gzip",
            Self::Zstd => "zstd",
            Self::Lz4 => "lz4",
        }
    }

    /// Compresses a body.
    ///
    /// # Errors
    /// None that a body in memory can cause; what the libraries say.
    pub(crate) fn pack(self, body: &[u8]) -> io::Result<Vec<u8>> {
        match self {
            Self::Gzip => {
                let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
                encoder.write_all(body)?;
                encoder.finish()
            }
            Self::Zstd => zstd::bulk::compress(body, 3),
            Self::Lz4 => {
                let mut encoder = lz4_flex::frame::FrameEncoder::new(Vec::new());
                encoder.write_all(body)?;
                Ok(encoder.finish()?)
            }
        }
    }
}

impl FromStr for Compression {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let known = [Self::Gzip, Self::Zstd, Self::Lz4];
        known.into_iter().find(|compression| compression.name() == text).ok_or("gzip, zstd or lz4 is wanted")
    }
}
