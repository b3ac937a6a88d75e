//! `cargo xtask demo`: builds all, installs the AWS CLI into a private directory, and plays the demonstration.
//!
//! The play itself is `tollgate demo` (`agent/src/demo.rs`); this only brings what it needs.

use std::process::Command;

use anyhow::ensure;

use crate::process::{cargo, root, step, target};
use crate::tools::{self, Tool};

/// Programs that the demonstration starts, and Debian's packages of them.
const PROGRAMS: [(&str, &str); 3] = [("ip", "iproute2"), ("setpriv", "util-linux"), ("openssl", "openssl")];

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Plays with `curl` in the place of the AWS CLI.
    #[arg(long)]
    curl: bool,
    /// Leaves the files of the demonstration where they are.
    #[arg(long)]
    keep: bool,
}

/// With the AWS CLI, and with curl in its place.
pub fn both() -> anyhow::Result<()> {
    run(&Args { curl: false, keep: false })?;
    run(&Args { curl: true, keep: false })
}

pub fn run(args: &Args) -> anyhow::Result<()> {
    ensure!(tools::is_root()?, "the demonstration makes namespaces and loads eBPF programs; run this as root");
    tools::programs(&PROGRAMS)?;
    if args.curl {
        tools::programs(&[("curl", "curl")])?;
    } else {
        tools::install(&[Tool::Clients])?;
    }
    step(
        "building tollgate (some minutes the first time)",
        cargo().args(["build", "--locked", "--package", "tollgate"]),
    )?;
    let mut demo = Command::new(target().join("debug/tollgate"));
    // A CLI on the path would be taken otherwise.
    demo.current_dir(root()).env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").arg("demo");
    if !args.curl {
        demo.arg("--aws").arg(tools::folder().join("clients/bin/aws"));
    }
    if args.keep {
        demo.arg("--keep");
    }
    let status = demo.status()?;
    ensure!(status.success(), "the demonstration did not go as it should; see above");
    Ok(())
}
