//! A stream's entries into rows, as its mode says: what leaves at once, and what waits in a window.

use std::io;

use memchr::memchr;
use weir_batch::row::{self, write_event, write_repeat};
use weir_logic::Millis;
use weir_logic::merge::{Applied, Eviction, Load, Merger, Origin, Repeat};

use crate::entry::{Entry, Upload};
use crate::packing::Packing;
use crate::plan::PlanMode;

/// The open windows of a stream.
pub(crate) struct Windows {
    mode: PlanMode,
    merger: Option<Merger>,
}

impl Windows {
    /// No open windows.
    pub(crate) fn new(mode: PlanMode) -> Self {
        let merger = match &mode {
            PlanMode::Raw => None,
            PlanMode::Events(plan) => Some(Merger::new(plan.clone())),
        };
        Self { mode, merger }
    }

    /// How records are treated here.
    pub(crate) fn mode(&self) -> &PlanMode {
        &self.mode
    }

    /// When the next window with something to give back ends.
    pub(crate) fn next_due(&self) -> Option<Millis> {
        self.merger.as_ref().and_then(Merger::next_due)
    }

    /// What should leave early because more is held than may be.
    pub(crate) fn overfull(&self) -> Vec<Eviction> {
        self.merger.as_ref().map(Merger::overfull).unwrap_or_default()
    }

    /// What is held.
    pub(crate) fn load(&self) -> Load {
        self.merger.as_ref().map(Merger::load).unwrap_or_default()
    }

    /// Records that wait in windows.
    pub(crate) fn waiting(&self) -> u64 {
        self.merger.as_ref().map_or(0, Merger::counted)
    }

    /// Moves the time on: windows that have ended by then leave.
    pub(crate) fn advance(&mut self, time: Millis, rows: &mut Packing) -> io::Result<()> {
        let Some(merger) = &mut self.merger else { return Ok(()) };
        let ended = merger.advance(time);
        self.leave(ended, rows)
    }

    /// Applies an entry; gives how many records it brought.
    pub(crate) fn apply(&mut self, entry: &Entry, rows: &mut Packing) -> io::Result<u64> {
        self.advance(entry.time(), rows)?;
        match (entry, &mut self.merger) {
            (Entry::Upload(upload), _) => self.take(upload, rows),
            (Entry::Flush { which, .. }, Some(merger)) => {
                let repeats = merger.evict(which);
                self.leave(repeats, rows).map(|()| 0)
            }
            (Entry::FlushAll { .. }, Some(merger)) => {
                let repeats = merger.flush_all();
                self.leave(repeats, rows).map(|()| 0)
            }
            (Entry::Loss(loss), _) => {
                let mut row = Vec::new();
                loss.write(&mut row);
                rows.push_notice(&row).map(|()| 0)
            }
            (Entry::Flush { .. } | Entry::FlushAll { .. } | Entry::End { .. }, _) => Ok(0),
        }
    }

    fn take(&mut self, upload: &Upload, rows: &mut Packing) -> io::Result<u64> {
        let (tenant, agent) = (upload.tenant.as_deref(), upload.agent.as_deref());
        let origin = Origin::new(tenant, agent);
        let mut lines: &[u8] = &upload.lines;
        let mut taken = 0;
        let mut row = Vec::new();
        while let Some(end) = memchr(b'\n', lines) {
            let record = &lines[..end];
            lines = &lines[end + 1..];
            taken += 1;
            let applied = self.merger.as_mut().map_or(Applied::First, |merger| merger.apply(&origin, record));
            if applied == Applied::First {
                row.clear();
                write_event(&mut row, row::Origin { tenant, agent }, upload.time.0, record);
                rows.push(origin.shard(), &row)?;
            }
        }
        Ok(taken)
    }

    fn leave(&self, repeats: impl Iterator<Item = Repeat>, rows: &mut Packing) -> io::Result<()> {
        let PlanMode::Events(plan) = &self.mode else { return Ok(()) };
        let mut row = Vec::new();
        for repeat in repeats {
            let names = plan.same.iter().map(String::as_str);
            let key: Vec<(&str, &[u8])> =
                names.zip(repeat.fields()).filter_map(|(name, value)| Some((name, value?))).collect();
            row.clear();
            write_repeat(&mut row, &as_row(&repeat, &key));
            if repeat.early {
                rows.note_early();
            }
            rows.push_repeat(repeat.shard(), &row, repeat.count)?;
        }
        Ok(())
    }
}

fn as_row<'a>(repeat: &'a Repeat, key: &'a [(&'a str, &'a [u8])]) -> row::Repeat<'a> {
    row::Repeat {
        origin: row::Origin { tenant: repeat.tenant(), agent: repeat.agent() },
        first_seen: repeat.first_seen.0,
        last_seen: repeat.last_seen.0,
        count: repeat.count,
        key,
        exemplars: &repeat.exemplars,
        early: repeat.early,
    }
}
