//! What single steps of a request's and a record's way cost, in instructions.
//!
//! Instructions are counted by valgrind's callgrind and are the same on a busy machine as on a quiet one, so that a change can be
//! held to what stood before. Each operation runs in a process of its own, once a thousand times and once three thousand times:
//! the difference, divided, is the operation without its preparations. What the kernel does is not counted.
//!
//! - `operations` are the steps, `callgrind` counts, `baseline` holds the counts to those that are stored.

mod baseline;
mod callgrind;
mod operations;

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

use self::baseline::Baseline;
use self::operations::OPERATIONS;
use crate::text::print;

/// Counts the instructions of single operations. Needs valgrind (Debian: `apt-get install valgrind`).
#[derive(Debug, Parser)]
#[command(name = "micro", version, args_conflicts_with_subcommands = true, max_term_width = 100)]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    run: RunArguments,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run one operation so many times, under a counter
    #[command(hide = true)]
    Operate { name: String, times: u64 },
}

#[derive(Debug, Args)]
struct RunArguments {
    /// The operations to count; all of them without
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// Holds the counts to those in this file: 1 where one has changed by more than a twentieth
    #[arg(long, value_name = "FILE", conflicts_with = "bless")]
    check: Option<PathBuf>,
    /// Writes the counts to this file
    #[arg(long, value_name = "FILE")]
    bless: Option<PathBuf>,
}

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Runs with these arguments. 1 when a count has changed, 3 when the run failed.
pub fn main(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let arguments = Arguments::parse_from(arguments);
    let ran = match arguments.command {
        Some(Command::Operate { name, times }) => operations::run(&name, times).map(|()| ExitCode::SUCCESS),
        None => count(&arguments.run),
    };
    ran.unwrap_or_else(|error| {
        eprintln!("micro: {error}");
        ExitCode::from(3)
    })
}

fn count(arguments: &RunArguments) -> Result<ExitCode, Failure> {
    if let Some(unknown) = arguments.only.iter().find(|name| operations::find(name).is_none()) {
        let known: Vec<&str> = OPERATIONS.iter().map(|operation| operation.name).collect();
        return Err(format!("there is no operation {unknown}; there are {}", known.join(", ")).into());
    }
    let stored = arguments.check.as_deref().map(Baseline::read).transpose()?;
    let mut counted = Baseline::default();
    print("  operation        instructions\n");
    for operation in OPERATIONS {
        if arguments.only.is_empty() || arguments.only.iter().any(|name| name == operation.name) {
            let instructions = callgrind::count(operation.name)?;
            counted.set(operation.name, instructions);
            print(&format!("  {:<16} {instructions:>12.0}  {}\n", operation.name, operation.about));
        }
    }
    if let Some(path) = &arguments.bless {
        counted.write(path)?;
    }
    let changes = stored.map(|stored| stored.changes(&counted, arguments.only.is_empty())).unwrap_or_default();
    changes.iter().for_each(|change| print(&format!("{change}\n")));
    Ok(if changes.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
