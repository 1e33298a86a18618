//! What would have been, had the TTL been another: for each candidate TTL the requests that the core would have seen, the share of
//! agents answered without waiting, and the age of what they were given.
//!
//! A route's keys are watched on live traffic. For each watched key and each of [`MULTIPLIERS`] a [`Ghost`] remembers when an
//! answer would have been fetched, and nothing else; every request asks all six. A ghost goes by the policy's own rules: jitter,
//! one fill for all who wait, stale answers while a fill is under way, fetching ahead. Which keys are watched is in [`Watch`], the time that a
//! report is about in `window`.
//!
//! Not modelled: a core that fails, purges, and answers that leave the cache for want of room. A longer TTL needs more of it.

mod ages;
mod figures;
mod ghost;
mod watch;
mod window;

#[cfg(test)]
pub(crate) mod proof;

pub use ages::Ages;
pub use figures::{Candidate, Figures};
pub(crate) use ghost::draw;
pub use ghost::{Ghost, Served, mixed};
pub use watch::{Asked, Watch};

/// The candidate TTLs, as multiples of the one in force.
pub const MULTIPLIERS: [f64; 6] = [0.25, 0.5, 1.0, 2.0, 4.0, 8.0];

/// The place of the TTL in force among [`MULTIPLIERS`].
pub const TODAY: usize = 2;
