//! `restart`: what a large spool costs a node that starts.

use std::process::ExitCode;

fn main() -> ExitCode {
    weir_benches::restart::main(std::env::args_os())
}
