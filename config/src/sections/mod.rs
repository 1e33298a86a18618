//! The tables of the file: every key with its type, bounds, default and meaning, and the checks inside one table.

mod admission;
mod core;
mod delivery;
mod edge;
mod limits;
mod listener;
mod request;
mod root;
mod route;
mod stream;

pub(crate) use root::{ROOT_DESCRIPTION, Read, core_names, read, stream_names, write};
