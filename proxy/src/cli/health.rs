//! `weir health`: asks the running node's `/readyz`, for container platforms that probe by running a command.

use std::net::SocketAddr;
use std::time::Duration;

use super::admin;
use crate::exit::{Code, Failure};

/// Asks the node behind the admin address whether it can help agents.
///
/// # Errors
///
/// When it says no, does not answer within two seconds, or does not run.
pub(super) fn ask(address: SocketAddr) -> Result<(), Failure> {
    let answer = admin::ask(address, "GET", "/readyz", "", PATIENCE)?;
    if answer.status == 200 {
        return Ok(());
    }
    Err(Failure::new(Code::Unavailable, format!("{address}: not ready: {}", answer.body.trim())))
}

const PATIENCE: Duration = Duration::from_secs(2);
