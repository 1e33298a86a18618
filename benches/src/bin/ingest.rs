//! `ingest`: what an upload costs a node, from the socket to the core.

use std::process::ExitCode;

fn main() -> ExitCode {
    weir_benches::ingest::main(std::env::args_os())
}
