//! `storm`: what a fleet, a core or an operator can do to a node; thresholds, and plots.

use std::process::ExitCode;

fn main() -> ExitCode {
    weir_benches::storm::main(std::env::args_os())
}
