//! What an upload costs a node: throughput, CPU time, journal, replay, and bytes to the core.
//!
//! The node runs as a child process with one processor to itself; agents and core share another one. In every round each subject
//! has its turn, the floor first, so that what else the machine does meets them alike; ratios are taken within a round, and the
//! median of the rounds counts.
//!
//! - `config` says what is measured, `floor` is the server that only reads and discards;
//! - `measure` is one measurement, `figures` are all of them.

mod arguments;
mod config;
mod figures;
mod floor;
mod measure;

use std::ffi::OsString;
use std::io;
use std::process::ExitCode;

use clap::Parser;

use arguments::{Arguments, Command, RunArguments};
use config::Variant;
use figures::{FLOOR, FORMAT};
use measure::Bench;

use crate::node;
use crate::text::print;

pub use config::Transport;
pub use figures::{Bytes, Figures, Replay, Round, Speed};

/// Runs `ingest` with these arguments, the program's name first, and says how it ended.
pub fn main(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let arguments = Arguments::parse_from(arguments);
    let ran = match arguments.command {
        Some(Command::Node(arguments)) => return node::run(&arguments),
        Some(Command::Floor(arguments)) => return floor::run(&arguments),
        None => run(&arguments.run),
    };
    match ran {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("ingest: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &RunArguments) -> io::Result<()> {
    let processors = processors(arguments);
    match processors {
        Some((node, load)) => {
            // Before any thread is started, for threads take after the one that starts them.
            node::pin(load)?;
            print(&format!("the node has processor {node}, agents and core have processor {load}\n"));
        }
        None => print("nothing is pinned: node, agents and core share the machine's processors\n"),
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let mut figures = Figures {
        format: FORMAT,
        processors,
        compression_of_uploads: arguments.compress.map(|compression| compression.name().to_owned()),
        connections: arguments.connections,
        ..Figures::default()
    };
    let bench = Bench { arguments, processor: processors.map(|(node, _)| node) };
    let measured = runtime.block_on(measure(&bench, &mut figures));
    runtime.shutdown_background();
    measured?;
    figures.close();
    print(&figures.table());
    if let Some(path) = &arguments.json {
        let json = serde_json::to_string_pretty(&figures).map_err(io::Error::other)?;
        std::fs::write(path, json + "\n")?;
    }
    Ok(())
}

/// The processors of node and load; none on a machine of one, or where the system shall choose.
fn processors(arguments: &RunArguments) -> Option<(usize, usize)> {
    let several = std::thread::available_parallelism().is_ok_and(|count| count.get() > 1);
    (several && !arguments.unpinned).then_some((arguments.node_processor, arguments.load_processor))
}

async fn measure(bench: &Bench<'_>, figures: &mut Figures) -> io::Result<()> {
    let known =
        |variants: &[Variant]| variants.iter().copied().filter(|variant| variant.is_known()).collect::<Vec<_>>();
    let speed = known(&Variant::SPEED);
    for number in 1..=bench.arguments.rounds {
        for transport in [Transport::Plain, Transport::Tls] {
            let floor = bench.floor(transport).await?;
            report(number, transport, FLOOR, &floor);
            figures.add(FLOOR, transport, floor);
            for variant in &speed {
                let is_usual = *variant == Variant::USUAL;
                if transport == Transport::Tls && !is_usual {
                    continue;
                }
                let (round, replay) = bench.node(variant, transport, is_usual && transport == Transport::Plain).await?;
                report(number, transport, &variant.name(), &round);
                figures.add(&variant.name(), transport, round);
                figures.replay.extend(replay);
            }
        }
    }
    for variant in known(&Variant::BYTES) {
        let bytes = bench.bytes(&variant).await?;
        print(&format!("{}: {} bytes of {} reach the core\n", bytes.subject, bytes.to_core, bytes.from_agents));
        figures.bytes.push(bytes);
    }
    Ok(())
}

fn report(number: u32, transport: Transport, subject: &str, round: &Round) {
    let transport = format!("{transport:?}").to_lowercase();
    print(&format!(
        "round {number}, {transport}, {subject}: {:.0} events/s, {:.2} CPU s per million, {} uploads not taken\n",
        round.events_per_second, round.cpu_seconds_per_million, round.uploads_not_taken
    ));
}
