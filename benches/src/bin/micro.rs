//! `micro`: what single operations cost, in instructions.

use std::process::ExitCode;

fn main() -> ExitCode {
    weir_benches::micro::main(std::env::args_os())
}
