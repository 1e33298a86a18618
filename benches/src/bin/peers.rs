//! `peers`: the node beside servers that do a part of its work.

use std::process::ExitCode;

fn main() -> ExitCode {
    weir_benches::peers::main(std::env::args_os())
}
