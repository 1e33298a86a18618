//! The faults, and which of them a seed gives. Pure: the same seed and count always give the same sequence.

use rand::rngs::SmallRng;
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};
use serde::{Deserialize, Serialize};

/// One thing that goes wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "fault", rename_all = "snake_case")]
pub enum Fault {
    /// `kill -9`, and a new start on the same directory.
    Kill,
    /// The same, and once more while the node starts.
    KillTwice {
        /// How long the second life lasts.
        millis: u64,
    },
    /// SIGTERM, and a new start.
    Restart,
    /// No file of the node's may grow past a length: a write is cut short there and fails.
    DiskFull {
        /// The length.
        bytes: u64,
        /// For how long.
        millis: u64,
    },
    /// The bounds of journal and outbox are lowered to their least for a time.
    Bounds {
        /// For how long.
        millis: u64,
    },
    /// Another configuration, by a reload.
    Reload(Tuning),
    /// The core answers batches with a status and takes nothing.
    CoreStatus {
        /// The status.
        code: u16,
        /// Its `Retry-After`, in seconds.
        retry_after: Option<u64>,
        /// How many requests.
        requests: u64,
    },
    /// The core refuses batches with a bad row in them (400).
    CoreBadRows {
        /// Rows for one that is bad.
        one_in: u64,
        /// For how long.
        millis: u64,
    },
    /// The core refuses batches of more rows (413).
    CoreTooLarge {
        /// Rows.
        max_rows: u64,
        /// For how long.
        millis: u64,
    },
    /// The core takes batches in part (207): of so many rows it refuses one and wants one again.
    CorePartial {
        /// Rows.
        one_in: u64,
        /// How many requests.
        requests: u64,
    },
    /// The core answers 207 with bytes that no contract allows.
    CoreGarbage {
        /// How many requests.
        requests: u64,
    },
    /// The core reads batches and never answers.
    CoreHang {
        /// For how long.
        millis: u64,
    },
    /// The core takes batches and answers when the node has given up.
    CoreLate {
        /// How many requests.
        requests: u64,
    },
    /// The core takes batches and the connection breaks in the middle of the answer.
    CoreCut {
        /// How many requests.
        requests: u64,
    },
    /// The core refuses connections.
    CoreDown {
        /// For how long.
        millis: u64,
    },
    /// `kill -9`, and what agents were not told of is cut off the journal, anywhere in it, as when power fails before a sync.
    TornTail,
    /// `kill -9`, and a write that was never finished at the end of the journal.
    HalfWrite {
        /// Bytes of it.
        bytes: u64,
        /// Whether they are zeros, as some file systems leave them, instead of noise.
        zeros: bool,
    },
    /// `kill -9`, and a note that was never finished.
    HalfNote {
        /// Bytes of it.
        bytes: u64,
    },
    /// `kill -9`, and a batch in the outbox that was never finished.
    HalfBatch {
        /// Whether it has its name already.
        named: bool,
    },
    /// `kill -9`, and one bit of an upload in the journal turns over. Its records are lost, and the node must say so.
    FlippedUpload,
    /// `kill -9`, and one bit of a batch in the outbox turns over. If nothing else has its rows, they are lost, and the node must
    /// say so.
    FlippedBatch,
}

/// What a reload changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tuning {
    /// The merge window in milliseconds.
    pub window_ms: u64,
    /// How batches are packed.
    pub compression: Packing,
    /// Whether the batches of merged records are written as shapes instead of rows.
    pub shapes: bool,
    /// Batches on their way at once.
    pub max_in_flight: u32,
    /// Rows of a batch, at most.
    pub max_records: u32,
    /// The age at which a batch leaves, in milliseconds.
    pub max_age_ms: u64,
}

/// The compressions that the node knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "the names say it")]
pub enum Packing {
    Lz4,
    Zstd,
    Gzip,
}

/// A fault and when it comes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Planned {
    /// Since the last one was over.
    pub(super) pause_ms: u64,
    pub(super) fault: Fault,
    /// For what is chosen when the fault comes, such as the bit that turns over.
    pub(super) seed: u64,
}

/// What stands in a deck, and so comes up in every run of as many faults.
#[derive(Clone, Copy, Debug)]
enum Card {
    Kill,
    KillTwice,
    Restart,
    DiskFull,
    Bounds,
    Reload,
    Status,
    BadRows,
    TooLarge,
    Partial,
    Garbage,
    Hang,
    Late,
    Cut,
    Down,
    TornTail,
    HalfWrite,
    HalfNote,
    HalfBatch,
    FlippedUpload,
    FlippedBatch,
}

const DECK: [Card; 25] = [
    Card::Kill,
    Card::Kill,
    Card::Kill,
    Card::KillTwice,
    Card::Restart,
    Card::DiskFull,
    Card::Bounds,
    Card::Reload,
    Card::Reload,
    Card::Status,
    Card::Status,
    Card::BadRows,
    Card::TooLarge,
    Card::Partial,
    Card::Garbage,
    Card::Hang,
    Card::Late,
    Card::Cut,
    Card::Down,
    Card::TornTail,
    Card::HalfWrite,
    Card::HalfNote,
    Card::HalfBatch,
    Card::FlippedUpload,
    Card::FlippedBatch,
];

