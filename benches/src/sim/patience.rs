//! When agents that are turned away are told to come back.
//!
//! Windows and the place of each agent in them are `weir_logic::retry_after`'s to say, with a line for each class as the product has it. There is one set of lines
//! for all nodes and not one for each: agents are spread evenly over the nodes, so that each would see the same part of those who
//! wait and of those who are let in, and windows follow from the ratio.

use std::time::Duration;

use weir_config::{Class, RetryAfterLimits};
use weir_logic::Millis;
use weir_logic::retry_after::{Demand, WindowBounds};

use super::agents::{Activity, Agents, Kind};

/// The lines of those who wait.
#[derive(Debug)]
pub(super) struct Patience {
    limits: RetryAfterLimits,
    lines: [Line; 4],
}

#[derive(Debug)]
struct Line {
    demand: Demand,
    admitted: u64,
}

impl Patience {
    pub(super) fn new(limits: RetryAfterLimits) -> Self {
        Self { limits, lines: [(); 4].map(|()| Line { demand: Demand::new(Millis(0)), admitted: 0 }) }
    }

    /// A request was let in.
    pub(super) fn let_in(&mut self, kind: Kind) {
        self.lines[kind as usize].admitted += 1;
    }

    /// The seconds that an agent is told which is turned away, and should not come back before `lead`.
    pub(super) fn told(&mut self, activity: Activity, lead: Duration, now: Millis) -> u32 {
        let kind = activity.kind();
        let line = &mut self.lines[kind as usize];
        let bounds = WindowBounds { shortest: self.limits.shortest, longest: self.limits.longest(class_of(kind)) };
        let window = line.demand.window(lead, line.admitted, bounds, now);
        let seconds = window.second_of(Agents::hash(activity));
        line.demand.promise(seconds, now);
        u32::try_from(seconds).unwrap_or(u32::MAX)
    }
}

/// The class of what an agent asks for.
pub(super) fn class_of(kind: Kind) -> Class {
    match kind {
        Kind::Update => Class::Update,
        Kind::Config => Class::Config,
        Kind::Tasks => Class::Tasking,
        Kind::Upload => Class::Telemetry,
    }
}
