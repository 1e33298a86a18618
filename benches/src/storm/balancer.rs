//! A load balancer of TCP connections: each goes to the next node that takes it. It stands between a fleet and nodes that are
//! restarted one after the other, and sees when agents connect.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::Instant;

/// A balancer that runs until it is dropped, and its connections with it.
#[derive(Debug)]
pub(super) struct Balancer {
    address: SocketAddr,
    shared: Arc<Mutex<Shared>>,
    _running: JoinSet<()>,
}

#[derive(Debug)]
struct Shared {
    nodes: Vec<SocketAddr>,
    next: usize,
    arrivals: Vec<Instant>,
}

impl Balancer {
    /// A balancer on a free port, before these nodes.
    pub(super) async fn start(nodes: Vec<SocketAddr>) -> io::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Mutex::new(Shared { nodes, next: 0, arrivals: Vec::new() }));
        let mut running = JoinSet::new();
        running.spawn(accept(listener, Arc::clone(&shared)));
        Ok(Self { address, shared, _running: running })
    }

    /// Where agents connect.
    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Puts a node in the place of another.
    pub(super) fn replace(&self, index: usize, node: SocketAddr) {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner).nodes[index] = node;
    }

    /// When agents connected, each time.
    pub(super) fn arrivals(&self) -> Vec<Instant> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner).arrivals.clone()
    }
}

async fn accept(listener: TcpListener, shared: Arc<Mutex<Shared>>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let Ok((agent, _)) = accepted else { continue };
                let nodes = shared.lock().unwrap_or_else(PoisonError::into_inner).turn();
                connections.spawn(pass(agent, nodes));
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

impl Shared {
    /// The nodes in the order in which the connection that has come tries them.
    fn turn(&mut self) -> Vec<SocketAddr> {
        self.arrivals.push(Instant::now());
        self.next += 1;
        let mut nodes = self.nodes.clone();
        let first = self.next % nodes.len().max(1);
        nodes.rotate_left(first);
        nodes
    }
}

/// Passes bytes both ways until both sides are done. An agent whom no node takes is left without an answer.
async fn pass(mut agent: TcpStream, nodes: Vec<SocketAddr>) {
    for node in nodes {
        if let Ok(mut node) = TcpStream::connect(node).await {
            let quick = agent.set_nodelay(true).and_then(|()| node.set_nodelay(true));
            if quick.is_ok() {
                // Either side may go as it likes; what was lost by it, the fleet counts.
                copy_bidirectional(&mut agent, &mut node).await.ok();
            }
            return;
        }
    }
}
