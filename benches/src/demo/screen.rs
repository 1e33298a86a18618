//! Progress in the terminal: a block that is drawn anew twice a second, or a line every two seconds where there is no terminal.

use std::fmt::Write as _;
use std::io::{self, IsTerminal};
use std::time::{Duration, Instant};

use weir_core_sim::Snapshot;
use weir_fleet::FleetReport;

use super::measure::records_at_core;
use super::plan::Phase;
use crate::status::NodeStatus;
use crate::text::{bytes, grouped, print};

/// What is shown.
#[derive(Debug)]
pub(super) struct Sample<'a> {
    pub(super) phase: Phase,
    /// Seconds of the schedule.
    pub(super) elapsed: f64,
    pub(super) end: f64,
    pub(super) fleet: &'a FleetReport,
    pub(super) core: &'a Snapshot,
    pub(super) status: &'a NodeStatus,
}

/// Where progress is shown.
#[derive(Debug)]
pub(super) struct Screen {
    terminal: bool,
    /// Lines of the block that stands there.
    drawn: usize,
    shown: Option<Instant>,
    phase: Option<Phase>,
}

const LINE_EVERY: Duration = Duration::from_secs(2);

impl Screen {
    pub(super) fn new(plain: bool) -> Self {
        Self { terminal: !plain && io::stdout().is_terminal(), drawn: 0, shown: None, phase: None }
    }

    /// Shows a sample if it is time.
    pub(super) fn show(&mut self, sample: &Sample<'_>) {
        if self.terminal {
            let block = block(sample);
            let up = if self.drawn > 0 { format!("\x1b[{}A", self.drawn) } else { String::new() };
            let lines = block.lines().fold(up, |mut text, line| {
                text.push_str("\x1b[2K");
                text.push_str(line);
                text.push('\n');
                text
            });
            self.drawn = block.lines().count();
            print(&lines);
            return;
        }
        let due = self.shown.is_none_or(|shown| shown.elapsed() >= LINE_EVERY);
        if due || self.phase != Some(sample.phase) {
            self.shown = Some(Instant::now());
            self.phase = Some(sample.phase);
            print(&format!("{}\n", plain_line(sample)));
        }
    }
}

/// The rates of the last whole second.
#[derive(Debug, Default)]
struct Rates {
    agents: u32,
    errors: u32,
    origin: u32,
    records: u32,
    p50_ms: f64,
    p99_ms: f64,
}

impl Rates {
    fn of(sample: &Sample<'_>) -> Self {
        let over = sample.core.uptime_ms / 1_000;
        let origin = usize::try_from(over).ok().and_then(|over| sample.core.per_second.get(over.checked_sub(1)?));
        let mut rates = Self { origin: origin.copied().unwrap_or(0), ..Self::default() };
        if matches!(sample.phase, Phase::Connecting | Phase::Settling) {
            return rates;
        }
        if let Some(second) = sample.fleet.series.iter().rev().nth(1) {
            rates.agents = second.requests;
            rates.errors = second.requests - second.ok;
            (rates.records, rates.p50_ms, rates.p99_ms) = (second.records, second.p50_ms, second.p99_ms);
        }
        rates
    }
}

fn reduction(sample: &Sample<'_>) -> f64 {
    sample.fleet.agent_requests as f64 / sample.core.requests.max(1) as f64
}

fn errors(fleet: &FleetReport) -> u64 {
    fleet.routes.values().map(|route| route.sent.saturating_sub(route.ok)).sum::<u64>().saturating_sub(under_way(fleet))
}

/// Requests that have begun and not ended.
fn under_way(fleet: &FleetReport) -> u64 {
    fleet
        .routes
        .values()
        .map(|route| route.sent.saturating_sub(route.statuses.values().sum::<u64>() + route.errors.total()))
        .sum()
}

fn block(sample: &Sample<'_>) -> String {
    let rates = Rates::of(sample);
    let stream = sample.status.process();
    let acknowledged = sample.fleet.records.acknowledged;
    let mut text = String::new();
    let mut row = |name: &str, what: String| writeln!(text, "  {name:<10}{what}").ok();
    row("phase", phase_row(sample));
    row(
        "agents",
        format!(
            "{:>9}/s   {} of {} connected   p50 {:.1} ms   p99 {:.1} ms",
            grouped(rates.agents.into()),
            grouped(sample.fleet.connected),
            grouped(sample.fleet.agents.into()),
            rates.p50_ms,
            rates.p99_ms
        ),
    );
    row(
        "core",
        format!(
            "{:>9}/s   one request for {:.0} of the agents' so far",
            grouped(rates.origin.into()),
            reduction(sample)
        ),
    );
    row("answers", format!("{:>9}     without a request of their own to the core", hit_ratio(sample.status)));
    row(
        "records",
        format!(
            "{:>9}/s   {} acknowledged   {} at the core   {} held",
            grouped(rates.records.into()),
            grouped(acknowledged),
            grouped(records_at_core(sample.core)),
            grouped(stream.held)
        ),
    );
    row(
        "spool",
        format!(
            "{:>9}     batches waiting   {} outbox   {} journal",
            grouped(stream.outbox_batches),
            bytes(stream.outbox_bytes),
            bytes(stream.journal_bytes)
        ),
    );
    row("errors", format!("{:>9}     in all   {} in the last second", grouped(errors(sample.fleet)), rates.errors));
    text
}

fn phase_row(sample: &Sample<'_>) -> String {
    const WIDTH: usize = 36;
    let part = (sample.elapsed / sample.end).clamp(0.0, 1.0);
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "from 0 to 36")]
    let done = (part * WIDTH as f64) as usize;
    let bar = format!("{}{}", "#".repeat(done), "-".repeat(WIDTH - done));
    let core = if sample.phase == Phase::Outage { "THE CORE IS DOWN" } else { "" };
    format!("{:<10} [{bar}] {:>4.0} of {:.0} s  {core}", sample.phase.label(), sample.elapsed, sample.end)
}

fn plain_line(sample: &Sample<'_>) -> String {
    let rates = Rates::of(sample);
    let stream = sample.status.process();
    if sample.phase == Phase::Connecting {
        return format!("connecting  {} of {} agents", sample.fleet.connected, sample.fleet.agents);
    }
    format!(
        "{:<9} {:>4.0} s  agents {:>6}/s p99 {:>6.1} ms  core {:>4}/s  1:{:<5.0} hit {:>7}  records {} acknowledged {} at core  spool {} batches  errors {}",
        sample.phase.label(),
        sample.elapsed,
        rates.agents,
        rates.p99_ms,
        rates.origin,
        reduction(sample),
        hit_ratio(sample.status),
        sample.fleet.records.acknowledged,
        records_at_core(sample.core),
        stream.outbox_batches,
        errors(sample.fleet)
    )
}

fn hit_ratio(status: &NodeStatus) -> String {
    status.cache.hit_ratio.map_or("-".to_owned(), |ratio| format!("{:.2} %", ratio * 100.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sample_before_anything_happened_is_shown_all_the_same() {
        let (fleet, core, status) = (FleetReport::default(), Snapshot::default(), NodeStatus::default());
        for phase in [Phase::Connecting, Phase::Steady, Phase::Settling] {
            let sample = Sample { phase, elapsed: 0.0, end: 90.0, fleet: &fleet, core: &core, status: &status };
            assert_eq!(block(&sample).lines().count(), 7);
            assert_eq!(plain_line(&sample).lines().count(), 1);
        }
    }
}
