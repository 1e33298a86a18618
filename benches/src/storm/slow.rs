//! The core becomes five times slower than it was and can do less than it is asked. In virtual time, since what it takes is a core
//! whose queue grows.

use std::ops::Range;
use std::time::Duration;

use super::config::NodeConfig;
use super::report::{Curve, Panel, Report};
use super::{Failure, Order};
use crate::sim::{Capacity, Edge, Figure, Manners, Outcome, Series, Settings, run};
use crate::text::grouped;
use crate::verdict::line;

const SLOW: Range<u32> = 600..1_200;
const TIMES: u16 = 5;
/// The time in which nodes have to find out.
const SETTLED_AFTER: u32 = 10;
const END: u32 = 1_800;

const AGENTS: u32 = 20_000;
const RATE: f64 = 16_700.0 / 2_000_000.0;
const NODES: u16 = 2;

/// Runs the scenario.
pub(super) fn play(order: &Order) -> Result<Report, Failure> {
    let agents = order.agents.unwrap_or(AGENTS);
    let outcome = simulate(order, agents)?;
    let series = &outcome.series;
    let [start, settled, slow, back, end] =
        [300, SLOW.start + SETTLED_AFTER, SLOW.end, SLOW.end + SETTLED_AFTER, END].map(|second| second as usize);
    let took = |from, to| series.sum(TOOK, from, to) as f64 / series.sum(ENDED, from, to).max(1) as f64;
    let failed = 100.0 * series.sum(FAILED, settled, slow) as f64 / series.sum(ENDED, settled, slow).max(1) as f64;
    let away = series.sum(TURNED_AWAY, start, end);
    let best = series.mean(AT_CORE, start, SLOW.start as usize);
    let answered = series.mean(ENDED, settled, slow) - series.mean(FAILED, settled, slow);
    // Twice what it was asked on a quiet day, five times slower; bulk requests are more work than single ones.
    let part = answered / (2.0 * best / f64::from(TIMES));
    let again = series.mean(AT_CORE, back, end) / best;
    Ok(Report {
        lines: vec![
            line(
                "requests to the core without an answer in time, from 10 s after it became slow",
                format!("{failed:.2} %"),
                "at most 5 %".to_owned(),
                failed <= 5.0,
            ),
            line(
                "requests/s that it answers, over what it can do",
                format!("{part:.2}"),
                "at least 0.7".to_owned(),
                part >= 0.7,
            ),
            line("requests of agents refused or unanswered", grouped(away), "0".to_owned(), away == 0),
            line(
                "requests/s at the core from 10 s after it is well again, over those before",
                format!("{again:.2}"),
                "0.8 to 1.2".to_owned(),
                (0.8..=1.2).contains(&again),
            ),
        ],
        notes: vec![format!(
            "{} agents, {NODES} nodes; {best:.1} requests/s at the core before, taking {:.0} ms; {answered:.1}/s answered \
             while it is slow, after {:.0} ms",
            grouped(agents.into()),
            took(start, SLOW.start as usize),
            took(settled, slow)
        )],
        panels: panels(series),
        moments: vec![(SLOW.start, "five times slower".to_owned()), (SLOW.end, "well again".to_owned())],
        ..Report::default()
    })
}

const AT_CORE: Figure = |second| second.at_core;
const TOOK: Figure = |second| second.core_took_ms;
const ENDED: Figure = |second| second.core_ended;
const FAILED: Figure = |second| second.core_failed;
const TURNED_AWAY: Figure = |second| second.refused + second.unanswered;

fn simulate(order: &Order, agents: u32) -> Result<Outcome, Failure> {
    let config = NodeConfig { window: Duration::from_millis(50), ..NodeConfig::default() };
    let settings = Settings {
        agents,
        requests_per_second: f64::from(agents) * RATE,
        agents_per_tenant: 17,
        manners: Manners { without_jitter: 1.0, ..Manners::default() },
        edge: Edge::Nodes { count: NODES, config: config.render(order.switches) },
        capacity: Capacity { requests_per_second: 1e6, idle_ms: 5.0, longest_queue_ms: 30_000.0 },
        outage: END..END,
        slow: None,
        duration: END,
        seed: order.seed,
    };
    // A core that can do twice what it is asked on a quiet day, which is simulated first.
    let quiet = run(&Settings { duration: SLOW.start, ..settings.clone() })?;
    let requests_per_second = 2.0 * quiet.series.mean(AT_CORE, 300, SLOW.start as usize);
    let capacity = Capacity { requests_per_second, ..settings.capacity };
    Ok(run(&Settings { capacity, slow: Some((TIMES, SLOW)), ..settings })?)
}

fn panels(series: &Series) -> Vec<Panel> {
    let curve = |name: &str, value: fn(&crate::sim::Second) -> f64| Curve::new(name, series.seconds.iter().map(value));
    vec![
        Panel {
            title: "requests/s".to_owned(),
            curves: vec![
                curve("of agents", |second| second.asked.into()),
                curve("at the core", |second| second.at_core.into()),
                curve("failed at the core", |second| second.core_failed.into()),
            ],
        },
        Panel {
            title: "a request at the core, ms".to_owned(),
            curves: vec![curve("mean", |second| f64::from(second.core_took_ms) / f64::from(second.core_ended.max(1)))],
        },
    ]
}
