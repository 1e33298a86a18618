//! What end-to-end tests stand on: certificates, the beginning of a configuration, a node that runs as a process of its own, plain clients.
//!
//! Nothing here knows the node's code: it is the binary that is tested, through its command line, its sockets and its log. The
//! scripted core is `weir-core-sim`. A helper that cannot do its part panics: a test has no better use for the error.

pub mod certificates;
pub mod ground;
pub mod http;
pub mod node;

pub use certificates::Authority;
pub use ground::{NOBODY, ground};
pub use node::{Exit, Node, sum};
