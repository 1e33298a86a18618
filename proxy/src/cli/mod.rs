//! The command line: what an operator types, what goes to standard output, and which exit code says how it ended.
//!
//! Nothing is decided here; each command hands over to the module that knows.

mod admin;
mod arguments;
mod batch;
mod config;
mod health;
mod purge;
mod rehearse;
mod repair;
mod replay;
mod rollout;
mod spool;
mod trace;
mod ttl;
mod written;

use std::ffi::OsString;
use std::io::{self, Write};
use std::process::ExitCode;

use clap::{CommandFactory, Parser};

use crate::exit::{Code, Failure};
use crate::{app, check, explain};
use arguments::{Arguments, BatchCommand, CheckArguments, Command, ConfigCommand, SpoolCommand};

/// Runs `weir` with these arguments (the program's name first) and says how it ended. Another program may call this to run the
/// very same node.
pub fn main<I, T>(arguments: I) -> ExitCode
where
    I: IntoIterator<Item = T>,
    T: Into<OsString> + Clone,
{
    let arguments = match Arguments::try_parse_from(arguments) {
        Ok(arguments) => arguments,
        Err(error) => return usage(&error),
    };
    match run(arguments.command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            say(&format!("weir: {failure}"));
            ExitCode::from(failure.code() as u8)
        }
    }
}

fn run(command: Command) -> Result<(), Failure> {
    match command {
        Command::Run(file) => app::run(config::load(&file.config)?, &file.config),
        Command::Check(arguments) => check(&arguments),
        Command::Explain(arguments) => print(explain::explain(&explain_question(*arguments)?)?.as_bytes()),
        Command::Config(ConfigCommand::Example) => print(weir_config::EXAMPLE.as_bytes()),
        Command::Config(ConfigCommand::Schema) => print(pretty(&weir_config::schema()).as_bytes()),
        Command::Config(ConfigCommand::Show(file)) => print(config::load(&file.config)?.to_toml().as_bytes()),
        Command::Batch(BatchCommand::Cat { file, raw }) => {
            print(&batch::cat(&file, if raw { batch::What::Lines } else { batch::What::Rows })?)
        }
        Command::Spool(command) => look_into_spool(command),
        Command::Purge(arguments) => {
            let address = config::load(arguments.file.config()?)?.config.admin.address;
            print(purge::purge(address, &arguments)?.as_bytes())
        }
        Command::Ttl { file, route } => {
            let address = config::load(&file.config)?.config.admin.address;
            print(ttl::ttl(address, route.as_deref())?.as_bytes())
        }
        Command::Trace(arguments) => {
            let address = config::load(&arguments.file.config)?.config.admin.address;
            say(&trace::trace(address, &arguments, &mut io::stdout().lock())?);
            Ok(())
        }
        Command::Rollout(arguments) => {
            let address = config::load(arguments.file.config()?)?.config.admin.address;
            print(rollout::rollout(address, &arguments)?.as_bytes())
        }
        Command::Rehearse(arguments) => {
            let (new, old) = (config::load(&arguments.new)?.config, config::load(&arguments.old)?.config);
            print(rehearse::rehearse(&new, &old, &arguments.trace, arguments.json)?.as_bytes())
        }
        Command::Health(file) => health::ask(config::load(&file.config)?.config.admin.address),
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Arguments::command(), "weir", &mut script);
            print(&script)
        }
        Command::Man => {
            let mut page = Vec::new();
            let rendered = clap_mangen::Man::new(Arguments::command()).render(&mut page);
            rendered.map_err(output_failed)?;
            print(&page)
        }
    }
}

fn look_into_spool(command: SpoolCommand) -> Result<(), Failure> {
    match command {
        SpoolCommand::Ls(data_dir) => print(spool::list(&data_dir.path)?.as_bytes()),
        SpoolCommand::Inspect { file } => print(spool::inspect(&file)?.as_bytes()),
        SpoolCommand::Verify(data_dir) => print(spool::verify(&data_dir.path)?.as_bytes()),
        SpoolCommand::Export { data_dir, stream, outbox } => {
            let place = if outbox { weir_spool::inspect::Place::Outbox } else { weir_spool::inspect::Place::Dead };
            spool::export(&data_dir.path, &stream, place)
        }
        SpoolCommand::Repair { data_dir, dry_run } => {
            let (text, outcome) = repair::repair(&data_dir.path, dry_run)?;
            print(text.as_bytes())?;
            outcome
        }
        SpoolCommand::Replay(arguments) => {
            let (text, outcome) = replay::replay(config::load(&arguments.file.config)?.config, &arguments)?;
            print(text.as_bytes())?;
            outcome
        }
    }
}

fn check(arguments: &CheckArguments) -> Result<(), Failure> {
    let parsed = config::load(&arguments.file.config)?;
    if !arguments.no_environment {
        let findings = check::environment(&parsed.config);
        findings.iter().for_each(|finding| say(&finding.to_string()));
        let problems = findings.iter().filter(|finding| finding.severity == check::Severity::Error).count();
        if problems > 0 {
            return Err(Failure::new(Code::Config, format!("the environment has {}", counted(problems, "problem"))));
        }
    }
    let config = &parsed.config;
    let summary = [
        counted(config.listeners.len(), "listener"),
        counted(config.cores.len(), "core"),
        counted(config.routes.len(), "route"),
        counted(config.streams.len(), "stream"),
    ];
    print(format!("{} is right: {}\n", arguments.file.config.display(), summary.join(", ")).as_bytes())
}

fn counted(count: usize, noun: &str) -> String {
    let plural = if count == 1 { "" } else { "s" };
    format!("{count} {noun}{plural}")
}

fn explain_question(arguments: arguments::ExplainArguments) -> Result<explain::Question, Failure> {
    let config = config::load(&arguments.file.config)?.config;
    let body = match &arguments.body {
        Some(path) => config::read_input(path, MAX_BODY_BYTES)?,
        None => Vec::new(),
    };
    Ok(explain::Question {
        config,
        method: arguments.method,
        url: arguments.url,
        headers: arguments.headers,
        body,
        certificate: arguments.certificate,
        listener: arguments.listener,
    })
}

/// A body to explain, at most.
const MAX_BODY_BYTES: u64 = 64 * 1024 * 1024;

fn usage(error: &clap::Error) -> ExitCode {
    // Nothing better can be done when standard error is closed.
    drop(error.print());
    ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2))
}

fn pretty(value: &serde_json::Value) -> String {
    format!("{value:#}\n")
}

/// Writes to standard output. A reader that has seen enough (`| head`) is no failure.
fn print(bytes: &[u8]) -> Result<(), Failure> {
    let mut output = io::stdout().lock();
    match output.write_all(bytes).and_then(|()| output.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(output_failed(error)),
        _ => Ok(()),
    }
}

#[expect(clippy::needless_pass_by_value, reason = "the shape that map_err wants")]
fn output_failed(error: io::Error) -> Failure {
    Failure::new(Code::Output, format!("standard output: {error}"))
}

/// Writes a line to standard error; when that is closed nobody listens.
fn say(line: &str) {
    drop(writeln!(io::stderr().lock(), "{line}"));
}
