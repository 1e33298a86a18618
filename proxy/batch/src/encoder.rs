//! Rows gathered into one compressed payload.

use std::io;

use crate::compression::{Compression, Deflater};

/// A batch in the making. Costs its compressed bytes and the compressor's own memory: under 2 MiB each.
pub struct BatchEncoder {
    deflater: Deflater,
    compression: Compression,
    counts: Counts,
}

/// A finished batch, without its name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Payload {
    /// The compressed rows.
    pub bytes: Vec<u8>,
    /// How they are packed.
    pub compression: Compression,
    /// What is in them.
    pub counts: Counts,
}

/// What is in a batch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Counts {
    /// Rows.
    pub rows: u64,
    /// Records that the rows stand for: one for a record that travels itself, its count for a repeat row.
    pub records: u64,
    /// Records merged into repeat rows; the rest travels itself.
    pub merged: u64,
    /// Bytes of the rows before compression.
    pub raw_bytes: u64,
}

impl std::ops::AddAssign for Counts {
    fn add_assign(&mut self, other: Self) {
        self.rows += other.rows;
        self.records += other.records;
        self.merged += other.merged;
        self.raw_bytes += other.raw_bytes;
    }
}

impl std::ops::SubAssign for Counts {
    fn sub_assign(&mut self, other: Self) {
        self.rows = self.rows.saturating_sub(other.rows);
        self.records = self.records.saturating_sub(other.records);
        self.merged = self.merged.saturating_sub(other.merged);
        self.raw_bytes = self.raw_bytes.saturating_sub(other.raw_bytes);
    }
}

impl BatchEncoder {
    /// An empty batch.
    ///
    /// # Errors
    /// When the compressor cannot be set up, for want of memory.
    pub fn new(compression: Compression) -> io::Result<Self> {
        Ok(Self { deflater: Deflater::new(compression)?, compression, counts: Counts::default() })
    }

    /// Adds a row that stands for itself: an event or a sign of life. The row ends with its line feed.
    ///
    /// # Errors
    /// When the compressor fails; the batch is then lost.
    pub fn push(&mut self, row: &[u8]) -> io::Result<()> {
        self.counts.records += 1;
        self.write(row)
    }

    /// Adds a row that stands for `count` merged records.
    ///
    /// # Errors
    /// When the compressor fails; the batch is then lost.
    pub fn push_repeat(&mut self, row: &[u8], count: u64) -> io::Result<()> {
        self.counts.records += count;
        self.counts.merged += count;
        self.write(row)
    }

    /// What has been added so far.
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// Closes the batch.
    ///
    /// # Errors
    /// When the compressor fails.
    pub fn finish(self) -> io::Result<Payload> {
        Ok(Payload { bytes: self.deflater.finish()?, compression: self.compression, counts: self.counts })
    }

    fn write(&mut self, row: &[u8]) -> io::Result<()> {
        self.counts.rows += 1;
        self.counts.raw_bytes += row.len() as u64;
        self.deflater.write(row)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compression::Encoding;

    #[test]
    fn rows_come_back_as_they_went_in() {
        for compression in [Compression::Lz4, Compression::Zstd, Compression::Gzip] {
            let mut encoder = BatchEncoder::new(compression).unwrap();
            encoder.push(b"{\"kind\":\"event\"}\n").unwrap();
            encoder.push_repeat(b"{\"kind\":\"repeat\"}\n", 7).unwrap();
            let payload = encoder.finish().unwrap();
            assert_eq!(payload.counts, Counts { rows: 2, records: 8, merged: 7, raw_bytes: 35 });
            let rows = Encoding::Compressed(compression).inflate(&payload.bytes, 35).unwrap();
            assert_eq!(&*rows, b"{\"kind\":\"event\"}\n{\"kind\":\"repeat\"}\n");
        }
    }
}
