//! The side that agents connect to: sockets, TLS, HTTP connections and their end.
//!
//! [`Listener`] binds an address before the node says it is ready, [`Acceptor`] serves all of them as one pingora
//! service. The loop is our own because pingora's has no session tickets, no cap on handshakes or connections, no PROXY
//! protocol and no staggered drain. A connection's requests go to a [`HttpServerApp`](pingora::apps::HttpServerApp),
//! which finds what is known of the connection in [`Connection::current`]; those of HTTP/1.1 are offered to a [`Shortcut`] first. Nothing
//! here knows routes or actions.
//!
//! Memory of an idle connection: the task, the boxed stream and rustls's state; no read or write buffer is held between
//! requests.

pub mod certificates;
mod connection;
mod drain;
mod establish;
mod hex_lines;
mod host;
mod http1;
mod http2;
mod lent;
mod listener;
mod outlet;
mod patience;
mod plain;
mod preamble;
mod proof;
mod service;
mod tickets;
mod tls;
mod trust;
mod wire;

pub use connection::Connection;
pub use drain::Drain;
pub use listener::{AcceptError, Listener};
pub use plain::{Plain, Served, Shortcut, Streamed};
pub use service::Acceptor;
pub use tls::Certificates;
