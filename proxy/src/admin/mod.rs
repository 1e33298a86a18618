//! The operators' listener: plain HTTP on a thread and a runtime of its own, so that it answers when agents' traffic drowns the
//! rest of the node.
//!
//! `/metrics`, `/livez`, `/readyz`, `/status` and `POST /reload` are answered here, other pages by the part of the node that they
//! are about. It knows nothing of the node but [`Operations`]. Connections, headers, bodies and times are bounded.

mod routes;
mod server;

use std::io;
use std::net::{SocketAddr, TcpListener};

pub use routes::{Feed, Operations, Pages, Question, Readiness, ReloadAnswer, Reply, ShutStream};
pub use server::AdminServer;

/// The admin listener, bound but not yet serving.
#[derive(Debug)]
pub struct BoundAdmin {
    listener: TcpListener,
    address: SocketAddr,
}

impl BoundAdmin {
    /// Binds `address`.
    ///
    /// # Errors
    ///
    /// When the address is taken, not this machine's, or not allowed.
    pub fn bind(address: SocketAddr) -> io::Result<Self> {
        let listener = TcpListener::bind(address)?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        Ok(Self { listener, address })
    }

    /// The address bound, with the port that the system chose where the configuration says 0.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}
