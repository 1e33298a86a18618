//! The one table that makes help, completions and the man page.

use std::path::{Path, PathBuf};

use clap::{Args, Parser, Subcommand, ValueHint};
use clap_complete::Shell;

use crate::exit::{Code, Failure};

/// An edge aggregation proxy: agents in front, the core behind, a hundredth of the requests between.
#[derive(Debug, Parser)]
#[command(name = "weir", version, arg_required_else_help = true, max_term_width = 100, after_help = AFTER_HELP)]
pub(super) struct Arguments {
    #[command(subcommand)]
    pub(super) command: Command,
}

const AFTER_HELP: &str = "Exit codes: 0 done; 2 wrong arguments; 65 damaged data; 66 a file named on the command line cannot be \
read; 69 an address or the data directory is taken; 70 a stop that was not clean, or a replay that has left something; 73 the data directory cannot be written; \
78 the configuration is wrong.\n\nEnvironment: WEIR_LOG sets what is logged, for example WEIR_LOG=warn or \
WEIR_LOG=info,weir::upstream=debug.";

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Run the node until SIGTERM (drains first) or SIGINT (stops at once); SIGHUP reloads the configuration
    Run(ConfigFile),
    /// Say whether the configuration is right: exit 0, or 78 with every problem
    Check(CheckArguments),
    /// Say what would be done with a request: route, class, key, TTLs; sends nothing
    Explain(Box<ExplainArguments>),
    /// Print the example, the schema or the configuration in force
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Look into batch files
    #[command(subcommand)]
    Batch(BatchCommand),
    /// Look into the spool of a node that runs or not; repair and replay that of one that does not
    #[command(subcommand)]
    Spool(SpoolCommand),
    /// Have the running node take stored answers out of use, those that are being fetched included
    Purge(PurgeArguments),
    /// Say what other TTLs would have meant on the running node's traffic of the last hour: the core's requests, hits, ages
    Ttl {
        #[command(flatten)]
        file: ConfigFile,
        /// The route; all that keep answers unless named
        route: Option<String>,
    },
    /// Show and steer the releases that are on their way to the agents of the running node
    Rollout(RolloutArguments),
    /// Have the running node record what agents ask for, nobody named, and print the trace as lines of JSON
    Trace(TraceArguments),
    /// Play a trace through a new and an old configuration, and print the difference for each route: the core's requests, hits,
    /// ages, requests that no route takes
    Rehearse(RehearseArguments),
    /// Ask the running node whether it can help agents: exit 0, or 69 when it cannot or does not run
    Health(ConfigFile),
    /// Print shell completions
    Completions {
        /// The shell
        shell: Shell,
    },
    /// Print the man page, as roff
    Man,
}

#[derive(Debug, Args)]
pub(super) struct ConfigFile {
    /// The configuration file
    #[arg(short = 'c', long = "config", value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(super) config: PathBuf,
}

/// The configuration file for commands that have commands of their own, among whose arguments it may stand as well.
#[derive(Debug, Args)]
pub(super) struct SharedConfigFile {
    /// The configuration file
    #[arg(short = 'c', long = "config", value_name = "FILE", value_hint = ValueHint::FilePath, global = true)]
    config: Option<PathBuf>,
}

impl SharedConfigFile {
    /// The file, which has to be named: what may stand in two places cannot be demanded in one of them.
    ///
    /// # Errors
    ///
    /// When it is not named.
    pub(super) fn config(&self) -> Result<&Path, Failure> {
        let missing = || Failure::new(Code::Usage, "no configuration file is named: expected -c FILE");
        self.config.as_deref().ok_or_else(missing)
    }
}

#[derive(Debug, Args)]
pub(super) struct CheckArguments {
    #[command(flatten)]
    pub(super) file: ConfigFile,
    /// Check the file alone: open no certificate or data directory, bind no port, resolve no name
    #[arg(long)]
    pub(super) no_environment: bool,
}

#[derive(Debug, Args)]
pub(super) struct ExplainArguments {
    #[command(flatten)]
    pub(super) file: ConfigFile,
    /// The request's method
    pub(super) method: String,
    /// A path such as /v1/updates/stable/manifest.json?platform=win, or a whole URL
    #[arg(value_hint = ValueHint::Url)]
    pub(super) url: String,
    /// A request header; may be given several times
    #[arg(short = 'H', long = "header", value_name = "NAME:VALUE")]
    pub(super) headers: Vec<String>,
    /// The file that holds the request's body
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(super) body: Option<PathBuf>,
    /// The client certificate's fields: cn, o, ou, san, such as cn=agent-7,o=tenant-1
    #[arg(long, value_name = "FIELD=VALUE,...")]
    pub(super) certificate: Option<String>,
    /// The listener that the request comes in by; the first one unless named
    #[arg(long, value_name = "NAME")]
    pub(super) listener: Option<String>,
}

