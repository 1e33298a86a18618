//! `capacity`: how many nodes a region needs for so many agents, from what a node costs on this machine.

use std::process::ExitCode;

fn main() -> ExitCode {
    weir_benches::capacity::main(std::env::args_os())
}
