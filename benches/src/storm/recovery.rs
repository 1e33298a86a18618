//! The incident: the core is away for ten minutes and comes back, with 100,000 agents that know no jitter before it. In virtual time.

use std::time::Duration;

use super::config::NodeConfig;
use super::protection::Switches;
use super::report::{Curve, Panel, Report};
use super::{Failure, Order};
use crate::sim::{Capacity, Edge, Figure, Manners, Outcome, Series, Settings, run};
use crate::text::grouped;
use crate::verdict::{Line, line};

/// The incident at some size.
#[derive(Clone, Debug)]
struct Incident {
    agents: u32,
    nodes: u16,
    seed: u64,
}

/// Seconds: from here on caches are full and every agent has asked for everything.
const STEADY: u32 = 600;
const DOWN: u32 = 900;
const BACK: u32 = 1_500;
/// Echoes are looked for from here on: every agent has met the core, or what stands in for it, since its return.
const LATER: u32 = 2_100;
const END: u32 = 3_300;

/// Requests a second of one agent: 2 million send 16,700.
const RATE: f64 = 16_700.0 / 2_000_000.0;
const AGENTS_PER_TENANT: u32 = 17;
/// How much more than its quiet day's load the core can stand: of nodes in front of it, and of agents.
const HEADROOM: f64 = 1.1;
const CORE_HEADROOM: f64 = 1.5;

pub(super) fn play(order: &Order) -> Result<Report, Failure> {
    let agents = order.agents.unwrap_or(if order.small { 8_000 } else { 100_000 });
    // A region of ten nodes serves two million.
    let nodes = u16::try_from(agents.div_ceil(200_000).max(2)).unwrap_or(u16::MAX);
    let incident = Incident { agents, nodes, seed: order.seed };
    let direct = incident.direct()?;
    let weir = incident.behind_nodes(order.switches)?;
    let judged = if order.direct { &direct } else { &weir };
    let lines = if order.echo { judge_echo(&judged.series) } else { judge(&judged.series) };
    Ok(Report {
        scenario: if order.echo { "echo" } else { "recovery-stampede" }.to_owned(),
        lines,
        notes: notes(&incident, &weir, &direct),
        panels: panels(&weir.series, &direct.series),
        moments: vec![(DOWN, "core down".to_owned()), (BACK, "core back".to_owned())],
        ..Report::default()
    })
}

/// The agents' highest ten seconds after the core's return over their mean before the outage, with nodes between.
pub(crate) fn agents_after_an_outage(agents: u32) -> Result<f64, Failure> {
    let incident = Incident { agents, nodes: 2, seed: 1 };
    let series = incident.behind_nodes(Switches::default())?.series;
    let [steady, down, back, end] = [STEADY, DOWN, BACK, END].map(|second| second as usize);
    Ok(series.peak(ASKED, back, end, 10) / series.mean(ASKED, steady, down))
}

impl Incident {
    fn rate(&self) -> f64 {
        f64::from(self.agents) * RATE
    }

    fn settings(&self, edge: Edge) -> Settings {
        Settings {
            agents: self.agents,
            requests_per_second: self.rate(),
            agents_per_tenant: AGENTS_PER_TENANT,
            manners: Manners { without_jitter: 1.0, ..Manners::default() },
            edge,
            capacity: Capacity {
                requests_per_second: CORE_HEADROOM * self.rate(),
                idle_ms: 5.0,
                longest_queue_ms: 30_000.0,
            },
            outage: DOWN..BACK,
            slow: None,
            duration: END,
            seed: self.seed,
        }
    }

    fn direct(&self) -> Result<Outcome, Failure> {
        Ok(run(&self.settings(Edge::Direct))?)
    }

    /// The gate's rate is what an operator would set: some more than the core sees on a quiet day. Quiet days are simulated first: one
    /// without a rate, and one with the rate that follows from it. With a rate, bulk requests wait for each other and become fewer, so that
    /// the core sees less: by 5 % with 200,000 agents a node.
    fn behind_nodes(&self, switches: Switches) -> Result<Outcome, Failure> {
        let (mut rate, mut config) = (NO_RATE, self.config());
        for _ in 0..2 {
            let quiet = NodeConfig { max_requests_per_second: rate, ..self.config() };
            let settings = self.settings(self.nodes(&quiet, Switches::default()));
            let seen = run(&Settings { duration: DOWN, ..settings })?;
            let each = seen.series.mean(AT_CORE, STEADY as usize, DOWN as usize) / f64::from(self.nodes);
            rate = with_headroom(each);
            config.max_requests_per_second = rate;
        }
        Ok(run(&self.settings(self.nodes(&config, switches)))?)
    }

    fn nodes(&self, config: &NodeConfig, switches: Switches) -> Edge {
        Edge::Nodes { count: self.nodes, config: config.render(switches) }
    }

    fn config(&self) -> NodeConfig {
        NodeConfig { window: Duration::from_millis(100), ..NodeConfig::default() }
    }
}