#[derive(Debug, Subcommand)]
pub(super) enum ConfigCommand {
    /// Print the complete, commented example with every default
    Example,
    /// Print the JSON Schema for editors
    Schema,
    /// Print the configuration as it is understood, every key written out
    Show(ConfigFile),
}

#[derive(Debug, Subcommand)]
pub(super) enum BatchCommand {
    /// Print the rows of a batch file as JSON lines, whatever its format
    Cat {
        /// Print the lines as they travel to the core: those of a batch in shapes are tables
        #[arg(long)]
        raw: bool,
        /// The batch file, from an outbox, from a dead-letter directory, or as the core received it
        #[arg(value_hint = ValueHint::FilePath)]
        file: PathBuf,
    },
}

#[derive(Debug, Subcommand)]
pub(super) enum SpoolCommand {
    /// List the streams: journal, outbox and dead letters with their bytes, records and oldest batch
    Ls(DataDirectory),
    /// Print what is in a segment, a batch file or the file of notes, as JSON
    Inspect {
        /// A file below the data directory's spool/STREAM
        #[arg(value_hint = ValueHint::FilePath)]
        file: PathBuf,
    },
    /// Check every checksum of every file: exit 0, or 65 with the files that are not whole
    Verify(DataDirectory),
    /// Print the rows of a stream's dead letters or outbox, with their batch and the core's reason, as JSON lines
    Export {
        #[command(flatten)]
        data_dir: DataDirectory,
        /// The stream
        stream: String,
        /// What waits for the core instead of what it refuses
        #[arg(long)]
        outbox: bool,
    },
    /// Make the spools of a node whole that does not run: cut off what was never finished, put aside what cannot be read, and
    /// say so: exit 0 when all is whole afterwards but the files put aside
    Repair {
        #[command(flatten)]
        data_dir: DataDirectory,
        /// Only say what would be done
        #[arg(long)]
        dry_run: bool,
    },
    /// Send what is in the data directory of a node that does not run to the core, or put the dead letters of a running node
    /// back into its outbox: exit 0, or 70 when something is left
    Replay(ReplayArguments),
}

#[derive(Debug, Args)]
pub(super) struct ReplayArguments {
    #[command(flatten)]
    pub(super) file: ConfigFile,
    /// The data directory of a node that does not run; without it, the running node is asked
    #[arg(value_name = "DATA_DIR", value_hint = ValueHint::DirPath)]
    pub(super) data_dir: Option<PathBuf>,
    /// One stream instead of all
    #[arg(long, value_name = "NAME")]
    pub(super) stream: Option<String>,
    /// Put dead letters back first: they are sent once more, under ids that the core has accepted nothing of
    #[arg(long)]
    pub(super) dead: bool,
    /// Seconds without progress after which the core is taken to have failed
    #[arg(long, value_name = "SECONDS", default_value_t = 30, requires = "data_dir")]
    pub(super) patience: u64,
}

#[derive(Debug, Args)]
pub(super) struct PurgeArguments {
    #[command(flatten)]
    pub(super) file: SharedConfigFile,
    /// Make the answers stale instead: they serve while the core is asked or fails, as their route allows
    #[arg(long, global = true)]
    pub(super) soft: bool,
    #[command(subcommand)]
    pub(super) target: PurgeTarget,
}

#[derive(Debug, Subcommand)]
pub(super) enum PurgeTarget {
    /// Every answer
    All,
    /// The answers that the core has given this tag, by Surrogate-Key or Cache-Tag
    Tag {
        /// The tag
        name: String,
    },
    /// The answers of one tenant, on routes that are not shared
    Tenant {
        /// The tenant
        name: String,
    },
    /// The answers of one route
    Route {
        /// The route's name
        name: String,
    },
    /// The answers to requests whose path begins so
    Prefix {
        /// The beginning of the path, as agents send it
        path: String,
    },
    /// The answer to one request
    Request {
        /// The path and query, as an agent sends them
        #[arg(value_hint = ValueHint::Url)]
        url: String,
        /// The method, GET or POST
        #[arg(short = 'X', long, default_value = "GET")]
        method: String,
        /// A request header of the key; may be given several times
        #[arg(short = 'H', long = "header", value_name = "NAME:VALUE")]
        headers: Vec<String>,
        /// The tenant who asks
        #[arg(long)]
        tenant: Option<String>,
        /// The agent who asks
        #[arg(long)]
        agent: Option<String>,
        /// The request's body
        #[arg(long, default_value = "")]
        body: String,
    },
}

