//! The names that `flate2` expects of `libz-ng-sys`, served by stock zlib.
//!
//! `pingora-core` turns on `flate2`'s `zlib-ng` feature, and the real bindings build zlib-ng with cmake. `libz-sys` carries
//! zlib's sources and builds them with the C compiler that the rest of the tree needs anyway; its declarations are those
//! that `libz-ng-sys` has in compatibility mode.

pub use libz_sys::*;
