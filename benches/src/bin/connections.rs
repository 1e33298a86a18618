//! `connections`: what agents' connections cost a node while they are opened and while they are idle.

use std::process::ExitCode;

fn main() -> ExitCode {
    weir_benches::connections::main(std::env::args_os())
}
