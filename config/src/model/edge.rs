//! What the node is, how operators reach it and how it stops.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use super::CoreId;
use crate::ByteSize;

/// `[edge]`: what this node is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Edge {
    /// The region that the node stands in; part of its presence reports.
    pub region: String,
    /// The node's name, unique among all nodes of all regions and stable across restarts: it is part of every batch id.
    /// `None`: the node makes one on its first start and keeps it in `data_dir`.
    pub name: Option<String>,
    /// Where journals, outboxes and the node's name are kept.
    pub data_dir: PathBuf,
    /// Worker threads for agents' requests, 1 to 1,024. `None`: one per processor.
    pub threads: Option<usize>,
    /// How log lines are written.
    pub log_format: LogFormat,
}

/// `edge.log_format`: how log lines are written to standard error.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// Lines for people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// `[admin]`: where operators connect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Admin {
    /// The address of the admin listener. Plain HTTP, without authentication: keep it on loopback or a private network.
    pub address: SocketAddr,
    /// The longest time for which a trace may be recorded.
    pub max_trace_time: Duration,
    /// Bytes of a trace, at most; it ends there.
    pub max_trace_bytes: ByteSize,
    /// Bytes of a trace that wait in memory for its reader, at most; it ends when there would be more.
    pub max_trace_waiting: ByteSize,
}

/// `[presence]`: who is alive, reported to the core because the edge answers the polls that used to say so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Presence {
    /// The time between reports.
    pub interval: Duration,
    /// Agents remembered between two reports, at most. Past it, a report leaves early.
    pub max_agents: usize,
    /// The path at the core that takes reports.
    pub path: String,
    /// The header in which an agent names its version.
    pub version_header: String,
    /// The core that takes reports.
    pub core: CoreId,
}

/// `[shutdown]`: how the node stops on SIGTERM.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shutdown {
    /// The time for which the node, though no longer ready, goes on taking connections.
    pub notice: Duration,
    /// The time over which kept-alive connections are closed, spread evenly, each after the answer it waits for.
    pub drain: Duration,
    /// The most time that requests in flight and the last flush may take after the drain.
    pub timeout: Duration,
}
