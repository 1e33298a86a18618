//! The state of one stream, and its ledger.

use std::collections::BTreeMap;

use serde::Serialize;
use weir_logic::Millis;
use weir_logic::delivery::Blame;
use weir_spool::{Content, Ledger, LossReason, Lost, Meters, Outbox};

use crate::metrics::Metrics;

/// A stream as operators see it, in `/status`. Counts are since its spool was made, across restarts.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct StreamStatus {
    /// The stream's name; `/status` has it as the key.
    #[serde(skip)]
    pub stream: String,
    /// Whether it takes no uploads until a restart.
    pub broken: bool,
    /// What became of every record; `/status` has its sums.
    #[serde(skip)]
    pub ledger: LedgerStatus,
    /// Whether records that an earlier run accepted are still being counted: they are missing in all figures of the
    /// ledger, which balances all the same.
    pub replaying: bool,
    /// Bytes of journal on disk.
    pub journal_bytes: u64,
    /// Bytes of these that have not been merged yet.
    pub unread_bytes: u64,
    /// Keys held in open windows.
    pub merge_keys: u64,
    /// Memory that these take, counted from above.
    pub merge_bytes: u64,
    /// Batches not yet accepted by the core.
    pub outbox_batches: u64,
    /// Bytes of these.
    pub outbox_bytes: u64,
    /// Age of the oldest of these in seconds; 0 when there is none.
    pub outbox_oldest_seconds: u64,
    /// Batches among them that could not be delivered for `stream.delivery.live_for`.
    pub backlog_batches: u64,
    /// Bytes of these.
    pub backlog_bytes: u64,
    /// Records that the core has taken, a second, over the last minute.
    pub drain_records_per_second: f64,
    /// Bytes that it has taken, as they travelled, a second, over the last minute.
    pub drain_bytes_per_second: f64,
    /// Seconds until nothing waits if it goes on like this; `null` when what waits does not get less.
    pub empty_in_seconds: Option<u64>,
    /// Files among the dead letters, those put aside as damaged among them.
    pub dead_letter_files: u64,
    /// Bytes of these.
    pub dead_letter_bytes: u64,
    /// What was lost, by reason; reasons without a loss are left out.
    pub losses: BTreeMap<&'static str, LossStatus>,
    /// Whether batches wait and the core has accepted none for 30 seconds.
    pub stalled: bool,
    /// The status by which the core blames the configuration or the credentials: deliveries rest until that is mended.
    pub paused: Option<u16>,
    /// What the last attempt to deliver gave: `accepted`, a status, or why there was none; empty before the first.
    pub last_delivery: String,
}

/// The ledger of a stream: `accepted` is the sum of the others but `revived` and `difference`, which is
/// zero.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct LedgerStatus {
    /// Records acknowledged to agents.
    pub accepted: u64,
    /// Records that the core has accepted as rows of their own.
    pub forwarded: u64,
    /// Records that the core has accepted in a repeat's count.
    pub merged: u64,
    /// Records in the journal only, or counted in a table.
    pub in_journal: u64,
    /// Records in batches that wait.
    pub in_outbox: u64,
    /// Records in dead letters.
    pub dead_lettered: u64,
    /// Records that were dead letters and have been put back; they are in one of the others, and count here each time.
    pub revived: u64,
    /// Records given up for their age.
    pub expired: u64,
    /// Records lost to damage on disk after they had been emitted. Those of entries damaged before are not known, and
    /// were taken back from `accepted`.
    pub damaged: u64,
    /// Records that are in none of these, by two countings that share nothing: of each generation, what went in against
    /// what came out; of the outbox, what was written against what is there.
    pub difference: i64,
}

impl LedgerStatus {
    /// The ledger at the moment at which the outbox held this.
    pub(super) fn of(content: &Content, ledger: &Ledger, meters: &Meters) -> Self {
        let accepted = meters.accepted().max(ledger.accepted);
        let counts = [ledger.delivered, ledger.buried, ledger.expired, content.counts];
        let left = counts.iter().map(|counts| counts.records).fold(ledger.damaged.records, u64::saturating_add);
        Self {
            accepted,
            forwarded: ledger.delivered.records.saturating_sub(ledger.delivered.merged),
            merged: ledger.delivered.merged,
            in_journal: accepted.saturating_sub(ledger.emitted.records),
            in_outbox: content.counts.records,
            dead_lettered: ledger.buried.records,
            revived: ledger.revived.records,
            expired: ledger.expired.records,
            damaged: ledger.damaged.records,
            difference: meters.imbalance() + (ledger.emitted.records.cast_signed() - left.cast_signed()),
        }
    }
}

