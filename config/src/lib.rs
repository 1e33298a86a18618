//! The operator's file: parsed once into types that cannot be wrong.
//!
//! Pure: no file is opened and no clock read here. Whoever parses lends an [`Environment`] that answers for variables, included
//! files and secrets.

mod model;
mod units;

pub use model::*;
pub use units::{ByteSize, Ratio};
