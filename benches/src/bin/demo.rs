//! `demo`: a core, a node and a fleet on this machine, an outage in the middle, and a verdict at the end.

use std::process::ExitCode;

fn main() -> ExitCode {
    weir_benches::demo::main(std::env::args_os())
}
