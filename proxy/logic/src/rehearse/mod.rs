//! Traces and rehearsals: the requests that a node has met, written down and met again under another configuration, in virtual time.
//!
//! - [`Line`] is one request: what its route, its key and its answer's lifetime depend on, and nothing that names anyone. Values are
//!   veiled ([`Veil`]): equal ones stay equal, so that keys can be told apart, and what they were cannot be found out.
//! - [`Reader`] reads a trace line by line, and says of what it refuses where it stands and what was expected.
//! - [`Rehearsal`] takes lines through a configuration: the route table, the key, and a [`Ghost`](crate::whatif::Ghost) for each key,
//!   by the policy's own rules.
//!
//! What was veiled matches no literal: a new route that spells out what the old one took as a parameter takes no request of the
//! trace. Identities are as they were recorded, whatever the new configuration says of their sources. Answers leave for want of room as
//! they would ([`Rehearsal::within`]), and by every kind of purge, and by changes that agents make where the new configuration passes
//! those through. Not modelled: lifetimes that the core names for single keys of lookups.
//!
//! A trace is lines of JSON: a [`Head`], [`Line`]s in the order in which their requests ended and [`Purge`]s among them, and an [`End`]. A trace without
//! its end is not whole.

mod line;
mod played;
mod reader;
mod rehearsal;
mod room;
mod stage;
mod veil;

pub use line::{Asked, End, Head, Line, Purge, VERSION};
pub use played::{Play, Played};
pub use reader::{Fault, MAX_LINE_BYTES, MIN_SAMPLE, Reader};
pub use rehearsal::Rehearsal;
pub use room::Overheads;
pub use veil::{Veil, mark};

#[cfg(test)]
mod tests;