/// The faults that a seed gives, from shuffled decks.
pub(super) fn plan(seed: u64, count: usize) -> Vec<Planned> {
    let mut rng = SmallRng::seed_from_u64(seed);
    let mut planned = Vec::with_capacity(count);
    while planned.len() < count {
        let mut deck = DECK;
        deck.shuffle(&mut rng);
        for card in deck.into_iter().take(count - planned.len()) {
            let pause_ms = rng.random_range(20..300);
            planned.push(Planned { pause_ms, fault: card.play(&mut rng), seed: rng.random() });
        }
    }
    planned
}

impl Card {
    fn play(self, rng: &mut SmallRng) -> Fault {
        let mut millis = |most: u64| rng.random_range(100..most);
        match self {
            Self::Kill => Fault::Kill,
            Self::KillTwice => Fault::KillTwice { millis: rng.random_range(1..150) },
            Self::Restart => Fault::Restart,
            Self::DiskFull => {
                Fault::DiskFull { millis: millis(1_500), bytes: [0, 4_000, 60_000][rng.random_range(0..3)] }
            }
            Self::Bounds => Fault::Bounds { millis: millis(1_000) },
            Self::Reload => Fault::Reload(Tuning::draw(rng)),
            Self::Status => {
                let (code, retry_after) =
                    [(500, None), (502, None), (503, None), (503, Some(1)), (429, Some(1)), (429, None), (404, None)]
                        [rng.random_range(0..7)];
                Fault::CoreStatus { code, retry_after, requests: rng.random_range(1..6) }
            }
            Self::BadRows => {
                Fault::CoreBadRows { millis: millis(1_500), one_in: [1, 50, 1_000, 10_000][rng.random_range(0..4)] }
            }
            Self::TooLarge => {
                Fault::CoreTooLarge { millis: millis(1_000), max_rows: [10, 100, 400][rng.random_range(0..3)] }
            }
            Self::Partial => {
                Fault::CorePartial { one_in: [2, 50, 500][rng.random_range(0..3)], requests: rng.random_range(1..8) }
            }
            Self::Garbage => Fault::CoreGarbage { requests: rng.random_range(1..6) },
            Self::Hang => Fault::CoreHang { millis: millis(1_500) },
            Self::Late => Fault::CoreLate { requests: rng.random_range(1..4) },
            Self::Cut => Fault::CoreCut { requests: rng.random_range(1..6) },
            Self::Down => Fault::CoreDown { millis: millis(1_500) },
            Self::TornTail => Fault::TornTail,
            Self::HalfWrite => Fault::HalfWrite { bytes: rng.random_range(1..5_000), zeros: rng.random() },
            Self::HalfNote => Fault::HalfNote { bytes: rng.random_range(1..60) },
            Self::HalfBatch => Fault::HalfBatch { named: rng.random() },
            Self::FlippedUpload => Fault::FlippedUpload,
            Self::FlippedBatch => Fault::FlippedBatch,
        }
    }
}

impl Tuning {
    /// What a run begins with.
    pub(super) const FIRST: Self = Self {
        window_ms: 2_000,
        compression: Packing::Lz4,
        shapes: false,
        max_in_flight: 4,
        max_records: 2_000,
        max_age_ms: 100,
    };

    fn draw(rng: &mut SmallRng) -> Self {
        Self {
            window_ms: [500, 1_000, 2_000, 4_000][rng.random_range(0..4)],
            compression: [Packing::Lz4, Packing::Zstd, Packing::Gzip][rng.random_range(0..3)],
            shapes: rng.random(),
            max_in_flight: [1, 2, 4, 8][rng.random_range(0..4)],
            max_records: [200, 2_000][rng.random_range(0..2)],
            max_age_ms: [50, 100, 400][rng.random_range(0..3)],
        }
    }
}

impl Packing {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Lz4 => "lz4",
            Self::Zstd => "zstd",
            Self::Gzip => "gzip",
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn a_seed_gives_one_sequence_and_another_seed_another() {
        assert_eq!(plan(7, 200), plan(7, 200));
        assert_eq!(plan(7, 200)[..60], plan(7, 60));
        assert_ne!(plan(7, 60), plan(8, 60));
    }

    #[test]
    fn a_short_run_meets_every_kind_of_fault() {
        let kinds: HashSet<String> = plan(1, DECK.len())
            .iter()
            .map(|planned| serde_json::to_value(&planned.fault).unwrap()["fault"].as_str().unwrap().to_owned())
            .collect();
        assert_eq!(kinds.len(), 21, "{kinds:?}");
    }

    #[test]
    fn a_fault_survives_its_own_writing() {
        for planned in plan(3, 100) {
            let text = serde_json::to_string(&planned.fault).unwrap();
            assert_eq!(serde_json::from_str::<Fault>(&text).unwrap(), planned.fault);
        }
    }
}
