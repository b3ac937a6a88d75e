//! `tollgate daemon`.

use std::path::PathBuf;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The configuration file.
    #[arg(long, default_value = "/etc/tollgate/tollgate.toml")]
    config: PathBuf,
}

pub(super) fn run(args: &Args) -> anyhow::Result<()> {
    crate::daemon::run(&args.config)
}
