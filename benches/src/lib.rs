//! The demo and the measurements. Nothing here is part of the product; everything here only looks at it from outside.

pub mod demo;
