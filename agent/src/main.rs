//! The `tollgate` binary: parse, dispatch, exit.

use std::process::ExitCode;

/// An exchange makes some two hundred small allocations, some freed on another thread than theirs; the C library's
/// allocator spent a seventh of the daemon's time on them (`docs/benchmarks.md`).
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    tollgate::cli::main()
}
