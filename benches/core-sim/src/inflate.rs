//! Bodies undone of their content encoding, never past a bound.

use std::io::{self, Read};

/// Why a body could not be read.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum InflateError {
    /// An encoding nobody agreed on.
    UnknownEncoding,
    /// Longer than the bound once inflated.
    TooLarge,
    /// Not what the encoding says it is.
    Damaged(String),
}

/// Undoes `encoding`. The result holds `limit` bytes at most.
pub(crate) fn inflate(encoding: Option<&str>, body: &[u8], limit: usize) -> Result<Vec<u8>, InflateError> {
    match encoding.map(str::trim).unwrap_or("identity") {
        "identity" | "" => read_bounded(body, limit),
        "gzip" => read_bounded(flate2::read::MultiGzDecoder::new(body), limit),
        "zstd" => {
            read_bounded(zstd::Decoder::new(body).map_err(|error| InflateError::Damaged(error.to_string()))?, limit)
        }
        "lz4" => read_bounded(lz4_flex::frame::FrameDecoder::new(body), limit),
        _ => Err(InflateError::UnknownEncoding),
    }
}

fn read_bounded(source: impl Read, limit: usize) -> Result<Vec<u8>, InflateError> {
    let mut inflated = Vec::new();
    let read: io::Result<usize> = source.take(limit as u64 + 1).read_to_end(&mut inflated);
    match read {
        Err(error) => Err(InflateError::Damaged(error.to_string())),
        Ok(length) if length > limit => Err(InflateError::TooLarge),
        Ok(_) => Ok(inflated),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn lz4(data: &[u8]) -> Vec<u8> {
        let mut encoder = lz4_flex::frame::FrameEncoder::new(Vec::new());
        encoder.write_all(data).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn every_agreed_encoding_comes_back_as_it_was() {
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(b"rows").unwrap();
        let bodies = [
            ("gzip", gzip.finish().unwrap()),
            ("zstd", zstd::encode_all(&b"rows"[..], 1).unwrap()),
            ("lz4", lz4(b"rows")),
            ("identity", b"rows".to_vec()),
        ];
        for (encoding, body) in bodies {
            assert_eq!(inflate(Some(encoding), &body, 4).unwrap(), b"rows", "{encoding}");
        }
    }

    #[test]
    fn a_bomb_is_not_inflated_past_the_bound() {
        let bomb = lz4(&vec![0; 1 << 20]);
        assert_eq!(inflate(Some("lz4"), &bomb, 1 << 16), Err(InflateError::TooLarge));
    }

    #[test]
    fn an_encoding_nobody_agreed_on_is_named_as_such() {
        assert_eq!(inflate(Some("br"), b"x", 8), Err(InflateError::UnknownEncoding));
        assert!(matches!(inflate(Some("gzip"), b"x", 8), Err(InflateError::Damaged(_))));
    }
}
