//! The node as a process of its own: this very program, started again, so that it can be stopped, measured and killed.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{ExitCode, ExitStatus, Stdio};
use std::time::Duration;

use clap::Args;
use rustix::process::{Pid, Resource, Rlimit, Signal, kill_process, prlimit};
use rustix::thread::{CpuSet, sched_setaffinity};
use serde_json::Value;
use tokio::fs::File;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, ChildStderr, ChildStdin, Command};
use tokio::runtime::Runtime;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

/// The time that a start may take on a busy machine.
const START: Duration = Duration::from_secs(60);
/// The time that a stop may take: what the template's `[shutdown]` allows, and some.
const STOP: Duration = Duration::from_secs(90);

/// A running node. Dropping it kills the process.
#[derive(Debug)]
pub(crate) struct Node {
    child: Child,
    /// The node ends when this does. Not left in `child`, which closes it to wait.
    _lifeline: Option<ChildStdin>,
    progress: watch::Receiver<Progress>,
    log: PathBuf,
}

/// What the node's log has said so far.
#[derive(Clone, Debug, Default)]
struct Progress {
    agents: Option<SocketAddr>,
    admin: Option<SocketAddr>,
    ready: bool,
    /// Records that were replayed, once they were.
    replayed: Option<u64>,
    closed: bool,
    /// Errors, by message.
    complaints: BTreeMap<String, u64>,
    /// The last line.
    last: String,
}

/// What a node has used up.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Usage {
    pub(crate) cpu_seconds: f64,
    pub(crate) peak_rss_bytes: u64,
}

impl Node {
    /// Starts a node with the configuration at `config` and waits until it serves. Its log is added to `node.log` beside it.
    pub(crate) async fn start(config: &Path) -> io::Result<Self> {
        let node = Self::spawn(config, None).await?;
        node.ready().await?;
        Ok(node)
    }

    /// Starts a node, on one processor where one is named, and does not wait for it.
    pub(crate) async fn spawn(config: &Path, processor: Option<usize>) -> io::Result<Self> {
        let directory = config.parent().unwrap_or(Path::new("."));
        let log = directory.join("node.log");
        let mut child = Command::new(std::env::current_exe()?)
            .args(["node", "-c"])
            .arg(config)
            .args(processor.map(|processor| format!("--processor={processor}")))
            .current_dir(directory)
            .env_remove("NOTIFY_SOCKET")
            // Ctrl-C is for the parent, which then stops the node in its own way.
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let output = child.stderr.take().ok_or_else(|| io::Error::other("the node's log was not piped"))?;
        let (say, progress) = watch::channel(Progress::default());
        let file = File::options().create(true).append(true).open(&log).await?;
        tokio::spawn(follow(output, file, say));
        Ok(Self { _lifeline: child.stdin.take(), child, progress, log })
    }

    /// Waits until the node serves.
    pub(crate) async fn ready(&self) -> io::Result<()> {
        let mut progress = self.progress.clone();
        let ready = progress.wait_for(|progress| progress.ready || progress.closed);
        match tokio::time::timeout(START, ready).await {
            Ok(Ok(progress)) if progress.ready => Ok(()),
            Ok(_) => Err(self.failure("the node ended before it was ready")),
            Err(_) => Err(self.failure("the node is not ready after a minute")),
        }
    }

    /// Waits until the journal of the last life has been replayed.
    pub(crate) async fn replayed(&self) -> io::Result<()> {
        let mut progress = self.progress.clone();
        let replayed = progress.wait_for(|progress| progress.replayed.is_some() || progress.closed);
        match tokio::time::timeout(START, replayed).await {
            Ok(Ok(progress)) if progress.replayed.is_some() => Ok(()),
            _ => Err(self.failure("the node does not say that it replayed its journal")),
        }
    }

    /// How often the log has said something at the level of errors, by message.
    pub(crate) fn complaints(&self) -> BTreeMap<String, u64> {
        self.progress.borrow().complaints.clone()
    }

    /// Forbids the node to make any file longer than this; `None` lifts that. A write beyond it is cut short there and then fails,
    /// as on a disk that is full.
    pub(crate) fn limit_files(&self, bytes: Option<u64>) -> io::Result<()> {
        let id = self.id().ok_or_else(|| self.failure("the node has ended"))?;
        prlimit(Some(id), Resource::Fsize, Rlimit { current: bytes, maximum: None })?;
        Ok(())
    }

    /// Where agents connect.
    pub(crate) fn agents(&self) -> io::Result<SocketAddr> {
        self.progress.borrow().agents.ok_or_else(|| self.failure("the node does not say where it listens"))
    }

    /// Where operators connect.
    pub(crate) fn admin(&self) -> io::Result<SocketAddr> {
        self.progress.borrow().admin.ok_or_else(|| self.failure("the node does not say where it listens"))
    }

    /// Whether the process has ended.
    pub(crate) fn is_gone(&self) -> bool {
        self.progress.borrow().closed
    }

    /// What the node has used up so far; `None` where the system does not say.
    pub(crate) fn usage(&self) -> Option<Usage> {
        usage(self.child.id()?)
    }

    /// Asks the node to stop and waits for its end.
    pub(crate) async fn stop(&mut self) -> io::Result<ExitStatus> {
        if let Some(id) = self.id() {
            kill_process(id, Signal::TERM)?;
        }
        match tokio::time::timeout(STOP, self.child.wait()).await {
            Ok(status) => status,
            Err(_) => Err(self.failure("the node does not stop")),
        }
    }

    /// Kills the node and waits until it is gone.
    pub(crate) async fn kill(&mut self) {
        // One that has ended already is as good.
        self.child.kill().await.ok();
    }