/// More than a node ever asks.
const NO_RATE: u32 = 100_000;

fn with_headroom(requests_per_second: f64) -> u32 {
    let rate = (requests_per_second * HEADROOM).floor().max(requests_per_second.ceil());
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "`as` saturates; a rate is positive")]
    let rate = rate as u32;
    rate
}

const ASKED: Figure = |second| second.asked;
const AT_CORE: Figure = |second| second.at_core;
const TURNED_AWAY: Figure = |second| second.refused + second.unanswered;
const GOOD: Figure = |second| second.good;

fn judge(series: &Series) -> Vec<Line> {
    let [steady, down, back, later, end] = [STEADY, DOWN, BACK, LATER, END].map(|second| second as usize);
    let mean = series.mean(AT_CORE, steady, down);
    let peak = series.peak(AT_CORE, back, end, 5);
    let later_mean = series.mean(AT_CORE, later, end);
    let later_peak = series.peak(AT_CORE, later, end, 60);
    let before = series.mean(ASKED, steady, down);
    let agents = series.peak(ASKED, back, end, 10);
    let away = series.sum(TURNED_AWAY, steady, end);
    vec![
        ratio("the core's highest 5 s after its return, over its mean before", peak, mean, 1.2),
        ratio("its highest minute from 10 min on, over the mean from there on", later_peak, later_mean, 1.3),
        ratio("the agents' highest 10 s after the return, over their mean before", agents, before, 1.2),
        line("requests of agents refused or unanswered, outage included", grouped(away), "0".to_owned(), away == 0),
    ]
}

fn judge_echo(series: &Series) -> Vec<Line> {
    let [steady, down, back, later, end] = [STEADY, DOWN, BACK, LATER, END].map(|second| second as usize);
    let mean = series.mean(ASKED, steady, down);
    let good = series.sum(GOOD, later, end);
    let asked = series.sum(ASKED, later, end);
    vec![
        ratio(
            "the agents' highest 10 s after the core's return, over their mean before",
            series.peak(ASKED, back, end, 10),
            mean,
            1.3,
        ),
        ratio(
            "their highest 10 s from 10 min on, over the mean from there on",
            series.peak(ASKED, later, end, 10),
            series.mean(ASKED, later, end),
            1.3,
        ),
        ratio(
            "the core's highest minute from 10 min on, over the mean from there on",
            series.peak(AT_CORE, later, end, 60),
            series.mean(AT_CORE, later, end),
            1.3,
        ),
        line(
            "good answers from 10 min on, of all",
            format!("{:.1} %", 100.0 * good as f64 / asked.max(1) as f64),
            "at least 99.9 %".to_owned(),
            good as f64 >= 0.999 * asked as f64,
        ),
    ]
}

/// A part that must not be more than `most` times the whole. Where there is nothing at all, nothing was shown.
fn ratio(what: &str, part: f64, whole: f64, most: f64) -> Line {
    let ratio = part / whole;
    line(what, format!("{ratio:.2}"), format!("at most {most:.1}"), ratio.is_finite() && ratio <= most)
}

fn notes(incident: &Incident, weir: &Outcome, direct: &Outcome) -> Vec<String> {
    let [steady, down, back, end] = [STEADY, DOWN, BACK, END].map(|second| second as usize);
    let mean = |series: &Series, figure| series.mean(figure, steady, down);
    let last = |series: &Series| {
        100.0 * series.sum(GOOD, end - 300, end) as f64 / series.sum(ASKED, end - 300, end).max(1) as f64
    };
    vec![
        format!(
            "{} agents without jitter, {} nodes, {} s of virtual time, {} events",
            grouped(incident.agents.into()),
            incident.nodes,
            END,
            grouped(weir.events + direct.events)
        ),
        format!(
            "before the outage: {:.0} requests/s of agents; {:.1}/s at the core through the nodes, one for {:.0}",
            mean(&weir.series, ASKED),
            mean(&weir.series, AT_CORE),
            mean(&weir.series, ASKED) / mean(&weir.series, AT_CORE)
        ),
        format!(
            "without nodes: {:.0} requests/s at most after the core's return, {:.1} times those before; of those in the last five minutes \
             {:.1} % were answered (with nodes {:.1} %)",
            direct.series.peak(ASKED, back, end, 10),
            direct.series.peak(ASKED, back, end, 10) / mean(&direct.series, ASKED),
            last(&direct.series),
            last(&weir.series)
        ),
    ]
}

fn panels(weir: &Series, direct: &Series) -> Vec<Panel> {
    let curve = |name, series: &Series, figure: Figure| {
        Curve::new(name, series.seconds.iter().map(|second| f64::from(figure(second))))
    };
    let panel = |title: &str, figure| Panel {
        title: title.to_owned(),
        curves: vec![curve("with Weir", weir, figure), curve("direct", direct, figure)],
    };
    vec![
        panel("requests/s of agents", ASKED),
        panel("requests/s at the core", AT_CORE),
        panel("good answers/s to agents", GOOD),
    ]
}
