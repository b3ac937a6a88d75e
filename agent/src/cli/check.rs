//! `tollgate check`: a configuration and its policies, without a daemon.

use std::path::PathBuf;

use crate::config::Config;
use crate::daemon;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The configuration file.
    #[arg(long, default_value = "/etc/tollgate/tollgate.toml")]
    config: PathBuf,
}

pub(super) fn run(args: &Args) -> anyhow::Result<()> {
    let config = Config::load(&args.config)?;
    let policies = daemon::load_policies(&config.policy)?;
    for warning in policies.warnings() {
        println!("warning: {warning}");
    }
    println!("{}: good, with {} policies in {}", args.config.display(), policies.len(), config.policy.dir.display());
    Ok(())
}
