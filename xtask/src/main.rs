//! `cargo xtask VERB`: all of the project's tooling, and all that CI calls.
//!
//! One file per verb. Each says what it is doing while it does it, and how to mend what is missing.

mod bench;
mod demo;
mod ebpf;
mod fuzz;
mod kernels;
mod model;
mod process;
mod test;
mod tools;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(name = "cargo xtask", about = "Builds, generates, tests and shows Tollgate")]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Builds the kernel side into the repository, or proves that what is there came from the sources
    Ebpf(ebpf::Args),
    /// Makes the model of AWS out of its sources, or proves that what is there came from them
    Model(model::Args),
    /// Installs what tests and demonstration need, below `.tools/`
    Tools(tools::Args),
    /// Shows the main job on this machine, with the real AWS CLI
    Demo(demo::Args),
    /// Runs all tests: formatting, lints, dependencies, unit, integration, black-box
    Test(test::Args),
    /// Runs the capture tests on other kernels, in emulated machines
    Kernels(kernels::Args),
    /// Fuzzes what reads hostile bytes; `tests/fuzz` has the targets
    Fuzz(fuzz::Args),
    /// Measures Tollgate against its neighbours, and writes docs/benchmarks.md and docs/benchmarks.json
    Bench(bench::Args),
}

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("xtask: {e:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> anyhow::Result<()> {
    match Cli::parse().verb {
        Verb::Ebpf(args) => ebpf::run(&args),
        Verb::Model(args) => model::run(&args),
        Verb::Tools(args) => tools::run(&args),
        Verb::Demo(args) => demo::run(&args),
        Verb::Test(args) => test::run(&args),
        Verb::Kernels(args) => kernels::run(&args),
        Verb::Fuzz(args) => fuzz::run(&args),
        Verb::Bench(args) => bench::run(&args),
    }
}
