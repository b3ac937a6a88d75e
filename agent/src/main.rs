//! The `tollgate` binary: parse, dispatch, exit.

use std::process::ExitCode;

fn main() -> ExitCode {
    tollgate::cli::main()
}
