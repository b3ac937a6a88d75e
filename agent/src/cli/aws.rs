//! `tollgate aws`: what the data path makes of hosts and requests, without a daemon.
//!
//! One file per verb. They use the code of the data path itself, read nothing but their input, and send nothing.

mod endpoint;
mod identify;
mod sign;

pub(super) use identify::Asked;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, clap::Subcommand)]
enum Verb {
    /// Say what requests are: service, operation, IAM actions, resources, parameters.
    Identify(identify::Args),
    /// Say what a host name stands for: partition, service, region, signing name.
    Endpoint(endpoint::Args),
    /// Sign requests as the daemon would, and say what was signed.
    Sign(sign::Args),
}

pub(super) fn run(args: Args) -> anyhow::Result<()> {
    match args.verb {
        Verb::Identify(args) => identify::run(&args),
        Verb::Endpoint(args) => endpoint::run(&args),
        Verb::Sign(args) => sign::run(args),
    }
}
