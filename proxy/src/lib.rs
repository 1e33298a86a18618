//! Weir: an edge aggregation proxy. Agents in front, the core behind, a hundredth of the requests between.
//!
//! ARCHITECTURE.md walks the path of a request and of a record, file by file.

pub mod accept;
pub mod admin;
pub mod admission;
pub mod aggregate;
pub mod answer;
pub mod app;
pub mod budget;
pub mod cache;
pub mod check;
pub mod cli;
pub mod clock;
pub mod environment;
pub mod exit;
pub mod explain;
pub mod forward;
pub mod gateway;
mod hashing;
mod holds;
pub mod identify;
pub mod logging;
pub mod lookup;
pub mod meters;
pub mod metrics;
pub mod presence;
pub mod purging;
pub mod reload;
pub mod snapshot;
pub mod status;
pub mod task;
pub mod trace;
pub mod upstream;
pub mod whatif;
