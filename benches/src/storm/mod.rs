//! Storms: what a fleet, a core or an operator can do to a node, each with its thresholds.
//!
//! - `scenario` is the list of them; `recovery` is the incident in virtual time, `outage` on real sockets, `slow` a core in
//!   virtual time that can do less than it is asked; the others run the product as a child process before simulated cores, on
//!   the `stage` that they share, `roll` several of them behind a `balancer`;
//! - `manners` are agents that are refused and what they make of it, `urgent` orders to one agent meanwhile, `http2` agents on HTTP/2;
//! - `protection` names what can be switched off, `config` makes a node's file with it on or off: a scenario that passes without the
//!   protection that it is about shows nothing, so each must then fail;
//! - `report` is what a scenario gives, `plot` draws it.

mod arguments;
mod balancer;
mod black_hole;
mod come_back;
mod config;
mod failing;
mod http2;
mod ignorers;
mod lanes;
mod manners;
mod noisy;
mod outage;
mod plot;
mod poison;
mod policy;
mod polls;
mod protection;
mod recovery;
mod refusals;
mod report;
mod roll;
mod scenario;
mod shed;
mod slow;
mod stage;
mod urgent;

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use tokio::time::Instant;

use arguments::{Arguments, Command, RunArguments};
use protection::Switches;
use scenario::{SCENARIOS, Scenario};

use crate::text::print;
use crate::{node, verdict};

pub(crate) use recovery::agents_after_an_outage;
pub use report::{Curve, Panel, Report};

/// How a scenario is to be run.
#[derive(Clone, Debug)]
struct Order {
    switches: Switches,
    direct: bool,
    virtual_only: bool,
    small: bool,
    agents: Option<u32>,
    seed: u64,
    /// Whether the incident is looked at for its echoes.
    echo: bool,
}

type Failure = Box<dyn std::error::Error>;

/// The scenario could not run, or not to its end.
const CANNOT_RUN: u8 = 3;
const WRONG_ARGUMENTS: u8 = 2;

/// Runs `storm` with these arguments, the program's name first, and says how it ended.
pub fn main(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let arguments = Arguments::parse_from(arguments);
    match arguments.command {
        Some(Command::Node(arguments)) => node::run(&arguments),
        Some(Command::List) => {
            print(&scenario::list());
            ExitCode::SUCCESS
        }
        None => play(&arguments.run),
    }
}

fn play(arguments: &RunArguments) -> ExitCode {
    let name = arguments.scenario.as_deref().unwrap_or_default();
    let chosen: Vec<&Scenario> = SCENARIOS.iter().filter(|known| name == "all" || known.name == name).collect();
    if chosen.is_empty() {
        eprintln!("storm: there is no scenario {name:?}; `storm list` names them");
        return ExitCode::from(WRONG_ARGUMENTS);
    }
    if let (Some(without), [only]) = (arguments.without, chosen.as_slice())
        && !only.protections.contains(&without)
    {
        eprintln!("storm: {} does not test {}; `storm list` says what it does", only.name, without.name());
        return ExitCode::from(WRONG_ARGUMENTS);
    }
    let mut reports = Vec::new();
    for scenario in chosen {
        match run(scenario, arguments) {
            Ok(report) => reports.push(report),
            Err(error) => {
                eprintln!("storm: {}: {error}", scenario.name);
                return ExitCode::from(CANNOT_RUN);
            }
        }
    }
    if let Err(error) = write(arguments, &reports) {
        eprintln!("storm: {error}");
        return ExitCode::from(CANNOT_RUN);
    }
    if reports.iter().all(Report::passed) { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Runs one scenario and prints its verdict.
fn run(scenario: &Scenario, arguments: &RunArguments) -> Result<Report, Failure> {
    let order = Order {
        switches: Switches::without(arguments.without),
        direct: arguments.direct,
        virtual_only: arguments.r#virtual,
        small: arguments.small,
        agents: arguments.agents,
        seed: arguments.seed,
        echo: false,
    };
    let began = Instant::now();
    let report = (scenario.play)(&order)?;
    let without = arguments.without.map(|protection| protection.name());
    let report = Report { scenario: scenario.name.to_owned(), without, ..report };
    print(&text(scenario, &report, began.elapsed()));
    Ok(report)
}

fn text(scenario: &Scenario, report: &Report, took: Duration) -> String {
    let without = report.without.as_ref().map_or(String::new(), |name| format!(" without {name}"));
    let notes: String = report.notes.iter().map(|note| format!("  {note}\n")).collect();
    let verdict = if report.passed() { "passed" } else { "FAILED" };
    format!(
        "\n{}{without}: {}\n{notes}{}  {verdict} in {:.1} s\n",
        scenario.name,
        scenario.about,
        verdict::table(&report.lines),
        took.as_secs_f64()
    )
}

fn write(arguments: &RunArguments, reports: &[Report]) -> std::io::Result<()> {
    if let Some(path) = &arguments.json {
        std::fs::write(path, serde_json::to_string_pretty(reports)? + "\n")?;
    }
    for report in reports.iter().filter(|report| !report.panels.is_empty()) {
        if let Some(path) = plot_path(arguments, report, reports.len() == 1) {
            std::fs::write(&path, plot::svg(report))?;
            print(&format!("  the plot is {}\n", path.display()));
        }
    }
    Ok(())
}

/// One scenario's plot goes where it was asked to; those of several go beside that, each under its own name.
fn plot_path(arguments: &RunArguments, report: &Report, is_only: bool) -> Option<PathBuf> {
    let own = format!("{}.svg", report.scenario);
    match (&arguments.plot, is_only) {
        (Some(path), true) => Some(path.clone()),
        (Some(path), false) => Some(path.parent().unwrap_or(Path::new("")).join(own)),
        (None, true) => Some(own.into()),
        (None, false) => None,
    }
}
