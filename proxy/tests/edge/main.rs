//! The side that faces agents, end to end: real sockets, real TLS, a scripted core; actions that say what they were
//! asked.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on says so by panicking")]

mod bodies;
mod client;
mod connections;
mod drain;
mod forward;
mod frames;
mod http2;
mod node;
mod refusals;
mod requests;
mod streams;
mod strict;
mod tickets;
mod tls;
