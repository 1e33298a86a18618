//! `cache`: what the cache promises, measured.

use std::process::ExitCode;

fn main() -> ExitCode {
    weir_benches::cache::main(std::env::args_os())
}
