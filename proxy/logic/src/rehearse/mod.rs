//! Traces: the requests that a node has met, written down so that they can be met again under another configuration.
//!
//! - [`Line`] is one request: what its route, its key and its answer's lifetime depend on, and nothing that names anyone. Values are
//!   veiled ([`Veil`]): equal ones stay equal, so that keys can be told apart, and what they were cannot be found out.
//! - [`Reader`] reads a trace line by line, and says of what it refuses where it stands and what was expected.
//!
//! A trace is lines of JSON: a [`Head`], [`Line`]s in the order in which their requests ended, and an [`End`]. A trace without
//! its end is not whole.

mod line;
mod reader;
mod veil;

pub use line::{End, Head, Line, VERSION};
pub use reader::{Fault, MAX_LINE_BYTES, Reader};
pub use veil::{Veil, mark};

#[cfg(test)]
mod tests;
