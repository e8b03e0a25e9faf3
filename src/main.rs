//! The `carnet` command: arguments to exit code, nothing else.

use std::process::ExitCode;

fn main() -> ExitCode {
    carnet::run_command()
}
