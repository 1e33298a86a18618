//! What was measured: the document that `--json` writes, and the medians that are printed.

use serde::{Deserialize, Serialize};

use super::config::Transport;
use crate::rounds::median;

/// The version of the document.
pub(super) const FORMAT: u32 = 1;

/// Everything that was measured.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Figures {
    /// The version of this document.
    pub format: u32,
    /// The processors of node and load; none where the system chose.
    pub processors: Option<(usize, usize)>,
    /// How agents compressed their uploads.
    pub compression_of_uploads: Option<String>,
    /// Keep-alive connections.
    pub connections: u32,
    /// Throughput, one entry for each subject and transport.
    pub speed: Vec<Speed>,
    /// Starts on a journal.
    pub replay: Vec<Replay>,
    /// Bytes in and out.
    pub bytes: Vec<Bytes>,
}

/// The throughput of one subject.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Speed {
    /// `floor`, or a configuration of the node: durability, encoding, compression.
    pub subject: String,
    /// How agents reached it.
    pub transport: Transport,
    /// Round by round.
    pub rounds: Vec<Round>,
    /// The medians.
    pub median: Round,
    /// The median over the rounds of the CPU time over the floor's in the same round; none for the floor.
    pub cpu_over_floor: Option<f64>,
}

/// One round.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Round {
    /// Events acknowledged a second. The subject has one processor: this is per core.
    pub events_per_second: f64,
    /// CPU seconds (user and system) of the subject's process for a million events.
    pub cpu_seconds_per_million: f64,
    /// CPU time of the subject over the time that passed; well below 1, it waited for the disk or for the load.
    pub busy: f64,
    /// CPU time of agents and core over the time that passed; near 1, the load was the bottleneck and not the subject.
    pub load_busy: f64,
    /// Growth of the journal in bytes a second.
    pub journal_bytes_per_second: f64,
    /// Bytes of journal for an event.
    pub journal_bytes_per_event: f64,
    /// Uploads refused or without an answer; a round with many of them is void.
    pub uploads_not_taken: u64,
}

/// A start on a journal that nothing has left yet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Replay {
    /// Events in it.
    pub events: u64,
    /// Its bytes.
    pub bytes: u64,
    /// From the start of the process until all was replayed, less the time that a start on nothing takes.
    pub seconds: f64,
}

/// Bytes in and out, everything delivered.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Bytes {
    /// The configuration of the node.
    pub subject: String,
    /// Events.
    pub events: u64,
    /// Bytes of uploads, heads included, TLS not.
    pub from_agents: u64,
    /// Bytes of batches' bodies.
    pub to_core: u64,
}

impl Round {
    /// The median of each figure by itself.
    pub(super) fn median(rounds: &[Self]) -> Self {
        let of = |figure: fn(&Self) -> f64| median(rounds.iter().map(figure).collect());
        Self {
            events_per_second: of(|round| round.events_per_second),
            cpu_seconds_per_million: of(|round| round.cpu_seconds_per_million),
            busy: of(|round| round.busy),
            load_busy: of(|round| round.load_busy),
            journal_bytes_per_second: of(|round| round.journal_bytes_per_second),
            journal_bytes_per_event: of(|round| round.journal_bytes_per_event),
            uploads_not_taken: rounds.iter().map(|round| round.uploads_not_taken).max().unwrap_or(0),
        }
    }
}

impl Figures {
    /// Adds a round to its subject's.
    pub(super) fn add(&mut self, subject: &str, transport: Transport, round: Round) {
        let known = self.speed.iter_mut().find(|speed| speed.subject == subject && speed.transport == transport);
        match known {
            Some(speed) => speed.rounds.push(round),
            None => self.speed.push(Speed {
                subject: subject.to_owned(),
                transport,
                rounds: vec![round],
                median: round,
                cpu_over_floor: None,
            }),
        }
    }

    /// Works the medians and ratios out.
    pub(super) fn close(&mut self) {
        let floors: Vec<Speed> = self.speed.iter().filter(|speed| speed.subject == FLOOR).cloned().collect();
        for speed in &mut self.speed {
            speed.median = Round::median(&speed.rounds);
            let floor = floors.iter().find(|floor| floor.transport == speed.transport && speed.subject != FLOOR);
            speed.cpu_over_floor = floor.map(|floor| {
                let pairs = speed.rounds.iter().zip(&floor.rounds);
                median(
                    pairs.map(|(round, floor)| round.cpu_seconds_per_million / floor.cpu_seconds_per_million).collect(),
                )
            });
        }
    }

    /// The medians as people read them.
    pub(super) fn table(&self) -> String {
        let mut text = String::from(
            "\n  transport  subject             events/s  CPU s per million  over floor  busy  load busy  journal MB/s  B/event\n",
        );
        for speed in &self.speed {
            let (round, transport) = (&speed.median, format!("{:?}", speed.transport).to_lowercase());
            let over = speed.cpu_over_floor.map_or("-".to_owned(), |over| format!("{over:.2}"));
            text += &format!(
                "  {transport:<9}  {:<18}  {:>8.0}  {:>17.2}  {over:>10}  {:>4.2}  {:>9.2}  {:>12.1}  {:>7.0}\n",
                speed.subject,
                round.events_per_second,
                round.cpu_seconds_per_million,
                round.busy,
                round.load_busy,
                round.journal_bytes_per_second / 1e6,
                round.journal_bytes_per_event
            );
        }
        for replay in &self.replay {
            text += &format!(
                "  replay of {} events, {:.1} MB: {:.2} s, {:.0} MB/s, {:.0} events/s\n",
                replay.events,
                replay.bytes as f64 / 1e6,
                replay.seconds,
                replay.bytes as f64 / 1e6 / replay.seconds,
                replay.events as f64 / replay.seconds
            );
        }
        for bytes in &self.bytes {
            text += &format!(
                "  {:<18}  {:.1} MB from agents, {:.2} MB to the core: {:.4}, {:.1} B an event\n",
                bytes.subject,
                bytes.from_agents as f64 / 1e6,
                bytes.to_core as f64 / 1e6,
                bytes.to_core as f64 / bytes.from_agents.max(1) as f64,
                bytes.to_core as f64 / bytes.events.max(1) as f64
            );
        }
        text
    }
}

/// The subject that the others are compared with.
pub(super) const FLOOR: &str = "floor";

#[cfg(test)]
mod tests {
    use super::*;

    fn round(cpu: f64) -> Round {
        Round { cpu_seconds_per_million: cpu, events_per_second: 1e6 / cpu, ..Round::default() }
    }

    #[test]
    fn ratios_are_taken_within_a_round_and_then_the_median() {
        let mut figures = Figures::default();
        for (floor, node) in [(1.0, 3.0), (2.0, 4.0), (4.0, 20.0)] {
            figures.add(FLOOR, Transport::Plain, round(floor));
            figures.add("fsync rows lz4", Transport::Plain, round(node));
        }
        figures.close();
        assert_eq!(figures.speed[0].cpu_over_floor, None);
        assert!((figures.speed[1].cpu_over_floor.unwrap() - 3.0).abs() < 1e-9);
        assert!((figures.speed[1].median.cpu_seconds_per_million - 4.0).abs() < 1e-9);
        assert_eq!(figures.table().lines().count(), 4);
    }
}
