//! `tollgate demo`.

use std::path::PathBuf;

use crate::demo::{self, Options};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The AWS CLI to use; the one on the PATH if not given, and curl if there is none.
    #[arg(long)]
    aws: Option<PathBuf>,
    /// Leaves the files of the demonstration where they are.
    #[arg(long)]
    keep: bool,
}

pub(super) fn run(args: &Args) -> anyhow::Result<()> {
    let all_well = demo::run(&Options { aws: args.aws.clone(), keep: args.keep })?;
    anyhow::ensure!(all_well, "some steps of the demonstration did not go as they should");
    Ok(())
}
