//! The name of a batch, the same across retries, restarts and crashes.

use std::fmt;
use std::str::FromStr;

/// The id of one batch: `edge/stream/generation/ordinal`, followed by what was taken of it, a full stop before each
/// [`Piece`].
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
    /// What was taken of it, outermost first; empty for a whole batch.
    pub pieces: Vec<Piece>,
}

/// A part of a batch that travels alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Piece {
    /// A half: `.0` or `.1`.
    Half(u8),
    /// The rows from one number to before another, counted from 0: `.0-5000`.
    Rows(u64, u64),
    /// The rows that the core asked for again, for the first or a later time: `.r`, `.r2`, `.r3`.
    Again(u32),
    /// A dead letter that shared its batch's id with rows that the core had taken, put back for the first or a later time:
    /// `.d`, `.d2`, `.d3`.
    Revived(u32),
}

impl BatchId {
    /// The id of a whole batch.
    pub fn new(edge: &str, stream: &str, generation: u64, ordinal: u32) -> Self {
        Self { edge: edge.to_owned(), stream: stream.to_owned(), generation, ordinal, pieces: Vec::new() }
    }

    /// The ids of this batch's two halves.
    pub fn split(&self) -> [Self; 2] {
        [0, 1].map(|half| self.piece(Piece::Half(half)))
    }

    /// The id of some of this batch's rows.
    pub fn rows(&self, from: u64, to: u64) -> Self {
        self.piece(Piece::Rows(from, to))
    }

    /// The id of those of this batch's rows that the core wants again.
    pub fn again(&self) -> Self {
        let mut id = self.clone();
        let times = match id.pieces.last() {
            Some(Piece::Again(times)) => {
                let times = times.saturating_add(1);
                id.pieces.pop();
                times
            }
            _ => 1,
        };
        id.piece(Piece::Again(times))
    }

    /// The id of those of this batch's rows that were dead letters and are put back.
    pub fn revived(&self) -> Self {
        let mut id = self.clone();
        let times = match id.pieces.last() {
            Some(Piece::Revived(times)) => {
                let times = times.saturating_add(1);
                id.pieces.pop();
                times
            }
            _ => 1,
        };
        id.piece(Piece::Revived(times))
    }

    fn piece(&self, piece: Piece) -> Self {
        let mut id = self.clone();
        id.pieces.push(piece);
        id
    }

    /// The batch's file name without its extension: names sort as generations and ordinals do.
    pub fn file_stem(&self) -> String {
        format!("{:020}-{:06}{}", self.generation, self.ordinal, self.suffix())
    }

    fn suffix(&self) -> String {
        self.pieces.iter().map(|piece| format!(".{piece}")).collect()
    }
}

impl fmt::Display for Piece {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Half(half) => write!(formatter, "{half}"),
            Self::Rows(from, to) => write!(formatter, "{from}-{to}"),
            Self::Again(1) => formatter.write_str("r"),
            Self::Again(times) => write!(formatter, "r{times}"),
            Self::Revived(1) => formatter.write_str("d"),
            Self::Revived(times) => write!(formatter, "d{times}"),
        }
    }
}

impl FromStr for Piece {
    type Err = InvalidBatchId;

    fn from_str(text: &str) -> Result<Self, InvalidBatchId> {
        let number = |text: &str| text.parse::<u64>().map_err(|_| InvalidBatchId);
        let times = |text: &str| if text.is_empty() { Ok(1) } else { text.parse().map_err(|_| InvalidBatchId) };
        let piece = match (text, text.split_once('-')) {
            ("0" | "1", _) => Self::Half(u8::from(text == "1")),
            (_, Some((from, to))) => Self::Rows(number(from)?, number(to)?),
            _ => match (text.strip_prefix('r'), text.strip_prefix('d')) {
                (Some(again), _) => Self::Again(times(again)?),
                (_, Some(revived)) => Self::Revived(times(revived)?),
                _ => return Err(InvalidBatchId),
            },
        };
        // One way to write each, so that one id never has two names.
        if piece.to_string() == text { Ok(piece) } else { Err(InvalidBatchId) }
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
        let mut pieces = last.split('.');
        let ordinal = pieces.next().unwrap_or_default().parse().map_err(|_| InvalidBatchId)?;
        let id = Self {
            edge: edge.to_owned(),
            stream: stream.to_owned(),
            generation: generation.parse().map_err(|_| InvalidBatchId)?,
            ordinal,
            pieces: pieces.map(str::parse).collect::<Result<_, _>>()?,
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
    fn rows_that_travel_alone_have_ids_of_their_own() {
        let id = BatchId::new("e", "s", 1, 0).rows(0, 5000).again();
        assert_eq!(id.to_string(), "e/s/1/0.0-5000.r");
        assert_eq!(id.again().to_string(), "e/s/1/0.0-5000.r2");
        assert_eq!(id.again().again().rows(1, 2).to_string(), "e/s/1/0.0-5000.r3.1-2");
        for id in [id.again(), id.again().rows(3, 4).split()[1].clone(), id] {
            assert_eq!(id.to_string().parse(), Ok(id));
        }
    }

    #[test]
    fn what_is_no_id_is_refused() {
        for text in ["", "e/s/1", "e/s/x/0", "e/s/1/0.2", "e/s/1/", "/s/1/0", "e//1/0", "e/s/+1/0", "e/s/1/00"] {
            assert_eq!(text.parse::<BatchId>(), Err(InvalidBatchId), "{text}");
        }
        for text in ["e/s/1/0.r1", "e/s/1/0.01-2", "e/s/1/0.-2", "e/s/1/0."] {
            assert_eq!(text.parse::<BatchId>(), Err(InvalidBatchId), "{text}");
        }
    }
}
