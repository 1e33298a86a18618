//! The chaos scenario: a node, a core and agents on this machine, and hundreds of faults one after the other; then the books are
//! compared.
//!
//! - `fault` is what can go wrong, and the sequence that a seed gives;
//! - `scene` runs the product as a child process, again and again on one directory, and brings the faults about; `damage` is what is
//!   done to its files while it is dead;
//! - `run` leads from the first upload to the last batch; `tally` counts records, `verdict` judges.
//!
//! The same seed gives the same faults in the same order. What they meet (which batch is on its way, which upload is being written)
//! is up to the moment, so that a seed that failed is a good place to look and no promise to fail again.

mod arguments;
mod config;
mod damage;
mod fault;
mod figures;
mod run;
mod scene;
mod tally;
mod verdict;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::Parser;

use arguments::{Arguments, Command, RunArguments};
use figures::Inflicted;
use run::Ending;

use crate::place::Place;
use crate::text::print;
use crate::{node, verdict as lines};

pub use fault::{Fault, Packing, Tuning};
pub use figures::{Figures, IdFigures, Inflicted as InflictedFault, RecordFigures, StreamFigures};

/// Runs `chaos` with these arguments, the program's name first, and says how it ended.
pub fn main(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let arguments = Arguments::parse_from(arguments);
    match arguments.command {
        Some(Command::Node(arguments)) => node::run(&arguments),
        None => play(&arguments.run),
    }
}

/// The scenario could not run, or not to its end.
const CANNOT_RUN: u8 = 3;
/// As shells report a SIGINT.
const INTERRUPTED: u8 = 130;

fn play(arguments: &RunArguments) -> ExitCode {
    // Small enough to be typed.
    let seed = arguments.seed.unwrap_or_else(|| u64::from(rand::random::<u32>()));
    let faults = fault::plan(seed, arguments.faults as usize);
    print(&format!("seed {seed}: chaos --seed {seed} --faults {} gives these faults again\n", arguments.faults));
    if arguments.list {
        for (number, planned) in (1..).zip(&faults) {
            let fault = Inflicted { at_ms: 0, fault: planned.fault.clone(), done: String::new() };
            print(&run::line(number, faults.len(), &fault));
        }
        return ExitCode::SUCCESS;
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let ended = runtime.and_then(|runtime| {
        let ended = runtime.block_on(run::run(arguments, seed, &faults));
        runtime.shutdown_background();
        ended
    });
    match ended {
        Ok(Ending::Judged(figures, place)) => conclude(arguments, &figures, place),
        Ok(Ending::Interrupted) => ExitCode::from(INTERRUPTED),
        Err(error) => {
            eprintln!("chaos: seed {seed}: {error}");
            ExitCode::from(CANNOT_RUN)
        }
    }
}

/// Prints the verdict, writes the figures and removes the directory of a run that passed.
fn conclude(arguments: &RunArguments, figures: &Figures, place: Place) -> ExitCode {
    print(&lines::table(&figures.verdict));
    let passed = figures.verdict.iter().all(|line| line.passed);
    let json = serde_json::to_string_pretty(figures).map(|text| text + "\n").map_err(std::io::Error::other);
    let written = match &arguments.json {
        Some(path) => json.and_then(|text| std::fs::write(path, text)),
        None => Ok(()),
    };
    let left = if passed {
        place.leave()
    } else {
        eprintln!("chaos: seed {}: failed; the node's files are in {}", figures.seed, place.keep().display());
        for (key, difference) in &figures.records.examples {
            eprintln!("chaos: {difference:+} of {key}");
        }
        Ok(())
    };
    if let Err(error) = written.and(left) {
        eprintln!("chaos: {error}");
        return ExitCode::from(CANNOT_RUN);
    }
    if passed { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
