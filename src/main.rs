//! The `orchestrate` binary; everything is in the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    orchestrate::cli::main(std::env::args_os())
}
