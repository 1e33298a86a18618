//! What a purge of the trace takes, by the notes that the stores themselves go by.

use std::collections::HashMap;

use weir_config::{Action, Route};

use super::super::stage::Stage;
use super::super::{Line, Purge};
use crate::Millis;
use crate::cache::purge::{Mark, Marks, PurgeNumber, Purges, Severity, Target, Verdict};

/// A purge, as much of it as is played.
pub(super) struct Taken {
    pub(super) at: u64,
    severity: Severity,
    targets: Vec<Target>,
    /// Whether stored answers are looked through at once, as after an operator's order.
    sweeps: bool,
}

/// What answers can be purged by, each once. Memory: some 150 bytes for each path.
#[derive(Default)]
pub(super) struct AllMarks {
    numbers: HashMap<Marks, u32>,
    list: Vec<Marks>,
}

/// The purges that have been.
#[derive(Default)]
pub(super) struct Notes {
    purges: Purges,
    marks: Vec<Marks>,
}

/// What one kept answer can be purged by, and the last purge that it was compared with.
#[derive(Clone, Copy)]
pub(super) struct Stamp {
    key: Mark,
    pub(super) marks: u32,
    checked: PurgeNumber,
}

impl Taken {
    /// What it takes under the configuration that the stage has.
    pub(super) fn of(purge: &Purge, stage: &Stage) -> Self {
        let first = || purge.of.first().map_or("", String::as_str);
        let scene = purge.request.as_ref().and_then(|request| stage.meet(&request.line()));
        let targets = match purge.purge.as_str() {
            "all" => vec![Target::All],
            "route" => vec![Target::Marked(Mark::route(first()))],
            "tenant" => vec![Target::Marked(Mark::tenant(first()))],
            "tag" => vec![Target::Marked(Mark::tag(first()))],
            "prefix" => purge.of.iter().cloned().map(Target::Prefix).collect(),
            "request" => scene.and_then(|scene| scene.key).map(|key| Target::Marked(key.mark)).into_iter().collect(),
            // What is no longer passed through changes nothing.
            "change" if scene.is_some_and(|scene| matches!(scene.route.action, Action::Forward(_))) => places(purge),
            _ => Vec::new(),
        };
        let severity = if purge.soft { Severity::Soft } else { Severity::Hard };
        Self { at: purge.at, severity, targets, sweeps: purge.purge != "change" }
    }
}

/// What everyone, and the tenant that made the change, are given under the paths that it put out of date.
fn places(purge: &Purge) -> Vec<Target> {
    let tenant = purge.request.as_ref().and_then(|request| request.tenant.as_deref());
    let tenants = [None].into_iter().chain(tenant.map(Some));
    tenants.flat_map(|tenant| purge.of.iter().map(move |path| Target::Marked(Mark::place(path, tenant)))).collect()
}

impl AllMarks {
    /// The number of what the answer of a line can be purged by, on the route that takes it now.
    pub(super) fn number(&mut self, line: &Line, route: &Route) -> u32 {
        let shared = match &route.action {
            Action::Cache(cache) => cache.shared,
            Action::Lookup(lookup) => lookup.shared,
            Action::Aggregate(_) | Action::Forward(_) => true,
        };
        let tenant = line.tenant.as_deref().filter(|_| !shared);
        let marks = Marks::of_answer(&line.route, tenant, &line.path, line.tags.iter().map(|tag| Mark::tag(tag)));
        if let Some(number) = self.numbers.get(&marks) {
            return *number;
        }
        let number = u32::try_from(self.list.len()).unwrap_or(u32::MAX);
        self.list.push(marks.clone());
        self.numbers.insert(marks, number);
        number
    }

    /// No purge yet.
    pub(super) fn notes(self) -> Notes {
        Notes { purges: Purges::default(), marks: self.list }
    }
}

impl Notes {
    /// Notes what is taken `now`. `sweep` compares every answer with all notes, which makes room for more.
    pub(super) fn take(&mut self, taken: &Taken, now: Millis, mut sweep: impl FnMut(&mut Self)) {
        for target in &taken.targets {
            if self.purges.purge(target.clone(), taken.severity, now).is_none() {
                sweep(self);
                let _there_is_room = self.purges.purge(target.clone(), taken.severity, now);
            }
        }
        if taken.sweeps && !taken.targets.is_empty() || self.purges.notes() >= SWEEP_AT {
            sweep(self);
        }
    }

    /// Every answer has been compared with all purges.
    pub(super) fn swept(&mut self) {
        self.purges.forget(self.purges.latest());
    }

    /// The stamp of an answer that is filled from now on.
    pub(super) fn stamp(&self, key: Mark, marks: u32) -> Stamp {
        Stamp { key, marks, checked: self.purges.latest() }
    }

    /// What the purges say of an answer since it was last asked about.
    pub(super) fn verdict(&self, stamp: &mut Stamp) -> Verdict {
        let Some(marks) = self.marks.get(stamp.marks as usize) else { return Verdict::Untouched };
        let verdict = self.purges.verdict(stamp.key, marks, stamp.checked);
        stamp.checked = self.purges.latest();
        verdict
    }
}

/// Notes of changes that are left to lie before all answers are compared with them: as many as a node leaves.
const SWEEP_AT: usize = 4_096;
