//! A node as a process of its own: started, watched through its log and its admin listener, stopped, killed.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rustix::process::{Pid, Resource, Rlimit, Signal, kill_process, prlimit};
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};
use tokio::process::{Child, Command};
use tokio::sync::watch;

use crate::http;

/// A running node. Dropping it kills the process.
pub struct Node {
    child: Child,
    log: Log,
    config: PathBuf,
}

/// How a node that has ended did so.
#[derive(Clone, Debug)]
pub struct Exit {
    /// The exit code; `None` when a signal ended it.
    pub code: Option<i32>,
    /// Everything that it wrote to standard error.
    pub log: String,
}

impl Node {
    /// Writes `config` to `weir.toml` in `directory`, runs `binary` on it and waits until it is ready. The configuration must set
    /// `edge.log_format = "json"`; addresses may use port 0.
    ///
    /// # Panics
    ///
    /// With the node's log, when it ends or is not ready within a minute.
    pub async fn start(binary: &Path, directory: &Path, config: &str) -> Self {
        Self::start_in(binary, directory, config, &[]).await
    }

    /// The same with these environment variables.
    pub async fn start_in(binary: &Path, directory: &Path, config: &str, variables: &[(&str, &str)]) -> Self {
        let node = Self::launch(binary, directory, config, variables);
        let ready = node.log.wait_for(|line| line["fields"]["message"] == "ready");
        if tokio::time::timeout(PATIENCE, ready).await.ok().flatten().is_none() {
            panic!("the node is not ready:\n{}", node.log.text());
        }
        node
    }

    /// Runs a node and gives back how it ended, for configurations that it must refuse.
    pub async fn run(binary: &Path, directory: &Path, config: &str) -> Exit {
        Self::launch(binary, directory, config, &[]).wait().await
    }

    fn launch(binary: &Path, directory: &Path, config: &str, variables: &[(&str, &str)]) -> Self {
        let path = directory.join("weir.toml");
        std::fs::write(&path, config).expect("the test directory is writable");
        let mut child = Command::new(binary)
            .args(["run", "-c"])
            .arg(&path)
            .env_remove("NOTIFY_SOCKET")
            .envs(variables.iter().copied())
            .current_dir(directory)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("the binary runs");
        let log = Log::follow(child.stderr.take().expect("it was piped"));
        Self { child, log, config: path }
    }

    /// The address that the listener of that name is bound to.
    pub fn listener(&self, name: &str) -> SocketAddr {
        self.log.address(name)
    }

    /// The address of the admin listener.
    pub fn admin(&self) -> SocketAddr {
        self.log.address("admin")
    }

    /// Everything that the node has logged so far.
    pub fn log(&self) -> String {
        self.log.text()
    }

    /// Waits for a log line with this message and gives it back.
    ///
    /// # Panics
    ///
    /// When it does not come within a minute or the node ends before.
    pub async fn logged(&self, message: &str) -> Value {
        let line = self.log.wait_for(|line| line["fields"]["message"] == message);
        match tokio::time::timeout(PATIENCE, line).await {
            Ok(Some(line)) => line,
            _ => panic!("the node never said `{message}`:\n{}", self.log.text()),
        }
    }

    /// All metrics, as text.
    pub async fn metrics(&self) -> String {
        http::get(self.admin(), "/metrics").await.text().to_owned()
    }

    /// The sum over all series of the metric whose labels include these.
    pub async fn metric(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        sum(&self.metrics().await, name, labels)
    }

    /// Asks for the metric until `enough` says so.
    ///
    /// # Panics
    ///
    /// When that takes more than a minute.
    pub async fn metric_until(&self, name: &str, labels: &[(&str, &str)], enough: impl Fn(f64) -> bool) -> f64 {
        let ask = async {
            loop {
                let value = self.metric(name, labels).await;
                if enough(value) {
                    return value;
                }
                tokio::time::sleep(POLL).await;
            }
        };
        match tokio::time::timeout(PATIENCE, ask).await {
            Ok(value) => value,
            Err(_) => panic!("{name}{labels:?} never got there:\n{}\n{}", self.metrics().await, self.log.text()),
        }
    }

    /// The document of `/status`.
    pub async fn status(&self) -> Value {
        http::get(self.admin(), "/status").await.json()
    }

    /// Replaces the configuration file and asks for a reload through the admin listener.
    pub async fn reload(&self, config: &str) -> http::Answer {
        self.write_config(config);
        http::send(self.admin(), "POST", "/reload", &[], "").await
    }

    /// Replaces the configuration file; nothing is told to the node.
    pub fn write_config(&self, config: &str) {
        std::fs::write(&self.config, config).expect("the test directory is writable");
    }

    /// The most memory that the process has had resident since it started, in bytes.
    ///
    /// # Panics
    ///
    /// When the process has ended.
    pub fn peak_memory(&self) -> u64 {
        let id = self.child.id().expect("the node runs");
        let status = std::fs::read_to_string(format!("/proc/{id}/status")).expect("the node runs");
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("Linux says so of every process");
        let kib: u64 = line.trim().trim_end_matches(" kB").parse().expect("a number of KiB");
        kib * 1024
    }

