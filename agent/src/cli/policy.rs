//! `tollgate policy`: policies checked, tried, explained, suggested.
//!
//! One file per verb. Directories are read, and cases judged, here, by the code of the data path and without a daemon; what
//! comes from the record is asked of the daemon. Exit codes: 0, all is as it should be; 1, it is not; 2, it cannot be told.

mod check;
mod explain;
mod suggest;
mod test;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use crate::aws::model;
use crate::config::Mode;
use crate::control::Client;
use crate::policy::{PolicyError, PolicySet};

pub(super) use check::findings;

/// Where policies are where nothing else is said.
const DIR: &str = "/etc/tollgate/policies";

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, clap::Subcommand)]
enum Verb {
    /// Say what is wrong or odd about the policies of a directory.
    Check(check::Args),
    /// Judge cases by the policies of a directory: from files, or from the record.
    Test(test::Args),
    /// Say why a recorded exchange is decided as it is, and what would let it through.
    Explain(explain::Args),
    /// Print policies that permit what sessions did, and little besides.
    Suggest(suggest::Args),
}

pub(super) fn run(client: &Client, args: Args) -> ExitCode {
    let result = match args.verb {
        Verb::Check(args) => Ok(check::run(&args)),
        Verb::Test(args) => super::wait(test::run(client, args)),
        Verb::Explain(args) => super::wait(explain::run(client, args)),
        Verb::Suggest(args) => super::wait(suggest::run(client, args)),
    };
    result.unwrap_or_else(|e| {
        eprintln!("tollgate: {e:#}");
        ExitCode::from(2)
    })
}

/// The policies of a directory.
fn load(dir: &Path) -> Result<PolicySet, Vec<PolicyError>> {
    PolicySet::load(dir, Mode::Enforce, model::catalog())
}

/// The same for verbs that need them to be good.
fn good(dir: &Path) -> anyhow::Result<PolicySet> {
    load(dir).map_err(|errors| {
        let lines: Vec<String> = errors.iter().map(ToString::to_string).collect();
        anyhow::anyhow!("the policies of `{}` are not valid:\n{}", dir.display(), lines.join("\n"))
    })
}

fn dir(given: Option<PathBuf>) -> PathBuf {
    given.unwrap_or_else(|| DIR.into())
}
