//! The judgement. Pure: the same rules for every run.

use super::figures::{Figures, StreamFigures};
use crate::verdict::{Line, line, zero};

/// Judges a run.
pub(super) fn judge(figures: &Figures) -> Vec<Line> {
    let (records, ids) = (&figures.records, &figures.ids);
    let beyond = |figure: fn(&StreamFigures) -> u64| -> u64 {
        figures.streams.values().map(|stream| figure(stream).saturating_sub(stream.destroyed)).sum()
    };
    vec![
        line(
            "faults brought about",
            figures.faults.len().to_string(),
            figures.wanted.to_string(),
            figures.faults.len() == figures.wanted as usize,
        ),
        line(
            "records acknowledged",
            records.acknowledged.to_string(),
            "more than 0".to_owned(),
            records.acknowledged > 0 && ids.acknowledged > 0,
        ),
        zero("records acknowledged and nowhere, by key", records.missing),
        zero("records counted twice, by key", records.surplus),
        zero("ids acknowledged and nowhere", ids.missing),
        zero("ids in two places", ids.repeated),
        zero("batch ids that came back with other rows", figures.batches.conflicting),
        zero("records not remembered", records.forgotten),
        zero("the node's ledger: difference", beyond(|stream| stream.difference.unsigned_abs())),
        zero("the node's ledger: records still held", beyond(|stream| stream.held)),
        zero("the node's ledger: accepted, and not at the core or given up", beyond(unaccounted)),
        zero(
            "records in dead letters that the node does not count",
            beyond(|stream| stream.dead.saturating_sub(stream.discarded)),
        ),
        line(
            "reports of damage by the node",
            figures.damage_reports.to_string(),
            format!("at least {}", figures.damages),
            figures.damage_reports >= figures.damages,
        ),
        zero("faults after which no upload was taken", figures.stuck_after.len() as u64),
        zero("stops that were not clean", u64::from(figures.unclean_stops)),
    ]
}

/// Records that the node took and that neither the core nor the node's own count of losses knows, or too many of them. By as much as
/// was destroyed the two may differ: how many records were in what cannot be read the node does not know, and a batch may be lost
/// here whose acceptance by the core was never heard of.
fn unaccounted(stream: &StreamFigures) -> u64 {
    stream.accepted.abs_diff(stream.at_core + stream.discarded)
}

#[cfg(test)]
mod tests {
    use weir_core_sim::BatchCounts;

    use super::super::fault::Fault;
    use super::super::figures::{IdFigures, Inflicted, RecordFigures};
    use super::*;

    fn good() -> Figures {
        let stream = StreamFigures { accepted: 100, discarded: 10, at_core: 90, dead: 10, ..StreamFigures::default() };
        Figures {
            wanted: 1,
            faults: vec![Inflicted { at_ms: 1, fault: Fault::Kill, done: String::new() }],
            records: RecordFigures { acknowledged: 100, at_core: 90, dead: 10, ..RecordFigures::default() },
            ids: IdFigures { acknowledged: 50, ..IdFigures::default() },
            streams: [("audit".to_owned(), stream)].into(),
            ..Figures::default()
        }
    }

    fn failed(figures: &Figures) -> usize {
        judge(figures).iter().filter(|line| !line.passed).count()
    }

    #[test]
    fn level_books_pass() {
        assert_eq!(failed(&good()), 0, "{:?}", judge(&good()));
    }

    #[test]
    fn each_thing_that_can_be_wrong_fails_alone() {
        let wrongs: [fn(&mut Figures); 16] = [
            |figures| figures.records.missing = 1,
            |figures| figures.records.surplus = 1,
            |figures| figures.records.forgotten = 1,
            |figures| figures.records.acknowledged = 0,
            |figures| figures.ids.missing = 1,
            |figures| figures.ids.repeated = 1,
            |figures| figures.batches = BatchCounts { conflicting: 1, ..BatchCounts::default() },
            |figures| figures.stream().difference = -1,
            |figures| figures.stream().held = 1,
            |figures| figures.stream().at_core -= 1,
            |figures| figures.stream().at_core += 1,
            |figures| figures.stream().dead += 1,
            |figures| figures.damages = 1,
            |figures| figures.stuck_after.push(1),
            |figures| figures.unclean_stops = 1,
            |figures| figures.faults.clear(),
        ];
        for (number, wrong) in wrongs.iter().enumerate() {
            let mut figures = good();
            wrong(&mut figures);
            assert_eq!(failed(&figures), 1, "{number}: {:?}", judge(&figures));
        }
    }

    #[test]
    fn what_was_destroyed_may_be_missing_if_the_node_has_said_so() {
        let mut figures = good();
        figures.stream().destroyed = 5;
        figures.stream().at_core -= 5;
        (figures.damages, figures.damage_reports) = (1, 1);
        assert_eq!(failed(&figures), 0);
        figures.stream().at_core -= 1;
        assert_eq!(failed(&figures), 1);
    }

    impl Figures {
        fn stream(&mut self) -> &mut StreamFigures {
            self.streams.get_mut("audit").unwrap()
        }
    }
}
