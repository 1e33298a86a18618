//! The node as a process of its own: this very program, started again, so that it can be stopped, measured and killed.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{ExitCode, ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tokio::fs::File;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, ChildStderr, ChildStdin, Command};
use tokio::sync::watch;

/// The time that a start may take on a busy machine.
const START: Duration = Duration::from_secs(60);
/// The time that a stop may take: what the template's `[shutdown]` allows, and some.
const STOP: Duration = Duration::from_secs(90);

/// A running node. Dropping it kills the process.
#[derive(Debug)]
pub(super) struct Node {
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
    closed: bool,
    /// The last line.
    last: String,
}

/// What a node has used up.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Usage {
    pub(super) cpu_seconds: f64,
    pub(super) peak_rss_bytes: u64,
}

impl Node {
    /// Starts a node with the configuration at `config` and waits until it serves. Its log goes to `node.log` beside it.
    pub(super) async fn start(config: &Path) -> io::Result<Self> {
        let directory = config.parent().unwrap_or(Path::new("."));
        let log = directory.join("node.log");
        let mut child = Command::new(std::env::current_exe()?)
            .args(["node", "-c"])
            .arg(config)
            .current_dir(directory)
            .env_remove("NOTIFY_SOCKET")
            // Ctrl-C is for the demo, which then stops the node in its own way.
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let output = child.stderr.take().ok_or_else(|| io::Error::other("the node's log was not piped"))?;
        let (say, progress) = watch::channel(Progress::default());
        tokio::spawn(follow(output, File::create(&log).await?, say));
        let node = Self { _lifeline: child.stdin.take(), child, progress, log };
        let mut progress = node.progress.clone();
        let ready = progress.wait_for(|progress| progress.ready || progress.closed);
        match tokio::time::timeout(START, ready).await {
            Ok(Ok(progress)) if progress.ready => {}
            Ok(_) => return Err(node.failure("the node ended before it was ready")),
            Err(_) => return Err(node.failure("the node is not ready after a minute")),
        }
        Ok(node)
    }

    /// Where agents connect.
    pub(super) fn agents(&self) -> io::Result<SocketAddr> {
        self.progress.borrow().agents.ok_or_else(|| self.failure("the node does not say where it listens"))
    }

    /// Where operators connect.
    pub(super) fn admin(&self) -> io::Result<SocketAddr> {
        self.progress.borrow().admin.ok_or_else(|| self.failure("the node does not say where it listens"))
    }

    /// Whether the process has ended.
    pub(super) fn is_gone(&self) -> bool {
        self.progress.borrow().closed
    }

    /// What the node has used up so far; `None` where the system does not say.
    pub(super) fn usage(&self) -> Option<Usage> {
        let of = |file: &str| std::fs::read_to_string(format!("/proc/{}/{file}", self.child.id()?)).ok();
        Some(Usage { cpu_seconds: cpu_seconds(&of("stat")?)?, peak_rss_bytes: peak_rss(&of("status")?)? })
    }

    /// Asks the node to stop and waits for its end.
    pub(super) async fn stop(&mut self) -> io::Result<ExitStatus> {
        let id = self.child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
        if let Some(id) = id {
            kill_process(id, Signal::TERM)?;
        }
        match tokio::time::timeout(STOP, self.child.wait()).await {
            Ok(status) => status,
            Err(_) => Err(self.failure("the node does not stop")),
        }
    }

    /// Kills the node and waits until it is gone.
    pub(super) async fn kill(&mut self) {
        // One that has ended already is as good.
        self.child.kill().await.ok();
    }

    /// An error that names the log and its last line.
    pub(super) fn failure(&self, what: &str) -> io::Error {
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
        match fields["message"].as_str() {
            Some("listening") => {
                let address = fields["address"].as_str().and_then(|address| address.parse().ok());
                match fields["listener"].as_str() {
                    Some("agents") => self.agents = address,
                    Some("admin") => self.admin = address,
                    _ => {}
                }
            }
            Some("ready") => self.ready = true,
            _ => {}
        }
        self.last = line;
    }
}

/// Runs the node in this process, for the parent that holds the other end of standard input.
pub(super) fn run(config: PathBuf) -> ExitCode {
    let orphaned = std::thread::Builder::new().name("demo-parent".to_owned()).spawn(|| {
        // The demo never writes: this ends when the demo does, however it does.
        io::copy(&mut io::stdin().lock(), &mut io::sink()).ok();
        std::process::exit(1);
    });
    if let Err(error) = orphaned {
        eprintln!("demo: no thread can be started: {error}");
        return ExitCode::FAILURE;
    }
    weir::cli::main(["weir".into(), "run".into(), "-c".into(), config.into_os_string()])
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
