//! A server of this very program, started again as a process of its own: it prints where it listens, and ends with its parent.

use std::io;
use std::net::SocketAddr;
use std::process::Stdio;

use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, ChildStdin, Command};

use crate::node::{self, Usage};

/// A running server. Dropping it kills the process.
pub(crate) struct Server {
    child: Child,
    _lifeline: Option<ChildStdin>,
    pub(crate) address: SocketAddr,
}

impl Server {
    /// Starts this program with these arguments and waits for the line that says where it listens.
    pub(crate) async fn start(arguments: &[String]) -> io::Result<Self> {
        let mut child = Command::new(std::env::current_exe()?)
            .args(arguments)
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let lifeline = child.stdin.take();
        let output = child.stdout.take().ok_or_else(|| io::Error::other("the server's output was not piped"))?;
        let line = BufReader::new(output).lines().next_line().await?.unwrap_or_default();
        let address = line.parse().map_err(|_| io::Error::other("the server does not say where it listens"))?;
        Ok(Self { child, _lifeline: lifeline, address })
    }

    /// Its process; `None` once it has ended.
    pub(crate) fn id(&self) -> Option<u32> {
        self.child.id()
    }

    /// What it has used up so far; `None` once it has ended.
    pub(crate) fn usage(&self) -> Option<Usage> {
        node::usage(self.child.id()?)
    }
}