#[derive(Debug, Args)]
pub(super) struct RolloutArguments {
    #[command(flatten)]
    pub(super) file: SharedConfigFile,
    #[command(subcommand)]
    pub(super) order: RolloutOrder,
}

#[derive(Debug, Subcommand)]
pub(super) enum RolloutOrder {
    /// List the releases on their way and how far each is
    List {
        /// The route; all unless named
        route: Option<String>,
    },
    /// Reach no further agent for now
    Pause(RolloutMeant),
    /// Go on from where it stands; from the beginning if it was aborted
    Resume(RolloutMeant),
    /// Set the part of the agents that is reached at most; those reached already stay so
    Share {
        #[command(flatten)]
        meant: RolloutMeant,
        /// The part, such as 10% or 0.1
        share: String,
    },
    /// Give the release to everybody now
    Finish(RolloutMeant),
    /// Give everybody the previous release until the core brings another one
    Abort(RolloutMeant),
}

#[derive(Debug, Args)]
pub(super) struct RolloutMeant {
    /// The route
    pub(super) route: String,
    /// One key of the route, as `list` shows it; all unless named
    #[arg(long)]
    pub(super) key: Option<String>,
}

#[derive(Debug, Args)]
pub(super) struct TraceArguments {
    #[command(flatten)]
    pub(super) file: ConfigFile,
    /// How long to record; twice the longest TTL in question tells well
    #[arg(long, value_name = "SECONDS", default_value_t = 60.0)]
    pub(super) seconds: f64,
    /// The part of the keys whose requests are recorded, over 0 and at most 1; to rehearse another key, 1
    #[arg(long, value_name = "PART", default_value_t = 0.1)]
    pub(super) sample: f64,
    /// A header that another key may name; may be given several times. Those that keys name are always recorded
    #[arg(short = 'H', long = "header", value_name = "NAME")]
    pub(super) headers: Vec<String>,
}

#[derive(Debug, Args)]
pub(super) struct RehearseArguments {
    /// The new configuration file
    #[arg(value_name = "NEW", value_hint = ValueHint::FilePath)]
    pub(super) new: PathBuf,
    /// The old configuration file; that under which the trace was recorded is the one to compare with
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(super) old: PathBuf,
    /// The trace, as `weir trace` printed it
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(super) trace: PathBuf,
    /// Print one JSON document instead of tables
    #[arg(long)]
    pub(super) json: bool,
}

#[derive(Debug, Args)]
pub(super) struct DataDirectory {
    /// The node's data directory, as edge.data_dir has it
    #[arg(value_name = "DATA_DIR", value_hint = ValueHint::DirPath)]
    pub(super) path: PathBuf,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_table_is_consistent() {
        Arguments::command().debug_assert();
    }

    fn parsed(line: &str) -> Command {
        Arguments::try_parse_from(line.split(' ')).unwrap_or_else(|error| panic!("{line}: {error}")).command
    }

    #[test]
    fn the_file_of_a_command_with_commands_may_stand_before_and_after_them() {
        for line in [
            "weir rollout -c FILE pause updates --key k",
            "weir rollout pause -c FILE updates --key k",
            "weir rollout pause updates --key k --config FILE",
        ] {
            let Command::Rollout(RolloutArguments { file, order }) = parsed(line) else { panic!("{line}") };
            assert_eq!(file.config().unwrap(), Path::new("FILE"), "{line}");
            let RolloutOrder::Pause(RolloutMeant { route, key }) = order else { panic!("{line}: {order:?}") };
            assert_eq!((route.as_str(), key.as_deref()), ("updates", Some("k")), "{line}");
        }
        for line in
            ["weir purge -c FILE --soft tag a", "weir purge --soft tag a -c FILE", "weir purge tag a --soft -c FILE"]
        {
            let Command::Purge(PurgeArguments { file, soft, target }) = parsed(line) else { panic!("{line}") };
            assert_eq!((file.config().unwrap(), soft), (Path::new("FILE"), true), "{line}");
            assert!(matches!(target, PurgeTarget::Tag { name } if name == "a"), "{line}");
        }
        let Command::Rollout(arguments) = parsed("weir rollout list") else { panic!() };
        let missing = arguments.file.config().unwrap_err();
        assert_eq!(
            (missing.code(), missing.to_string().as_str()),
            (Code::Usage, "no configuration file is named: expected -c FILE")
        );
    }
}
