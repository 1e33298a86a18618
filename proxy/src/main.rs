//! The `weir` binary. All of it lives in the library, so that another program can run the very same node in a child process.

use std::process::ExitCode;

fn main() -> ExitCode {
    weir::cli::main(std::env::args_os())
}
