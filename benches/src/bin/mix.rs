//! `mix`: the standard mix at several rates.

use std::process::ExitCode;

fn main() -> ExitCode {
    weir_benches::mix::main(std::env::args_os())
}
