//! The demo and the measurements. Nothing here is part of the product; everything here only looks at it from outside.
//!
//! Shared by the programs: `place` is a directory for a run, `node` runs the product itself as a child process, `status` asks it
//! how it is, `books` hold what arrived to what agents were told, `verdict` is how a judgement is shown.

pub mod cache;
pub mod capacity;
pub mod chaos;
pub mod demo;
pub mod ingest;
pub mod lookups;
pub mod micro;
pub mod mix;
pub mod peers;
pub mod ratios;
pub mod restart;
pub mod sim;
pub mod storm;

mod books;
mod memory;
mod node;
mod place;
mod rounds;
mod server;
mod signals;
mod status;
mod text;
mod verdict;
mod wire;

pub use verdict::Line;
