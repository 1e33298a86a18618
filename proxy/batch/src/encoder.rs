//! Rows gathered into one compressed payload.

use std::io;

use crate::compression::{Compression, Deflater};
use crate::shapes;

/// A batch in the making. As rows it costs its compressed bytes and the compressor's own memory, under 2 MiB each. As
/// shapes it costs its rows until it is closed, and while it is closed three times as much.
pub struct BatchEncoder {
    compression: Compression,
    counts: Counts,
    lines: Lines,
}

enum Lines {
    /// Compressed one by one.
    Rows(Deflater),
    /// Kept until all are known, and the fields that make a shape.
    Shapes { rows: Vec<u8>, same: Vec<String> },
}

/// How rows are written as lines. Part of the contract with the core: see `proxy/FORMAT.md`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// Each row is a line.
    #[default]
    Rows,
    /// Rows are tables in columns; what many have in common stands once.
    Shapes,
}

impl Format {
    /// Its name and version in `Weir-Format`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Rows => "rows/1",
            Self::Shapes => shapes::NAME,
        }
    }

    pub(crate) fn is_rows(&self) -> bool {
        *self == Self::Rows
    }
}

/// A finished batch, without its name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Payload {
    /// The compressed lines.
    pub bytes: Vec<u8>,
    /// How they are packed.
    pub compression: Compression,
    /// What the lines are.
    pub format: Format,
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
    /// Bytes of the rows, each a line, before compression.
    pub raw_bytes: u64,
}

impl std::ops::AddAssign for Counts {
    fn add_assign(&mut self, other: Self) {
        self.rows = self.rows.saturating_add(other.rows);
        self.records = self.records.saturating_add(other.records);
        self.merged = self.merged.saturating_add(other.merged);
        self.raw_bytes = self.raw_bytes.saturating_add(other.raw_bytes);
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
    /// An empty batch of rows.
    ///
    /// # Errors
    /// When the compressor cannot be set up, for want of memory.
    pub fn new(compression: Compression) -> io::Result<Self> {
        let lines = Lines::Rows(Deflater::new(compression)?);
        Ok(Self { compression, counts: Counts::default(), lines })
    }

    /// An empty batch in which rows that have these fields in common share them. It becomes one of rows when that is
    /// shorter.
    pub fn shapes(compression: Compression, same: Vec<String>) -> Self {
        Self { compression, counts: Counts::default(), lines: Lines::Shapes { rows: Vec::new(), same } }
    }

    /// Adds a row that stands for itself: an event or a sign of life. The row ends with its line feed.
    ///
    /// # Errors
    /// When the compressor fails; the batch is then lost.
    pub fn push(&mut self, row: &[u8]) -> io::Result<()> {
        self.push_counted(row, 1, 0)
    }

    /// Adds a row that stands for `count` merged records.
    ///
    /// # Errors
    /// When the compressor fails; the batch is then lost.
    pub fn push_repeat(&mut self, row: &[u8], count: u64) -> io::Result<()> {
        self.push_counted(row, count, count)
    }

    /// Adds a row that stands for so many records, of which so many do not travel themselves.
    ///
    /// # Errors
    /// When the compressor fails; the batch is then lost.
    pub fn push_counted(&mut self, row: &[u8], records: u64, merged: u64) -> io::Result<()> {
        self.counts.records += records;
        self.counts.merged += merged;
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
        let Self { compression, counts, lines } = self;
        let (format, bytes) = match lines {
            Lines::Rows(deflater) => (Format::Rows, deflater.finish()?),
            Lines::Shapes { rows, same } => {
                let lines = shapes::encode(&rows, &same);
                let format = if lines.is_some() { Format::Shapes } else { Format::Rows };
                let mut deflater = Deflater::new(compression)?;
                deflater.write(&lines.unwrap_or(rows))?;
                (format, deflater.finish()?)
            }
        };
        Ok(Payload { bytes, compression, format, counts })
    }

    fn write(&mut self, row: &[u8]) -> io::Result<()> {
        self.counts.rows += 1;
        self.counts.raw_bytes += row.len() as u64;
        match &mut self.lines {
            Lines::Rows(deflater) => deflater.write(row),
            Lines::Shapes { rows, .. } => {
                rows.extend_from_slice(row);
                Ok(())
            }
        }
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
