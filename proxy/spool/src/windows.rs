//! A stream's entries into rows, as its mode says: what leaves at once, and what waits in a window.

use std::io;

use weir_batch::row::{self, write_repeat, write_state, write_unchanged};
use weir_logic::Millis;
use weir_logic::merge::{Eviction, Load, Merger, Origin, Repeat};
use weir_logic::state::{self, Change, States, Taken};

use crate::entry::{Entry, Upload};
use crate::losses::Loss;
use crate::packing::Packing;
use crate::plan::PlanMode;

/// The open windows of a stream, and what is known beyond them.
pub(crate) struct Windows {
    mode: PlanMode,
    merger: Option<Merger>,
    states: Option<States>,
}

impl Windows {
    /// No open windows.
    pub(crate) fn new(mode: PlanMode) -> Self {
        let (mut merger, mut states) = (None, None);
        match &mode {
            PlanMode::Raw | PlanMode::Rows => {}
            PlanMode::Events(plan) => merger = Some(Merger::new(plan.clone())),
            PlanMode::State(plan) => states = Some(States::new(plan.clone())),
        }
        Self { mode, merger, states }
    }

    /// Windows of states of which some are known.
    pub(crate) fn with(states: States) -> Self {
        Self { mode: PlanMode::State(states.plan().clone()), merger: None, states: Some(states) }
    }

    /// What follows has not been turned into rows before.
    pub(crate) fn replayed(&mut self) {
        self.states.iter_mut().for_each(States::replayed);
    }

    /// What has changed of what outlives the windows, since the last call.
    pub(crate) fn take_changes(&mut self) -> Vec<Change> {
        self.states.as_mut().map(States::take_changes).unwrap_or_default()
    }

    /// How records are treated here.
    pub(crate) fn mode(&self) -> &PlanMode {
        &self.mode
    }

    /// When the next window with something to give back ends.
    pub(crate) fn next_due(&self) -> Option<Millis> {
        let states = self.states.as_ref().and_then(States::next_due);
        self.merger.as_ref().and_then(Merger::next_due).or(states)
    }

    /// What should leave early because more is held than may be.
    pub(crate) fn overfull(&self) -> Vec<Eviction> {
        let states = self.states.as_ref().and_then(States::overfull).map(Eviction::Window);
        self.merger.as_ref().map(Merger::overfull).unwrap_or_default().into_iter().chain(states).collect()
    }

    /// What is held.
    pub(crate) fn load(&self) -> Load {
        if let Some(states) = &self.states {
            return Load { keys: states.keys(), bytes: states.bytes() };
        }
        self.merger.as_ref().map(Merger::load).unwrap_or_default()
    }

    /// Records that are counted and have not left.
    pub(crate) fn waiting(&self) -> u64 {
        self.merger.as_ref().map_or(0, Merger::counted) + self.states.as_ref().map_or(0, States::counted)
    }

    /// Moves the time on: windows that have ended by then leave.
    pub(crate) fn advance(&mut self, time: Millis, rows: &mut Packing) -> io::Result<()> {
        if let Some(states) = &mut self.states {
            let ended = states.advance(time);
            return self.leave_states(&ended, rows);
        }
        let Some(merger) = &mut self.merger else { return Ok(()) };
        let ended = merger.advance(time);
        self.leave(ended, rows)
    }