    /// Lets no file of the node grow past so many bytes, or past any: its writes fail as on a full disk. The node must have
    /// been started with `SIGXFSZ` ignored, which ends it otherwise.
    pub fn limit_file_size(&self, bytes: Option<u64>) {
        let limit = Rlimit { current: bytes, maximum: None };
        prlimit(Some(self.pid()), Resource::Fsize, limit).expect("the node is ours");
    }

    /// Sends SIGHUP.
    pub fn hang_up(&self) {
        self.signal(Signal::HUP);
    }

    /// Sends SIGTERM.
    pub fn terminate(&self) {
        self.signal(Signal::TERM);
    }

    /// Sends SIGINT.
    pub fn interrupt(&self) {
        self.signal(Signal::INT);
    }

    /// `kill -9`, and waits until the process is gone.
    pub async fn kill(mut self) {
        self.child.kill().await.expect("the node was running");
    }

    /// Waits for the process to end.
    ///
    /// # Panics
    ///
    /// When it does not within two minutes.
    pub async fn wait(mut self) -> Exit {
        let Ok(status) = tokio::time::timeout(2 * PATIENCE, self.child.wait()).await else {
            panic!("the node does not end:\n{}", self.log.text());
        };
        self.log.finished().await;
        Exit { code: status.expect("the child is ours").code(), log: self.log.text() }
    }

    fn signal(&self, signal: Signal) {
        kill_process(self.pid(), signal).expect("the node is ours");
    }

    fn pid(&self) -> Pid {
        let id = self.child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
        id.expect("the node runs")
    }
}

/// The sum over all series of a metric whose labels include these.
pub fn sum(metrics: &str, name: &str, labels: &[(&str, &str)]) -> f64 {
    let wanted: Vec<String> = labels.iter().map(|(label, value)| format!("{label}=\"{value}\"")).collect();
    let series = metrics.lines().filter_map(|line| line.rsplit_once(' '));
    series
        .filter(|(series, _)| series.split('{').next() == Some(name))
        .filter(|(series, _)| wanted.iter().all(|label| series.contains(label)))
        .filter_map(|(_, value)| value.parse::<f64>().ok())
        .sum()
}

/// Long enough for a debug build on a busy machine; a test that is right never waits for it.
const PATIENCE: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(20);

/// What the node writes to standard error, line by line.
#[derive(Clone)]
struct Log {
    lines: Arc<Mutex<Vec<String>>>,
    progress: watch::Receiver<Progress>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Progress {
    Lines(usize),
    Closed,
}

impl Log {
    fn follow(output: impl AsyncRead + Unpin + Send + 'static) -> Self {
        let lines = Arc::new(Mutex::new(Vec::new()));
        let (say, progress) = watch::channel(Progress::Lines(0));
        let log = Self { lines: Arc::clone(&lines), progress };
        tokio::spawn(async move {
            let mut output = BufReader::new(output).lines();
            while let Ok(Some(line)) = output.next_line().await {
                let mut lines = lines.lock().expect("no holder panics");
                lines.push(line);
                say.send_replace(Progress::Lines(lines.len()));
            }
            say.send_replace(Progress::Closed);
        });
        log
    }

    fn text(&self) -> String {
        self.lines.lock().expect("no holder panics").join("\n")
    }

    fn parsed(&self) -> Vec<Value> {
        let lines = self.lines.lock().expect("no holder panics");
        lines.iter().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }

    fn address(&self, listener: &str) -> SocketAddr {
        let lines = self.parsed();
        let line = lines
            .iter()
            .find(|line| line["fields"]["message"] == "listening" && line["fields"]["listener"] == listener);
        let address = line.and_then(|line| line["fields"]["address"].as_str()).and_then(|text| text.parse().ok());
        address.unwrap_or_else(|| panic!("no listener {listener}:\n{}", self.text()))
    }

    /// The first line that is wanted; `None` when the log ends without.
    async fn wait_for(&self, wanted: impl Fn(&Value) -> bool) -> Option<Value> {
        let mut progress = self.progress.clone();
        loop {
            let seen = *progress.borrow_and_update();
            if let Some(line) = self.parsed().into_iter().find(&wanted) {
                return Some(line);
            }
            if seen == Progress::Closed {
                return None;
            }
            progress.changed().await.ok()?;
        }
    }

    async fn finished(&self) {
        let mut progress = self.progress.clone();
        // The writer is gone either way.
        let _ended = progress.wait_for(|progress| *progress == Progress::Closed).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn series_are_summed_by_their_labels() {
        let metrics = "# HELP weir_requests_total x\nweir_requests_total{outcome=\"hit\",route=\"a\"} 2\n\
                       weir_requests_total{outcome=\"hit\",route=\"b\"} 3\nweir_requests_total_other 9\n";
        assert!((sum(metrics, "weir_requests_total", &[("outcome", "hit")]) - 5.0).abs() < 1e-9);
        assert!((sum(metrics, "weir_requests_total", &[("route", "b")]) - 3.0).abs() < 1e-9);
        assert!(sum(metrics, "weir_requests_total", &[("route", "c")]).abs() < 1e-9);
    }
}
