//! `ratios`: bytes to the core over bytes from agents, for every way to pack a batch.

use std::process::ExitCode;

fn main() -> ExitCode {
    weir_benches::ratios::main(std::env::args_os())
}
