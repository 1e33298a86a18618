//! What was measured: the document that `--json` writes.

use serde::{Deserialize, Serialize};

use super::dialer::Opening;
use super::subject::{Protocol, Subject};
use crate::ingest::Transport;
use crate::rounds::median;

/// Everything that was measured.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Figures {
    /// An object out of the cache, as fast as the server goes.
    pub(super) hits: Vec<Series>,
    /// Latencies of the same at half the load that the slower one of node and nginx can do.
    pub(super) latencies: Vec<Latency>,
    /// Uploads, as fast as the server takes them.
    pub(super) uploads: Vec<Series>,
    /// New connections.
    pub(super) opened: Vec<Opened>,
    /// Hits at one rate, over few connections and over many.
    pub(super) breadth: Vec<Broad>,
    /// Connections that do nothing.
    pub(super) idle: Vec<Idle>,
}

/// One subject's rounds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Series {
    /// Who.
    pub(super) subject: Subject,
    /// With TLS or without.
    pub(super) transport: Transport,
    /// The version of HTTP.
    pub(super) protocol: Protocol,
    /// Round by round.
    pub(super) rounds: Vec<Round>,
}

/// One round.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Round {
    /// Answers a second.
    pub(super) per_second: f64,
    /// Microseconds of the server's processor time for an answer.
    pub(super) cpu_micros: f64,
    /// The server's processor time over the time that passed; well below 1, the clients were the bottleneck.
    pub(super) busy: f64,
}

/// Latencies at a rate.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Latency {
    /// Who.
    pub(super) subject: Subject,
    /// With TLS or without.
    pub(super) transport: Transport,
    /// The version of HTTP.
    pub(super) protocol: Protocol,
    /// Requests a second.
    pub(super) rate: f64,
    /// Microseconds: the median, 99 and 99.9 of 100.
    pub(super) micros: [f64; 3],
}

/// What a new connection with one request takes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Opened {
    /// Who.
    pub(super) subject: Subject,
    /// How it comes about.
    pub(super) opening: Opening,
    /// Microseconds of the server's processor time, round by round.
    pub(super) cpu_micros: Vec<f64>,
}

/// Hits over so many connections.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Broad {
    /// Who.
    pub(super) subject: Subject,
    /// Connections that are open, each of which asks in its turn.
    pub(super) connections: u32,
    /// Round by round.
    pub(super) rounds: Vec<Breadth>,
}

/// One round of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Breadth {
    /// Microseconds of the server's processor time for an answer.
    pub(super) cpu_micros: f64,
    /// Latencies in microseconds: the median, 99 and 99.9 of 100.
    pub(super) micros: [f64; 3],
}

/// What an idle connection takes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Idle {
    /// Who.
    pub(super) subject: Subject,
    /// How it came about.
    pub(super) opening: Opening,
    /// So many there were.
    pub(super) connections: u32,
    /// Bytes of memory for each.
    pub(super) bytes: f64,
}

impl Opened {
    /// The median of the rounds.
    pub(super) fn median(&self) -> f64 {
        median(self.cpu_micros.clone())
    }

    /// The median over the other's in the same round.
    pub(super) fn over(&self, other: &Self) -> f64 {
        median(self.cpu_micros.iter().zip(&other.cpu_micros).map(|(mine, theirs)| mine / theirs).collect())
    }
}

impl Broad {
    /// The median of each figure by itself: processor time, and latencies.
    pub(super) fn median(&self) -> Breadth {
        let of = |figure: &dyn Fn(&Breadth) -> f64| median(self.rounds.iter().map(figure).collect());
        Breadth {
            cpu_micros: of(&|round| round.cpu_micros),
            micros: [0, 1, 2].map(|at| of(&|round: &Breadth| round.micros[at])),
        }
    }
}

impl Series {
    /// The median of each figure by itself.
    pub(super) fn median(&self) -> Round {
        let of = |figure: fn(&Round) -> f64| median(self.rounds.iter().map(figure).collect());
        Round {
            per_second: of(|round| round.per_second),
            cpu_micros: of(|round| round.cpu_micros),
            busy: of(|round| round.busy),
        }
    }

    /// The median of a figure over the other's in the same round.
    pub(super) fn over(&self, other: &Self, figure: fn(&Round) -> f64) -> f64 {
        median(self.rounds.iter().zip(&other.rounds).map(|(mine, theirs)| figure(mine) / figure(theirs)).collect())
    }
}

/// Adds a round to its subject's.
pub(super) fn add(all: &mut Vec<Series>, subject: Subject, (transport, protocol): (Transport, Protocol), round: Round) {
    let known = all.iter_mut().find(|one| (one.subject, one.transport, one.protocol) == (subject, transport, protocol));
    match known {
        Some(series) => series.rounds.push(round),
        None => all.push(Series { subject, transport, protocol, rounds: vec![round] }),
    }
}

/// Adds a round of new connections to its subject's.
pub(super) fn add_opened(all: &mut Vec<Opened>, subject: Subject, opening: Opening, cpu_micros: f64) {
    match all.iter_mut().find(|one| (one.subject, one.opening) == (subject, opening)) {
        Some(known) => known.cpu_micros.push(cpu_micros),
        None => all.push(Opened { subject, opening, cpu_micros: vec![cpu_micros] }),
    }
}

/// Adds a round over so many connections to its subject's.
pub(super) fn add_breadth(all: &mut Vec<Broad>, subject: Subject, connections: u32, round: Breadth) {
    match all.iter_mut().find(|one| (one.subject, one.connections) == (subject, connections)) {
        Some(known) => known.rounds.push(round),
        None => all.push(Broad { subject, connections, rounds: vec![round] }),
    }
}

/// The rounds of one subject.
pub(super) fn find(all: &[Series], subject: Subject, way: (Transport, Protocol)) -> Option<&Series> {
    all.iter().find(|one| one.subject == subject && (one.transport, one.protocol) == way)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ratios_are_taken_within_a_round() {
        let way = (Transport::Plain, Protocol::H1);
        let mut all = Vec::new();
        for (mine, theirs) in [(2.0, 1.0), (30.0, 10.0), (4.0, 1.0)] {
            add(&mut all, Subject::Weir, way, Round { per_second: mine, ..Round::default() });
            add(&mut all, Subject::Nginx, way, Round { per_second: theirs, ..Round::default() });
        }
        let [weir, nginx] = [Subject::Weir, Subject::Nginx].map(|subject| find(&all, subject, way).unwrap());
        assert!((weir.over(nginx, |round| round.per_second) - 3.0).abs() < 1e-9);
        assert!((weir.median().per_second - 4.0).abs() < 1e-9);
    }
}