    /// The process, while it runs.
    pub(crate) fn id(&self) -> Option<Pid> {
        self.child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw)
    }

    /// Waits until all that a node which has ended wrote to its log has been taken in.
    pub(crate) async fn has_said_all(&self) {
        let mut progress = self.progress.clone();
        // An error means that nobody reads the log any more, and that it is at its end.
        progress.wait_for(|progress| progress.closed).await.ok();
    }

    /// An error that names the log and its last line.
    pub(crate) fn failure(&self, what: &str) -> io::Error {
        let last = self.progress.borrow().last.clone();
        io::Error::other(format!("{what}; the last line of {}: {last}", self.log.display()))
    }
}

/// Copies the log to a file and picks out what the demo waits for.
async fn follow(output: ChildStderr, mut file: File, say: watch::Sender<Progress>) {
    let mut lines = BufReader::new(output).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        // A full disk costs the log, not the run.
        file.write_all(format!("{line}\n").as_bytes()).await.ok();
        say.send_modify(|progress| progress.take_in(line));
    }
    file.flush().await.ok();
    say.send_modify(|progress| progress.closed = true);
}

impl Progress {
    fn take_in(&mut self, line: String) {
        let entry: Value = serde_json::from_str(&line).unwrap_or_default();
        let fields = &entry["fields"];
        let message = fields["message"].as_str();
        if let (Some("ERROR"), Some(message)) = (entry["level"].as_str(), message) {
            *self.complaints.entry(message.to_owned()).or_default() += 1;
        }
        match message {
            Some("listening") => {
                let address = fields["address"].as_str().and_then(|address| address.parse().ok());
                match fields["listener"].as_str() {
                    Some("agents") => self.agents = address,
                    Some("admin") => self.admin = address,
                    _ => {}
                }
            }
            Some("ready") => self.ready = true,
            Some("the journal was replayed") => self.replayed = fields["replayed"].as_u64(),
            _ => {}
        }
        self.last = line;
    }
}

/// How a program is started that shall be a node.
#[derive(Clone, Debug, Args)]
pub(crate) struct NodeArguments {
    /// The node's configuration
    #[arg(short = 'c')]
    config: PathBuf,
    /// The one processor that it may run on
    #[arg(long)]
    processor: Option<usize>,
}

/// Runs the node in this process, for the parent that holds the other end of standard input.
pub(crate) fn run(arguments: &NodeArguments) -> ExitCode {
    match prepare(arguments.processor) {
        // Kept to the end: with it the signal would get its deadly meaning back.
        Ok(_runtime) => {
            weir::cli::main(["weir".into(), "run".into(), "-c".into(), arguments.config.clone().into_os_string()])
        }
        Err(error) => {
            eprintln!("the node cannot be started: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Makes this process one that its parent can use: it ends with the parent, stays on its processor, and is told of a limit on
/// files instead of being killed by it.
pub(crate) fn prepare(processor: Option<usize>) -> io::Result<Runtime> {
    if let Some(processor) = processor {
        // Before any thread is started, for threads take after the one that starts them.
        pin(processor)?;
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let exceeded = runtime.block_on(async { signal(SignalKind::from_raw(Signal::XFSZ.as_raw())) })?;
    std::thread::Builder::new().name("parent".to_owned()).spawn(move || {
        // The parent never writes: this ends when the parent does, however it does.
        io::copy(&mut io::stdin().lock(), &mut io::sink()).ok();
        drop(exceeded);
        std::process::exit(1);
    })?;
    Ok(runtime)
}

/// Keeps the calling thread, and those that it starts from now on, on one processor.
pub(crate) fn pin(processor: usize) -> io::Result<()> {
    let mut set = CpuSet::new();
    set.set(processor);
    Ok(sched_setaffinity(None, &set)?)
}

/// What a process has used up so far; `None` where the system does not say.
pub(crate) fn usage(id: u32) -> Option<Usage> {
    let of = |file: &str| std::fs::read_to_string(format!("/proc/{id}/{file}")).ok();
    Some(Usage { cpu_seconds: cpu_seconds(&of("stat")?)?, peak_rss_bytes: peak_rss(&of("status")?)? })
}

/// User and system time out of `/proc/PID/stat`.
fn cpu_seconds(stat: &str) -> Option<f64> {
    // The name in parentheses may hold blanks; after it the state is field 3, the times are fields 14 and 15.
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let ticks = fields.get(11)?.parse::<u64>().ok()? + fields.get(12)?.parse::<u64>().ok()?;
    Some(ticks as f64 / TICKS_PER_SECOND)
}

/// What `/proc` counts in on every Linux that Rust runs on.
const TICKS_PER_SECOND: f64 = 100.0;

/// The largest resident size out of `/proc/PID/status`.
fn peak_rss(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.split_whitespace().next()?.parse::<u64>().ok().map(|kib| kib * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn usage_is_read_from_proc() {
        let stat = "42 (a (b) c) S 1 42 42 0 -1 4194304 100 0 0 0 250 150 0 0 20 0 9 0 100 1 1";
        assert!((cpu_seconds(stat).unwrap() - 4.0).abs() < 1e-9);
        assert_eq!(peak_rss("Name:\tx\nVmHWM:\t    2048 kB\n"), Some(2 << 20));
    }

    #[test]
    fn the_log_says_where_the_node_listens() {
        let mut progress = Progress::default();
        for line in [
            r#"{"fields":{"message":"listening","listener":"agents","address":"127.0.0.1:4000"}}"#,
            "not json",
            r#"{"fields":{"message":"ready"}}"#,
        ] {
            progress.take_in(line.to_owned());
        }
        assert_eq!(progress.agents, Some("127.0.0.1:4000".parse().unwrap()));
        assert!(progress.ready && progress.admin.is_none());
    }
}
