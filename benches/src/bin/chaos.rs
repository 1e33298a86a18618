//! `chaos`: a node, a core and agents on this machine, and hundreds of faults; then the books are compared.

use std::process::ExitCode;

fn main() -> ExitCode {
    weir_benches::chaos::main(std::env::args_os())
}