    /// Applies an entry; gives how many records it brought.
    pub(crate) fn apply(&mut self, entry: &Entry, rows: &mut Packing) -> io::Result<u64> {
        self.advance(entry.time(), rows)?;
        if let Entry::Loss(loss) = entry {
            return write_notice(loss, rows);
        }
        if let Some(states) = &mut self.states {
            let left = match entry {
                Entry::Upload(upload) => return self.take_states(upload, rows),
                Entry::Flush { which: Eviction::Window(which), .. } => states.flush(*which),
                // Of no use here: states have no shares of tenants.
                Entry::Flush { which: Eviction::Tenant(_), .. } => Vec::new(),
                Entry::FlushAll { .. } => states.flush_all(),
                Entry::Loss(_) | Entry::End { .. } => Vec::new(),
            };
            return self.leave_states(&left, rows).map(|()| 0);
        }
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
            (Entry::Flush { .. } | Entry::FlushAll { .. } | Entry::Loss(_) | Entry::End { .. }, _) => Ok(0),
        }
    }

    fn take(&mut self, upload: &Upload, rows: &mut Packing) -> io::Result<u64> {
        if self.mode == PlanMode::Rows {
            return take_rows(upload, rows);
        }
        let (tenant, agent) = (upload.tenant.as_deref(), upload.agent.as_deref());
        let origin = Origin::new(tenant, agent);
        let mut head = Vec::new();
        row::write_event_head(&mut head, row::Origin { tenant, agent }, upload.time.0);
        let mut pushed = Ok(());
        let first = |record: &[u8]| {
            if pushed.is_ok() {
                pushed = rows.push(origin.shard(), &[&head, record, row::TAIL]);
            }
        };
        let mut taken = 0;
        let records = upload.each().inspect(|_| taken += 1);
        match &mut self.merger {
            Some(merger) => merger.apply_all(&origin, records, first),
            None => records.for_each(first),
        }
        pushed.map(|()| taken)
    }

    fn take_states(&mut self, upload: &Upload, rows: &mut Packing) -> io::Result<u64> {
        let Some(states) = &mut self.states else { return Ok(0) };
        let (tenant, agent) = (upload.tenant.as_deref(), upload.agent.as_deref());
        let origin = Origin::new(tenant, agent);
        let mut taken = 0;
        let mut row = Vec::new();
        for record in upload.each() {
            taken += 1;
            match states.apply(&origin, record) {
                Taken::First => {
                    row.clear();
                    write_state(&mut row, &first_state(row::Origin { tenant, agent }, upload.time, record));
                    rows.push_state(origin.shard(), &row, 1)?;
                }
                Taken::Held => {}
                Taken::Settled => rows.pass(),
            }
        }
        Ok(taken)
    }

    fn leave_states(&self, left: &[state::Row], rows: &mut Packing) -> io::Result<()> {
        let PlanMode::State(plan) = &self.mode else { return Ok(()) };
        let mut row = Vec::new();
        for left in left {
            let origin = row::Origin { tenant: left.tenant(), agent: left.agent() };
            let shard = Origin::new(origin.tenant, origin.agent).shard();
            let (first_seen, last_seen, count) = (left.first_seen.0, left.last_seen.0, left.count);
            row.clear();
            if let Some(record) = left.record.as_deref() {
                write_state(&mut row, &row::State { origin, received: last_seen, first_seen, count, record });
                rows.push_state(shard, &row, count)?;
                continue;
            }
            let names = plan.key.iter().map(String::as_str);
            let key: Vec<(&str, &[u8])> =
                names.zip(left.fields()).filter_map(|(name, value)| Some((name, value?))).collect();
            write_unchanged(&mut row, &row::Unchanged { origin, first_seen, last_seen, count, key: &key });
            rows.push_repeat(shard, &row, count)?;
        }
        Ok(())
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

/// Adds the upload's records as they are. They may speak of many agents: all go to one shard, so that they stay in their
/// order.
fn take_rows(upload: &Upload, rows: &mut Packing) -> io::Result<u64> {
    let shard = Origin::new(upload.tenant.as_deref(), upload.agent.as_deref()).shard();
    let mut taken = 0;
    for row in upload.lines.split_inclusive(|byte| *byte == b'\n') {
        rows.push(shard, &[row])?;
        taken += 1;
    }
    Ok(taken)
}

/// Adds the row of a loss, which brings no record.
fn write_notice(loss: &Loss, rows: &mut Packing) -> io::Result<u64> {
    let mut row = Vec::new();
    loss.write(&mut row);
    rows.push_notice(&row).map(|()| 0)
}

fn first_state<'a>(origin: row::Origin<'a>, time: Millis, record: &'a [u8]) -> row::State<'a> {
    row::State { origin, received: time.0, first_seen: time.0, count: 1, record }
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
