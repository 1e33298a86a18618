//! The name of a batch, the same across retries, restarts and crashes.

use std::fmt;
use std::str::FromStr;

/// The id of one batch: `edge/stream/generation/ordinal`, followed by `.0` or `.1` for each time it was cut in halves.
///
/// The core drops a batch whose id it has accepted before, so an id must never be used for two different payloads.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BatchId {
    /// The edge's name.
    pub edge: String,
    /// The stream's name.
    pub stream: String,
    /// The journal generation that the batch covers.
    pub generation: u64,
    /// The batch's place among those of its generation.
    pub ordinal: u32,
    /// The halves taken, outermost first; empty for a whole batch. Each is 0 or 1.
    pub halves: Vec<u8>,
}

impl BatchId {
    /// The id of a whole batch.
    pub fn new(edge: &str, stream: &str, generation: u64, ordinal: u32) -> Self {
        Self { edge: edge.to_owned(), stream: stream.to_owned(), generation, ordinal, halves: Vec::new() }
    }

    /// The ids of this batch's two halves.
    pub fn split(&self) -> [Self; 2] {
        [0, 1].map(|half| {
            let mut id = self.clone();
            id.halves.push(half);
            id
        })
    }

    /// The batch's file name without its extension: names sort as generations, ordinals and halves do.
    pub fn file_stem(&self) -> String {
        format!("{:020}-{:06}{}", self.generation, self.ordinal, self.suffix())
    }

    fn suffix(&self) -> String {
        self.halves.iter().map(|half| format!(".{half}")).collect()
    }
}

impl fmt::Display for BatchId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}/{}/{}/{}{}", self.edge, self.stream, self.generation, self.ordinal, self.suffix())
    }
}

/// A text that is no batch id.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a batch id reads edge/stream/generation/ordinal")]
pub struct InvalidBatchId;

impl FromStr for BatchId {
    type Err = InvalidBatchId;

    fn from_str(text: &str) -> Result<Self, InvalidBatchId> {
        // From the right: an edge's name may hold slashes, the rest cannot.
        let mut parts = text.rsplitn(4, '/');
        let mut part = || parts.next().filter(|part| !part.is_empty()).ok_or(InvalidBatchId);
        let (last, generation, stream, edge) = (part()?, part()?, part()?, part()?);
        let mut numbers = last.split('.');
        let ordinal = numbers.next().unwrap_or_default().parse().map_err(|_| InvalidBatchId)?;
        let halves = numbers.map(|half| half.parse().ok().filter(|half| *half < 2).ok_or(InvalidBatchId));
        let id = Self {
            edge: edge.to_owned(),
            stream: stream.to_owned(),
            generation: generation.parse().map_err(|_| InvalidBatchId)?,
            ordinal,
            halves: halves.collect::<Result<_, _>>()?,
        };
        // One text names one batch: no signs, no leading zeros.
        if id.to_string() == text { Ok(id) } else { Err(InvalidBatchId) }
    }
}

impl serde::Serialize for BatchId {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> serde::Deserialize<'de> for BatchId {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_reads_back_as_it_was_written() {
        let id = BatchId::new("edge/eu-1", "process", 1_700_000_000_000, 3);
        assert_eq!(id.to_string(), "edge/eu-1/process/1700000000000/3");
        assert_eq!(id.to_string().parse(), Ok(id.clone()));
        let half = id.split()[1].split()[0].clone();
        assert_eq!(half.to_string(), "edge/eu-1/process/1700000000000/3.1.0");
        assert_eq!(half.to_string().parse(), Ok(half));
    }

    #[test]
    fn what_is_no_id_is_refused() {
        for text in ["", "e/s/1", "e/s/x/0", "e/s/1/0.2", "e/s/1/", "/s/1/0", "e//1/0", "e/s/+1/0", "e/s/1/00"] {
            assert_eq!(text.parse::<BatchId>(), Err(InvalidBatchId), "{text}");
        }
    }
}
