//! The `carnet` binary: runs [`carnet::cli::main`] and returns its exit code.

use std::process::ExitCode;

fn main() -> ExitCode {
    carnet::run_command()
}
