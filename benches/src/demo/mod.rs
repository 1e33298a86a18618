//! The demo: a core, a node and a fleet of agents on one machine, an outage of the core in the middle, and a verdict.
//!
//! - `arguments` is the command line, `plan` turns it into phases and windows, `config` into a node's configuration;
//! - `run` leads through the phases, `screen` shows how it goes;
//! - `measure` adds up what was counted to `figures`, `verdict` judges them, `report` draws them;
//! - `standard` lends node and agents to other measurements.
//!
//! The fleet and the core are the crates `weir-fleet` and `weir-core-sim`; they know no product. Core, node and agents share one
//! machine's processors, so that the latencies here are those of a crowded machine and no measure of what a node can do.

mod arguments;
#[cfg(test)]
mod canned;
mod config;
mod figures;
mod measure;
mod plan;
mod report;
mod run;
mod screen;
mod standard;
mod verdict;

use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;

use clap::Parser;

use arguments::{Arguments, Command, RunArguments};
use plan::Plan;
use run::{Ending, Failure};

use crate::node;
use crate::text::print;

pub use figures::{
    ConnectionFigures, Figures, KeyBalance, NodeFigures, Parameters, RouteFigures, Second, StreamFigures,
};
pub(crate) use measure::name as route_name;
pub use plan::Phases;
pub(crate) use standard::StandardMix;

/// Runs `demo` with these arguments, the program's name first, and says how it ended.
pub fn main(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let arguments = Arguments::parse_from(arguments);
    match arguments.command {
        Some(Command::Node(arguments)) => node::run(&arguments),
        Some(Command::Verdict { file }) => examine(&file),
        None if arguments.run.show_config => {
            let nowhere = ([127, 0, 0, 1], 9000).into();
            print(&config::render(&arguments.run, &Plan::new(&arguments.run), nowhere));
            ExitCode::SUCCESS
        }
        None => demonstrate(&arguments.run),
    }
}

/// The demo could not run.
const CANNOT_RUN: u8 = 3;
/// As shells report a SIGINT.
const INTERRUPTED: u8 = 130;

fn demonstrate(arguments: &RunArguments) -> ExitCode {
    let ended =
        tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(Failure::from).and_then(|runtime| {
            let ended = runtime.block_on(run::run(arguments));
            runtime.shutdown_background();
            ended
        });
    match ended {
        Ok(Ending::Judged(figures)) => conclude(arguments, &figures),
        Ok(Ending::Interrupted) => {
            eprintln!("demo: interrupted; the node has been stopped");
            ExitCode::from(INTERRUPTED)
        }
        Err(failure) => {
            eprintln!("demo: {failure}");
            ExitCode::from(CANNOT_RUN)
        }
    }
}

/// Prints the verdict and writes the files.
fn conclude(arguments: &RunArguments, figures: &Figures) -> ExitCode {
    print(&verdict::table(figures));
    let json = serde_json::to_string_pretty(figures).map(|text| text + "\n").map_err(std::io::Error::other);
    let files = [(Some(&arguments.report), Ok(report::render(figures))), (arguments.json.as_ref(), json)];
    for (path, content) in files {
        let Some(path) = path else { continue };
        if let Err(error) = content.and_then(|content| std::fs::write(path, content)) {
            eprintln!("demo: {}: {error}", path.display());
            return ExitCode::from(CANNOT_RUN);
        }
        print(&format!("{} written\n", path.display()));
    }
    if figures.verdict.iter().all(|line| line.passed) { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn examine(file: &Path) -> ExitCode {
    let text = match std::fs::read_to_string(file) {
        Ok(text) => text,
        Err(error) => {
            eprintln!("demo: {}: {error}", file.display());
            return ExitCode::FAILURE;
        }
    };
    let problems = verdict::examine(&text);
    for problem in &problems {
        eprintln!("demo: {}: {problem}", file.display());
    }
    if problems.is_empty() {
        print(&format!("{}: complete, and every threshold holds\n", file.display()));
        return ExitCode::SUCCESS;
    }
    ExitCode::FAILURE
}
