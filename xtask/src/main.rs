//! `cargo xtask VERB`: all of the project's tooling, and all that CI calls.
//!
//! One file per verb. Each says what it is doing while it does it, and how to mend what is missing.

mod bench;
mod ebpf;
mod model;
mod process;
mod tools;

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
    /// Measures Tollgate against its neighbours, and writes docs/benchmarks.md and docs/benchmarks.json
    Bench(bench::Args),
}

fn main() -> anyhow::Result<()> {
    match Cli::parse().verb {
        Verb::Ebpf(args) => ebpf::run(&args),
        Verb::Model(args) => model::run(&args),
        Verb::Tools(args) => tools::run(&args),
        Verb::Bench(args) => bench::run(&args),
    }
}
