//! The node beside servers that do a part of its work: what a request costs each of them, on the same machine in the same minutes.
//!
//! Every server runs as a process of its own on one processor, with one worker; the clients, and the origin that is asked once,
//! have another. In every round each subject has its turn, so that what else the machine does meets them alike; ratios are taken
//! within a round, and the median of the rounds counts.
//!
//! - `subject` says who is measured and starts them, `process` is one of them running;
//! - `floor` are the servers that are no product: a bare loop over sockets, and hyper;
//! - `dialer` opens a connection, `client` asks on it, `load` keeps many of them busy;
//! - `measure` are the measurements of requests, `connections` those of connections;
//! - `figures` are all of them, `report` is how people read them.

mod arguments;
mod client;
mod connections;
mod dialer;
mod figures;
mod floor;
mod load;
mod measure;
mod process;
mod report;
mod subject;

use std::ffi::OsString;
use std::io;
use std::process::ExitCode;

use clap::Parser;

use self::arguments::{Arguments, Command, Part, RunArguments};
use self::figures::Figures;
use self::measure::Bench;
use crate::node;
use crate::text::print;

/// Runs `peers` with these arguments, the program's name first, and says how it ended.
pub fn main(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let arguments = Arguments::parse_from(arguments);
    let ran = match arguments.command {
        Some(Command::Node(arguments)) => return node::run(&arguments),
        Some(Command::Floor(arguments)) => return floor::run(&arguments),
        Some(Command::Pinned(arguments)) => process::become_other(&arguments),
        None => run(&arguments.run),
    };
    match ran {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("peers: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &RunArguments) -> io::Result<()> {
    // Before any thread is started, for threads take after the one that starts them.
    node::pin(arguments.load_processor)?;
    let (server, load) = (arguments.server_processor, arguments.load_processor);
    print(&format!("servers have processor {server}, clients have processor {load}\n"));
    rlimit::increase_nofile_limit(u64::MAX)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut figures = Figures::default();
    let ran = runtime.block_on(measure(arguments, &mut figures));
    runtime.shutdown_background();
    ran?;
    print(&report::table(&figures));
    if let Some(path) = &arguments.json {
        let json = serde_json::to_string_pretty(&figures).map_err(io::Error::other)?;
        std::fs::write(path, json + "\n")?;
    }
    Ok(())
}

async fn measure(arguments: &RunArguments, figures: &mut Figures) -> io::Result<()> {
    let bench = Bench::new(arguments).await?;
    for round in 1..=arguments.rounds {
        for part in &arguments.only {
            match part {
                Part::Hits => bench.hits(round, figures).await?,
                Part::Uploads => bench.uploads(round, figures).await?,
                Part::Opened => bench.opened(round, figures).await?,
                Part::Breadth => bench.breadth(round, figures).await?,
                // Memory is what it is: one round tells.
                Part::Idle if round == 1 => bench.idle(figures).await?,
                Part::Idle => {}
            }
        }
    }
    if arguments.only.contains(&Part::Hits) {
        bench.latencies(figures).await?;
    }
    Ok(())
}
