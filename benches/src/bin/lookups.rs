//! `lookups`: what the configurations of many cold tenants cost the core.

use std::process::ExitCode;

fn main() -> ExitCode {
    weir_benches::lookups::main(std::env::args_os())
}
