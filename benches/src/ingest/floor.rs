//! The floor: a server that reads uploads, discards them and answers 202. What a node does more than that is what it costs.

use std::io;
use std::path::Path;
use std::process::ExitCode;

use weir_core_sim::{Behaviour, CoreOptions, CoreSim, CoreTls};

use super::arguments::FloorArguments;
use crate::node;
use crate::server::Server;
use crate::text::print;

/// Starts a floor; with TLS where a directory holds a certificate for it.
pub(super) async fn start(processor: Option<usize>, tls: Option<&Path>) -> io::Result<Server> {
    let mut arguments = vec!["floor".to_owned()];
    arguments.extend(processor.map(|processor| format!("--processor={processor}")));
    arguments.extend(tls.map(|directory| format!("--tls={}", directory.display())));
    Server::start(&arguments).await
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
