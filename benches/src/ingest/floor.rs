//! The floor: a server that reads uploads, discards them and answers 202. What a node does more than that is what it costs.

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{ExitCode, Stdio};

use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, ChildStdin, Command};
use weir_core_sim::{Behaviour, CoreOptions, CoreSim, CoreTls};

use super::arguments::FloorArguments;
use crate::node::{self, Usage};
use crate::text::print;

/// A running floor. Dropping it kills the process.
pub(super) struct Floor {
    child: Child,
    _lifeline: Option<ChildStdin>,
    pub(super) address: SocketAddr,
}

impl Floor {
    /// Starts one; with TLS where a directory holds a certificate for it.
    pub(super) async fn start(processor: Option<usize>, tls: Option<&Path>) -> io::Result<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        command.arg("floor").args(processor.map(|processor| format!("--processor={processor}")));
        if let Some(directory) = tls {
            command.arg("--tls").arg(directory);
        }
        let mut child =
            command.process_group(0).stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true).spawn()?;
        let lifeline = child.stdin.take();
        let output = child.stdout.take().ok_or_else(|| io::Error::other("the floor's output was not piped"))?;
        let line = BufReader::new(output).lines().next_line().await?.unwrap_or_default();
        let address = line.parse().map_err(|_| io::Error::other("the floor does not say where it listens"))?;
        Ok(Self { child, _lifeline: lifeline, address })
    }

    /// What it has used up so far.
    pub(super) fn usage(&self) -> Option<Usage> {
        node::usage(self.child.id()?)
    }
}

/// Runs the floor in this process.
pub(super) fn run(arguments: &FloorArguments) -> ExitCode {
    let ran = node::prepare(arguments.processor).and_then(|runtime| runtime.block_on(serve(arguments)));
    match ran {
        Ok(never) => match never {},
        Err(error) => {
            eprintln!("the floor cannot be started: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn serve(arguments: &FloorArguments) -> io::Result<std::convert::Infallible> {
    let tls = match &arguments.tls {
        None => None,
        Some(directory) => Some(CoreTls {
            certificates: std::fs::read(directory.join("server.pem"))?,
            key: std::fs::read(directory.join("server.key"))?,
        }),
    };
    let behaviour = Behaviour::status(202);
    let core = CoreSim::start(CoreOptions { tls, behaviour, ..CoreOptions::default() }).await?;
    print(&format!("{}\n", core.address()));
    std::future::pending().await
}