/// What was lost for one reason since the stream's spool was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct LossStatus {
    /// Records; for `early_flush`, which loses none, rows that left before their window's end.
    pub records: u64,
    /// Entries, notes and files of which nobody can say how many records they held.
    pub parts: u64,
    /// Whether the core is still to be told of some of it.
    pub untold: bool,
}

impl LossStatus {
    /// The losses now, by reason.
    pub(super) fn read(outbox: &Outbox<weir_spool::Disk>) -> BTreeMap<&'static str, Self> {
        let (lost, untold) = (outbox.losses().lost(), outbox.losses().untold());
        let status = |reason: LossReason| {
            let Lost { records, parts } = *lost.of(reason);
            let untold = *untold.of(reason) != Lost::default();
            (reason.name(), Self { records, parts, untold })
        };
        let losses = LossReason::ALL.into_iter().map(status);
        losses.filter(|(_, status)| status.records + status.parts > 0).collect()
    }
}

impl StreamStatus {
    pub(super) fn age(oldest: Option<u64>, now: Millis) -> u64 {
        oldest.map_or(0, |oldest| now.since(Millis(oldest)).as_secs())
    }

    /// Writes the gauges, and raises the ledger's counters to what they must show. The counters start at the ledger's
    /// values, not at zero, so that their balance holds across restarts.
    pub(super) fn export(&self, metrics: &Metrics) {
        let stream = [self.stream.as_str()];
        let ledger = &self.ledger;
        for (counters, value) in [
            (&metrics.records_accepted, ledger.accepted),
            (&metrics.records_forwarded, ledger.forwarded),
            (&metrics.records_merged, ledger.merged),
            (&metrics.records_revived, ledger.revived),
        ] {
            let counter = counters.with_label_values(&stream);
            counter.inc_by(value.saturating_sub(counter.get()));
        }
        for (reason, records) in [
            ("dead_letter", ledger.dead_lettered + ledger.revived),
            ("expired", ledger.expired),
            ("damaged", ledger.damaged),
        ] {
            let discarded = metrics.records_discarded.with_label_values(&[self.stream.as_str(), reason]);
            discarded.inc_by(records.saturating_sub(discarded.get()));
        }
        for (reason, LossStatus { records, parts, .. }) in &self.losses {
            for (counters, value) in [(&metrics.losses, records), (&metrics.loss_parts, parts)] {
                let counter = counters.with_label_values(&[self.stream.as_str(), *reason]);
                counter.inc_by(value.saturating_sub(counter.get()));
            }
        }
        for (gauges, value) in [
            (&metrics.records_held, ledger.in_journal + ledger.in_outbox),
            (&metrics.journal_bytes, self.journal_bytes),
            (&metrics.journal_unread_bytes, self.unread_bytes),
            (&metrics.merge_keys, self.merge_keys),
            (&metrics.merge_bytes, self.merge_bytes),
            (&metrics.outbox_batches, self.outbox_batches),
            (&metrics.outbox_bytes, self.outbox_bytes),
            (&metrics.outbox_oldest, self.outbox_oldest_seconds),
            (&metrics.outbox_backlog_batches, self.backlog_batches),
            (&metrics.outbox_backlog_bytes, self.backlog_bytes),
            (&metrics.outbox_stalled, u64::from(self.stalled)),
            (&metrics.dead_letter_files, self.dead_letter_files),
            (&metrics.dead_letter_bytes, self.dead_letter_bytes),
        ] {
            gauges.with_label_values(&stream).set(i64::try_from(value).unwrap_or(i64::MAX));
        }
        self.export_drain(metrics);
    }

    fn export_drain(&self, metrics: &Metrics) {
        let stream = [self.stream.as_str()];
        metrics.outbox_drain_records.with_label_values(&stream).set(self.drain_records_per_second);
        metrics.outbox_drain_bytes.with_label_values(&stream).set(self.drain_bytes_per_second);
        match self.empty_in_seconds {
            #[expect(clippy::cast_precision_loss, reason = "an estimate")]
            Some(seconds) => metrics.outbox_empty_in.with_label_values(&stream).set(seconds as f64),
            // It was there, or it was not.
            None => metrics.outbox_empty_in.remove_label_values(&stream).unwrap_or(()),
        }
        let blamed = self.paused.map(Blame::of);
        for cause in Blame::ALL {
            let gauge = metrics.delivery_paused.with_label_values(&[stream[0], cause.label()]);
            gauge.set(i64::from(blamed == Some(cause)));
        }
    }
}
